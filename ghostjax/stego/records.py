"""The hyper-parameters of every stego method. Imports no jax."""

from dataclasses import dataclass
from typing import Literal

from ghostjax.fields import seed, static, traced
from ghostjax.records import Schedule, StegoRecord, Trained

__all__ = ["Lsb", "Nns"]


@dataclass(frozen=True, kw_only=True)
class Lsb(StegoRecord):
    """Least-significant-bit substitution (GHOST III.B)."""

    name: Literal["lsb"] = "lsb"
    bits: int = traced(3, dtype="uint8", least=1, most=7)
    """zeta: low bits of the cover that take the secret's high ones."""


@dataclass(frozen=True, kw_only=True)
class Nns(StegoRecord, Trained):
    """Neural steganography: prep, hiding and reveal networks (GHOST III.B)."""

    name: Literal["nns"] = "nns"
    network: Literal["n16", "n32", "muzio65", "baluja50"] = "n32"
    """baluja50 is the papers' three-tower architecture, for accelerators."""
    distance: Literal["squared", "absolute", "ssim"] = "squared"
    """Of stego to cover and revealed to secret; absolute is L1, as printed; ssim adds
    1 - SSIM to the cover's squared error."""
    beta: float = traced(0.75, above=0)
    """Weight of the secret's error."""
    beta_start: float = traced(0.0, least=0)
    """Its weight at first, falling to beta over half the training; 0: beta itself."""
    epochs: int = static(20, least=1)
    """Passes over the training images, each once a cover and once a secret."""
    batch_size: int = static(32, least=1)
    schedule: Schedule = "cosine"
    seed: int = seed(0)
    """Of its training alone: runs that differ only in `seed` share one network."""
