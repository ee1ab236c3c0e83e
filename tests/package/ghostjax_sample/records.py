"""The hyper-parameters, and the rows of the registry that the entry points name."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ghostjax.fields import static, traced
from ghostjax.records import AttackRecord, DefenseRecord
from ghostjax.registry import Row


@dataclass(frozen=True, kw_only=True)
class Quantise(DefenseRecord):
    """Features rounded to multiples of a step."""

    name: Literal["quantise"] = "quantise"
    step: float = traced(0.5, above=0)
    """Between two values that are sent."""


@dataclass(frozen=True, kw_only=True)
class Mean(AttackRecord):
    """The attacker answers every target with the mean of its own images."""

    needs: ClassVar[tuple[str, ...]] = ("public_images",)

    name: Literal["mean"] = "mean"
    images: int = static(100, least=1)
    """Of its own, whose mean it takes."""


@dataclass(frozen=True, kw_only=True)
class Blur(AttackRecord):
    """Each picture mixed with its own mean."""

    name: Literal["blur"] = "blur"
    share: float = traced(0.5, least=0, most=1)
    """Of the mean."""


QUANTISE = Row(Quantise, "ghostjax_sample.members:quantise")
MEAN = Row(Mean, "ghostjax_sample.members:mean")
BLUR = Row(Blur, "ghostjax_sample.members:blur")
