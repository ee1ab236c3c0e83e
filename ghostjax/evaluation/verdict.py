"""What an attacker has got, in words that hold. For finished numbers; imports no jax.

That it has recovered nothing is said where enough pictures were shown to an independent
judge, where the upper 95 % limits of recognition and re-identification lie within
`CLOSE` points of chance, where no single picture is clearly its secret's, and where
PSNR and SSIM are no better than those of pictures that are made without features and
without the class. That it has recovered something is said where a share is larger than
chance lets the largest of so many be, or where a mean score is better than those
pictures'. All else is left open.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from ghostjax.evaluation.intervals import Share

__all__ = ["CLOSE", "ENOUGH", "Quality", "Reading", "UNLIKELY", "Verdict", "verdict"]

ENOUGH = 50  # pictures, from which nothing can be said to be recovered
CLOSE = 5.0  # points above chance, below which the upper limit must lie
UNLIKELY = 0.05  # that so many pictures are clear by chance


class Reading(NamedTuple):
    """A share of pictures that show their secret."""

    kind: str  # "recognition", "re-identification": the largest of each is shown
    words: str  # "secrets are recognised by the judge"
    share: Share

    @property
    def says_something(self) -> bool:
        """Whether chance leaves room: with one sensitive label recognition does not."""
        return self.share.chance + CLOSE < 100

    @property
    def excess(self) -> float:
        """Points above chance."""
        return self.share.percent - self.share.chance

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
            f"{percent:.1f} % of {share.n:,} {self.words} ({low:.1f} to {high:.1f} %; "
            f"chance {share.chance:.1f} %)"
        )


class Quality(NamedTuple):
    """A mean score of the attacker's pictures against the secrets; higher is better."""

    name: str  # "PSNR", "SSIM": one of each is shown
    mean: float
    low: float  # lower end of the mean's 95 % interval
    baseline: float  # the best mean of pictures without features and without the class
    form: str = ".3f"  # how it is printed, ".1f" for dB
    unit: str = ""
    of: str = ""  # which pictures: "secrets read out"

    @property
    def excess(self) -> float:
        """How much better the mean is than the baseline."""
        return self.mean - self.baseline

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
        of = f" of {self.of}" if self.of else ""
        return f"{self.name}{of} is {mean}{unit} (without features {other}{unit})"


class Verdict(NamedTuple):
    """What the attacker has got of the secrets."""

    kind: Literal["nothing", "something", "open"]
    words: str  # a clause: "the attacker has recovered nothing: ..."


def verdict(
    readings: Sequence[Reading],
    qualities: Sequence[Quality],
    judged: bool = True,
    diverged: int = 0,
) -> Verdict:
    """What follows of what was read, found and measured.

    Args:
      readings: recognition and re-identification, of every kind of pictures and by
        everyone who looked; all count, and of each kind the largest is shown.
      qualities: PSNR and SSIM of every kind of pictures; likewise.
      judged: whether an independent judge is among the readers. A target network alone
        may be misled by the style of pictures that anyone can read.
      diverged: searches that went astray, which are in none of the numbers. An attacker
        would have repeated them with other settings.

    Raises:
      ValueError: no reading, or no quality.
    """
    if not readings or not qualities:
        raise ValueError(
            f"a verdict of {len(readings)} shares and {len(qualities)} scores: give "
            "recognition or re-identification, and PSNR or SSIM"
        )
    telling = [reading for reading in readings if reading.says_something]
    largest = _largest(telling, lambda reading: reading.kind)
    best = _largest(qualities, lambda quality: quality.name)
    numbers: list[Reading | Quality] = [*largest, *best]
    shown = [number.shown() for number in numbers]
    if len(telling) < len(readings):
        shown.append("with one sensitive label its recognition says nothing")
    tests = len(telling)
    evidence = [x.shown() for x in largest if x.share.above_chance(tests)]
    clear = max((x.clear for x in telling), default=0)
    if clear and not evidence:
        pictures = "1 picture is" if clear == 1 else f"{clear:,} pictures are"
        evidence.append(f"{pictures} clearly the secret's")
    evidence += [quality.shown() for quality in best if quality.above]
    if evidence:
        rest = [line for line in shown if line not in evidence]
        return Verdict("something", _said(_SOMETHING, evidence + rest))
    fewest = min(reading.share.n for reading in readings)
    if not judged:
        return Verdict("open", _said(_UNJUDGED, shown))
    if diverged:
        return Verdict("open", _said(_ASTRAY, shown))
    if (
        telling
        and fewest >= ENOUGH
        and all(reading.near_chance for reading in telling)
        and all(quality.no_better for quality in qualities)
    ):
        return Verdict("nothing", _said(_NOTHING, shown))
    few = f"{fewest:,} pictures are too few to tell what the attacker has recovered"
    return Verdict("open", _said(few, shown))


_T = TypeVar("_T", Reading, Quality)
_NOTHING = "the attacker has recovered nothing"
_SOMETHING = "the attacker has recovered something"
_ASTRAY = "as searches diverged it stays open what the attacker can recover"
_UNJUDGED = "without an independent judge it stays open what the attacker has recovered"


def _largest(numbers: Sequence[_T], kind: Callable[[_T], str]) -> list[_T]:
    """Of each kind the one that exceeds chance or the baseline most."""
    best: dict[str, _T] = {}
    for number in numbers:
        known = best.get(kind(number))
        if known is None or not number.excess <= known.excess:
            best[kind(number)] = number
    return list(best.values())


def _said(claim: str, numbers: Sequence[str]) -> str:
    return f"{claim}: {'; '.join(numbers)}"
