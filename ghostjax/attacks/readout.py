"""The last, linear layer of a network that gives pictures, solved exactly.

Behind a trained decoder's hidden layers the best last convolution is a least-squares
problem of a few hundred unknowns. Gradient descent is slow at it, as neighbouring
pixels are alike: through LeNet's first convolution a linear decoder of 5x5 taps can
give 48 dB, of which 500 steps of Adam find 26. We solve the normal equations for the
change that the layer still needs, twice, so that float32 is accurate enough.

Our addition: He et al. train such a layer for 50 epochs.
"""

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.base import Key
from ghostjax.models.chain import Chain, Variables, apply
from ghostjax.training import loop
from ghostjax.training.fit import Draw

__all__ = ["Solve", "solve_last"]

_ROUNDS = 2
_PIXELS = 300  # an unknown, that the equations are gathered from
_RIDGE = 1e-6  # of the mean diagonal entry

Solve = Callable[[Key, Variables, Any, Any], Variables]


def solve_last(network: Chain, draw: Draw) -> Solve:
    """Moves the last layer's kernel and bias to the least squares.

    Args:
      network: ends in a convolution with "SAME" padding.
      draw: gives (inputs, images) batches; see `train`.

    Returns:
      `solve(key, variables, shared, varying) -> variables` that differ in the last
      layer alone. The key is consumed: what is drawn is like a training's. `variables`
      are the network's own, trained; `shared` and `varying` are what `draw` reads.
    """
    name, _ = network[-1]
    step = _gather(network, draw)

    def solve(key: Key, variables: Variables, shared: Any, varying: Any) -> Variables:
        images = jax.eval_shape(draw, key, np.int32(0), shared, varying)[1]
        taps = prod(variables[name]["params"]["kernel"].shape[:3])
        steps = ceil(_PIXELS * taps / prod(images.shape[:3]))
        zeros = tuple(
            np.zeros((taps + 1, width), np.float32)
            for width in (taps + 1, images.shape[3])
        )
        for turn in range(_ROUNDS):
            turn_key = jax.random.fold_in(key, turn)
            arguments = turn_key, variables, shared, varying
            (gram, moment), _ = loop.run(step, zeros, steps, *arguments)
            moved = _moved(variables[name]["params"], gram, moment)
            variables = {**variables, name: {"params": moved}}
        return variables

    return solve


def _gather(network: Chain, draw: Draw) -> loop.Step:
    """Adds a batch to the moments of patches, with each other and what is missing."""
    last: Any = network[-1][1]  # a Conv
    size = last.size

    def step(
        carry: tuple[Array, Array],
        index: Array,
        key: Key,
        variables: Variables,
        shared: Any,
        varying: Any,
    ) -> tuple[tuple[Array, Array], tuple[()]]:
        inputs, images = draw(key, index, shared, varying)
        hidden = apply(network[:-1], variables, inputs)
        missing = images - apply(network[-1:], variables, hidden)
        rows = _patches(hidden, size)
        rows = jnp.concatenate([rows, jnp.ones((len(rows), 1))], -1)
        missing = missing.reshape(len(rows), -1)
        gram, moment = carry
        return (gram + rows.T @ rows, moment + rows.T @ missing), ()

    return step


@jax.jit
def _moved(layer: Mapping[str, Array], gram: Array, moment: Array) -> dict[str, Array]:
    """Kernel and bias with the change that solves the normal equations."""
    unknowns = len(gram)
    ridge = _RIDGE * jnp.trace(gram) / unknowns * jnp.eye(unknowns)
    change = jnp.linalg.solve(gram + ridge, moment)
    kernel, bias = layer["kernel"], layer["bias"]
    kernel = kernel + change[:-1].reshape(kernel.shape)
    return {"kernel": kernel, "bias": bias + change[-1]}


def _patches(hidden: Array, size: int) -> Array:
    """What each pixel's kernel sees, [B * H * W, size * size * C]."""
    batch, height, width, channels = hidden.shape
    border = ((size - 1) // 2, size // 2)
    hidden = jnp.pad(hidden, ((0, 0), border, border, (0, 0)))
    taps = [
        hidden[:, i : i + height, j : j + width]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(taps, -1).reshape(-1, size * size * channels)
