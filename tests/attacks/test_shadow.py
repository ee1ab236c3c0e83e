"""The shadow edge: derived shapes, a frozen cloud, and pictures without a query."""

import dataclasses

import jax
import numpy as np
import pytest
from oracles import psnr
from probes import at, bars, target
from small import apply

from ghostjax import registry
from ghostjax.attacks import shadow
from ghostjax.attacks.records import Inverse, Rmle, Shadow
from ghostjax.base import Context, Knowledge, limit
from ghostjax.fields import narrowed, static_half, traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu
from ghostjax.training.fit import drive, fit

CUT = at("conv1")
CONTEXT = Context(public_count=320)
RECORD = Shadow(
    architecture="same",
    steps=5,
    start="dark",
    epochs=12,
    batch_size=64,
    train_rate=3e-3,
    train_optimizer="adam",
)


@pytest.fixture(scope="module")
def scene():
    """(the target's variables, what may be known, true features, their images)."""
    images, labels = map(jax.device_put, bars(0, 400))
    variables = target(images, labels, 60)
    known = Knowledge(
        cloud_variables=chain.select(CUT.cloud, variables),
        public_images=images,
        public_labels=labels,
    )
    shown = np.float32(bars(1, 30)[0]) / 255
    edge_variables = chain.select(CUT.edge, variables)
    return known, apply(CUT.edge, edge_variables, shown), shown


@pytest.fixture(scope="module")
def train():
    """Trains the shadow once, for it is the same whatever attacks it."""
    done = {}

    def run(training):
        first, result = done.setdefault(training.part, (training, None))
        if result is None:
            done[training.part] = first, fit(training)
        jax.tree.map(np.testing.assert_array_equal, training.params, first.params)
        return done[training.part][1]

    return run


def attack(attacker, record, scene, train):
    hyper, known = traced_half(record), limit(scene[0], attacker.needs)
    params, history = drive(attacker.fit(jax.random.key(1), hyper, known), train)
    shown = attacker.invert(params, jax.random.key(2), scene[1], hyper)
    return params, history, shown


@pytest.fixture(scope="module")
def shadowed(scene, train):
    """What the attack with the edge's own layers finds; the cloud before it."""
    before = jax.tree.map(np.array, scene[0].cloud_variables)
    attacker = registry.build(RECORD, CUT, CONTEXT)
    return attack(attacker, RECORD, scene, train), before


def test_it_pleases_the_cloud_which_stays_bit_identical(scene, shadowed):
    (params, history, _), before = shadowed
    jax.tree.map(np.testing.assert_array_equal, scene[0].cloud_variables, before)
    assert np.asarray(history["shadow"]["accuracy"])[-10:].mean() > 0.95
    assert set(params["shadow"]) == {"conv1"}, "the cloud must not be learnt"


def test_the_inner_attack_is_on_the_shadow(scene, shadowed):
    """rMLE on the learnt shadow by hand gives the same pictures."""
    (params, _, shown), _ = shadowed
    record = narrowed(RECORD, Rmle)
    inner, hyper = registry.build(record, CUT, CONTEXT), traced_half(record)
    arguments = jax.random.key(2), scene[1], hyper
    by_hand = inner.invert(params["shadow"], *arguments)
    jax.tree.map(np.testing.assert_array_equal, shown, by_hand)


def test_a_decoder_may_learn_from_the_shadow(scene, train, monkeypatch):
    narrow = Inverse(epochs=1, batch_size=16, width=8, learning_rate=1e-2)
    monkeypatch.setattr(shadow, "Inverse", lambda: narrow)
    record = dataclasses.replace(RECORD, decoder=True)
    attacker = shadow.shadow(CUT, static_half(record), CONTEXT)
    params, history, shown = attack(attacker, record, scene, train)
    assert set(history) == {"shadow", "inverse"} and shown.trace == ()
    assert shown.images.shape == scene[2].shape
    # On the shadow's own features the decoder is right: it learnt from those.
    features = apply(CUT.edge, params["shadow"], scene[2])
    inner = registry.build(narrow, CUT, CONTEXT)
    of_shadow = inner.invert(params["inner"], jax.random.key(0), features, {})
    # Better than the mean image, and than on the true features, which it never saw.
    mean = np.float32(scene[0].public_images).mean(0, keepdims=True) / 255
    scores = [
        psnr(np.broadcast_to(images, scene[2].shape), scene[2]).mean()
        for images in (of_shadow.images, shown.images, mean)
    ]
    assert scores[0] > max(scores[1:]) + 3


@pytest.mark.parametrize("name", ["lenet5", "cnn2", "cnn6"])
@pytest.mark.parametrize("positive", [False, True])
def test_other_shadows_fit_every_cut(name, positive):
    network = zoo.network(name)
    rows = chain.describe(network.build(10), network.image_shape)
    for shape in {row.shape for row in rows[:-1]}:
        layers = shadow.other(network.image_shape, shape, positive)
        assert chain.describe(layers, network.image_shape)[-1].shape == shape
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
        layers = shadow.other(image, shape, False)
        shown = [
            part.features if isinstance(part, Conv) else type(part)
            for _, part in layers
            if isinstance(part, Conv | MaxPool)
        ]
        assert shown == filters
        rows = chain.describe(layers, image)
        assert sum(row.parameters for row in rows) == parameters
    dense = shadow.other((28, 28, 1), (120,), True)
    assert [type(part) for _, part in dense[-2:]] == [Dense, Relu]
