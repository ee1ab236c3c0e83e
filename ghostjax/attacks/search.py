"""Runs a solver until every image of a batch has converged.

An image that has converged stays where it is. Between rounds of steps the host looks:
when all have converged it stops, and when most have, the others go on in a smaller
batch. Neither changes any image's numbers. Inside jit, vmap or pmap nothing can be
looked at: all steps are run, with the same result.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax import loop

_ROUND = 10  # steps between looks
_SMALLEST = 8  # a batch is not made smaller than this


class Search(NamedTuple):
    """The state of a batch of searches."""

    z: Array  # [B, H, W, C], the iterate
    solver_state: Any  # leaves [B, ...]
    features: Array  # [B, ...], constant
    best_z: Array  # [B, H, W, C], of the lowest objective so far
    best: Array  # [B], that objective
    stalled: Array  # int32 [B], steps since `best` fell by more than the tolerance
    done: Array  # bool [B]


def begin(z: Array, solver_state: Any, features: Array) -> Search:
    """The state before the first step."""
    count = z.shape[0]
    nothing = jnp.zeros(count, jnp.int32)
    return Search(
        z,
        solver_state,
        features,
        z,
        jnp.full(count, jnp.inf, jnp.float32),
        nothing,
        jnp.zeros(count, bool),
    )


def advance(
    state: Search,
    value: Array,
    z: Array,
    solver_state: Any,
    tolerance: float,
    patience: int,
) -> Search:
    """Books a step: `value` is the objective at `state.z`, `z` the next iterate."""
    better = value < state.best
    best_z = jnp.where(better.reshape(-1, 1, 1, 1), state.z, state.best_z)
    best = jnp.where(better, value, state.best)
    if not tolerance:
        return state._replace(z=z, solver_state=solver_state, best_z=best_z, best=best)
    fell = value < state.best * (1 - tolerance)
    stalled = jnp.where(fell, 0, state.stalled + 1)
    done = state.done | (stalled >= patience)
    z = jnp.where(done.reshape(-1, 1, 1, 1), state.z, z)
    return Search(z, solver_state, state.features, best_z, best, stalled, done)


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
    if not stops or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        state, trace = loop.run(step, state, steps, *constants)
        return state, trace.T
    count = state.done.shape[0]
    whole, rows = state, np.arange(count)  # rows of the batch in `state`
    trace = np.zeros((count, steps), np.float32)
    for start in range(0, steps, _ROUND):
        some = min(_ROUND, steps - start)
        state, values = loop.run(step, state, some, *constants, start=start)
        trace[rows, start:] = np.asarray(values[-1])[:, None]
        trace[rows, start : start + some] = np.asarray(values).T
        live = np.flatnonzero(~np.asarray(state.done))
        if not live.size:
            break
        size = max(_SMALLEST, 2 ** (live.size - 1).bit_length())
        if size <= len(rows) // 4:
            whole = _put(whole, rows, state)
            # Filled up with images that have converged and stay where they are.
            still = np.setdiff1d(np.arange(len(rows)), live)
            kept = np.concatenate([live, still])[:size]
            state = jax.tree.map(lambda leaf, kept=kept: leaf[kept], state)
            rows = rows[kept]
    return _put(whole, rows, state), jnp.asarray(trace)


def _put(whole: Search, rows: np.ndarray, part: Search) -> Search:
    if len(rows) == whole.done.shape[0]:
        return part
    return jax.tree.map(lambda all_, own: all_.at[rows].set(own), whole, part)
