"""Pictures as bytes and as floats: the only place that knows the 255.

Floats are always made by XLA: its x / 255 and NumPy's differ in the last bit, and what
is trained on and what is attacked are to be the same pictures.
"""

from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["as_bytes", "as_float"]

_WHITE = np.float32(255)


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
