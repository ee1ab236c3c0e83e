"""Noise and dropout: nothing at level 0, the stated law above it, fresh every time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ghostjax import chain, zoo
from ghostjax.attacks.observe import average
from ghostjax.base import Task
from ghostjax.defenses import dropout, noise, plain

SHAPE = (28, 28, 1)
MEMBERS = {
    "gaussian": lambda e, c, x, p: noise.noise(e, c, level=x, place=p),
    "laplace": lambda e, c, x, p: noise.noise(
        e, c, level=x, distribution="laplace", place=p
    ),
    "dropout": lambda e, c, x, p: dropout.dropout(e, c, rate=x, place=p),
    "rescaled": lambda e, c, x, p: dropout.dropout(e, c, rate=x, place=p, rescale=True),
}


@pytest.fixture(scope="module")
def scene():
    """(edge, cloud, task, images) of lenet5 cut at conv1."""
    layers = zoo.lenet5()
    images = jax.random.uniform(jax.random.key(1), (16, *SHAPE))
    variables = chain.init(layers, jax.random.key(0), images)
    edge, cloud = chain.cut(layers, "conv1")
    nothing = jnp.zeros(1, jnp.int32)
    task = Task(
        chain.select(edge, variables),
        chain.select(cloud, variables),
        jnp.zeros((1, *SHAPE), jnp.uint8),
        nothing,
        nothing,
        nothing,
    )
    return edge, cloud, task, images


def features_of(scene, member, level, place="features", key=7):
    edge, cloud, task, images = scene
    defense = MEMBERS[member](edge, cloud, level, place)
    params, metrics = defense.fit(jax.random.key(0), task, None)
    assert metrics == {} and not defense.hides
    encode = jax.jit(defense.encode)
    return defense, params, encode(params, jax.random.key(key), images, images)


@pytest.mark.parametrize("place", ["features", "input"])
@pytest.mark.parametrize("member", MEMBERS)
def test_level_0_is_no_defense_to_the_bit(scene, member, place):
    edge, cloud, task, images = scene
    undefended = plain.plain(edge, cloud)
    params, _ = undefended.fit(jax.random.key(0), task, None)
    wanted = jax.jit(undefended.encode)(params, jax.random.key(7), images, images)
    _, _, found = features_of(scene, member, 0.0, place)
    np.testing.assert_array_equal(found, wanted)


def residuals(scene, member, level):
    clean = features_of(scene, member, 0.0)[2]
    return np.asarray(features_of(scene, member, level)[2] - clean).ravel()


LAWS = {"gaussian": stats.norm, "laplace": stats.laplace}


@pytest.mark.parametrize("member", LAWS)
def test_noise_has_the_stated_law_and_scale(scene, member):
    drawn = residuals(scene, member, 0.5)[:20_000]
    law = LAWS[member]
    assert stats.kstest(drawn, law(scale=0.5).cdf).pvalue > 1e-3
    # The same test refuses a scale 5 % off, and the deviation in place of the scale.
    assert stats.kstest(drawn, law(scale=0.525).cdf).pvalue < 1e-3
    if member == "laplace":
        assert stats.kstest(drawn, law(scale=0.5 / 2**0.5).cdf).pvalue < 1e-6


@pytest.mark.parametrize("member", ["dropout", "rescaled"])
def test_dropout_drops_the_stated_share_and_rescales_only_if_asked(scene, member):
    clean = np.asarray(features_of(scene, member, 0.0)[2])
    found = np.asarray(features_of(scene, member, 0.3)[2])
    gone = found == 0
    n = gone.size
    assert stats.binomtest(int(gone.sum()), n, 0.3).pvalue > 1e-3
    assert stats.binomtest(int(gone.sum()), n, 0.31).pvalue < 1e-3
    factor = 1 / 0.7 if member == "rescaled" else 1.0
    np.testing.assert_allclose(found[~gone], factor * clean[~gone], rtol=1e-5)
    # Single values, not whole channels.
    shares = gone.mean((0, 1, 2))
    assert 0.25 < shares.min() and shares.max() < 0.35


@pytest.mark.parametrize("place", ["features", "input"])
@pytest.mark.parametrize("member", MEMBERS)
def test_fresh_per_image_and_query_and_the_same_for_one_key(scene, member, place):
    edge, cloud, task, images = scene
    one = jnp.repeat(images[:1], 2, 0)
    pair = edge, cloud, task, one
    _, _, first = features_of(pair, member, 0.5, place)
    _, _, again = features_of(pair, member, 0.5, place)
    _, _, other = features_of(pair, member, 0.5, place, key=8)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1]), "two images share their noise"
    assert not np.array_equal(first, other), "two queries share their noise"


def test_input_noise_is_in_normalised_pixels(scene):
    edge, cloud, task, images = scene
    _, params, found = features_of(scene, "gaussian", 0.2, "input")
    drawn = 0.2 * jax.random.normal(jax.random.key(7), images.shape)
    wanted = chain.apply(edge, task.edge_variables, images + 0.5 * drawn)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_public_images_are_treated_alike_and_the_cloud_is_the_targets(scene):
    edge, cloud, task, images = scene
    defense, params, found = features_of(scene, "laplace", 0.5)
    public = defense.encode_public(params, jax.random.key(7), images)
    np.testing.assert_allclose(public, found, atol=1e-6)
    np.testing.assert_allclose(
        defense.answer(params, found),
        chain.apply(cloud, task.cloud_variables, found),
        atol=1e-5,
    )


def test_levels_share_one_program(scene):
    edge, cloud, _, _ = scene
    a, b = (MEMBERS["gaussian"](edge, cloud, x, "input") for x in (0.1, 0.9))
    assert a.encode is b.encode and a.answer is b.answer


def test_unknown_places_and_distributions_are_named(scene):
    with pytest.raises(ValueError, match="place is 'output'"):
        noise.noise(*scene[:2], level=1.0, place="output")
    with pytest.raises(ValueError, match="noise is gaussian or laplace"):
        noise.noise(*scene[:2], level=1.0, distribution="uniform")


def test_averaging_queries():
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(3, 4, 5)).astype(np.float32)
    noisy = truth + draw.normal(size=(400, 3, 4, 5)).astype(np.float32)
    error = average(jnp.asarray(noisy)) - truth
    assert 0.03 < float(error.std()) < 0.07, "1 / sqrt(400) is 0.05"
    kept = draw.random((5, 3, 4, 5)) < 0.5
    found = average(jnp.asarray(truth * kept), known_zeros=True)
    seen = kept.any(0)
    np.testing.assert_allclose(found[seen], truth[seen], rtol=1e-5)
    np.testing.assert_array_equal(found[~seen], 0)
    single = jnp.asarray(noisy[:1])
    np.testing.assert_array_equal(average(single), noisy[0])
    np.testing.assert_array_equal(average(single, known_zeros=True), noisy[0])
