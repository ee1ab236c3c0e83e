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
from typing import Any, Literal

from jax import Array

from ghostjax.base import Cut, Defense, Features, Images, Key, Task
from ghostjax.defenses import plain
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply
from ghostjax.models.layers import Normalize
from ghostjax.training.fit import Fit

__all__ = ["Change", "Place", "disturb"]

Change = Callable[[Array, Key, Array], Array]  # (level, key, values) -> values
Place = Literal["features", "input"]


def disturb(name: str, cut: Cut, change: Change, level: str, place: Place) -> Defense:
    """The target network with `change(level, key, values)` at one place.

    Args:
      name: of the defense.
      cut: the network.
      change: pure; draws for every value on its own.
      level: name of the record's field that says how much; traced, kept in the params.
      place: "features" or "input".

    Returns:
      A Defense with params {"edge", "cloud", "level"}, the first two the target's own.
    """

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        yield from ()
        return {**plain.halves(task), "level": hyper[level]}

    send = _send(cut.edge, change, place)
    return Defense(name, fit, send, plain.Answer(cut.cloud))


def _send(edge: Chain, change: Change, place: Place) -> Any:
    first = 1 if isinstance(edge[0][1], Normalize) else 0

    def send(params: Any, key: Key, images: Images) -> Features:
        if place == "features":
            return change(params["level"], key, apply(edge, params["edge"], images))
        pixels = apply(edge[:first], params["edge"], images)
        changed = change(params["level"], key, pixels)
        return apply(edge[first:], params["edge"], changed)

    return send
