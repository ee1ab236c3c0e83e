"""A chain whose weights stay as they are, in the form the hardware runs fastest.

An inversion runs a frozen edge forwards and backwards thousands of times. On CPU
`freeze` replaces its convolutions, once, by products with banded matrices (`banded`),
or by XLA's own where there are many channels; the matrix is only made once because the
weights are frozen.

On every backend a ReLU before a max pool moves behind it: the same values, for a part
of the work, and an objective that looks behind the last ReLU can do so at pools too.
"""

import flax.linen as nn
from jax import Array, lax

from ghostjax import runtime
from ghostjax.models import banded
from ghostjax.models.chain import Chain, Variables, describe, is_opaque
from ghostjax.models.layers import Conv, MaxPool, Relu, Shape

__all__ = ["FrozenConv", "freeze", "slow_in_loops"]


class FrozenConv(nn.Module):
    """A `Conv` that has been frozen. `tile` 0: XLA's own convolution."""

    features: int
    size: int
    padding: str
    tile: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        channels = x.shape[-1]
        window = (self.size, self.size, channels, self.features)
        shape = banded.matrix_shape(window, self.tile) if self.tile else window
        kernel = self.param("kernel", nn.initializers.zeros_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if not self.tile:
            layout = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(
                x, kernel, (1, 1), self.padding, dimension_numbers=layout
            )
        else:
            y = banded.convolve(x, kernel, window, self.padding)
        return y + bias.reshape(1, 1, 1, -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return Conv(self.features, self.size, self.padding).flops(inside, outside)


def freeze(
    chain: Chain, variables: Variables, image_shape: tuple[int, ...]
) -> tuple[Chain, Variables]:
    """The same function in its fastest form for this backend.

    Args:
      chain: the layers.
      variables: theirs.
      image_shape: [H, W, C] of what enters.

    Returns:
      A chain of the same names, and its variables. On accelerators only ReLUs move; a
      half of the user's own stays as it is.
    """
    chain = _pool_first(chain)
    if not runtime.on_cpu() or is_opaque(chain):
        return chain, variables
    layers, frozen, inside = [], dict(variables), tuple(image_shape)
    for (name, layer), row in zip(chain, describe(chain, image_shape), strict=True):
        if isinstance(layer, Conv):
            tile = banded.tile(inside[-1], layer.features, row.shape[1])
            if tile:
                params = variables[name]["params"]
                kernel = banded.matrix(params["kernel"], tile)
                frozen[name] = {"params": {**params, "kernel": kernel}}
            layer = FrozenConv(layer.features, layer.size, layer.padding, tile)
        layers.append((name, layer))
        inside = row.shape
    return tuple(layers), frozen


def _pool_first(chain: Chain) -> Chain:
    """max(relu(x)) as relu(max(x))."""
    layers = list(chain)
    for place in range(len(layers) - 1):
        (_, first), (_, second) = layers[place : place + 2]
        if isinstance(first, Relu) and isinstance(second, MaxPool):
            layers[place : place + 2] = layers[place + 1], layers[place]
    return tuple(layers)


def slow_in_loops(chain: Chain) -> bool:
    """Whether a frozen chain has convolutions of XLA's own on CPU, which are 2 to 3
    times slower inside `scan` or `while` (jax issue 12868)."""
    return any(isinstance(x, FrozenConv) and not x.tile for _, x in chain)
