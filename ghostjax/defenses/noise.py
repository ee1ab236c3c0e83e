"""Gaussian or Laplace noise on the input or on the features.

Guarantees:
  Level 0 equals no defense to the bit.
  Noise is independent for every value, image and query; one key gives one draw.
  `level` is the standard deviation of Gaussian noise and the scale b of Laplace noise,
  whose standard deviation is sqrt(2) b.

Source: He et al., IoT-J 2020, Section VI.A, Figs. 9 and 10 (whose captions call b a
standard deviation; their code and Table I take it as the scale).
"""

from typing import Literal

import jax
from jax import Array

from ghostjax.base import Defense
from ghostjax.chain import Chain
from ghostjax.defenses.disturb import Place, disturb


def noise(
    edge: Chain,
    cloud: Chain,
    *,
    level: Array | float,
    distribution: Literal["gaussian", "laplace"] = "gaussian",
    place: Place = "features",
) -> Defense:
    """The target network with noise; nothing is trained.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      level: sigma or b, at least 0; traced. On the input in normalised pixels.
      distribution: "gaussian" or "laplace".
      place: "features" or "input".

    Returns:
      A Defense with params {"edge", "cloud", "level"}.

    Raises:
      ValueError: an unknown distribution or place.
    """
    if distribution not in _CHANGES:
        raise ValueError(
            f"distribution is {distribution!r}: noise is {' or '.join(_CHANGES)}"
        )
    return disturb("noise", edge, cloud, _CHANGES[distribution], level, place)


def _gaussian(level: Array, key: Array, values: Array) -> Array:
    return values + level * jax.random.normal(key, values.shape, values.dtype)


def _laplace(level: Array, key: Array, values: Array) -> Array:
    return values + level * jax.random.laplace(key, values.shape, values.dtype)


_CHANGES = {"gaussian": _gaussian, "laplace": _laplace}
