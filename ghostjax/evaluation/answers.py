"""What label a defense answers for images, of one member of a sweep or of several.

Images go through in batches of a fixed number, each with a key of its own, so that
answers depend neither on how many images there are nor on who is asked with whom.
Members that differ in scalars alone, such as a level of noise, are asked in one call
where that spares arithmetic; batches are spread over the devices of `parallel.now()`.
What the answers are worth is `accuracy`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax import interrupt, runtime
from ghostjax.base import Defense, Key, Params
from ghostjax.models.convolution import forwards_only
from ghostjax.pixels import as_float
from ghostjax.training import parallel
from ghostjax.training.members import paired

__all__ = ["Asked", "BATCH", "Batch", "NotFinite", "answers", "batches", "drawn"]

BATCH = 500  # images
_WORTH = 1.5  # times less arithmetic, where members are asked together
_TOGETHER = 8  # members asked about a batch at once; on a CPU it is one


_SPOILT = -1  # stands for the label where logits are not finite


class NotFinite(ValueError):
    """Answers that are no numbers."""


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

    Raises:
      NotFinite: logits with a NaN or an infinity, which are nobody's answer.
    """
    parts = _parts(encode, answer, asked, images)
    return [labels for part in parts for labels in _answered(part, images)]


def drawn(
    encode: Callable[..., Array],
    defense: Defense,
    asked: Sequence[Asked],
    images: np.ndarray,
) -> list[np.ndarray]:
    """int [draws, n] each; the first draw is that of the key itself.

    Raises:
      NotFinite: as for `answers`.
    """
    parts, draws = _parts(encode, defense.answer, asked, images), []
    for i in range(defense.draws):
        drawn = [part.drawn(i) for part in parts] if i else parts
        draws.append([x for part in drawn for x in _answered(part, images)])
    return [np.stack(labels) for labels in zip(*draws, strict=True)]


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
    most = len(asked) if runtime.on_cpu() else _TOGETHER
    size, parts = ceil(len(asked) / ceil(len(asked) / most)), []
    for part in batches(len(asked), size):
        some = _joint(encode, answer, [asked[row] for row in part.rows])
        if _spares(some, images):
            parts.append(some._replace(number=part.count))
        else:
            parts += alone[part.start : part.start + part.count]
    return parts


def _answered(part: "_Several", images: np.ndarray) -> list[np.ndarray]:
    if len(part.asked) > 1:
        answered = _together(part, images)[: part.number]
    else:
        how = _One(part.how.encode, part.how.answer)
        answered = [_alone(how, part.asked[0], images)]
    for labels in answered:
        _require_finite(labels)
    return answered


def _require_finite(labels: np.ndarray) -> None:
    lost = int((labels == _SPOILT).sum())
    if lost:
        raise NotFinite(
            f"the network's answers to {lost:,} of {len(labels):,} images are not "
            "finite: lower the defense's levels or rates, or the target's rate"
        )


def _alone(how: "_One", asked: Asked, images: np.ndarray) -> np.ndarray:
    parts = batches(len(asked.rows[0]), BATCH)
    calls = (
        _Call(
            key=jax.random.fold_in(asked.key, part.start),
            images=tuple(images[rows[part.rows]] for rows in asked.rows),
        )
        for part in parts
    )
    labels = _called(how, asked.params, calls, len(parts))
    return np.concatenate(
        [line[: part.count] for part, line in zip(parts, labels, strict=True)]
    )


class _Call(NamedTuple):
    """What is asked about a batch."""

    key: Key
    images: tuple[Any, ...]  # uint8, for each that the encoder takes


def _called(
    how: "_One | _Joint", values: Any, calls: Iterator[_Call], count: int
) -> Iterator[np.ndarray]:
    """The labels of each of `count` calls; of several each device has one at a time."""
    devices = parallel.now()
    if not devices or count == 1:  # else all devices would do the same batch
        for call in calls:
            interrupt.check()
            yield np.asarray(how(values, call.key, *call.images))
        return
    held = parallel.replicate(values, devices)
    mapped = parallel.mapped(_Spread(how), (0, 0, 0), devices)
    while some := list(islice(calls, len(devices))):
        interrupt.check()
        images = tuple(map(np.stack, zip(*(call.images for call in some), strict=True)))
        key, shown = parallel.spread((_keys([x.key for x in some]), images), devices)
        yield from parallel.join(mapped(held, key, shown), len(some))


@dataclass(frozen=True)
class _Spread:
    """A call on one of several devices; equal ones share a program."""

    how: "_One | _Joint"

    def __call__(self, values: Any, key: Key, images: tuple[Any, ...]) -> Array:
        (one_key,), shown = key, (image[0] for image in images)
        return self.how(values, one_key, *shown)[None]


