"""The one training loop for everything that learns.

What learns yields a `Training`: a `loss` and a `draw`, made once by a factory, and the
arrays they are called with. `fit` runs one; it is a pure function of keys and arrays:
`vmap` it over keys and rates. Several are advanced in step by `members.fit_members`.
`fit_resumable` is the same run in chunks, with checkpoints and progress between them,
and gives bit-equal parameters because every draw is folded from the run's key and the
step's index. `drive` advances a whole fit, a generator of trainings.

Traced: key, params, data, hyper. Static: loss, draw, Recipe.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from ghostjax import interrupt, runtime
from ghostjax.fields import Hyper
from ghostjax.training import checkpoint, loop

__all__ = [
    "Draw",
    "Fit",
    "Later",
    "Loss",
    "LossValue",
    "NonFiniteLoss",
    "OPTIMIZERS",
    "Pace",
    "Recipe",
    "SCHEDULES",
    "Step",
    "Train",
    "TrainState",
    "Training",
    "arguments",
    "drive",
    "fit",
    "fit_resumable",
    "like",
    "longer",
    "mark_spoilt",
    "require_finite",
    "start",
    "step_of",
]

LossValue = tuple[Array, tuple[Any, Mapping[str, Array]]]
"""(scalar, (model_state, metrics))."""
Loss = Callable[..., LossValue]
"""`loss(params, model_state, key, batch, hyper, shared) -> LossValue`."""
Draw = Callable[[Array, Array, Any, Any], Any]
"""`draw(key, index, shared, own) -> batch`: gathers and pairs on the device."""


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
    """The loss, or weights, became NaN or infinite; the last good checkpoint is kept.

    Args:
      fault: what is not finite, and at which step.
      rate: what to lower.
      part: the training's name.
    """

    def __init__(self, fault: str, rate: str, part: str = ""):
        super().__init__(f"{fault}; lower {rate}")
        self.fault, self.rate, self.part = fault, rate, part


class Training(NamedTuple):
    """One run of the loop: what a fit yields.

    Members of a sweep whose trainings have equal static halves can be advanced in step:
    `shared` is then the same for all of them and is never mapped, so that frozen
    convolutions keep no groups; everything else has one value a member.
    """

    key: Array  # typed key of the draws and the loss; consumed
    params: Any  # pytree to train; gradients are taken with respect to it
    shared: Any  # pytree of device arrays that draw and loss read: data, frozen weights
    hyper: Hyper  # name -> scalar array, with "learning_rate", the peak rate
    loss: Loss
    draw: Draw
    recipe: Recipe
    own: Any = ()  # pytree of arrays that draw reads besides; or `Later`
    model_state: Any = {}  # noqa: RUF012 (an empty pytree); what the loss carries along
    part: str = ""  # which of a fit's trainings it is
    rate: str = "learning_rate"  # the record's field that gives the peak rate

    @property
    def static(self) -> tuple[Any, ...]:
        """What it shares its program with others by."""
        return self.loss, self.draw, self.recipe, self.part


Fit = Generator[Training, TrainState, Any]
Train = Callable[[Training], tuple[TrainState, Mapping[str, Array]]]


def drive(
    fitting: Fit, train: "Train | None" = None
) -> tuple[Any, dict[str, Mapping[str, Array]]]:
    """Advances one fit to its end.

    Args:
      fitting: a generator that yields trainings and is sent the states they end in.
      train: `fit` or another function of a training; by default `fit`.

    Returns:
      What the fit returns, and the metrics of its trainings, {part: {name: [steps]}}.
    """
    run, history = train or fit, {}
    try:
        training = next(fitting)
        while True:
            state, history[training.part] = run(training)
            training = fitting.send(state)
    except StopIteration as end:
        return end.value, history


def like(data: Any) -> Any:
    """What stands for the data's shapes, made or not."""
    return data.like if isinstance(data, Later) else data


