"""Answers do not depend on batches, devices, or on who is asked with whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import registry
from ghostjax.base import Context, Cut
from ghostjax.defenses.records import Noise
from ghostjax.evaluation import answers
from ghostjax.models import chain
from ghostjax.models.convolution import forwards_only
from ghostjax.models.layers import Conv, Dense, Relu
from ghostjax.training import parallel

LABELS = np.repeat(np.arange(4), [300, 100, 350, 60]).astype(np.int32)
# A picture that tells its label: every pixel is 10 times it.
IMAGES = np.broadcast_to(
    (10 * LABELS).astype(np.uint8)[:, None, None, None], (len(LABELS), 4, 4, 1)
)


def label_of(images):
    return jnp.round(25.5 * images[:, 0, 0, 0]).astype(jnp.int32)


def test_batches_do_not_change_answers():
    asked = answers.Asked((), jax.random.key(0), (np.arange(len(IMAGES)),))
    (labels,) = answers.answers(
        lambda params, key, images: label_of(images),
        lambda params, features: jax.nn.one_hot(features, 4),
        [asked],
        IMAGES,
    )
    np.testing.assert_array_equal(labels, LABELS)


def test_batches_on_several_devices_are_answered_as_on_one(monkeypatch):
    monkeypatch.setattr(answers, "BATCH", 16)

    def noisy(params, key, images):
        return label_of(images) + jax.random.randint(key, (len(images),), 0, 3)

    def answer(params, features):
        return jax.nn.one_hot(features, 8)

    rows = (np.arange(len(IMAGES)),)
    asked = [answers.Asked((), jax.random.key(seed), rows) for seed in range(2)]
    wanted = answers.answers(noisy, answer, asked, IMAGES)
    with parallel.on_devices(parallel.require(None)):
        spread = answers.answers(noisy, answer, asked, IMAGES)
    np.testing.assert_array_equal(spread, wanted)
    assert not np.array_equal(*wanted)


def sent(params, key, images):  # what is common costs most: it is computed once
    pixels = images.reshape(len(images), -1)
    common = jnp.tanh(jnp.tanh(pixels @ params["weights"]) @ params["weights"].T)
    return common + params["level"] * jax.random.normal(key, common.shape)


def first_four(params, features):
    return features[:, :4]


def levels(apart):
    """Members of three levels of noise; apart with keys and pictures of their own."""
    weights = np.random.default_rng(0).normal(size=(IMAGES[0].size, 64))
    weights, places = np.float32(weights), np.arange(len(IMAGES))
    return [
        answers.Asked(
            params={"weights": weights, "level": np.float32(level)},
            key=jax.random.key(seed if apart else 0),
            rows=(places[: -1 - 300 * seed][::-1] if apart else places,),
        )
        for seed, level in enumerate((0.0, 0.5, 3.0))
    ]


@pytest.mark.parametrize("apart", [False, True])
def test_members_that_differ_in_scalars_are_asked_together_and_answer_as_alone(
    apart, monkeypatch
):
    monkeypatch.setattr(answers, "BATCH", 200)
    if apart:  # with keys and pictures of their own it would spare nothing
        monkeypatch.setattr(answers, "_spares", lambda several, images: True)
    asked = levels(apart)
    parts = answers._parts(sent, first_four, asked, IMAGES)
    assert [len(part.asked) for part in parts] == [3]
    together = answers.answers(sent, first_four, asked, IMAGES)
    alone = [answers.answers(sent, first_four, [one], IMAGES)[0] for one in asked]
    used, inner = [], parallel.spread
    with parallel.on_devices(parallel.require(4)), monkeypatch.context() as patch:
        patch.setattr(
            parallel, "spread", lambda x, on: used.append(len(on)) or inner(x, on)
        )
        spread = answers.answers(sent, first_four, asked, IMAGES)
    assert used == [4, 4], "five batches on four devices"
    for mine, apiece, theirs in zip(together, spread, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(apiece, theirs)
    assert not np.array_equal(together[0], together[2])


@pytest.mark.parametrize("place", ["input", "features"])
def test_levels_of_noise_are_answered_as_alone_by_a_network_that_runs_forwards(place):
    layers = (("conv", Conv(8, 3)), ("relu", Relu()), ("fc", Dense(4)))
    cut, seen = Cut(*chain.cut(layers, "relu"), (6, 6, 1)), []
    images = np.random.default_rng(0).integers(0, 256, (600, 6, 6, 1), np.uint8)
    variables = chain.init(layers, jax.random.key(0), images[:1])
    halves = [chain.select(half, variables) for half in (cut.edge, cut.cloud)]
    defense = registry.build(Noise(place=place, cut="relu"), cut, Context())

    def send(params, key, images):
        seen.append(forwards_only.value)
        return defense.send(params, key, images)

    asked = [
        answers.Asked(
            params={"edge": halves[0], "cloud": halves[1], "level": np.float32(level)},
            key=jax.random.key(1),
            rows=(np.arange(600),),
        )
        for level in (0.0, 0.1, 0.3)
    ]
    together = answers.answers(send, defense.answer, asked, images)
    alone = [answers.answers(send, defense.answer, [x], images)[0] for x in asked]
    np.testing.assert_array_equal(together, alone)
    assert 0 < (together[0] != together[2]).sum() < 600
    assert seen and all(seen)
