"""The sections of a config: one frozen dataclass each. Imports no jax.

A section that is a choice (`stego`, `defense`, `attack`, `denoise`) has a dataclass for
each member of its table, told apart by `name`. Defaults are what a key that is not
given means; `Rmle.preset` fills several keys at once (`PRESETS`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Data:
    """Which images, and which of their labels are sensitive."""

    name: str = "digits"
    """digits (embedded), mnist, cifar10, gtsrb or svhn_cropped."""
    gamma: str = "2:8"
    """n_s : n_c, sensitive to public labels."""
    sensitive_labels: tuple[int, ...] = ()
    """The sensitive labels by number; empty: gamma's share drawn from the seed."""


@dataclass(frozen=True)
class Target:
    """The network under attack and how it is trained (GHOST Table II)."""

    network: str = "cnn2"
    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    seed: int = 0
    """Its own seed: runs that differ only in `seed` share one target."""


@dataclass(frozen=True)
class Lsb:
    """Least-significant-bit substitution (GHOST III.B)."""

    name: Literal["lsb"] = "lsb"
    bits: int = 3
    """zeta, 1 to 7: low bits of the cover that take the secret's high ones."""


@dataclass(frozen=True)
class Plain:
    """No defense: the features of the secret itself cross the cut."""

    name: Literal["plain"] = "plain"
    cut: str = "pool1"


@dataclass(frozen=True)
class Ghost:
    """GHOST: covert retraining of the cloud half (Algorithm 1, Eq. 3)."""

    name: Literal["ghost"] = "ghost"
    cut: str = "pool1"
    weight: float = 1.0
    """lambda of Eq. 3, the weight of the stego loss."""
    steps: int = 1000
    batch_size: int = 256
    """Stego images a step."""
    public_batch_size: int = 256
    """Ordinary training images a step."""
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    covers_per_secret: int = 1
    """Covers each secret meets in an epoch; 0: the full product (toys)."""
    cover_candidates: int = 1
    """Random covers of which the edge takes the one the secret overlaps least."""
    covert_filters: int = 0
    """Filters of the covert branch beside the cloud; 0: the paper's literal cloud."""


@dataclass(frozen=True)
class Noise:
    """Noise added on the edge, nothing trained (He et al.); fresh for every query."""

    name: Literal["noise"] = "noise"
    cut: str = "pool1"
    distribution: Literal["gaussian", "laplace"] = "gaussian"
    level: float = 1.0
    """sigma of the Gaussian, or scale b of Laplace noise (its deviation is 1.41 b)."""
    place: Literal["features", "input"] = "features"
    """Where it is added; on the input in units of the network's normalised pixels."""


@dataclass(frozen=True)
class Dropout:
    """Values dropped on the edge, nothing trained (He et al.); fresh every query."""

    name: Literal["dropout"] = "dropout"
    cut: str = "pool1"
    rate: float = 0.6
    """Probability that a value is set to 0 (mid-grey, for a normalised pixel)."""
    place: Literal["features", "input"] = "features"
    rescale: bool = False
    """Divide what is left by 1 - rate, as dropout layers do; the authors do not."""


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
    """Who knows the scheme: a decoder from features to the secret, trained on stego
    pairs of the attacker's own; beside it a probe for the secret's label."""

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
    images: int = 10_000
    """Public images that he sends through the edge and attacks himself, to train on."""
    epochs: int = 5
    batch_size: int = 100
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"


@dataclass(frozen=True)
class Device:
    """What a cut costs: the edge, its uplink and the cloud, for `ghostjax partition`.

    The edge is a Raspberry Pi 4: 8 GFLOP/s is what B. Feiereisen measured with HPL
    ("Benchmarking the Raspberry Pi 4 with Raspberry Pi OS64", 2022). The uplink is LTE,
    with the median rate and the form of the power model, watts = a + b * rate, of Huang
    et al. ("A close examination of performance and power characteristics of 4G LTE
    networks", MobiSys 2012). The watts of both, the round trip and the cloud are our
    choice. Changes no result and retrains nothing.
    """

    edge_gflops: float = 8.0
    edge_watts: float = 6.0
    """While it computes."""
    uplink_mbps: float = 6.0
    """Megabits a second."""
    radio_watts: float = 1.3
    """While it sends, at any rate."""
    radio_watts_per_mbps: float = 0.44
    """And for each megabit a second of the rate."""
    round_trip_ms: float = 50.0
    cloud_gflops: float = 10_000.0


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

STEGOS: Mapping[str, type] = {"lsb": Lsb}
DEFENSES: Mapping[str, type] = {
    "plain": Plain,
    "noise": Noise,
    "dropout": Dropout,
    "ghost": Ghost,
}
ATTACKS: Mapping[str, type] = {
    "none": NoAttack,
    "rmle": Rmle,
    "inverse": Inverse,
    "shadow": Shadow,
    "direct": Direct,
}
DENOISERS: Mapping[str, type] = {"none": NoDenoise, "cda": Denoise}
TABLES = {
    "stego": STEGOS,
    "defense": DEFENSES,
    "attack": ATTACKS,
    "denoise": DENOISERS,
}


@dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str = "digits"
    seed: int = 0
    """Draws the sensitive labels, the pairs, the retraining and the attack."""
    data: Data = field(default_factory=Data)
    target: Target = field(default_factory=Target)
    stego: Lsb = field(default_factory=Lsb)
    defense: Ghost | Plain | Noise | Dropout = field(default_factory=Ghost)
    attacker: Attacker = field(default_factory=Attacker)
    attack: Rmle | Inverse | Shadow | Direct | NoAttack = field(default_factory=Rmle)
    denoise: NoDenoise | Denoise = field(default_factory=NoDenoise)
    device: Device = field(default_factory=Device)
