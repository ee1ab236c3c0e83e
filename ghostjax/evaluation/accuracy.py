"""How well a defense answers, with the controls that keep the number honest.

A secret accuracy means little alone: at one sensitive label a constant answer scores
100 %. So next to it stand the constant answer, the labels shuffled among the secrets,
and the same covers with nothing hidden in them (GHOST Section VIII.B gives none).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from ghostjax.base import Defense, Encoder, Features, Images, Key, Params
from ghostjax.data.partition import Partition, roles
from ghostjax.evaluation import answers
from ghostjax.evaluation.answers import Asked, batches, drawn
from ghostjax.evaluation.rows import uses_secret
from ghostjax.stego.pairs import least_overlap

__all__ = [
    "Known",
    "Pairs",
    "Questions",
    "Unhidden",
    "clean_answers",
    "measure",
    "secret_answers",
    "test_pairs",
]


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
    for part in batches(len(secrets), answers.BATCH):
        best = _least_overlap(pixels, covers[part.rows], secrets[part.rows])
        chosen.append(np.asarray(best)[: part.count])
    return Pairs(secrets, np.concatenate(chosen))


class Known(NamedTuple):
    """Answers that have been asked for already."""

    clean: np.ndarray | None = None  # of `clean_answers`
    secret: np.ndarray | None = None  # of `secret_answers`


_NOTHING = Known()


def measure(
    defense: Defense,
    params: Params,
    key: Key,
    questions: Questions,
    seed: int,
    known: Known = _NOTHING,
) -> dict[str, float]:
    """Accuracies in percent, each `name` with its count `name_n`.

    Args:
      defense, params: what answers.
      key: consumed by defenses that draw noise.
      questions: what is asked.
      seed: of the shuffled control.
      known: answers, with the same key, that need not be asked for.

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
    clean, secret = known
    if clean is None:
        (clean,) = clean_answers(defense, [(params, key)], images)
    if secret is None:
        (secret,) = secret_answers(defense, [(params, key)], [pairs], images)
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
            asked = [Asked(params, _secret_key(key), (pairs.secrets, pairs.covers))]
            (covered,) = drawn(Unhidden(defense), defense, asked, images)
        hits["control_cover_only"] = covered == wanted
    row: dict[str, float] = {}
    for name, right in hits.items():
        row[name], row[f"{name}_n"] = 100 * float(right.mean()), right.shape[1]
    if defense.hides:
        row["uses_secret"] = uses_secret(row)
    return row


Who = Sequence[tuple[Params, Key]]  # of members that have one defense


def clean_answers(defense: Defense, who: Who, images: np.ndarray) -> list[np.ndarray]:
    """The labels that each answers for images as public ones, int [draws, N], of any
    partition.

    Args:
      defense: of all of them.
      who: their params, and the keys of `measure`, of which the clean half is taken.
      images: uint8 [N, H, W, C].
    """
    rows = (np.arange(len(images)),)
    asked = [Asked(params, jax.random.split(key)[0], rows) for params, key in who]
    return drawn(defense.send, defense, asked, images)


def secret_answers(
    defense: Defense, who: Who, pairs: Sequence[Pairs], images: np.ndarray
) -> list[np.ndarray]:
    """The labels that each answers for its secrets in their covers, int [draws, n].

    Args:
      defense: of all of them.
      who: as for `clean_answers`; the other half of the keys is taken.
      pairs: each one's own.
      images: uint8 [N, H, W, C].
    """
    asked = [
        Asked(params, _secret_key(key), tuple(rows))
        for (params, key), rows in zip(who, pairs, strict=True)
    ]
    return drawn(Encoder(defense), defense, asked, images)


def _secret_key(key: Key) -> Key:
    return jax.random.split(key)[1]


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


_least_overlap = jax.jit(least_overlap)
