"""ghostjax: private split inference in JAX.

A network is cut into an edge half and a cloud half; what crosses the cut is protected
by GHOST, GHOST+ or a rival (or left plain) and attacked by the cloud. See README.md for
the story of one run and `ghostjax --help` for the commands.

  import ghostjax
  folder = ghostjax.run("digits")           # an experiment, by config
  from ghostjax import chain, metrics, zoo  # the modules, wherever they lie

Importing this package imports no jax; a name is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of the names below
    from ghostjax import base as base
    from ghostjax import config as config
    from ghostjax import data as data
    from ghostjax import experiments as experiments
    from ghostjax import fields as fields
    from ghostjax import own as own
    from ghostjax import pixels as pixels
    from ghostjax import records as records
    from ghostjax import registry as registry
    from ghostjax import report as report
    from ghostjax import runtime as runtime
    from ghostjax import testing as testing
    from ghostjax import toy as toy
    from ghostjax.attacks import denoise as denoise
    from ghostjax.attacks import direct as direct
    from ghostjax.attacks import inverse as inverse
    from ghostjax.attacks import rmle as rmle
    from ghostjax.attacks import shadow as shadow
    from ghostjax.config import grid as grid
    from ghostjax.defenses import arden as arden
    from ghostjax.defenses import dropout as dropout
    from ghostjax.defenses import ghost as ghost
    from ghostjax.defenses import ghost_plus as ghost_plus
    from ghostjax.defenses import hide as hide
    from ghostjax.defenses import noise as noise
    from ghostjax.defenses import plain as plain
    from ghostjax.defenses import shredder as shredder
    from ghostjax.evaluation import accuracy as accuracy
    from ghostjax.evaluation import hiding as hiding
    from ghostjax.evaluation import leakage as leakage
    from ghostjax.evaluation import metrics as metrics
    from ghostjax.experiments.api import run as run
    from ghostjax.experiments.api import sweep as sweep
    from ghostjax.models import chain as chain
    from ghostjax.models import layers as layers
    from ghostjax.models import reader as reader
    from ghostjax.models import zoo as zoo
    from ghostjax.stego import lsb as lsb
    from ghostjax.stego import nns as nns
    from ghostjax.training import fit as fit
    from ghostjax.training import loop as loop
    from ghostjax.training import parallel as parallel
    from ghostjax.training import sampling as sampling

__version__ = "0.1.0"

_FUNCTIONS = {
    "run": "ghostjax.experiments.api",
    "sweep": "ghostjax.experiments.api",
}
_PACKAGES = {
    "": ("base", "fields", "own", "pixels", "records", "registry", "runtime")
    + ("toy",),
    "attacks": ("denoise", "direct", "inverse", "rmle", "shadow"),
    "config": ("grid",),
    "defenses": ("arden", "dropout", "ghost", "ghost_plus", "hide", "noise", "plain")
    + ("shredder",),
    "evaluation": ("accuracy", "hiding", "leakage", "metrics"),
    "models": ("chain", "layers", "reader", "zoo"),
    "stego": ("lsb", "nns"),
    "training": ("fit", "loop", "parallel", "sampling"),
}
"""Package -> its modules that are a name of `ghostjax` too."""
_MODULES = {
    name: f"ghostjax.{package}.{name}" if package else f"ghostjax.{name}"
    for package, names in _PACKAGES.items()
    for name in names
} | {
    name: f"ghostjax.{name}"
    for name in ("config", "data", "experiments", "report", "testing")
}

__all__ = sorted(["__version__", *_FUNCTIONS, *_MODULES])


if not TYPE_CHECKING:  # to a type checker any name at all would be there

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(_MODULES[name])
        if name in _FUNCTIONS:
            return getattr(import_module(_FUNCTIONS[name]), name)
        raise AttributeError(f"module 'ghostjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
