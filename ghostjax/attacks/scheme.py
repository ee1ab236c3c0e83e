"""What an attacker who knows the scheme trains on: stego pairs of his own.

He hides images he has in other images he has, as the user does, sends them through the
edge, and so gets features whose secret, and its label, he knows. The inputs of his
networks are features at the scale of the hidden signal and at their own
(`covert.magnify`), as the receiver's covert branch reads them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from ghostjax.attacks.pairs import pixels, traceable
from ghostjax.base import Images, Key, Knowledge, Stego
from ghostjax.defenses import covert
from ghostjax.sampling import epoch_indices

_MEASURED = 512  # pairs that the scales are measured on


class Stegos(NamedTuple):
    """What a step that draws stego pairs reads; on the device."""

    query: Partial
    images: Array  # uint8 [N, H, W, C]
    labels: Array | None  # int32 [N], of the attacker who has them
    stego: Any  # what the stego method learned
    scales: covert.Scales


class Batch(NamedTuple):
    """Stego pairs as they crossed the cut."""

    magnified: Array  # [B, ..., 2c]
    secrets: Images  # [B, H, W, C]
    labels: Array | None  # int32 [B], of the secrets


def stegos(knowledge: Knowledge, stego: Stego | None, key: Key) -> Stegos:
    """The data for `draw`, with scales measured on some pairs; consumes key."""
    order_key, stego_key, cover_key, origin_key = jax.random.split(key, 4)
    query, images = traceable(knowledge.query), knowledge.public_images
    learned, labels = knowledge.stego_params, knowledge.public_labels
    cover, _, hidden = _pair(
        stego, learned, images, order_key, 0, min(_MEASURED, len(images))
    )
    origin = query(origin_key, jnp.zeros_like(cover)).mean(0)
    scales = covert.measure_scales(
        origin, query(cover_key, cover), query(stego_key, hidden)
    )
    return Stegos(query, images, labels, learned, scales)


def draw(
    stego: Stego | None, size: int, key: Key, index: Array | int, data: Stegos
) -> Batch:
    """The pairs of step `index`: an epoch has every image as secret and as cover once.

    Args:
      stego: the method; None: nothing is hidden, secrets are sent as they are.
      size: pairs; static.
      key: the run's, the same at every step; only folded.
      index: of the step; traced.
      data: see `stegos`.
    """
    order_key, query_key = jax.random.split(key)
    _, chosen, hidden = _pair(stego, data.stego, data.images, order_key, index, size)
    features = data.query(jax.random.fold_in(query_key, index), hidden)
    labels = None if data.labels is None else data.labels[chosen]
    magnified = covert.magnify(data.scales, features)
    return Batch(magnified, pixels(data.images, chosen), labels)


def _pair(
    stego: Stego | None, learned: Any, images: Array, key: Key, index: Any, size: int
) -> tuple[Images, Array, Images]:
    """Covers, rows of the secrets, and the secrets in those covers."""
    rows = [
        epoch_indices(k, index, size, len(images)) for k in jax.random.split(key, 2)
    ]
    cover, secret = (pixels(images, chosen) for chosen in rows)
    hidden = secret if stego is None else stego.hide(learned, cover, secret)
    return cover, rows[1], hidden
