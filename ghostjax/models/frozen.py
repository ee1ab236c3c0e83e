"""A chain whose weights stay as they are, in the form the hardware runs fastest.

An inversion runs a frozen edge forwards and backwards thousands of times. On CPU
`freeze` replaces its convolutions, once, by products with banded matrices: a tile of
neighbouring output columns is one row of the product, the matrix holds the kernel
shifted along its band. Every tile spends some multiplications on zeros and gains a
product wide enough for the processor; the matrix is only made once because the weights
are frozen. Where a layer has many channels the product is wide without that, and XLA's
own convolution is the fastest (benchmarks/frozen.py). Values agree to rounding.

On every backend a ReLU before a max pool moves behind it: the same values, for a part
of the work, and an objective that looks behind the last ReLU can do so at pools too.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ghostjax import runtime
from ghostjax.models.chain import Chain, Variables, describe, is_opaque
from ghostjax.models.layers import Conv, MaxPool, Relu, Shape

__all__ = ["FrozenConv", "freeze", "slow_in_loops"]

_TILE = 12  # output columns of one product, at most
_MANY = 512  # channels in times channels out, from which XLA's convolution is faster


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
        shape = _band_shape(window, self.tile) if self.tile else window
        kernel = self.param("kernel", nn.initializers.zeros_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if not self.tile:
            layout = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(
                x, kernel, (1, 1), self.padding, dimension_numbers=layout
            )
        else:
            if self.padding == "SAME":
                border = (self.size - 1) // 2, self.size // 2
                x = jnp.pad(x, ((0, 0), border, border, (0, 0)))
            y = _banded(x, kernel, self.size, self.features, self.tile)
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
            tile = _tile(inside[-1], layer.features, row.shape[1])
            if tile:
                params = variables[name]["params"]
                kernel = _bands(params["kernel"], tile)
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


def _tile(channels: int, features: int, columns: int) -> int:
    """Output columns of one product; 0 where XLA's convolution is the faster one."""
    if channels * features >= _MANY:
        return 0
    return max(tile for tile in range(1, _TILE + 1) if columns % tile == 0)


def _band_shape(window: tuple[int, ...], tile: int) -> tuple[int, int]:
    height, width, channels, features = window
    return height * (tile + width - 1) * channels, tile * features


@partial(jax.jit, static_argnums=1)
def _bands(kernel: Array, tile: int) -> Array:
    """[h, w, C, D] to the matrix that makes `tile` output columns out of their rows."""
    height, width, channels, features = kernel.shape
    wide = tile + width - 1
    bands = jnp.zeros((height, wide, channels, tile, features), kernel.dtype)
    for column in range(tile):
        bands = bands.at[:, column : column + width, :, column].set(kernel)
    return bands.reshape(_band_shape(kernel.shape, tile))


def _banded(x: Array, bands: Array, size: int, features: int, tile: int) -> Array:
    batch, height, width, channels = x.shape
    rows, tiles = height - size + 1, (width - size + 1) // tile
    lines, wide = x.reshape(batch, height, -1), (tile + size - 1) * channels
    starts = [place * tile * channels for place in range(tiles)]
    strips = jnp.stack([lines[..., start : start + wide] for start in starts], 2)
    stacked = jnp.concatenate([strips[:, i : i + rows] for i in range(size)], -1)
    product = stacked.reshape(-1, bands.shape[0]) @ bands
    return product.reshape(batch, rows, tiles * tile, features)
