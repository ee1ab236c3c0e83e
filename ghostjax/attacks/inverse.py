"""Black box: a decoder trained on queries turns features back into pictures.

The attacker can send images of his own through the edge and sees the features. He
trains a decoder (decoder.py) to give the images back, by mean squared error, and then
inverts any target by one forward pass. He never sees the edge's variables; where a
defense draws noise, every query has its own.

Source: He, Zhang, Lee, IoT-J 2020, Section IV.B, and their code. We deviate: decoders
for every cut; features centred and whitened (`Scales`); shuffled images, pixels in
[0, 1]; a falling rate and few epochs instead of 50; the last layer solved exactly at
the end (readout.py).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.decoder import decoder
from ghostjax.attacks.pairs import Settings, fit_decoder, pixels, traceable
from ghostjax.base import Attack, Features, Key, Knowledge
from ghostjax.chain import apply
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw

_MEASURED = 512  # queries that the features' statistics are taken from
_FLOOR = 1e-4  # of the largest variance: what counts as none


class Scales(NamedTuple):
    """What features are brought to before the decoder sees them."""

    origin: Array  # [...], those of an image of the public images' mean border colour
    whiten: Array  # [c, c], makes their second moments about the origin the identity


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
    learning_rate: Array | float = 4e-3,
) -> Attack:
    """The attack on features of one shape.

    Args:
      feature_shape: of one image, [h, w, c] or [values].
      image_shape: [H, W, C].
      settings: static choices.
      learning_rate: peak rate; traced.

    Returns:
      An Attack that needs `query` and `public_images`. `invert` clips to [0, 1],
      ignores its key and gives no trace. Params are {"decoder", "scales"}, metrics
      {"inverse": ...}.

    Raises:
      ValueError: features larger than the image; when called, of another shape.
    """
    network = decoder(feature_shape, image_shape, settings.width)

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        scale_key, train_key = jax.random.split(key)
        query, images = traceable(knowledge.query), knowledge.public_images
        scales = measure_scales(query, images, scale_key)
        learned, metrics = fit_decoder(
            train_key,
            network,
            _Data(query, images, scales),
            learning_rate,
            settings=settings,
            draw=_draw(settings.batch_size),
            train=train,
            part="inverse",
        )
        return {"decoder": learned, "scales": scales}, metrics

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, tuple[()]]:
        require_shape(features, feature_shape)
        scaled = standardise(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], scaled), 0.0, 1.0), ()

    return Attack("inverse", ("query", "public_images"), fit, invert)


def measure_scales(query: Partial, images: Array, key: Key) -> Scales:
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


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        order_key, query_key = jax.random.split(key)
        chosen = epoch_indices(order_key, index, batch_size, len(data.images))
        images = pixels(data.images, chosen)
        features = data.query(jax.random.fold_in(query_key, index), images)
        return standardise(data.scales, features), images

    return draw
