"""Training a network on pairs of the attacker's own: input, and what it should say.

What the learned attacks share. The pairs are made on the device, in the step: images
are drawn from uint8 data, sent through a query, and never stored. What is static of
such a training, `Learner`, is a value that a factory makes once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.readout import Solve, solve_last
from ghostjax.base import Bytes, Features, Images, Indices, Key, Params
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply_train, init, join, split
from ghostjax.pixels import as_float
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training

__all__ = [
    "DecoderLearner",
    "Learner",
    "Measure",
    "decoder_learner",
    "learner",
    "pixels",
    "recipe_of",
    "squared_error",
    "starter",
    "traceable",
]

Measure = Callable[[Array, Array], Array]  # (output, target) -> one number


class Learner(NamedTuple):
    """Trains a network so that network(input) is near the target."""

    start: Callable[[Key], tuple[Any, Any]]  # `start(key) -> (params, model_state)`
    loss: Loss
    draw: Draw  # gives a batch (inputs [B, ...], targets [B, ...])
    recipe: Recipe
    part: str  # the training's name

    def fit(self, key: Key, hyper: Hyper, shared: Any, varying: Any) -> Fit:
        """Trains from scratch.

        Args:
          key: consumed.
          hyper: with "learning_rate".
          shared: pytree of device arrays that `draw` reads, the same for all members.
          varying: what it reads besides, each member's; or `fit.Later`.

        Returns:
          The network's variables.
        """
        init_key, train_key = jax.random.split(key)
        params, model_state = self.start(init_key)
        state = yield Training(
            key=train_key,
            params=params,
            model_state=model_state,
            shared=shared,
            own=varying,
            hyper=hyper,
            loss=self.loss,
            draw=self.draw,
            recipe=self.recipe,
            part=self.part,
        )
        return join(state.params, state.model_state)


def squared_error(output: Array, target: Array) -> Array:
    """Mean over all values of (output - target)^2."""
    return ((output - target) ** 2).mean()


def learner(
    network: Chain,
    input_shape: tuple[int, ...],
    *,
    draw: Draw,
    recipe: Recipe,
    part: str,
    measure: Measure = squared_error,
) -> Learner:
    """The training of `network`.

    Args:
      network: from inputs [B, *input_shape] to what the targets are.
      input_shape: of one input.
      draw: gives a batch (inputs [B, ...], targets [B, ...]); see `train`.
      recipe: steps, optimizer and schedule.
      part: the training's name.
      measure: how far the output is from the target.
    """
    return Learner(
        start=starter(network, input_shape),
        loss=_loss(network, measure),
        draw=draw,
        recipe=recipe,
        part=part,
    )


class DecoderLearner(NamedTuple):
    """A `Learner` of a network that ends linearly in pictures, then `solve_last`."""

    learner: Learner
    solve: Solve

    def fit(self, key: Key, hyper: Hyper, shared: Any, varying: Any) -> Fit:
        """As `Learner.fit`, with the last layer solved at the end."""
        train_key, solve_key = jax.random.split(key)
        variables = yield from self.learner.fit(train_key, hyper, shared, varying)
        return self.solve(solve_key, variables, shared, varying)


def decoder_learner(
    network: Chain,
    input_shape: tuple[int, ...],
    *,
    draw: Draw,
    recipe: Recipe,
    part: str,
) -> DecoderLearner:
    """The training of a decoder; see `learner`."""
    trained = learner(network, input_shape, draw=draw, recipe=recipe, part=part)
    return DecoderLearner(trained, solve_last(network, draw))


class _Epochs(Protocol):
    """Of a record of something that passes over images."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def schedule(self) -> str: ...


def recipe_of(record: _Epochs, count: int) -> Recipe:
    """`record.epochs` passes over `count` images."""
    steps = -(-record.epochs * count // record.batch_size)
    return Recipe(steps, record.optimizer, record.schedule)


def starter(
    network: Chain, input_shape: tuple[int, ...]
) -> Callable[[Key], tuple[Any, Any]]:
    """`start(key) -> (params, model_state)` of fresh variables, as one program."""

    @jax.jit
    def start(key: Key) -> tuple[Any, Any]:
        return split(init(network, key, jnp.zeros((1, *input_shape))))

    return start


def traceable(query: Callable[[Key, Images], Features]) -> Partial:
    """The query as a pytree, to stand among a training's arrays.

    A `Partial` keeps its arrays as leaves: programs compiled for one set of them serve
    all. Any other function counts as static.
    """
    return query if isinstance(query, Partial) else Partial(query)


def pixels(images: Bytes, chosen: Indices) -> Images:
    """Rows of a data set as floats in [0, 1]."""
    return as_float(images[chosen])


def _loss(network: Chain, measure: Measure) -> Loss:
    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: tuple[Array, Array],
        hyper: Hyper,
        shared: Any,
    ) -> LossValue:
        inputs, targets = batch
        variables = join(params, model_state)
        output, moved = apply_train(network, variables, inputs, key)
        return measure(output, targets), (split(moved)[1], {})

    return loss
