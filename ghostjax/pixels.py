"""Pictures as bytes and as floats: the only place that knows the 255.

Arrays on the host are converted there, which compiles nothing; the values are the same.
`jax.device_put` places them, since `jnp.asarray` compiles a program for every shape.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_WHITE = np.float32(255)


def as_float(images: Array | np.ndarray) -> Array:
    """uint8 images of any shape as float32 in [0, 1]."""
    if isinstance(images, np.ndarray):
        return jax.device_put(images.astype(np.float32) / _WHITE)
    return images.astype(jnp.float32) / _WHITE


def as_bytes(images: Array | np.ndarray) -> Array | np.ndarray:
    """Images in [0, 1] as uint8, rounded; k / 255 becomes k exactly."""
    if isinstance(images, np.ndarray):
        return np.round(_WHITE * images).astype(np.uint8)
    return jnp.round(_WHITE * images).astype(jnp.uint8)
