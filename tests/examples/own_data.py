"""Data of one's own: stripes of four directions, as arrays.

A folder of images would do as well: `data.from_folder("pets", size=(28, 28))`.
"""

import numpy as np

import ghostjax
from ghostjax import data


def stripes(count, seed):
    draw, (y, x) = np.random.default_rng(seed), np.mgrid[:28, :28]
    along = np.stack([x, y, x + y, x - y])
    labels = draw.integers(0, 4, count)
    waves = np.sin(along[labels] + draw.uniform(0, 6, (count, 1, 1)))
    return np.rint(127 + 127 * waves).astype(np.uint8), labels


def main(config="digits", output="runs"):
    names = ["across", "down", "rising", "falling"]
    mine = data.from_arrays("stripes", stripes(400, 0), stripes(100, 1), names)
    return ghostjax.run(config, output, data=mine)
