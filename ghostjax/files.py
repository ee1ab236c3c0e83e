"""Files, written whole or not at all and read with one clear error. Imports no jax.

What is written goes to the disk under a temporary name beside its own and is renamed
into place: whoever opens the path, also after a kill, finds the old file, the new one,
or none. Text is UTF-8.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

if TYPE_CHECKING:  # else imported where it is used: a quarter of a second
    import pyarrow

__all__ = [
    "FileError",
    "read_json",
    "read_npz",
    "read_parquet",
    "read_text",
    "whole",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_jsonl",
    "write_npz",
    "write_parquet",
    "write_text",
]


class FileError(ValueError):
    """A file that cannot be read or written; one line says which and why."""


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A stream to write to, which becomes the file `path` when the block ends.

    Where the block raises, `path` is as it was.

    Raises:
      FileError: the folder is not there or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.writing")
    try:
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {_reason(error)}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file; see `whole`."""
    with whole(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; see `whole`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented for people; see `whole`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, values: Sequence[Any]) -> None:
    """Writes a JSON value a line; see `whole`."""
    write_text(path, "".join(json.dumps(value) + "\n" for value in values))


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, not compressed; see `whole`."""
    with whole(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def write_parquet(path: Path, table: "pyarrow.Table") -> None:
    """Writes a table, the metadata of its fields included; see `whole`."""
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    write_bytes(path, sink.getvalue())


def write_csv(path: Path, table: "pyarrow.Table") -> None:
    """Writes a table with a header; see `whole`."""
    import pyarrow.csv

    sink = pyarrow.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    write_bytes(path, sink.getvalue())


def read_text(path: Path) -> str:
    """Reads UTF-8.

    Raises:
      FileError: not there, not ours to read, or not UTF-8.
    """
    with _reading(path):
        return Path(path).read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      FileError: see `read_text`; or it is no JSON.
    """
    text = read_text(path)
    with _reading(path):
        return json.loads(text)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive, whose checksums are checked.

    Raises:
      FileError: not there, not ours to read, or damaged.
    """
    # Opened here, since np.load leaves a damaged file open.
    with _reading(path), open(path, "rb") as stream:
        with np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def read_parquet(path: Path) -> "pyarrow.Table":
    """Reads a table, the metadata of its fields included.

    Raises:
      FileError: not there, not ours to read, or damaged.
    """
    import pyarrow.parquet

    with _reading(path), open(path, "rb") as stream:
        return pyarrow.parquet.read_table(stream)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # NumPy, Arrow and zip files raise many kinds
        raise FileError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
