"""Dropout on the input or on the features, at inference.

Each value (not each channel) becomes 0 with probability `rate`; on the input that is
mid-grey for a network that normalises its pixels around 0. What is left is not divided
by 1 - rate unless `rescale` asks for it: the authors do not.

Guarantees:
  Rate 0 equals no defense to the bit.
  The mask is independent for every value, image and query; one key gives one mask.

Source: He et al., IoT-J 2020, Section VI.B, Figs. 9, 10, 12, 13.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.base import Defense
from ghostjax.chain import Chain
from ghostjax.defenses.disturb import Place, disturb


def dropout(
    edge: Chain,
    cloud: Chain,
    *,
    rate: Array | float,
    place: Place = "features",
    rescale: bool = False,
) -> Defense:
    """The target network with dropout; nothing is trained.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      rate: probability in [0, 1) that a value is dropped; traced.
      place: "features" or "input".
      rescale: divide what is left by 1 - rate.

    Returns:
      A Defense with params {"edge", "cloud", "level"}; the level is the rate.

    Raises:
      ValueError: an unknown place.
    """
    change = _drop_rescaled if rescale else _drop
    return disturb("dropout", edge, cloud, change, rate, place)


def _drop(rate: Array, key: Array, values: Array) -> Array:
    kept = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(kept, values, 0)


def _drop_rescaled(rate: Array, key: Array, values: Array) -> Array:
    return _drop(rate, key, values) / (1 - rate)
