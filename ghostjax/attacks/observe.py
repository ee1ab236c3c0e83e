"""What the attacker makes of several queries of one image: one feature tensor.

Fresh noise on every query is an invitation to ask again: the mean of n noisy features
(`base.average`) has noise of 1 / sqrt(n), and a value that dropout took once is there
another time.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.base import Features

__all__ = ["average_known_zeros"]


@jax.jit
def average_known_zeros(samples: Array) -> Features:
    """Combines the features of repeated queries whose zeros are what dropout took.

    Args:
      samples: [queries, B, ...].

    Returns:
      [B, ...], the mean of what is not 0; 0 only where every query gave 0. For one
      query the sample itself, to the bit.
    """
    present = (samples != 0).sum(0)
    return samples.sum(0) / jnp.maximum(present, 1)
