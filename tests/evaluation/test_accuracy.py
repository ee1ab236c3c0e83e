"""Accuracies and controls, counted for defenses whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax.base import Defense
from ghostjax.data import Partition
from ghostjax.evaluation import accuracy
from ghostjax.stego.pairs import least_overlap

PARTITION = Partition(sensitive=(1, 3), public=(0, 2))
LABELS = np.repeat(np.arange(4), [300, 100, 350, 60]).astype(np.int32)
# A picture that tells its label: every pixel is 10 times it.
IMAGES = np.broadcast_to(
    (10 * LABELS).astype(np.uint8)[:, None, None, None], (len(LABELS), 4, 4, 1)
)
PAIRS = accuracy.test_pairs(0, IMAGES, LABELS, PARTITION)


def label_of(images):
    return jnp.round(25.5 * images[:, 0, 0, 0]).astype(jnp.int32)


def marked(params, covers, secrets):
    """The secrets, with a white pixel that says that they are hidden."""
    return secrets.at[:, 0, 1].set(1.0)


def answering(secret, public):
    """A defense whose answers are functions of the true labels."""

    def send(params, key, images):
        label, hidden = label_of(images), images[:, 0, 1, 0] > 0.9
        return jnp.where(hidden, secret(label), public(label))

    return Defense(
        "known",
        fit=None,
        send=send,
        answer=lambda params, features: jax.nn.one_hot(features, 4),
        hide=marked,
    )


QUESTIONS = accuracy.Questions(
    images=IMAGES, labels=LABELS, pairs=PAIRS, partition=PARTITION
)


def measure(defense):
    return accuracy.measure(defense, (), jax.random.key(0), QUESTIONS, 0)


def row(secret, public):
    return measure(answering(secret, public))


def test_pairs_are_every_secret_once_in_public_covers():
    assert sorted(PAIRS.secrets) == list(np.flatnonzero(np.isin(LABELS, (1, 3))))
    assert np.isin(LABELS[PAIRS.covers], (0, 2)).all()
    again, other = (accuracy.test_pairs(s, IMAGES, LABELS, PARTITION) for s in (0, 1))
    np.testing.assert_array_equal(PAIRS.covers, again.covers)
    assert not np.array_equal(PAIRS.covers, other.covers)


def test_chosen_covers_overlap_less_and_are_the_best_of_their_candidates():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    candidates = draw.integers(0, 40, (7, 5))
    secrets = draw.integers(0, 40, 7)
    chosen = least_overlap(jnp.asarray(images), jnp.asarray(candidates), secrets)
    pixels = images.astype(float)
    for row, secret, cover in zip(candidates, secrets, chosen, strict=True):
        overlaps = [(pixels[c] * pixels[secret]).sum() for c in row]
        assert cover == row[int(np.argmin(overlaps))]
    chosen = accuracy.test_pairs(0, IMAGES, LABELS, PARTITION, 8)
    assert IMAGES[chosen.covers].mean() < IMAGES[PAIRS.covers].mean()


def test_a_perfect_defense():
    measured = row(lambda label: label, lambda label: label)
    for name in ("accuracy_public", "accuracy_all", "accuracy_secret"):
        assert measured[name] == 100
    counts = "accuracy_public_n", "accuracy_all_n", "accuracy_secret_n"
    assert [measured[name] for name in counts] == [650, 810, 160]
    assert measured["control_constant_answer"] == 100 * 100 / 160
    expected = 100 * (100**2 + 60**2) / 160**2  # shuffled labels agree by chance
    assert measured["control_shuffled_secret"] == pytest.approx(expected, abs=12)
    assert measured["control_cover_only"] == 0
    assert measured["covers_called_sensitive"] == 0


def test_a_constant_answer_is_seen_through():
    measured = row(lambda label: jnp.ones_like(label), lambda label: label)
    assert measured["accuracy_secret"] == measured["control_constant_answer"] == 62.5
    assert measured["control_shuffled_secret"] == 62.5


def test_a_cloud_that_answers_for_covers_is_seen_through():
    measured = row(lambda label: label, lambda label: jnp.ones_like(label))
    assert measured["covers_called_sensitive"] == 100
    assert measured["control_cover_only"] == 62.5
    assert measured["accuracy_public"] == 0


def test_the_cover_only_control_is_of_what_a_perturbed_cover_says():
    def add(params, stegos, secrets):
        assert stegos.shape == secrets.shape
        return stegos + 10 / 255  # the next label

    defense = answering(lambda label: label, lambda label: label)
    measured = measure(defense._replace(perturb=add))
    wanted = LABELS[PAIRS.covers] + 1 == LABELS[PAIRS.secrets]
    assert measured["control_cover_only"] == pytest.approx(100 * wanted.mean())
    assert 20 < measured["control_cover_only"] < 80


def test_what_hides_nothing_has_no_cover():
    defense = answering(lambda label: label, lambda label: label)
    measured = measure(defense._replace(hide=None))
    assert "control_cover_only" not in measured and "uses_secret" not in measured


def test_accuracies_of_a_noisy_defense_are_means_over_its_draws():
    def noisy(params, key, images):
        """A draw answers all of a batch right, or none."""
        return label_of(images) + 4 * jax.random.bernoulli(key, 0.5).astype(int)

    defense = answering(None, None)._replace(send=noisy, draws=40)
    many, one = measure(defense), measure(defense._replace(draws=1))
    assert one["accuracy_secret"] in (0, 100)  # one batch
    assert 25 < many["accuracy_secret"] < 75
    assert many["accuracy_secret_n"] == one["accuracy_secret_n"] == 160
