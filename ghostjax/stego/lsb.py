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
import numpy as np
from jax import Array

from ghostjax.base import Bytes, Context, Images, Key, Stego
from ghostjax.fields import Hyper
from ghostjax.pixels import as_float, require_pixels
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import Fit

__all__ = ["guess_bits", "hide_bits", "low_bits", "lsb", "reveal_bits"]

_ERROR = 1.0  # grey levels
_ROUGH = 0.2  # of the levels of the low bits; both chosen on training images of digits
_ROUNDS = 10


def lsb(image_shape: tuple[int, int, int], record: Lsb, context: Context) -> Stego:
    """Hiding in the lowest bits, for float images in [0, 1].

    Args:
      image_shape: any; the method works on every shape.
      record: zeta is traced.
      context: not used.

    Returns:
      A Stego that learns nothing: `params` is {"bits": zeta}. Images enter by
      round(255 x), clipped to 0..255, which is exact for k / 255, and leave by k / 255.
      Rounding has gradient 0: nothing is trained through it.

    Raises:
      ValueError: when called, shapes differ, or params of a method that learns.
    """

    def fit(key: Key, hyper: Hyper, images: Bytes) -> Fit:
        yield from ()
        return {"bits": hyper["bits"]}

    def hide(params: Any, cover: Images, secret: Images) -> Images:
        bits = _bits(params)
        return as_float(
            hide_bits(_bytes(cover, "cover"), _bytes(secret, "secret"), bits)
        )

    def reveal(params: Any, stego: Images) -> Images:
        return as_float(reveal_bits(_bytes(stego, "stego"), _bits(params)))

    def halfway(params: Any, stego: Images) -> Images:
        return as_float(
            reveal_bits(_bytes(stego, "stego"), _bits(params), midpoint=True)
        )

    def likely(params: Any, stego: Images) -> Images:
        return guess_bits(stego, _bits(params))

    def clues(params: Any, stego: Images) -> Images:
        """The stego, its low bits, and where in a round of all their values it stands:
        that is continuous where the low bits go from the largest value to 0."""
        read = reveal(params, stego)
        levels = jnp.exp2(jnp.asarray(_bits(params), jnp.float32))
        round_ = 2 * jnp.pi * 255 * jnp.clip(stego, 0, 1) / levels
        circle = (1 + jnp.cos(round_)) / 2, (1 + jnp.sin(round_)) / 2
        return jnp.concatenate([stego, read, *circle], axis=-1)

    return Stego(
        name="lsb",
        fit=fit,
        hide=hide,
        reveal=reveal,
        low_bits=lambda params: int(params["bits"]),
        guesses=(("midpoint", halfway), ("prior", likely)),
        clues=clues,
        clue_channels=4,
    )


def hide_bits(cover: Array, secret: Array, bits: int | Array) -> Array:
    """Puts the secret's top `bits` bits in place of the cover's lowest.

    Args:
      cover: uint8, any shape.
      secret: uint8, the same shape.
      bits: zeta in 1..7; an int, or a uint8 scalar, which may be traced.

    Returns:
      The stego, uint8, at most 2^bits - 1 grey levels from the cover.

    Raises:
      ValueError: `bits` out of range, shapes that differ, images that are not uint8.
    """
    _require_bits(bits)
    _require_same_shape(cover, secret)
    _require_bytes(cover)
    _require_bytes(secret)
    bits = jnp.asarray(bits, jnp.uint8)
    high = jnp.bitwise_and(cover, jnp.left_shift(jnp.uint8(255), bits))
    return jnp.bitwise_or(high, jnp.right_shift(secret, jnp.uint8(8) - bits))


