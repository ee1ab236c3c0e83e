"""Answers do not depend on batches, devices, or on who is asked with whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax.evaluation import answers
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


@pytest.mark.parametrize("apart", [False, True])
def test_members_that_differ_in_scalars_are_asked_together_and_answer_as_alone(
    apart, monkeypatch
):
    if apart:  # with keys and pictures of their own it would spare nothing
        monkeypatch.setattr(answers, "_WORTH", 0.1)

    def sent(params, key, images):  # what is common costs most: it is computed once
        pixels = images.reshape(len(images), -1)
        common = jnp.tanh(jnp.tanh(pixels @ params["weights"]) @ params["weights"].T)
        return common + params["level"] * jax.random.normal(key, common.shape)

    def answer(params, features):
        return features[:, :4]

    weights = np.random.default_rng(0).normal(size=(IMAGES[0].size, 64))
    weights, places = np.float32(weights), np.arange(len(IMAGES))
    asked = [
        answers.Asked(
            params={"weights": weights, "level": np.float32(level)},
            key=jax.random.key(seed if apart else 0),
            rows=(places[: -1 - 300 * seed][::-1] if apart else places,),
        )
        for seed, level in enumerate((0.0, 0.5, 3.0))
    ]
    parts = answers._parts(sent, answer, asked, IMAGES)
    assert [len(part.asked) for part in parts] == [3]
    together = answers.answers(sent, answer, asked, IMAGES)
    alone = [answers.answers(sent, answer, [one], IMAGES)[0] for one in asked]
    for mine, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(together[0], together[2])
