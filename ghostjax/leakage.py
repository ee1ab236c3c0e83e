"""What an attack got out of the features, in dB and SSIM, against every picture."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import baselines, metrics
from ghostjax.attacker import Targets
from ghostjax.attacks.chunks import in_chunks
from ghostjax.attacks.extract import extract
from ghostjax.attacks.observe import average
from ghostjax.base import Attack, Defense, Knowledge, Stego, limit
from ghostjax.data import Split

_SHOWN = 10  # examples kept for pictures


class Leakage(NamedTuple):
    """What `measure` found."""

    row: dict[str, Any]  # flat columns
    arrays: dict[str, np.ndarray]  # the first examples, for pictures
    metrics: Mapping[str, Any]  # of what the attacker trained, {part: {name: [steps]}}


def measure(
    attack: Attack,
    knowledge: Knowledge,
    defense: Defense,
    params: Any,
    key: jax.Array,
    targets: Targets,
    train_split: Split,
    *,
    train: Callable[..., Any],
    stego: Stego | None = None,
    bits: int = 0,
    queries: int = 1,
    known_zeros: bool = False,
    reads_secrets: bool = False,
    say: Callable[[str], None] = print,
) -> Leakage:
    """Attacks the features of the targets.

    Args:
      attack: handed only the knowledge it declares, and the features.
      knowledge: all that this threat model gives.
      defense, params: what encodes the secrets.
      key: consumed by the defense's noise and the attack.
      targets: what is attacked.
      train_split: for the trivial baselines.
      train: `train.fit` or another with its signature, for what the attacker trains.
      stego: the hiding method, or None where the defense hides nothing.
      bits: zeta, recorded for the pictures.
      queries: how often each target is sent, with fresh noise; see `observe.average`.
      known_zeros: the attacker takes zeros for dropout's.
      reads_secrets: the attack gives secrets, not what entered the edge.
      say: told when a chunk was too large for the memory.

    Returns:
      Row columns (see `metrics.summarise`): reconstruction against secret, cover and
      stego; cover against stego; the secret extracted from the reconstruction;
      baselines against the secret; and examples and metrics.
    """
    shown = {"secret": targets.secrets, "cover": targets.covers}
    pixels = {name: jnp.asarray(x, jnp.float32) / 255 for name, x in shown.items()}
    extracts = stego is not None and not reads_secrets
    attacker = extract(attack, stego) if extracts else attack
    fit_key, encode_key, invert_key = jax.random.split(key, 3)
    began = time.monotonic()
    own = limit(knowledge, attacker.needs)
    learned, history = attacker.fit(fit_key, own, train)
    fitted = time.monotonic()
    encode = jax.jit(defense.encode)
    images = pixels["secret"], pixels["cover"]
    samples = [
        encode(params, k, *images) for k in jax.random.split(encode_key, queries)
    ]
    answer = np.asarray(jax.jit(defense.answer)(params, samples[0]).argmax(-1))
    features = average(jnp.stack(samples), known_zeros)
    found, trace = in_chunks(attacker, say=say).invert(learned, invert_key, features)
    found = jax.block_until_ready(found)
    row: dict[str, Any] = {
        "seconds_attack_fit": fitted - began,
        "seconds_attack": time.monotonic() - fitted,
    }
    pairings = [("reconstruction", "secret")]
    if stego is None:
        del pixels["cover"]
        pixels["reconstruction"] = found
    else:
        pixels["reconstruction"] = trace["images"] if extracts else found
        hidden = knowledge.stego_params
        pixels["stego"] = jax.jit(stego.hide)(hidden, *images[::-1])
        pixels["revealed"] = jax.jit(stego.reveal)(hidden, pixels["stego"])
        pairings += [
            ("reconstruction", "cover"),
            ("reconstruction", "stego"),
            ("cover", "stego"),
            ("revealed", "secret"),
        ]
        if extracts:
            pixels["extracted"] = found
            pairings += [("extracted", "secret")]
    for one, other in pairings:
        row |= _compare(f"{one}_{other}", pixels[one], pixels[other])
    secret = pixels["secret"]
    row["psnr_reconstruction_secret_best"] = float(
        metrics.psnr(pixels["reconstruction"], secret).max()
    )
    trivial = (train_split.images, train_split.labels, secret, targets.labels)
    for name, picture in baselines.pictures(*trivial).items():
        compared = _compare(f"{name}_secret", picture, secret)
        row |= {key: value for key, value in compared.items() if key.endswith("_mean")}
    arrays = {
        name: np.asarray(jnp.round(255 * x[:_SHOWN]), np.uint8)
        for name, x in pixels.items()
    }
    arrays |= {
        "secret_label": targets.labels[:_SHOWN],
        "answer": answer[:_SHOWN],
        "bits": np.int32(bits if stego else 0),
    }
    if stego is not None:
        arrays["cover_label"] = targets.cover_labels[:_SHOWN]
    return Leakage(row, arrays, history)


def _compare(name: str, one: jax.Array, other: jax.Array) -> dict[str, Any]:
    row = {}
    scores = {
        "psnr": metrics.psnr(one, other),
        "psnr8": metrics.psnr(one, other, rounded=True),
        "ssim": metrics.ssim(one, other),
        "ssim7": metrics.ssim_authors(other, one),
    }
    for score, values in scores.items():
        summary = metrics.summarise(values)._asdict()
        row |= {f"{score}_{name}_{part}": value for part, value in summary.items()}
    return row
