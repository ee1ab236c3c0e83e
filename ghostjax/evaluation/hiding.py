"""How invisible hidden secrets are, how well the receiver reads them, what is added.

On the test split, secrets in the covers they are asked about in, whatever is attacked:
GHOST Table III (cover against stego, average, largest and smallest) and what it leaves
out, the revealed secret, without which an invisible stego may hide nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax.base import Defense, Images, Params, Stego
from ghostjax.data import Split
from ghostjax.evaluation import metrics
from ghostjax.evaluation.accuracy import Pairs
from ghostjax.evaluation.answers import batches
from ghostjax.pixels import as_bytes, as_float

__all__ = ["Hider", "Hiding", "hidden", "mean_image", "measure", "require_hidden"]

_PAIRS = 1000  # test pairs, at most
_BATCH = 250
_SHOWN = 10  # examples kept for pictures
_MARGIN = 1.0  # dB by which a revealed secret must beat the mean image


class Hiding(NamedTuple):
    """What `measure` has found."""

    row: dict[str, Any]  # flat columns
    arrays: dict[str, np.ndarray]  # the first examples, for pictures


class Hider(NamedTuple):
    """Who hides: a stego method and what it has learned, a defense and its params."""

    stego: Stego
    learned: Params
    defense: Defense
    params: Params


def measure(hider: Hider, test: Split, pairs: Pairs, train: Split) -> Hiding:
    """The first 1000 pairs.

    Args:
      hider: what hides, and may perturb the stego.
      test: images and labels.
      pairs: secrets and covers, rows of it.
      train: for the mean image.

    Returns:
      `metrics.summarise` of PSNR and SSIM of cover_stego and revealed_secret, and their
      `_max` and `_min` over the images; psnr_mean_image_secret, what revealed secrets
      must beat; of a defense that perturbs, PSNR and SSIM of cover_perturbed and the
      perturbation's norms, perturbation_l2 and perturbation_linf, pixels in [0, 1]; and
      examples.
    """
    mean = mean_image(train)
    values: dict[str, list[np.ndarray]] = {}
    for part in batches(min(len(pairs.secrets), _PAIRS), _BATCH):
        secret, cover = (test.images[rows[part.rows]] for rows in pairs)
        scores = _scores(
            hider.stego,
            hider.defense.perturb,
            (hider.learned, hider.params),
            cover,
            secret,
            mean,
        )
        for name, score in scores.items():
            values.setdefault(name, []).append(np.asarray(score)[: part.count])
    row: dict[str, Any] = {}
    for name, parts in values.items():
        joined = np.concatenate(parts)
        summary = metrics.summarise(joined)._asdict()
        finite = joined[np.isfinite(joined)]
        if finite.size and name != "psnr_mean_image_secret":
            summary |= {"max": float(finite.max()), "min": float(finite.min())}
        row |= {f"{name}_{part}": value for part, value in summary.items()}
    low_bits = np.asarray(hider.stego.low_bits(hider.learned), np.int32)
    return Hiding(row, {**_examples(hider, test, pairs), "bits": low_bits})


def require_hidden(stego: Stego, learned: Params, train: Split) -> None:
    """Refuses a trained method that hides nothing, before anything is built on it.

    Args:
      stego, learned: the method and what it has learned.
      train: 250 of its images, evenly spread, are the secrets, each in another of them.

    Raises:
      ValueError: the mean PSNR of revealed secrets is not 1 dB above that of the mean
        training image against them.
    """
    secret = train.images[:: max(1, len(train.images) // _BATCH)][:_BATCH]
    cover, mean = np.roll(secret, 1, 0), mean_image(train)
    scores = _scores(stego, None, (learned, None), cover, secret, mean)
    revealed, guessed = (
        metrics.summarise(scores[f"psnr_{name}_secret"]).mean
        for name in ("revealed", "mean_image")
    )
    if not revealed >= guessed + _MARGIN:
        raise ValueError(
            f"the stego network hides nothing: what it reveals is {revealed:.1f} dB "
            f"from the secrets, the mean training image {guessed:.1f} dB; train "
            "longer, raise stego.beta, or take stego.distance = 'squared'"
        )


def mean_image(train: Split) -> np.ndarray:
    """float32 [H, W, C] in [0, 1]."""
    return train.images.mean(0, dtype=np.float64).astype(np.float32) / 255


@partial(jax.jit, static_argnums=(0, 1))
def hidden(
    stego: Stego,
    perturb: Callable[..., Images] | None,
    learned: tuple[Params, Params],
    cover: Images,
    secret: Images,
) -> dict[str, Images]:
    """The pictures on the way: stego, revealed and, with a `perturb`, perturbed.

    Args:
      stego, perturb: static; `perturb` as in `base.Defense`.
      learned: what the stego method has learned, and the defense's params.
      cover, secret: [B, H, W, C].
    """
    stegos = stego.hide(learned[0], cover, secret)
    pictures = {"stego": stegos, "revealed": stego.reveal(learned[0], stegos)}
    if perturb is not None:
        pictures["perturbed"] = perturb(learned[1], stegos, secret)
    return pictures


def _examples(hider: Hider, test: Split, pairs: Pairs) -> dict[str, np.ndarray]:
    rows = pairs.secrets[:_SHOWN], pairs.covers[:_SHOWN]
    secret, cover = (test.images[part] for part in rows)
    pictures = hidden(
        hider.stego,
        hider.defense.perturb,
        (hider.learned, hider.params),
        as_float(cover),
        as_float(secret),
    )
    shown = {name: as_bytes(np.asarray(x)) for name, x in pictures.items()}
    labels = dict(
        zip(
            ("secret_label", "cover_label"),
            (test.labels[part] for part in rows),
            strict=True,
        )
    )
    return {"secret": secret, "cover": cover, **shown, **labels}


@partial(jax.jit, static_argnums=(0, 1))
def _scores(
    stego: Stego,
    perturb: Callable[..., Images] | None,
    learned: tuple[Params, Params],
    cover: Any,
    secret: Any,
    mean: Any,
) -> dict[str, Any]:
    cover, secret = as_float(cover), as_float(secret)
    pictures = hidden(stego, perturb, learned, cover, secret)
    stegos = pictures["stego"]
    constant = jnp.broadcast_to(mean, secret.shape)
    scores = {
        **_both("cover_stego", cover, stegos),
        **_both("revealed_secret", pictures["revealed"], secret),
        "psnr_mean_image_secret": metrics.psnr(constant, secret),
    }
    if perturb is not None:
        shown = pictures["perturbed"]
        change = (shown - stegos).reshape(len(shown), -1)
        scores |= _both("cover_perturbed", cover, shown)
        scores["perturbation_l2"] = jnp.sqrt((change**2).sum(1))
        scores["perturbation_linf"] = jnp.abs(change).max(1)
    return scores


def _both(name: str, one: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
    return {
        f"psnr_{name}": metrics.psnr(one, other),
        f"ssim_{name}": metrics.ssim(one, other),
    }
