"""Data sets by name: load, prepare, and say what is there.

Prepared data are looked for in `data_dir`, else in the environment's TFDS_DATA_DIR,
else in ~/tensorflow_datasets, which is what tensorflow-datasets does.
"""

import os
from pathlib import Path
from typing import NamedTuple

from ghostjax.data import cache, digits, prepared
from ghostjax.data.catalog import DATASETS, DataError, Info, info
from ghostjax.data.prepared import Split


class Dataset(NamedTuple):
    """A data set, whole, on the host."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    """Where it came from: "prepared mnist/3.0.1", "embedded"."""


def fingerprint(dataset: Dataset) -> list:
    """Its source, sizes and sum of training labels: what names results by."""
    counts = [len(dataset.train.labels), len(dataset.test.labels)]
    return [dataset.source, counts, int(dataset.train.labels.sum(dtype="int64"))]


class Available(NamedTuple):
    """What `available` says about one data set."""

    name: str
    status: str
    """embedded; prepared; subset (fewer images than published); not prepared; or
    "damaged: ..." with the reason."""
    counts: dict[str, int]
    """Images per split; empty where there is nothing."""


def load(name: str, *, data_dir: str | Path | None = None) -> Dataset:
    """Reads a data set into memory.

    The first time the images are decoded and kept (`cache.py`); after that it takes a
    fraction of a second.

    Args:
      name: one of `DATASETS`.
      data_dir: where TFDS keeps its data; None: the default above.

    Returns:
      The data set; images uint8 [N, H, W, C], labels int32 [N]. Records come in the
      order in which they were prepared. A prepared subset is read as it is.

    Raises:
      DataError: the name is unknown, the data set is not prepared (the message says
        where it was looked for and how to get it), or a file is damaged.
    """
    known = info(name)
    if name == "digits":
        train, test = digits.read()
        return Dataset(name, train, test, known.class_names, "embedded")
    folder = _folder(name, known, data_dir)
    parts = _both(folder)
    files = [shard.path for split in parts.values() for shard in split]
    files.append(folder / "dataset_info.json")
    path = cache.path_for(name, folder, files)
    splits = cache.read(path, known)
    if splits is None:
        splits = {
            split: prepared.read_split(found, known) for split, found in parts.items()
        }
        cache.write(path, splits)
    names = prepared.class_names(folder, known)
    return Dataset(name, *splits.values(), names, f"prepared {name}/{folder.name}")


def available(data_dir: str | Path | None = None) -> list[Available]:
    """What can be loaded, from the folders alone; never raises over damaged data."""
    return [_status(name, known, _root(data_dir)) for name, known in DATASETS.items()]


def prepare(
    name: str,
    *,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
) -> Path:
    """Downloads and prepares a data set through tensorflow-datasets.

    Args:
      name: one of `DATASETS`, not the embedded digits.
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
    if name == "digits":
        raise DataError("digits is embedded: there is nothing to prepare")
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
    if name == "digits":
        return Available(name, "embedded", known.counts)
    folder = prepared.find(root, name, known.version)
    if folder is None:
        return Available(name, "not prepared", {})
    try:
        parts = _both(folder)
    except DataError as error:
        return Available(name, f"damaged: {error}", {})
    gone = [s.path for found in parts.values() for s in found if not s.path.is_file()]
    if gone:
        return Available(name, f"damaged: {gone[0]} is not there", {})
    counts = {split: sum(s.count for s in found) for split, found in parts.items()}
    whole = all(counts[split] >= known.counts[split] for split in counts)
    return Available(name, "prepared" if whole else "subset", counts)
