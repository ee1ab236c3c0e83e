"""Sensitive and public labels, covers and secrets."""

import re

import numpy as np
import pytest

from ghostjax.data import partition, roles
from ghostjax.data.partition import Partition


@pytest.mark.parametrize(
    ("classes", "share", "sensitive"),
    [
        (10, "1:9", 1),
        (10, "2:8", 2),
        (10, "3:7", 3),
        (10, "4:6", 4),
        (43, "1:9", 4),
        (43, "2:8", 9),
        (43, "3:7", 13),
        (43, "4:6", 17),
        (10, "3:3", 5),
        (10, 0.3, 3),
        (2, "1:1", 1),
    ],
)
def test_counts(classes, share, sensitive):
    parts = partition(classes, share, seed=0)
    assert len(parts.sensitive) == sensitive
    assert sorted(parts.sensitive + parts.public) == list(range(classes))
    assert parts.sensitive == tuple(sorted(parts.sensitive))
    assert parts.public == tuple(sorted(parts.public))


def test_seed_draws_the_labels():
    draws = [partition(43, "2:8", seed=seed).sensitive for seed in range(20)]
    assert len(set(draws)) == 20
    assert draws[3] == partition(43, "2:8", seed=3).sensitive
    # Every label can be drawn: 20 draws of 9 out of 43 miss one with 0.8 % each.
    assert len(set().union(*draws)) > 38


def test_larger_share_includes_the_smaller():
    small, large = (set(partition(10, s, seed=5).sensitive) for s in ("1:9", "4:6"))
    assert small < large


def test_named_labels_take_the_place_of_share_and_seed():
    named = partition(5, "1:9", seed=1, sensitive=[4, 0])
    assert named == Partition((0, 4), (1, 2, 3))
    assert partition(5, "2:3", seed=1, sensitive=()) == partition(5, "2:3", seed=1)


@pytest.mark.parametrize(
    ("share", "named", "message"),
    [
        ("1-9", None, "gamma '1-9' is not understood: write"),
        ("0:0", None, "gamma '0:0' is not understood"),
        ("-1:9", None, "gamma '-1:9' is not understood"),
        ("", None, "gamma '' is not understood"),
        (1.5, None, "gamma 1.5 is not understood"),
        (float("nan"), None, "gamma nan is not understood"),
        (True, None, "gamma True is not understood"),
        ("9:0", None, "gamma '9:0' of 10 labels leaves no public label"),
        ("99:1", None, "gamma '99:1' of 10 labels leaves no public label"),
        ("0:9", None, "gamma '0:9' of 10 labels leaves no sensitive label"),
        ("1:99", None, "gamma '1:99' of 10 labels leaves no sensitive label"),
        ("1:9", [10], "sensitive label 10 does not exist: labels go from 0 to 9"),
        ("1:9", [-1], "sensitive label -1 does not exist"),
        ("1:9", [3, 4, 3], "sensitive label 3 is named twice"),
        ("1:9", list(range(10)), "all 10 labels are named sensitive: leave"),
    ],
)
def test_bad_input(share, named, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        partition(10, share, seed=0, sensitive=named)


def test_roles():
    labels = np.array([2, 0, 1, 2, 1, 0], np.int32)
    covers, secrets = roles(labels, Partition((1,), (0, 2)))
    np.testing.assert_array_equal(covers, [0, 1, 3, 5])
    np.testing.assert_array_equal(secrets, [2, 4])
    assert covers.dtype == secrets.dtype == np.int32


def test_roles_bad_input():
    with pytest.raises(ValueError, match=r"label 3 is neither sensitive nor public"):
        roles(np.array([0, 1, 3]), Partition((0,), (1, 2)))
    with pytest.raises(ValueError, match=r"none of the 2 images has a sensitive label"):
        roles(np.array([1, 2]), Partition((0,), (1, 2)))
    with pytest.raises(ValueError, match=r"none of the 1 images has a public label"):
        roles(np.array([0]), Partition((0,), (1, 2)))
