"""The variables of the environment that ghostjax reads: an empty one is unset, and a
folder may begin with ~. Imports no jax."""

import os
from pathlib import Path

__all__ = ["cache", "folder", "word"]


def word(name: str) -> str:
    """The value of a variable; empty where it is not set."""
    return os.environ.get(name, "").strip()


def folder(name: str, usual: str | Path) -> Path:
    """The folder that a variable names, or the usual one.

    Raises:
      ValueError: it begins with ~, and this user has no home.
    """
    stated = word(name)
    try:
        return Path(stated or usual).expanduser()
    except RuntimeError as error:
        where = f"{name}={stated}" if stated else f"{usual} is where it would be"
        raise ValueError(
            f"{where}, and this user has no home folder: set {name} to a whole path, "
            "or HOME"
        ) from error


def cache() -> Path:
    """Where decoded data and compiled programs are kept: GHOSTJAX_CACHE, or
    ~/.cache/ghostjax.

    Raises:
      ValueError: see `folder`.
    """
    return folder("GHOSTJAX_CACHE", "~/.cache/ghostjax")
