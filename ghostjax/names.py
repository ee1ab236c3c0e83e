"""One way of saying that a name is unknown, with the nearest one. Imports no jax."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = ["unknown"]


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """The line: what kind of name, the name, the nearest known one, all known ones."""
    known = list(map(str, known))
    near = get_close_matches(str(name), known, 1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}"
