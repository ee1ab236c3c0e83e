"""Convolution as the backend runs it fastest: on CPU products, elsewhere XLA's own."""

from collections.abc import Iterable
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax import runtime
from ghostjax.models import banded

__all__ = ["convolve", "forwards_only"]

forwards_only = jax.make_user_context(False)
"""`with forwards_only(True)`: programs traced inside take no gradients."""


def convolve(x: Array, kernel: Array, padding: str, stride: int = 1) -> Array:
    """Convolution of [B, H, W, C] with [h, w, C, D], written for the backend.

    On CPU it is a matrix product over patches: for training, its gradients take 1/2
    to 1/8 of the time of those of XLA's convolution, which is the faster one forwards
    where there are few channels (up to 1.6 times; benchmarks/convolution.py). From 8
    channels on it is one product over patches of one row with the h rows of the kernel
    beside each other, and shifted sums of it (3x3, 32 to 32: gradients in 45 ms where
    patches take 63); with many, h products, as fast in less memory. Where few
    features come out of many channels, patches would be far larger than the result: the
    product is taken first, for every pixel and tap, and shifted sums of it after (5x5,
    32 to 1: 39 ms where patches take 526). It can be differentiated in both modes.
    Under `forwards_only` it is a product with a banded matrix, or XLA's own (lenet5
    answers in half the time, cnn2 in two thirds). Elsewhere it is XLA's own.
    """
    height, width, channels, features = kernel.shape
    if not runtime.on_cpu():
        return _xla(x, kernel, padding, stride)
    if stride > 1:
        return _strided(x, kernel, stride)
    if forwards_only.value:
        return _forwards(x, kernel, padding)
    if padding == "SAME":
        borders = [((size - 1) // 2, size // 2) for size in (height, width)]
        x = jnp.pad(x, ((0, 0), *borders, (0, 0)))
    batch, rows, columns = x.shape[0], x.shape[1] - height + 1, x.shape[2] - width + 1
    if channels >= 16 and 4 * features <= channels:
        kernels = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
        each = (x.reshape(-1, channels) @ kernels).reshape(*x.shape[:3], height, -1)
        product = _sum(each[:, i : i + rows, :, i] for i in range(height))
        product = product.reshape(*product.shape[:3], width, features)
        return _sum(product[:, :, j : j + columns, j] for j in range(width))
    taps = [x[:, :, j : j + columns] for j in range(width)]
    if 8 <= channels < 64:
        across = jnp.concatenate(taps, -1).reshape(-1, width * channels)
        kernels = kernel.transpose(1, 2, 0, 3).reshape(width * channels, -1)
        each = (across @ kernels).reshape(batch, -1, columns, height, features)
        return _sum(each[:, i : i + rows, :, i] for i in range(height))
    if channels < 8:
        taps = [tap[:, i : i + rows] for i in range(height) for tap in taps]
        patches = jnp.concatenate(taps, -1).reshape(-1, height * width * channels)
        product = patches @ kernel.reshape(-1, features)
    else:
        patches = jnp.concatenate(taps, -1)
        product = _sum(
            patches[:, i : i + rows].reshape(-1, width * channels)
            @ kernel[i].reshape(-1, features)
            for i in range(height)
        )
    return product.reshape(batch, rows, columns, features)


def _xla(x: Array, kernel: Array, padding: str, stride: int = 1) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout
    )


def _forwards(x: Array, kernel: Array, padding: str) -> Array:
    height, width, channels, features = kernel.shape
    columns = x.shape[2] - (width - 1 if padding == "VALID" else 0)
    tile = banded.tile(channels, features, columns)
    if not tile:
        return _xla(x, kernel, padding)
    window = height, width, channels, features
    return banded.convolve(x, banded.matrix(kernel, tile), window, padding)


def _sum(terms: Iterable[Array]) -> Array:
    return cast(Array, sum(terms))


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
