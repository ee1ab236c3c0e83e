"""K trainings as one: members whose trainings have equal static halves, in step.

A step of all members is one program. `shared` is the same for all and is never mapped,
so that frozen weights keep no groups; state, key, hyper and own have a leading axis
[K], which `parallel.on_devices` spreads. Checkpoints are stacked and name their
members, so that fewer of them can go on from what more have begun; at the end every
member's state is put where `fit.fit_resumable` would have put it.

Strategies:
  "vmap"        the gradient of the summed vmapped loss: one convolution for all.
  "map"         `lax.map` over the members' own steps.
  "one_by_one"  each member's training alone, after the other, through one program.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ghostjax import interrupt
from ghostjax.training import checkpoint, loop, parallel, stacks
from ghostjax.training.fit import (
    Fit,
    NonFiniteLoss,
    Pace,
    Step,
    Training,
    TrainState,
    arguments,
    like,
    longer,
    mark_spoilt,
    require_finite,
    start,
    step_of,
)
from ghostjax.training.strategies import Strategy

__all__ = [
    "Ended",
    "MembersStep",
    "Places",
    "Together",
    "TrainMembers",
    "alike",
    "drive_members",
    "fit_members",
    "members_step",
    "most",
    "paired",
]

Ended = tuple[TrainState, Mapping[str, Any]]
"""The last state, and the metrics of each step [steps]."""
TrainMembers = Callable[[Sequence[int], Sequence[Training]], list[Ended | Exception]]
"""`train(places, trainings)`: what each has ended in, or why it has not; `places` say
which members they are."""


@dataclass(frozen=True)
class MembersStep:
    """A step of K members at once: `Step` where leaves of state, key, hyper, own and
    metrics have a leading axis [K], and those of shared have none.

    With "vmap" the gradient is taken of the members' summed losses, outside of the
    vmap. Each member's is the same as alone, a NaN of another's loss included; but XLA
    sees one convolution over all members' batches in the place of one whose kernels are
    as large as the picture, and frozen weights in `shared` keep no groups.
    """

    step: Step
    strategy: Strategy = "vmap"

    def __call__(
        self,
        state: TrainState,
        index: Any,
        key: Array,
        hyper: Any,
        shared: Any,
        own: Any,
    ) -> tuple[TrainState, Mapping[str, Array]]:
        if self.strategy == "map":

            def alone(one: Any) -> Any:
                state, key, hyper, owned = one
                return self.step(state, index, key, hyper, shared, owned)

            mapped: Any = lax.map(alone, (state, key, hyper, own))
            return mapped
        drawn = jax.vmap(self.step.drawn, (0, None, None, 0))
        losses = jax.vmap(self.step.loss, (0, 0, 0, 0, 0, None))
        moved = jax.vmap(self.step.moved, (0, 0, 0, None, 0))
        batch, loss_key = drawn(key, index, shared, own)

        def summed(params: Any) -> tuple[Array, Any]:
            values, aside = losses(
                params, state.model_state, loss_key, batch, hyper, shared
            )
            return values.sum(), (values, aside)

        gradients, (values, (model_state, metrics)) = jax.grad(summed, has_aux=True)(
            state.params
        )
        state = moved(state, gradients, model_state, index, hyper)
        return state, {"loss": values, **metrics}


def members_step(training: Training, strategy: Strategy = "vmap") -> MembersStep:
    """The step of all members whose trainings have this one's static half."""
    return MembersStep(step_of(training), strategy)


def alike(one: Training, other: Training) -> bool:
    """Whether two trainings can be advanced in step: one program, one `shared`."""

    def shapes(training: Training) -> Any:
        varying = training._replace(own=like(training.own), shared=())
        parts = varying.params, varying.model_state, dict(varying.hyper), varying.own
        leaves, form = jax.tree.flatten(parts)
        return [(np.shape(leaf), _dtype(leaf)) for leaf in leaves], form

    if one.static != other.static or shapes(one) != shapes(other):
        return False
    pairs = paired(one.shared, other.shared)
    return pairs is not None and all(_same(*pair) for pair in pairs)


