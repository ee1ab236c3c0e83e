"""The covert branch: a small network that reads what the stego hides in the features.

Behind a frozen edge an LSB secret is a signal some 30 times weaker than the cover, and
a cloud retrained by the paper's recipe learns it slowly and pays with its public
accuracy. The branch stands beside the cloud, reads the features at the scale of the
hidden signal and at their own, and adds its logits to the cloud's. Its last layer
starts at 0, so that training starts from the target's own answers.

Our addition; the paper retrains the cloud as it is (Algorithm 1).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from ghostjax.chain import Chain
from ghostjax.layers import Conv, Dense, MaxPool, Relu

_GAIN = 0.5  # of the hidden signal's own deviation, inside the tanh


class Scales(NamedTuple):
    """What the branch normalises features by; fixed before training."""

    origin: Array  # features of a black image [...]
    hidden: Array  # deviation of stego from cover features, per channel [C]
    spread: Array  # deviation of the cover features, per channel [C]


def measure_scales(origin: Array, covers: Array, stegos: Array) -> Scales:
    """Scales from features of covers and of stegos made of them.

    Args:
      origin: features of a black image [...].
      covers: [B, ..., C].
      stegos: [B, ..., C].
    """
    axes = tuple(range(covers.ndim - 1))
    floor = 1e-3  # of a channel that is always 0
    hidden = jnp.sqrt(((stegos - covers) ** 2).mean(axes))
    return Scales(
        origin, jnp.maximum(hidden, floor), jnp.maximum(covers.std(axes), floor)
    )


def magnify(scales: Scales, features: Array) -> Array:
    """[B, ..., C] to [B, ..., 2C]: at the hidden signal's scale, and at their own."""
    lead = (1,) * (features.ndim - 1)
    hidden, spread = (s.reshape(*lead, -1) for s in (scales.hidden, scales.spread))
    near = jnp.tanh(_GAIN * (features - scales.origin[None]) / hidden)
    return jnp.concatenate([near, features / spread], -1)


def branch(feature_shape: tuple[int, ...], filters: int, classes: int) -> Chain:
    """The branch's layers for features of one image [H, W, C] or [values].

    Convolution, ReLU and pool until the map is at most 6 wide, one more convolution,
    128 units, the classes. Behind a dense layer: 256 and 128 units, the classes.
    """
    layers: list[tuple[str, Any]] = []
    if len(feature_shape) == 3:
        size, block = min(feature_shape[:2]), 1
        while size > 6:
            layers += [
                (f"conv{block}", Conv(filters, 3)),
                (f"ReLU{block}", Relu()),
                (f"pool{block}", MaxPool()),
            ]
            size, block = (size - 2) // 2, block + 1
        layers += [
            (f"conv{block}", Conv(filters, 3, "SAME")),
            (f"ReLU{block}", Relu()),
        ]
    else:
        layers += [("fc0", Dense(256)), ("fc0act", Relu())]
    return (
        *layers,
        ("fc1", Dense(128)),
        ("fc1act", Relu()),
        ("fc2", Dense(classes, "zero")),
    )
