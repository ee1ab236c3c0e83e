"""replicates.py: which runs differ only in the seed, and what is said of their mean."""

import numpy as np
import pytest

from ghostjax.evaluation.intervals import mean
from ghostjax.report import replicates as module
from ghostjax.report.comparison_page import varying
from ghostjax.report.replicates import Replicates, replicates


def row(seed, accuracy=90.0, labels="", **more):
    return {"seed": seed, "sensitive_labels": labels or f"of {seed}",
            "public_labels": f"not {labels or seed}", "hash": f"h{seed}{accuracy}",
            "accuracy_all": accuracy, "accuracy_all_n": 360, **more}  # fmt: skip


def together(rows):
    """What tells runs apart, and the seeds of those that are together."""
    keys = varying(rows)
    return keys, [[r["seed"] for r in group.rows] for group in replicates(rows, keys)]


def test_runs_that_differ_in_the_seed_and_what_it_draws_are_together():
    rows = [row(seed, cut=cut) for seed in (0, 1) for cut in ("conv1", "pool1")]
    assert together(rows) == (["cut"], [[0, 1], [0, 1]])
    assert together([row(0)]) == ([], [[0]])


def test_all_seeds_at_once_are_one_seed():
    rows = [row(s, **{"target.seed": s, "stego.seed": s + 5}) for s in (0, 1, 2)]
    assert together(rows) == ([], [[0, 1, 2]])


def test_crossed_seeds_are_independent_for_each_target_alone():
    rows = [row(s, **{"target.seed": t}) for t in (0, 1) for s in (0, 1, 2)]
    assert together(rows) == (["target.seed"], [[0, 1, 2], [0, 1, 2]])
    nested = [row(s, **{"target.seed": s // 2}) for s in range(4)]
    assert together(nested) == (["target.seed"], [[0, 1], [2, 3]])


def test_a_target_s_own_seed_at_one_seed_keeps_runs_apart():
    rows = [row(0, labels="3 7", **{"target.seed": t}) for t in (0, 1)]
    assert together(rows) == (["target.seed"], [[0], [0]])


def test_labels_that_do_not_follow_from_the_seed_keep_runs_apart():
    rows = [row(s, labels=labels) for labels in ("3 7", "1 2") for s in (0, 1)]
    assert together(rows)[1] == [[0, 1], [0, 1]]
    assert together([row(0, labels="3 7"), row(0, labels="1 2")])[1] == [[0], [0]]
    assert together([row(s, labels="3 7") for s in (0, 1)])[1] == [[0, 1]]


def test_a_run_that_is_there_twice_is_no_replicate():
    rows = [row(0), row(0), row(1)]
    assert together(rows)[1] == [[0], [0]] + [[1]]


def shown(*rows):
    (group,) = replicates(rows, [])
    return group


def test_a_row_of_means_has_what_runs_share_and_no_run_s_own():
    group = shown(row(0, 90.0, data="digits"), row(1, 94.0, data="digits"))
    assert group.row == {"accuracy_all": 92.0, "accuracy_all_n": 360, "data": "digits"}
    alone = row(0)
    assert shown(alone).row is alone


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("accuracy_all", [90.0, 94.0, 95.0], "93.00 ± 6.57 %"),
        ("psnr_a_secret_mean", [10.0, 11.0, 12.0], "11.00 ± 2.48 dB"),
        ("ssim_a_secret_mean", [0.25, 0.25, 0.25], "0.250 ± 0.000"),
        ("ssim_a_secret_mean", [0.25, None, 0.35], "0.300 ± 0.635 (n = 2)"),
        ("ssim_a_secret_mean", [0.25, None, None], "0.250 (n = 1)"),
        ("ssim_a_secret_mean", [None, None, None], "–"),
        ("psnr_a_b_mean", [np.inf, np.inf, np.inf], "∞"),
        ("accuracy_secret_n", [1200, 1234, 1300], "1,200–1,300"),
        ("accuracy_all_n", [360, 360, 360], "360"),
        ("seconds_total", [10.0, 20.0, 30.0], "20.0 s"),
        ("uses_secret", [True, True, True], "yes"),
        ("uses_secret", [True, False, True], "yes in 2 of 3"),
        ("network", ["lenet5"] * 3, "lenet5"),
    ],
)
def test_a_cell_is_a_mean_with_half_its_interval(key, values, words):
    group = shown(*({**row(s), key: value} for s, value in enumerate(values)))
    assert module.cell(group, key) == words


def test_a_cell_of_one_run_is_its_own():
    assert module.cell(shown(row(0, 93.0)), "accuracy_all") == "93.00 %"
    assert module.note([shown(row(0))]) == ""


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([{"target.seed": s} for s in (0, 1)], None),
        ([{"target.seed": 0}] * 2, "target.seed did not vary"),
        ([{"target.seed": 0, "stego.seed": 0, "stego": "nns"}] * 2,
         "target.seed and stego.seed did not vary"),
        ([{"target.seed": 0, "stego.seed": 0, "stego": ""}] * 2,
         "target.seed did not vary"),
    ],
)  # fmt: skip
def test_what_seeds_share_is_said(rows, shared):
    group = shown(*({**row(seed), **more} for seed, more in enumerate(rows)))
    words = module.note([group])
    assert "n = 2 runs" in words and ("did not vary" in words) == bool(shared)
    assert shared is None or shared in words


def test_the_interval_is_students_and_wants_two():
    values = [90.0, 94.0, 95.0]
    found = mean(values)
    assert found.mean == 93.0 and found.n == 3
    errors = np.std(values, ddof=1) / 3**0.5
    assert found.half == pytest.approx(4.302652729696142 * errors)
    assert np.isnan(mean([3.0]).half)
    with pytest.raises(ValueError, match="the mean of no values"):
        mean([])


def test_a_95_percent_interval_covers_95_of_100():
    """Of normal values; 2,000 triples have a standard error of 0.5 %."""
    values = np.random.default_rng(0).normal(5.0, 2.0, (2000, 3))
    found = [mean(triple) for triple in values]
    covered = np.mean([abs(x.mean - 5.0) <= x.half for x in found])
    assert abs(covered - 0.95) < 3 * (0.05 * 0.95 / 2000) ** 0.5
    normal = np.mean([abs(x.mean - 5.0) <= x.half * 1.96 / 4.3027 for x in found])
    assert normal < 0.90, "1.96 standard errors do not"


def test_a_mean_is_over_runs_of_the_group_alone():
    group = Replicates(rows=[row(0, 1.0), row(1, 3.0)], row={})
    assert group.mean("accuracy_all").mean == 2.0 and group.mean("nothing") is None
