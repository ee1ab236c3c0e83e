"""A data set of image files: one folder of images a class.

  pets/cat/*.jpg  pets/dog/*.jpg                    divided by a rule, or
  pets/train/cat/*.jpg  …  pets/test/dog/*.jpg      as it is divided there

The decoded images are kept (`cache.py`), named by the content of all files.
"""

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ghostjax.data import cache
from ghostjax.data.arrays import require_name
from ghostjax.data.catalog import DataError
from ghostjax.data.dataset import Dataset, Split, divided, shuffled

__all__ = ["from_folder"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF")  # the same as Pillow calls them
_UNREAD = (".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".heic", ".tga")
_SPLITS = ("train", "test")
_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""Pillow's mode of a file -> that of its pixels here."""


class _File(NamedTuple):
    """An image file and its class."""

    path: Path
    label: int


def from_folder(
    path: str | Path,
    *,
    size: Sequence[int] | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    name: str = "",
) -> Dataset:
    """Reads a folder that holds a folder of images for each class.

    Images are png, jpg, bmp or gif, grey or RGB; if one has colours all are RGB. The
    folders' names, sorted, are the class names. Other files, and all whose names begin
    with a dot, are passed over.

    Args:
      path: the folder. Where it has the folders `train` and `test`, these hold the
        classes' folders of both splits.
      size: (H, W) that all images are resized to, bicubic, whatever their proportions;
        None: all must have one size.
      test_share: of the images of each class, held out where the folder has no `train`
        and `test`; above 0 and below 1.
      seed: of the random order that images come in, and of which are held out. Images
        that join move no image of another class from one split to the other.
      name: of the data set; empty: the folder's.

    Returns:
      The data set; the same whenever it is read, until a file changes.

    Raises:
      DataError: there is no such folder, or no image of a class; an image is damaged,
        transparent, moving, of more than 8 bits or of another size (the first one is
        named); the two splits have not the same classes.
    """
    root = Path(path).expanduser()
    name = name or root.resolve().name
    require_name(name)
    shape = _size(size)
    if not 0 < test_share < 1:
        raise DataError(f"test_share = {test_share!r}: give a number between 0 and 1")
    class_names, parts = _listing(root)
    rows = _rows(root, parts, test_share, seed)
    files = [file for part in parts.values() for file in part]
    where = cache.digest(str(root.resolve()), shape, test_share, seed)
    place = cache.place("folder", where, _content(root, files))
    splits = cache.read(place, len(class_names))
    if splits is None:
        images, labels = _pixels(root, files, shape), _labels(files)
        splits = {w: Split(images[rows[w]], labels[rows[w]]) for w in _SPLITS}
        cache.write(place, splits)
    return Dataset(
        name=name, **splits, class_names=class_names, source=f"folder {path}"
    )


def _size(size: Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise DataError(f"size = {size!r}: give (height, width) in pixels")
    return height, width


def _listing(root: Path) -> tuple[tuple[str, ...], Mapping[str, list[_File]]]:
    """(class names, files of each split, or of "" where it is not divided)."""
    if not root.is_dir():
        raise DataError(f"{root} is not there: give a folder with one folder a class")
    below = [folder.name for folder in _look(root)[0]]
    if not set(_SPLITS) <= set(below):
        classes = _classes(root)
        return tuple(classes), {"": _files(classes)}
    parts = {split: _classes(root / split) for split in _SPLITS}
    train, test = parts.values()
    if train.keys() != test.keys():
        odd = sorted(train.keys() ^ test.keys())[0]
        word = "test" if odd in train else "train"
        raise DataError(f"{root / word} has no folder {odd!r}: give both the classes")
    return tuple(train), {split: _files(part) for split, part in parts.items()}


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its images."""
    folders, images = _look(folder)
    if images or not folders:
        reason = f"{images[0].name} lies in it" if images else "it has no folders"
        raise DataError(
            f"{folder} is not a folder with one folder of images a class: {reason}"
        )
    classes = {}
    for below in folders:
        deeper, classes[below.name] = _look(below)
        if deeper:
            raise DataError(
                f"{below} is to hold the images of a class, and has the folder "
                f"{deeper[0].name!r}: the folders of a data set that is divided are "
                "called train and test"
            )
        if not classes[below.name]:
            words = ", ".join(_SUFFIXES)
            raise DataError(f"{below} holds no image ({words}): add some or remove it")
    return classes


def _look(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the images in a folder, sorted."""
    paths = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    for path in paths:
        if path.suffix.lower() in _UNREAD and path.is_file():
            raise DataError(f"{path} is not read: convert it to png")
    images = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    return [p for p in paths if p.is_dir()], [p for p in images if p.is_file()]


def _files(classes: Mapping[str, list[Path]]) -> list[_File]:
    listed = enumerate(classes.values())
    return [_File(path, label) for label, paths in listed for path in paths]


def _labels(files: Sequence[_File]) -> np.ndarray:
    return np.array([file.label for file in files], np.int32)


def _rows(
    root: Path, parts: Mapping[str, list[_File]], share: float, seed: int
) -> dict[str, np.ndarray]:
    """Split -> rows of all the files, mixed."""
    if "" in parts:
        files = parts[""]
        train, test = divided(_identities(root, files), _labels(files), share, seed)
        lonely = sorted(set(range(files[-1].label + 1)) - set(_labels(files)[test]))
        if lonely:
            (path,) = (file.path for file in files if file.label == lonely[0])
            raise DataError(f"{path} is alone in its class: each split needs one")
        return {"train": train, "test": test}
    train, test = (shuffled(_identities(root, part), seed) for part in parts.values())
    return {"train": train, "test": test + len(train)}


def _identities(root: Path, files: Sequence[_File]) -> list[str]:
    return [file.path.relative_to(root).as_posix() for file in files]


def _content(root: Path, files: Sequence[_File]) -> str:
    """A digest of the files' names and bytes, and of what decodes them."""
    import PIL

    digest = hashlib.sha256(PIL.__version__.encode())
    for identity, file in zip(_identities(root, files), files, strict=True):
        content = hashlib.sha256(_bytes(file.path)).hexdigest()
        digest.update(json.dumps([identity, content]).encode())
    return cache.digest(digest.hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _pixels(
    root: Path, files: Sequence[_File], size: tuple[int, int] | None
) -> np.ndarray:
    """uint8 [N, H, W, C], in the order of the files."""
    first = _image(files[0].path, size)
    images = np.empty((len(files), *first.shape), np.uint8)
    for row, file in enumerate(files):
        image = _image(file.path, size)
        if image.shape[:2] != first.shape[:2]:
            raise DataError(
                f"{file.path} has {image.shape[0]} x {image.shape[1]} pixels and "
                f"{files[0].path} {first.shape[0]} x {first.shape[1]}: give the size "
                "(height, width) to resize all to (in a config: data.size)"
            )
        if image.shape[2] > images.shape[3]:
            images = np.repeat(images, image.shape[2], axis=3)
        images[row] = image
    return images


def _image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 [H, W, C]."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as file:
            if getattr(file, "is_animated", False):
                raise ValueError("it is moving: give one picture")
            if file.mode not in _MODES:
                raise ValueError(f"its mode is {file.mode}: save it as 8-bit RGB")
            if file.has_transparency_data:
                alpha = np.asarray(file.convert("RGBA"))[..., 3]
                if alpha.min() < np.iinfo(np.uint8).max:
                    raise ValueError("it is transparent: lay it over a background")
            upright = ImageOps.exif_transpose(file).convert(_MODES[file.mode])
            if size is not None:
                bicubic = Image.Resampling.BICUBIC
                upright = upright.resize(size[::-1], bicubic)
            pixels = np.asarray(upright)
            if file.mode == "P" and (pixels == pixels[..., :1]).all():
                pixels = pixels[..., 0]  # a palette of greys
    except Exception as error:  # Pillow raises many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} is no image that can be used: {reason}") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]
