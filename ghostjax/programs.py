"""Compiled programs on disk that cannot be read are made again.

jax writes its entries in place, so that a kill, a full disk or a damaged one leaves
entries that it can neither read nor, as they are there, replace: it compiles that
program anew in every later run. Here such an entry is taken away when it is met.
"""

from functools import wraps
from pathlib import Path
from typing import Any

import jax

from ghostjax import terminal

__all__ = ["mend"]

_READ = "get_executable_and_time"  # of jax's own module; not public
_FOLDER = "jax_compilation_cache_dir"
_said: set[str] = set()  # folders of which it has been said


def mend() -> bool:
    """Makes this process take away entries that it cannot read; whether it can.

    Where jax has no such function any more, everything is as it is without: jax warns
    of each entry.
    """
    try:
        from jax._src import compilation_cache as entries

        usual = getattr(entries, _READ)
    except (ImportError, AttributeError):
        return False
    if not getattr(usual, "mends", False):
        setattr(entries, _READ, _mending(usual))
    return True


def _mending(usual: Any) -> Any:
    @wraps(usual)
    def read(cache_key: str, *rest: Any, **named: Any) -> Any:
        try:
            return usual(cache_key, *rest, **named)
        except Exception as error:
            folder = Path(getattr(jax.config, _FOLDER, None) or "")
            if not _removed(folder, cache_key):
                raise
            _say(folder, error)
            return None, None  # it is not there: jax compiles it and writes it anew

    setattr(read, "mends", True)  # noqa: B010 (a function has no such attribute)
    return read


def _removed(folder: Path, key: str) -> bool:
    try:
        (folder / f"{key}-cache").unlink()
    except OSError:
        return False
    return True


def _say(folder: Path, error: Exception) -> None:
    """One line for a folder, however many of its entries are damaged."""
    if str(folder) not in _said:
        _said.add(str(folder))
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        terminal.say(
            f"ghostjax: compiled programs in {folder} cannot be read ({why}): they are "
            "made again"
        )