def paired(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    """The leaves of two pytrees side by side; None: the trees are not of one form."""
    forms: list[Any] = [jax.tree.structure(tree) for tree in (one, other)]
    if forms[0] != forms[1]:
        return None
    return list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if np.shape(one) != np.shape(other) or np.size(one) > 10**6:
        return False  # what is large is shared by being one array
    return np.array_equal(np.asarray(one), np.asarray(other))


def drive_members(
    fits: Sequence[Fit], train: TrainMembers
) -> list[tuple[Any, dict[str, Mapping[str, Any]]] | Exception]:
    """Advances many fits in step, each to its end.

    Args:
      fits: generators that yield trainings, as for `fit.drive`. Those whose trainings
        are not `alike` go on in separate calls of `train`.
      train: trains some of them.

    Returns:
      For each what `fit.drive` gives, or the exception that it has ended with; the
      others go on.
    """
    ended: dict[int, Any] = {}
    histories: list[dict[str, Mapping[str, Any]]] = [{} for _ in fits]
    waiting: dict[int, Training] = {}

    def advance(place: int, sent: TrainState | None) -> None:
        try:
            waiting[place] = (
                next(fits[place]) if sent is None else fits[place].send(sent)
            )
        except StopIteration as end:
            ended[place] = end.value, histories[place]
        except Exception as error:  # a member's own; the others go on
            ended[place] = error

    for place in range(len(fits)):
        advance(place, None)
    while waiting:
        first = next(iter(waiting.values()))
        places = [place for place, one in waiting.items() if alike(first, one)]
        trainings = [waiting.pop(place) for place in places]
        outcomes = train(places, trainings)
        for place, training, outcome in zip(places, trainings, outcomes, strict=True):
            if isinstance(outcome, Exception):
                ended[place] = outcome
                continue
            state, histories[place][training.part] = outcome
            advance(place, state)
    return [ended[place] for place in range(len(fits))]


def most(training: Training, strategy: Strategy, limit: int) -> int:
    """How many such members fit `limit` bytes, from 1 to 64; see `parallel.fitting`.

    Args:
      training: of one of them.
      strategy: how they are advanced.
      limit: of one device.
    """
    return parallel.fitting(partial(_peak, training, strategy), limit, _MOST)


_MOST = 64


def _peak(training: Training, strategy: Strategy, count: int) -> int:
    """Bytes that a step of so many members holds at once."""

    def widened(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype)

    thin = training._replace(own=like(training.own))
    key, hyper, shared, varying = arguments(thin)
    wide = jax.tree.map(widened, (start(training), key, hyper, varying))
    state, key, hyper, varying = jax.eval_shape(lambda tree: tree, wide)
    step = jax.jit(members_step(training, strategy).__call__)
    return parallel.needed(step.lower(state, np.int32(0), key, hyper, shared, varying))


class Places(NamedTuple):
    """Where the trainings of members are kept."""

    folders: Sequence[Path]  # each member's own, as for `fit.fit_resumable`
    together: Path  # of stacked checkpoints, whoever's


class Together(NamedTuple):
    """How K members are trained in step."""

    strategy: Strategy
    chunk: int  # steps between checkpoints
    on_chunk: Callable[[int, Mapping[str, np.ndarray]], None] = lambda step, m: None
    """Called with the steps done and the new chunk's metrics [steps, K]."""


def fit_members(
    trainings: Sequence[Training], places: Places, how: Together
) -> list[Ended | NonFiniteLoss]:
    """`fit.fit_resumable` of K members in step; they spread over `parallel.now()`.

    Started again after a kill, with the same members or fewer of them, it continues
    behind the last whole chunk. A member whose loss is not finite stays at its last
    good state, which is saved, and the others go on.

    Args:
      trainings: `alike`.
      places: where checkpoints go; each member's last one into its own folder.
      how: strategy and chunk.

    Returns:
      For each its last state and metrics, or the loss that ended it.
    """
    group = _Group(trainings, places, how)
    while group.done < group.steps:
        group.advance()
    return group.divided()


class _Group:
    """K members on their way."""

    def __init__(self, trainings: Sequence[Training], places: Places, how: Together):
        self._places, self._how = places, how
        self.steps = trainings[0].recipe.steps
        self._count = len(trainings)
        self._names = stacks.names(places.together, places.folders)
        self._folder = stacks.place(places.together, self._names)
        self._trainings = trainings
        self._step = members_step(trainings[0], how.strategy)
        self._failed: dict[int, tuple[int, NonFiniteLoss]] = {}
        keys, hypers, shared, owns = zip(*map(arguments, trainings), strict=True)
        varying = _stacked(list(zip(keys, hypers, owns, strict=True)))
        self._state: Any = _stacked([start(training) for training in trainings])
        self._history: dict[str, Any] = {}
        self.done, self._pace = 0, Pace(how.chunk)
        self._constants = varying[0], varying[1], shared[0], varying[2]
        self._restore()
        self._devices = parallel.now()
        if self._devices:
            *varying, common = (self._constants[place] for place in (0, 1, 3, 2))
            key, hyper, owned = parallel.spread(tuple(varying), self._devices)
            whole = parallel.replicate(common, self._devices)
            self._constants = key, hyper, whole, owned

    def advance(self) -> None:
        """One chunk, and its checkpoint."""
        interrupt.check()
        some = min(self._pace.steps, self.steps - self.done)
        state, metrics = self._run(some)
        some = len(metrics["loss"])
        self._pace.done(some)
        before = self._state
        self._state, self._history = state, longer(self._history, metrics)
        self._freeze(before)
        self.done += some
        tree = {"state": self._state, "metrics": self._history}
        if self.done < self.steps:
            stacks.begin(self._folder, self._names)
            checkpoint.save(self._folder / str(self.done), tree)
            checkpoint.keep_newest(self._folder, 2)
            stacks.tidy(self._places.together)
        self._how.on_chunk(self.done, jax.device_get(metrics))

    def divided(self) -> list[Ended | NonFiniteLoss]:
        """Every member's own, saved in its own folder."""
        state = jax.device_get(self._state)
        ended: list[Ended | NonFiniteLoss] = []
        for place, folder in enumerate(self._places.folders):
            steps, error = self._failed.get(place, (self.steps, None))
            one = jax.tree.map(lambda leaf, k=place: np.asarray(leaf[k]), state)
            history = {k: v[:steps, place] for k, v in self._history.items()}
            if steps:
                tree = {"state": one, "metrics": history}
                checkpoint.save(folder / str(steps), tree)
                checkpoint.keep_newest(folder, 2)
            ended.append(error or (jax.device_put(one), history))
        stacks.tidy(self._places.together, ended=self._names)
        return ended

    def _run(self, some: int) -> tuple[Any, dict[str, Any]]:
        devices, begin = self._devices, self.done
        if not devices:
            arguments = self._step, self._state, some, *self._constants
            state, metrics = _begun(loop.run, *arguments, start=begin)
            return state, dict(metrics)
        parts = parallel.spread(self._state, devices)
        indices = range(begin, begin + some)
        state, metrics = _begun(
            loop.run_spread, devices, self._step, parts, indices, *self._constants
        )
        joined = parallel.join(metrics, self._count, axis=1)
        return parallel.join(state, self._count), joined

    def _freeze(self, before: Any) -> None:
        """Members whose losses have become infinite stay where they were."""
        losses = self._history["loss"]
        mark_spoilt(losses, jax.device_get(self._state))
        for place in range(self._count):
            if place not in self._failed:
                self._require(place, losses[self.done :, place], self.done)
        if self._failed:
            frozen = np.isin(np.arange(self._count), list(self._failed))
            self._state = _chosen(frozen, before, self._state)

    def _restore(self) -> None:
        """Goes on from the newest stacked checkpoint with all of these members."""
        stack = stacks.furthest(self._places.together, self._names)
        if stack is None:
            return
        self.done, large = stack.step, len(stack.members)

        def widened(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((large, *leaf.shape[1:]), leaf.dtype)

        one = jax.eval_shape(self._step.__call__, self._state, 0, *self._constants)[1]
        spans = {
            name: jax.ShapeDtypeStruct((self.done, large, *leaf.shape[1:]), leaf.dtype)
            for name, leaf in one.items()
        }
        wanted = {"state": jax.tree.map(widened, self._state), "metrics": spans}
        saved = checkpoint.restore(stack.folder / str(self.done), wanted)
        rows = np.asarray([stack.members.index(name) for name in self._names])
        self._state = jax.tree.map(lambda leaf: leaf[rows], saved["state"])
        self._history = {
            name: np.asarray(values)[:, rows]
            for name, values in saved["metrics"].items()
        }
        for place in range(self._count):
            losses = self._history["loss"][:, place]
            bad = np.flatnonzero(~np.isfinite(losses))
            if bad.size:
                done = int(bad[0]) // self._how.chunk * self._how.chunk
                self._require(place, losses[done:], done)

    def _require(self, place: int, losses: np.ndarray, done: int) -> None:
        """Books a member that is not finite as one that has failed."""
        training, folder = self._trainings[place], self._places.folders[place]
        try:
            require_finite(losses, done, training, folder)
        except NonFiniteLoss as error:
            self._failed[place] = done, error


def _begun(run: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a loop gives, or has of it when the user stops it."""
    try:
        return run(*arguments, **named)
    except loop.Halted as halted:
        return halted.ended


@jax.jit  # one program for all leaves
def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _chosen(mask: Any, these: Any, others: Any) -> Any:
    """The members [K] of `these` where the mask is set, else those of `others`."""

    def choose(one: Array, other: Array) -> Array:
        return jnp.where(mask.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return jax.tree.map(choose, these, others)
