"""Who attacks: which test images, with which images of its own, knowing what.

The choices of `sections.Attacker`, turned into arrays. What it does with them is an
`Attack`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from ghostjax.base import Defense, Encoder, Images, Knowledge, Params, Stego, Task
from ghostjax.config.sections import Attacker, Config
from ghostjax.data import Dataset, Partition, Split
from ghostjax.evaluation import recognition
from ghostjax.evaluation.accuracy import Pairs
from ghostjax.evaluation.leakage import Targets
from ghostjax.fields import Hyper, averaged, traced_half
from ghostjax.pixels import as_bytes, as_float
from ghostjax.records import Member

__all__ = [
    "among",
    "candidates",
    "hyper",
    "knowledge",
    "public_images",
    "require_candidates",
    "targets",
]

Perturb = Callable[[Params, Images, Images], Images]  # of a defense

_PERTURBED = 10_000  # pairs of a generator that it makes, at most
_CHUNK = 500  # of them at once
_NOISE_IMAGES = 50_000  # of an attacker that has no others; as many as He et al.'s


def targets(section: Attacker, test: Split, pairs: Pairs) -> Targets:
    """The images under attack.

    Args:
      section: which ones.
      test: the test split.
      pairs: its secrets in random order and their covers.

    Returns:
      The first `section.images` secrets or test images, or those that `section.rows`
      names; all of them if there are fewer.
    """
    chosen = _rows(section, test)
    if chosen is None:
        count = min(section.images, len(pairs.secrets))
        size = min(section.images, len(test.labels))
        secrets, covers = (np.resize(part[:count], size) for part in pairs)
    else:
        count, secrets = len(chosen), chosen
        covers = np.resize(pairs.covers, count)
    return Targets(
        secrets=test.images[secrets],
        labels=test.labels[secrets],
        covers=test.images[covers],
        cover_labels=test.labels[covers],
        rows=secrets,
        count=count,
        queries=section.queries,
    )


def among(section: Attacker, labels: Partition) -> tuple[int, ...]:
    """The labels that come into question for the images under attack: the sensitive
    ones, or all where these are any images."""
    if section.rows or section.select == "all":
        return tuple(sorted((*labels.sensitive, *labels.public)))
    return labels.sensitive


def candidates(
    config: Config, test: Split, labels: Partition, secrets: np.ndarray
) -> np.ndarray | None:
    """The test images among which each secret is looked for, int [N]; None where there
    is but one.

    Args:
      config: of the member.
      test: the test split.
      labels: the partition.
      secrets: rows of the images under attack.
    """
    chosen = among(config.attacker, labels)
    if np.isin(test.labels, chosen).sum() < 2:
        return None
    number = config.judge.candidates
    return recognition.candidates(test.labels, chosen, secrets, number)


def require_candidates(config: Config, test: Split, labels: Partition) -> None:
    """Refuses candidates that the test split does not have, or fewer than targets.

    Raises:
      ValueError: one line that says how many there are.
    """
    section, number = config.attacker, config.judge.candidates
    there = int(np.isin(test.labels, among(section, labels)).sum())
    secrets = len(set(section.rows)) or min(section.images, there)
    if number:
        try:
            recognition.require_candidates(number, secrets, there)
        except recognition.NoShare as error:
            raise ValueError(f"judge.candidates = {number}: {error}") from error


def hyper(attack: Member, denoise: Member, queries: int) -> Hyper:
    """What the composed attack is called with.

    Noise that the attacker reckons with falls with the root of the queries, which it
    averages.
    """
    return {
        "attack": traced_half(averaged(attack, queries)),
        "denoise": traced_half(denoise),
    }


def public_images(
    section: Attacker, dataset: Dataset, seed: int, other: Dataset | None
) -> Split:
    """The attacker's images, with labels where there are any (0 for noise).

    Args:
      section: which ones.
      dataset: the target's.
      seed: of noise.
      other: the data set that `section.public` names; None: it names none.

    Raises:
      ValueError: held-out images where the targets are secrets, or a data set of
        another shape.
    """
    kind, shape = section.public, dataset.train.images.shape[1:]
    if other is not None:
        if other.train.images.shape[1:] != shape:
            raise ValueError(
                f"attacker.public = {kind!r} has images {other.train.images.shape[1:]} "
                f"and the target {shape}: choose another data set, train, held_out or "
                "noise"
            )
        return other.train
    if kind == "train":
        return dataset.train
    if kind == "held_out":
        chosen = _rows(section, dataset.test)
        if chosen is None:
            raise ValueError(
                "attacker.public = 'held_out' goes with attacker.select = 'all' or "
                "attacker.rows: the other test images are held out"
            )
        rest = np.setdiff1d(np.arange(len(dataset.test.labels)), chosen)
        return Split(dataset.test.images[rest], dataset.test.labels[rest])
    draw = np.random.default_rng([seed, 3])
    images = 127.5 + 127.5 * draw.standard_normal((_NOISE_IMAGES, *shape))
    images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return Split(images, np.zeros(len(images), np.int32))


def knowledge(
    task: Task,
    stego: Stego | None,
    defense: Defense,
    params: Params,
    public: Split,
    needs: tuple[str, ...],
) -> Knowledge:
    """All that the threat model gives; `base.limit` hands out what an attack declares.

    Args:
      task: the target network, and what the stego method has learned.
      stego: how secrets are hidden; None where they are not.
      defense, params: what the attacker's own images pass through in a query.
      public: these images.
      needs: of its attack; a generator's pairs are made only for one that needs them.
    """
    pairs = None
    if stego and defense.perturb and "perturbed_pairs" in needs:
        pairs = _perturbed((task.stego, params), stego, defense.perturb, public)
    return Knowledge(
        edge_variables=task.edge_variables,
        cloud_variables=task.cloud_variables,
        query=Partial(defense.send, params),
        public_images=jax.device_put(public.images),
        public_labels=jax.device_put(public.labels),
        perturbed_pairs=pairs,
        stego_params=task.stego,
        encode=Partial(Encoder(defense), params),
    )


def _perturbed(
    learned: tuple[Params, Params], stego: Stego, perturb: Perturb, public: Split
) -> tuple[Array, Array]:
    """Pictures after and before a generator: stegos of the attacker's own images, each
    hidden in another; it has the user's own generator."""
    count = min(len(public.images), _PERTURBED)
    covers = np.asarray(public.images)[:count]
    secrets = np.roll(covers, 1, 0)
    chunks = [
        _after_and_before(
            stego,
            perturb,
            learned,
            covers[start : start + _CHUNK],
            secrets[start : start + _CHUNK],
        )
        for start in range(0, count, _CHUNK)
    ]
    after, before = (np.concatenate(part) for part in zip(*chunks, strict=True))
    return jax.device_put((after, before))


@partial(jax.jit, static_argnums=(0, 1))
def _after_and_before(
    stego: Stego,
    perturb: Perturb,
    learned: tuple[Params, Params],
    covers: Any,
    secrets: Any,
) -> tuple[Array, Array]:
    secrets = as_float(secrets)
    stegos = stego.hide(learned[0], as_float(covers), secrets)
    shown = perturb(learned[1], stegos, secrets)
    return as_bytes(shown), as_bytes(stegos)


def _rows(section: Attacker, test: Split) -> np.ndarray | None:
    """The rows under attack where the config names them, else None: the secrets."""
    if section.rows:
        return np.asarray(section.rows)
    if section.select == "all":
        return np.arange(min(section.images, len(test.labels)))
    return None
