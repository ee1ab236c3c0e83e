"""What the attacker makes of several queries of one image: one feature tensor.

Fresh noise on every query is an invitation to ask again: the mean of n noisy features
has noise of 1 / sqrt(n), and a value that dropout took once is there another time.
"""

import jax.numpy as jnp
from jax import Array


def average(samples: Array, known_zeros: bool = False) -> Array:
    """Combines the features of repeated queries.

    Args:
      samples: [queries, B, ...].
      known_zeros: zeros are what dropout took: average the others, and leave 0 only
        where every query gave 0.

    Returns:
      [B, ...]. For one query the sample itself, to the bit.
    """
    if not known_zeros:
        return samples.mean(0)
    kept = (samples != 0).sum(0)
    return samples.sum(0) / jnp.maximum(kept, 1)
