"""GHOST's pairs: which secret is hidden in which cover, drawn on the device.

Source: GHOST, Algorithm 1. It nests secrets and covers, 225 million pairs for CIFAR-10
at 1:9, where its prose hides each secret in *a* cover. We take the prose, with
`covers_per_secret` covers for each secret and epoch, and keep the product for toys.
Only indices are drawn; the step gathers and hides, so no stego image is ever stored.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.sampling import epoch_indices


def draw(
    key: Array,
    step: Array | int,
    batch: int,
    covers: Array,
    secrets: Array,
    covers_per_secret: int = 1,
    *,
    full_product: bool = False,
) -> tuple[Array, Array]:
    """The pairs of step `step`.

    Args:
      key: the key of the run, the same at every step; only folded.
      step: int32 scalar, from 0; traced.
      batch: pairs per step; static; batches run on over the end of an epoch.
      covers: int32 [n], indices of public images.
      secrets: int32 [m], indices of sensitive images.
      covers_per_secret: visits of each secret in an epoch of m * covers_per_secret
        pairs; static.
      full_product: instead, an epoch is every secret with every cover, m * n pairs;
        static.

    Returns:
      (indices out of `covers` [batch], indices out of `secrets` [batch]).

    Guarantees:
      An epoch visits every secret exactly `covers_per_secret` times, in pseudo-random
      order, each time with a cover drawn uniformly at random and with replacement.
      The pairs depend on (key, step) alone: a resumed run repeats them.

    Raises:
      ValueError: no covers, no secrets, `covers_per_secret` below 1, both options at
        once, or an epoch too long for `epoch_indices`.
    """
    n, m = covers.shape[0], secrets.shape[0]
    if n < 1 or m < 1:
        raise ValueError(f"no pair can be drawn from {n} covers and {m} secrets")
    if covers_per_secret < 1 or (full_product and covers_per_secret != 1):
        raise ValueError(
            f"covers_per_secret is {covers_per_secret}: it must be at least 1, and 1 "
            "with full_product, which visits every cover anyway"
        )
    order_key, cover_key = (jax.random.fold_in(key, name) for name in range(2))
    if full_product:
        pair = epoch_indices(order_key, step, batch, m * n)
        return covers[pair % n], secrets[pair // n]
    visit = epoch_indices(order_key, step, batch, m * covers_per_secret)
    chosen = jax.random.randint(jax.random.fold_in(cover_key, step), (batch,), 0, n)
    return covers[chosen], secrets[visit // covers_per_secret]


def choose_covers(
    key: Array,
    images: Array,
    cover: Array,
    secret: Array,
    covers: Array,
    candidates: int,
) -> Array:
    """For each secret the least overlapped of `cover` and further random covers.

    Args:
      key: of the step; consumed.
      images: uint8 [N, H, W, C].
      cover, secret: int32 [B], the step's pairs.
      covers: int32 [n], what further covers are drawn from.
      candidates: how many there are to choose from; 1: `cover` as it is. Static.

    Returns:
      int32 [B].
    """
    if candidates == 1:
        return cover
    others = jax.random.choice(key, covers, (cover.shape[0], candidates - 1))
    return least_overlap(images, jnp.concatenate([cover[:, None], others], 1), secret)


def least_overlap(images: Array, candidates: Array, secrets: Array) -> Array:
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
    covers = images[candidates].astype(jnp.float32) / 255
    overlap = covers * images[secrets][:, None].astype(jnp.float32)
    best = overlap.sum((2, 3, 4)).argmin(1)
    return jnp.take_along_axis(candidates, best[:, None], 1)[:, 0]
