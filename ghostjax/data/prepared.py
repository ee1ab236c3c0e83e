"""Reads a folder that tensorflow-datasets prepared, without TensorFlow.

A folder `NAME/VERSION` holds dataset_info.json, features.json and the shards. Whoever
prepared it (TFDS, ghostjax, a sampled subset), its splits are read as they are, in the
order of the records, which is TFDS's. TFDS's own reader goes through its feature tree,
0.14 ms of CPU an image; we parse the records and hand the PNGs to Pillow, 0.04 ms
(MNIST, tfds 4.9.10, Pillow 13; threads gain nothing on images this small).
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ghostjax import files
from ghostjax.data.catalog import DataError, Info
from ghostjax.data.shards import damaged, read_records

__all__ = [
    "Dataset",
    "Shard",
    "Split",
    "class_names",
    "find",
    "read_split",
    "require",
    "shards",
]

_MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels


class Split(NamedTuple):
    """Images and their labels; NumPy, on the host."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]


class Dataset(NamedTuple):
    """A data set, whole, on the host."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    """Where it came from: "prepared mnist/3.0.1", "embedded"."""


class Shard(NamedTuple):
    """One file of records."""

    path: Path
    count: int  # records it must hold
    file_format: str


def find(root: Path, name: str, version: str) -> Path | None:
    """The folder with the data set: this version, else the newest; None: none."""
    folders = [path.parent for path in root.glob(f"{name}/*/dataset_info.json")]
    exact = root / name / version
    return exact if exact in folders else max(folders, key=_number, default=None)


def shards(folder: Path) -> dict[str, list[Shard]]:
    """The shards of every split, from dataset_info.json alone.

    Raises:
      DataError: dataset_info.json is damaged.
    """
    path = folder / "dataset_info.json"
    try:
        info = files.read_json(path)
        return {
            split["name"]: list(_shards(folder, info, split))
            for split in info["splits"]
        }
    except files.FileError as error:
        if isinstance(error.__cause__, OSError):
            raise DataError(str(error)) from error
        raise damaged(path, str(error.__cause__)) from error
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise damaged(path, reason) from error


def require(split: Split, info: Info) -> None:
    """Refuses arrays that are not a split of the data set.

    Raises:
      ValueError: other types or shapes than `Split`'s and `info`'s, or a label that is
        no class.
    """
    images, labels = split
    good = (
        images.dtype == np.uint8
        and labels.dtype == np.int32
        and images.shape == (len(labels), *info.shape)
    )
    if not good:
        raise ValueError(
            f"images {images.dtype} {images.shape}, labels {labels.dtype} "
            f"{labels.shape}: wanted are uint8 [N, {', '.join(map(str, info.shape))}] "
            "and int32 [N]"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < info.classes:
        strange = labels.max() if labels.min() >= 0 else labels.min()
        raise ValueError(f"label {strange} of {info.classes} classes")


def read_split(parts: list[Shard], info: Info) -> Split:
    """Reads and decodes one split.

    Raises:
      DataError: a shard is missing or damaged, or an image or a label is not what
        `info` says.
    """
    total = sum(shard.count for shard in parts)
    images = np.empty((total, *info.shape), np.uint8)
    labels = np.empty(total, np.int32)
    row = 0
    for shard in parts:
        records = read_records(shard.path, shard.file_format)
        if len(records) != shard.count:
            reason = f"{len(records)} records, dataset_info.json says {shard.count}"
            raise damaged(shard.path, reason)
        for index, record in enumerate(records):
            try:
                images[row], labels[row] = _decode(record, info)
            except (ValueError, OSError, SyntaxError, IndexError) as error:
                raise damaged(shard.path, f"record {index}: {error}") from error
            row += 1
    return Split(images, labels)


def class_names(folder: Path, info: Info) -> tuple[str, ...]:
    """The names that lie with the data, else those of the table.

    Raises:
      DataError: there are more or fewer than the data set has classes.
    """
    path = folder / "label.labels.txt"
    if not path.is_file():
        return info.class_names
    try:
        names = tuple(files.read_text(path).splitlines())
    except files.FileError as error:
        raise damaged(path, str(error.__cause__)) from error
    if len(names) != info.classes:
        raise damaged(path, f"{len(names)} names for {info.classes} classes")
    return names


def _number(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(int(part) if part.isdigit() else -1 for part in parts)


def _shards(folder: Path, info: Any, split: Any) -> Iterator[Shard]:
    """Shards named by the split's template."""
    default = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    template = split.get("filepathTemplate") or default
    file_format = info.get("fileFormat") or "tfrecord"  # not written by old versions
    lengths = [int(length) for length in split["shardLengths"]]
    for index, count in enumerate(lengths):
        name = template.format(
            DATASET=info["name"],
            SPLIT=split["name"],
            FILEFORMAT=file_format,
            SHARD_INDEX=f"{index:05d}",
            NUM_SHARDS=f"{len(lengths):05d}",
            SHARD_X_OF_Y=f"{index:05d}-of-{len(lengths):05d}",
        )
        yield Shard(folder / name, count, file_format)


def _decode(record: bytes, info: Info) -> tuple[np.ndarray, int]:
    """(image uint8 [H, W, C], label) of a tf.train.Example."""
    # Here: a start from the cache needs neither, and TFDS takes a second to import.
    from google.protobuf.message import DecodeError
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError("not a tf.train.Example") from error
    data = io.BytesIO(features["image"].bytes_list.value[0])
    label = features["label"].int64_list.value[0]
    height, width, channels = info.shape
    with Image.open(data, formats=("PNG", "JPEG")) as image:
        if (image.mode, image.size) != (_MODES[channels], (width, height)):
            raise ValueError(f"an image {image.size} of mode {image.mode!r}")
        pixels = np.asarray(image).reshape(info.shape)
    if not 0 <= label < info.classes:
        raise ValueError(f"label {label} of {info.classes} classes")
    return pixels, label
