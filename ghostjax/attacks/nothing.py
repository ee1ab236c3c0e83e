"""No attack, and no denoiser: what a config without them builds."""

from typing import Any

from ghostjax.attacks.records import NoAttack, NoDenoise
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Features,
    Inversion,
    Key,
    Knowledge,
    Probe,
)
from ghostjax.fields import Hyper
from ghostjax.training.fit import Fit

__all__ = ["beneath", "no_attack", "no_denoiser"]


def no_attack(cut: Cut, record: NoAttack, context: Context) -> None:
    """The cloud does not try: None."""
    return None


def no_denoiser(cut: Cut, record: NoDenoise, context: Context) -> Attack | None:
    """The attack under it as it is, with the hyper-parameters of a denoised one.

    Args:
      cut: not used.
      record: no hyper-parameters.
      context: `inner`, the attack; None where the cloud does not try.

    Returns:
      The attack, whose `hyper` is {"attack": its own, "denoise": not read}; None
      without one.
    """
    inner = context.inner
    if inner is None:
        return None

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        return inner.fit(key, hyper["attack"], knowledge)

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        return inner.invert(params, key, features, hyper["attack"])

    return inner._replace(fit=fit, invert=invert, probe=beneath(inner.probe))


def beneath(probe: Probe | None) -> Probe | None:
    """The probe of an attack under a denoiser, whose hyper-parameters nest it."""
    if probe is None:
        return None

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        return probe.fit(key, hyper["attack"], knowledge)

    return probe._replace(fit=fit)