def reveal_bits(stego: Array, bits: int | Array, *, midpoint: bool = False) -> Array:
    """Takes the secret's top `bits` bits out of the stego and puts them back on top.

    Args:
      stego: uint8, any shape.
      bits: zeta in 1..7; an int, or a uint8 scalar, which may be traced.
      midpoint: add half of what the lost bits span, 2^(7 - bits). The default leaves
        the lost bits 0, so that what is returned is exact but darker than the secret;
        the midpoint is the better guess of its grey level (29 instead of 23 dB for
        bits = 3 and uniform secrets), and what an attacker would take.

    Returns:
      uint8 of the same shape: (stego & mask) << (8 - bits), the secret's top bits.

    Raises:
      ValueError: `bits` out of range, or a stego that is not uint8.
    """
    low = low_bits(stego, bits)
    bits = jnp.asarray(bits, jnp.uint8)
    top = jnp.left_shift(low, jnp.uint8(8) - bits)
    half = jnp.left_shift(jnp.uint8(1), jnp.uint8(7) - bits)
    return jnp.bitwise_or(top, half) if midpoint else top


def guess_bits(stego: Array, bits: int | Array) -> Array:
    """The likeliest secret in a stego that was rebuilt with errors.

    An error of one grey level carries low bits from their largest value to 0, which in
    the secret is from white to black. So the low bits l of a pixel with grey level r
    are taken to lie near r + k 2^zeta for one k of -1, 0, 1, with a normal error of
    `_ERROR` grey levels, and near the mean of its eight neighbours' with one of
    `_ROUGH` 2^zeta, since pictures are smooth: l is the mean of that posterior, which
    is reckoned `_ROUNDS` times anew from the neighbours' last means.

    Args:
      stego: floats [B, H, W, C] in [0, 1].
      bits: zeta in 1..7, an int, or a uint8 scalar, which may be traced.

    Returns:
      The secret, floats [B, H, W, C] in [0, 1], by the middle of what the lost bits
      span; of an exact stego `reveal_bits(midpoint=True)` but for what is smoothed.
    """
    _require_bits(bits)
    require_pixels(stego, "stego")
    levels = jnp.exp2(jnp.asarray(bits, jnp.float32))
    grey = 255 * jnp.clip(stego, 0, 1)
    near = jnp.mod(grey + 0.5, levels) - 0.5  # of the top level the next is 0
    seen, error = jnp.stack([near - levels, near, near + levels]), _ERROR**2
    rough = (_ROUGH * levels) ** 2

    def again(_: Any, low: Array) -> Array:
        beside = _neighbours(low)[None]
        weights = jax.nn.softmax(-((seen - beside) ** 2) / (2 * (error + rough)), 0)
        means = (seen * rough + beside * error) / (error + rough)
        return (weights * jnp.clip(means, 0, levels - 1)).sum(0)

    low = jax.lax.fori_loop(0, _ROUNDS, again, jnp.clip(near, 0, levels - 1))
    return (low + 0.5) / levels


def _neighbours(images: Array) -> Array:
    """The mean of each pixel's eight neighbours; a border is continued."""
    wide = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    three = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    return (three[:, :, :-2] + three[:, :, 1:-1] + three[:, :, 2:] - images) / 8


def low_bits(stego: Array, bits: int | Array) -> Array:
    """The lowest `bits` bits, uint8 in [0, 2^bits - 1]: all that carries the secret.

    Raises:
      ValueError: `bits` out of range, or an image that is not uint8.
    """
    _require_bits(bits)
    _require_bytes(stego)
    mask = jnp.left_shift(jnp.uint8(1), jnp.asarray(bits, jnp.uint8)) - jnp.uint8(1)
    return jnp.bitwise_and(stego, mask)


def _bytes(images: Array, name: str) -> Array:
    require_pixels(images, name)
    return jnp.round(255 * jnp.clip(images, 0, 1)).astype(jnp.uint8)


def _bits(params: Any) -> Array:
    if not isinstance(params, dict) or set(params) != {"bits"}:
        raise ValueError(
            "LSB was given another method's params: hand it what its own fit gives, "
            "{'bits': zeta}, or use the method that learned them"
        )
    return params["bits"]


def _require_bits(bits: Any) -> None:
    if isinstance(bits, jax.core.Tracer):
        return  # the record has checked it
    whole = np.ndim(bits) == 0 and np.issubdtype(np.asarray(bits).dtype, np.integer)
    if not whole or not 1 <= int(bits) <= 7:
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
