"""The sections of a config that are the attacker's. Imports no jax.

`sections` has the rest and the tables; everyone imports them from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Attacker:
    """What the attacker sees and knows, whatever his attack."""

    images: int = 100
    """How many test images are attacked."""
    select: Literal["secrets", "all"] = "secrets"
    """Of which: those with a sensitive label, in random order, or the first of all."""
    rows: tuple[int, ...] = ()
    """These test images instead, by row; not where secrets are hidden."""
    queries: int = 1
    """How often each image crosses the cut, with fresh noise; he averages."""
    public: str = "train"
    """His own images: train (the target's), held_out (test images he does not attack),
    noise (no images at hand: standard Gaussian normalised pixels), or the name of a
    data set of the same shape."""


@dataclass(frozen=True)
class NoAttack:
    """The cloud does not try."""

    name: Literal["none"] = "none"


@dataclass(frozen=True)
class Rmle:
    """White-box feature inversion (regularised maximum likelihood, He et al.)."""

    name: Literal["rmle"] = "rmle"
    preset: Literal["authors", "adam", "gauss_newton"] = "gauss_newton"
    """Fills the keys that a config does not give: the authors' own settings (which do
    not converge), a converged Adam, or Gauss-Newton."""
    solver: Literal["gd", "lbfgs", "gauss_newton"] = "gauss_newton"
    steps: int = 40
    """At most; images that have converged stop earlier (see `tolerance`)."""
    start: Literal["grey", "dark", "best"] = "best"
    """Mid-grey, a tenth of white, or the better of both after a few steps."""
    tolerance: float = 1e-3
    """An image has converged when no step lowers its objective by this share; 0: all
    steps are made."""
    keep: Literal["best", "last"] = "best"
    """The iterate that is returned: that of the lowest objective, or the last."""
    distance: Literal["mean", "sum"] = "mean"
    """Squared feature differences: averaged (the authors' code) or summed (paper)."""
    total_variation: Literal["authors", "paper"] = "paper"
    tv_weight: float = 1e-7
    """lambda of the total variation."""
    tv_beta: float = 1.0
    """Exponent beta of the paper's form; the authors' form has none."""
    box: bool = True
    """Keep pixels in [0, 1] during the search, not only at its end."""
    unfold: bool = True
    """Where the edge ends in ReLU, ask values above 0 of what enters it, and no more
    than <= 0 for the others. For features without noise."""
    known_zeros: bool = False
    """Leave features that are exactly 0 out of the distance: what dropout removed."""
    noise: float = 0.0
    """sigma of the noise on the features, if the attacker reckons with it; `unfold` is
    off then."""
    learning_rate: float = 5e-2
    """Of gd, in normalised pixels."""
    optimizer: Literal["adam", "amsgrad"] = "adam"
    epsilon: float = 1e-8
    """Adam's; 1e-3 is the authors', 1e-8 converges far better."""
    cg_steps: int = 10
    """Conjugate-gradient steps inside one of Gauss-Newton."""


@dataclass(frozen=True)
class Shadow(Rmle):
    """Query-free: a shadow edge trained to please the frozen cloud, then rMLE on it."""

    name: Literal["shadow"] = "shadow"
    tv_weight: float = 1e-4
    """lambda; larger than where the edge is known, as the shadow is only like it."""
    architecture: Literal["other", "same"] = "other"
    """Layers of its own, derived from the shapes alone, or the edge's own layers."""
    decoder: bool = False
    """Invert with a decoder trained on the shadow's features instead of rMLE."""
    epochs: int = 5
    batch_size: int = 32
    train_rate: float = 1e-3
    train_optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "amsgrad"
    train_schedule: Literal["constant", "cosine", "one_cycle"] = "constant"


@dataclass(frozen=True)
class Inverse:
    """Black box: a decoder trained on queries (He et al.)."""

    name: Literal["inverse"] = "inverse"
    width: int = 32
    """Filters of the decoder's layers."""
    epochs: int = 5
    """Passes over the attacker's public images."""
    batch_size: int = 64
    learning_rate: float = 2e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"


@dataclass(frozen=True)
class Direct:
    """Who is a user himself: a decoder from features to the secret, trained on secrets
    of his own that he sent; beside it a probe for the secret's label."""

    name: Literal["direct"] = "direct"
    width: int = 32
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 2e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    probe_rate: float = 1e-3
    """Learning rate of the probe, which shares the other keys."""


@dataclass(frozen=True)
class NoDenoise:
    """The attacker takes his reconstructions as they are."""

    name: Literal["none"] = "none"


@dataclass(frozen=True)
class Denoise:
    """A convolutional denoising autoencoder over the attack's reconstructions."""

    name: Literal["cda"] = "cda"
    pairs: Literal["own", "generator"] = "own"
    """Trained on: his own attacks on images he sent, or a generator's pictures, after
    and before (GHOST+)."""
    images: int = 10_000
    """Public images that he sends through the edge and attacks himself, to train on."""
    epochs: int = 5
    batch_size: int = 100
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"


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
