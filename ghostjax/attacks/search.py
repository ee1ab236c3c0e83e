"""Runs a solver until every image of a batch has converged.

An image that has converged stays where it is. Between rounds of steps the host looks:
when all have converged it stops, and when most have, the others go on in a smaller
batch. Neither changes any image's numbers. Inside jit, vmap or pmap nothing can be
looked at: all steps are run, with the same result.
Inside `parallel.on_devices` the images are spread over the devices.

A batch of another size is another program, which costs more than the steps it spares
unless it serves again. So smaller batches have the sizes 8, 32, 128, ..., whatever the
size of the first, and each at most a quarter of the one before it: 256 images are
searched by three programs at most.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.training import loop, parallel

__all__ = ["ROUND", "Search", "advance", "begin", "run"]

ROUND = 5  # steps between looks; a compiled loop of so many is what a search runs
_SMALLEST = 8  # a batch is not made smaller than this
_FEWER = 4  # the factor between the sizes of batches


class Search(NamedTuple):
    """The state of a batch of searches."""

    z: Array  # [B, H, W, C], the iterate
    solver_state: Any  # leaves [B, ...]
    targets: Any  # leaves [B, ...], constant: what is looked for
    best_z: Array  # [B, H, W, C], of the lowest objective so far
    best: Array  # [B], that objective
    stalled: Array  # int32 [B], steps since `best` fell by more than the tolerance
    done: Array  # bool [B]


def begin(z: Array, solver_state: Any, targets: Any) -> Search:
    """The state before the first step."""
    count = z.shape[0]
    return Search(
        z=z,
        solver_state=solver_state,
        targets=targets,
        best_z=z,
        best=jnp.full(count, jnp.inf, jnp.float32),
        stalled=jnp.zeros(count, jnp.int32),
        done=jnp.zeros(count, bool),
    )


def advance(
    state: Search,
    value: Array,
    z: Array,
    solver_state: Any,
    tolerance: Array | None,
    patience: int,
) -> Search:
    """Books a step.

    Args:
      state: before it.
      value: the objective at `state.z` [B].
      z: the next iterate.
      solver_state: the next one.
      tolerance: an image has converged when no step lowers its objective by this share
        [B]; None: images do not converge.
      patience: steps without progress until then; static.
    """
    better = value < state.best
    best_z = jnp.where(better.reshape(-1, 1, 1, 1), state.z, state.best_z)
    best = jnp.where(better, value, state.best)
    if tolerance is None:
        return state._replace(z=z, solver_state=solver_state, best_z=best_z, best=best)
    fell = value < state.best * (1 - tolerance)
    stalled = jnp.where(fell, 0, state.stalled + 1)
    done = state.done | (stalled >= patience)
    return Search(
        z=jnp.where(done.reshape(-1, 1, 1, 1), state.z, z),
        solver_state=solver_state,
        targets=state.targets,
        best_z=best_z,
        best=best,
        stalled=stalled,
        done=done,
    )


def run(
    step: loop.Step, state: Search, steps: int, *constants: Any, stops: bool = True
) -> tuple[Search, Array]:
    """`steps` steps at most.

    Args:
      step: `(state, index, *constants) -> (state, objective [B])`.
      state: from `begin`.
      steps: static.
      constants: as for `loop.run`.
      stops: whether images can converge; else nobody looks, and all steps are one loop.

    Returns:
      The last state and the objective before each step [B, steps]; after an image has
      converged, its last value.
    """
    leaves = jax.tree.leaves((state, constants))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        state, trace = loop.run(step, state, steps, *constants)
        return state, trace.T
    devices = parallel.now()
    if devices:
        constants = parallel.replicate(constants, devices)
    if not stops:
        state, trace = _advanced(step, state, range(steps), constants, devices)
        return state, trace.T
    count = state.done.shape[0]
    whole, rows = state, np.arange(count)  # rows of the batch in `state`
    trace = np.zeros((count, steps), np.float32)
    for start in range(0, steps, ROUND):
        some = min(ROUND, steps - start)
        indices = range(start, start + some)
        state, values = _advanced(step, state, indices, constants, devices)
        values = np.asarray(values).T  # on the host, where a slice is no program
        trace[rows, start:] = values[:, -1:]
        trace[rows, start : start + some] = values
        live = np.flatnonzero(~np.asarray(state.done))
        if not live.size:
            break
        size = _size(live.size)
        if size <= len(rows) // _FEWER:
            whole = _put(whole, rows, state)
            # Filled up with images that have converged and stay where they are.
            still = np.setdiff1d(np.arange(len(rows)), live)
            places = np.concatenate([live, still])[:size]
            state = _take(state, places)
            rows = rows[places]
    return _put(whole, rows, state), jax.device_put(trace)


def _advanced(
    step: loop.Step,
    state: Search,
    indices: range,
    constants: tuple[Any, ...],
    devices: parallel.Devices,
) -> tuple[Search, Any]:
    """A stretch of steps, on several devices where there are any: every one of them
    has its part of the images."""
    start, steps = indices.start, len(indices)
    if not devices:
        return loop.run(step, state, steps, *constants, start=start)
    count = state.done.shape[0]
    parts = parallel.spread(state, devices)
    parts, values = loop.run_spread(devices, step, parts, indices, *constants)
    return parallel.join(parts, count), parallel.join(values, count, axis=1)


def _size(live: int) -> int:
    """The smallest size of a batch that holds so many images."""
    size = _SMALLEST
    while size < live:
        size *= _FEWER
    return size


@jax.jit  # one program for the whole state, where each leaf would be one
def _take(state: Search, places: Array) -> Search:
    return jax.tree.map(lambda leaf: leaf[places], state)


def _put(whole: Search, rows: np.ndarray, part: Search) -> Search:
    return part if len(rows) == whole.done.shape[0] else _scatter(whole, rows, part)


@jax.jit
def _scatter(whole: Search, rows: Array, part: Search) -> Search:
    return jax.tree.map(lambda leaf, some: leaf.at[rows].set(some), whole, part)
