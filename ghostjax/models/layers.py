"""The layers networks are made of: small Linen modules that know their own cost.

Every layer is called as `layer(x, train)` on a batch NHWC (or [batch, values] behind a
dense layer) and is a frozen dataclass, so a chain of them is hashable and can be a
static argument. `flops(inside, outside)` counts one image's operations from its shapes
without the batch: a multiply-add is 2, an elementwise operation 1 a value.
"""

from functools import reduce
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.models.convolution import convolve

__all__ = [
    "BatchNorm",
    "Beside",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "InstanceNorm",
    "MaxPool",
    "Normalize",
    "Pad",
    "Relu",
    "Reshape",
    "Residual",
    "Shape",
    "Sigmoid",
    "Towers",
    "Upsample",
]

Shape = tuple[int, ...]

_KERNEL = {
    "kaiming": nn.initializers.he_normal(),
    # PyTorch's default, Kaiming-uniform with a = sqrt(5): U(-1/sqrt(fan_in), ...).
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zero": nn.initializers.zeros_init(),
}


def _bias(initialisation: str, fan_in: int) -> nn.initializers.Initializer:
    if initialisation != "torch":
        return nn.initializers.zeros_init()
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


class Normalize(nn.Module):
    """Pixels [0, 1] to (x - mean) / std, a constant per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Array, train: bool = False) -> Array:
        mean = jnp.asarray(self.mean, x.dtype).reshape(1, 1, 1, -1)
        return (x - mean) / jnp.asarray(self.std, x.dtype).reshape(1, 1, 1, -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * prod(outside)


class Conv(nn.Module):
    """Convolution with bias. `padding` is "VALID", or "SAME" with stride 1."""

    features: int
    size: int
    padding: str = "VALID"
    initialisation: str = "kaiming"
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        fan_in = self.size**2 * x.shape[-1]
        kernel = self.param("kernel", _KERNEL[self.initialisation], shape)
        bias = self.param("bias", _bias(self.initialisation, fan_in), shape[-1:])
        y = convolve(x, kernel, self.padding, self.stride)
        return y + bias.reshape(1, 1, 1, -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * self.size**2 * inside[-1] * prod(outside)


class ConvTranspose(nn.Module):
    """Transposed convolution with bias: rows h to (h - 1) * stride + size.

    A convolution of the map with zeros between its values, and around it.
    """

    features: int
    size: int
    stride: int
    initialisation: str = "kaiming"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        around, between = self.size - 1, self.stride - 1
        borders = [(0, 0, 0), *[(around, around, between)] * 2, (0, 0, 0)]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), borders)
        return Conv(
            features=self.features,
            size=self.size,
            initialisation=self.initialisation,
            name="conv",
        )(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * self.size**2 * prod(inside) * self.features


class Dense(nn.Module):
    """Fully connected layer with bias; flattens what it gets, row, column, channel."""

    features: int
    initialisation: str = "kaiming"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(
            self.features,
            kernel_init=_KERNEL[self.initialisation],
            bias_init=_bias(self.initialisation, x.shape[-1]),
            name="dense",
        )(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * prod(inside) * self.features


class Relu(nn.Module):
    """max(x, 0)."""

    def __call__(self, x: Array, train: bool = False) -> Array:
        return nn.relu(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return prod(outside)


class Sigmoid(nn.Module):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: Array, train: bool = False) -> Array:
        return nn.sigmoid(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return prod(outside)


class MaxPool(nn.Module):
    """Max over windows; rows and columns that fill no window are dropped.

    Where window equals stride it is a maximum of slices, whose gradient is many times
    faster on CPU than that of `reduce_window` (select-and-scatter). The gradient goes
    to the first of equal values in reading order, as PyTorch's does.
    """

    window: int = 2
    stride: int = 2

    def __call__(self, x: Array, train: bool = False) -> Array:
        if self.window != self.stride:
            sizes, steps = (self.window,) * 2, (self.stride,) * 2
            return nn.max_pool(x, sizes, strides=steps)
        batch, height, width, channels = x.shape
        w, rows, columns = self.window, height // self.window, width // self.window
        x = x[:, : rows * w, : columns * w]
        x = x.reshape(batch, rows, w, columns, w * channels)
        starts = range(0, w * channels, channels)
        x = reduce(_larger, [x[..., j : j + channels] for j in starts])
        return reduce(_larger, [x[:, :, i] for i in range(w)])

    def flops(self, inside: Shape, outside: Shape) -> int:
        return self.window**2 * prod(outside)


def _larger(first: Array, second: Array) -> Array:
    """The maximum; its gradient, unlike `jnp.maximum`'s, goes whole to one of them."""
    return jnp.where(second > first, second, first)


