"""Where a run happened: versions, device, git state. Written beside every result."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["PACKAGES", "describe", "git_state", "version"]

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


def describe() -> dict[str, str]:
    """Versions of what the numbers depend on, device, and the package's git state."""
    from ghostjax.training import parallel

    versions = {package: version(package) for package in PACKAGES}
    return {
        **versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": parallel.about(),
        "git": git_state(),
    }


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
