"""Pictures as bytes and as floats: the only place that knows the 255.

Floats are always made by XLA: its x / 255 and NumPy's differ in the last bit, and what
is trained on and what is attacked are to be the same pictures.
"""

from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

__all__ = ["as_bytes", "as_float", "require_pixels"]

_WHITE = np.float32(255)
_BEYOND = 1e-3  # of [0, 1], which arithmetic may leave by a little


def require_pixels(
    images: ArrayLike, name: str = "images", *, spoilt: bool = False
) -> None:
    """Refuses what are no pictures in [0, 1]: the door of all that takes pictures.

    Types and numbers are always looked at; values where they are known, that is outside
    of jit: given 0..255, formulas return plausible numbers.

    Args:
      images: an array of any shape.
      name: how the message calls them.
      spoilt: let NaN pass, which is to give NaN.

    Raises:
      ValueError: no floats, no images, values beyond [0, 1] or NaN.
    """
    kind = (
        jnp.result_type(images)
        if hasattr(images, "dtype")
        else np.asarray(images).dtype
    )
    if not jnp.issubdtype(kind, jnp.floating):
        raise ValueError(
            f"{name} are {kind}, expected floats in [0, 1]: {_remedy(kind)}"
        )
    if not np.size(images):
        raise ValueError(f"{name} have shape {np.shape(images)}: give at least one")
    if isinstance(images, jax.core.Tracer):
        return
    values = np.asarray(images)
    lost = int(np.isnan(values).sum())
    if lost and not spoilt:
        raise ValueError(
            f"{name} have {lost:,} NaN among {values.size:,} values: nothing can be "
            "said of these; look for what made them"
        )
    if lost == values.size:
        return
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < -_BEYOND or high > 1 + _BEYOND:
        raise ValueError(
            f"{name} span {low:.4g} to {high:.4g}, expected [0, 1]: clip or rescale"
        )


def _remedy(kind: np.dtype) -> str:
    """What to do with pixels of a wrong type."""
    if kind == np.uint8:
        return "divide by 255"
    if np.issubdtype(kind, np.integer):
        return f"divide by the value of white, at most {np.iinfo(kind).max} of {kind}"
    if kind == np.bool_:
        return "convert them, `images.astype(float)`"
    return "convert them to grey or colour levels"


def as_float(images: Array | np.ndarray) -> Array:
    """uint8 images of any shape as float32 in [0, 1]; one program outside of jit."""
    return _as_float(images)


@jax.jit
def _as_float(images: Array) -> Array:
    return images.astype(jnp.float32) / _WHITE


@overload
def as_bytes(images: np.ndarray) -> np.ndarray: ...
@overload
def as_bytes(images: Array) -> Array: ...
def as_bytes(images: Array | np.ndarray) -> Array | np.ndarray:
    """Images in [0, 1] as uint8, rounded; k / 255 becomes k exactly.

    On the host for arrays that are there, which compiles nothing.
    """
    if isinstance(images, np.ndarray):
        return np.round(_WHITE * images).astype(np.uint8)
    return jnp.round(_WHITE * images).astype(jnp.uint8)