def start(training: Training) -> TrainState:
    """The state before the first step."""
    optimizer_state = _optimizer_state(training.recipe.optimizer, training.params)
    return TrainState(training.params, training.model_state, optimizer_state)


@partial(jax.jit, static_argnums=0)  # one program, where each leaf would be one
def _optimizer_state(optimizer: str, params: Any) -> Any:
    return OPTIMIZERS[optimizer](0.0).init(params)


def fit(
    training: Training, *, scanned: bool | None = None
) -> tuple[TrainState, Mapping[str, Array]]:
    """Trains for `recipe.steps` steps.

    Args:
      training: what to train.
      scanned: as in `loop.run`; pass True under jit or pmap.

    Returns:
      The last state, and the metrics of each step stacked [steps], with "loss".
    """
    step, constants = step_of(training), arguments(training)
    steps = training.recipe.steps
    return loop.run(step, start(training), steps, *constants, scanned=scanned)


@dataclass(frozen=True)
class Step:
    """`step(state, index, key, hyper, shared, own) -> (state, metrics)`; equal ones
    share a compiled program."""

    loss: Loss
    draw: Draw
    recipe: Recipe

    def __call__(
        self,
        state: TrainState,
        index: Any,
        key: Array,
        hyper: Any,
        shared: Any,
        own: Any,
    ) -> tuple[TrainState, Mapping[str, Array]]:
        batch, loss_key = self.drawn(key, index, shared, own)
        graded = jax.value_and_grad(self.loss, has_aux=True)
        (value, (model_state, metrics)), gradients = graded(
            state.params, state.model_state, loss_key, batch, hyper, shared
        )
        state = self.moved(state, gradients, model_state, index, hyper)
        return state, {"loss": value, **metrics}

    def drawn(self, key: Array, index: Any, shared: Any, own: Any) -> tuple[Any, Array]:
        """The step's batch, and the key of its loss."""
        draw_key, loss_key = jax.random.split(key)
        # The barrier keeps the drawing out of the loss's kernels: XLA would compute it
        # again in each of a convolution's patches, and compile up to twice as long.
        batch = lax.optimization_barrier(self.draw(draw_key, index, shared, own))
        return batch, jax.random.fold_in(loss_key, index)

    def moved(
        self,
        state: TrainState,
        gradients: Any,
        model_state: Any,
        index: Any,
        hyper: Any,
    ) -> TrainState:
        """The state behind the optimizer's step."""
        recipe = self.recipe
        schedule = SCHEDULES[recipe.schedule](index, recipe.steps)
        optimizer = OPTIMIZERS[recipe.optimizer](hyper["learning_rate"] * schedule)
        updates, optimizer_state = optimizer.update(
            gradients, state.optimizer_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, model_state, optimizer_state)


def step_of(training: Training) -> Step:
    """The training's step."""
    return Step(training.loss, training.draw, training.recipe)


def arguments(training: Training) -> tuple[Any, ...]:
    """What a step is called with behind the index."""
    hyper = jax.tree.map(_array, dict(training.hyper))
    return training.key, hyper, training.shared, _made(training.own)


def _array(value: Any) -> Array:
    """On the device once, and float32 where it is a plain number."""
    return jax.device_put(value if hasattr(value, "dtype") else np.float32(value))


