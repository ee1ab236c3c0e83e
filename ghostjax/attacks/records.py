"""The hyper-parameters of every attack and denoiser. Imports no jax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ghostjax.fields import static, switch, traced
from ghostjax.records import AttackRecord, Optimizer, Schedule, Trained

__all__ = [
    "Decoder",
    "Denoise",
    "Direct",
    "Inverse",
    "NoAttack",
    "NoDenoise",
    "PRESETS",
    "Rmle",
    "Search",
    "Shadow",
]

_QUERIES = ("query", "public_images")
_PAIRS = {
    "own": _QUERIES,
    "generator": ("perturbed_pairs",),
    "extracted": ("encode", "public_images", "stego_params"),
}


@dataclass(frozen=True, kw_only=True)
class NoAttack(AttackRecord):
    """The cloud does not try."""

    name: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Search(AttackRecord):
    """What a search for the picture behind features is told, whoever's edge it is."""

    preset: Literal["authors", "adam", "gauss_newton"] = "gauss_newton"
    """Fills the keys that a config does not give: the authors' own settings (which do
    not converge), a converged Adam, or Gauss-Newton."""
    solver: Literal["gd", "lbfgs", "gauss_newton"] = "gauss_newton"
    steps: int = static(40, least=1)
    """At most; images that have converged stop earlier (see `tolerance`)."""
    start: Literal["grey", "dark", "best"] = "best"
    """Mid-grey, a tenth of white, or the better of both after a few steps."""
    tolerance: float = switch(1e-3, least=0)
    """An image has converged when no step lowers its objective by this share; 0: all
    steps are made."""
    keep: Literal["best", "last"] = "best"
    """The iterate that is returned: that of the lowest objective, or the last."""
    distance: Literal["mean", "sum"] = "mean"
    """Squared feature differences: averaged (the authors' code) or summed (paper)."""
    total_variation: Literal["authors", "paper"] = "paper"
    tv_weight: float = traced(1e-7, least=0)
    """lambda of the total variation."""
    tv_beta: float = static(1.0, above=0)
    """Exponent beta of the paper's form; the authors' form has none. Static: a power
    that the compiler knows is a root."""
    box: bool = True
    """Keep pixels in [0, 1] during the search, not only at its end."""
    unfold: bool = True
    """Where the edge ends in ReLU, ask values above 0 of what enters it, and no more
    than <= 0 for the others. For features without noise."""
    known_zeros: bool = False
    """Leave features that are exactly 0 out of the distance: what dropout removed."""
    noise: float = switch(0.0, least=0, averaged=True)
    """sigma of the noise on the features, if the attacker reckons with it; `unfold` is
    off then."""
    learning_rate: float = traced(5e-2, above=0)
    """Of gd, in normalised pixels."""
    optimizer: Literal["adam", "amsgrad"] = "adam"
    epsilon: float = traced(1e-8, above=0)
    """Adam's; 1e-3 is the authors', 1e-8 converges far better."""
    cg_steps: int = static(10, least=1)
    """Conjugate-gradient steps inside one of Gauss-Newton."""


@dataclass(frozen=True, kw_only=True)
class Rmle(Search):
    """White-box feature inversion (regularised maximum likelihood, He et al.)."""

    needs: ClassVar[tuple[str, ...]] = ("edge_variables",)

    name: Literal["rmle"] = "rmle"


@dataclass(frozen=True, kw_only=True)
class Shadow(Search):
    """Query-free: a shadow edge trained to please the frozen cloud, then rMLE on it."""

    needs: ClassVar[tuple[str, ...]] = (
        "cloud_variables",
        "public_images",
        "public_labels",
    )

    name: Literal["shadow"] = "shadow"
    tv_weight: float = traced(1e-4, least=0)
    """lambda; larger than where the edge is known, as the shadow is only like it."""
    architecture: Literal["other", "same"] = "other"
    """Layers of its own, derived from the shapes alone, or the edge's own layers."""
    decoder: bool = False
    """Invert with a decoder trained on the shadow's features instead of rMLE."""
    epochs: int = static(5, least=1)
    batch_size: int = static(32, least=1)
    train_rate: float = traced(1e-3, above=0)
    train_optimizer: Optimizer = "amsgrad"
    train_schedule: Schedule = "constant"


@dataclass(frozen=True, kw_only=True)
class Decoder(AttackRecord, Trained):
    """Of an attack that trains a decoder from features to pictures."""

    width: int = static(32, least=1)
    """Filters of the decoder's layers."""
    epochs: int = static(5, least=1)
    """Passes over the attacker's public images."""
    batch_size: int = static(64, least=1)
    learning_rate: float = traced(2e-3, above=0)
    schedule: Schedule = "one_cycle"


@dataclass(frozen=True, kw_only=True)
class Inverse(Decoder):
    """Black box: a decoder trained on queries (He et al.)."""

    needs: ClassVar[tuple[str, ...]] = _QUERIES

    name: Literal["inverse"] = "inverse"


@dataclass(frozen=True, kw_only=True)
class Direct(Decoder):
    """An attacker who is a user: a decoder from features to the secret, trained on
    secrets of its own that it sent; beside it a probe for the secret's label."""

    needs: ClassVar[tuple[str, ...]] = (*_QUERIES, "encode")

    name: Literal["direct"] = "direct"
    probe_rate: float = traced(1e-3, above=0)
    """Learning rate of the probe, which shares the other keys."""


@dataclass(frozen=True, kw_only=True)
class NoDenoise(AttackRecord):
    """The attacker takes its reconstructions as they are."""

    name: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Denoise(AttackRecord, Trained):
    """A convolutional denoising autoencoder over the attack's reconstructions."""

    name: Literal["cda"] = "cda"
    pairs: Literal["own", "generator", "extracted"] = "own"
    """Trained on: its own attacks on images it sent; a generator's pictures, after and
    before (GHOST+); or what it read out of its own attacks on stegos in which it had
    hidden images of its own, to repair secrets instead of reconstructions."""
    images: int = static(10_000, least=1)
    """Public images that it sends through the edge and attacks itself, to train on."""
    epochs: int = static(5, least=1)
    batch_size: int = static(100, least=1)
    schedule: Schedule = "cosine"

    @property
    def needs(self) -> tuple[str, ...]:
        """Besides what the attack under it needs."""
        return _PAIRS[self.pairs]


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "authors": {  # He et al.'s scripts, see attacks/rmle.py
        "solver": "gd",
        "steps": 500,
        "start": "grey",
        "tolerance": 0.0,
        "keep": "last",
        "total_variation": "authors",
        "tv_weight": 1.0,
        "box": False,
        "unfold": False,
        "learning_rate": 1e-2,
        "optimizer": "amsgrad",
        "epsilon": 1e-3,
    },
    "adam": {"solver": "gd", "steps": 2000, "tolerance": 0.0},
    "gauss_newton": {},
}
"""What `preset` fills in where a config does not give the key itself."""
