"""The hyper-parameters of the independent judge. Imports no jax."""

from dataclasses import dataclass

from ghostjax.fields import seed, static, traced
from ghostjax.records import Optimizer, Schedule, Trained

__all__ = ["Judge"]


@dataclass(frozen=True, kw_only=True)
class Judge(Trained):
    """The network that says what is to be seen in an attacker's pictures."""

    learning_rate: float = traced(3e-3, above=0)
    """Peak rate, which the schedule multiplies."""
    optimizer: Optimizer = "adam"
    schedule: Schedule = "one_cycle"
    epochs: int = static(9, least=1)
    """Passes over the training images; fewer where `most_steps` ends them."""
    most_steps: int = static(2000, least=1)
    """Steps of the training, at most."""
    batch_size: int = static(64, least=1)
    seed: int = seed(2026)
    """Of its training alone, another than the targets' 0, 1, 2, …"""
