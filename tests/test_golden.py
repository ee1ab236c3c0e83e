"""The rows of `golden/rows.toml` and `golden/walk.toml`, as they were before a rebuild.

Tolerances, since XLA's code differs between processors and a training of a few steps
carries that on: what counts images may differ by 4 points (three of the some 100 test
secrets), a mean over the images by 2 % and 0.02 of its unit, words and settings not at
all. `golden/rows.py` compares bits on one machine.
"""

import json
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

import rows as golden  # noqa: E402

BEFORE = json.loads((GOLDEN / "rows.json").read_text(encoding="utf-8"))
POINTS = ("accuracy", "control_", "covers_called_")


@pytest.fixture(scope="module")
def after():
    return golden.golden()


def close(key, before, after):
    if isinstance(before, bool) or not isinstance(before, int | float):
        return before == after
    if before != before:
        return after != after
    if any(word in key for word in POINTS) and not key.endswith("_n"):
        return after == pytest.approx(before, abs=4.0)
    return after == pytest.approx(before, rel=0.02, abs=0.02)


def test_every_member_is_there(after):
    assert list(after) == list(BEFORE)


@pytest.mark.parametrize("name", BEFORE)
def test_rows_are_as_they_were(name, after):
    before, row = BEFORE[name], after[name]
    missing = [key for key in before if key not in row]
    assert not missing
    apart = {
        key: (value, row[key])
        for key, value in before.items()
        if not close(key, value, row[key])
    }
    assert not apart
