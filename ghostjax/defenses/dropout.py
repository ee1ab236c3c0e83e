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

from ghostjax.base import Context, Cut, Defense
from ghostjax.defenses.disturb import disturb
from ghostjax.defenses.records import Dropout

__all__ = ["dropout"]


def dropout(cut: Cut, record: Dropout, context: Context) -> Defense:
    """The target network with dropout; nothing is trained.

    Args:
      cut: the network.
      record: `rate` is traced.
      context: not used.

    Returns:
      A Defense with params {"edge", "cloud", "level"}; the level is the rate.
    """
    change = _drop_rescaled if record.rescale else _drop
    return disturb("dropout", cut, change, "rate", record.place)


def _drop(rate: Array, key: Array, values: Array) -> Array:
    stays = jax.random.bernoulli(key, 1 - rate, values.shape)
    return jnp.where(stays, values, 0)


def _drop_rescaled(rate: Array, key: Array, values: Array) -> Array:
    return _drop(rate, key, values) / (1 - rate)
