"""Members of a package outside of ghostjax (`tests/package`), by entry points alone."""

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
name = "digits"
[target]
network = "small"
epochs = 1
batch_size = 96
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
"""


def ghostjax(*words):
    """What the command line says, with the package on the path."""
    path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "ghostjax", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "foreign.toml"
    path.write_text(CONFIG)
    return path


def test_its_keys_are_listed(config):
    keys = ghostjax("run", config, "--help-keys")
    for key in ("--defense.step", "--attack.images", "--denoise.share"):
        assert key in keys
    assert "Between two values that are sent." in keys
    assert "small" in ghostjax("networks")


def test_a_row_and_a_report_come_of_them(config):
    output = config.parent / "runs"
    ghostjax("run", config, "--output", output)
    (folder,) = output.glob("foreign-*")
    row = read_row(folder)
    members = row["network"], row["defense"], row["attack"], row["denoise"]
    assert members == ("small", "quantise", "mean", "blur")
    assert row["defense.step"] == row["quantiser_step"] == 0.25
    assert row["attack.images"] == 50 and row["denoise.share"] == 0.0
    before = row["psnr_train_mean_secret_mean"]
    assert abs(row["psnr_reconstruction_secret_mean"] - before) < 1.0
    assert "step of the quantiser" in (folder / "report.html").read_text()
