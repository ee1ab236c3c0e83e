"""The record of the independent judge, and of whom it looks for. Imports no jax."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ghostjax.fields import LAST_SEED, static, traced
from ghostjax.records import Optimizer, Schedule, Trained

__all__ = ["FEWEST", "Judge"]

FEWEST = 10  # training images of each class, of which a judge can learn


@dataclass(frozen=True, kw_only=True)
class Judge(Trained):
    """The network that says what is to be seen in an attacker's pictures."""

    used: bool = True
    """Whether there is one; if not, only the target network looks at the pictures."""
    candidates: int = static(0, least=0)
    """Among how many test images each secret is looked for: those under attack and
    others of their labels; 0: all there are, at most 500."""
    learning_rate: float = traced(3e-3, above=0)
    """Peak rate, which the schedule multiplies."""
    optimizer: Optimizer = "adam"
    schedule: Schedule = "one_cycle"
    epochs: int = static(9, least=1)
    """Passes over the training images; fewer where `most_steps` ends them."""
    most_steps: int = static(2000, least=1)
    """Steps of the training, at most."""
    batch_size: int = static(64, least=1)
    draw: int = static(2026, least=0, most=LAST_SEED)
    """The seed of its training. The judge is an instrument: no `seeds` of a sweep vary
    it, and it is another than the targets' 0, 1, 2, …"""

    @property
    def training(self) -> "Judge":
        """Equal for all records whose judges are trained alike."""
        return replace(self, used=True, candidates=0)

    def refusal(self, labels: np.ndarray, class_names: Sequence[str]) -> str:
        """Why no judge can learn from images of these labels; empty where one can.

        Args:
          labels: int [N], of the train split.
          class_names: of all classes.
        """
        counts = np.bincount(labels, minlength=len(class_names))
        if counts.min() >= FEWEST:
            return ""
        fewest = class_names[int(counts.argmin())]
        return (
            f"there are {counts.min()} training images of class {fewest!r}: a judge "
            f"learns from {FEWEST} of each class or more"
        )
