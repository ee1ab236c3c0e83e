"""The whole story through the command line: results, resuming, refusing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ghostjax import cli, config
from ghostjax.attacks.records import Denoise, NoAttack
from ghostjax.defenses.arden import epsilon_published
from ghostjax.defenses.records import Arden, GhostPlus, Shredder
from ghostjax.experiments import run
from ghostjax.report.folder import read_row
from ghostjax.report.run_page import write_report
from ghostjax.stego.records import Nns

NO_ATTACK = NoAttack()
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


def ghostjax(*words, **settings):
    """Starts the command line in a process of its own."""
    command = [sys.executable, "-m", "ghostjax", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def finish(process):
    """(exit status, standard output, standard error)."""
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def run_one(experiment, output, console=None):
    """The folder of one experiment, run in this process."""
    (folder,) = run.run([experiment], output, console or Console(quiet=True))
    return folder


def row_of(output):
    """The only run's row, without what a clock wrote."""
    (folder,) = [path for path in output.iterdir() if path.name != "parts"]
    row = read_row(folder)
    return {key: value for key, value in row.items() if not key.startswith("seconds")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of runs, what was printed) of one undisturbed smoke run."""
    output = tmp_path_factory.mktemp("undisturbed")
    status, printed, errors = finish(ghostjax("run", SMOKE, "--output", output))
    assert status == 0, errors
    return output, printed


def test_a_run_leaves_everything(finished):
    output, printed = finished
    (folder,) = [path for path in output.iterdir() if path.name != "parts"]
    assert config.load(folder / "config.toml") == config.load(SMOKE)
    about = json.loads((folder / "environment.json").read_text())
    assert about["device"].startswith("cpu") and about["seed"] == 0
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    parts = {json.loads(line)["part"] for line in lines}
    assert parts == {"target", "ghost"}
    parquet = read_row(folder)
    with (folder / "row.csv").open() as file:
        (text,) = csv.DictReader(file)
    assert set(text) == set(parquet)
    assert float(text["accuracy_secret"]) == parquet["accuracy_secret"]
    assert (folder / "pictures" / "panel.png").stat().st_size > 10_000
    assert str(folder / "report.html") in printed.replace("\n", "")
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    np.testing.assert_array_equal(
        arrays["stego"], arrays["cover"] & 0xF8 | arrays["secret"] >> 5
    )


def test_counts_add_up(finished):
    row = row_of(finished[0])
    sensitive = [int(label) for label in row["sensitive_labels"].split()]
    assert len(sensitive) == 2 and len(row["public_labels"].split()) == 8
    assert row["accuracy_secret_n"] + row["accuracy_public_n"] == row["accuracy_all_n"]
    assert row["psnr_reconstruction_secret_n"] == 6
    assert row["target_parameters"] == 45_278
    assert row["psnr_cover_stego_low"] >= 31.2


def test_the_same_command_again_trains_nothing(finished):
    output, _ = finished
    before = row_of(output)
    status, printed, _ = finish(ghostjax("run", SMOKE, "--output", output))
    assert status == 0 and "already finished" in printed
    assert row_of(output) == before


def test_a_run_with_another_attack_shares_the_trained_parts(finished):
    output, _ = finished
    other = config.load(SMOKE)
    other = replace(other, name="other", attack=replace(other.attack, steps=11))
    console = Console(record=True, width=200)
    run_one(other, output, console)
    printed = console.export_text()
    assert "target  from the cache" in printed and "ghost  from the cache" in printed
    for folder in output.glob("other-*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_ghost_plus_runs_to_the_end_and_leaves_public_answers_alone(finished):
    output, _ = finished
    defense = GhostPlus(cut="pool1", steps=3, batch_size=8)
    other = replace(config.load(SMOKE), name="plus", defense=defense)
    folder = run_one(other, output)
    row = read_row(folder)
    for name in ("public", "all"):
        assert row[f"accuracy_{name}"] == row[f"target_accuracy_{name}"]
    assert 0 < row["perturbation_linf_max"] <= 1
    assert row["psnr_cover_perturbed_mean"] < row["psnr_cover_stego_mean"]
    assert "psnr_reconstruction_perturbed_mean" in row and "uses_secret" in row
    shown = np.load(folder / "arrays.npz", allow_pickle=False)["perturbed"]
    assert shown.dtype == np.uint8 and shown.shape[1:] == (28, 28, 1)
    write_report(folder)
    assert (folder / "pictures" / "perturbed.png").stat().st_size > 1_000
    shutil.rmtree(folder)


def test_a_stego_network_is_read_out_before_the_denoiser_too(finished):
    output, _ = finished
    smoke = config.load(SMOKE)
    stego = Nns(network="n16", epochs=1, batch_size=4)
    stego = replace(stego, beta=3.0, learning_rate=5e-3)
    defense = GhostPlus(cut="pool1", steps=2, batch_size=8)
    repair = Denoise(pairs="generator", epochs=1)
    other = replace(smoke, name="nns", stego=stego, defense=defense, denoise=repair)
    folder = run_one(other, output)
    row = read_row(folder)
    assert row["stego"] == "nns" and row["bits"] == 0 and row["denoise"] == "cda"
    both = [f"psnr_{n}_secret_mean" for n in ("extracted", "extracted_before")]
    assert all(np.isfinite(row[name]) for name in both) and row[both[0]] != row[both[1]]
    read = row["psnr_revealed_secret_mean"] - row["psnr_mean_image_secret_mean"]
    assert read > 4  # 10 dB measured
    assert isinstance(row["uses_secret"], bool)
    shutil.rmtree(folder)


def test_a_stego_network_that_hides_nothing_stops_the_run_before_the_defense(finished):
    output, _ = finished
    stego = Nns(network="n16", epochs=1, beta=1e-6)
    other = replace(config.load(SMOKE), name="blank", stego=stego)
    before = set((output / "parts").glob("ghost-*"))
    with pytest.raises(ValueError, match="the stego network hides nothing"):
        run_one(other, output)
    assert set((output / "parts").glob("ghost-*")) == before
    (folder,) = output.glob("blank-*")
    assert not (folder / "row.parquet").exists()
    shutil.rmtree(folder)


def test_arden_has_both_epsilons_in_its_row_and_one_training_for_all_ratios(finished):
    output, _ = finished
    defense = Arden(cut="pool1", steps=2, batch_size=8)
    first = replace(config.load(SMOKE), name="arden", defense=defense, attack=NO_ATTACK)
    second = replace(first, data=replace(first.data, gamma="3:7"))
    console = Console(record=True, width=200)
    folders = [run_one(one, output, console) for one in (first, second)]
    assert "arden  from the cache" in console.export_text()
    rows = [read_row(folder) for folder in folders]
    values = 12 * 12 * 8  # of lenet5's pool1
    for row in rows:
        bound = row["bound"]
        assert row["epsilon_published"] == epsilon_published(0.1, 5.0, bound)
        assert row["epsilon_l1_vector"] == pytest.approx(2 * bound * values / 5)
    assert rows[0]["accuracy_secret_n"] != rows[1]["accuracy_secret_n"]
    for folder in folders:
        shutil.rmtree(folder)


def test_shredder_has_its_1_over_snr_in_its_row(finished):
    output, _ = finished
    defense = Shredder(cut="pool1", steps=2, members=2)
    smoke = replace(config.load(SMOKE), name="shredder", attack=NO_ATTACK)
    one = replace(smoke, defense=defense)
    folder = run_one(one, output)
    row = read_row(folder)
    assert row["inverse_snr"] > row["inverse_snr_start"] > 0
    metrics = (folder / "metrics.jsonl").read_text()
    assert '"shredder"' in metrics and '"inverse_snr"' in metrics
    shutil.rmtree(folder)


@pytest.mark.parametrize("moment", ["target-", "ghost-", "rmle"])
def test_killed_runs_end_with_the_same_row(finished, tmp_path, moment):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = ghostjax("run", SMOKE, "--output", tmp_path, env=environment)
    if moment == "rmle":
        while not process.stdout.readline().startswith("rmle"):
            assert process.poll() is None
    else:  # the first checkpoint of the part is there: kill in the middle of it
        deadline = time.monotonic() + 120
        while not any(x.name.isdigit() for x in tmp_path.glob(f"parts/{moment}*/*/*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(tmp_path.glob("smoke-*/row.parquet")), "killed too late to tell"
    status, printed, errors = finish(ghostjax("run", SMOKE, "--output", tmp_path))
    assert status == 0, errors
    assert "from the cache" in printed or "continues at step" in printed
    assert row_of(tmp_path) == row_of(finished[0])


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    first = ghostjax("run", SMOKE, "--output", tmp_path, env=environment)
    assert first.stdout.readline().startswith("target")
    status, _, errors = finish(ghostjax("run", SMOKE, "--output", tmp_path))
    first.kill()
    first.communicate()
    assert status == 2
    assert "is in use by another ghostjax process" in errors
    assert len(errors.strip().splitlines()) == 1


BAD = {
    "unknown key": (["--target.epoch", "3"], "epoch"),
    "unknown layer": (["--defense.cut", "pol1"], "did you mean 'pool1'"),
    "unknown network": (["--target.network", "lenet"], "did you mean 'lenet5'"),
    "unknown data": (["--data.name", "minst"], "did you mean 'mnist'"),
    "unknown defense": (["--defense.name", "gost"], "did you mean 'ghost'"),
    "no public label": (["--data.gamma", "10:0"], "10:0"),
    "zeta 0": (["--stego.bits", "0"], "must be in [1, 7]"),
    "zeta 9": (["--stego.bits", "9"], "must be in [1, 7]"),
    "other image size": (["--target.network", "cnn6"], "(32, 32, 3)"),
    "batch too large": (["--target.batch-size", "5000"], "target.batch_size = 5000"),
    "rate 0": (["--target.learning-rate", "0"], "target.learning_rate = 0.0"),
    "b below 0": (["--defense.name", "arden", "--defense.scale", "-1"], "scale = -1.0"),
    "mu of 1": (
        ["--defense.name", "arden", "--defense.nullified", "1"],
        "nullified = 1.0",
    ),
    "noise behind the cut": (
        ["--defense.name", "arden", "--defense.noise-layer", "fc1"],
        "'fc1', which is not on the edge",
    ),
    "no bank": (
        ["--defense.name", "shredder", "--defense.members", "0"],
        "members = 0",
    ),
    "silent noise": (
        ["--defense.name", "shredder", "--defense.initial-scale", "0"],
        "initial_scale = 0.0",
    ),
    "no data": (["--data.name", "mnist"], "ghostjax data prepare mnist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    case, tmp_path, capsys, monkeypatch
):
    words, said = BAD[case]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    output = tmp_path / "runs"
    try:
        status = cli.main(["run", str(SMOKE), "--output", str(output), *words])
    except SystemExit as stop:  # an unknown option: the parser's own message
        status = stop.code
        assert case == "unknown key"
    errors = capsys.readouterr()
    assert status == 2
    assert said in errors.err + errors.out
    if case != "unknown key":
        assert len(errors.err.strip().splitlines()) == 1
        assert errors.err.startswith("ghostjax: ")
    assert not output.exists()


def test_an_unwritable_output_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status = cli.main(["run", str(SMOKE), "--output", str(tmp_path / "file" / "runs")])
    assert status == 2
    assert "cannot write to" in capsys.readouterr().err


def test_a_diverging_run_stops_and_names_the_step(tmp_path, capsys):
    words = ["--target.learning-rate", "1e30", "--target.optimizer", "sgd"]
    status = cli.main(["run", str(SMOKE), "--output", str(tmp_path), *words])
    errors = capsys.readouterr().err
    assert status == 2
    assert "at step" in errors and "lower the learning rate" in errors
