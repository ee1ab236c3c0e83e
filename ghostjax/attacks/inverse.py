"""Black box: a decoder trained on queries turns features back into pictures.

The attacker can send images of its own through the edge and sees the features. It
trains a decoder (decoder.py) to give the images back, by mean squared error, and then
inverts any target by one forward pass. It never sees the edge's variables; where a
defense draws noise, every query has its own.

Source: He, Zhang, Lee, IoT-J 2020, Section IV.B, and their code. We deviate: decoders
for every cut; features centred and whitened (`Scales`); shuffled images, pixels in
[0, 1]; a falling rate and few epochs instead of 50; the last layer solved exactly at
the end (readout.py).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.decoder import decoder
from ghostjax.attacks.pairs import decoder_learner, pixels, recipe_of, traceable
from ghostjax.attacks.records import Inverse
from ghostjax.base import (
    Attack,
    Bytes,
    Context,
    Cut,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    needed,
)
from ghostjax.fields import Hyper
from ghostjax.models.chain import apply
from ghostjax.training.fit import Draw, Fit
from ghostjax.training.sampling import epoch_indices

__all__ = ["Scales", "inverse", "measure_scales", "require_shape", "standardise"]

_MEASURED = 512  # queries that the features' statistics are taken from
_FLOOR = 1e-4  # of the largest variance: what counts as none


class Scales(NamedTuple):
    """What features are brought to before the decoder sees them."""

    origin: Array  # [...], those of an image of the public images' mean border colour
    whiten: Array  # [c, c], makes their second moments about the origin the identity


class _Own(NamedTuple):
    """What a step reads beside the public images; on the device."""

    query: Partial
    scales: Scales


def inverse(cut: Cut, record: Inverse, context: Context) -> Attack:
    """The attack on features of one cut.

    Args:
      cut: only its shapes count.
      record: the learning rate is traced.
      context: `public_count`, the images of an epoch.

    Returns:
      An Attack that needs `query` and `public_images`. `invert` clips to [0, 1] and
      ignores its key. Params are {"decoder", "scales"}; its training is "inverse".

    Raises:
      ValueError: features larger than the image; when called, of another shape.
    """
    feature_shape = cut.feature_shape
    network = decoder(feature_shape, cut.image_shape, record.width)
    learner = decoder_learner(
        network,
        feature_shape,
        draw=_draw(record.batch_size),
        recipe=recipe_of(record, context.public_count),
        part="inverse",
    )

    @jax.jit
    def show(params: Any, features: Features) -> Images:
        scaled = standardise(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], scaled), 0.0, 1.0)

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        scale_key, train_key = jax.random.split(key)
        query = traceable(needed(knowledge.query))
        images = needed(knowledge.public_images)
        scales = measure_scales(query, images, scale_key)
        varying = _Own(query, scales)
        learned = yield from learner.fit(train_key, hyper, images, varying)
        return {"decoder": learned, "scales": scales}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        require_shape(features, feature_shape)
        return Inversion(show(params, features))

    return Attack("inverse", record.needs, fit, invert, keyless=True)


@jax.jit
def measure_scales(query: Partial, images: Bytes, key: Key) -> Scales:
    """Scales from queries of some of the public images [N, H, W, C]; consumes key.

    The decoder's convolutions take 0 for what lies beyond the border, which fits if 0
    is what a picture of the border's own colour gives (for MNIST: black). Through
    LeNet's first convolution a linear decoder of 5x5 taps so gets 48.8 dB, and 29.3
    where 0 is the mean feature.
    """
    order_key, query_key, origin_key = jax.random.split(key, 3)
    count = min(_MEASURED, len(images))
    shown = pixels(images, epoch_indices(order_key, 0, count, len(images)))
    height, width = shown.shape[1:3]
    rim = shown.at[:, 1:-1, 1:-1].set(0).sum((0, 1, 2), keepdims=True)
    colour = rim / (count * (2 * (height + width) - 4))
    origin = query(origin_key, jnp.broadcast_to(colour, shown.shape)).mean(0)
    values = query(query_key, shown) - origin[None]
    values = values.reshape(-1, values.shape[-1])
    variances, axes = jnp.linalg.eigh(values.T @ values / len(values))
    floor = _FLOOR * jnp.maximum(variances[-1:], 1e-12)
    return Scales(origin, axes * jnp.maximum(variances, floor)[None] ** -0.5)


def standardise(scales: Scales, features: Features) -> Array:
    """Centred and whitened features, of the same shape [B, ..., c]."""
    return (features - scales.origin[None]) @ scales.whiten


def require_shape(features: Features, feature_shape: tuple[int, ...]) -> None:
    """Raises ValueError for features [B, ...] that the decoder was not made for."""
    if features.shape[1:] != tuple(feature_shape):
        raise ValueError(
            f"features of shape {features.shape[1:]} are not those the decoder was "
            f"made for, {tuple(feature_shape)}: attack the cut that it was trained on"
        )


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: Bytes, own: _Own
    ) -> tuple[Features, Images]:
        order_key, query_key = jax.random.split(key)
        chosen = epoch_indices(order_key, index, batch_size, len(shared))
        images = pixels(shared, chosen)
        features = own.query(jax.random.fold_in(query_key, index), images)
        return standardise(own.scales, features), images

    return draw
