"""Decoded splits on disk, so that the second start does not decode anything.

One uncompressed .npz (no pickle) per folder, in `GHOSTJAX_CACHE`, else
~/.cache/ghostjax. Its name holds a hash of the folder's path and one of the state that
its files are in: of what TFDS prepared their names, sizes and times of change, of image
files all bytes. A changed file is another name. A zip archive checks its own CRCs, so a
damaged cache is noticed and named, and never silently made again.
"""

import hashlib
from pathlib import Path
from typing import Any

from ghostjax import environ, files
from ghostjax.data.catalog import DataError
from ghostjax.data.dataset import Split, require

__all__ = ["Splits", "digest", "folder", "path_for", "place", "read", "write"]

Splits = dict[str, Split]
_LAYOUT = 1  # of the file; raise it when decoding changes


def folder() -> Path | None:
    """Where decoded data are kept; None: there is no such place, and they are not."""
    try:
        return environ.cache()
    except ValueError:
        return None


def path_for(name: str, prepared: Path, sources: list[Path]) -> Path | None:
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
    label = f"{name.replace('/', '-')}-{prepared.name}"
    return place(label, digest(str(prepared.resolve())), digest(*state))


def place(label: str, where: str, what: str) -> Path | None:
    """The cache file of a folder (by a digest of where it is) in a state (another);
    None: nothing is kept."""
    home = folder()
    return home and home / "data" / f"{label}-{where}-{what}.npz"


def digest(*parts: Any) -> str:
    """12 hex digits of the parts' words."""
    text = "\n".join(map(str, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read(
    path: Path | None, classes: int, shape: tuple[int, ...] | None = None
) -> Splits | None:
    """The splits in a cache file; None: there is none that could be read.

    Args:
      path: of the file; None: nothing is kept.
      classes, shape: what the splits are to have; see `dataset.require`.

    Raises:
      DataError: the file is damaged; it says so and tells to delete it.
    """
    if path is None or not path.is_file():
        return None
    try:
        arrays = files.read_npz(path)
        splits = {
            name: Split(arrays[f"{name}_images"], arrays[f"{name}_labels"])
            for name in ("train", "test")
        }
        for split in splits.values():
            require(split, classes, shape)
    except (files.FileError, ValueError, KeyError) as error:
        if isinstance(error.__cause__, PermissionError):
            return None  # not ours to read: decode instead
        raise DataError(
            f"the cache file {path} is damaged ({error}): delete it, and it will be "
            "made again"
        ) from error
    return splits


def write(path: Path | None, splits: Splits) -> None:
    """Keeps the splits, whole or not at all; without a word where that cannot be.

    Older states of the same folder are removed.
    """
    if path is None:
        return
    arrays = {}
    for name, split in splits.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = split
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npz(path, arrays)
        same_folder = path.name.rsplit("-", 1)[0]
        for old in path.parent.iterdir():
            alike = old.name.rsplit("-", 1)[0] == same_folder
            if alike and old.suffix == ".npz" and old != path:
                old.unlink(missing_ok=True)
    except (OSError, files.FileError):  # no space, no permission: a convenience
        return
