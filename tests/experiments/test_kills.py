"""What a kill leaves on the disk, at any moment: the same command ends as undisturbed.

A kill leaves what lies on the disk at that moment. So one sweep runs, in this process,
and before each change of a file that it makes the folder is as a kill there would leave
it: some of these are copied, and the sweep is continued in the copies. Real kills, of
processes of their own, are `-m science`.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import plans
import pytest
import sample
from rich.console import Console

from ghostjax.config import grid
from ghostjax.experiments import comparison
from ghostjax.report import page, panels
from ghostjax.training import checkpoint

PLAN = f"""
name = "toy"
{sample.TARGET}
[attacker]
images = 4
[attack]
name = "rmle"
preset = "authors"
steps = 5
[judge]
used = false
[[variants]]
label = "plain"
defense = {{name = "plain", cut = "pool1"}}
[[variants]]
label = "ghost"
[variants.defense]
name = "ghost"
cut = "pool1"
steps = 20
batch_size = 16
public_batch_size = 16
[[variants]]
label = "plus"
defense = {{name = "ghost_plus", cut = "pool1", steps = 20, batch_size = 4}}
"""
KILLS = 10


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """The network, and pages whose pictures are written and not drawn."""
    with sample.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "drawn", lambda figure: b"a chart")
        patch.setattr(panels, "png", lambda image, **options: b"a picture")
        patch.setattr(panels, "training", lambda records: None)
        yield


def compared(output):
    """Runs the plan to its end, and compares its members."""
    plan = output.with_name("plan.toml")
    plan.write_text(PLAN)
    comparison.compare(grid.load(plan), output, Console(quiet=True))


def table(output):
    """Name of a run -> its row."""
    folders = [x.parent for x in sorted(output.glob("toy-*/row.parquet"))]
    return dict(zip([x.name for x in folders], plans.rows(folders), strict=True))


def files_of(output):
    """All files, but those that a checkpoint's library names at random."""
    paths = (x.relative_to(output) for x in output.rglob("*") if x.is_file())
    return {str(path) for path in paths if "tree" not in path.parts}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """(output of the undisturbed sweep, what kills would have left)."""
    home = tmp_path_factory.mktemp("kills")
    output, copies = home / "runs", []

    def watched(usual):
        def change(*arguments, **named):
            if str(output) in str(arguments[0]) and output.exists():
                copy = home / f"killed-{len(copies)}"
                # Files are replaced, not changed: a link keeps what was there.
                copies.append(shutil.copytree(output, copy, copy_function=os.link))
            return usual(*arguments, **named)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (os, "replace"),
            (shutil, "rmtree"),
            (checkpoint.ocp, "save"),
        ):
            patch.setattr(module, name, watched(getattr(module, name)))
        compared(output)
    assert len(copies) > 50
    draw, part = random.Random(3), len(copies) / KILLS
    return output, [copies[int(part * (k + draw.random()))] for k in range(KILLS)]


def test_kills_reach_every_stage(killed):
    """Of the copies some have no row, others the last member's checkpoints, and others
    all rows."""
    _, copies = killed
    rows = [len(table(copy)) for copy in copies]
    assert rows == sorted(rows) and {0, 1, 2, 3} == {*rows}
    plus = [list(copy.glob("parts/ghost_plus-*/*/[0-9]*")) for copy in copies]
    assert any(there and done == 2 for there, done in zip(plus, rows, strict=True))


@pytest.mark.parametrize("place", range(KILLS))
def test_killed_between_two_changes_of_files(place, killed):
    output, copies = killed
    copy = copies[place]
    for torn in copy.rglob("*.writing"):  # as the system may have left it
        if torn.is_file():
            half = torn.read_bytes()[: torn.stat().st_size // 2]
            torn.unlink()
            torn.write_bytes(half)
    compared(copy)
    assert table(copy) == table(output) and len(table(output)) == 3
    assert files_of(copy) == files_of(output)


@pytest.mark.science
def test_killed_forty_times_at_random(tmp_path):
    """Processes of their own, at any moment from their first import on."""
    path, whole = tmp_path / "plan.toml", tmp_path / "whole"
    path.write_text(PLAN)
    command = [sys.executable, "-m", "ghostjax", "run", str(path), "--output"]
    settings = {"env": sample.environment(), "stdout": subprocess.DEVNULL}
    began = time.monotonic()
    subprocess.run([*command, whole], check=True, **settings)
    draw, kills, spent = random.Random(40), 0, time.monotonic() - began
    while kills < 40:
        output = tmp_path / f"runs-{kills}"
        for _ in range(draw.randint(1, 6)):
            process = subprocess.Popen([*command, output], **settings)
            time.sleep(draw.uniform(1, spent))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        subprocess.run([*command, output], check=True, **settings)
        assert table(output) == table(whole) and len(table(whole)) == 3
        assert files_of(output) == files_of(whole)
