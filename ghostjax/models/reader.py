"""The covert branch: a small network that reads what the stego hides in the features.

Behind a frozen edge an LSB secret is a signal some 30 times weaker than the cover, and
a cloud retrained by the paper's recipe learns it slowly and pays with its public
accuracy. The branch stands beside the cloud, which keeps its weights, and adds its
logits to the cloud's. It reads the features at the scale of the hidden signal and at
their own; its `reader` layers are also trained to show the secret, coarsely, one value
a feature cell, and nothing where nothing is hidden. That task is what teaches it to
tell the secret from the cover's own detail. Its last layer starts at 0, so that
training starts from the target's own answers.

Our addition; the paper retrains the cloud as it is. Algorithm 1 hands the retraining
the hidden images D_h themselves, which is what the reader's targets are made of.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.models.chain import Chain, Variables, apply, init
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu

__all__ = [
    "Branch",
    "Scales",
    "branch",
    "coarse",
    "init_branch",
    "look",
    "magnify",
    "measure_scales",
]

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


class Branch(NamedTuple):
    """The layers of the branch: reader, then answerer; `show` looks at the reader."""

    reader: Chain
    show: Chain  # to the secret at the features' resolution; () behind dense layers
    answerer: Chain


def branch(
    feature_shape: tuple[int, ...], filters: int, classes: int, channels: int
) -> Branch:
    """The branch for features of one image [H, W, C] or [values].

    Reader: two 3x3 convolutions. Answerer: pool and convolution until the map is at
    most 6 wide, 128 units, the classes. Behind a dense layer: 256 and 128 units.

    Raises:
      ValueError: features of other axes.
    """
    end = (("fc1", Dense(128)), ("fc1act", Relu()), ("fc2", Dense(classes, "zero")))
    if len(feature_shape) == 1:
        return Branch((("fc0", Dense(256)), ("fc0act", Relu())), (), end)
    if len(feature_shape) != 3:
        raise ValueError(
            f"features {feature_shape} are neither a map [h, w, c] nor [values]: "
            "reshape them in the edge"
        )
    reader = (
        ("read1", Conv(filters, 3, "SAME")),
        ("read1act", Relu()),
        ("read2", Conv(filters, 3, "SAME")),
        ("read2act", Relu()),
    )
    size, block, layers = min(feature_shape[:2]), 1, []
    while size > 6:
        layers += [
            (f"pool{block}", MaxPool()),
            (f"conv{block}", Conv(filters, 3, "SAME")),
            (f"ReLU{block}", Relu()),
        ]
        size, block = size // 2, block + 1
    return Branch(reader, (("show", Conv(channels, 1)),), (*layers, *end))


def init_branch(key: Array, layers: Branch, magnified: Array) -> Variables:
    """Variables of all three chains for magnified features [B, ...]; consumes key."""
    read_key, show_key, answer_key = jax.random.split(key, 3)
    reader = init(layers.reader, read_key, magnified)
    read = apply(layers.reader, reader, magnified)
    show = init(layers.show, show_key, read)
    return {**reader, **show, **init(layers.answerer, answer_key, read)}


def look(
    layers: Branch, variables: Variables, magnified: Array
) -> tuple[Array, Array | None]:
    """(logits [B, classes], the secret as the reader shows it [B, h, w, C] or None)."""
    read = apply(layers.reader, variables, magnified)
    shown = apply(layers.show, variables, read) if layers.show else None
    return apply(layers.answerer, variables, read), shown


def coarse(images: Array, feature_shape: tuple[int, ...]) -> Array:
    """Images [B, H, W, C] averaged over what each feature cell sees, [B, h, w, C].

    Valid convolutions cut a border off, pools a stride: the image is cropped to the
    feature map's size times its stride and averaged over stride x stride pixels.
    """
    (height, width), stride = feature_shape[:2], images.shape[1] // feature_shape[0]
    top = (images.shape[1] - height * stride) // 2
    left = (images.shape[2] - width * stride) // 2
    images = images[:, top : top + height * stride, left : left + width * stride]
    cells = images.reshape(len(images), height, stride, width, stride, -1)
    return cells.mean((2, 4))
