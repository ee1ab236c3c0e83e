"""What a run's folder says of the run: done, running, failed, missing. No jax.

A folder holds `row.parquet` once its run is done (where a digest says what was written,
that row), a `lock` that a process holds as long as it works there, with one line of
JSON about that process, and `error.json` where the run has failed. Nothing here waits,
and only `write_error` and `clear_error` change anything.
"""

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ghostjax import files

__all__ = [
    "Failure",
    "State",
    "clear_error",
    "has_row",
    "holder",
    "read_error",
    "state_of",
    "write_error",
]

_ROW, _LOCK, _ERROR = "row.parquet", "lock", "error.json"


class Failure(NamedTuple):
    """Why a run has failed."""

    stage: str
    error: str  # one line
    kind: str  # the name of the exception's class
    time: str  # ISO, UTC


class State(NamedTuple):
    """Where a run stands."""

    word: Literal["done", "running", "begun", "failed", "missing"]
    """Begun, which only the parts of a run can say: it has a checkpoint."""
    since: str = ""  # ISO, UTC: when the process that runs it began; empty: not known
    failure: Failure | None = None  # of one that has failed


def state_of(folder: Path) -> State:
    """Where the run of a folder stands.

    A run that was stopped is missing: the same command continues it. One that has
    failed and is tried again is running.
    """
    if has_row(folder):
        return State("done")
    if _is_held(folder / _LOCK):
        return State("running", since=_since(folder / _LOCK))
    if (failure := read_error(folder)) is not None:
        return State("failed", failure=failure)
    return State("missing")


def has_row(folder: Path) -> bool:
    """Whether the folder's run has its row, and as it was written."""
    path = folder / _ROW
    return path.exists() and not files.damage(path)


def write_error(folder: Path, stage: str, error: BaseException) -> None:
    """Notes in the run's folder what it has failed with, in place of an older note."""
    kind = type(error).__name__
    line = str(error).strip().partition("\n")[0] or kind
    failure = Failure(stage=stage, error=line, kind=kind, time=_now())
    files.write_json(folder / _ERROR, failure._asdict())


def read_error(folder: Path) -> Failure | None:
    """What the folder's run has failed with; None: there is no such note.

    A note that is damaged is a failure too, which says so.
    """
    path = folder / _ERROR
    if not path.exists():
        return None
    try:
        note = files.read_json(path)
    except files.FileError as error:
        return Failure(stage="", error=str(error), kind="FileError", time="")
    stated = note if isinstance(note, dict) else {}
    return Failure(*(str(stated.get(name, "")) for name in Failure._fields))


def clear_error(folder: Path) -> None:
    """Takes the note of a failure away, where there is one."""
    (folder / _ERROR).unlink(missing_ok=True)


def holder() -> str:
    """What a process writes into a lock that it holds: a line of JSON about itself."""
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
    return json.dumps(about) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_held(lock: Path) -> bool:
    """Whether a process holds the lock; makes no file, changes none, and waits not.

    The lock is taken for a moment, which `parts.lock` tries for longer than.
    """
    try:
        with lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is not ours to read
        return False
    return False


def _since(lock: Path) -> str:
    """When the process that holds the lock took it; empty: it does not say."""
    try:
        about: Any = files.read_json(lock)
        return str(about["since"])
    except (files.FileError, TypeError, KeyError, IndexError):
        return ""
