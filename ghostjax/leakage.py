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
from ghostjax.attacks.probe import Probe
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
    denoised: bool = False,
    probe: Probe | None = None,
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
      denoised: it is `denoise` over another, whose pictures are read out too: what is
        smooth has lost its low bits.
      probe: guesses the secrets' labels from the features.
      say: told when a chunk was too large for the memory.

    Returns:
      Row columns (see `metrics.summarise`): reconstruction against secret, cover and
      stego; the secret extracted from the reconstruction and, where that is denoised,
      from what it was before; baselines against the secret; and examples and metrics.
    """
    fit_key, encode_key, invert_key = jax.random.split(key, 3)
    secret, cover = (_pixels(x) for x in (targets.secrets, targets.covers))
    extracts = stego is not None and not reads_secrets
    attacker = extract(attack, stego) if extracts else attack
    began = time.monotonic()
    own = limit(knowledge, attacker.needs)
    learned, history = attacker.fit(fit_key, own, train)
    fitted = time.monotonic()
    keys = jax.random.split(encode_key, queries)
    encode = jax.jit(defense.encode)
    samples = [encode(params, own_key, secret, cover) for own_key in keys]
    features = average(jnp.stack(samples), known_zeros)
    found, trace = in_chunks(attacker, say=say).invert(learned, invert_key, features)
    found = jax.block_until_ready(found)
    row: dict[str, Any] = {
        "seconds_attack_fit": fitted - began,
        "seconds_attack": time.monotonic() - fitted,
    }
    if probe is not None:
        own_key = jax.random.fold_in(fit_key, 1)
        hits, more = _probed(probe, knowledge, own_key, train, features, targets)
        history = {**history, **more}
        row["accuracy_probe"] = 100 * float(hits.mean())
        row["accuracy_probe_n"] = len(hits)
    pixels = {"secret": secret, "reconstruction": found}
    if extracts:
        pixels |= {"reconstruction": trace["images"], "extracted": found}
    if extracts and denoised:
        noisy = trace["trace"]["images"]
        read = jax.jit(stego.reveal)(knowledge.stego_params, noisy)
        pixels["extracted_before"] = read
    if stego is not None:
        hidden = jax.jit(stego.hide)(knowledge.stego_params, cover, secret)
        revealed = jax.jit(stego.reveal)(knowledge.stego_params, hidden)
        pixels |= {"cover": cover, "stego": hidden, "revealed": revealed}
        if defense.perturb:
            pixels["perturbed"] = jax.jit(defense.perturb)(params, hidden, secret)
    row |= _scores(pixels) | _trivial(train_split, secret, targets.labels)
    answer = jax.jit(defense.answer)(params, samples[0]).argmax(-1)
    about = {"answer": np.asarray(answer), "secret_label": targets.labels}
    if stego is not None:
        about["cover_label"] = targets.cover_labels
    shown = {name: jnp.round(255 * x[:_SHOWN]) for name, x in pixels.items()}
    arrays = {name: np.asarray(x, np.uint8) for name, x in shown.items()}
    arrays |= {name: labels[:_SHOWN] for name, labels in about.items()}
    arrays["bits"] = np.int32(bits if stego else 0)
    arrays["denoised"] = np.int32(denoised)
    return Leakage(row, arrays, history)


def _pixels(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images, jnp.float32) / 255


def _probed(
    probe: Probe,
    knowledge: Knowledge,
    key: jax.Array,
    train: Callable[..., Any],
    features: jax.Array,
    targets: Targets,
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Whether each secret's label was guessed [n], and the training's metrics."""
    learned, history = probe.fit(key, limit(knowledge, probe.needs), train)
    guessed = np.asarray(jax.jit(probe.answer)(learned, features).argmax(-1))
    return guessed == targets.labels, history


def _scores(pixels: Mapping[str, jax.Array]) -> dict[str, Any]:
    """Columns of every pair of pictures that says something."""
    pairs = (
        ("reconstruction", "secret"),
        ("reconstruction", "cover"),
        ("reconstruction", "stego"),
        ("reconstruction", "perturbed"),
        ("extracted", "secret"),
        ("extracted_before", "secret"),
    )
    row: dict[str, Any] = {}
    for one, other in pairs:
        if one in pixels and other in pixels:
            row |= _compare(f"{one}_{other}", pixels[one], pixels[other])
    return row


def _trivial(train_split: Split, secret: jax.Array, labels: np.ndarray) -> dict:
    """Mean scores of pictures that need no features, where they are defined: `ssim7`
    is not for constant ones."""
    made = baselines.pictures(train_split.images, train_split.labels, secret, labels)
    row: dict[str, Any] = {}
    for name, picture in made.items():
        compared = _compare(f"{name}_secret", picture, secret)
        means = {k: v for k, v in compared.items() if k.endswith("_mean")}
        row |= {key: value for key, value in means.items() if np.isfinite(value)}
    return row


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
