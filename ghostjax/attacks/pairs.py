"""Training a network on pairs of the attacker's own: input, and what it should say.

What the learned attacks share. The pairs are made on the device, in the step: images
are drawn from uint8 data, sent through a query, and never stored.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.readout import solve_last
from ghostjax.base import Bytes, Features, Images, Indices, Key
from ghostjax.chain import Chain, Variables, apply_train, init, join, split
from ghostjax.train import Draw, Loss, Recipe, like

Measure = Callable[[Array, Array], Array]  # (output, target) -> one number


class Settings(NamedTuple):
    """Static choices of an attack that trains a decoder."""

    recipe: Recipe
    batch_size: int = 64
    width: int = 32  # filters of its hidden layers


def squared_error(output: Array, target: Array) -> Array:
    """Mean over all values of (output - target)^2."""
    return ((output - target) ** 2).mean()


def fit_network(
    key: Key,
    network: Chain,
    data: Any,
    learning_rate: Array | float,
    *,
    draw: Draw,
    recipe: Recipe,
    train: Callable[..., Any],
    part: str,
    measure: Measure = squared_error,
) -> tuple[Variables, dict[str, Any]]:
    """Trains `network` from scratch so that network(input) is near the target.

    Args:
      key: consumed.
      network: from [B, ...] inputs to what the targets are.
      data: pytree of device arrays that `draw` reads, or `train.Later`.
      learning_rate: traced.
      draw: gives a batch (inputs [B, ...], targets [B, ...]); see `train`.
      recipe: static.
      train: `train.fit` or another function with its signature.
      part: the training's name.
      measure: how far the output is from the target; static.

    Returns:
      The variables, and {part: metrics}.
    """
    init_key, train_key = jax.random.split(key)
    inputs, _ = jax.eval_shape(draw, train_key, jnp.int32(0), like(data))
    variables = init(network, init_key, jnp.zeros((1, *inputs.shape[1:])))
    state, metrics = train(
        train_key,
        *split(variables),
        data,
        learning_rate,
        loss=_loss(network, measure),
        draw=draw,
        recipe=recipe,
        part=part,
    )
    return join(state.params, state.model_state), {part: metrics}


def fit_decoder(
    key: Key,
    network: Chain,
    data: Any,
    learning_rate: Array | float,
    *,
    settings: Settings,
    draw: Draw,
    train: Callable[..., Any],
    part: str,
) -> tuple[Variables, dict[str, Any]]:
    """`fit_network` for a network that ends linearly in pictures, and `solve_last`."""
    train_key, solve_key = jax.random.split(key)
    variables, metrics = fit_network(
        train_key,
        network,
        data,
        learning_rate,
        draw=draw,
        recipe=settings.recipe,
        train=train,
        part=part,
    )
    return solve_last(solve_key, network, variables, data, draw), metrics


def traceable(query: Callable[[Key, Images], Features]) -> Partial:
    """The query as a pytree, to stand in a training's data.

    A `Partial` keeps its arrays as leaves: programs compiled for one set of them serve
    all. Any other function counts as static.
    """
    return query if isinstance(query, Partial) else Partial(query)


def pixels(images: Bytes, chosen: Indices) -> Images:
    """Rows of a data set as floats in [0, 1]."""
    return images[chosen].astype(jnp.float32) / 255


@lru_cache(maxsize=16)
def _loss(network: Chain, measure: Measure) -> Loss:
    def loss(params, model_state, key, batch):
        inputs, targets = batch
        variables = join(params, model_state)
        output, moved = apply_train(network, variables, inputs, key)
        return measure(output, targets), (split(moved)[1], {})

    return loss
