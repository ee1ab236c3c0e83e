"""The hyper-parameters of every defense. Imports no jax."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ghostjax.fields import LARGEST, static, switch, traced
from ghostjax.records import DefenseRecord, Schedule, Trained

__all__ = [
    "Arden",
    "Dropout",
    "Ghost",
    "GhostPlus",
    "Hide",
    "Noise",
    "Plain",
    "Shredder",
]


@dataclass(frozen=True, kw_only=True)
class Plain(DefenseRecord):
    """No defense: the features of the secret itself cross the cut."""

    sends_plain: ClassVar[bool] = True

    name: Literal["plain"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Hide(DefenseRecord):
    """Secrets are hidden and nothing is retrained: what the others start from."""

    hides: ClassVar[bool] = True
    sends_plain: ClassVar[bool] = True

    name: Literal["hide"] = "hide"


@dataclass(frozen=True, kw_only=True)
class Ghost(DefenseRecord, Trained):
    """GHOST: covert retraining of the cloud half (Algorithm 1, Eq. 3)."""

    hides: ClassVar[bool] = True
    sends_plain: ClassVar[bool] = True

    name: Literal["ghost"] = "ghost"
    weight: float = traced(1.0, least=0)
    """lambda of Eq. 3, the weight of the stego loss."""
    steps: int = static(1000, least=1)
    batch_size: int = static(256, least=1)
    """Stego images a step."""
    public_batch_size: int = static(256, least=1)
    """Ordinary training images a step."""
    covers_per_secret: int = static(1, least=0)
    """Covers each secret meets in an epoch; 0: the full product (toys)."""
    cover_candidates: int = static(1, least=1)
    """Random covers of which the edge takes the one the secret overlaps least."""
    covert_filters: int = static(0, least=0)
    """Filters of the covert branch beside the cloud; 0: the paper's literal cloud."""


@dataclass(frozen=True, kw_only=True)
class GhostPlus(DefenseRecord, Trained):
    """GHOST+: a generator perturbs the stego, the network stays (Algorithm 2)."""

    hides: ClassVar[bool] = True
    sends_plain: ClassVar[bool] = True
    perturbs: ClassVar[bool] = True

    name: Literal["ghost_plus"] = "ghost_plus"
    steps: int = static(2000, least=1)
    batch_size: int = static(128, least=1)
    learning_rate: float = traced(1e-4, above=0)
    width: int = static(8, least=1)
    """Filters of the generator's first layer; AdvGAN has 8."""
    max_perturbation: float = traced(1.0, above=0)
    """Largest change of a pixel in [0, 1]; 1 is the paper's."""
    adversarial: Literal["cross_entropy", "margin"] = "cross_entropy"
    """L_adv of Eq. 4; margin: Carlini and Wagner's, as AdvGAN."""
    balance: Literal["sample", "batch"] = "sample"
    """Where Eq. 7 compares; batch: of means, as GangSweep's code."""
    warm_up: int = traced(0, dtype="int32", least=0, most=1_000_000)
    """First steps, which have lambda = 2."""
    sees: Literal["stego", "revealed", "secret", "label"] = "stego"
    """What the generator sees; the paper's sees the stego alone. revealed: beside it
    what the stego method reads in it; secret, label: what only the edge has."""
    generators: Literal["one", "label"] = "one"
    """One for all sensitive labels, or one for each."""
    cover_candidates: int = static(1, least=1)
    """Random covers of which the edge takes the one the secret overlaps least."""


@dataclass(frozen=True, kw_only=True)
class Noise(DefenseRecord):
    """Noise added on the edge, nothing trained (He et al.); fresh for every query."""

    random: ClassVar[bool] = True

    name: Literal["noise"] = "noise"
    distribution: Literal["gaussian", "laplace"] = "gaussian"
    level: float = traced(1.0, least=0, neutral=0.0)
    """sigma of the Gaussian, or scale b of Laplace noise (its deviation is 1.41 b)."""
    place: Literal["features", "input"] = "features"
    """Where it is added; on the input in units of the network's normalised pixels."""


@dataclass(frozen=True, kw_only=True)
class Dropout(DefenseRecord):
    """Values dropped on the edge, nothing trained (He et al.); fresh every query."""

    random: ClassVar[bool] = True

    name: Literal["dropout"] = "dropout"
    rate: float = traced(0.6, least=0, below=1, neutral=0.0)
    """Probability that a value is set to 0 (mid-grey, for a normalised pixel)."""
    place: Literal["features", "input"] = "features"
    rescale: bool = False
    """Divide what is left by 1 - rate, as dropout layers do; the authors do not."""


@dataclass(frozen=True, kw_only=True)
class Arden(DefenseRecord, Trained):
    """ARDEN: values nullified, Laplace noise, a cloud trained to bear it (KDD 2018)."""

    random: ClassVar[bool] = True

    name: Literal["arden"] = "arden"
    nullified: float = traced(0.1, least=0, below=1, neutral=0.0)
    """mu: share of an image's values set to 0, drawn for each image."""
    scale: float = traced(5.0, least=0, neutral=0.0)
    """b of the Laplace noise, B / sigma; says something beside the features' size."""
    bound: float = switch(0.0, least=0, neutral=LARGEST)
    """B, of the features' infinity norm; 0: its median over training images."""
    noise_layer: str = ""
    """Of the edge, behind which noise is added; empty: its last, the cut."""
    clean_weight: float = traced(0.2, least=0, most=1)
    """lambda: of the clean loss; 1 trains on clean features alone."""
    adversarial_step: float = traced(5.0, least=0)
    """eta: length of the move of noisy features that the cloud must also bear."""
    steps: int = static(1000, least=1)
    batch_size: int = static(128, least=1)
    learning_rate: float = traced(1.5e-3, above=0)
    schedule: Schedule = "cosine"
    draws: int = static(10, least=1, added=10)
    """Draws of mask and noise that accuracies are averaged over, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class Shredder(DefenseRecord, Trained):
    """SHREDDER: learned noise on the features, nothing else trained (ASPLOS 2020)."""

    random: ClassVar[bool] = True

    name: Literal["shredder"] = "shredder"
    inverse_snr: float = traced(10.0, above=0)
    """1 / SNR, noise variance over mean squared feature, from which lambda decays."""
    noise_weight: float = traced(1.0, least=0)
    """lambda at first: of the term that makes the noise grow."""
    decay: float = traced(0.9, least=0, most=1)
    """Of lambda at each step at which the noise is loud enough."""
    initial_scale: float = traced(0.1, above=0)
    """b of the Laplace noise that training starts from."""
    members: int = static(20, least=1)
    """Noise tensors of the bank."""
    sampling: Literal["member", "fitted"] = "member"
    """What an image gets: one of the bank, or a draw from what is fitted to it."""
    steps: int = static(400, least=1)
    batch_size: int = static(32, least=1)
    learning_rate: float = traced(5e-2, above=0)
    schedule: Schedule = "cosine"
    draws: int = static(10, least=1, added=10)
    """Draws of noise that accuracies are averaged over."""
