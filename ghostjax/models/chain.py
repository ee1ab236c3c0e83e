"""A network is data: a tuple of (name, layer), run from left to right.

`init` makes the variables, keyed by layer name: {"conv1": {"params": {...}}, ...};
layers without variables do not appear. `cut` splits a chain after a named layer into
edge and cloud, each again a chain, each running on its own slice of the variables
(`select`); edge then cloud equals the uncut network. Images are float32 [0, 1] NHWC.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.names import unknown

__all__ = [
    "Chain",
    "Layer",
    "Variables",
    "apply",
    "apply_train",
    "cut",
    "describe",
    "fits",
    "init",
    "join",
    "select",
    "split",
]

Chain = tuple[tuple[str, nn.Module], ...]
Variables = Mapping[str, Mapping[str, Any]]


def init(chain: Chain, key: Array, image: Array) -> Variables:
    """Draws the variables of every layer.

    Args:
      chain: the layers.
      key: consumed; each layer draws from the key folded with its position.
      image: [batch, ...], any values: only its shape counts.

    Returns:
      {layer name: {"params": {...}, "batch_stats": {...}}}, float32.
    """
    drawn = _drawn(chain, key, tuple(image.shape))
    return {name: drawn[name] for name, _ in chain if name in drawn}


@partial(jax.jit, static_argnums=(0, 2))  # one program, where each draw would be one
def _drawn(chain: Chain, key: Array, shape: tuple[int, ...]) -> dict[str, Any]:
    variables, x = {}, jnp.zeros(shape)
    for place, (name, layer) in enumerate(chain):
        layer_key = {"params": jax.random.fold_in(key, place)}
        x, layer_variables = layer.init_with_output(layer_key, x)
        if layer_variables:
            variables[name] = dict(layer_variables)
    return variables


def apply(chain: Chain, variables: Variables, x: Array) -> Array:
    """Runs the chain in inference mode: [batch, ...] to [batch, ...]."""
    for name, layer in chain:
        x = layer.apply(variables.get(name, {}), x)
    return x


def apply_train(
    chain: Chain, variables: Variables, x: Array, key: Array
) -> tuple[Array, Variables]:
    """Runs the chain in training mode (dropout drawn, batch statistics moved).

    Returns:
      The output [batch, ...] and the variables with updated running statistics.
    """
    updated = dict(variables)
    for place, (name, layer) in enumerate(chain):
        rngs = {"dropout": jax.random.fold_in(key, place)}
        before = variables.get(name, {})
        x, moved = layer.apply(
            before, x, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        if moved:
            updated[name] = {**before, **moved}
    return x, updated


def cut(chain: Chain, name: str) -> tuple[Chain, Chain]:
    """(edge, cloud): the layers up to and including `name`, and the rest.

    Raises:
      ValueError: no such layer (the nearest name and the list are given), or the last
        one, behind which no cloud is left.
    """
    names = [layer for layer, _ in chain]
    if name not in names:
        raise ValueError(unknown("layer", name, names))
    place = names.index(name) + 1
    if place == len(chain):
        raise ValueError(f"cut {name!r} is the last layer: nothing is left for a cloud")
    return chain[:place], chain[place:]


def select(chain: Chain, variables: Variables) -> Variables:
    """The slice of `variables` that belongs to the chain's layers."""
    return {name: variables[name] for name, _ in chain if name in variables}


def fits(chain: Chain, image_shape: tuple[int, ...], variables: Variables) -> bool:
    """Whether `variables` have the shapes of the chain's for images [H, W, C]."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(lambda x: init(chain, jax.random.key(0), x), image)
    return jax.tree.map(jnp.shape, wanted) == jax.tree.map(jnp.shape, variables)


def split(variables: Variables) -> tuple[Variables, Variables]:
    """(params, model_state): what the optimizer moves, and running statistics."""
    params = {n: {"params": v["params"]} for n, v in variables.items() if "params" in v}
    rest = {
        n: {c: t for c, t in v.items() if c != "params"} for n, v in variables.items()
    }
    return params, {n: v for n, v in rest.items() if v}


def join(params: Variables, model_state: Variables) -> Variables:
    """The inverse of `split`."""
    names = [*params, *(name for name in model_state if name not in params)]
    return {n: {**params.get(n, {}), **model_state.get(n, {})} for n in names}


class Layer(NamedTuple):
    """What one layer costs and sends, for one image."""

    name: str
    shape: tuple[int, ...]  # of the output, without the batch
    parameters: int
    flops: int  # multiply-add = 2
    bytes: int  # float32 features that would cross a cut here


def describe(chain: Chain, image_shape: tuple[int, ...]) -> list[Layer]:
    """Shapes, parameters, FLOPs and bytes of every layer, without computing anything.

    Args:
      chain: the layers.
      image_shape: [H, W, C] of one image.
    """
    return list(_describe(chain, tuple(image_shape)))


@lru_cache(maxsize=64)  # tracing every layer takes a tenth of a second
def _describe(chain: Chain, image_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    rows, x = [], jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    for name, layer in chain:
        y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
        leaves = jax.tree.leaves(variables.get("params", {}))
        cost = layer.flops(x.shape[1:], y.shape[1:])
        values = prod(y.shape[1:])
        parameters = sum(leaf.size for leaf in leaves)
        rows.append(
            Layer(
                name=name,
                shape=y.shape[1:],
                parameters=parameters,
                flops=cost,
                bytes=4 * values,
            )
        )
        x = y
    return tuple(rows)
