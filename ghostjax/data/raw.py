"""The publishers' own files, parsed with NumPy, SciPy and Pillow: no TensorFlow.

Each reader yields (key, id, image uint8 [H, W, C], label) in the publisher's order. A
key names the example in its split and decides where TFDS's shuffle puts it; it is the
official builders' (the position), so that records come in their order. GTSRB, which
has no official builder, is keyed by its id.
"""

import csv
import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ghostjax.data.catalog import DataError

__all__ = ["Raw", "cifar10", "gtsrb", "mnist", "svhn"]

_SIGN_SIZE = 32  # pixels that a GTSRB frame is resized to
_TRAINING_FRAME = re.compile(r"(?:^|/)(\d{5})/(\d{5}_\d{5}\.ppm)$")
_TEST_FRAME = re.compile(r"(?:^|/)(\d{5}\.ppm)$")
_TEST_LABELS = "GT-final_test.csv"
_BROKEN = (OSError, ValueError, zipfile.BadZipFile, zlib.error)


class Raw(NamedTuple):
    """One example as published."""

    key: int | str
    id: str
    image: np.ndarray  # uint8 [H, W, C]
    label: int


def mnist(images: Path, labels: Path) -> Iterator[Raw]:
    """MNIST's two idx files of a split, gzipped.

    Raises:
      DataError: a file is missing, damaged, or the two do not go together.
    """
    pixels, digits = _idx(images), _idx(labels)
    if pixels.ndim != 3 or digits.shape != pixels.shape[:1]:
        raise DataError(
            f"{images} holds an array {pixels.shape} and {labels} one {digits.shape}: "
            "these are not the images and labels of one split"
        )
    for index, (image, label) in enumerate(zip(pixels, digits, strict=True)):
        yield Raw(key=index, id=str(index), image=image[..., None], label=int(label))


def cifar10(archive: Path, split: str) -> Iterator[Raw]:
    """CIFAR-10's binary version: a label byte and 3,072 channel-first pixels an image.

    Args:
      archive: cifar-10-binary.tar.gz.
      split: train (data_batch_1.bin to _5.bin) or test (test_batch.bin).

    Raises:
      DataError: the archive is missing, damaged, or lacks the split's files.
    """
    batches = {
        "train": [f"data_batch_{number}.bin" for number in range(1, 6)],
        "test": ["test_batch.bin"],
    }
    index = 0
    for name, data in _members(archive, batches[split]):
        if not data or len(data) % 3073:
            raise _damaged(archive, f"{name} has {len(data)} bytes, not n x 3,073")
        for row in np.frombuffer(data, np.uint8).reshape(-1, 3073):
            image = row[1:].reshape(3, 32, 32).transpose(1, 2, 0)
            id_, label = f"{split}_{index:05d}", int(row[0])
            yield Raw(key=index, id=id_, image=image, label=label)
            index += 1


def svhn(file: Path, split: str) -> Iterator[Raw]:
    """SVHN's cropped digits: X [32, 32, 3, N] and y [N, 1], where 10 stands for 0.

    Raises:
      DataError: the file is missing, damaged, or holds other arrays.
    """
    from scipy.io import loadmat

    _require(file)
    try:
        variables = loadmat(file)
        images, labels = variables["X"], variables["y"].reshape(-1)
    except (ValueError, TypeError, KeyError, OSError, zlib.error) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
        shape = f"{images.dtype} {images.shape}"
        raise _damaged(file, f"X is {shape}, not uint8 (32, 32, 3, {len(labels)})")
    if not ((labels >= 1) & (labels <= 10)).all():
        raise _damaged(file, "a label in y is not between 1 and 10")
    for index, label in enumerate(labels):
        name = f"{split}_{index:06d}"
        yield Raw(key=index, id=name, image=images[..., index], label=int(label) % 10)


