"""Reads a folder that tensorflow-datasets prepared, without TensorFlow.

A folder `NAME/VERSION` (`NAME/CONFIG/VERSION` where TFDS has several of a name) holds
dataset_info.json, features.json and the shards. Whoever prepared it (TFDS, ghostjax, a
sampled subset), its splits are read as they are, in the order of the records, which is
TFDS's. TFDS's own reader goes through its feature tree, 0.14 ms of CPU an image; we
parse the records and hand the PNGs to Pillow, 0.04 ms (MNIST, tfds 4.9.10, Pillow 13;
threads gain nothing on images this small).
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ghostjax import files
from ghostjax.data.catalog import DataError, Info
from ghostjax.data.dataset import Split
from ghostjax.data.shards import damaged, read_records

__all__ = [
    "Shard",
    "class_names",
    "described",
    "find",
    "names",
    "read_split",
    "shards",
]

_MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels


class Shard(NamedTuple):
    """One file of records."""

    path: Path
    count: int  # type: ignore[assignment]  # records in it; hides tuple.count
    file_format: str


def names(root: Path) -> list[str]:
    """The names of all that is prepared, "mnist" or "emnist/letters", sorted."""
    patterns = (f"{levels}/*/dataset_info.json" for levels in ("*", "*/*"))
    infos = (path for pattern in patterns for path in root.glob(pattern))
    return sorted({path.parent.parent.relative_to(root).as_posix() for path in infos})


def find(root: Path, name: str, version: str) -> Path | None:
    """The folder with the data set: this version, else the newest; None: none."""
    folders = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    exact = root / name / version
    return exact if exact in folders else max(folders, key=_number, default=None)


def shards(folder: Path) -> dict[str, list[Shard]]:
    """The shards of every split, from dataset_info.json alone.

    Raises:
      DataError: dataset_info.json is damaged.
    """
    path = folder / "dataset_info.json"
    info = _read(path)
    try:
        return {
            split["name"]: list(_shards(folder, info, split))
            for split in info["splits"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise damaged(path, reason) from error


def described(folder: Path) -> Info:
    """What lies with the data says of them: features.json, and the labels' names.

    The image and the label are the only ones of their kind among the features, or those
    that dataset_info.json calls supervised.

    Raises:
      DataError: a file is damaged, or these are no images with a fixed shape, of bytes
        in one or three channels, and labels of two classes or more.
    """
    path = folder / "features.json"
    features = _read(path)
    try:
        features = features["featuresDict"]["features"]
        image, label = _supervised(folder, features)
        shape = _image_shape(features[image]["image"])
        classes = int(features[label]["classLabel"].get("numClasses", 0))
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    except ValueError as error:
        raise DataError(f"{folder} cannot be used: {error}") from error
    known = Info(
        shape=shape,
        class_names=tuple(map(str, range(classes))),
        version=folder.name,
        features=(image, label),
    )
    return known._replace(class_names=class_names(folder, known))


def _supervised(folder: Path, features: Any) -> tuple[str, str]:
    """The names of the image and of the label."""
    kinds = {
        kind: [name for name, feature in features.items() if kind in feature]
        for kind in ("image", "classLabel")
    }
    images, labels = kinds.values()
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    keys = _read(folder / "dataset_info.json").get("supervisedKeys", {})
    items = [item.get("featureKey") for item in keys.get("tuple", {}).get("items", [])]
    if len(items) == 2 and items[0] in images and items[1] in labels:
        return items[0], items[1]
    raise ValueError(
        f"its images are {', '.join(images) or 'none'} and its labels "
        f"{', '.join(labels) or 'none'}: one of each is wanted"
    )


def _image_shape(feature: Any) -> tuple[int, int, int]:
    """[H, W, C] of an image feature.

    Raises:
      ValueError: it is not fixed, or not one of images of bytes, grey or RGB.
    """
    dimensions = [int(side) for side in feature["shape"].get("dimensions", ())]
    words = " x ".join("?" if side < 1 else str(side) for side in dimensions)
    if len(dimensions) != 3 or min(dimensions) < 1:
        raise ValueError(
            f"its images have no fixed shape ({words or 'none'}): write them into "
            "folders, and load these by data.folder and data.size"
        )
    height, width, channels = dimensions
    if channels not in _MODES or feature.get("dtype") != "uint8":
        raise ValueError(
            f"its images are {feature.get('dtype')} {words}: uint8 with 1 or 3 "
            "channels is wanted"
        )
    return height, width, channels


def _read(path: Path) -> Any:
    """A JSON file.

    Raises:
      DataError: it is not there, or damaged.
    """
    try:
        return files.read_json(path)
    except files.FileError as error:
        if isinstance(error.__cause__, OSError):
            raise DataError(str(error)) from error
        raise damaged(path, str(error.__cause__)) from error


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
    path = folder / f"{info.features[1]}.labels.txt"
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
    return tuple(int(part) if part.isdecimal() else -1 for part in parts)


def _shards(folder: Path, info: Any, split: Any) -> Iterator[Shard]:
    """Shards named by the split's template, of whose fields only those that TFDS knows
    are replaced.

    Raises:
      ValueError: a name that is none of a file in the folder.
    """
    default = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    template = split.get("filepathTemplate") or default
    file_format = info.get("fileFormat") or "tfrecord"  # not written by old versions
    lengths = [int(length) for length in split["shardLengths"]]
    for index, count in enumerate(lengths):
        fields = {
            "DATASET": info["name"],
            "SPLIT": split["name"],
            "FILEFORMAT": file_format,
            "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
            "SHARD_X_OF_Y": f"{index:05d}-of-{len(lengths):05d}",
        }
        name = re.sub(r"{(\w+)}", lambda x, f=fields: f.get(x[1], x[0]), template)
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(f"{name!r} is no name of a shard")
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
    image_name, label_name = info.features
    data = io.BytesIO(features[image_name].bytes_list.value[0])
    label = features[label_name].int64_list.value[0]
    height, width, channels = info.shape
    with Image.open(data, formats=("PNG", "JPEG")) as image:
        if (image.mode, image.size) != (_MODES[channels], (width, height)):
            raise ValueError(f"an image {image.size} of mode {image.mode!r}")
        pixels = np.asarray(image).reshape(info.shape)
    if not 0 <= label < info.classes:
        raise ValueError(f"label {label} of {info.classes} classes")
    return pixels, label
