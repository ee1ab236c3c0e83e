"""Files, written whole or not at all and read with one clear error. Imports no jax.

What is written goes to the disk under a temporary name beside its own and is renamed
into place: whoever opens the path, also after a kill, finds the old file, the new one,
or none. Text is UTF-8.

Files that numbers are read from have their SHA-256 in a list beside them, as
`sha256sum -c digests.sha256` reads it. Whoever reads a file here that is listed gets
what was written, or an error.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

if TYPE_CHECKING:  # else imported where it is used: a quarter of a second
    import pyarrow

__all__ = [
    "FileError",
    "SUMS",
    "Unwritable",
    "csv_bytes",
    "damage",
    "json_bytes",
    "jsonl_bytes",
    "make_folder",
    "npz_bytes",
    "parquet_bytes",
    "read_bytes",
    "read_json",
    "read_npz",
    "read_parquet",
    "read_text",
    "reading",
    "require_descriptors",
    "require_room",
    "sums",
    "tidy",
    "unwritable",
    "whole",
    "write_bytes",
    "write_json",
    "write_npz",
    "write_sealed",
    "write_text",
]

SUMS = "digests.sha256"
"""The list of digests, a line a file: 64 hex digits, two spaces, the name."""
_TEMPORARY = ".writing"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileError(ValueError):
    """A file that cannot be read or written; one line says which and why."""

    @property
    def is_systems(self) -> bool:
        """Whether the system has refused it, and nothing is known of the content."""
        return getattr(self.__cause__, "errno", None) is not None


class Unwritable(FileError):
    """A file or folder that cannot be written, whoever wants to."""

    @property
    def is_read_only(self) -> bool:
        """Whether nobody may write there; else there is no room, or no such folder."""
        code = getattr(self.__cause__, "errno", None)
        return code in (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def whole(path: Path, size: int = 0) -> Iterator[IO[bytes]]:
    """A stream to write to, which becomes the file `path` when the block ends.

    Where the block raises, `path` is as it was.

    Args:
      path: of the file; its folder is there.
      size: in bytes, where it is known before.

    Raises:
      Unwritable: the folder is not there or cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}{_TEMPORARY}")
    try:
        try:
            with temporary.open("xb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)  # or `tidy` would take it away
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            if temporary.exists():
                size = max(size, temporary.stat().st_size)
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error, size) from error


