"""What an attacker has got, in words that hold. For finished numbers; imports no jax.

That it has recovered nothing is said where enough pictures were judged, where the upper
95 % limits of recognition and re-identification lie within `CLOSE` points of chance,
where no single picture is clearly its secret's, and where PSNR and SSIM are no better
than those of pictures that are made without features and without the class. That it has
recovered something is said where a lower limit lies above what chance or such pictures
give. All else is too little to tell.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ghostjax.evaluation.intervals import Share

__all__ = ["CLOSE", "ENOUGH", "Quality", "Reading", "UNLIKELY", "Verdict", "verdict"]

ENOUGH = 50  # pictures, from which nothing can be said to be recovered
CLOSE = 5.0  # points above chance, below which the upper limit must lie
UNLIKELY = 0.05  # that so many pictures are clear by chance


class Reading(NamedTuple):
    """A share of pictures that show their secret."""

    words: str  # "recognised by the judge", "re-identified by SSIM among 73"
    share: Share

    @property
    def says_something(self) -> bool:
        """Whether chance leaves room: with one sensitive label recognition does not."""
        return self.share.chance + CLOSE < 100

    @property
    def above(self) -> bool:
        """Whether more pictures show their secret than chance would let."""
        return self.share.limits.low > self.share.chance

    @property
    def clear(self) -> int:
        """How many single pictures are certain to be their secret's."""
        by_chance = (self.share.chance / 100) ** self.share.clear
        return self.share.clear if by_chance < UNLIKELY else 0

    @property
    def near_chance(self) -> bool:
        """Whether it is certain that hardly more than chance is shown."""
        return self.share.limits.high < self.share.chance + CLOSE and not self.clear

    def shown(self) -> str:
        """The numbers in words."""
        share, (percent, low, high) = self.share, self.share.limits
        return (
            f"{percent:.1f} % of {share.n:,} are {self.words} ({low:.1f} to "
            f"{high:.1f} %; chance {share.chance:.1f} %)"
        )


class Quality(NamedTuple):
    """A mean score of the attacker's pictures against the secrets; higher is better."""

    name: str  # "PSNR", "SSIM"
    mean: float
    low: float  # lower end of the mean's 95 % interval
    baseline: float  # the best mean of pictures without features and without the class
    form: str = ".3f"  # how it is printed, ".1f" for dB
    unit: str = ""

    @property
    def above(self) -> bool:
        """Whether it is certain that features have improved the pictures."""
        return self.low > self.baseline

    @property
    def no_better(self) -> bool:
        """Whether the mean is at most the baseline's; NaN is not."""
        return self.mean <= self.baseline

    def shown(self) -> str:
        """The numbers in words."""
        mean, other = (format(x, self.form) for x in (self.mean, self.baseline))
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} is {mean}{unit} (without features {other}{unit})"


class Verdict(NamedTuple):
    """What the attacker has got of the secrets."""

    kind: Literal["nothing", "something", "too few"]
    words: str  # a clause: "the attacker has recovered nothing: ..."


def verdict(readings: Sequence[Reading], qualities: Sequence[Quality]) -> Verdict:
    """What follows of what was read, found and measured.

    Args:
      readings: recognition and re-identification.
      qualities: PSNR and SSIM.

    Raises:
      ValueError: no reading, or no quality.
    """
    if not readings or not qualities:
        raise ValueError(
            f"a verdict of {len(readings)} shares and {len(qualities)} scores: give "
            "recognition or re-identification, and PSNR or SSIM"
        )
    telling = [reading for reading in readings if reading.says_something]
    shown = [reading.shown() for reading in readings]
    shown += [quality.shown() for quality in qualities]
    if len(telling) < len(readings):
        shown.append("with one sensitive label its recognition says nothing")
    evidence = [x.shown() for x in telling if x.above]
    clear = max((x.clear for x in telling), default=0)
    if clear and not evidence:
        pictures = "1 picture is" if clear == 1 else f"{clear:,} pictures are"
        evidence.append(f"{pictures} clearly the secret's")
    evidence += [quality.shown() for quality in qualities if quality.above]
    if evidence:
        rest = [line for line in shown if line not in evidence]
        return Verdict("something", _said("the secrets show", evidence + rest))
    fewest = min(reading.share.n for reading in readings)
    if (
        telling
        and fewest >= ENOUGH
        and all(reading.near_chance for reading in telling)
        and all(quality.no_better for quality in qualities)
    ):
        return Verdict("nothing", _said("the attacker has recovered nothing", shown))
    few = f"{fewest:,} pictures are too few to tell what the attacker has recovered"
    return Verdict("too few", _said(few, shown))


def _said(claim: str, numbers: Sequence[str]) -> str:
    return f"{claim}: {'; '.join(numbers)}"
