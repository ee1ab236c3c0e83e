"""The persistent cache of compiled programs, with its thresholds at 0.

jax skips programs that compiled in under a second; ours are many and small.
"""

import os
from pathlib import Path

import jax


def cache() -> Path | None:
    """Turns the cache on; its folder, or None where none can be written.

    `GHOSTJAX_CACHE` (default ~/.cache/ghostjax) holds it; jax's own
    `JAX_COMPILATION_CACHE_DIR` comes first.
    """
    home = Path(os.environ.get("GHOSTJAX_CACHE", Path.home() / ".cache" / "ghostjax"))
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", home / "compiled"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
