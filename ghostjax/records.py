"""What records of several families share. Imports no jax."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ghostjax.fields import Record, traced

__all__ = [
    "AttackRecord",
    "DefenseRecord",
    "Member",
    "Optimizer",
    "Schedule",
    "StegoRecord",
    "Trained",
]

Optimizer = Literal["adam", "amsgrad", "adamw", "sgd"]
Schedule = Literal["constant", "cosine", "one_cycle"]


@dataclass(frozen=True, kw_only=True)
class Member(Record):
    """The record of a member of a family; `name` is its name in the registry."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Trained(Record):
    """Of whatever learns by `train`."""

    learning_rate: float = traced(1e-3, above=0)
    """Peak rate, which the schedule multiplies."""
    optimizer: Optimizer = "adam"
    schedule: Schedule = "constant"


@dataclass(frozen=True, kw_only=True)
class StegoRecord(Member):
    """Of a stego method."""

    @property
    def seed(self) -> int:
        """Of its own training; a field of those that train."""
        return 0


@dataclass(frozen=True, kw_only=True)
class DefenseRecord(Member):
    """Of a defense. What it is, besides its hyper-parameters, a plan must know before
    anything is built."""

    hides: ClassVar[bool] = False
    """Whether sensitive images are hidden in covers."""
    sends_plain: ClassVar[bool] = False
    """Whether its `send` is the plain edge, as `defenses.plain` has it."""
    perturbs: ClassVar[bool] = False
    """Whether what enters the edge is not the stego itself."""
    random: ClassVar[bool] = False
    """Whether what it sends depends on the key: noise, masks, draws."""

    cut: str = "pool1"
    """The layer after which the network is cut."""


@dataclass(frozen=True, kw_only=True)
class AttackRecord(Member):
    """Of an attack or of what is put around one."""

    random: ClassVar[bool] = False
    """Whether what it makes of features depends on the key that inverts them."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `base.Knowledge` that it uses."""
        return ()
