"""A package outside of ghostjax (`tests/package`), by its entry points alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ghostjax.report.folder import read_row

PACKAGE = Path(__file__).parent / "package"
CONFIG = """
name = "foreign"
[data]
name = "patterns"
[target]
network = "small"
epochs = 3
batch_size = 40
[defense]
name = "quantise"
step = 0.25
[attacker]
images = 4
[attack]
name = "mean"
images = 50
[denoise]
name = "blur"
share = 0.0
[judge]
used = false
"""


PROGRAM = """
import contextlib, io, json, sys
from ghostjax import cli
said = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try: status = cli.main(words)
        except SystemExit as stop: status = stop.code
    assert status == 0, words
    said.append(output.getvalue())
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(folder of runs, what the command line says to three commands), of one process
    that has the package on its path."""
    home = tmp_path_factory.mktemp("foreign")
    (home / "foreign.toml").write_text(CONFIG)
    run = ["run", str(home / "foreign.toml")]
    commands = [
        [*run, "--help-keys"],
        ["networks", "small"],
        [*run, "--output", str(home)],
    ]
    path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return home, json.loads(done.stdout)


def test_its_keys_are_listed(said):
    keys, networks, _ = said[1]
    for key in ("--defense.step", "--attack.images", "--denoise.share"):
        assert key in keys
    assert "Between two values that are sent." in keys
    assert "small" in networks and "fc1act" in networks


def test_a_row_and_a_report_come_of_them(said):
    home, (*_, printed) = said
    (folder,) = home.glob("foreign-*")
    assert str(folder / "report.html") in printed
    row = read_row(folder)
    members = row["network"], row["defense"], row["attack"], row["denoise"]
    assert members == ("small", "quantise", "mean", "blur")
    assert row["data"] == "patterns"
    assert row["defense.step"] == row["quantiser_step"] == 0.25
    assert row["attack.images"] == 50 and row["denoise.share"] == 0.0
    before = row["psnr_train_mean_secret_mean"]
    assert abs(row["psnr_reconstruction_secret_mean"] - before) < 1.0
    assert "step of the quantiser" in (folder / "report.html").read_text()
