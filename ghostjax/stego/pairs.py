"""GHOST's pairs: which secret is hidden in which cover, drawn on the device.

Source: GHOST, Algorithm 1. It nests secrets and covers, 225 million pairs for CIFAR-10
at 1:9, where its prose hides each secret in *a* cover. We take the prose, with
`covers_per_secret` covers for each secret and epoch, and keep the product for toys.
Only indices are drawn; the step gathers and hides, so no stego image is ever stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ghostjax.base import Bytes, Indices, Key, Rows
from ghostjax.pixels import as_float
from ghostjax.training.sampling import Stream, epoch_indices, stream

__all__ = ["Pool", "choose_covers", "draw_pairs", "least_overlap", "pool"]


class Pool(NamedTuple):
    """What pairs are drawn from; the numbers of covers and secrets are no shapes."""

    covers: Array  # int32 [N]; the first `cover_count` count
    cover_count: ArrayLike  # int32 scalar
    secrets: Array  # int32 [N]
    secret_count: ArrayLike  # int32 scalar
    visits: Stream  # of the pairs of an epoch


def pool(covers: Rows, secrets: Rows, batch: int, covers_per_secret: int) -> Pool:
    """The pool for batches of one size.

    Args:
      covers: rows of public images.
      secrets: rows of sensitive images.
      batch: pairs per step.
      covers_per_secret: visits of each secret in an epoch; 0: an epoch is the full
        product, every secret with every cover.

    Raises:
      ValueError: no covers, no secrets, `covers_per_secret` below 0, or an epoch too
        long for `epoch_indices`.
    """
    if min(covers.count, secrets.count) < 1:
        raise ValueError(
            f"no pair can be drawn from {covers.count} covers and {secrets.count} "
            "secrets"
        )
    if covers_per_secret < 0:
        raise ValueError(
            f"covers_per_secret is {covers_per_secret}: it must be at least 1, or 0 "
            "for the full product"
        )
    epoch = secrets.count * (covers_per_secret or covers.count)
    return Pool(
        covers=jax.device_put(covers.rows),
        cover_count=np.int32(covers.count),
        secrets=jax.device_put(secrets.rows),
        secret_count=np.int32(secrets.count),
        visits=stream(epoch, batch),
    )


def draw_pairs(
    key: Key, step: Array | int, batch: int, data: Pool, covers_per_secret: int
) -> tuple[Indices, Indices]:
    """The pairs of step `step`.

    Args:
      key: the key of the run, the same at every step; only folded.
      step: int32 scalar, from 0; traced.
      batch: pairs per step; static; batches run on over the end of an epoch.
      data: `pool` for this batch and these covers per secret.
      covers_per_secret: as for `pool`; static.

    Returns:
      (rows of covers [batch], rows of secrets [batch]).

    Guarantees:
      An epoch visits every secret exactly `covers_per_secret` times, in pseudo-random
      order, each time with a cover drawn uniformly at random and with replacement.
      The pairs depend on (key, step) alone: a resumed run repeats them.
    """
    order_key, cover_key = (jax.random.fold_in(key, name) for name in range(2))
    visit = epoch_indices(order_key, step, batch, data.visits)
    if not covers_per_secret:
        cover, secret = visit % data.cover_count, visit // data.cover_count
        return data.covers[cover], data.secrets[secret]
    cover_key = jax.random.fold_in(cover_key, step)
    cover = jax.random.randint(cover_key, (batch,), 0, data.cover_count)
    return data.covers[cover], data.secrets[visit // covers_per_secret]


def choose_covers(
    key: Key,
    images: Bytes,
    cover: Indices,
    secret: Indices,
    data: Pool,
    candidates: int,
) -> Indices:
    """For each secret the least overlapped of `cover` and further random covers.

    Args:
      key: of the step; consumed.
      images: uint8 [N, H, W, C].
      cover, secret: int32 [B], the step's pairs.
      data: what further covers are drawn from.
      candidates: how many there are to choose from; 1: `cover` as it is. Static.

    Returns:
      int32 [B].
    """
    if candidates == 1:
        return cover
    shape = cover.shape[0], candidates - 1
    others = data.covers[jax.random.randint(key, shape, 0, data.cover_count)]
    return least_overlap(images, jnp.concatenate([cover[:, None], others], 1), secret)


def least_overlap(images: Bytes, candidates: Indices, secrets: Indices) -> Indices:
    """Of each secret's candidate covers the one that it overlaps least.

    The edge knows both images and may choose the cover; where a bright cover lies over
    the secret, the frozen edge mixes their features and the secret is hard to read.
    Overlap is the sum over pixels of cover times secret. The choice itself tells a
    little about the secret.

    Args:
      images: uint8 [N, H, W, C].
      candidates: int32 [B, k], rows of `images`.
      secrets: int32 [B].

    Returns:
      int32 [B], one of each row of `candidates`.
    """
    overlap = as_float(images[candidates])
    overlap *= images[secrets][:, None].astype(jnp.float32)
    best = overlap.sum((2, 3, 4)).argmin(1)
    return jnp.take_along_axis(candidates, best[:, None], 1)[:, 0]
