"""Data sets by name: load, prepare, and say what is there.

Prepared data are looked for in `data_dir`, else in the environment's TFDS_DATA_DIR,
else in ~/tensorflow_datasets, which is what tensorflow-datasets does.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ghostjax import environ, registry
from ghostjax.data import cache, prepared
from ghostjax.data.catalog import DataError, Info
from ghostjax.data.dataset import Dataset, Split, divided, require
from ghostjax.data.folder import from_folder
from ghostjax.names import unknown

__all__ = ["Available", "available", "info", "load", "prepare"]

_USUAL = "~/tensorflow_datasets"
_TEST_SHARE = 0.2  # of what TFDS has not divided
_DIVIDED = {
    ("train", "test"): "",
    ("train", "validation"): ", its validation split as test",
    ("train",): ", a fifth of each class held out as test",
}
"""Splits that are read -> what `source` says of them."""


class Available(NamedTuple):
    """What `available` says about one data set."""

    name: str
    status: str
    """embedded; own loader; prepared; subset (fewer images than published); not
    prepared; or "damaged: ..." with the reason."""
    counts: dict[str, int]
    """Images per split; empty where there is nothing."""


def load(
    name: str,
    *,
    folder: str | Path = "",
    size: tuple[int, ...] = (),
    data_dir: str | Path | None = None,
) -> Dataset:
    """Reads a data set into memory.

    The first time the images are decoded and kept (`cache.py`); after that it takes a
    fraction of a second.

    Args:
      name: one of `registry.DATASETS`; of what TFDS has prepared in `data_dir`, such as
        "fashion_mnist" or "emnist/letters"; or any other name where there is a folder.
      folder: of image files; see `from_folder`. Empty: the name says what to read.
      size: (H, W) that images in the folder are resized to; empty: they stay as they
        are.
      data_dir: where TFDS keeps its data; None: the default above.

    Returns:
      The data set; images uint8 [N, H, W, C], labels int32 [N]. Records come in the
      order in which they were prepared. A prepared subset is read as it is. Where TFDS
      knows no split "test" of a data set that is not in the catalog, "validation" takes
      its place, else a fifth of the training images of each class, held out.

    Raises:
      DataError: the name is unknown, the data set is not prepared (the message says
        where it was looked for and how to get it), a file is damaged, or the data
        set's own loader gives other arrays than `Info` says.
    """
    if folder:
        return from_folder(folder, size=size or None, name=name)
    if size:
        raise DataError(
            f"size = {list(size)} is for images in a folder: {name} has its own"
        )
    known = info(name, data_dir=data_dir)
    if known.load:
        return _loaded(name, known)
    place = _folder(name, known, data_dir)
    parts = _parts(place, known)
    files = [shard.path for split in parts.values() for shard in split]
    files += [place / "dataset_info.json", place / "features.json"]
    path = cache.path_for(name, place, files)
    splits = cache.read(path, known.classes, known.shape)
    if splits is None:
        splits = _read(parts, known)
        cache.write(path, splits)
    return Dataset(
        name=name,
        **splits,
        class_names=prepared.class_names(place, known),
        source=f"prepared {name}/{place.name}{_DIVIDED[tuple(parts)]}",
    )


def info(name: str, *, data_dir: str | Path | None = None) -> Info:
    """What is known about a data set before its images are read.

    Args:
      name: as `load` takes it.
      data_dir: where TFDS keeps its data; None: the default above.

    Raises:
      DataError: there is none of that name (the nearest and the list are given), or
        what lies with prepared data says that ghostjax cannot read them.
    """
    if name in registry.DATASETS:
        return registry.DATASETS[name]
    root = _root(data_dir)
    others = prepared.names(root)
    folder = prepared.find(root, name, "") if name in others else None
    if folder is None:
        known = [*registry.DATASETS, *(x for x in others if x not in registry.DATASETS)]
        raise DataError(
            f"{unknown('data set', name, known)}; what tensorflow-datasets prepared is "
            f"looked for in {root}"
        )
    return prepared.described(folder)


def available(data_dir: str | Path | None = None) -> list[Available]:
    """What can be loaded, from the folders alone; never raises over damaged data.

    Those of `registry.DATASETS` come first, then whatever else TFDS has prepared and
    ghostjax can read.
    """
    try:
        root = _root(data_dir)
    except ValueError:  # of a user without a home: nothing is there
        root = Path(_USUAL)
    known = dict(registry.DATASETS.items())
    for name in prepared.names(root):
        if name not in known:
            try:
                known[name] = info(name, data_dir=root)
            except DataError:  # of another kind: texts, or images of many shapes
                continue
    return [_status(name, about, root) for name, about in known.items()]


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
    known, root = info(name, data_dir=data_dir), _root(data_dir)
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
            require(split, known.classes, known.shape)
        if len(dataset.class_names) != known.classes:
            raise ValueError(
                f"{len(dataset.class_names)} class names, not {known.classes}"
            )
    except ValueError as error:
        raise DataError(f"the loader of {name} gives {error}") from error
    return replace(dataset, name=name)


def _root(data_dir: str | Path | None) -> Path:
    if data_dir:
        return Path(data_dir).expanduser()
    return environ.folder("TFDS_DATA_DIR", _USUAL)


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


def _parts(folder: Path, known: Info) -> dict[str, list[prepared.Shard]]:
    """The shards of train, and of test or what there is in its place."""
    parts = prepared.shards(folder)
    wanted = ("train", "test") if "test" in known.counts else ("train",)
    missing = [split for split in wanted if not parts.get(split)]
    if missing:
        raise DataError(
            f"{folder}/dataset_info.json names no split {missing[0]!r}, only "
            f"{', '.join(parts) or 'none'}: prepare the data set again"
        )
    tests = [split for split in ("test", "validation") if parts.get(split)]
    return {split: parts[split] for split in ("train", *tests[:1])}


def _read(parts: dict[str, list[prepared.Shard]], known: Info) -> cache.Splits:
    """Both splits, decoded; a test split is held out where there is none."""
    train, *others = [prepared.read_split(shards, known) for shards in parts.values()]
    if others:
        return {"train": train, "test": others[0]}
    rows = divided(range(len(train.labels)), train.labels, _TEST_SHARE, seed=0)
    splits = (Split(train.images[chosen], train.labels[chosen]) for chosen in rows)
    return dict(zip(("train", "test"), splits, strict=True))


def _status(name: str, known: Info, root: Path) -> Available:
    if known.load:
        status = "own loader" if known.download else "embedded"
        return Available(name, status, dict(known.counts))
    folder = prepared.find(root, name, known.version)
    if folder is None:
        return Available(name, "not prepared", {})
    try:
        parts = _parts(folder, known)
    except DataError as error:
        return Available(name, f"damaged: {error}", {})
    paths = (shard.path for shards in parts.values() for shard in shards)
    gone = [path for path in paths if not path.is_file()]
    if gone:
        return Available(name, f"damaged: {gone[0]} is not there", {})
    counts = {split: sum(s.count for s in shards) for split, shards in parts.items()}
    whole = all(count >= known.counts.get(split, 0) for split, count in counts.items())
    return Available(name, "prepared" if whole else "subset", counts)