def tidy(folder: Path) -> None:
    """Takes away what a kill has left half written in a folder: temporary files that no
    process has open."""
    try:
        left = [x for x in os.scandir(folder) if x.name.endswith(_TEMPORARY)]
    except OSError:
        return
    for entry in left:
        try:
            with open(entry.path, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.unlink(entry.path)
        except OSError:  # at work, gone, a folder, or not ours
            continue


def unwritable(path: Path, error: OSError, size: int = 0) -> Unwritable:
    """The error that says why a path of some size cannot be written."""
    reason = _reason(error)
    if error.errno in _FULL:
        reason = f"{reason}: {_room(path, size)}"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        gone = f"{path.parent} is not there"
        reason = _blocked(path.parent) or (reason if path.parent.is_dir() else gone)
    return Unwritable(f"{path} cannot be written: {reason}")


def require_room(path: Path, size: int) -> None:
    """Refuses to begin what does not fit.

    Raises:
      Unwritable: fewer bytes than `size` are free where `path` is to be written.
    """
    if _free(path) < size:
        reason = f"{os.strerror(errno.ENOSPC)}: {_room(path, size)}"
        raise Unwritable(f"{path} cannot be written: {reason}")


def require_descriptors(path: Path, count: int) -> None:
    """Refuses to begin what the process may not have files enough for.

    Raises:
      Unwritable: fewer than `count` files may be opened besides those that are.
    """
    try:
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(open(os.devnull, "rb"))
    except OSError as error:
        raise Unwritable(
            f"{path}: {_reason(error)}: {count} are needed besides those that are "
            "open; raise the limit (`ulimit -n 1024`), and the same command continues"
        ) from error


def _room(path: Path, size: int) -> str:
    """What is needed, what there is, and what to do."""
    needed = f"{size:,} bytes are needed, " if size else ""
    return (
        f"{needed}{_free(path):,} are free; make room, and the same command continues"
    )


def _free(path: Path) -> int:
    """Bytes that are free where a path is, or is to be."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def make_folder(path: Path) -> Path:
    """Makes a folder and those above it, where they are not there, and takes away what
    a kill has left in it (`tidy`); returns it.

    Raises:
      Unwritable: it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = _blocked(path) or _reason(error)
        raise Unwritable(f"{path} cannot be made: {reason}") from error
    tidy(path)
    return path


def _blocked(folder: Path) -> str:
    """What stands in a folder's place, or in that of one above it; empty: nothing."""
    for place in (*reversed(folder.parents), folder):
        if place.is_dir():
            continue
        if place.is_symlink():
            return (
                f"{place} is a link to {os.readlink(place)}, which is not there: make "
                "that folder, or take the link away"
            )
        return f"{place} is a file" if place.exists() else ""
    return ""


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file; see `whole`."""
    with whole(path, len(data)) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; see `whole`. What a name in no encoding has of its own (lone
    surrogates) is written as `\\udce9`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented for people; see `whole`."""
    write_bytes(path, json_bytes(value))


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, not compressed; see `whole`."""
    with whole(path, sum(array.nbytes for array in arrays.values())) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def write_sealed(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files, and before the last of them the list of their digests.

    So the last one says that all are there: it is never newer than the others. Digests
    of other files stay in the list.

    Args:
      folder: of the files and the list.
      contents: name -> content, in the order in which they are written.

    Raises:
      Unwritable: see `whole`.
    """
    *others, last = contents
    for name in others:
        write_bytes(folder / name, contents[name])
    try:
        listed = sums(folder)
    except FileError:
        listed = {}  # a damaged list is written anew
    listed |= {k: hashlib.sha256(v).hexdigest() for k, v in contents.items()}
    lines = [f"{digest}  {name}\n" for name, digest in listed.items()]
    write_text(folder / SUMS, "".join(lines))
    write_bytes(folder / last, contents[last])


def json_bytes(value: Any) -> bytes:
    """The content of a JSON file, indented for people."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def jsonl_bytes(values: Sequence[Any]) -> bytes:
    """The content of a file with a JSON value a line."""
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a file of arrays by name, not compressed."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def parquet_bytes(table: "pyarrow.Table") -> bytes:
    """The content of a table's file, the metadata of its fields included."""
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def csv_bytes(table: "pyarrow.Table") -> bytes:
    """The content of a table's file with a header."""
    import pyarrow.csv

    sink = pyarrow.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def sums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of the files that the folder's list names; empty: no list.

    Raises:
      FileError: the list cannot be read, or is none.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    with reading(path):
        listed = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.fullmatch(r"([0-9a-f]{64})  ([^/]+)", line)
            if match is None:
                raise ValueError(f"{line[:20]!r} is no digest: the list is damaged")
            listed[match[2]] = match[1]
        return listed


def damage(path: Path) -> str:
    """Why a file is not what was written, one line that names it; empty: it is, or no
    list says what was written.

    Raises:
      FileError: the system does not let it be read: nothing good is called damaged.
    """
    try:
        if Path(path).name in sums(Path(path).parent):
            read_bytes(path)
    except FileError as error:
        if error.is_systems:
            raise
        return str(error)
    return ""


def read_bytes(path: Path) -> bytes:
    """Reads a file, as whatever is read here.

    Raises:
      FileError: not there, not ours to read; or a list of digests beside it names it,
        or another file like it, and it is not what was written.
    """
    with reading(path):
        content = Path(path).read_bytes()
        _require_written(path, content)
        return content


def _require_written(path: Path, content: bytes) -> None:
    """Refuses a content that the folder's list states another digest of."""
    stated = sums(Path(path).parent).get(Path(path).name)
    if stated is not None and hashlib.sha256(content).hexdigest() != stated:
        raise ValueError(f"it is not what was written (SHA-256, {SUMS})")


def read_text(path: Path) -> str:
    """Reads UTF-8.

    Raises:
      FileError: see `read_bytes`; or it is not UTF-8.
    """
    content = read_bytes(path)
    with reading(path):
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8").read()


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      FileError: see `read_text`; or it is no JSON.
    """
    text = read_text(path)
    with reading(path):
        return json.loads(text)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive, whose checksums are checked.

    Raises:
      FileError: see `read_bytes`; or it is no archive of arrays.
    """
    # Opened here, since np.load leaves a damaged file open.
    with reading(path), _checked(path) as stream:
        with np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def read_parquet(path: Path) -> "pyarrow.Table":
    """Reads a table, the metadata of its fields included.

    Raises:
      FileError: see `read_bytes`; or it is no table.
    """
    import pyarrow.parquet

    with reading(path), _checked(path) as stream:
        return pyarrow.parquet.read_table(stream)


@contextmanager
def _checked(path: Path) -> Iterator[IO[bytes]]:
    """A file to read; one that is listed is in memory, since it was compared."""
    if Path(path).name in sums(Path(path).parent):
        yield io.BytesIO(read_bytes(path))
        return
    with open(path, "rb") as stream:
        yield stream


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is raised within becomes the error that names the file.

    Raises:
      FileError: anything was raised.
    """
    try:
        yield
    except FileError:
        raise
    except Exception as error:  # NumPy, Arrow and zip files raise many kinds
        raise FileError(f"{path} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
