"""How well a defense answers, with the controls that keep the number honest.

A secret accuracy means little alone: at one sensitive label a constant answer scores
100 %. So next to it stand the constant answer, the labels shuffled among the secrets,
and the same covers with nothing hidden in them (GHOST Section VIII.B gives none).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ghostjax.base import Defense, Encoder, Features, Images, Key, Params
from ghostjax.data.partition import Partition, roles
from ghostjax.evaluation.rows import uses_secret
from ghostjax.pixels import as_float
from ghostjax.stego.pairs import least_overlap
from ghostjax.training import parallel
from ghostjax.training.members import paired

__all__ = [
    "Asked",
    "Batch",
    "Known",
    "Pairs",
    "Questions",
    "Unhidden",
    "answers",
    "batches",
    "clean_answers",
    "measure",
    "secret_answers",
    "test_pairs",
]

_BATCH = 500
_WORTH = 1.5  # times less arithmetic, where members are asked together
_TOGETHER = 8  # members asked about a batch at once


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
            (covered,) = _drawn(Unhidden(defense), defense, asked, images)
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
    return _drawn(defense.send, defense, asked, images)


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
    return _drawn(Encoder(defense), defense, asked, images)


def _secret_key(key: Key) -> Key:
    return jax.random.split(key)[1]


class Asked(NamedTuple):
    """What one of several members is asked."""

    params: Params
    key: Key  # folded with the first row of each batch
    rows: tuple[np.ndarray, ...]  # of the images, for each that the encoder takes [n]


def answers(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    asked: Sequence[Asked],
    images: np.ndarray,
) -> list[np.ndarray]:
    """The labels that each member answers for its images (or secrets and covers), [n].

    Members whose params differ in scalars alone, such as a level of noise, are one call
    on each batch where that spares work: what they have in common, weights, images and
    keys, is not mapped, so that features and draws of noise are computed once for all.

    Args:
      encode: `encode(params, key, *images) -> features`; hashable, equal ones share
        their programs.
      answer: `answer(params, features) -> logits`; likewise.
      asked: one or several.
      images: uint8 [N, H, W, C].
    """
    parts = _parts(encode, answer, asked, images)
    return [labels for part in parts for labels in _answered(part, images)]


def _parts(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    asked: Sequence[Asked],
    images: np.ndarray,
) -> list["_Several"]:
    """Members in order, those together that are asked in one call."""
    alone = [_joint(encode, answer, [one]) for one in asked]
    if len(asked) == 1 or not _differ_in_scalars([one.params for one in asked]):
        return alone
    size, parts = ceil(len(asked) / ceil(len(asked) / _TOGETHER)), []
    for part in batches(len(asked), size):
        some = _joint(encode, answer, [asked[row] for row in part.rows])
        if _spares(some, images):
            parts.append(some._replace(number=part.count))
        else:
            parts += alone[part.start : part.start + part.count]
    return parts


def _answered(part: "_Several", images: np.ndarray) -> list[np.ndarray]:
    if len(part.asked) > 1:
        return _together(part, images)[: part.number]
    return [_alone(part.how.encode, part.how.answer, part.asked[0], images)]


def _alone(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    asked: Asked,
    images: np.ndarray,
) -> np.ndarray:
    if parallel.now():
        return _alone_spread(_Spread(encode, answer), asked, images)
    labels = []
    for part in batches(len(asked.rows[0]), _BATCH):
        some = [images[rows[part.rows]] for rows in asked.rows]
        batch_key = jax.random.fold_in(asked.key, part.start)
        predicted = _predict(encode, answer, asked.params, batch_key, *some)
        labels.append(np.asarray(predicted)[: part.count])
    return np.concatenate(labels)


def _alone_spread(ask: "_Spread", asked: Asked, images: np.ndarray) -> np.ndarray:
    """`_alone` on several devices, each of which is asked about a batch."""
    devices, labels = parallel.now(), []
    params = parallel.replicate(asked.params, devices)
    mapped = parallel.mapped(ask, (0, 0, 0), devices)
    parts = batches(len(asked.rows[0]), _BATCH)
    for start in range(0, len(parts), len(devices)):
        some = parts[start : start + len(devices)]
        keys = _keys([jax.random.fold_in(asked.key, part.start) for part in some])
        shown = tuple(
            images[rows[np.stack([part.rows for part in some])]] for rows in asked.rows
        )
        key, pictures = parallel.spread((keys, shown), devices)
        predicted = parallel.join(mapped(params, key, pictures), len(some))
        for part, line in zip(some, predicted, strict=True):
            labels.append(line[: part.count])
    return np.concatenate(labels)


@dataclass(frozen=True)
class _Spread:
    """`_predict` on one of several devices; equal ones share a program."""

    encode: Callable[..., Array]
    answer: Callable[..., Array]

    def __call__(self, params: Params, key: Key, images: tuple[Any, ...]) -> Array:
        (one_key,), shown = key, (image[0] for image in images)
        return _predict(self.encode, self.answer, params, one_key, *shown)[None]


def _differ_in_scalars(params: Sequence[Params]) -> bool:
    """Whether whatever is not the very same array in all of them is a scalar."""
    columns = [paired(params[0], other) for other in params[1:]]
    return all(
        pairs is not None and all(a is b or np.ndim(a) == 0 for a, b in pairs)
        for pairs in columns
    )


class _Several(NamedTuple):
    """Members that differ in scalars, and how they are asked in one call."""

    how: "_Joint"
    values: list[Any]  # leaves of their params; [members] where they differ
    asked: Sequence[Asked]
    number: int = 1  # of those that count; others fill up

    def drawn(self, index: int) -> "_Several":
        """The same with other keys."""
        again = [x._replace(key=jax.random.fold_in(x.key, index)) for x in self.asked]
        return self._replace(asked=again)


def _joint(
    encode: Callable[..., Array], answer: Callable[..., Array], asked: Sequence[Asked]
) -> _Several:
    columns = list(zip(*(jax.tree.leaves(one.params) for one in asked), strict=True))
    differs = [any(x is not column[0] for x in column) for column in columns]
    values = [
        np.stack([np.asarray(x) for x in column]) if differ else column[0]
        for column, differ in zip(columns, differs, strict=True)
    ]
    first = asked[0]
    keys = {np.asarray(jax.random.key_data(one.key)).tobytes() for one in asked}
    how = _Joint(
        encode,
        answer,
        form=jax.tree.structure(first.params),
        axes=tuple(0 if differ else None for differ in differs),
        one_key=len(keys) == 1,
        one_set=all(
            all(map(np.array_equal, one.rows, first.rows)) for one in asked[1:]
        ),
    )
    return _Several(how, values, asked)


def _spares(several: _Several, images: np.ndarray) -> bool:
    """Whether one call costs clearly less arithmetic than a call a member.

    Convolutions over the pictures of many members in one call are slower on a CPU than
    one after the other; features that all have in common are computed once.
    """
    how, values, asked, _ = several
    pictures = len(asked[0].rows)
    batch = np.broadcast_to(images[:1], (_BATCH, *images.shape[1:]))
    some = batch
    if not how.one_set:
        some = np.broadcast_to(batch, (len(asked), *batch.shape))
    key = asked[0].key if how.one_key else _keys([one.key for one in asked])
    one = _predict.lower(
        how.encode, how.answer, asked[0].params, asked[0].key, *[batch] * pictures
    )
    all_ = _predict_together.lower(how, values, key, *[some] * pictures)
    together, alone = (_flops(lowered) for lowered in (all_, one))
    return together < len(asked) * alone / _WORTH


def _flops(lowered: jax.stages.Lowered) -> float:
    counted: Any = lowered.cost_analysis()
    return float(counted["flops"])


def _together(several: _Several, images: np.ndarray) -> list[np.ndarray]:
    """As `_alone`, of members that differ in scalars."""
    how, values, asked, _ = several
    counts = [len(one.rows[0]) for one in asked]
    labels: list[list[np.ndarray]] = [[] for _ in asked]
    for part in batches(max(counts), _BATCH):
        keys = [jax.random.fold_in(one.key, part.start) for one in asked]
        key = keys[0] if how.one_key else _keys(keys)
        chosen = [_rows(one, part) for one in asked]
        if how.one_set:
            some = [images[rows] for rows in chosen[0]]
        else:
            some = [images[np.stack(rows)] for rows in zip(*chosen, strict=True)]
        predicted = np.asarray(_predict_together(how, values, key, *some))
        for place, count in enumerate(counts):
            labels[place].append(predicted[place][: max(0, count - part.start)])
    return [np.concatenate(parts) for parts in labels]


def _rows(asked: Asked, part: "Batch") -> list[np.ndarray]:
    """A member's own rows of a batch, filled up as `batches` fills its last one; those
    behind its end do not count."""
    count = len(asked.rows[0])
    there = np.arange(part.start, min(part.start + _BATCH, count))
    filled = np.resize(there if there.size else np.arange(1), _BATCH)
    return [rows[filled] for rows in asked.rows]


def _drawn(
    encode: Callable[..., Array],
    defense: Defense,
    asked: Sequence[Asked],
    images: np.ndarray,
) -> list[np.ndarray]:
    """int [draws, n] each; the first draw is that of the key itself."""
    parts, draws = _parts(encode, defense.answer, asked, images), []
    for i in range(defense.draws):
        drawn = [part.drawn(i) for part in parts] if i else parts
        draws.append([x for part in drawn for x in _answered(part, images)])
    return [np.stack(labels) for labels in zip(*draws, strict=True)]


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


@dataclass(frozen=True)
class _Joint:
    """`_predict` of several members, as a static argument."""

    encode: Callable[..., Array]
    answer: Callable[..., Array]
    form: Any  # of the params
    axes: tuple[int | None, ...]  # of their leaves
    one_key: bool
    one_set: bool


@partial(jax.jit, static_argnums=0)
def _predict_together(how: _Joint, values: Any, key: Key, *images: Any) -> Array:
    """Labels [members, B]."""

    def one(values: Any, key: Key, *images: Any) -> Array:
        params = jax.tree.unflatten(how.form, values)
        features = how.encode(params, key, *images)
        return how.answer(params, features).argmax(-1)

    key_axis, image_axis = (None if x else 0 for x in (how.one_key, how.one_set))
    axes = list(how.axes), key_axis, *(image_axis for _ in images)
    return jax.vmap(one, axes)(values, key, *map(as_float, images))


@jax.jit
def _keys(keys: list[Key]) -> Key:
    return jax.numpy.stack(keys)


_least_overlap = jax.jit(least_overlap)
