"""What an attack got out of the features, in dB and SSIM, against every picture."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import runtime
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
    per_target,
)
from ghostjax.data import Split
from ghostjax.evaluation import baselines, hiding, metrics
from ghostjax.evaluation.views import ATTACKED, Onlookers, columns
from ghostjax.fields import Hyper
from ghostjax.pixels import as_bytes, as_float
from ghostjax.training.fit import Fit
from ghostjax.training.members import paired

__all__ = [
    "Leakage",
    "Learned",
    "Scene",
    "Subject",
    "Targets",
    "learning",
    "measure",
]

_SHOWN = 10  # examples kept for pictures
_FEWEST = 8
"""Targets that are joined to those of others: a product of fewer rows is another one to
XLA's CPU backend, whose last bits differ."""


class Targets(NamedTuple):
    """The test images under attack, each with the cover it may be hidden in.

    Where there are fewer secrets than are to be attacked, the first ones follow once
    more: how many there are is no shape of a program.
    """

    secrets: np.ndarray  # uint8 [n, H, W, C]
    labels: np.ndarray  # int32 [n]
    covers: np.ndarray  # uint8 [n, H, W, C]
    cover_labels: np.ndarray  # int32 [n]
    rows: np.ndarray  # int [n], of the secrets among the test images
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
    reading: str = "reveal"  # how the attacker reads secrets; see `Stego.reader`

    @property
    def extracts(self) -> bool:
        """Whether secrets are yet to be read out of what the attack rebuilds."""
        reads = self.attack.gives_secrets or self.attack.extracts
        return self.stego is not None and not reads


class Learned(Protocol):
    """What an attacker has learned before it sees a target."""

    @property
    def params(self) -> Any:
        """Of the attack and of its probe, as `learning` returns them."""

    @property
    def seconds(self) -> float:
        """That it has spent."""


class Subject(NamedTuple):
    """One experiment's targets, and who attacks them."""

    scene: Scene
    learned: Learned  # of `learning` with the same key
    key: Key  # consumed by the defense's noise and the attack
    targets: Targets
    onlookers: Onlookers  # who look at what it gets


class Leakage(NamedTuple):
    """What `measure` has leaked."""

    row: dict[str, Any]  # flat columns
    arrays: dict[str, np.ndarray]  # the first examples, for pictures


def learning(scene: Scene, key: Key) -> Fit:
    """A fit of the attack and then of its probe; it returns the params of both.

    Args:
      scene: the attack is handed only the knowledge that it declares.
      key: that of `measure`; its first third is taken.
    """
    fit_key, _, _ = jax.random.split(key, 3)
    attack, hyper, known = scene.attack, scene.hyper, scene.knowledge
    params = yield from attack.fit(fit_key, hyper, limit(known, attack.needs))
    probed = None
    if attack.probe is not None:
        probe_key = jax.random.fold_in(fit_key, 1)
        seen = limit(known, attack.probe.needs)
        probed = yield from attack.probe.fit(probe_key, hyper, seen)
    return params, probed


def measure(
    subjects: Sequence[Subject],
    train: Split,
    say: Callable[[str], None] = print,
) -> list[Leakage]:
    """Attacks the features of many targets.

    Subjects whose attack is the same, has learned the same and reads no key are
    attacked in one call, each target as it would be alone: on a CPU to the bit, where
    an attack that is not `bitwise` has a call for each subject.

    Args:
      subjects: what is attacked; `attack.combine` makes one of a target's queries.
      train: the train split, for the trivial baselines.
      say: hears when a chunk was too large for the memory.

    Returns:
      Row columns (see `metrics.summarise`): reconstruction against secret, cover and
      stego; the secret extracted from the reconstruction and, where that is denoised
      (what is smooth has lost its low bits), from what it was before; what is
      recognised in these (see `views.columns`); baselines against the secret; and
      examples. `diverged` is how many of the `diverged_n` targets went astray: their
      pictures are nobody's guess and count in no score.
    """
    begun = [_Begun.of(subject) for subject in subjects]
    leaked: dict[int, Leakage] = {}
    for places in _joint(subjects):
        began = time.monotonic()
        inversions = _inverted([begun[place] for place in places], say)
        seconds = (time.monotonic() - began) / len(places)
        for place, inversion in zip(places, inversions, strict=True):
            leaked[place] = _judged(begun[place], inversion, seconds, train)
    return [leaked[place] for place in range(len(subjects))]