class BatchNorm(nn.Module):
    """Batch normalisation: batch statistics in training, running ones otherwise."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        return nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=1e-5, name="norm"
        )(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * prod(outside)


class InstanceNorm(nn.Module):
    """Each channel of each image to mean 0 and deviation 1, then scale and bias."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        centred = x - x.mean((1, 2), keepdims=True)
        inverse = jax.lax.rsqrt((centred**2).mean((1, 2), keepdims=True) + 1e-5)
        lead = (1,) * (x.ndim - 1)
        return centred * inverse * scale.reshape(*lead, -1) + bias.reshape(*lead, -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 7 * prod(outside)


class Residual(nn.Module):
    """x plus two 3x3 convolutions of it, each over a reflected border, each normalised
    per image; ReLU between, none behind the sum."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        y, features = x, x.shape[-1]
        for place in range(2):
            y = jnp.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
            y = Conv(features, 3, name=f"conv{place}")(y)
            y = InstanceNorm(name=f"norm{place}")(y)
            y = y if place else nn.relu(y)
        return x + y

    def flops(self, inside: Shape, outside: Shape) -> int:
        return prod(outside) * (2 * (18 * inside[-1] + 7) + 2)


class Dropout(nn.Module):
    """Zeroes values with probability `rate` and rescales, in training only."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        return nn.Dropout(self.rate, deterministic=not train)(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 0


class Beside(nn.Module):
    """The values themselves and, beside them, the ReLU of a convolution of them."""

    features: int
    size: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        seen = Conv(self.features, self.size, "SAME", name="conv")(x)
        return jnp.concatenate([x, nn.relu(seen)], -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return prod(outside[:-1]) * self.features * (2 * self.size**2 * inside[-1] + 1)


class Towers(nn.Module):
    """Stacks of convolutions with ReLU, of several kernel sizes, beside each other.

    `towers` gives (filters, kernel size) of each; each has `depth` layers, "SAME". An
    even kernel has its longer side below and to the right.
    """

    towers: tuple[tuple[int, int], ...]
    depth: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        ends = []
        for filters, size in self.towers:
            y = x
            for place in range(self.depth):
                name = f"conv{size}_{place}"
                y = nn.relu(Conv(filters, size, "SAME", name=name)(y))
            ends.append(y)
        return jnp.concatenate(ends, -1)

    def flops(self, inside: Shape, outside: Shape) -> int:
        total = 0
        for filters, size in self.towers:
            taps = size**2 * (inside[-1] + (self.depth - 1) * filters)
            total += filters * (2 * taps + self.depth)
        return prod(outside[:-1]) * total


class Upsample(nn.Module):
    """Twice the rows and columns, each value repeated (nearest neighbour)."""

    def __call__(self, x: Array, train: bool = False) -> Array:
        return x.repeat(2, axis=1).repeat(2, axis=2)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 0


class Pad(nn.Module):
    """Zeros around the map, (before, after) in rows and columns; negative: cropped."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def __call__(self, x: Array, train: bool = False) -> Array:
        borders = [(0, 0, 0), (*self.rows, 0), (*self.columns, 0), (0, 0, 0)]
        return jax.lax.pad(x, jnp.zeros((), x.dtype), borders)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 0


class Reshape(nn.Module):
    """Each image's values, row by row, as an array of another shape."""

    shape: tuple[int, ...]

    def __call__(self, x: Array, train: bool = False) -> Array:
        return x.reshape(x.shape[0], *self.shape)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 0
