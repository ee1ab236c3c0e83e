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

Shape = tuple[int, ...]

_KERNEL = {
    "kaiming": nn.initializers.he_normal(),
    # PyTorch's default, Kaiming-uniform with a = sqrt(5): U(-1/sqrt(fan_in), ...).
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zero": nn.initializers.zeros_init(),
}


def _bias(initialisation: str, fan_in: int):
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
        own = (self.features, self.size, "VALID", self.initialisation)
        return Conv(*own, name="conv")(x)

    def flops(self, inside: Shape, outside: Shape) -> int:
        return 2 * self.size**2 * prod(inside) * self.features


def convolve(x: Array, kernel: Array, padding: str, stride: int = 1) -> Array:
    """Convolution of [B, H, W, C] with [h, w, C, D], written for the backend.

    On CPU it is a matrix product over patches: for training, its gradients take 1 to
    1/3 of the time of those of XLA's convolution, which is the faster one forwards (by
    up to 2.4 times where there are few channels; benchmarks/convolution.py). From 8
    channels on it is one product over patches of one row with the h rows of the kernel
    beside each other, and shifted sums of it (3x3, 32 to 32: gradients in 45 ms where
    patches take 63); with many, h products, as fast in less memory. Where few
    features come out of many channels, patches would be far larger than the result: the
    product is taken first, for every pixel and tap, and shifted sums of it after (5x5,
    32 to 1: 39 ms where patches take 526). It can be differentiated in both modes.
    Elsewhere it is XLA's own.
    """
    height, width, channels, features = kernel.shape
    if jax.default_backend() != "cpu":
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=layout
        )
    if stride > 1:
        return _strided(x, kernel, stride)
    if padding == "SAME":
        borders = [((size - 1) // 2, size // 2) for size in (height, width)]
        x = jnp.pad(x, ((0, 0), *borders, (0, 0)))
    batch, rows, columns = x.shape[0], x.shape[1] - height + 1, x.shape[2] - width + 1
    if channels >= 16 and 4 * features <= channels:
        taps = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
        each = (x.reshape(-1, channels) @ taps).reshape(*x.shape[:3], height, -1)
        product = sum(each[:, i : i + rows, :, i] for i in range(height))
        product = product.reshape(*product.shape[:3], width, features)
        return sum(product[:, :, j : j + columns, j] for j in range(width))
    taps = [x[:, :, j : j + columns] for j in range(width)]
    if 8 <= channels < 64:
        across = jnp.concatenate(taps, -1).reshape(-1, width * channels)
        kernels = kernel.transpose(1, 2, 0, 3).reshape(width * channels, -1)
        each = (across @ kernels).reshape(batch, -1, columns, height, features)
        return sum(each[:, i : i + rows, :, i] for i in range(height))
    if channels < 8:
        taps = [tap[:, i : i + rows] for i in range(height) for tap in taps]
        patches = jnp.concatenate(taps, -1).reshape(-1, height * width * channels)
        product = patches @ kernel.reshape(-1, features)
    else:
        patches = jnp.concatenate(taps, -1)
        product = sum(
            patches[:, i : i + rows].reshape(-1, width * channels)
            @ kernel[i].reshape(-1, features)
            for i in range(height)
        )
    return product.reshape(batch, rows, columns, features)


def _strided(x: Array, kernel: Array, stride: int) -> Array:
    """A valid convolution as one product over patches."""
    height, width, channels, features = kernel.shape
    rows, columns = ((x.shape[i] - kernel.shape[i - 1]) // stride + 1 for i in (1, 2))
    down, right = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    taps = [
        x[:, i : i + down : stride, j : j + right : stride]
        for i in range(height)
        for j in range(width)
    ]
    patches = jnp.concatenate(taps, -1).reshape(-1, height * width * channels)
    return (patches @ kernel.reshape(-1, features)).reshape(-1, rows, columns, features)


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