def gtsrb(places: list[Path], split: str) -> Iterator[Raw]:
    """GTSRB's full frames, resized to 32x32.

    Bilinear between the four nearest pixels, without smoothing before, as OpenCV's
    default does and as the copies in circulation are made.

    Args:
      places: the publisher's zips; or folders or zips that hold them or their content.
      split: train (label: the folder) or test (label: GT-final_test.csv).

    Raises:
      DataError: no frames, no labels of test frames, or something damaged.
    """
    frames: dict[str, Callable[[], bytes]] = {}
    labels: dict[str, int] = {}
    for place in places:
        for name, read in _tree(place):
            if split == "train" and (match := _TRAINING_FRAME.search(name)):
                frames[f"{match[1]}/{match[2]}"] = read
                labels[f"{match[1]}/{match[2]}"] = int(match[1])
            elif split == "test" and (match := _TEST_FRAME.search(name)):
                frames[match[1]] = read
            elif split == "test" and name.rsplit("/", 1)[-1] == _TEST_LABELS:
                labels |= _sign_labels(read, name)
    where = ", ".join(map(str, places))
    if not frames:
        raise DataError(f"no {split} frames (.ppm) in {where}: give GTSRB's own zips")
    for name in sorted(frames):
        if name not in labels:
            raise DataError(f"no label for test frame {name}: add {_TEST_LABELS}")
        image = _sign(frames[name], name)
        yield Raw(key=name, id=name, image=image, label=labels[name])


def _idx(path: Path) -> np.ndarray:
    _require(path)
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":  # two zeros, the code of uint8, rank
        raise _damaged(path, "it is no idx file of bytes")
    start = 4 + 4 * data[3]
    shape = struct.unpack_from(f">{data[3]}I", data, 4) if len(data) >= start else ()
    if not shape or len(data) - start != np.prod(shape):
        raise _damaged(path, f"{len(data) - start} bytes for an array {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _members(archive: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of files in a tar, whatever their folder, in the order asked."""
    _require(archive)
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:  # one pass: going back means decompressing again
                name = member.name.rsplit("/", 1)[-1]
                if name in names and (file := tar.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise _damaged(archive, str(error)) from error
    for name in names:
        if name not in contents:
            raise _damaged(archive, f"{name} is not in it")
        yield name, contents[name]


def _tree(place: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(path inside, reader) of every file in a folder or zip, and in zips inside it."""
    _require(place)
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() == ".zip":
                yield from _tree(path)
            elif path.is_file():
                yield path.relative_to(place).as_posix(), path.read_bytes
        return
    yield from _zip_tree(place, place)


def _zip_tree(
    place: Path, file: Path | io.BytesIO
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    try:
        archive = zipfile.ZipFile(file)
        for name in archive.namelist():
            if name.lower().endswith(".zip"):
                yield from _zip_tree(place, io.BytesIO(archive.read(name)))
            else:
                yield name, partial(archive.read, name)
    except (zipfile.BadZipFile, OSError, zlib.error) as error:
        raise _damaged(place, str(error)) from error


def _sign_labels(read: Callable[[], bytes], name: str) -> dict[str, int]:
    try:
        rows = csv.DictReader(io.StringIO(read().decode()), delimiter=";")
        return {row["Filename"]: int(row["ClassId"]) for row in rows}
    except (KeyError, TypeError, *_BROKEN) as error:
        raise _damaged(Path(name), f"{type(error).__name__}: {error}") from error


def _sign(read: Callable[[], bytes], name: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(read()), formats=("PPM",)) as frame:
            scale_x, scale_y = (side / _SIGN_SIZE for side in frame.size)
            small = frame.convert("RGB").transform(
                (_SIGN_SIZE, _SIGN_SIZE),
                Image.Transform.AFFINE,
                (scale_x, 0, 0, 0, scale_y, 0),
                Image.Resampling.BILINEAR,
            )
    except (SyntaxError, *_BROKEN) as error:
        raise _damaged(Path(name), str(error)) from error
    return np.asarray(small)


def _require(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path} is not there: give the publisher's own file")


def _damaged(path: Path, reason: str) -> DataError:
    line = reason.splitlines()[0] if reason else "unreadable"
    return DataError(f"{path} is damaged ({line}): fetch it again")
