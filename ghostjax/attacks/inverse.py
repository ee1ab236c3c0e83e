"""Black box: a decoder trained on queries turns features back into pictures.

The attacker can send images of his own through the edge and sees the features. He
trains a decoder (decoder.py) to give the images back, by mean squared error, and then
inverts any target by one forward pass. He never sees the edge's variables; where a
defense draws noise, every query has its own.

Source: He, Zhang, Lee, IoT-J 2020, Section IV.B, and their code. We deviate: decoders
for every cut, features brought to mean 0 and deviation 1 per channel, shuffled images,
pixels in [0, 1]; on MNIST a few epochs with a falling rate instead of 50.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.decoder import decoder
from ghostjax.attacks.pairs import Settings, fit_network, pixels, traceable
from ghostjax.base import Attack, Features, Key, Knowledge
from ghostjax.chain import apply
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw

_MEASURED = 512  # queries that the features' statistics are taken from
import os
_FLOOR = float(os.environ.get("FLOOR","1e-4"))


class Scales(NamedTuple):
    """Statistics of the features, per channel."""

    origin: Array  # [...]
    whiten: Array  # [c, c], inverse square root of the covariance


class _Data(NamedTuple):
    """What a step reads; on the device."""

    query: Partial
    images: Array  # uint8 [N, H, W, C]
    scales: Scales


def inverse(
    feature_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
) -> Attack:
    """The attack on features of one shape.

    Args:
      feature_shape: of one image, [h, w, c] or [values].
      image_shape: [H, W, C].
      settings: static choices.
      learning_rate: peak rate; traced.

    Returns:
      An Attack that needs `query` and `public_images`. Params are {"decoder", "scales"},
      metrics {"inverse": ...}; `invert` clips to [0, 1], does not use its key and has no
      trace.
    """
    network = decoder(feature_shape, image_shape, settings.width)

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        scale_key, train_key = jax.random.split(key)
        query, images = traceable(knowledge.query), knowledge.public_images
        scales = measure_scales(query, images, scale_key)
        learned, metrics = fit_network(
            train_key,
            network,
            _Data(query, images, scales),
            learning_rate,
            draw=_draw(settings.batch_size),
            recipe=settings.recipe,
            train=train,
            part="inverse",
        )
        return {"decoder": learned, "scales": scales}, metrics

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, tuple[()]]:
        scaled = standardise(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], scaled), 0.0, 1.0), ()

    return Attack("inverse", ("query", "public_images"), fit, invert)


def measure_scales(query: Partial, images: Array, key: Key) -> Scales:
    """Statistics of the features of some random ones of the images [N, H, W, C]."""
    order_key, query_key, origin_key = jax.random.split(key, 3)
    count = min(_MEASURED, len(images))
    shown = pixels(images, epoch_indices(order_key, 0, count, len(images)))
    rim = shown.at[:, 1:-1, 1:-1].set(0).sum((1, 2), keepdims=True)
    height, width = shown.shape[1:3]
    colour = rim.mean(0, keepdims=True) / (2 * (height + width) - 4)
    blank = jnp.broadcast_to(colour, shown.shape)
    origin = query(origin_key, blank).mean(0)
    values = query(query_key, shown) - origin[None]
    values = values.reshape(-1, values.shape[-1])
    variances, axes = jnp.linalg.eigh(values.T @ values / len(values))
    gains = jnp.maximum(variances, _FLOOR * variances[-1:]) ** -0.5
    return Scales(origin, axes * gains[None])


def standardise(scales: Scales, features: Features) -> Array:
    """Features [B, ..., c] with mean 0 and deviation 1 in each channel."""
    return (features - scales.origin[None]) @ scales.whiten


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        order_key, query_key = jax.random.split(key)
        chosen = epoch_indices(order_key, index, batch_size, len(data.images))
        images = pixels(data.images, chosen)
        features = data.query(jax.random.fold_in(query_key, index), images)
        return standardise(data.scales, features), images

    return draw
