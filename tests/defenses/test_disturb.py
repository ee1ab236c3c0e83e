"""Noise and dropout: nothing at level 0, the stated law above it, fresh every time."""

import jax
import numpy as np
import pytest
from probes import SHAPE, task
from scipy import stats

from ghostjax import registry
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context, Cut, encode
from ghostjax.defenses.records import Dropout, Noise, Plain
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Dense, Normalize
from ghostjax.training.fit import drive

LAYERS = (
    ("normalize", Normalize((0.5,), (0.5,))),
    ("conv1", Conv(8, 3)),
    ("fc1", Dense(2)),
)
IMAGES = 128  # of 1,152 features
MEMBERS = {
    "gaussian": lambda x, p: Noise(level=x, place=p),
    "laplace": lambda x, p: Noise(level=x, distribution="laplace", place=p),
    "dropout": lambda x, p: Dropout(rate=x, place=p),
    "rescaled": lambda x, p: Dropout(rate=x, place=p, rescale=True),
}


@pytest.fixture(scope="module")
def scene():
    """(cut, task, images) of a small network cut at conv1."""
    draw, cut = np.random.default_rng(0), Cut(*chain.cut(LAYERS, "conv1"), SHAPE)
    shape = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
    shapes = jax.eval_shape(lambda x: chain.init(LAYERS, jax.random.key(0), x), shape)
    variables = jax.tree.map(
        lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32), shapes
    )
    images = draw.uniform(size=(IMAGES, *SHAPE)).astype(np.float32)
    pictures = np.zeros((2, *SHAPE), np.uint8)
    return cut, task(cut, variables, pictures, [0, 1], (1,)), images


SEND = jax.jit(encode, static_argnums=0)
APPLY = jax.jit(chain.apply, static_argnums=0)


def features_of(scene, member, level, place="features", key=7):
    return sent(scene, MEMBERS[member](level, place), key)


def sent(scene, record, key=7):
    """(defense, params, features) of a record's defense on the scene's images."""
    cut, problem, images = scene
    defense = registry.build(record, cut, Context())
    params, metrics = drive(
        defense.fit(jax.random.key(0), traced_half(record), problem)
    )
    assert metrics == {} and not defense.hides
    features = SEND(defense, params, jax.random.key(key), images, images)
    return defense, params, np.asarray(features)


@pytest.mark.parametrize("place", ["features", "input"])
@pytest.mark.parametrize("member", MEMBERS)
def test_level_0_is_no_defense_to_the_bit(scene, member, place):
    _, _, undefended = sent(scene, Plain())
    _, _, features = features_of(scene, member, 0.0, place)
    np.testing.assert_array_equal(features, undefended)


def residuals(scene, member, level):
    clean = features_of(scene, member, 0.0)[2]
    return (features_of(scene, member, level)[2] - clean).ravel()


LAWS = {"gaussian": stats.norm, "laplace": stats.laplace}


@pytest.mark.parametrize("member", LAWS)
def test_noise_has_the_stated_law_and_scale(scene, member):
    drawn = residuals(scene, member, 0.5)  # 147,456 values
    law = LAWS[member]
    assert stats.kstest(drawn, law(scale=0.5).cdf).pvalue > 1e-3
    # The same test refuses a scale 5 % off, and the deviation in place of the scale.
    assert stats.kstest(drawn, law(scale=0.525).cdf).pvalue < 1e-3
    if member == "laplace":
        assert stats.kstest(drawn, law(scale=0.5 / 2**0.5).cdf).pvalue < 1e-6


@pytest.mark.parametrize("member", ["dropout", "rescaled"])
def test_dropout_drops_the_stated_share_and_rescales_only_if_asked(scene, member):
    clean = features_of(scene, member, 0.0)[2]
    features = features_of(scene, member, 0.3)[2]
    gone = features == 0
    n = gone.size
    assert stats.binomtest(int(gone.sum()), n, 0.3).pvalue > 1e-3
    assert stats.binomtest(int(gone.sum()), n, 0.31).pvalue < 1e-3
    factor = 1 / 0.7 if member == "rescaled" else 1.0
    np.testing.assert_allclose(features[~gone], factor * clean[~gone], rtol=1e-5)
    # Single values, not whole channels: of each there are 18,432.
    shares = gone.mean((0, 1, 2))
    assert 0.28 < shares.min() and shares.max() < 0.32, shares


@pytest.mark.parametrize("place", ["features", "input"])
@pytest.mark.parametrize("member", MEMBERS)
def test_fresh_per_image_and_query_and_the_same_for_one_key(scene, member, place):
    cut, problem, images = scene
    alike = cut, problem, np.repeat(images[:1], IMAGES, 0)
    _, _, first = features_of(alike, member, 0.5, place)
    _, _, again = features_of(alike, member, 0.5, place)
    _, _, other = features_of(alike, member, 0.5, place, key=8)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1]), "two images share their noise"
    assert not np.array_equal(first, other), "two queries share their noise"


def test_input_noise_is_in_normalised_pixels(scene):
    cut, problem, images = scene
    _, _, features = features_of(scene, "gaussian", 0.2, "input")
    drawn = 0.2 * np.asarray(jax.random.normal(jax.random.key(7), images.shape))
    wanted = APPLY(cut.edge, problem.edge_variables, images + 0.5 * drawn)
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_public_images_are_treated_alike_and_the_cloud_is_the_targets(scene):
    cut, problem, images = scene
    defense, params, features = features_of(scene, "laplace", 0.5)
    public = jax.jit(defense.send)(params, jax.random.key(7), images)
    np.testing.assert_allclose(public, features, atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(defense.answer)(params, features),
        APPLY(cut.cloud, problem.cloud_variables, features),
        atol=1e-5,
    )


@pytest.mark.parametrize("member", MEMBERS)
def test_levels_share_one_program(scene, member):
    low, high = (MEMBERS[member](x, "input") for x in (0.1, 0.9))
    one, other = (registry.build(r, scene[0], Context()) for r in (low, high))
    assert one is other


def test_unknown_places_and_distributions_are_named():
    with pytest.raises(ValueError, match="unknown place 'output': .*features, input"):
        Noise(place="output")
    words = "unknown distribution 'uniform': .*gaussian, laplace"
    with pytest.raises(ValueError, match=words):
        Noise(distribution="uniform")


def test_averaging_queries(scene):
    """As an attack combines them, and one that knows that zeros are dropout's."""
    blind, knowing = (
        jax.jit(registry.build(Rmle(known_zeros=known), scene[0], Context()).combine)
        for known in (False, True)
    )
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(3, 4, 5)).astype(np.float32)
    noisy = truth + draw.normal(size=(400, 3, 4, 5)).astype(np.float32)
    deviation = np.asarray(blind(noisy) - truth).std()
    assert 0.03 < deviation < 0.07, f"{deviation} of 60: 1 / sqrt(400) is 0.05"
    shown = draw.random((5, 3, 4, 5)) < 0.5
    combined = np.asarray(knowing(truth * shown))
    seen = shown.any(0)
    np.testing.assert_allclose(combined[seen], truth[seen], rtol=1e-5)
    np.testing.assert_array_equal(combined[~seen], 0)
    single = noisy[:1]
    np.testing.assert_array_equal(blind(single), noisy[0])
    np.testing.assert_array_equal(knowing(single), noisy[0])
