"""What an attacker who is a user himself trains on: secrets of his own, as sent.

He has the user's edge with all that it does (the app is public). He lets it hide images
he has in other images he has, and so gets features whose secret, and its label, he
knows. The inputs of his networks are features at the scale of the hidden signal and at
their own (`covert.magnify`), as the receiver's covert branch reads them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.pairs import pixels, traceable
from ghostjax.base import Images, Key, Knowledge
from ghostjax.defenses import covert
from ghostjax.sampling import epoch_indices

_MEASURED = 512  # pairs that the scales are measured on


class Stegos(NamedTuple):
    """What a step that draws stego pairs reads; on the device."""

    encode: Partial
    images: Array  # uint8 [N, H, W, C]
    labels: Array | None  # int32 [N], of the attacker who has them
    scales: covert.Scales


class Batch(NamedTuple):
    """Secrets of his own, and what crossed the cut for them."""

    magnified: Array  # [B, ..., 2c]
    secrets: Images  # [B, H, W, C]
    labels: Array | None  # int32 [B], of the secrets


def stegos(knowledge: Knowledge, key: Key) -> Stegos:
    """The data for `draw`, with scales measured on some pairs; consumes key."""
    order_key, secret_key, cover_key, origin_key = jax.random.split(key, 4)
    query, encode = traceable(knowledge.query), traceable(knowledge.encode)
    images, labels = knowledge.public_images, knowledge.public_labels
    cover, secret, _ = _pair(images, order_key, 0, min(_MEASURED, len(images)))
    origin = query(origin_key, jnp.zeros_like(cover)).mean(0)
    sent = encode(secret_key, secret, cover)
    scales = covert.measure_scales(origin, query(cover_key, cover), sent)
    return Stegos(encode, images, labels, scales)


def draw(size: int, key: Key, index: Array | int, data: Stegos) -> Batch:
    """The pairs of step `index`: an epoch has every image as secret and as cover once.

    Args:
      size: pairs; static.
      key: the run's, the same at every step; only folded.
      index: of the step; traced.
      data: see `stegos`.
    """
    order_key, encode_key = jax.random.split(key)
    cover, secret, chosen = _pair(data.images, order_key, index, size)
    features = data.encode(jax.random.fold_in(encode_key, index), secret, cover)
    labels = None if data.labels is None else data.labels[chosen]
    return Batch(covert.magnify(data.scales, features), secret, labels)


def _pair(
    images: Array, key: Key, index: Any, size: int
) -> tuple[Images, Images, Array]:
    """Covers, secrets, and the rows of these."""
    rows = [
        epoch_indices(k, index, size, len(images)) for k in jax.random.split(key, 2)
    ]
    cover, secret = (pixels(images, chosen) for chosen in rows)
    return cover, secret, rows[1]
