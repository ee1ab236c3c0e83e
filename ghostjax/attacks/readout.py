"""The last, linear layer of a network that gives pictures, solved exactly.

Behind a trained decoder's hidden layers the best last convolution is a least-squares
problem of a few hundred unknowns. Gradient descent is slow at it, as neighbouring
pixels are alike: through LeNet's first convolution a linear decoder of 5x5 taps can
give 48 dB, of which 500 steps of Adam find 26. We solve the normal equations for the
change that the layer still needs, twice, so that float32 is accurate enough.

Our addition: He et al. train such a layer for 50 epochs.
"""

from functools import lru_cache
from math import ceil, prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax import loop
from ghostjax.base import Key
from ghostjax.chain import Chain, Variables, apply
from ghostjax.train import Draw

_ROUNDS = 2
_PIXELS = 300  # an unknown, that the equations are gathered from
_RIDGE = 1e-6  # of the mean diagonal entry


def solve_last(
    key: Key, network: Chain, variables: Variables, data: Any, draw: Draw
) -> Variables:
    """The variables with the last layer's kernel and bias moved to the least squares.

    Args:
      key: consumed; what is drawn is like a training's.
      network: ends in a convolution with "SAME" padding.
      variables: its own, trained.
      data: what `draw` reads.
      draw: gives (inputs, images) batches; see `train`.

    Returns:
      Variables that differ in the last layer alone.
    """
    name = network[-1][0]
    images = jax.eval_shape(draw, key, jnp.int32(0), data)[1]
    taps = prod(variables[name]["params"]["kernel"].shape[:3])
    steps = ceil(_PIXELS * taps / prod(images.shape[:3]))
    for turn in range(_ROUNDS):
        start = jnp.zeros((taps + 1, taps + 1)), jnp.zeros((taps + 1, images.shape[3]))
        own_key = jax.random.fold_in(key, turn)
        step = _make_step(network, draw)
        (gram, moment), _ = loop.run(step, start, steps, own_key, variables, data)
        ridge = _RIDGE * jnp.trace(gram) / (taps + 1) * jnp.eye(taps + 1)
        change = jnp.linalg.solve(gram + ridge, moment)
        kernel, bias = (variables[name]["params"][part] for part in ("kernel", "bias"))
        moved = {
            "kernel": kernel + change[:-1].reshape(kernel.shape),
            "bias": bias + change[-1],
        }
        variables = {**variables, name: {"params": moved}}
    return variables


@lru_cache(maxsize=16)
def _make_step(network: Chain, draw: Draw) -> loop.Step:
    """Adds a batch to the moments of patches, with each other and what is missing."""
    size = network[-1][1].size

    def step(carry, index, key, variables, data):
        inputs, images = draw(key, index, data)
        hidden = apply(network[:-1], variables, inputs)
        missing = images - apply(network[-1:], variables, hidden)
        rows = _patches(hidden, size)
        rows = jnp.concatenate([rows, jnp.ones((len(rows), 1))], -1)
        missing = missing.reshape(len(rows), -1)
        gram, moment = carry
        return (gram + rows.T @ rows, moment + rows.T @ missing), ()

    return step


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
