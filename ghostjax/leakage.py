"""What an attack got out of the features, in dB and SSIM, against every picture."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import metrics
from ghostjax.base import Attack, Defense, Knowledge, Stego, limit
from ghostjax.utility import Pairs

_BATCH = 128  # targets inverted at once
_SHOWN = 8  # examples kept for pictures


def measure(
    attack: Attack,
    knowledge: Knowledge,
    defense: Defense,
    params: Any,
    key: jax.Array,
    images: np.ndarray,
    labels: np.ndarray,
    pairs: Pairs,
    count: int,
    *,
    stego: Stego | None,
    bits: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Attacks the features of the first `count` pairs.

    Args:
      attack: handed only the knowledge it declares, and the features.
      knowledge: all that this threat model gives.
      defense, params: what encodes the secrets.
      key: consumed by the defense's noise and the attack.
      images: test split, uint8 [N, H, W, C].
      labels: int32 [N].
      pairs: secrets and their covers.
      count: how many are attacked; all pairs if there are fewer.
      stego: the hiding method, or None where the defense hides nothing.
      bits: zeta, recorded for the pictures.

    Returns:
      Flat row columns (see `metrics.summarise`) for reconstruction against secret,
      cover and stego, cover against stego, and the secret extracted from the
      reconstruction; and the first 8 examples as arrays for pictures.
    """
    secrets, covers = pairs.secrets[:count], pairs.covers[:count]
    shown = {"secret": images[secrets], "cover": images[covers]}
    pixels = {name: jnp.asarray(x, jnp.float32) / 255 for name, x in shown.items()}
    fit_key, encode_key, invert_key = jax.random.split(key, 3)
    attacker = attack.fit(fit_key, limit(knowledge, attack.needs))
    encode = jax.jit(defense.encode)
    features = encode(params, encode_key, pixels["secret"], pixels["cover"])
    answer = np.asarray(jax.jit(defense.answer)(params, features).argmax(-1))
    began = time.monotonic()
    pixels["reconstruction"] = _invert(attack, attacker, invert_key, features)
    seconds = time.monotonic() - began
    pairings = [("reconstruction", "secret")]
    if stego is None:
        del pixels["cover"]
    else:
        hide, reveal = jax.jit(stego.hide), jax.jit(stego.reveal)
        pixels["stego"] = hide((), pixels["cover"], pixels["secret"])
        pixels["revealed"] = reveal((), pixels["stego"])
        pixels["extracted"] = reveal((), pixels["reconstruction"])
        pairings += [
            ("reconstruction", "cover"),
            ("reconstruction", "stego"),
            ("cover", "stego"),
            ("revealed", "secret"),
            ("extracted", "secret"),
        ]
    row: dict[str, Any] = {"seconds_attack": seconds}
    for one, other in pairings:
        row |= _compare(f"{one}_{other}", pixels[one], pixels[other])
    arrays = {
        name: np.asarray(jnp.round(255 * x[:_SHOWN]), np.uint8)
        for name, x in pixels.items()
    }
    arrays |= {
        "secret_label": labels[secrets][:_SHOWN],
        "answer": answer[:_SHOWN],
        "bits": np.asarray(bits),
    }
    if stego is not None:
        arrays["cover_label"] = labels[covers][:_SHOWN]
    return row, arrays


def _invert(attack: Attack, params: Any, key: jax.Array, features: Any) -> jax.Array:
    images = []
    for start in range(0, len(features), _BATCH):
        own = jax.random.fold_in(key, start)
        images.append(attack.invert(params, own, features[start : start + _BATCH])[0])
    return jax.block_until_ready(jnp.concatenate(images))


def _compare(name: str, one: jax.Array, other: jax.Array) -> dict[str, Any]:
    row = {}
    scores = {
        "psnr": metrics.psnr(one, other),
        "psnr8": metrics.psnr(one, other, rounded=True),
        "ssim": metrics.ssim(one, other),
    }
    for score, values in scores.items():
        summary = metrics.summarise(values)._asdict()
        row |= {f"{score}_{name}_{part}": value for part, value in summary.items()}
    return row
