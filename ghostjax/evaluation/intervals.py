"""How sure a share and a mean are. For finished numbers; imports no jax."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Mean", "Proportion", "Share", "Z95", "mean", "proportion"]

Z95 = NormalDist().inv_cdf(0.975)
"""Standard errors on either side of a normal mean's 95 % interval."""


class Proportion(NamedTuple):
    """A share in per cent with an interval, of 95 % where nothing else is said."""

    percent: float
    low: float
    high: float


def proportion(correct: float, n: int, errors: float = Z95) -> Proportion:
    """The share correct / n in per cent, with Wilson's interval, of 95 % by default.

    Unlike mean ± 1.96 standard errors it stays in [0, 100] and does not shrink to a
    point at 0 or 100 %. Source: Wilson, JASA 1927.

    Args:
      correct: how many of n; no whole number where it is a mean over draws.
      n: at least 1.
      errors: standard errors of a normal mean on either side of it, above 0.

    Raises:
      ValueError: `n` is below 1, or `correct` is not in 0..n.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(
            f"{correct} of {n} is no proportion: expected 0 <= correct <= n"
        )
    share, square = correct / n, errors**2 / n
    centre = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Proportion(100 * share, 100 * float(low), 100 * float(high))


class Share(NamedTuple):
    """How many of n pictures show their secret, beside what chance alone gives."""

    count: float  # type: ignore[assignment]  # ties count in part; hides tuple.count
    n: int
    chance: float  # percent
    clear: int = 0
    """How many of these stand out from all that are wrong; see `recognition`."""

    @property
    def percent(self) -> float:
        """count / n in per cent."""
        return 100 * self.count / self.n

    @property
    def limits(self) -> Proportion:
        """The share with Wilson's 95 % interval, in per cent."""
        return proportion(self.count, self.n)

    def above_chance(self, tests: int = 1) -> bool:
        """Whether it is certain that chance does not explain it, where it is one of
        several shares that are tested (Bonferroni: together they err in 2.5 %)."""
        errors = NormalDist().inv_cdf(1 - 0.025 / tests)
        return proportion(self.count, self.n, errors).low > self.chance


class Mean(NamedTuple):
    """A mean with half of its 95 % interval."""

    mean: float
    half: float  # NaN where n is below 2: one value says nothing of its spread
    n: int


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent values, with Student's t over them.

    Args:
      values: finite, one a run.

    Raises:
      ValueError: no values.
    """
    n = len(values)
    if not n:
        raise ValueError("the mean of no values: give at least one")
    half = np.nan
    if n > 1:
        errors = special.stdtrit(n - 1, 0.975)
        half = float(errors * np.std(values, ddof=1) / np.sqrt(n))
    return Mean(mean=float(np.mean(values)), half=half, n=n)
