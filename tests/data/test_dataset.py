"""Data sets of one's own arrays, what names them, and how images are divided."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from ghostjax import data
from ghostjax.data.dataset import divided, shuffled

NAMES = ("zero", "one", "two")
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (12, 4, 5, 3), np.uint8)
LABELS = np.arange(12) % 3


def mine(images=IMAGES, labels=LABELS, names=NAMES, name="mine"):
    return data.from_arrays(
        name, (images[:8], labels[:8]), (images[8:], labels[8:]), names
    )


def test_arrays_are_copied_and_cannot_be_written_to():
    images = IMAGES.copy()
    dataset = mine(images)
    images[:] = 0
    assert (dataset.name, dataset.source) == ("mine", "arrays")
    assert dataset.class_names == NAMES
    assert repr(dataset) == (
        "Dataset('mine': 8 + 4 images 4 x 5 x 3, 3 classes; arrays)"
    )
    np.testing.assert_array_equal(dataset.train.images, IMAGES[:8])
    np.testing.assert_array_equal(dataset.test.labels, LABELS[8:])
    assert dataset.train.labels.dtype == np.int32
    for array in (*dataset.train, *dataset.test):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint64", "list"])
def test_labels_of_any_whole_numbers_and_grey_images_without_a_channel(kind):
    labels = LABELS.tolist() if kind == "list" else LABELS.astype(kind)
    dataset = mine(IMAGES[..., 0], labels, list(NAMES))
    assert dataset.train.images.shape == (8, 4, 5, 1)
    assert dataset.fingerprint == mine(IMAGES[..., :1]).fingerprint


def labelled(value, kind=np.int64):
    labels = LABELS.astype(kind)
    labels[3] = value
    return labels


NO_ARRAYS = {
    "float": ({"images": IMAGES / 255}, r"train: images float64: round them to uint8"),
    "int": ({"images": IMAGES.astype(int)}, "images int64: give uint8, 0 to 255"),
    "one image": ({"images": IMAGES[0, :, :, :2]}, "label an image"),
    "flat": ({"images": IMAGES.reshape(12, -1)}, r"images \(8, 60\): give \[N, H, W"),
    "four channels": ({"images": IMAGES.reshape(12, 5, 3, 4)}, "1 or 3 channels"),
    "float labels": ({"labels": LABELS / 1}, "labels float64: give whole numbers"),
    "bool labels": ({"labels": LABELS > 0}, "labels bool: give whole numbers"),
    "label 3": ({"labels": labelled(3)}, "label 3 of 3 classes: labels go from 0 to 2"),
    "label -1": ({"labels": labelled(-1)}, "label -1 of 3"),
    "wraps to 0": ({"labels": labelled(2**32, np.uint64)}, "label 4294967296 of 3"),
    "one-hot": ({"labels": np.eye(3, dtype=int)[LABELS]}, r"labels \(8, 3\): give a"),
    "too few": ({"images": IMAGES[:8]}, r"test: 0 images and labels \(4,\)"),
    "no test": ({"images": IMAGES[:8], "labels": LABELS[:8]}, "test: no images"),
    "one class": ({"labels": 0 * LABELS, "names": ("zero",)}, "give two at least"),
    "same class": ({"names": ("a", "b", "a")}, "has 'a' twice"),
    "numbers": ({"names": range(3)}, "give a tuple of strings"),
    "a word": ({"names": "abc"}, "class_names = 'abc': give a list"),
    "no name": ({"name": ""}, "a data set's name is ''"),
    "mnist": ({"name": "mnist"}, "'mnist' is the name of a data set of ghostjax"),
}


@pytest.mark.parametrize("case", NO_ARRAYS)
def test_other_arrays_are_refused_in_one_line(case):
    changes, said = NO_ARRAYS[case]
    with pytest.raises(data.DataError, match=said) as error:
        mine(**changes)
    assert "\n" not in str(error.value)


def test_splits_that_do_not_go_together_are_refused():
    train, test = (IMAGES[:8], LABELS[:8]), (IMAGES[8:, :3], LABELS[8:])
    with pytest.raises(data.DataError, match=r"wanted are uint8 \[N, 4, 5, 3\]"):
        data.from_arrays("mine", train, test, NAMES)
    with pytest.raises(data.DataError, match="train: a ndarray: give .images, labels."):
        data.from_arrays("mine", IMAGES, test, NAMES)
    with pytest.raises(
        data.DataError, match="test: .* must be NumPy's: see data.from_arrays"
    ):
        data.Dataset("mine", mine().train, data.Split([], []), NAMES)


def changed(array, place):
    array = array.copy()
    array[place] ^= 1
    return array


DIFFERENT = {
    "train pixel": {"images": changed(IMAGES, (0, 0, 0, 0))},
    "test pixel": {"images": changed(IMAGES, (-1, -1, -1, -1))},
    "label": {"labels": changed(LABELS, -2)},
    "order of labels": {"labels": LABELS[::-1]},
    "inverted, reversed": {"images": 255 - IMAGES, "labels": LABELS[::-1]},
    "shape": {"images": IMAGES.transpose(0, 2, 1, 3).reshape(IMAGES.shape)},
    "height and width": {"images": IMAGES.reshape(12, 5, 4, 3)},
    "class name": {"names": ("zero", "one", "three")},
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_has_another_fingerprint(case):
    other = mine(**DIFFERENT[case])
    assert data.fingerprint(other) != data.fingerprint(mine())


def test_a_split_is_part_of_the_fingerprint():
    rows = np.r_[1:12, 0]
    moved = data.from_arrays(
        "mine", (IMAGES[:7], LABELS[:7]), (IMAGES[7:], LABELS[7:]), NAMES
    )
    turned = mine(IMAGES[rows], LABELS[rows])
    assert len({d.fingerprint for d in (mine(), moved, turned)}) == 3


def test_the_fingerprint_forgets_where_data_came_from(monkeypatch):
    dataset = mine()
    known = dataset.fingerprint
    assert len(known) == 32 and int(known, 16)
    assert replace(dataset, name="other", source="elsewhere").fingerprint == known
    assert pickle.loads(pickle.dumps(mine())).fingerprint == known
    strided = np.ascontiguousarray(IMAGES.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    splits = (
        data.Split(strided[rows], LABELS[rows].astype(np.int32))
        for rows in (slice(8), slice(8, 12))
    )
    assert data.Dataset("mine", *splits, NAMES).fingerprint == known
    monkeypatch.setattr("hashlib.sha256", None)  # computed once
    assert data.fingerprint(dataset) == known


def test_images_are_divided_by_class_and_stay_where_they_are():
    labels = np.repeat([0, 1, 2, 3], [40, 30, 3, 1])
    words = [f"{label}/{row}.png" for row, label in enumerate(labels)]
    train, test = divided(words, labels, 0.2, seed=0)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(74))
    np.testing.assert_array_equal(np.bincount(labels[test], minlength=4), [8, 6, 1, 0])
    assert (np.diff(labels[train]) != 0).mean() > 0.3, "mixed"
    # More images of one class move none of the others.
    more = [*words, *(f"0/more{row}.png" for row in range(20))]
    _, now = divided(more, np.r_[labels, np.zeros(20, int)], 0.2, seed=0)
    assert {row for row in test if labels[row]} == {
        row for row in now if row < 74 and labels[row]
    }
    assert set(divided(words, labels, 0.2, seed=1)[1]) != set(test)
    # Known values: the same on every machine.
    assert shuffled("abcdefgh", 0).tolist() == [4, 6, 7, 1, 5, 0, 2, 3]
