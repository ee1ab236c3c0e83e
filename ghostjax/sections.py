"""The sections of a config: one frozen dataclass each. Imports no jax.

A section that is a choice (`stego`, `defense`, `attack`, `denoise`) has a dataclass for
each member of its table, told apart by `name`. Defaults are what a key that is not
given means; `Rmle.preset` fills several keys at once (`PRESETS`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ghostjax.attack_sections import (
    Attacker,
    Denoise,
    Direct,
    Inverse,
    NoAttack,
    NoDenoise,
    Rmle,
    Shadow,
)


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
class Nns:
    """Neural steganography: prep, hiding and reveal networks (GHOST III.B)."""

    name: Literal["nns"] = "nns"
    network: Literal["n16", "n32", "muzio65", "baluja50"] = "n32"
    """baluja50 is the papers' three-tower architecture, for accelerators."""
    distance: Literal["squared", "absolute", "ssim"] = "squared"
    """Of stego to cover and revealed to secret; absolute is L1, as printed; ssim adds
    1 - SSIM to the cover's squared error."""
    beta: float = 0.75
    """Weight of the secret's error."""
    beta_start: float = 0.0
    """Its weight at first, falling to beta over half the training; 0: beta itself."""
    epochs: int = 20
    """Passes over the training images, each once a cover and once a secret."""
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    seed: int = 0
    """Its own seed: runs that differ only in `seed` share one network."""


@dataclass(frozen=True)
class Plain:
    """No defense: the features of the secret itself cross the cut."""

    name: Literal["plain"] = "plain"
    cut: str = "pool1"


@dataclass(frozen=True)
class Hide:
    """Secrets are hidden and nothing is retrained: what the others start from."""

    name: Literal["hide"] = "hide"
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
class GhostPlus:
    """GHOST+: a generator perturbs the stego, the network stays (Algorithm 2)."""

    name: Literal["ghost_plus"] = "ghost_plus"
    cut: str = "pool1"
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-4
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    width: int = 8
    """Filters of the generator's first layer; AdvGAN has 8."""
    max_perturbation: float = 1.0
    """Largest change of a pixel in [0, 1]; 1 is the paper's."""
    adversarial: Literal["cross_entropy", "margin"] = "cross_entropy"
    """L_adv of Eq. 4; margin: Carlini and Wagner's, as AdvGAN."""
    balance: Literal["sample", "batch"] = "sample"
    """Where Eq. 7 compares; batch: of means, as GangSweep's code."""
    warm_up: int = 0
    """First steps, which have lambda = 2."""
    sees: Literal["stego", "revealed", "secret", "label"] = "stego"
    """What the generator sees; the paper's sees the stego alone. revealed: beside it
    what the stego method reads in it; secret, label: what only the edge has."""
    generators: Literal["one", "label"] = "one"
    """One for all sensitive labels, or one for each."""
    cover_candidates: int = 1
    """Random covers of which the edge takes the one the secret overlaps least."""


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
class Arden:
    """ARDEN: values nullified, Laplace noise, a cloud trained to bear it (KDD 2018)."""

    name: Literal["arden"] = "arden"
    cut: str = "pool1"
    nullified: float = 0.1
    """mu: share of an image's values set to 0, drawn for each image."""
    scale: float = 5.0
    """b of the Laplace noise, B / sigma; says something beside the features' size."""
    bound: float = 0.0
    """B, of the features' infinity norm; 0: its median over training images."""
    noise_layer: str = ""
    """Of the edge, behind which noise is added; empty: its last, the cut."""
    clean_weight: float = 0.2
    """lambda: of the clean loss, in [0, 1]; 1 trains on clean features alone."""
    adversarial_step: float = 5.0
    """eta: length of the move of noisy features that the cloud must also bear."""
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"


@dataclass(frozen=True)
class Shredder:
    """SHREDDER: learned noise on the features, nothing else trained (ASPLOS 2020)."""

    name: Literal["shredder"] = "shredder"
    cut: str = "pool1"
    inverse_snr: float = 10.0
    """1 / SNR, noise variance over mean squared feature, from which lambda decays."""
    noise_weight: float = 1.0
    """lambda at first: of the term that makes the noise grow."""
    decay: float = 0.9
    """Of lambda at each step at which the noise is loud enough."""
    initial_scale: float = 0.1
    """b of the Laplace noise that training starts from."""
    members: int = 20
    """Noise tensors of the bank."""
    sampling: Literal["member", "fitted"] = "member"
    """What an image gets: one of the bank, or a draw from what is fitted to it."""
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 5e-2
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


STEGOS: Mapping[str, type] = {"lsb": Lsb, "nns": Nns}
DEFENSES: Mapping[str, type] = {
    "plain": Plain,
    "hide": Hide,
    "noise": Noise,
    "dropout": Dropout,
    "ghost": Ghost,
    "ghost_plus": GhostPlus,
    "arden": Arden,
    "shredder": Shredder,
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
    stego: Lsb | Nns = field(default_factory=Lsb)
    defense: Ghost | GhostPlus | Plain | Hide | Noise | Dropout | Arden | Shredder = (
        field(default_factory=Ghost)
    )
    attacker: Attacker = field(default_factory=Attacker)
    attack: Rmle | Inverse | Shadow | Direct | NoAttack = field(default_factory=Rmle)
    denoise: NoDenoise | Denoise = field(default_factory=NoDenoise)
    device: Device = field(default_factory=Device)
