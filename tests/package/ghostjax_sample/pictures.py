"""A data set: of each class one coarse pattern, under noise."""

import numpy as np

from ghostjax.data import Dataset, Info, Split

CLASSES = 10
INFO = Info(
    shape=(28, 28, 1),
    class_names=tuple(map(str, range(CLASSES))),
    load="ghostjax_sample.pictures:load",
)


def load(name):
    """400 pictures to train on and 100 to test; the same at every call."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 128, (CLASSES, 7, 7, 1), np.uint8)
    patterns = coarse.repeat(4, 1).repeat(4, 2)

    def split(count):
        labels = np.arange(count, dtype=np.int32) % CLASSES
        noise = draw.integers(0, 128, (count, *INFO.shape), np.uint8)
        return Split(patterns[labels] + noise, labels)

    return Dataset(name, split(400), split(100), INFO.class_names, "patterns")
