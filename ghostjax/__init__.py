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
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "run": "ghostjax.experiments.api",
    "sweep": "ghostjax.experiments.api",
}
_PACKAGES = {
    "": ("base", "fields", "pixels", "records", "registry", "runtime"),
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
    name: f"ghostjax.{name}" for name in ("config", "data", "report") + ("experiments",)
}

__all__ = sorted(["__version__", *_FUNCTIONS, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'ghostjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
