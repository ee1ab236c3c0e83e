"""`digits`: real handwritten digits for machines without data.

scikit-learn carries the 1,797 digits of the UCI test set, 8x8 pixels of 17 grey levels.
They are scaled to 0..255 and enlarged to 28x28, MNIST's size, by Pillow's bicubic
resize of bytes, which computes in integers: the same bytes on every machine.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ghostjax.data.catalog import DATASETS, DataError
from ghostjax.data.dataset import Dataset, Split

__all__ = ["SIZE", "load"]

SIZE = 28
_SIDE = 8  # of scikit-learn's
_GREYS = 16  # the brightest of scikit-learn's
_TEST_EVERY = 5
_SEED = 0


def load(name: str) -> Dataset:
    """1,437 training and 360 test images, uint8 [N, 28, 28, 1].

    Guarantees:
      The same images in the same order at every call.
      Stratified: of each class a fifth, rounded up or down, is in the test split.
    """
    images, labels = _all()
    order = np.random.default_rng(_SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    test = np.zeros(len(labels), bool)
    test[by_class[::_TEST_EVERY]] = True
    train_rows, test_rows = order[~test[order]], order[test[order]]
    return Dataset(
        name=name,
        train=Split(images[train_rows], labels[train_rows]),
        test=Split(images[test_rows], labels[test_rows]),
        class_names=DATASETS[name].class_names,
        source="embedded",
    )


@cache  # a fifth of a second; a process that sweeps or tests asks often
def _all() -> tuple[np.ndarray, np.ndarray]:
    """All images, uint8 [1797, 28, 28, 1], and labels; not to be written to."""
    file = _file()
    if file.is_file():
        rows = np.loadtxt(file, np.uint8, delimiter=",")
    else:  # another layout of the package
        from sklearn.datasets import load_digits

        bundle = load_digits()
        rows = np.column_stack([bundle.data, bundle.target]).astype(np.uint8)
    images = rows[:, :-1].reshape(-1, _SIDE, _SIDE)
    return np.stack([_enlarge(image) for image in images]), rows[:, -1].astype(np.int32)


def _file() -> Path:
    """scikit-learn's own; importing it takes longer than all else that this does."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits are part of scikit-learn: install scikit-learn")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _enlarge(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    white = np.iinfo(np.uint8).max
    grey = np.rint(image * (white / _GREYS)).astype(np.uint8)
    resized = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized)[..., None]
