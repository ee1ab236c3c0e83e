"""Where a run happened: versions, device, git state. Written beside every result."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ghostjax import files

__all__ = ["PACKAGES", "describe", "git_state", "note", "noted", "version"]

PACKAGES = (
    "ghostjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "dm-pix",
)


_PRECISION = "jax_default_matmul_precision"
_NOTES = "environments.json"  # of a trained part


def describe() -> dict[str, str]:
    """Versions of what the numbers depend on, device, and the package's git state."""
    versions = {package: version(package) for package in PACKAGES}
    return {
        **versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **_bits(),
        "git": git_state(),
    }


def _bits() -> dict[str, str]:
    """What the last bits of numbers depend on, besides the code: equal where all of
    this is equal."""
    import jax

    from ghostjax import runtime
    from ghostjax.training import parallel

    return {
        "jaxlib": version("jaxlib"),
        "device": runtime.no_backend() or parallel.about(),
        "precision": str(getattr(jax.config, _PRECISION)),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def note(part: Path) -> None:
    """Notes in a part's folder what its next steps are trained with."""
    before, now = noted(part), _bits()
    if now not in before:
        files.write_json(part / _NOTES, [*before, now])


def noted(part: Path) -> list[Any]:
    """What a part was trained with, each once: of one that was continued with other
    processors, versions or settings there are several. Empty: it is not known."""
    try:
        known = files.read_json(part / _NOTES)
    except files.FileError:  # a side file: what it says is lost, not the part
        return []
    return known if isinstance(known, list) else []


@cache
def version(package: str) -> str:
    """The installed version, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


@cache  # of the code that this process has loaded
def git_state() -> str:
    """Commit of the package's checkout, "+changes" if dirty; "" outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
