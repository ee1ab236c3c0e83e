"""A data set of one's own arrays.

images = np.load("pets.npz")                     # uint8 [N, H, W, C]
pets = data.from_arrays("pets", train, test, ["cat", "dog"])
ghostjax.run(config, data=pets)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ghostjax.data.catalog import DATASETS, DataError
from ghostjax.data.dataset import Dataset, Split

__all__ = ["from_arrays", "require_name"]

_ROUND = "np.rint(255 * images).astype(np.uint8) where they lie in [0, 1]"


def from_arrays(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    class_names: Sequence[str],
) -> Dataset:
    """Makes a data set of arrays.

    Args:
      name: what configs, rows and reports call it; none of ghostjax's own data sets.
      train: (images, labels). Images are uint8 [N, H, W, C], C being 1 or 3, or
        [N, H, W], which are grey; labels are whole numbers [N], from 0.
      test: the same, with images of the same shape, which training never sees.
      class_names: of label 0, 1, …; two at least.

    Returns:
      The data set; its arrays are copies.

    Raises:
      DataError: anything else, such as images that are no bytes, labels that are no
        class, splits that are empty, or arrays that do not go together.
    """
    require_name(name)
    if isinstance(class_names, str):
        raise DataError(f"class_names = {class_names!r}: give a list of names")
    splits = {}
    for word, pair in (("train", train), ("test", test)):
        try:
            splits[word] = _split(pair, len(class_names))
        except ValueError as error:
            raise DataError(f"data set {name!r}: {word}: {error}") from error
    return Dataset(name=name, **splits, class_names=tuple(class_names), source="arrays")


def require_name(name: str) -> None:
    """Refuses what cannot be the name of a data set of one's own.

    Raises:
      DataError: it is empty, or one of ghostjax's own has it.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"a data set's name is {name!r}: give a word")
    if name in DATASETS:
        raise DataError(
            f"{name!r} is the name of a data set of ghostjax: give your own images "
            "another (in a config: data.name)"
        )


def _split(pair: tuple[Any, Any], classes: int) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"a {type(pair).__name__}: give (images, labels)")
    images, labels = map(np.asarray, pair)
    if images.dtype.kind == "f":
        raise ValueError(f"images {images.dtype}: round them to uint8, {_ROUND}")
    if images.dtype != np.uint8:
        raise ValueError(f"images {images.dtype}: give uint8, 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(f"images {images.shape}: give [N, H, W, C] or [N, H, W]")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels {labels.dtype}: give whole numbers")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{len(images)} images and labels {labels.shape}: give a label an image"
        )
    strange = labels[(labels < 0) | (labels >= classes)]
    if strange.size:  # before they are made int32, which might make a class of them
        raise ValueError(
            f"label {strange[0]} of {classes} classes: labels go from 0 to "
            f"{classes - 1}"
        )
    return Split(np.array(images, order="C"), labels.astype(np.int32))
