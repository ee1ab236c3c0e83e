"""Data sets by name: load, prepare, and say what is there.

Prepared data are looked for in `data_dir`, else in the environment's TFDS_DATA_DIR,
else in ~/tensorflow_datasets, which is what tensorflow-datasets does.
"""

import os
from pathlib import Path
from typing import NamedTuple

from ghostjax import registry
from ghostjax.data import cache, prepared
from ghostjax.data.catalog import DataError, Info, info
from ghostjax.data.prepared import Dataset

__all__ = ["Available", "available", "fingerprint", "load", "prepare"]


def fingerprint(dataset: Dataset) -> list:
    """Its source, sizes and sum of training labels: what names results by."""
    counts = [len(dataset.train.labels), len(dataset.test.labels)]
    return [dataset.source, counts, int(dataset.train.labels.sum(dtype="int64"))]


class Available(NamedTuple):
    """What `available` says about one data set."""

    name: str
    status: str
    """embedded; own loader; prepared; subset (fewer images than published); not
    prepared; or "damaged: ..." with the reason."""
    counts: dict[str, int]
    """Images per split; empty where there is nothing."""


def load(name: str, *, data_dir: str | Path | None = None) -> Dataset:
    """Reads a data set into memory.

    The first time the images are decoded and kept (`cache.py`); after that it takes a
    fraction of a second.

    Args:
      name: one of `registry.DATASETS`.
      data_dir: where TFDS keeps its data; None: the default above.

    Returns:
      The data set; images uint8 [N, H, W, C], labels int32 [N]. Records come in the
      order in which they were prepared. A prepared subset is read as it is.

    Raises:
      DataError: the name is unknown, the data set is not prepared (the message says
        where it was looked for and how to get it), a file is damaged, or the data
        set's own loader gives other arrays than `Info` says.
    """
    known = info(name)
    if known.load:
        return _loaded(name, known)
    folder = _folder(name, known, data_dir)
    parts = _both(folder)
    files = [shard.path for split in parts.values() for shard in split]
    files.append(folder / "dataset_info.json")
    path = cache.path_for(name, folder, files)
    splits = cache.read(path, known)
    if splits is None:
        splits = {
            split: prepared.read_split(shards, known) for split, shards in parts.items()
        }
        cache.write(path, splits)
    return Dataset(
        name=name,
        **splits,
        class_names=prepared.class_names(folder, known),
        source=f"prepared {name}/{folder.name}",
    )


def available(data_dir: str | Path | None = None) -> list[Available]:
    """What can be loaded, from the folders alone; never raises over damaged data."""
    root = _root(data_dir)
    return [_status(name, known, root) for name, known in registry.DATASETS.items()]


def prepare(
    name: str,
    *,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> Path:
    """Downloads and prepares a data set through tensorflow-datasets.

    Args:
      name: one of `registry.DATASETS`, not one that has a loader of its own.
      data_dir: where TFDS keeps its data; None: the default above.
      source: a folder (GTSRB: or zip) with the publisher's files; None: download them
        and check their SHA-256.

    Returns:
      The folder with the prepared data; what is already there stays as it is.

    Raises:
      DataError: nothing to prepare, `source` is not there or incomplete or damaged, the
        download failed, or the folder cannot be written.
    """
    known, root = info(name), _root(data_dir)
    if known.load:
        raise DataError(
            f"{name} is {_status(name, known, root).status}: there is "
            "nothing to prepare"
        )
    folder = prepared.find(root, name, known.version)
    if folder is not None:
        if source is not None:
            raise DataError(
                f"{name} is already prepared in {folder}: remove that folder to "
                f"prepare it from {source}"
            )
        return folder
    if source is not None and not Path(source).exists():
        raise DataError(f"source {source} is not there: give a folder or zip")
    from ghostjax.data.builders import BUILDERS

    if name not in BUILDERS:
        raise DataError(
            f"ghostjax cannot prepare {name}: put what tensorflow-datasets prepared "
            f"into {root / name / known.version}"
        )
    try:
        BUILDERS[name](source=source, data_dir=root).download_and_prepare()
    except DataError:
        raise
    except Exception as error:  # TFDS's errors have no class in common
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(
                f"cannot write {name} to {root}: {error.strerror}: set TFDS_DATA_DIR "
                "to another folder"
            ) from error
        if not isinstance(error, OSError) and "download" not in type(error).__module__:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"could not download {name}: {reason}: try again, or fetch the files of "
            f"{known.where} by other means and run `ghostjax data prepare {name} "
            "--source FOLDER`"
        ) from error
    return root / name / known.version


def _loaded(name: str, known: Info) -> Dataset:
    """What the data set's own loader gives, checked."""
    dataset = registry.located(known.load)(name)
    try:
        for split in (dataset.train, dataset.test):
            prepared.require(split, known)
    except ValueError as error:
        raise DataError(f"the loader of {name} gives {error}") from error
    return dataset


def _root(data_dir: str | Path | None) -> Path:
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(data_dir or default).expanduser()


def _folder(name: str, known: Info, data_dir: str | Path | None) -> Path:
    root = _root(data_dir)
    folder = prepared.find(root, name, known.version)
    if folder is None:
        setting = f"TFDS_DATA_DIR={data_dir} " if data_dir else ""
        raise DataError(
            f"{name} is not prepared: no {name}/{known.version} in {root}; run "
            f"`{setting}ghostjax data prepare {name}`, or set "
            "TFDS_DATA_DIR to where it is"
        )
    return folder


def _both(folder: Path) -> dict[str, list[prepared.Shard]]:
    """The shards of train and test."""
    parts = prepared.shards(folder)
    missing = [split for split in ("train", "test") if not parts.get(split)]
    if missing:
        raise DataError(
            f"{folder}/dataset_info.json names no split {missing[0]!r}, only "
            f"{', '.join(parts) or 'none'}: prepare the data set again"
        )
    return {split: parts[split] for split in ("train", "test")}


def _status(name: str, known: Info, root: Path) -> Available:
    if known.load:
        status = "own loader" if known.download else "embedded"
        return Available(name, status, dict(known.counts))
    folder = prepared.find(root, name, known.version)
    if folder is None:
        return Available(name, "not prepared", {})
    try:
        parts = _both(folder)
    except DataError as error:
        return Available(name, f"damaged: {error}", {})
    paths = (shard.path for shards in parts.values() for shard in shards)
    gone = [path for path in paths if not path.is_file()]
    if gone:
        return Available(name, f"damaged: {gone[0]} is not there", {})
    counts = {split: sum(s.count for s in shards) for split, shards in parts.items()}
    whole = all(count >= known.counts.get(split, 0) for split, count in counts.items())
    return Available(name, "prepared" if whole else "subset", counts)
