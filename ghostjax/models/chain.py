"""A network is data: a tuple of (name, layer), run from left to right.

`init` makes the variables, keyed by layer name: {"conv1": {"params": {...}}, ...};
layers without variables do not appear. `cut` splits a chain after a named layer into
edge and cloud, each again a chain, each running on its own slice of the variables
(`select`); edge then cloud equals the uncut network. Images are float32 [0, 1] NHWC.

A half of the user's own is a chain of one layer, an `Opaque`. Its variables are what
its functions take, keyed by nothing; those of a network of two such halves are keyed by
their names.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.models.opaque import Opaque
from ghostjax.names import unknown

__all__ = [
    "Chain",
    "Layer",
    "Layers",
    "Variables",
    "apply",
    "apply_train",
    "cut",
    "describe",
    "fits",
    "init",
    "is_opaque",
    "join",
    "require_training",
    "select",
    "split",
]

Chain = tuple[tuple[str, nn.Module | Opaque], ...]
Layers = list[tuple[str, nn.Module | Opaque]]  # a chain in the making
Variables = Mapping[str, Mapping[str, Any]]


def init(chain: Chain, key: Array, image: Array | np.ndarray) -> Variables:
    """Draws the variables of every layer.

    Args:
      chain: the layers.
      key: consumed; each layer draws from the key folded with its position.
      image: [batch, ...], any values: only its shape counts.

    Returns:
      {layer name: {"params": {...}, "batch_stats": {...}}}, float32.

    Raises:
      ValueError: a half of the user's own, for which nothing can be drawn.
    """
    if any(isinstance(layer, Opaque) for _, layer in chain):
        raise ValueError(
            "an edge or cloud of one's own comes with its variables: none can be drawn "
            "for it"
        )
    drawn = _drawn(chain, key, tuple(image.shape))
    return {name: drawn[name] for name, _ in chain if name in drawn}


@partial(jax.jit, static_argnums=(0, 2))  # one program, where each draw would be one
def _drawn(chain: Chain, key: Array, shape: tuple[int, ...]) -> dict[str, Any]:
    variables, x = {}, jnp.zeros(shape)
    for place, (name, layer) in enumerate(chain):
        assert not isinstance(layer, Opaque)  # `init` refuses it
        layer_key = {"params": jax.random.fold_in(key, place)}
        x, layer_variables = layer.init_with_output(layer_key, x)
        if layer_variables:
            variables[name] = dict(layer_variables)
    return variables


def apply(chain: Chain, variables: Variables, x: Array) -> Array:
    """Runs the chain in inference mode: [batch, ...] to [batch, ...]."""
    values: Any = x
    for name, layer in chain:
        values = layer.apply(_slice(chain, variables, name), values)
    return values


def apply_train(
    chain: Chain, variables: Variables, x: Array, key: Array
) -> tuple[Array, Variables]:
    """Runs the chain in training mode (dropout drawn, batch statistics moved).

    Returns:
      The output [batch, ...] and the variables with updated running statistics.

    Raises:
      ValueError: a half of the user's own without training mode.
    """
    if (half := _opaque(chain)) is not None:
        return half.apply_train(variables, x, key)
    updated = dict(variables)
    for place, (name, layer) in enumerate(chain):
        assert not isinstance(layer, Opaque)  # a half is trained by itself
        rngs = {"dropout": jax.random.fold_in(key, place)}
        before = variables.get(name, {})
        applied: Any = layer.apply(
            before, x, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        x, moved = applied
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
    if _opaque(chain) is not None:
        return variables[chain[0][0]]
    return {name: variables[name] for name, _ in chain if name in variables}


def fits(chain: Chain, image_shape: tuple[int, ...], variables: Variables) -> bool:
    """Whether `variables` have the shapes of the chain's for images [H, W, C]."""
    if (half := _opaque(chain)) is not None:
        return half.inside == tuple(image_shape) and half.fits(variables)
    wanted, shape = {}, tuple(image_shape)
    for name, layer in chain:
        assert not isinstance(layer, Opaque)  # a half is a chain by itself
        shape, leaves = _shapes(layer, shape)
        if leaves:
            wanted[name] = leaves
    return wanted == jax.tree.map(jnp.shape, variables)