def fit_resumable(
    training: Training,
    folder: Path,
    *,
    chunk: int,
    on_chunk: Callable[[int, Mapping[str, np.ndarray]], None] = lambda step, m: None,
    scanned: bool | None = None,
) -> tuple[TrainState, Mapping[str, Array]]:
    """`fit` in chunks of `chunk` steps with a checkpoint after each.

    Started again after a kill at any moment it continues behind the last whole chunk
    and ends with bit-equal parameters (on one device).

    Args:
      training: what to train.
      folder: where the checkpoints go; the two newest are kept.
      chunk: steps between checkpoints.
      on_chunk: called with the steps done and the new chunk's metrics.
      scanned: as in `loop.run`.

    Raises:
      NonFiniteLoss: names the step; the checkpoint before it stays on disk.
      interrupt.Stopped: the user asked for it; what is done has been saved.
      checkpoint.Corrupted: a checkpoint on disk is unreadable or was changed.
    """
    step, steps = step_of(training), training.recipe.steps
    state, done = start(training), checkpoint.latest(folder)
    history: dict[str, Any] = {}
    if done:
        shapes = training._replace(own=like(training.own))
        one = jax.eval_shape(step.__call__, state, 0, *arguments(shapes))[1]
        spans = {k: jax.ShapeDtypeStruct((done,), v.dtype) for k, v in one.items()}
        wanted: dict[str, Any] = {"state": state, "metrics": spans}
        saved = checkpoint.restore(folder / str(done), wanted)
        state, history = saved["state"], saved["metrics"]
    constants = arguments(training) if done < steps else ()
    pace = Pace(chunk, scanned)
    while done < steps:
        interrupt.check()
        some = min(pace.steps, steps - done)
        try:
            state, metrics = loop.run(
                step, state, some, *constants, start=done, scanned=scanned
            )
        except loop.Halted as halted:
            state, metrics = halted.ended
        some = len(metrics["loss"])
        pace.done(some)
        saved = jax.device_get({"state": state, "metrics": longer(history, metrics)})
        mark_spoilt(saved["metrics"]["loss"], saved["state"])
        require_finite(saved["metrics"]["loss"][done:], done, training, folder)
        history = saved["metrics"]
        done += some
        checkpoint.save(folder / str(done), saved)
        checkpoint.keep_newest(folder, 2)
        on_chunk(done, jax.device_get(metrics))
    return state, history


class Pace:
    """How many steps go by until the next checkpoint: so many, or, in a compiled scan,
    which nothing can stop, what takes `_PATIENCE` seconds.

    Args:
      steps: at most.
      scanned: as for `loop.run`.
    """

    def __init__(self, steps: int, scanned: bool | None = None):
        self.steps = steps
        self._scanned = not runtime.on_cpu() if scanned is None else scanned
        self._began, self._timed = time.monotonic(), False

    def done(self, steps: int) -> None:
        """Books so many; the first ones, which are compiled, tell nothing."""
        now = time.monotonic()
        spent, self._began = now - self._began, now
        if self._scanned and self._timed and spent > _PATIENCE and steps == self.steps:
            self.steps = max(1, int(steps * _PATIENCE / spent))
        self._timed = True


_PATIENCE = 4.0  # seconds


def _made(data: Any) -> Any:
    return data.make() if isinstance(data, Later) else data


def longer(history: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of all steps so far, on the host; `history` may be empty."""
    return {
        name: np.concatenate([history[name], values]) if history else np.array(values)
        for name, values in metrics.items()
    }


def mark_spoilt(losses: np.ndarray, state: TrainState) -> None:
    """Makes the last loss a NaN where the weights that its step has given are not
    finite.

    Args:
      losses: [steps], or of K members [steps, K]; changed.
      state: behind the last step, on the host; of members its leaves are [K, ...].
    """
    for leaf in jax.tree.leaves((state.params, state.model_state)):
        if np.issubdtype(leaf.dtype, np.inexact):
            axes = tuple(range(losses.ndim - 1, leaf.ndim))
            losses[-1] = np.where(np.isfinite(leaf).all(axes), losses[-1], np.nan)


def require_finite(losses: Any, done: int, training: Training, folder: Path) -> None:
    """Refuses losses [steps] behind step `done` that are not finite.

    Raises:
      NonFiniteLoss: names the step and the rate.
    """
    bad = np.flatnonzero(~np.isfinite(np.asarray(losses)))
    if bad.size:
        saved = f"the last good checkpoint is step {done}" if done else "none was saved"
        step = done + int(bad[0])
        fault = f"loss is {losses[bad[0]]} at step {step} of {folder}: {saved}"
        raise NonFiniteLoss(fault, training.rate, training.part)
