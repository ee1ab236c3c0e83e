"""What an attacker that is itself a user trains on: secrets of its own, as sent.

It has the user's edge with all that it does (the app is public). It lets the edge hide
images it has in other images it has, and so gets features whose secret, and its label,
it knows. The inputs of its networks are features at the scale of the hidden signal and
at their own (`reader.magnify`), as the receiver's covert branch reads them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.pairs import pixels, traceable
from ghostjax.base import Bytes, Images, Key, Knowledge, needed
from ghostjax.models import reader
from ghostjax.training.sampling import epoch_indices

__all__ = ["Batch", "Public", "Sending", "draw", "magnified_shape", "stegos"]

_MEASURED = 512  # pairs that the scales are measured on


class Public(NamedTuple):
    """The attacker's own images; what all members of a sweep share, on the device."""

    images: Array  # uint8 [N, H, W, C]
    labels: Array | None  # int32 [N], where the attacker has them


class Sending(NamedTuple):
    """How secrets are sent, and the scale of what is hidden in them."""

    encode: Partial
    scales: reader.Scales


class Batch(NamedTuple):
    """Secrets of the attacker's own, and what crossed the cut for them."""

    magnified: Array  # [B, ..., 2c]
    secrets: Images  # [B, H, W, C]
    labels: Array | None  # int32 [B], of the secrets


def stegos(knowledge: Knowledge, key: Key) -> tuple[Public, Sending]:
    """What `draw` reads, with scales measured on some pairs; consumes key."""
    query = traceable(needed(knowledge.query))
    encode = traceable(needed(knowledge.encode))
    images = needed(knowledge.public_images)
    scales = _measure(query, encode, images, key)
    public = Public(images, knowledge.public_labels)
    return public, Sending(encode, scales)


def draw(
    size: int, key: Key, index: Array | int, shared: Public, own: Sending
) -> Batch:
    """The pairs of step `index`: an epoch has every image as secret and as cover once.

    Args:
      size: pairs; static.
      key: the run's, the same at every step; only folded.
      index: of the step; traced.
      shared, own: see `stegos`.
    """
    order_key, encode_key = jax.random.split(key)
    cover, secret, chosen = _pair(shared.images, order_key, index, size)
    features = own.encode(jax.random.fold_in(encode_key, index), secret, cover)
    labels = None if shared.labels is None else shared.labels[chosen]
    return Batch(reader.magnify(own.scales, features), secret, labels)


def magnified_shape(feature_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one image's features as `draw` gives them."""
    return (*feature_shape[:-1], 2 * feature_shape[-1])


@jax.jit
def _measure(query: Partial, encode: Partial, images: Bytes, key: Key) -> reader.Scales:
    order_key, secret_key, cover_key, origin_key = jax.random.split(key, 4)
    cover, secret, _ = _pair(images, order_key, 0, min(_MEASURED, len(images)))
    origin = query(origin_key, jnp.zeros_like(cover)).mean(0)
    sent = encode(secret_key, secret, cover)
    return reader.measure_scales(origin, query(cover_key, cover), sent)


def _pair(
    images: Array, key: Key, index: Any, size: int
) -> tuple[Images, Images, Array]:
    """Covers, secrets, and the rows of these."""
    rows = [
        epoch_indices(k, index, size, len(images)) for k in jax.random.split(key, 2)
    ]
    cover, secret = (pixels(images, chosen) for chosen in rows)
    return cover, secret, rows[1]
