"""Least significant bits: the cover's lowest bits become the secret's highest.

With zeta = `bits` in 1..7 the stego is (cover & ~mask) | (secret >> (8 - zeta)), mask =
2^zeta - 1. Exact on uint8 of any shape; `lsb` wraps it for float images in [0, 1].

What it costs: where the low bits of cover and secret are independent and uniform, the
mean squared error is (4^zeta - 1) / 6 grey levels squared, a PSNR of 51.14, 44.15,
37.92, 31.85 dB for zeta = 1..4; no pair falls below 20 log10(255 / (2^zeta - 1)) =
48.13, 38.59, 31.23, 24.61 dB.

What it hides: information-theoretically nothing. If the cover is independent of the
secret X, I(X; stego) is the entropy of X's top zeta bits, for they are the stego's low
bits. All that protects them is that nobody looks.

Source: GHOST, Section III-B (their experiments take zeta = 3); closed forms ours.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.base import Stego


def lsb(bits: int) -> Stego:
    """Hiding in the lowest `bits` bits, for float images in [0, 1].

    Args:
      bits: zeta in 1..7; static.

    Returns:
      A Stego that learns nothing: `params` is (). Images enter by round(255 x), clipped
      to 0..255, which is exact for k / 255, and leave by k / 255. Rounding has gradient
      0: nothing is trained through it.

    Raises:
      ValueError: `bits` is no integer in 1..7; when called, shapes differ, or params
        of a method that learns.
    """
    _require_bits(bits)

    def init(key: Array, cover: Array, secret: Array) -> tuple[()]:
        _require_same_shape(cover, secret)
        return ()

    def fit(key: Array, images: Array, train: Any) -> tuple[tuple[()], dict]:
        return (), {}

    def hide(params: tuple[()], cover: Array, secret: Array) -> Array:
        _require_nothing(params)
        return _floats(hide_bits(_bytes(cover), _bytes(secret), bits))

    def reveal(params: tuple[()], stego: Array) -> Array:
        _require_nothing(params)
        return _floats(reveal_bits(_bytes(stego), bits))

    return Stego("lsb", init, fit, hide, reveal)


def hide_bits(cover: Array, secret: Array, bits: int) -> Array:
    """Puts the secret's top `bits` bits in place of the cover's lowest.

    Args:
      cover: uint8, any shape.
      secret: uint8, the same shape.
      bits: zeta in 1..7; static.

    Returns:
      The stego, uint8, at most 2^bits - 1 grey levels from the cover.

    Raises:
      ValueError: `bits` out of range, shapes that differ, images that are not uint8.
    """
    _require_bits(bits)
    _require_same_shape(cover, secret)
    _require_bytes(cover)
    _require_bytes(secret)
    kept = jnp.bitwise_and(cover, jnp.uint8(256 - 2**bits))
    return jnp.bitwise_or(kept, jnp.right_shift(secret, jnp.uint8(8 - bits)))


def reveal_bits(stego: Array, bits: int, *, midpoint: bool = False) -> Array:
    """Takes the secret's top `bits` bits out of the stego and puts them back on top.

    Args:
      stego: uint8, any shape.
      bits: zeta in 1..7; static.
      midpoint: add half of what the lost bits span, 2^(7 - bits). The default leaves
        the lost bits 0, so that what is returned is exact but darker than the secret;
        the midpoint is the better guess of its grey level (29 instead of 23 dB for
        bits = 3 and uniform secrets), and what an attacker would take.

    Returns:
      uint8 of the same shape: (stego & mask) << (8 - bits), the secret's top bits.

    Raises:
      ValueError: `bits` out of range, or a stego that is not uint8.
    """
    top = jnp.left_shift(low_bits(stego, bits), jnp.uint8(8 - bits))
    return jnp.bitwise_or(top, jnp.uint8(2 ** (7 - bits))) if midpoint else top


def low_bits(stego: Array, bits: int) -> Array:
    """The lowest `bits` bits, uint8 in [0, 2^bits - 1]: all that carries the secret.

    Raises:
      ValueError: `bits` out of range, or an image that is not uint8.
    """
    _require_bits(bits)
    _require_bytes(stego)
    return jnp.bitwise_and(stego, jnp.uint8(2**bits - 1))


def _bytes(images: Array) -> Array:
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}, expected floats in [0, 1]: divide by 255, or "
            "use hide_bits and reveal_bits, which work on uint8"
        )
    return jnp.round(255 * jnp.clip(images, 0, 1)).astype(jnp.uint8)


def _floats(images: Array) -> Array:
    return images.astype(jnp.float32) / 255


def _require_nothing(params: Any) -> None:
    if jax.tree.leaves(params):
        raise ValueError(
            "LSB learns nothing and was given another method's params: hand it (), or "
            "use the method that learned them"
        )


def _require_bits(bits: int) -> None:
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 7:
        raise ValueError(f"bits is {bits!r}: LSB hides an integer of 1 to 7 bits")


def _require_same_shape(cover: Array, secret: Array) -> None:
    if cover.shape != secret.shape:
        raise ValueError(
            f"cover has shape {cover.shape} and secret {secret.shape}: they must agree "
            "in size and channels; resize or convert one of them first"
        )


def _require_bytes(images: Array) -> None:
    if images.dtype != jnp.uint8:
        raise ValueError(
            f"images are {images.dtype}, expected uint8: use `lsb` for floats in [0, 1]"
        )
