"""How this process runs jax: programs kept on disk, freed memory kept in hand.

Call `configure` once, before the first computation; the command line does.
"""

import ctypes
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import jax

from ghostjax import environ, programs, terminal

__all__ = [
    "cache_programs",
    "configure",
    "keep_memory",
    "no_backend",
    "on_cpu",
    "require_backend",
    "require_usual",
    "spare_autotuning",
    "written_for",
]

_platform: str | None = None  # that programs are written for; None: the one that runs

_TRITON = "xla_gpu_enable_triton_gemm"

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def configure(cached: bool = True) -> Path | None:
    """Sets this process up; returns the folder of compiled programs, if there is one.

    Args:
      cached: keep compiled programs on disk; a benchmark that times compiling does not.

    Float32 products are computed as such (no TF32 on GPU, whatever the environment
    says): an LSB secret lives in the last bits of the features.

    Raises:
      ValueError: as `require_usual` and `require_backend`.
    """
    require_usual()
    jax.config.update("jax_default_matmul_precision", "highest")
    spare_autotuning()
    keep_memory()
    require_backend()  # which makes it: after what it must know
    return cache_programs() if cached else None


_USUAL = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_disable_jit": False,
}
"""Switches of jax that change every number, and what all that is kept was made with."""


def require_usual() -> None:
    """Refuses switches of jax that change numbers: what is trained under one would be
    taken for what is trained under the other.

    Raises:
      ValueError: names the switch, as environment variable and in Python.
    """
    for name, usual in _USUAL.items():
        value = getattr(jax.config, name, usual)
        if value != usual:
            raise ValueError(
                f"{name.upper()} = {value}: it changes every number, and ghostjax has "
                f"them with {usual}: unset it, or `jax.config.update({name!r}, "
                f"{usual!r})` first"
            )


def on_cpu() -> bool:
    """Whether programs are written for XLA's CPU backend.

    The one question behind every choice between what CPUs and what accelerators run
    fastest: how steps are looped (`loop`) and how convolutions are written
    (`convolution`, `frozen`). It is asked while a program is traced.
    """
    return (_platform or jax.default_backend()) == "cpu"


@contextmanager
def written_for(platform: str) -> Iterator[None]:
    """Programs traced inside are written for another backend than the one that runs.

    For checks of one backend's programs on another. Where that changes anything, what
    jax has traced and compiled in this process is forgotten on the way in and out,
    since it does not know of this.

    Args:
      platform: "cpu"; any other name stands for an accelerator.
    """
    global _platform
    before, was_cpu = _platform, on_cpu()
    _platform = platform
    changed = on_cpu() != was_cpu
    if changed:
        jax.clear_caches()
    try:
        yield
    finally:
        _platform = before
        if changed:
            jax.clear_caches()


def spare_autotuning() -> None:
    """Asks XLA's GPU compiler for the vendor's matrix products alone.

    Trying Triton's variants of every product is most of what compiling costs on an
    H200: a step of cnn2 compiles in 5.5 s in place of 30 and runs as fast
    (benchmarks/README.md). A user's own word in `XLA_FLAGS` stands.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _TRITON not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_TRITON}=false".strip()


def keep_memory() -> bool:
    """Asks glibc to keep freed memory instead of returning it; whether it did.

    XLA's CPU backend frees the large buffers of every step. By default the system takes
    them back and faults them in again, page by page, on the next step, which doubles
    the time of convolutions (benchmarks/convolution.py).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1)
    return all([mallopt(name, value) == 1 for name, value in settings])


def cache_programs() -> Path | None:
    """Turns the persistent cache on, with its thresholds at 0 (jax skips programs that
    compiled in under a second; ours are many and small).

    `GHOSTJAX_CACHE` (default ~/.cache/ghostjax) holds it; jax's own
    `JAX_COMPILATION_CACHE_DIR` comes first. None, with a line on standard error, where
    no folder can be written: programs are compiled anew then.
    """
    try:
        folder = _programs()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(folder))
    except (OSError, ValueError) as error:
        said = error
        if isinstance(error, OSError):
            said = ValueError(f"{error.filename}: {error.strerror}")
        terminal.say(f"ghostjax: compiled programs are not kept: {said}")
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    programs.mend()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _programs() -> Path:
    variable = "JAX_COMPILATION_CACHE_DIR"
    if environ.word(variable):
        return environ.folder(variable, "")
    return environ.cache() / "compiled"


def require_backend() -> None:
    """Refuses to go on where jax has no device.

    Raises:
      ValueError: `no_backend` in a line.
    """
    if why := no_backend():
        raise ValueError(why)


def no_backend() -> str:
    """Why jax has no device to run on: what asks for which, and what is installed;
    empty where it has one."""
    try:
        jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # of no plugin: no words at all
        said = str(error).strip().partition("\n")[0]
    else:
        return ""
    asking = [f"{name}={environ.word(name)}" for name in _ASKING if environ.word(name)]
    platforms = getattr(jax.config, "jax_platforms", None)
    if not asking and platforms:
        asking = [f"jax_platforms = {platforms!r}"]
    wanted, there = " and ".join(asking) or "this machine", ", ".join(_plugins())
    return (
        f"jax has no device for {wanted} ({said or 'no plugin for it'}): plugins "
        f"installed beside the CPU's: {there or 'none'}; unset what asks for it, or "
        "install the plugin (`pip install 'jax[cuda12]'`) where there is such a device"
    )


_ASKING = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")


def _plugins() -> list[str]:
    """Names of the installed plugins of jax, as jax itself finds them."""
    names = {entry.name for entry in entry_points(group="jax_plugins")}
    if package := find_spec("jax_plugins"):
        folders = package.submodule_search_locations or []
        names |= {module.name for module in pkgutil.iter_modules(list(folders))}
    return sorted(names)