def split(variables: Variables, chain: Chain = ()) -> tuple[Variables, Variables]:
    """(params, model_state): what the optimizer moves, and running statistics.

    Args:
      variables: of a chain.
      chain: whose; needed where it may be a half of the user's own.
    """
    if (half := _opaque(chain)) is not None:
        return half.split(variables)
    params = {n: {"params": v["params"]} for n, v in variables.items() if "params" in v}
    rest = {
        n: {c: t for c, t in v.items() if c != "params"} for n, v in variables.items()
    }
    return params, {n: v for n, v in rest.items() if v}


def join(params: Variables, model_state: Variables, chain: Chain = ()) -> Variables:
    """The inverse of `split`."""
    if (half := _opaque(chain)) is not None:
        return half.join(params, model_state)
    names = [*params, *(name for name in model_state if name not in params)]
    return {n: {**params.get(n, {}), **model_state.get(n, {})} for n in names}


def is_opaque(chain: Chain) -> bool:
    """Whether it is a half of the user's own, whose layers nobody knows."""
    return _opaque(chain) is not None


def require_training(chain: Chain) -> None:
    """Refuses a cloud that is to be trained and cannot be.

    Raises:
      ValueError: a half of the user's own without training mode.
    """
    if (half := _opaque(chain)) is not None:
        half.required_train()


def _opaque(chain: Chain) -> Opaque | None:
    """The layer of a half of the user's own; None of any other chain."""
    layer = chain[0][1] if len(chain) == 1 else None
    return layer if isinstance(layer, Opaque) else None


def _slice(chain: Chain, variables: Variables, name: str) -> Any:
    """The variables of one layer."""
    return variables if _opaque(chain) is not None else variables.get(name, {})


class Layer(NamedTuple):
    """What one layer costs and sends, for one image."""

    name: str
    shape: tuple[int, ...]  # of the output, without the batch
    parameters: int
    flops: int  # multiply-add = 2; 0 of a half of the user's own: not known
    bytes: int  # float32 features that would cross a cut here


def describe(chain: Chain, image_shape: tuple[int, ...]) -> list[Layer]:
    """Shapes, parameters, FLOPs and bytes of every layer, without computing anything.

    Args:
      chain: the layers.
      image_shape: [H, W, C] of one image.

    Raises:
      ValueError: a half of the user's own that takes other images, or is not there.
    """
    rows, shape = [], tuple(image_shape)
    for name, layer in chain:
        rows.append(_row(name, layer, shape))
        shape = rows[-1].shape
    return rows


def _row(name: str, layer: Any, inside: tuple[int, ...]) -> Layer:
    if isinstance(layer, Opaque):
        return _opaque_row(name, layer, inside)
    outside, variables = _shapes(layer, inside)
    kernels = jax.tree.leaves(variables.get("params", {}), is_leaf=_is_shape)
    return Layer(
        name=name,
        shape=outside,
        parameters=sum(map(prod, kernels)),
        flops=layer.flops(inside, outside),
        bytes=4 * prod(outside),
    )


@lru_cache(maxsize=1024)  # tracing a layer takes some 10 ms; networks share many
def _shapes(layer: Any, inside: tuple[int, ...]) -> tuple[tuple[int, ...], Variables]:
    """The shapes of one layer's output, without the batch, and of its variables."""
    x = jax.ShapeDtypeStruct((1, *inside), jnp.float32)
    y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    return y.shape[1:], jax.tree.map(jnp.shape, dict(variables))


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple)


def _opaque_row(name: str, layer: Opaque, inside: tuple[int, ...]) -> Layer:
    if inside != layer.inside:
        raise ValueError(
            f"the {name} half takes {layer.inside} and is given {inside}: make it for "
            "images of this shape"
        )
    if not layer.outside:
        raise ValueError(
            "this cut has no cloud, and so no number of classes: give own.cut(edge, "
            "classes=...) their number, or a cloud"
        )
    return Layer(
        name=name,
        shape=layer.outside,
        parameters=layer.parameters,
        flops=0,
        bytes=4 * prod(layer.outside),
    )
