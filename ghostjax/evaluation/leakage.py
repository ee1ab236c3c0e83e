"""What an attack got out of the features, in dB and SSIM, against every picture."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax.attacks.chunks import in_chunks
from ghostjax.attacks.extract import extract
from ghostjax.base import (
    Attack,
    Defense,
    Encoder,
    Features,
    Inversion,
    Key,
    Knowledge,
    Params,
    Probe,
    Stego,
    limit,
)
from ghostjax.data import Split
from ghostjax.evaluation import baselines, hiding, metrics
from ghostjax.fields import Hyper
from ghostjax.pixels import as_bytes, as_float
from ghostjax.training.fit import Train, drive

__all__ = ["Leakage", "Learned", "Scene", "Targets", "learn", "measure"]

_SHOWN = 10  # examples kept for pictures


class Targets(NamedTuple):
    """The test images under attack, each with the cover it may be hidden in.

    Where there are fewer secrets than are to be attacked, the first ones follow once
    more: how many there are is no shape of a program.
    """

    secrets: np.ndarray  # uint8 [n, H, W, C]
    labels: np.ndarray  # int32 [n]
    covers: np.ndarray  # uint8 [n, H, W, C]
    cover_labels: np.ndarray  # int32 [n]
    count: int  # type: ignore[assignment]  # the first, that count; hides tuple.count
    queries: int  # how often each is sent, with fresh noise


class Scene(NamedTuple):
    """Who attacks whom."""

    attack: Attack
    hyper: Hyper  # of the attack
    knowledge: Knowledge  # all that this threat model gives
    defense: Defense
    params: Params  # of the defense
    stego: Stego | None  # None where the defense hides nothing

    @property
    def extracts(self) -> bool:
        """Whether secrets are read out of what the attack rebuilds."""
        return self.stego is not None and not self.attack.gives_secrets


class Learned(NamedTuple):
    """What an attacker has learned before it sees a target."""

    params: Params  # of the attack
    probe: Params  # of its probe; None without one
    metrics: Mapping[str, Any]  # {part: {name: [steps]}}
    seconds: float


class Leakage(NamedTuple):
    """What `measure` has found."""

    row: dict[str, Any]  # flat columns
    arrays: dict[str, np.ndarray]  # the first examples, for pictures


def learn(scene: Scene, key: Key, train: Train) -> Learned:
    """Fits the attack and its probe.

    Args:
      scene: the attack is handed only the knowledge that it declares.
      key: that of `measure`; its first third is taken.
      train: runs a training; see `fit.drive`.
    """
    began = time.monotonic()
    fit_key, _, _ = jax.random.split(key, 3)
    attack, hyper, known = scene.attack, scene.hyper, scene.knowledge
    fitting = attack.fit(fit_key, hyper, limit(known, attack.needs))
    params, history = drive(fitting, train)
    probed = None
    if attack.probe is not None:
        probe_key = jax.random.fold_in(fit_key, 1)
        fitting = attack.probe.fit(probe_key, hyper, limit(known, attack.probe.needs))
        probed, more = drive(fitting, train)
        history = {**history, **more}
    seconds = time.monotonic() - began
    return Learned(params=params, probe=probed, metrics=history, seconds=seconds)


def measure(
    scene: Scene,
    learned: Learned,
    key: Key,
    targets: Targets,
    train: Split,
    say: Callable[[str], None] = print,
) -> Leakage:
    """Attacks the features of the targets.

    Args:
      scene: who attacks whom.
      learned: of `learn` with the same key.
      key: consumed by the defense's noise and the attack.
      targets: what is attacked, and how often each is sent, with fresh noise;
        `attack.combine` makes one of the queries.
      train: the train split, for the trivial baselines.
      say: hears when a chunk was too large for the memory.

    Returns:
      Row columns (see `metrics.summarise`): reconstruction against secret, cover and
      stego; the secret extracted from the reconstruction and, where that is denoised
      (what is smooth has lost its low bits), from what it was before; baselines against
      the secret; and examples.
    """
    _, encode_key, invert_key = jax.random.split(key, 3)
    secret, cover = as_float(targets.secrets), as_float(targets.covers)
    attack, params = scene.attack, learned.params
    if scene.extracts and scene.stego is not None:
        attack = extract(attack, scene.stego)
        params = {"inner": params, "stego": scene.knowledge.stego_params}
    samples = _sent(scene, encode_key, secret, cover, targets.queries)
    features = _combined(attack.combine, samples)
    began = time.monotonic()
    inversion = in_chunks(attack, say=say).invert(
        params, invert_key, features, scene.hyper
    )
    inversion = jax.block_until_ready(inversion)
    row: dict[str, Any] = {
        "seconds_attack_fit": learned.seconds,
        "seconds_attack": time.monotonic() - began,
    }
    if scene.attack.probe is not None:
        row |= _probed(scene.attack.probe, learned.probe, features, targets)
    pictures = _pictures(scene, inversion, secret, cover)
    row |= _scores(pictures, targets.count)
    row |= _trivial(train, secret, targets)
    answered = _answer(scene.defense, scene.params, samples)
    shown = {k: as_bytes(np.asarray(x)[:_SHOWN]) for k, x in pictures.items()}
    about = {"answer": np.asarray(answered), "secret_label": targets.labels}
    low_bits = 0
    if scene.stego is not None:
        about["cover_label"] = targets.cover_labels
        low_bits = scene.stego.low_bits(scene.knowledge.stego_params)
    most = min(_SHOWN, targets.count)
    arrays = {name: np.asarray(x)[:most] for name, x in (shown | about).items()}
    arrays["bits"] = np.asarray(low_bits, np.int32)
    denoised = inversion.before_denoising is not None
    arrays["denoised"] = np.asarray(denoised, np.int32)
    return Leakage(row, arrays)


def _sent(
    scene: Scene, key: Key, secret: jax.Array, cover: jax.Array, queries: int
) -> jax.Array:
    """The features of all queries [queries, B, ...]."""
    encode, params = Encoder(scene.defense), scene.params
    keys = jax.random.split(key, queries)
    samples = [_encode(encode, params, query_key, secret, cover) for query_key in keys]
    return _stacked(samples)


@jax.jit
def _stacked(samples: list[Features]) -> jax.Array:
    return jnp.stack(samples)


@partial(jax.jit, static_argnums=0)
def _combined(combine: Callable[[jax.Array], Features], samples: Any) -> Features:
    return combine(samples)


@partial(jax.jit, static_argnums=0)
def _encode(
    encode: Encoder, params: Params, key: Key, secret: jax.Array, cover: jax.Array
) -> Features:
    return encode(params, key, secret, cover)


@partial(jax.jit, static_argnums=0)
def _answer(defense: Defense, params: Params, samples: jax.Array) -> jax.Array:
    return defense.answer(params, samples[0]).argmax(-1)


@partial(jax.jit, static_argnums=0)
def _reveal(stego: Stego, params: Params, images: jax.Array) -> jax.Array:
    return stego.reveal(params, images)


def _probed(
    probe: Probe, params: Params, features: Features, targets: Targets
) -> dict[str, Any]:
    """How many of the secrets' labels were guessed."""
    logits = probe.answer(params, features)
    guessed = np.asarray(logits).argmax(-1)[: targets.count]
    hits = guessed == targets.labels[: targets.count]
    return {"accuracy_probe": 100 * float(hits.mean()), "accuracy_probe_n": len(hits)}


