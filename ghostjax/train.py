"""The one training loop for everything that learns.

A thing that learns is a `loss(params, model_state, key, batch) -> (scalar,
(model_state, metrics))` and a `draw(key, index, data) -> batch` that gathers and pairs
on the device. `fit` is a pure function of its keys and arrays: `vmap` it over keys and
learning rates, or place it on devices with `parallel.over_runs`. `fit_resumable` is the
same run in chunks, with checkpoints and progress between them, and gives bit-equal
parameters because every draw is folded from the run's key and the step's index.

Traced: key, params, data, learning_rate. Static: loss, draw, Recipe.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from ghostjax import checkpoint, loop

Loss = Callable[..., tuple[Array, tuple[Any, Mapping[str, Array]]]]
Draw = Callable[[Array, Array, Any], Any]


class TrainState(NamedTuple):
    """All that a step changes; arrays only."""

    params: Any
    model_state: Any  # running statistics; {} for most
    optimizer_state: Any


class Recipe(NamedTuple):
    """The static half of how to train."""

    steps: int
    optimizer: str = "adam"  # a name in OPTIMIZERS
    schedule: str = "constant"  # a name in SCHEDULES


OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "amsgrad": partial(optax.amsgrad, eps=1e-3),  # He et al.'s settings
    "adamw": partial(optax.adamw, weight_decay=1e-4),
    "sgd": partial(optax.sgd, momentum=0.9),
}

SCHEDULES: dict[str, Callable[[Array, int], Array]] = {
    "constant": lambda index, steps: jnp.ones(()),
    "cosine": lambda index, steps: 0.5 * (1 + jnp.cos(jnp.pi * index / steps)),
    "one_cycle": lambda index, steps: jnp.minimum(
        index / (0.1 * steps), 0.5 * (1 + jnp.cos(jnp.pi * index / steps))
    ),
}


class Later(NamedTuple):
    """Training data that cost much to make; not made where no step is left to do."""

    like: Any  # the same pytree of `jax.ShapeDtypeStruct`s
    make: Callable[[], Any]  # `make() -> data`


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


def like(data: Any) -> Any:
    """What stands for the data's shapes, made or not."""
    return data.like if isinstance(data, Later) else data


def start(params: Any, model_state: Any, recipe: Recipe) -> TrainState:
    """The state before the first step."""
    optimizer_state = OPTIMIZERS[recipe.optimizer](0.0).init(params)
    return TrainState(params, model_state, optimizer_state)


def fit(
    key: Array,
    params: Any,
    model_state: Any,
    data: Any,
    learning_rate: Array | float,
    *,
    loss: Loss,
    draw: Draw,
    recipe: Recipe,
    part: str = "",
    scanned: bool | None = None,
) -> tuple[TrainState, Mapping[str, Array]]:
    """Trains `params` for `recipe.steps` steps.

    Args:
      key: typed key; consumed.
      params: pytree to train.
      model_state: pytree the loss carries along (batch statistics), or {}.
      data: pytree of device arrays that `draw` reads, never copied; or `Later`.
      learning_rate: peak rate, traced; the schedule multiplies it.
      loss: see the module; gradients are taken with respect to `params`.
      draw: see the module.
      recipe: number of steps, optimizer, schedule.
      part: which of several trainings this is; for callers that keep them on disk.
      scanned: as in `loop.run`; pass True under jit or pmap.

    Returns:
      The last state, and the metrics of each step stacked [steps], with "loss".
    """
    state = start(params, model_state, recipe)
    step = make_step(loss, draw, recipe)
    rate, data = jnp.float32(learning_rate), _made(data)
    return loop.run(step, state, recipe.steps, key, rate, data, scanned=scanned)


@lru_cache(maxsize=64)
def make_step(loss: Loss, draw: Draw, recipe: Recipe) -> loop.Step:
    """`step(state, index, key, learning_rate, data) -> (state, metrics)`."""

    def step(state, index, key, learning_rate, data):
        draw_key, loss_key = jax.random.split(key)
        # The barrier keeps the drawing out of the loss's kernels: XLA would compute it
        # again in each of a convolution's patches, and compile up to twice as long.
        batch = lax.optimization_barrier(draw(draw_key, index, data))
        loss_key = jax.random.fold_in(loss_key, index)
        graded = jax.value_and_grad(loss, has_aux=True)
        (value, (model_state, metrics)), gradients = graded(
            state.params, state.model_state, loss_key, batch
        )
        rate = learning_rate * SCHEDULES[recipe.schedule](index, recipe.steps)
        optimizer = OPTIMIZERS[recipe.optimizer](rate)
        updates, optimizer_state = optimizer.update(
            gradients, state.optimizer_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params, model_state, optimizer_state)
        return state, {"loss": value, **metrics}

    return step


def fit_resumable(
    key: Array,
    params: Any,
    model_state: Any,
    data: Any,
    learning_rate: float,
    *,
    loss: Loss,
    draw: Draw,
    recipe: Recipe,
    folder: Path,
    chunk: int,
    on_chunk: Callable[[int, Mapping[str, np.ndarray]], None] = lambda step, m: None,
    scanned: bool | None = None,
) -> tuple[TrainState, Mapping[str, Array]]:
    """`fit` in chunks of `chunk` steps with a checkpoint after each.

    Started again after a kill at any moment it continues behind the last whole chunk
    and ends with bit-equal parameters (on one device).

    Args:
      folder: where the checkpoints go; the two newest are kept.
      chunk: steps between checkpoints.
      on_chunk: called with the steps done and the new chunk's metrics.

    Raises:
      NonFiniteLoss: names the step; the checkpoint before it stays on disk.
      checkpoint.Corrupted: a checkpoint on disk is unreadable or was changed.
    """
    step = make_step(loss, draw, recipe)
    rate = jnp.float32(learning_rate)
    state, done = start(params, model_state, recipe), checkpoint.latest(folder)
    history: dict[str, Array] = {}
    if done:
        batch = jax.eval_shape(step, state, 0, key, rate, like(data))[1]
        shapes = {k: jax.ShapeDtypeStruct((done,), v.dtype) for k, v in batch.items()}
        wanted = {"state": state, "metrics": shapes}
        restored = checkpoint.restore(folder / str(done), wanted)
        state, history = restored["state"], restored["metrics"]
    for _ in range(ceil((recipe.steps - done) / chunk)):
        steps, data = min(chunk, recipe.steps - done), _made(data)
        state, metrics = loop.run(
            step, state, steps, key, rate, data, start=done, scanned=scanned
        )
        _require_finite(metrics["loss"], done, folder)
        history = {
            k: jnp.concatenate([history[k], v]) if history else v
            for k, v in metrics.items()
        }
        done += steps
        checkpoint.save(folder / str(done), {"state": state, "metrics": history})
        checkpoint.keep_newest(folder, 2)
        on_chunk(done, jax.device_get(metrics))
    return state, history


def _made(data: Any) -> Any:
    return data.make() if isinstance(data, Later) else data


def _require_finite(losses: Array, done: int, folder: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(losses)))
    if bad.size:
        kept = f"the last good checkpoint is step {done}" if done else "none was saved"
        step = done + int(bad[0])
        raise NonFiniteLoss(
            f"loss is {losses[bad[0]]} at step {step} of {folder}: {kept}; "
            "lower the learning rate"
        )
