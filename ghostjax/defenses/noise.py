"""Gaussian or Laplace noise on the input or on the features.

Guarantees:
  Level 0 equals no defense to the bit.
  Noise is independent for every value, image and query; one key gives one draw.
  `level` is the standard deviation of Gaussian noise and the scale b of Laplace noise,
  whose standard deviation is sqrt(2) b.

Source: He et al., IoT-J 2020, Section VI.A, Figs. 9 and 10 (whose captions call b a
standard deviation; their code and Table I take it as the scale).
"""

import jax
from jax import Array

from ghostjax.base import Context, Cut, Defense
from ghostjax.defenses.disturb import disturb
from ghostjax.defenses.records import Noise

__all__ = ["noise"]


def noise(cut: Cut, record: Noise, context: Context) -> Defense:
    """The target network with noise; nothing is trained.

    Args:
      cut: the network.
      record: `level` is traced; on the input it is in normalised pixels.
      context: not used.

    Returns:
      A Defense with params {"edge", "cloud", "level"}.
    """
    change = _CHANGES[record.distribution]
    return disturb("noise", cut, change, "level", record.place)


def _gaussian(level: Array, key: Array, values: Array) -> Array:
    return values + level * jax.random.normal(key, values.shape, values.dtype)


def _laplace(level: Array, key: Array, values: Array) -> Array:
    return values + level * jax.random.laplace(key, values.shape, values.dtype)


_CHANGES = {"gaussian": _gaussian, "laplace": _laplace}