@dataclass(frozen=True)
class _One:
    """`_predict` of a member, as a static argument."""

    encode: Callable[..., Array]
    answer: Callable[..., Array]

    def __call__(self, params: Params, key: Key, *images: Any) -> Array:
        return _predict(self.encode, self.answer, params, key, *images)


@partial(jax.jit, static_argnums=(0, 1))
def _predict(
    encode: Callable[..., Array],
    answer: Callable[..., Array],
    params: Params,
    key: Key,
    *images: Any,
) -> Array:
    with forwards_only(True):
        features = encode(params, key, *map(as_float, images))
        logits = answer(params, features)
        return jnp.where(jnp.isfinite(logits).all(-1), logits.argmax(-1), _SPOILT)


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


@dataclass(frozen=True)
class _Joint:
    """`_predict` of several members, as a static argument."""

    encode: Callable[..., Array]
    answer: Callable[..., Array]
    form: Any  # of the params
    axes: tuple[int | None, ...]  # of their leaves
    one_key: bool
    one_set: bool

    def __call__(self, values: Any, key: Key, *images: Any) -> Array:
        return _predict_together(self, values, key, *images)


def _differ_in_scalars(params: Sequence[Params]) -> bool:
    """Whether whatever is not the very same array in all of them is a scalar."""
    columns = [paired(params[0], other) for other in params[1:]]
    return all(
        pairs is not None and all(a is b or np.ndim(a) == 0 for a, b in pairs)
        for pairs in columns
    )


def _spares(several: _Several, images: np.ndarray) -> bool:
    """Whether one call costs clearly less than a call a member.

    Features and noise that all have in common are computed once. On a CPU the rest
    costs what it costs in a call a member (`_predict_together`).
    """
    how, values, asked, _ = several
    if runtime.on_cpu():
        return how.one_set
    pictures = len(asked[0].rows)
    batch = np.broadcast_to(images[:1], (BATCH, *images.shape[1:]))
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
    parts = batches(max(counts), BATCH)
    calls = (_joint_call(several, part, images) for part in parts)
    labels: list[list[np.ndarray]] = [[] for _ in asked]
    predictions = _called(how, values, calls, len(parts))
    for part, predicted in zip(parts, predictions, strict=True):
        for place, count in enumerate(counts):
            labels[place].append(predicted[place][: max(0, count - part.start)])
    return [np.concatenate(lines) for lines in labels]


def _joint_call(several: _Several, part: Batch, images: np.ndarray) -> _Call:
    how, _, asked, _ = several
    keys = [jax.random.fold_in(one.key, part.start) for one in asked]
    chosen = [_rows(one, part) for one in asked]
    if how.one_set:
        some = [images[rows] for rows in chosen[0]]
    else:
        some = [images[np.stack(rows)] for rows in zip(*chosen, strict=True)]
    return _Call(key=keys[0] if how.one_key else _keys(keys), images=tuple(some))


def _rows(asked: Asked, part: Batch) -> list[np.ndarray]:
    """A member's own rows of a batch, filled up as `batches` fills its last one; those
    behind its end do not count."""
    count = len(asked.rows[0])
    there = np.arange(part.start, min(part.start + BATCH, count))
    filled = np.resize(there if there.size else np.arange(1), BATCH)
    return [rows[filled] for rows in asked.rows]


@partial(jax.jit, static_argnums=0)
def _predict_together(how: _Joint, values: Any, key: Key, *images: Any) -> Array:
    """Labels [members, B]; on a CPU one member after the other, so that what it works
    on stays small (twice as fast), behind what is the same for all."""

    def one(values: Any, key: Key, *images: Any) -> Array:
        params = jax.tree.unflatten(how.form, values)
        return _predict(how.encode, how.answer, params, key, *images)

    key_axis, image_axis = (None if x else 0 for x in (how.one_key, how.one_set))
    axes = list(how.axes), key_axis, *(image_axis for _ in images)
    if runtime.on_cpu():
        return _in_turn(one, axes, (values, key, *images))
    return jax.vmap(one, axes)(values, key, *images)


def _in_turn(function: Callable[..., Array], axes: Any, arguments: Any) -> Array:
    """`jax.vmap`, as a loop; XLA takes out of it what does not vary."""
    leaves, form = jax.tree.flatten(arguments)
    varies = [axis == 0 for axis in jax.tree.leaves(axes, is_leaf=lambda x: x is None)]

    def one(varying: list[Any]) -> Array:
        rest = iter(varying)
        pairs = zip(leaves, varies, strict=True)
        chosen = [next(rest) if its_own else leaf for leaf, its_own in pairs]
        return function(*jax.tree.unflatten(form, chosen))

    return jax.lax.map(one, list(compress(leaves, varies)))


@jax.jit
def _keys(keys: list[Key]) -> Key:
    return jnp.stack(keys)
