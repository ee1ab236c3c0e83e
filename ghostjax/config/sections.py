"""The sections of a config: one record each. Imports no jax.

A section that is a choice (`stego`, `defense`, `attack`, `denoise`) holds the record of
a member of that family, told apart by `name` (see `registry`).
"""

from dataclasses import dataclass, field
from typing import Literal

from ghostjax.attacks.records import NoDenoise, Rmle
from ghostjax.defenses.records import Ghost
from ghostjax.evaluation.records import Judge
from ghostjax.fields import LAST_SEED, Record, seed, static
from ghostjax.names import require
from ghostjax.records import AttackRecord, DefenseRecord, StegoRecord, Trained
from ghostjax.registry import FAMILIES
from ghostjax.stego.records import Lsb

__all__ = [
    "Attacker",
    "Config",
    "Data",
    "Device",
    "OwnTarget",
    "Target",
    "TargetRecord",
]


@dataclass(frozen=True, kw_only=True)
class Data(Record):
    """Which images, and which of their labels are sensitive."""

    name: str = "digits"
    """digits (embedded), mnist, cifar10, gtsrb, svhn_cropped, what else TFDS has
    prepared, or a name for what is in `folder`."""
    folder: str = static("", added="")
    """Of images of your own: one folder a class, or `train` and `test` of such."""
    size: tuple[int, ...] = static((), added=(), least=1, most=65_535)
    """Height and width that these are resized to; empty: all are of one size."""
    gamma: str = "2:8"
    """n_s : n_c, sensitive to public labels."""
    sensitive_labels: tuple[int, ...] = static((), least=0)
    """The sensitive labels by number; empty: gamma's share drawn from the seed."""


@dataclass(frozen=True, kw_only=True)
class TargetRecord(Record):
    """Of the network under attack."""

    network: str = "cnn2"

    @property
    def seed(self) -> int:
        """Of its training; a field of one that is trained."""
        return 0


@dataclass(frozen=True, kw_only=True)
class OwnTarget(TargetRecord):
    """A network of one's own, which comes trained; see `own.network`."""

    version: str = "1"
    digest: str = ""
    """Of its variables."""


@dataclass(frozen=True, kw_only=True)
class Target(TargetRecord, Trained):
    """The network under attack and how it is trained (GHOST Table II)."""

    epochs: int = static(20, least=1)
    batch_size: int = static(256, least=1)
    seed: int = seed(0)
    """Of the target's training alone: runs that differ only in `seed` share one target,
    and how targets vary does not show."""


@dataclass(frozen=True, kw_only=True)
class Attacker(Record):
    """What the attacker sees and knows, whatever its attack."""

    images: int = static(100, least=1)
    """How many test images are attacked."""
    select: Literal["secrets", "all"] = "secrets"
    """Of which: those with a sensitive label, in random order, or the first of all."""
    rows: tuple[int, ...] = static((), least=0)
    """These test images instead, by row; not where secrets are hidden."""
    queries: int = static(1, least=1)
    """How often each image crosses the cut, with fresh noise; it averages."""
    public: str = "train"
    """Its own images: train (the target's), held_out (test images it does not attack),
    noise (no images at hand: standard Gaussian normalised pixels), or the name of a
    data set of the same shape."""

    reading: Literal["reveal", "midpoint", "prior"] = static("reveal", added="reveal")
    """How it reads a hidden secret out of what it rebuilt: as the receiver does; with
    LSB also by the middle of what the lost bits span, or by the likeliest low bits of
    a smooth secret in a stego with errors."""

    @property
    def public_data(self) -> str:
        """The name of the data set that its images are; empty: they are of no other."""
        return "" if self.public in ("train", "held_out", "noise") else self.public


@dataclass(frozen=True, kw_only=True)
class Device(Record):
    """What a cut costs: the edge, its uplink and the cloud, for `ghostjax partition`.

    The edge is a Raspberry Pi 4: 8 GFLOP/s is what B. Feiereisen measured with HPL
    ("Benchmarking the Raspberry Pi 4 with Raspberry Pi OS64", 2022). The uplink is LTE,
    with the median rate and the form of the power model, watts = a + b * rate, of Huang
    et al. ("A close examination of performance and power characteristics of 4G LTE
    networks", MobiSys 2012). The watts of both, the round trip and the cloud are our
    choice. Changes no result and retrains nothing.
    """

    edge_gflops: float = static(8.0, above=0)
    edge_watts: float = static(6.0, least=0)
    """While it computes."""
    uplink_mbps: float = static(6.0, above=0)
    """Megabits a second."""
    radio_watts: float = static(1.3, least=0)
    """While it sends, at any rate."""
    radio_watts_per_mbps: float = static(0.44, least=0)
    """And for each megabit a second of the rate."""
    round_trip_ms: float = static(50.0, least=0)
    cloud_gflops: float = static(10_000.0, above=0)


@dataclass(frozen=True, kw_only=True)
class Config(Record):
    """One experiment."""

    name: str = "digits"
    """Of its run folder and reports: letters, digits and ._-, at most 80."""
    seed: int = static(0, least=0, most=LAST_SEED)
    """Draws the sensitive labels, the pairs, the retraining and the attack; not the
    target's training (target.seed) or the stego network's (stego.seed). `seeds` in a
    [sweep] varies all of them together."""
    data: Data = field(default_factory=Data)
    target: TargetRecord = field(default_factory=Target)
    stego: StegoRecord = field(default_factory=Lsb)
    defense: DefenseRecord = field(default_factory=Ghost)
    attacker: Attacker = field(default_factory=Attacker)
    attack: AttackRecord = field(default_factory=Rmle)
    denoise: AttackRecord = field(default_factory=NoDenoise)
    judge: Judge = field(default_factory=Judge)
    device: Device = field(default_factory=Device)

    def __post_init__(self) -> None:
        """Raises ValueError where sections that are good by themselves do not agree."""
        super().__post_init__()
        require("name", self.name)
        if "stego_params" in self.denoise.needs and not self.defense.hides:
            raise ValueError(
                f"denoise.pairs = 'extracted': the defense {self.defense.name} hides "
                "no secrets that could be read out; choose 'own', or a defense that "
                "hides"
            )
        if "perturbed_pairs" in self.denoise.needs and not self.defense.perturbs:
            rows = FAMILIES["defense"].items()
            perturbing = ", ".join(name for name, row in rows if row.record.perturbs)
            raise ValueError(
                f"denoise.pairs = 'generator': must be 'own' with the defense "
                f"{self.defense.name}, which has no generator: {perturbing} has one"
            )
