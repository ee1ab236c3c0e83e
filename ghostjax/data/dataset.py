"""A data set in memory: the images and labels of two splits, checked and named.

What it holds is named by `fingerprint`, whatever it is called and wherever it came
from: results of one data set never serve another, and those of a data set that was
moved or renamed are still its own.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ghostjax.data.catalog import DataError

__all__ = ["Dataset", "Split", "divided", "fingerprint", "require", "shuffled"]

_CHANNELS = (1, 3)  # grey, RGB


class Split(NamedTuple):
    """Images and their labels; NumPy, on the host."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set, whole, on the host.

    Guarantees:
      Both splits hold images, uint8 [N, H, W, C] of one H, W and C, which is 1 or 3,
      and for each an int32 label that is the number of one of the class names.
      The arrays cannot be written to through it, so that the fingerprint stays true.

    Raises:
      DataError: when made, of anything else; `data.from_arrays` converts what it can.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str = ""
    """Where it came from: "prepared mnist/3.0.1", "embedded"."""

    def __post_init__(self) -> None:
        word, shape = "classes", None
        try:
            _require_names(self.class_names)
            for word in ("train", "test"):
                split = _sealed(getattr(self, word), len(self.class_names), shape)
                object.__setattr__(self, word, split)
                shape = split.images.shape[1:]
        except ValueError as error:
            raise DataError(f"data set {self.name!r}: {word}: {error}") from error

    def __repr__(self) -> str:
        counts = " + ".join(f"{len(x.labels):,}" for x in (self.train, self.test))
        shape = " x ".join(map(str, self.train.images.shape[1:]))
        about = f"{counts} images {shape}, {len(self.class_names)} classes"
        return f"Dataset({self.name!r}: {about}; {self.source})"

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of all pixels, labels, shapes and class names.

        It depends neither on the data set's name nor on where it came from. It is
        computed once: 0.05 s for MNIST, 0.2 s for CIFAR-10 on a core of a server.
        """
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        for images, labels in (self.train, self.test):
            digest.update(json.dumps(images.shape).encode())
            digest.update(np.ascontiguousarray(images).ravel().data)
            digest.update(labels.astype("<i4").data)
        return digest.hexdigest()[:32]


def fingerprint(dataset: Dataset) -> str:
    """What names results by their data: `dataset.fingerprint`."""
    return dataset.fingerprint


def require(split: Split, classes: int, shape: tuple[int, ...] | None = None) -> None:
    """Refuses arrays that are not a split.

    Args:
      split: the arrays.
      classes: how many labels there are.
      shape: [H, W, C] of an image; None: any.

    Raises:
      ValueError: other types or shapes than `Split`'s, images of another shape than
        `shape`, or a label that is no class.
    """
    images, labels = split
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        raise ValueError("images and labels must be NumPy's: see data.from_arrays")
    good = (
        images.dtype == np.uint8
        and labels.dtype == np.int32
        and images.ndim == 4
        and labels.shape == images.shape[:1]
        and shape in (None, images.shape[1:])
    )
    if not good:
        wanted = ", ".join(map(str, shape or "HWC"))
        raise ValueError(
            f"images {images.dtype} {images.shape}, labels {labels.dtype} "
            f"{labels.shape}: wanted are uint8 [N, {wanted}] and int32 [N]"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        strange = labels.max() if labels.min() >= 0 else labels.min()
        raise ValueError(f"label {strange} of {classes} classes")


def divided(
    identities: Sequence[Any], labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides images into those to train with and those held out to test with.

    Each image has a place in a random order, by a hash of its identity and the seed. Of
    each label the first images are held out: round(share * how many there are), at
    least one, and all but one at most.

    Args:
      identities: a word or number for each image, such as its path.
      labels: integers [N].
      share: of the images that are held out, above 0 and below 1.
      seed: of the order.

    Returns:
      Rows to train with and rows held out, each in the random order.

    Guarantees:
      The same on every machine. Images that join, leave or change label move no image
      of other labels from one part to the other.
    """
    order = shuffled(identities, seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held_out[rows[:count]] = True
    return order[~held_out[order]], order[held_out[order]]


def shuffled(identities: Sequence[Any], seed: int) -> np.ndarray:
    """Rows in a random order, by a hash of their identities and the seed."""
    keys = [hashlib.sha256(f"{seed} {x}".encode()).digest() for x in identities]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _require_names(names: tuple[str, ...]) -> None:
    if not isinstance(names, tuple) or not all(isinstance(x, str) for x in names):
        raise ValueError(f"class_names = {names!r}: give a tuple of strings")
    if len(names) < 2:
        raise ValueError(f"class_names = {names!r}: give two at least")
    if double := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"class_names has {double[0]!r} twice: name each class once")


def _sealed(split: Split, classes: int, shape: tuple[int, ...] | None) -> Split:
    """The split, checked, as arrays that cannot be written to."""
    require(split, classes, shape)
    views = Split(*(array.view() for array in split))
    height, width, channels = views.images.shape[1:]
    if channels not in _CHANNELS or not height * width:
        raise ValueError(f"images {views.images.shape}: give 1 or 3 channels")
    if not views.labels.size:
        raise ValueError("no images: give some")
    for view in views:
        view.flags.writeable = False
    return views
