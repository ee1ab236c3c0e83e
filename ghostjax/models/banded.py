"""A convolution forwards as products with banded matrices: what CPUs run fastest.

A tile of neighbouring output columns is one row of the product, and the matrix holds
the kernel shifted along its band. Every tile spends some multiplications on zeros and
gains a product wide enough for the processor. Where a layer has many channels a product
is wide without that, and XLA's own convolution is the fastest (benchmarks/frozen.py).
Values agree to rounding.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Window", "convolve", "matrix", "matrix_shape", "tile"]

_TILE = 12  # output columns of one product, at most
_MANY = 512  # channels in times channels out, from which XLA's convolution is faster

Window = tuple[int, int, int, int]  # [h, w, C, D], the shape of a kernel


def tile(channels: int, features: int, columns: int) -> int:
    """Output columns of one product; 0 where XLA's convolution is the faster one."""
    if channels * features >= _MANY:
        return 0
    return max(tile for tile in range(1, _TILE + 1) if columns % tile == 0)


def matrix_shape(window: Window, tile: int) -> tuple[int, int]:
    """Of `matrix`: the values that a tile's columns read, and those that it has."""
    height, width, channels, features = window
    return height * (tile + width - 1) * channels, tile * features


@partial(jax.jit, static_argnums=1)
def matrix(kernel: Array, tile: int) -> Array:
    """[h, w, C, D] to the matrix that makes `tile` output columns out of their rows."""
    height, width, channels, features = kernel.shape
    wide = tile + width - 1
    bands = jnp.zeros((height, wide, channels, tile, features), kernel.dtype)
    for column in range(tile):
        bands = bands.at[:, column : column + width, :, column].set(kernel)
    return bands.reshape(matrix_shape((height, width, channels, features), tile))


def convolve(x: Array, bands: Array, window: Window, padding: str) -> Array:
    """Convolution of [B, H, W, C] with stride 1.

    Args:
      x: what enters.
      bands: `matrix` of the kernel.
      window: the kernel's shape.
      padding: "VALID" or "SAME".
    """
    height, width, channels, features = window
    if padding == "SAME":
        borders = [((size - 1) // 2, size // 2) for size in (height, width)]
        x = jnp.pad(x, ((0, 0), *borders, (0, 0)))
    batch, tile = x.shape[0], bands.shape[1] // features
    rows, tiles = x.shape[1] - height + 1, (x.shape[2] - width + 1) // tile
    lines, wide = x.reshape(*x.shape[:2], -1), (tile + width - 1) * channels
    starts = [place * tile * channels for place in range(tiles)]
    strips = jnp.stack([lines[..., start : start + wide] for start in starts], 2)
    stacked = jnp.concatenate([strips[:, i : i + rows] for i in range(height)], -1)
    product = stacked.reshape(-1, bands.shape[0]) @ bands
    return product.reshape(batch, rows, tiles * tile, features)
