"""What is not finite between a fit and a row is said, and no verdict is drawn of it."""

import html

import jax
import numpy as np
import plans
import pytest
from plans import SEARCH, member, sweep

from ghostjax.evaluation.answers import NotFinite
from ghostjax.report import findings, leaked, tables
from ghostjax.report.folder import read_row
from ghostjax.report.run_page import write_report

NOISE = {"name": "noise", "level": 0.0}
FAR = {**SEARCH, "learning_rate": 1e30, "box": False, "keep": "last"}
SCORES = ("psnr_reconstruction_secret_mean", "ssim_reconstruction_secret_mean")


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with plans.registered():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of a member whose searches all diverge, and of one as it should be."""
    output = tmp_path_factory.mktemp("runs")
    return sweep([member(NOISE, FAR), member(NOISE, SEARCH)], output).folders


def test_searches_that_diverge_are_counted_and_score_nothing(folders):
    astray, good = map(read_row, folders)
    assert (astray["diverged"], astray["diverged_n"]) == (8, 8)
    assert (good["diverged"], good["diverged_n"]) == (0, 8)
    for score in SCORES:
        assert np.isnan(astray[score]) and np.isfinite(good[score])
    assert not any(key.startswith("recognised_") for key in astray)
    assert good["recognised_reconstruction_target_n"] == 8


def test_page_and_tables_say_that_all_diverged(folders):
    astray, good = map(read_row, folders)
    words = "all 8 of the attacker's searches diverged"
    said = leaked.said(astray)
    assert words in said and "attack.learning_rate" in said and "recovered" not in said
    assert any(words[1:] in line for line in findings.cautions(astray))
    assert not any("diverged" in line for line in findings.cautions(good))
    assert "diverged" in tables.shown([astray, good], ["diverged"])
    assert not tables.shown([good], ["diverged"])
    page = html.unescape(write_report(folders[0]).read_text(encoding="utf-8"))
    assert words[1:] in page and "recovered" not in page


def test_what_diverges_in_part_leaves_the_verdict_open(folders):
    row = dict(read_row(folders[1]))
    assert "diverged" not in leaked.said(row)
    row |= {"diverged": 2}
    (line,) = [line for line in findings.cautions(row) if "diverged" in line]
    assert line.startswith("2 of 8 of the attacker's searches diverged")


def test_answers_that_are_no_numbers_are_nobodys(tmp_path):
    with pytest.raises(NotFinite, match=r"answers to 64 of 64 images are not finite"):
        sweep([member({**NOISE, "level": 3e38})], tmp_path)


def test_who_looks_for_nans_finds_none(tmp_path):
    """Not in values that are thrown away either."""
    with jax.debug_nans(True):
        sweep(
            [member(plans.GHOST, SEARCH), member({"name": "plain"}, SEARCH)], tmp_path
        )