class _Begun(NamedTuple):
    """A subject whose features have been sent."""

    subject: Subject
    attack: Attack  # with the extraction of the secrets, where it extracts
    params: Params
    secret: jax.Array  # [B, H, W, C]
    cover: jax.Array
    samples: jax.Array  # features of all queries [queries, B, ...]
    features: Features  # of them
    key: Key  # of the inversion

    @classmethod
    def of(cls, subject: Subject) -> "_Begun":
        scene, targets = subject.scene, subject.targets
        _, encode_key, invert_key = jax.random.split(subject.key, 3)
        secret, cover = as_float(targets.secrets), as_float(targets.covers)
        attack, params = scene.attack, subject.learned.params[0]
        if scene.extracts and scene.stego is not None:
            attack = extract(attack, scene.stego, scene.reading)
            params = {"inner": params, "stego": scene.knowledge.stego_params}
        samples = _sent(scene, encode_key, secret, cover, targets.queries)
        return cls(
            subject=subject,
            attack=attack,
            params=params,
            secret=secret,
            cover=cover,
            samples=samples,
            features=_combined(attack.combine, samples),
            key=invert_key,
        )


def _joint(subjects: Sequence[Subject]) -> list[list[int]]:
    """Places of subjects that are attacked in one call."""
    calls: list[list[int]] = []
    for place, subject in enumerate(subjects):
        for call in calls:
            if _alike(subjects[call[0]], subject):
                call.append(place)
                break
        else:
            calls.append([place])
    return calls


def _alike(one: Subject, other: Subject) -> bool:
    mine, theirs = one.scene, other.scene
    if not (mine.attack == theirs.attack and mine.attack.keyless):
        return False
    if runtime.on_cpu() and not mine.attack.bitwise:
        return False
    if min(len(subject.targets.labels) for subject in (one, other)) < _FEWEST:
        return False
    stegos = [
        (scene.stego, scene.reading) if scene.extracts else None
        for scene in (mine, theirs)
    ]
    held = paired(_held(one), _held(other))
    return (
        stegos[0] == stegos[1]
        and held is not None
        and all(a is b or _equal_scalars(a, b) for a, b in held)
    )


def _held(subject: Subject) -> Params:
    """What an inversion reads besides features and hyper-parameters."""
    scene = subject.scene
    stego = scene.knowledge.stego_params if scene.extracts else ()
    return subject.learned.params[0], stego


def _equal_scalars(one: Any, other: Any) -> bool:
    return np.ndim(one) == np.ndim(other) == 0 and bool(one == other)


def _inverted(begun: Sequence[_Begun], say: Callable[[str], None]) -> list[Inversion]:
    """What the attack makes of the features of all, in one call."""
    first = begun[0]
    invert = in_chunks(first.attack, say=say).invert
    if len(begun) == 1:
        hyper = first.subject.scene.hyper
        whole = invert(first.params, first.key, first.features, hyper)
        return [jax.block_until_ready(whole)]
    counts = [len(one.features) for one in begun]
    hypers = [
        per_target(one.subject.scene.hyper, count)
        for one, count in zip(begun, counts, strict=True)
    ]
    features: Any = np.concatenate([np.asarray(one.features) for one in begun])
    hyper = jax.tree.map(lambda *leaves: np.concatenate(leaves), *hypers)
    whole = jax.device_get(invert(first.params, first.key, features, hyper))
    ends = np.cumsum(counts)
    return [
        jax.tree.map(lambda leaf, a=end - n, b=end: leaf[a:b], whole)
        for n, end in zip(counts, ends, strict=True)
    ]


