"""Where a run happened: versions, device, git state. Written beside every result."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

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
    import jax

    versions = {package: version(package) for package in PACKAGES}
    device = jax.devices()[0]
    kind = f"{device.platform} ({device.device_kind}, {jax.device_count()} devices)"
    if device.platform == "cpu":
        kind = f"cpu ({os.cpu_count()} cores)"
    return {
        **versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": kind,
        "git": git_state(),
    }


def version(package: str) -> str:
    """The installed version, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


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
