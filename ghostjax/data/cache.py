"""Decoded splits on disk, so that the second start does not decode anything.

One uncompressed .npz (no pickle) per prepared folder, in `GHOSTJAX_CACHE`, else
~/.cache/ghostjax. Its name holds a hash of the folder's path and one of its files'
names, sizes and times of change: a changed file is another name. A zip archive checks
its own CRCs, so a damaged cache is noticed and named, and never silently made again.
"""

import hashlib
import os
from pathlib import Path

from ghostjax import files
from ghostjax.data.catalog import DataError, Info
from ghostjax.data.prepared import Split, require

__all__ = ["Splits", "folder", "path_for", "read", "write"]

Splits = dict[str, Split]
_LAYOUT = 1  # of the file; raise it when decoding changes


def folder() -> Path:
    """Where decoded data are kept."""
    return Path(os.environ.get("GHOSTJAX_CACHE") or "~/.cache/ghostjax").expanduser()


def path_for(name: str, prepared: Path, sources: list[Path]) -> Path:
    """The cache file for a prepared folder in the state its files are in now.

    Args:
      name: of the data set.
      prepared: its folder, NAME/VERSION.
      sources: the files that its content depends on; one that is missing counts as
        such.
    """
    state = [str(_LAYOUT)]
    for file in sorted(sources):
        facts = file.stat() if file.exists() else None
        size, time = (facts.st_size, facts.st_mtime_ns) if facts else (-1, -1)
        state.append(f"{file.name} {size} {time}")
    where, what = _hash(str(prepared.resolve())), _hash("\n".join(state))
    return folder() / "data" / f"{name}-{prepared.name}-{where}-{what}.npz"


def read(path: Path, info: Info) -> Splits | None:
    """The splits in a cache file; None: there is none that could be read.

    Raises:
      DataError: the file is damaged; it says so and tells to delete it.
    """
    if not path.is_file():
        return None
    try:
        arrays = files.read_npz(path)
        splits = {
            name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"])
            for name in ("train", "test")
        }
        for split in splits.values():
            require(split, info)
    except (files.FileError, ValueError, KeyError) as error:
        if isinstance(error.__cause__, PermissionError):
            return None  # not ours to read: decode instead
        raise DataError(
            f"the cache file {path} is damaged ({error}): delete it, and it will be "
            "made again from the prepared data"
        ) from error
    return splits


def write(path: Path, splits: Splits) -> None:
    """Keeps the splits, whole or not at all; without a word where that cannot be.

    Older states of the same prepared folder are removed.
    """
    arrays = {}
    for name, split in splits.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = split
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npz(path, arrays)
        prepared = path.name.rsplit("-", 1)[0]
        for old in path.parent.glob(f"{prepared}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except (OSError, files.FileError):  # no space, no permission: a convenience
        return


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