def _judged(
    begun: _Begun, inversion: Inversion, seconds: float, train: Split
) -> Leakage:
    """Scores of what the attack made of one subject's features."""
    scene, learned, _, targets, onlookers = begun.subject
    secret, cover = begun.secret, begun.cover
    row: dict[str, Any] = {
        "seconds_attack_fit": learned.seconds,
        "seconds_attack": seconds,
    }
    if scene.attack.probe is not None:
        row |= _probed(scene.attack.probe, learned.params[1], begun.features, targets)
    pictures = _pictures(scene, inversion, secret, cover)
    astray = _diverged(inversion)
    counted = (np.arange(len(targets.labels)) < targets.count) & ~astray
    row["diverged"] = int(astray[: targets.count].sum())
    row["diverged_n"] = targets.count
    row |= _scores(pictures, counted)
    row |= _seen(pictures, targets, onlookers, counted)
    row |= _trivial(train, secret, targets)
    answered = _answer(scene.defense, scene.params, begun.samples)
    # What is not a number is drawn black.
    finite = {k: np.nan_to_num(np.asarray(x)[:_SHOWN]) for k, x in pictures.items()}
    shown = {name: as_bytes(images) for name, images in finite.items()}
    about = {
        "answer": np.asarray(answered),
        "secret_label": targets.labels,
        "diverged": astray,
    }
    low_bits = 0
    if scene.stego is not None:
        about["cover_label"] = targets.cover_labels
        low_bits = scene.stego.low_bits(scene.knowledge.stego_params)
    most = min(_SHOWN, targets.count)
    arrays = {name: np.asarray(x)[:most] for name, x in (shown | about).items()}
    arrays["bits"] = np.asarray(low_bits, np.int32)
    denoised = inversion.before_denoising is not None
    arrays["denoised"] = np.asarray(denoised, np.int32)
    repaired = inversion.secrets_before is not None and not denoised
    arrays["repaired"] = np.asarray(repaired, np.int32)
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
        if inversion.secrets_before is not None:
            pictures["extracted_before"] = inversion.secrets_before
    hidden = hiding.hidden(
        scene.stego, scene.defense.perturb, (learned, scene.params), cover, secret
    )
    return {**pictures, "cover": cover, **hidden}


def _diverged(inversion: Inversion) -> np.ndarray:
    """bool [n], targets whose search went astray or whose pictures are not finite."""
    marked = inversion.diverged
    pictures = inversion._replace(trace=(), diverged=None)
    astray = ~np.asarray(_finite(jax.tree.leaves(pictures)))
    return astray if marked is None else astray | np.asarray(marked)


@jax.jit
def _finite(pictures: list[jax.Array]) -> jax.Array:
    """[n], in all of the pictures."""
    return jnp.stack([jnp.isfinite(x).all((1, 2, 3)) for x in pictures]).all(0)


def _scores(pictures: Mapping[str, jax.Array], counted: np.ndarray) -> dict[str, Any]:
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
            row |= _columns(f"{one}_{other}", compared, counted)
    return row


def _seen(
    pictures: Mapping[str, jax.Array],
    targets: Targets,
    onlookers: Onlookers,
    counted: np.ndarray,
) -> dict[str, Any]:
    """Columns of what is recognised; none where no picture counts."""
    if not counted.any():
        return {}
    shown = {k: np.asarray(x)[counted] for k, x in pictures.items() if k in ATTACKED}
    lineup = onlookers.lineup
    if lineup is not None:
        lineup = lineup._replace(places=lineup.places[counted[: targets.count]])
    return columns(shown, targets.labels[counted], onlookers._replace(lineup=lineup))


def _trivial(train: Split, secret: jax.Array, targets: Targets) -> dict[str, Any]:
    """Mean scores of pictures that need no features, where they are defined: `ssim7`
    is not for constant ones."""
    pictures = baselines.pictures(
        train.images, train.labels, np.asarray(secret), targets.labels
    )
    row: dict[str, Any] = {}
    for name, picture in pictures.items():
        scores, first = _compared(picture, secret), slice(targets.count)
        columns = _columns(f"{name}_secret", scores, first)
        means = {k: v for k, v in columns.items() if k.endswith("_mean")}
        row |= {key: value for key, value in means.items() if np.isfinite(value)}
    return row


def _compared(one: jax.Array | np.ndarray, other: jax.Array) -> dict[str, np.ndarray]:
    scores = jax.device_get(_scored(one, other))
    authors, defined = scores.pop("ssim7")
    return {**scores, "ssim7": np.where(defined, authors, np.nan)}


@jax.jit
def _scored(one: jax.Array, other: jax.Array) -> dict[str, Any]:
    return {
        "psnr": metrics.psnr(one, other),
        "psnr8": metrics.psnr(one, other, rounded=True),
        "ssim": metrics.ssim(one, other),
        "ssim7": metrics.ssim_authors_where(other, one),
    }


def _columns(
    name: str, scores: Mapping[str, np.ndarray], counted: np.ndarray | slice
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for score, values in scores.items():
        summary = metrics.summarise(values[counted])._asdict()
        row |= {f"{score}_{name}_{part}": value for part, value in summary.items()}
    return row
