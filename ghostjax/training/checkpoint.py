"""Checkpoints: pytrees of arrays on disk, whole or not there. The only orbax file.

A checkpoint is a folder `tree/` (orbax) beside `digest`, the SHA-256 of its arrays. It
is written under another name and renamed, so a kill leaves no half one; what was
changed on disk is refused by name.
"""

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ghostjax.training import stacks
from ghostjax.training.stacks import latest

__all__ = ["Corrupted", "Tree", "keep_newest", "latest", "restore", "save"]

Tree = TypeVar("Tree")
logging.getLogger("absl").setLevel(logging.ERROR)  # orbax logs each save


class Corrupted(ValueError):
    """A checkpoint that cannot be read or is not what was written."""


def save(folder: Path, tree: Any) -> None:
    """Writes a pytree of arrays to `folder`, replacing nothing half way.

    Args:
      folder: the checkpoint's own folder; a complete one already there is replaced.
      tree: arrays only.
    """
    folder = folder.absolute()
    writing = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    arrays = jax.device_get(tree)  # orbax takes twice as long for those of a device
    ocp.save(writing / "tree", arrays)
    (writing / "digest").write_text(_digest(arrays))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(writing, folder)


def restore(folder: Path, like: Tree) -> Tree:
    """Reads a checkpoint.

    Args:
      folder: what `save` wrote.
      like: the same pytree of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      Corrupted: unreadable, of other shapes, or not what was written.
    """
    folder = folder.absolute()
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
    remedy = f"delete {folder} to make it anew"
    try:
        written = (folder / "digest").read_text()
        tree = ocp.load(folder / "tree", target)
        jax.tree.map(_require_shape, tree, target)
    except Exception as error:  # orbax raises many kinds
        line = str(error).strip().split("\n")[0][:200]
        raise Corrupted(
            f"checkpoint {folder} cannot be read ({line}): {remedy}"
        ) from error
    if _digest(tree) != written:
        raise Corrupted(f"checkpoint {folder} is not what was written: {remedy}")
    # Arrays that are bound to a device are another kind to a compiled program.
    return jax.tree.map(jax.device_put, tree)


def _require_shape(leaf: np.ndarray, wanted: np.ndarray) -> None:
    """Orbax gives a host's array as it was written."""
    if leaf.shape != wanted.shape:
        raise ValueError(f"it has an array {leaf.shape} where {wanted.shape} is wanted")


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all but the `count` newest checkpoints under `folder`."""
    for step in sorted(stacks.steps(folder))[:-count]:
        shutil.rmtree(folder / str(step))


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        values = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(
            f"{jax.tree_util.keystr(path)}{values.dtype}{values.shape}".encode()
        )
        digest.update(values.tobytes())
    return digest.hexdigest()
