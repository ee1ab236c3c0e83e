"""Checkpoints: pytrees of arrays on disk, whole or not there. The only orbax file.

A checkpoint is a folder `tree/` (orbax) beside `digest`, the SHA-256 of its arrays. It
is written under another name and renamed, so a kill leaves no half one; what was
changed on disk is refused by name. The first of each training is read back before it
counts as saved.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ghostjax import files
from ghostjax.training import stacks
from ghostjax.training.stacks import latest

__all__ = ["Corrupted", "Tree", "keep_newest", "latest", "restore", "save", "set_aside"]

Tree = TypeVar("Tree")
# Orbax logs each save, and each error that it raises too.
logging.getLogger("absl").setLevel(logging.CRITICAL)
_READ_BACK = set[Path]()  # folders of trainings, whose first checkpoint was
_AROUND = 1 << 16  # bytes that orbax writes around arrays
_OPEN = 24  # files and sockets that it has open at once
_PATTERN = re.compile(r"[][*?\\]|[^\x20-\x7e]")  # what orbax may take for another path


_WRITING = ".writing"


class Corrupted(ValueError):
    """A checkpoint that cannot be read or is not what was written.

    Args:
      folder: its own.
      fault: what is wrong with it.
    """

    def __init__(self, folder: Path, fault: str):
        super().__init__(f"{fault}: delete {folder} to make it anew")
        self.folder, self.fault = folder, fault


def set_aside(folder: Path) -> Path:
    """Gives a damaged checkpoint a name by which none is found; returns its new path.
    Nothing is thrown away: another version may have written it."""
    aside = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    return aside


def save(folder: Path, tree: Any) -> None:
    """Writes a pytree of arrays to `folder`, replacing nothing half way.

    Args:
      folder: the checkpoint's own folder; a complete one already there is replaced.
      tree: arrays only.

    Raises:
      files.Unwritable: it cannot be written, or what was written cannot be read; what
        was there is as it was.
    """
    folder = folder.absolute()
    writing = folder.with_name(f"{folder.name}{_WRITING}")
    arrays = jax.device_get(tree)  # orbax takes twice as long for those of a device
    size = _AROUND + sum(np.asarray(x).nbytes for x in jax.tree.leaves(arrays))
    files.make_folder(folder.parent)
    shutil.rmtree(writing, ignore_errors=True)
    files.require_room(folder, size)
    files.require_descriptors(folder, _OPEN)
    try:
        _write(files.make_folder(writing), arrays)
        if folder.parent not in _READ_BACK:
            restore(writing, arrays)
            _READ_BACK.add(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(writing, folder)
    except BaseException as error:
        shutil.rmtree(writing, ignore_errors=True)
        if isinstance(error, files.FileError) or not isinstance(error, Exception):
            raise
        raise files.unwritable(folder, _system_error(error), size) from error


def _write(folder: Path, arrays: Any) -> None:
    with _plain(folder) as place, _without_traces():
        ocp.save(place / "tree", arrays)
    files.write_text(folder / "digest", _digest(arrays))


@contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    """A path that leads to the folder and has nothing in it that orbax would take for a
    pattern or another path: its own, or a link's."""
    if not _PATTERN.search(str(folder)):
        yield folder
        return
    usual = not _PATTERN.search(os.environ.get("TMPDIR", ""))
    with TemporaryDirectory(dir=None if usual else "/tmp") as place:
        link = Path(place, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


@contextmanager
def _without_traces() -> Iterator[None]:
    """What goes wrong in orbax's threads is raised by the call too, and said once."""
    logger, hook = logging.getLogger("asyncio"), threading.excepthook
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook
        logger.setLevel(level)


def _system_error(error: Exception) -> OSError:
    """The error of the system that orbax's error, of many kinds, is about."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS, errno.EACCES):
        if f"OS error {code}" in text or os.strerror(code) in text:
            return OSError(code, os.strerror(code))
    line = text.strip().partition("\n")[0][:200] or type(error).__name__
    return OSError(0, line)


def restore(folder: Path, like: Tree) -> Tree:
    """Reads a checkpoint.

    Args:
      folder: what `save` wrote.
      like: the same pytree of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      Corrupted: unreadable, of other shapes, or not what was written.
      files.Unwritable: too few files may be open at once.
    """
    folder = folder.absolute()
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    files.require_descriptors(folder, _OPEN)
    try:
        written = files.read_text(folder / "digest")
        with _plain(folder) as place, _without_traces():
            tree = ocp.load(place / "tree", target)
        jax.tree.map(_require_shape, tree, target)
    except Exception as error:  # orbax raises many kinds
        line = str(error).strip().split("\n")[0][:200]
        fault = f"checkpoint {folder} cannot be read ({line})"
        raise Corrupted(folder, fault) from error
    if _digest(tree) != written:
        raise Corrupted(folder, f"checkpoint {folder} is not what was written")
    # Arrays that are bound to a device are another kind to a compiled program.
    return jax.tree.map(jax.device_put, tree)


def _require_shape(leaf: np.ndarray, wanted: np.ndarray) -> None:
    """Orbax gives a host's array as it was written."""
    if leaf.shape != wanted.shape:
        raise ValueError(f"it has an array {leaf.shape} where {wanted.shape} is wanted")


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all but the `count` newest checkpoints under `folder`, and those that a
    kill has left half written."""
    for step in sorted(stacks.steps(folder))[:-count]:
        shutil.rmtree(folder / str(step))
    for name in os.listdir(folder):
        if name.endswith(_WRITING):
            shutil.rmtree(folder / name, ignore_errors=True)


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        values = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(
            f"{jax.tree_util.keystr(path)}{values.dtype}{values.shape}".encode()
        )
        digest.update(values.tobytes())
    return digest.hexdigest()
