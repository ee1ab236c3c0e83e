"""Shares of pictures that show their secret, against what is counted by hand."""

import numpy as np
import oracles
import pytest

from ghostjax.evaluation import metrics
from ghostjax.evaluation import recognition as seen
from ghostjax.testing import compiled

NAN = np.nan


def test_a_label_is_read_among_those_that_come_into_question():
    logits = [[0.0, 3.0, 1.0, 2.0], [5.0, 1.0, 0.0, 2.0], [9.0, NAN, 0.0, 1.0]]
    np.testing.assert_array_equal(seen.labels_read(logits), [1, 0, seen.NOTHING])
    among = seen.labels_read(logits, (2, 3))
    np.testing.assert_array_equal(among, [3, 3, seen.NOTHING])


def test_recognised_counts_the_right_ones_beside_the_commonest_label():
    share = seen.recognised(np.array([4, 6, 6, -1, 4]), np.array([4, 6, 4, 4, 6]))
    assert (share.count, share.n, share.percent, share.chance) == (2, 5, 40.0, 60.0)
    # Wilson's interval of 2 of 5, from the textbook's quadratic equation.
    z = 1.959963984540054
    a, b, c = 1 + z**2 / 5, -(2 * 0.4 + z**2 / 5), 0.4**2
    low, high = np.sort(np.roots([a, b, c]))
    np.testing.assert_allclose(share.limits, [40, 100 * low, 100 * high])


@pytest.mark.parametrize("labels, wanted", [([], []), ([1], [1, 2])])
def test_no_share_of_nothing(labels, wanted):
    with pytest.raises(seen.NoShare, match="at least one"):
        seen.recognised(np.array(labels), np.array(wanted))


def test_reidentified_is_what_a_loop_counts():
    draw = np.random.default_rng(0)
    alike = draw.normal(size=(40, 30))
    places = draw.integers(0, 30, 40)
    alike[np.arange(40), places] += 2.0
    best = [max(range(30), key=row.__getitem__) for row in alike.tolist()]
    right = np.array(best) == places
    order = sorted(range(40), key=lambda picture: -alike[picture].max())
    clear = 0
    while right[order[clear]]:
        clear += 1
    share = seen.reidentified(alike, places)
    assert 0 < clear < share.count == right.sum() < 40 and share.n == 40
    assert share.chance == pytest.approx(100 / 30)
    assert share.clear == clear


def test_pictures_that_are_all_alike_get_what_chance_gives():
    share = seen.reidentified(np.ones((20, 5)), np.arange(20) % 5)
    assert share.percent == pytest.approx(20) and share.clear == 0
    assert share.chance == 20
    rows = np.tile(np.arange(5.0), (20, 1))  # all are nearest to the last candidate
    share = seen.reidentified(rows, np.arange(20) % 5)
    assert share.percent == pytest.approx(20) and share.clear == 0


def test_a_picture_with_nan_is_nobodys():
    alike = np.array([[NAN] * 3, [NAN, 0.5, 0.1], [0.2, NAN, 0.9], [NAN, NAN, 0.1]])
    share = seen.reidentified(alike, np.array([0, 1, 1, 2]))
    assert (share.count, share.n) == (2, 4)


@pytest.mark.parametrize(
    "alike, places",
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.zeros((2, 1)), np.zeros(2, int)),
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.zeros(3, int)),
    ],
)
def test_reidentification_refuses_what_is_none(alike, places):
    with pytest.raises(seen.NoShare, match="candidates"):
        seen.reidentified(alike, places)


def test_candidates_are_the_images_of_the_sensitive_labels_secrets_first():
    labels = np.array([4, 1, 6, 4, 6, 2, 4])
    rows = seen.candidates(labels, (4, 6), np.array([4, 2]))
    assert rows.tolist() == [2, 4, 0, 3, 6]
    fewer = seen.candidates(labels, (4, 6), np.array([4, 2]), number=3)
    assert fewer.tolist() == [2, 4, 0]
    many = np.zeros(3000, int)
    assert len(seen.candidates(many, (0,), np.array([2999]))) == seen.MOST
    assert len(seen.candidates(many, (0,), np.arange(2000))) == 2000


@pytest.mark.parametrize("number", [6, 1])
def test_fewer_images_than_candidates_is_one_line(number):
    labels = np.array([4, 1, 6, 4, 6, 2, 4])
    with pytest.raises(seen.NoShare, match="5 images of their labels") as error:
        seen.candidates(labels, (4, 6), np.array([4, 2]), number=number)
    assert "\n" not in str(error.value)


def test_cosines_are_a_loops_and_zero_of_nothing():
    draw = np.random.default_rng(1)
    some, others = draw.normal(size=(3, 7)), draw.normal(size=(4, 7))
    some[1] = 0
    wanted = [
        [0 if not a.any() else a @ b / np.sqrt((a @ a) * (b @ b)) for b in others]
        for a in some
    ]
    np.testing.assert_allclose(seen.cosines(some, others), wanted, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_of_all_pairs_is_that_of_each(channels):
    draw = np.random.default_rng(2)
    ones = draw.random((3, 13, 12, channels), np.float32)
    others = draw.random((150, 13, 12, channels), np.float32)  # more than a block
    others[140] = ones[1]
    values = metrics.ssim_pairs(ones, others)
    assert values.shape == (3, 150) and values[1].argmax() == 140
    for row, one in enumerate(ones):
        some = others[[0, 1, 127, 128, 140, 149]]
        wanted = oracles.ssim_gaussian(np.broadcast_to(one, some.shape), some)
        got = values[row, [0, 1, 127, 128, 140, 149]]
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_ssim_of_other_numbers_of_pairs_compiles_nothing():
    images = np.random.default_rng(3).random((200, 13, 12, 1), np.float32)
    metrics.ssim_pairs(images[:3], images[:5])
    with compiled() as programs:
        metrics.ssim_pairs(images[:17], images[:200])
    assert not [name for name in programs if "ssim" in name]


def test_ssim_of_a_nan_is_nan_for_its_picture_alone():
    images = np.random.default_rng(4).random((3, 13, 12, 1), np.float32)
    spoilt = images.copy()
    spoilt[1, 2, 3] = NAN
    values = metrics.ssim_pairs(spoilt, images)
    np.testing.assert_array_equal(np.isnan(values).any(1), [False, True, False])


@pytest.mark.parametrize(
    "ones, others, words",
    [
        ((0, 12, 12, 1), (2, 12, 12, 1), "at least one"),
        ((2, 12, 12, 1), (2, 12, 11, 1), "differ in shape"),
        ((2, 9, 9, 1), (2, 9, 9, 1), "smaller than"),
    ],
)
def test_ssim_of_pairs_refuses(ones, others, words):
    with pytest.raises(ValueError, match=words):
        metrics.ssim_pairs(np.zeros(ones, np.float32), np.zeros(others, np.float32))
