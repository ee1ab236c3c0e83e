"""The shadow edge: derived shapes, a frozen cloud, and pictures without a query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import NETWORK, SHAPE, bars, target

from ghostjax import chain, metrics, train, zoo
from ghostjax.attacks.inverse import inverse
from ghostjax.attacks.pairs import Settings as DecoderSettings
from ghostjax.attacks.rmle import Settings as RmleSettings
from ghostjax.attacks.rmle import rmle
from ghostjax.attacks.shadow import Settings, other, shadow
from ghostjax.base import Knowledge, limit
from ghostjax.layers import Conv, Dense, MaxPool, Relu
from ghostjax.train import Recipe

EDGE, CLOUD = chain.cut(NETWORK, "conv1")
NEWTON = RmleSettings("gauss_newton", 5, "dark")


@pytest.fixture(scope="module")
def scene():
    """(the target's variables, what may be known, true features, their images)."""
    images, labels = map(jnp.asarray, bars(0, 400))
    variables = target(images, labels, 60)
    cloud = chain.select(CLOUD, variables)
    known = Knowledge(cloud_variables=cloud, public_images=images, public_labels=labels)
    shown = jnp.asarray(bars(1, 30)[0], jnp.float32) / 255
    return known, chain.apply(EDGE, chain.select(EDGE, variables), shown), shown


def attack(scene, layers, inner, steps=60):
    settings = Settings(Recipe(steps), 64)
    attacker = shadow(layers, CLOUD, SHAPE, inner, settings, learning_rate=3e-3)
    known = limit(scene[0], attacker.needs)
    params, history = attacker.fit(jax.random.key(1), known, train.fit)
    found, trace = attacker.invert(params, jax.random.key(2), scene[1])
    return params, history, found, trace


@pytest.fixture(scope="module")
def same(scene):
    """What the attack with the edge's own layers finds; the cloud before it."""
    before = jax.tree.map(np.array, scene[0].cloud_variables)
    return attack(scene, EDGE, rmle(EDGE, SHAPE, NEWTON, tv_weight=1e-4)), before


def test_it_pleases_the_cloud_which_stays_bit_identical(scene, same):
    (params, history, _, _), before = same
    jax.tree.map(np.testing.assert_array_equal, scene[0].cloud_variables, before)
    assert float(history["shadow"]["accuracy"][-10:].mean()) > 0.95
    assert set(params["shadow"]) == {"conv1"}, "the cloud must not be learnt"


def test_the_inner_attack_is_on_the_shadow(scene, same):
    """rMLE on the learnt shadow by hand gives the same pictures."""
    (params, _, found, trace), _ = same
    inner = rmle(EDGE, SHAPE, NEWTON, tv_weight=1e-4)
    by_hand, own = inner.invert(params["shadow"], jax.random.key(2), scene[1])
    np.testing.assert_array_equal(found, by_hand)
    np.testing.assert_array_equal(trace, own)


def test_a_decoder_may_learn_from_the_shadow(scene):
    settings = DecoderSettings(Recipe(5), 16, 4)
    inner = inverse(scene[1].shape[1:], SHAPE, settings)
    params, history, found, trace = attack(scene, EDGE, inner)
    assert set(history) == {"shadow", "inverse"} and trace == ()
    assert found.shape == scene[2].shape
    # On the shadow's own features the decoder is right: it learnt from those.
    own = chain.apply(EDGE, params["shadow"], scene[2])
    shown, _ = inner.invert(params["inner"], jax.random.key(0), own)
    # Better than the mean image, and than on the true features, which it never saw.
    mean = scene[0].public_images.astype(jnp.float32).mean(0, keepdims=True) / 255
    scores = [
        float(metrics.psnr(jnp.broadcast_to(x, scene[2].shape), scene[2]).mean())
        for x in (shown, found, mean)
    ]
    assert scores[0] > max(scores[1:]) + 3


@pytest.mark.parametrize("name", ["lenet5", "cnn2", "cnn6"])
@pytest.mark.parametrize("positive", [False, True])
def test_other_shadows_fit_every_cut(name, positive):
    network = zoo.network(name)
    for layer in chain.describe(network.build(10), network.image_shape)[:-1]:
        layers = other(network.image_shape, layer.shape, positive)
        assert chain.describe(layers, network.image_shape)[-1].shape == layer.shape
        kinds = [type(part) for _, part in layers]
        assert kinds.count(Relu) == positive and (kinds[-1] is Relu) == positive


def test_the_rule_gives_the_authors_second_architecture_again():
    """reference/he_attacks.md, section 1: filters, pools, parameters of "Archi2"."""
    for shape, filters, parameters in (
        ((24, 24, 8), [8, 8], 664),
        ((8, 8, 16), [8, 16, MaxPool, 16, 16], 5_888),
        ((32, 32, 64), [16, 64], 9_728),
    ):
        image = (28, 28, 1) if shape[0] < 32 else (32, 32, 3)
        layers = other(image, shape, False)
        shown = [
            part.features if isinstance(part, Conv) else type(part)
            for _, part in layers
            if isinstance(part, Conv | MaxPool)
        ]
        assert shown == filters
        rows = chain.describe(layers, image)
        assert sum(row.parameters for row in rows) == parameters
    dense = other((28, 28, 1), (120,), True)
    assert [type(part) for _, part in dense[-2:]] == [Dense, Relu]
