"""How well a defense answers, with the controls that keep the number honest.

A secret accuracy means little alone: at one sensitive label a constant answer scores
100 %. So next to it stand the constant answer, the labels shuffled among the secrets,
and the same covers with nothing hidden in them (GHOST Section VIII.B gives none).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ghostjax.base import Defense, Encoder, Features, Images, Key, Params
from ghostjax.data.partition import Partition, roles
from ghostjax.evaluation.rows import uses_secret
from ghostjax.pixels import as_float
from ghostjax.stego.pairs import least_overlap

__all__ = [
    "Batch",
    "Pairs",
    "Questions",
    "Unhidden",
    "answers",
    "batches",
    "clean_answers",
    "measure",
    "test_pairs",
]

_BATCH = 500


class Pairs(NamedTuple):
    """Test secrets and the cover each is hidden in; indices into the test split."""

    secrets: np.ndarray  # [n]
    covers: np.ndarray  # [n]


class Questions(NamedTuple):
    """What a defense is asked about: the test split and which of it is secret."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]
    pairs: Pairs
    partition: Partition


def test_pairs(
    seed: int,
    images: np.ndarray,
    labels: np.ndarray,
    partition: Partition,
    cover_candidates: int = 1,
) -> Pairs:
    """Every sensitive test image once, in random order, each with its cover.

    The cover is the one of `cover_candidates` random public ones that the secret
    overlaps least (see `pairs.least_overlap`); 1 leaves it to chance.
    """
    draw = np.random.default_rng([seed, 1])
    role = roles(labels, partition)
    secrets = draw.permutation(role.secrets)
    covers = draw.choice(role.covers, (len(secrets), cover_candidates))
    if cover_candidates == 1:
        return Pairs(secrets, covers[:, 0])
    pixels, chosen = jax.device_put(images), []
    for part in batches(len(secrets), _BATCH):
        best = _least_overlap(pixels, covers[part.rows], secrets[part.rows])
        chosen.append(np.asarray(best)[: part.count])
    return Pairs(secrets, np.concatenate(chosen))


class Batch(NamedTuple):
    """Some rows, filled up to a fixed number so that all batches are of one shape."""

    start: int
    count: int  # type: ignore[assignment]  # rows that count; hides tuple.count
    rows: np.ndarray  # [size]


def batches(count: int, size: int) -> list[Batch]:
    """`range(count)` in batches of `size` rows."""
    starts = range(0, count, size)
    parts = [np.arange(start, min(start + size, count)) for start in starts]
    return [Batch(int(rows[0]), len(rows), np.resize(rows, size)) for rows in parts]


def measure(
    defense: Defense,
    params: Params,
    key: Key,
    questions: Questions,
    seed: int,
    clean: np.ndarray | None = None,
) -> dict[str, float]:
    """Accuracies in percent, each `name` with its count `name_n`.

    Args:
      defense, params: what answers.
      key: consumed by defenses that draw noise.
      questions: what is asked.
      seed: of the shuffled control.
      clean: `clean_answers` with the same key, if they are known already.

    Returns:
      accuracy_public, accuracy_all (clean images), accuracy_secret; the controls
      constant_answer (the commonest sensitive label), shuffled_secret (answers against
      the labels of other secrets) and, for defenses that hide, cover_only (the covers
      with nothing hidden, perturbed where stegos are, against the secrets' labels);
      covers_called_sensitive, of the public test images; for defenses that hide,
      uses_secret (see `rows.uses_secret`). Of a defense that draws noise, all are
      means over `defense.draws` draws; counts are of images.
    """
    images, labels, pairs, partition = questions
    if clean is None:
        clean = clean_answers(defense, params, key, images)
    _, secret_key = jax.random.split(key)
    hidden = images[pairs.secrets], images[pairs.covers]
    secret = _drawn(Encoder(defense), defense, params, secret_key, *hidden)
    wanted = labels[pairs.secrets]
    shuffled = np.random.default_rng([seed, 2]).permutation(wanted)
    commonest = np.bincount(wanted).argmax()
    public = np.isin(labels, partition.public)
    hits = {
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
            covered = _drawn(Unhidden(defense), defense, params, secret_key, *hidden)
        hits["control_cover_only"] = covered == wanted
    row: dict[str, float] = {}
    for name, right in hits.items():
        row[name], row[f"{name}_n"] = 100 * float(right.mean()), right.shape[1]
    if defense.hides:
        row["uses_secret"] = uses_secret(row)
    return row


def clean_answers(
    defense: Defense, params: Params, key: Key, images: np.ndarray
) -> np.ndarray:
    """The labels answered for images as public ones, int [draws, N], of any partition.

    Takes the key of `measure`, and its clean half.
    """
    clean_key, _ = jax.random.split(key)
    return _drawn(defense.send, defense, params, clean_key, images)


def answers(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    params: Params,
    key: Key,
    *images: np.ndarray,
) -> np.ndarray:
    """The label answered for each image (or secret and cover), int [N].

    Args:
      encode: `encode(params, key, *images) -> features`; hashable, equal ones share
        their programs.
      answer: `answer(params, features) -> logits`; likewise.
      params: of both.
      key: folded with the first row of each batch.
      images: uint8 [N, H, W, C] each.
    """
    labels = []
    for part in batches(len(images[0]), _BATCH):
        some = [image[part.rows] for image in images]
        batch_key = jax.random.fold_in(key, part.start)
        predicted = _predict(encode, answer, params, batch_key, *some)
        labels.append(np.asarray(predicted)[: part.count])
    return np.concatenate(labels)


def _drawn(
    encode: Callable[..., Array],
    defense: Defense,
    params: Params,
    key: Key,
    *images: np.ndarray,
) -> np.ndarray:
    """int [draws, N]; the first draw is that of the key itself."""
    more = (jax.random.fold_in(key, i) for i in range(1, defense.draws))
    draws = [
        answers(encode, defense.answer, params, draw_key, *images)
        for draw_key in (key, *more)
    ]
    return np.stack(draws)


@dataclass(frozen=True)
class Unhidden:
    """What the edge sends where a cover stands in a stego's place."""

    defense: Defense

    def __call__(
        self, params: Params, key: Key, secrets: Images, covers: Images
    ) -> Features:
        shown, perturb = covers, self.defense.perturb
        if perturb is not None:
            shown = perturb(params, covers, covers)  # no secret anywhere
        return self.defense.send(params, key, shown)


@partial(jax.jit, static_argnums=(0, 1))
def _predict(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    params: Params,
    key: Key,
    *images: Any,
) -> Array:
    features = encode(params, key, *map(as_float, images))
    return answer(params, features).argmax(-1)


_least_overlap = jax.jit(least_overlap)
