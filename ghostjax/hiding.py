"""How invisible hidden secrets are, how well the receiver reads them, what is added.

On the test split, secrets in the covers they are asked about in, whatever is attacked:
GHOST Table III (cover against stego, average, largest and smallest) and what it leaves
out, the revealed secret, without which an invisible stego may hide nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import metrics
from ghostjax.base import Defense, Stego
from ghostjax.data import Split
from ghostjax.utility import Pairs

_PAIRS = 1000  # test pairs, at most
_BATCH = 250
_SHOWN = 10  # examples kept for pictures
_MARGIN = 1.0  # dB by which a revealed secret must beat the mean image


class Hiding(NamedTuple):
    """What `measure` found."""

    row: dict[str, Any]  # flat columns
    arrays: dict[str, np.ndarray]  # the first examples, for pictures


def measure(
    stego: Stego,
    learned: Any,
    defense: Defense,
    params: Any,
    test: Split,
    pairs: Pairs,
    train: Split,
    bits: int = 0,
) -> Hiding:
    """The first 1000 pairs.

    Args:
      stego, learned: the method and what it learned.
      defense, params: what may perturb the stego.
      test: images and labels.
      pairs: secrets and covers, rows of it.
      train: for the mean image.
      bits: zeta, recorded for the pictures; 0: no low bits.

    Returns:
      `metrics.summarise` of PSNR and SSIM of cover_stego and revealed_secret, and their
      `_max` and `_min` over the images; psnr_mean_image_secret, what revealed secrets
      must beat; of a defense that perturbs, PSNR and SSIM of cover_perturbed and the
      perturbation's norms, perturbation_l2 and perturbation_linf, pixels in [0, 1]; and
      examples.
    """
    mean = _mean(train)
    found: dict[str, list[np.ndarray]] = {}
    score = _scores(stego, defense.perturb)
    for start in range(0, min(len(pairs.secrets), _PAIRS), _BATCH):
        rows = slice(start, min(start + _BATCH, _PAIRS))
        secret, cover = (test.images[part[rows]] for part in pairs)
        for name, values in score(learned, params, cover, secret, mean).items():
            found.setdefault(name, []).append(np.asarray(values))
    row: dict[str, Any] = {}
    for name, values in found.items():
        joined = np.concatenate(values)
        summary = metrics.summarise(joined)._asdict()
        finite = joined[np.isfinite(joined)]
        if finite.size and name != "psnr_mean_image_secret":
            summary |= {"max": float(finite.max()), "min": float(finite.min())}
        row |= {f"{name}_{part}": value for part, value in summary.items()}
    shown = _examples(stego, learned, defense, params, test, pairs)
    return Hiding(row, {**shown, "bits": np.int32(bits)})


def require_hidden(stego: Stego, learned: Any, train: Split) -> None:
    """Refuses a trained method that hides nothing, before anything is built on it.

    Args:
      stego, learned: the method and what it learned; one that learns nothing passes.
      train: 250 of its images, evenly spread, are the secrets, each in another of them.

    Raises:
      ValueError: the mean PSNR of revealed secrets is not 1 dB above that of the mean
        training image against them.
    """
    if not jax.tree.leaves(learned):
        return
    secret = train.images[:: max(1, len(train.images) // _BATCH)][:_BATCH]
    found = _scores(stego, None)(
        learned, None, np.roll(secret, 1, 0), secret, _mean(train)
    )
    revealed, mean_image = (
        metrics.summarise(found[f"psnr_{name}_secret"]).mean
        for name in ("revealed", "mean_image")
    )
    if not revealed >= mean_image + _MARGIN:
        raise ValueError(
            f"the stego network hides nothing: what it reveals is {revealed:.1f} dB "
            f"from the secrets, the mean training image {mean_image:.1f} dB; train "
            "longer, raise stego.beta, or take stego.distance = 'squared'"
        )


def _mean(train: Split) -> np.ndarray:
    return train.images.mean(0, dtype=np.float64).astype(np.float32) / 255


def _examples(
    stego: Stego, learned: Any, defense: Defense, params: Any, test: Split, pairs: Pairs
) -> dict[str, np.ndarray]:
    secret, cover = (test.images[part[:_SHOWN]] for part in pairs)
    pixels = [jnp.asarray(x, jnp.float32) / 255 for x in (cover, secret)]
    hidden = jax.jit(stego.hide)(learned, *pixels)
    made = {"stego": hidden, "revealed": jax.jit(stego.reveal)(learned, hidden)}
    if defense.perturb:
        made["perturbed"] = jax.jit(defense.perturb)(params, hidden, pixels[1])
    arrays = {k: np.asarray(jnp.round(255 * x), np.uint8) for k, x in made.items()}
    labels = (test.labels[part[:_SHOWN]] for part in pairs)
    arrays |= dict(zip(("secret_label", "cover_label"), labels, strict=True))
    return {"secret": secret, "cover": cover, **arrays}


@lru_cache(maxsize=16)
def _scores(stego: Stego, perturb: Callable | None) -> Callable[..., dict[str, Any]]:
    def score(learned, params, cover, secret, mean):
        cover, secret = (jnp.asarray(x, jnp.float32) / 255 for x in (cover, secret))
        hidden = stego.hide(learned, cover, secret)
        revealed = stego.reveal(learned, hidden)
        constant = jnp.broadcast_to(mean, secret.shape)
        found = {
            **_both("cover_stego", cover, hidden),
            **_both("revealed_secret", revealed, secret),
            "psnr_mean_image_secret": metrics.psnr(constant, secret),
        }
        if perturb:
            shown = perturb(params, hidden, secret)
            change = (shown - hidden).reshape(len(shown), -1)
            found |= _both("cover_perturbed", cover, shown)
            found["perturbation_l2"] = jnp.sqrt((change**2).sum(1))
            found["perturbation_linf"] = jnp.abs(change).max(1)
        return found

    return jax.jit(score)


def _both(name: str, one: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
    return {
        f"psnr_{name}": metrics.psnr(one, other),
        f"ssim_{name}": metrics.ssim(one, other),
    }