def _pictures(
    scene: Scene, inversion: Inversion, secret: jax.Array, cover: jax.Array
) -> dict[str, jax.Array]:
    """Every picture that is compared with another, by name."""
    pictures = {"secret": secret, "reconstruction": inversion.images}
    if scene.stego is None:
        return pictures
    learned = scene.knowledge.stego_params
    if inversion.secrets is not None:
        pictures["extracted"] = inversion.secrets
        if inversion.before_denoising is not None:
            before = inversion.before_denoising
            pictures["extracted_before"] = _reveal(scene.stego, learned, before)
    hidden = hiding.hidden(
        scene.stego, scene.defense.perturb, (learned, scene.params), cover, secret
    )
    return {**pictures, "cover": cover, **hidden}


def _scores(pictures: Mapping[str, jax.Array], count: int) -> dict[str, Any]:
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
        if one in pictures and other in pictures:
            compared = _compared(pictures[one], pictures[other])
            row |= _columns(f"{one}_{other}", compared, count)
    return row


def _trivial(train: Split, secret: jax.Array, targets: Targets) -> dict[str, Any]:
    """Mean scores of pictures that need no features, where they are defined: `ssim7`
    is not for constant ones."""
    pictures = baselines.pictures(
        train.images, train.labels, np.asarray(secret), targets.labels
    )
    row: dict[str, Any] = {}
    for name, picture in pictures.items():
        columns = _columns(f"{name}_secret", _compared(picture, secret), targets.count)
        means = {k: v for k, v in columns.items() if k.endswith("_mean")}
        row |= {key: value for key, value in means.items() if np.isfinite(value)}
    return row


@jax.jit
def _compared(one: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
    return {
        "psnr": metrics.psnr(one, other),
        "psnr8": metrics.psnr(one, other, rounded=True),
        "ssim": metrics.ssim(one, other),
        "ssim7": metrics.ssim_authors(other, one),
    }


def _columns(name: str, scores: Mapping[str, jax.Array], count: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for score, values in scores.items():
        summary = metrics.summarise(np.asarray(values)[:count])._asdict()
        row |= {f"{score}_{name}_{part}": value for part, value in summary.items()}
    return row
