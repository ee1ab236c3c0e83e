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

from ghostjax.training import parallel, stacks
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
    ocp.save(writing / "tree", tree)
    (writing / "digest").write_text(_digest(tree))
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
    device = parallel.one_device()
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
    )
    remedy = f"delete {folder} to make it anew"
    try:
        written = (folder / "digest").read_text()
        tree = ocp.load(folder / "tree", target)
    except Exception as error:  # orbax raises many kinds
        line = str(error).strip().split("\n")[0][:200]
        raise Corrupted(
            f"checkpoint {folder} cannot be read ({line}): {remedy}"
        ) from error
    if _digest(tree) != written:
        raise Corrupted(f"checkpoint {folder} is not what was written: {remedy}")
    # Arrays that are bound to a device are another kind to a compiled program.
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), tree)


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
