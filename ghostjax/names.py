"""One rule for names, and one way of saying that a name is unknown. Imports no jax."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

__all__ = ["LONGEST", "require", "shown", "unknown"]

LONGEST = 80  # letters of a name
_SHOWN = 100  # letters of a value that a message repeats


def require(label: str, name: Any) -> str:
    """The name itself. Names become folders and stand in tables and commands.

    Args:
      label: what it is the name of; opens the message.
      name: 1 to 80 of a to z, A to Z, 0 to 9 and . _ -, not dots alone.

    Raises:
      ValueError: any other name.
    """
    good = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._-]+", name)
    if good and len(name) <= LONGEST and name.strip("."):
        return str(name)
    length = f"; these are {len(name)}" if good and len(name) > LONGEST else ""
    raise ValueError(
        f"{label} = {shown(name)}: a name is letters, digits and ._- (a-z, A-Z, 0-9), "
        f"at most {LONGEST} of them, not dots alone{length}"
    )


def shown(value: Any) -> str:
    """A value as a message repeats it: in one line, its middle left out where it is
    long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits
        return f"a number of {value.bit_length()} bits"
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]}…{text[-10:]} ({len(text)} characters)"


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """The line: what kind of name, the name, the nearest known one, all known ones."""
    known = list(map(str, known))
    near = get_close_matches(shown(name).strip("'"), known, 1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {shown(name)}: {hint}known: {', '.join(known)}"
