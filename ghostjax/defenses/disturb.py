"""Disturbing what leaves the edge, or what enters it, with nothing trained.

What noise.py and dropout.py share: a change is drawn afresh for every image and every
query, the network's weights stay as they are, and the attacker gets the changed
features. On the input it acts behind the network's own pixel normalisation where there
is one, in its units (He et al.: MNIST then spans -1 to 1, so sigma = 1 is half the
range); nothing is clipped. Public images are disturbed like sensitive ones: the edge
does not know which is which.

Source: He et al., IoT-J 2020, Section VI.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from ghostjax.base import Defense
from ghostjax.chain import Chain, apply
from ghostjax.defenses.uncovered import uncovered
from ghostjax.layers import Normalize

Change = Callable[[Array, Array, Array], Array]  # (level, key, values) -> values
Place = Literal["features", "input"]


def disturb(
    name: str,
    edge: Chain,
    cloud: Chain,
    change: Change,
    level: Array | float,
    place: Place,
) -> Defense:
    """The target network with `change(level, key, values)` at one place.

    Args:
      name: of the defense.
      edge: layers on the device.
      cloud: the layers behind the cut.
      change: pure; draws for every value on its own. The same object again shares
        compiled programs.
      level: traced; kept in the params.
      place: "features" or "input".

    Returns:
      A Defense with params {"edge", "cloud", "level"}, the first two the target's own.

    Raises:
      ValueError: an unknown place.
    """
    if place not in ("features", "input"):
        raise ValueError(f"place is {place!r}: disturb the 'features' or the 'input'")

    def fit(key, task, train):
        params = {"edge": task.edge_variables, "cloud": task.cloud_variables}
        return {**params, "level": jnp.float32(level)}, {}

    return Defense(name, fit, *uncovered(_encode(edge, change, place), cloud))


@lru_cache(maxsize=64)
def _encode(edge: Chain, change: Change, place: Place) -> Any:
    first = 1 if isinstance(edge[0][1], Normalize) else 0

    def encode_public(params, key, images):
        if place == "features":
            return change(params["level"], key, apply(edge, params["edge"], images))
        pixels = apply(edge[:first], params["edge"], images)
        changed = change(params["level"], key, pixels)
        return apply(edge[first:], params["edge"], changed)

    return encode_public
