"""How well a defense answers, with the controls that keep the number honest.

A secret accuracy means little alone: at one sensitive label a constant answer scores
100 %. So next to it stand the constant answer, the labels shuffled among the secrets,
and the same covers with nothing hidden in them (GHOST Section VIII.B gives none).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax import findings
from ghostjax.base import Defense
from ghostjax.data.partition import Partition, roles
from ghostjax.stego import least_overlap

_BATCH = 500


class Pairs(NamedTuple):
    """Test secrets and the cover each is hidden in; indices into the test split."""

    secrets: np.ndarray  # [n]
    covers: np.ndarray  # [n]


def test_pairs(
    seed: int,
    images: np.ndarray,
    labels: np.ndarray,
    partition: Partition,
    cover_candidates: int = 1,
) -> Pairs:
    """Every sensitive test image once, in random order, each with its cover.

    The cover is the one of `cover_candidates` random public ones that the secret
    overlaps least (see `stego.least_overlap`); 1 leaves it to chance.
    """
    draw = np.random.default_rng([seed, 1])
    role = roles(labels, partition)
    secrets = draw.permutation(role.secrets)
    covers = draw.choice(role.covers, (len(secrets), cover_candidates))
    pixels = jnp.asarray(images)
    for start in range(0, len(secrets), _BATCH):
        part = slice(start, start + _BATCH)
        best = least_overlap(pixels, jnp.asarray(covers[part]), secrets[part])
        covers[part, 0] = np.asarray(best)
    return Pairs(secrets, covers[:, 0])


def measure(
    defense: Defense,
    params: Any,
    key: Array,
    images: np.ndarray,
    labels: np.ndarray,
    pairs: Pairs,
    partition: Partition,
    seed: int,
    clean: np.ndarray | None = None,
) -> dict[str, float]:
    """Accuracies in percent, each `name` with its count `name_n`.

    Args:
      defense, params: what answers.
      key: consumed by defenses that draw noise.
      images: test split, uint8 [N, H, W, C].
      labels: int32 [N].
      pairs: which secrets are asked about, hidden in which covers.
      partition: sensitive and public labels.
      seed: of the shuffled control.
      clean: `clean_answers` with the same key, if they are known already.

    Returns:
      accuracy_public, accuracy_all (clean images), accuracy_secret; the controls
      constant_answer (the commonest sensitive label), shuffled_secret (answers against
      the labels of other secrets) and, for defenses that hide, cover_only (the covers
      with nothing hidden, perturbed where stegos are, against the secrets' labels);
      covers_called_sensitive, of the public test images; for defenses that hide,
      uses_secret (see `findings.uses_secret`). Of a defense that draws noise, all are
      means over `defense.draws` draws; counts are of images.
    """
    if clean is None:
        clean = clean_answers(defense, params, key, images)
    _, secret_key = jax.random.split(key)
    hidden = images[pairs.secrets], images[pairs.covers]
    own = defense, params, secret_key, *hidden
    secret = _drawn(defense.encode, *own)
    wanted = labels[pairs.secrets]
    shuffled = np.random.default_rng([seed, 2]).permutation(wanted)
    commonest = np.bincount(wanted).argmax()
    public = np.isin(labels, partition.public)
    measured = {
        "accuracy_public": (clean == labels)[:, public],
        "accuracy_all": clean == labels,
        "accuracy_secret": secret == wanted,
        "control_constant_answer": (wanted == commonest)[None],
        "control_shuffled_secret": secret == shuffled,
        "covers_called_sensitive": np.isin(clean, partition.sensitive)[:, public],
    }
    if defense.hides:
        covered = clean[:, pairs.covers]
        if defense.perturb:
            covered = _drawn(_unhidden(defense), *own)
        measured["control_cover_only"] = covered == wanted
    row: dict[str, float] = {}
    for name, hits in measured.items():
        row[name], row[f"{name}_n"] = 100 * float(hits.mean()), hits.shape[1]
    if defense.hides:
        row["uses_secret"] = findings.uses_secret(row)
    return row


def clean_answers(
    defense: Defense, params: Any, key: Array, images: np.ndarray
) -> np.ndarray:
    """The labels answered for images as public ones, int [draws, N], of any partition.

    Takes the key of `measure`, and its clean half.
    """
    clean_key, _ = jax.random.split(key)
    return _drawn(defense.encode_public, defense, params, clean_key, images)


def answers(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    params: Any,
    key: Array,
    *images: np.ndarray,
) -> np.ndarray:
    """The label answered for each image (or secret and cover), int [N]."""
    predict, labels = _predict(encode, answer), []
    for start in range(0, len(images[0]), _BATCH):
        part = [image[start : start + _BATCH] for image in images]
        count = len(part[0])
        filled = [np.resize(image, (_BATCH, *image.shape[1:])) for image in part]
        own = jax.random.fold_in(key, start)
        labels.append(np.asarray(predict(params, own, *filled))[:count])
    return np.concatenate(labels)


def _drawn(
    encode: Callable[..., Array],
    defense: Defense,
    params: Any,
    key: Array,
    *images: np.ndarray,
) -> np.ndarray:
    """int [draws, N]; the first draw is that of the key itself."""
    more = (jax.random.fold_in(key, i) for i in range(1, defense.draws))
    own = encode, defense.answer, params
    return np.stack([answers(*own, k, *images) for k in (key, *more)])


@lru_cache(maxsize=16)
def _unhidden(defense: Defense) -> Callable[..., Array]:
    """What the edge sends where a cover stands in a stego's place."""

    def encode(params, key, secrets, covers):
        shown = defense.perturb(params, covers, covers)  # no secret anywhere
        return defense.encode_public(params, key, shown)

    return encode


@lru_cache(maxsize=16)
def _predict(encode: Callable, answer: Callable) -> Callable[..., Array]:
    def predict(params, key, *images):
        pixels = [jnp.asarray(image, jnp.float32) / 255 for image in images]
        return answer(params, encode(params, key, *pixels)).argmax(-1)

    return jax.jit(predict)
