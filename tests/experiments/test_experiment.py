"""The whole story through the command line: results, resuming, refusing."""

import csv
import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import sample
from rich.console import Console

from ghostjax import cli, config, own, runtime
from ghostjax.attacks.records import Denoise, NoAttack
from ghostjax.base import Inversion, Stego
from ghostjax.defenses.arden import epsilon_published
from ghostjax.defenses.hide import hide
from ghostjax.defenses.records import Arden, GhostPlus, Hide, Shredder
from ghostjax.evaluation.records import Judge
from ghostjax.experiments import parts, run
from ghostjax.pixels import as_float
from ghostjax.report.folder import read_row
from ghostjax.report.run_page import write_report
from ghostjax.stego.records import Nns
from ghostjax.training.fit import Recipe, Training

NO_ATTACK = NoAttack()
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A config in a file."""
    file = tmp_path_factory.mktemp("config") / "sample.toml"
    file.write_text(sample.CONFIG)
    with sample.registered():
        yield file


def ghostjax(*words):
    """(exit status, standard output, standard error) of the command line."""
    with (
        redirect_stdout(io.StringIO()) as output,
        redirect_stderr(io.StringIO()) as errors,
    ):
        status = cli.main([*map(str, words)])
    return status, output.getvalue(), errors.getvalue()


def run_one(experiment, output, console=None):
    """The folder of one experiment, run in this process."""
    runtime.configure()
    (folder,) = run.run([experiment], output, console or Console(quiet=True)).folders
    return folder


def row_of(output):
    """The only run's row, without what a clock wrote."""
    (folder,) = [path for path in output.iterdir() if path.name != "parts"]
    row = read_row(folder)
    return {key: value for key, value in row.items() if not key.startswith("seconds")}


@pytest.fixture(scope="module")
def finished(path, tmp_path_factory):
    """(folder of runs, what was printed) of one undisturbed run."""
    output = tmp_path_factory.mktemp("undisturbed")
    status, printed, errors = ghostjax("run", path, "--output", output)
    assert status == 0, errors
    return output, printed


@pytest.fixture
def base(path, finished):
    """(the config, the folder of runs), for others that share its target."""
    output, _ = finished
    before = set(output.iterdir())
    yield config.load(path), output
    for folder in set(output.iterdir()) - before:
        shutil.rmtree(folder)


def test_a_run_leaves_everything(path, finished):
    output, printed = finished
    (folder,) = [path for path in output.iterdir() if path.name != "parts"]
    assert config.load(folder / "config.toml") == config.load(path)
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
    for name in ("panel", "training"):
        assert (folder / "pictures" / f"{name}.png").stat().st_size > 10_000
    assert str(folder / "report.html") in printed.replace("\n", "")
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    np.testing.assert_array_equal(
        arrays["stego"], arrays["cover"] & 0xF8 | arrays["secret"] >> 5
    )


def test_counts_add_up(finished):
    row = row_of(finished[0])
    sensitive = [int(label) for label in row["sensitive_labels"].split()]
    assert len(sensitive) == 2 and len(row["public_labels"].split()) == 8
    assert (row["accuracy_secret_n"], row["accuracy_public_n"]) == (20, 80)
    assert row["accuracy_all_n"] == 100
    assert row["psnr_reconstruction_secret_n"] == 6
    assert row["target_parameters"] == 14 * 14 * 24 + 24 + 24 * 10 + 10
    assert row["psnr_cover_stego_low"] >= 31.2


def test_the_same_command_again_trains_nothing(path, finished):
    output, _ = finished
    before = row_of(output)
    status, printed, _ = ghostjax("run", path, "--output", output)
    assert status == 0 and "already finished" in printed
    assert row_of(output) == before


def test_a_run_with_another_attack_shares_the_trained_parts(base):
    experiment, output = base
    other = replace(experiment.attack, tv_weight=0.5)
    console = Console(record=True, width=200)
    run_one(replace(experiment, name="other", attack=other), output, console)
    printed = console.export_text()
    assert "target  from the cache" in printed and "ghost  from the cache" in printed


def test_a_judge_looks_at_the_pictures_and_is_trained_once(base):
    experiment, output = base
    judge = Judge(most_steps=3, batch_size=16)
    rows, console = [], Console(record=True, width=200)
    for name, candidates in (("judged", 0), ("fewer", 12)):
        chosen = replace(judge, candidates=candidates)
        one = replace(experiment, name=name, judge=chosen)
        rows.append(read_row(run_one(one, output, console)))
    assert console.export_text().count("judge  from the cache") == 1
    shutil.rmtree(next((output / "parts").glob("judge-*")))
    first, second = rows
    assert (first["candidates"], second["candidates"]) == (20, 12)
    assert first["seconds_judge"] > 0 and first["judge_caution"] == ""
    for by in ("target", "judge"):
        for known in ("", "_known"):
            name = f"recognised_extracted_{by}{known}"
            assert first[name] == second[name] and first[f"{name}_n"] == 6
    for by in ("judge", "ssim"):
        name = f"reidentified_extracted_{by}"
        assert second[name] >= first[name]
    labels = first["recognised_chance"] * 6 / 100
    assert labels == pytest.approx(round(labels)) and labels >= 3
    judged = [
        first[f"recognised_{picture}_judge{known}"]
        for picture in ("reconstruction", "extracted")
        for known in ("", "_known")
    ]
    assert first["recognised"] == max(judged)
    page = (output / f"judged-{first['hash'][:8]}" / "row.csv").parent
    with sample.without_curves():
        assert "re-identified by SSIM among 20" in write_report(page).read_text()


def test_another_reading_changes_what_is_read_and_trains_nothing(base):
    experiment, output = base
    rows = [row_of_reading(experiment, output, x) for x in ("reveal", "prior")]
    same, other = "psnr_reconstruction_cover_mean", "psnr_extracted_secret_mean"
    assert rows[0][same] == rows[1][same] and rows[0][other] != rows[1][other]


@pytest.mark.science
def test_secrets_are_repaired_and_shown_as_they_were(base):
    experiment, output = base
    before = row_of_reading(experiment, output, "reveal")
    same, other = "psnr_reconstruction_cover_mean", "psnr_extracted_secret_mean"
    repaired = Denoise(pairs="extracted", images=20, epochs=1, batch_size=10)
    row = row_of_reading(replace(experiment, denoise=repaired), output, "reveal")
    assert row["psnr_extracted_before_secret_mean"] == before[other]
    assert row[same] == before[same] and row[other] != before[other]


def row_of_reading(experiment, output, reading):
    attacker = replace(experiment.attacker, reading=reading)
    one = replace(experiment, name="reading", attacker=attacker)
    return read_row(run_one(one, output))


def test_a_reading_that_the_method_has_not_is_one_line(path, tmp_path):
    said = "--stego.name", "nns", "--attacker.reading", "prior", "--output"
    status, _, errors = ghostjax("run", path, *said, tmp_path / "runs")
    assert status == 2 and len(errors.splitlines()) == 1
    assert "attacker.reading = 'prior'" in errors and "'nns'" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("candidates", [5, 21])
def test_candidates_that_cannot_be_are_one_line(path, candidates, tmp_path):
    said = "--judge.candidates", candidates, "--output", tmp_path / "runs"
    status, _, errors = ghostjax("run", path, *said)
    assert status == 2 and len(errors.splitlines()) == 1
    assert f"judge.candidates = {candidates}" in errors and "20 images" in errors
    assert not (tmp_path / "runs").exists()


def brighter(cut, record, context):
    """Stegos enter the edge a tenth brighter."""

    def perturb(params, stegos, secrets):
        return jnp.clip(stegos + 0.1, 0, 1)

    return hide(cut, record, context)._replace(name="brighter", perturb=perturb)


def test_what_is_perturbed_is_measured_and_shown_and_public_answers_are_left(base):
    experiment, output = base
    traits = ("hides", "perturbs")
    defense = own.defense("brighter", brighter, traits=traits, cut="pool1")
    folder = run_one(replace(experiment, name="brighter", defense=defense), output)
    row = read_row(folder)
    for name in ("public", "all"):
        assert row[f"accuracy_{name}"] == row[f"target_accuracy_{name}"]
    assert row["perturbation_linf_max"] == pytest.approx(0.1, abs=1e-6)
    assert row["psnr_cover_perturbed_mean"] < row["psnr_cover_stego_mean"]
    assert "psnr_reconstruction_perturbed_mean" in row and "uses_secret" in row
    shown = np.load(folder / "arrays.npz", allow_pickle=False)["perturbed"]
    assert shown.dtype == np.uint8 and shown.shape[1:] == (28, 28, 1)
    with sample.without_curves():
        write_report(folder)
    assert (folder / "pictures" / "perturbed.png").stat().st_size > 1_000


def woven(rate):
    """A stego method: the secret stands in every other column of the cover, and with
    what gain it is to be read must be learned."""

    def factory(image_shape, record, context):
        def hide_in(params, cover, secret):
            return cover.at[:, :, ::2].set(secret[:, :, ::2] / 2)

        def reveal(params, stego):
            return params["gain"] * stego[:, :, ::2].repeat(2, 2)

        def loss(params, model_state, key, secret, hyper, shared):
            error = reveal(params, hide_in(params, secret, secret)) - secret
            return (error**2).mean(), (model_state, {})

        def draw(key, index, shared, own):
            return as_float(shared[:32])

        def fit(key, hyper, images):
            state = yield Training(
                key=key,
                params={"gain": jnp.float32(0.0)},
                shared=images,
                hyper={"learning_rate": np.float32(rate)},
                loss=loss,
                draw=draw,
                recipe=Recipe(30),
                part="woven",
            )
            return state.params

        return Stego("woven", fit, hide_in, reveal)

    return factory


def dark(cut, record, context):
    """A denoiser: pictures lose half of their light."""
    inner = context.inner

    def fit(key, hyper, knowledge):
        return (yield from inner.fit(key, hyper["attack"], knowledge))

    def invert(params, key, features, hyper):
        before = inner.invert(params, key, features, hyper["attack"]).images
        return Inversion(images=before / 2, before_denoising=before)

    return inner._replace(name=f"dark({inner.name})", fit=fit, invert=invert)


def test_what_is_hidden_by_a_trained_method_is_read_out_before_the_denoiser_too(base):
    experiment, output = base
    stego, denoise = own.stego("woven", woven(0.1)), own.denoiser("dark", dark)
    other = replace(experiment, name="woven", stego=stego, denoise=denoise)
    row = read_row(run_one(replace(other, defense=Hide(cut="pool1")), output))
    assert row["stego"] == "woven" and row["bits"] == 0 and row["denoise"] == "dark"
    both = [f"psnr_{n}_secret_mean" for n in ("extracted", "extracted_before")]
    assert all(np.isfinite(row[name]) for name in both) and row[both[0]] != row[both[1]]
    read = row["psnr_revealed_secret_mean"] - row["psnr_mean_image_secret_mean"]
    assert read > 1
    assert isinstance(row["uses_secret"], bool)


def test_a_stego_network_that_hides_nothing_stops_the_run_before_the_defense(base):
    experiment, output = base
    stego = own.stego("unlearned", woven(0.0))
    before = set((output / "parts").glob("ghost-*"))
    with pytest.raises(ValueError, match="the stego network hides nothing"):
        run_one(replace(experiment, name="blank", stego=stego), output)
    assert set((output / "parts").glob("ghost-*")) == before
    (folder,) = output.glob("blank-*")
    assert not (folder / "row.parquet").exists()


def test_shredder_has_its_1_over_snr_in_its_row(base):
    experiment, output = base
    defense = Shredder(cut="pool1", steps=2, members=2)
    one = replace(experiment, name="shredder", defense=defense, attack=NO_ATTACK)
    folder = run_one(one, output)
    row = read_row(folder)
    assert row["inverse_snr"] > row["inverse_snr_start"] > 0
    metrics = (folder / "metrics.jsonl").read_text()
    assert '"shredder"' in metrics and '"inverse_snr"' in metrics


@pytest.mark.science
def test_arden_has_both_epsilons_in_its_row_and_one_training_for_all_ratios(tmp_path):
    defense, smoke = Arden(cut="pool1", steps=2, batch_size=8), config.load(SMOKE)
    first = replace(smoke, name="arden", defense=defense, attack=NO_ATTACK)
    second = replace(first, data=replace(first.data, gamma="3:7"))
    console = Console(record=True, width=200)
    folders = [run_one(one, tmp_path, console) for one in (first, second)]
    assert "arden  from the cache" in console.export_text()
    rows = [read_row(folder) for folder in folders]
    values = 12 * 12 * 8  # of lenet5's pool1
    for row in rows:
        bound = row["bound"]
        assert row["epsilon_published"] == epsilon_published(0.1, 5.0, bound)
        assert row["epsilon_l1_vector"] == pytest.approx(2 * bound * values / 5)
    assert rows[0]["accuracy_secret_n"] != rows[1]["accuracy_secret_n"]


@pytest.mark.science
def test_ghost_plus_runs_to_the_end_and_leaves_public_answers_alone(tmp_path):
    defense = GhostPlus(cut="pool1", steps=3, batch_size=8)
    smoke = replace(config.load(SMOKE), name="plus", defense=defense)
    row = read_row(run_one(smoke, tmp_path))
    for name in ("public", "all"):
        assert row[f"accuracy_{name}"] == row[f"target_accuracy_{name}"]
    assert 0 < row["perturbation_linf_max"] <= 1
    assert row["psnr_cover_perturbed_mean"] < row["psnr_cover_stego_mean"]
    assert "psnr_reconstruction_perturbed_mean" in row and "uses_secret" in row


@pytest.mark.science
def test_a_stego_network_is_read_out_before_the_denoiser_too(tmp_path):
    stego = Nns(network="n16", epochs=1, batch_size=4)
    stego = replace(stego, beta=3.0, learning_rate=5e-3)
    defense = GhostPlus(cut="pool1", steps=2, batch_size=8)
    repair = Denoise(pairs="generator", epochs=1)
    smoke = replace(config.load(SMOKE), name="nns", stego=stego, defense=defense)
    row = read_row(run_one(replace(smoke, denoise=repair), tmp_path))
    assert row["stego"] == "nns" and row["bits"] == 0 and row["denoise"] == "cda"
    both = [f"psnr_{n}_secret_mean" for n in ("extracted", "extracted_before")]
    assert all(np.isfinite(row[name]) for name in both) and row[both[0]] != row[both[1]]
    read = row["psnr_revealed_secret_mean"] - row["psnr_mean_image_secret_mean"]
    assert read > 4  # 10 dB measured
    assert isinstance(row["uses_secret"], bool)


def test_a_second_process_on_the_same_run_is_refused(path, finished, tmp_path):
    (folder,) = [x for x in finished[0].glob("sample-????????")]
    with parts.lock(tmp_path / folder.name, wait=False, console=Console(quiet=True)):
        status, _, errors = ghostjax("run", path, "--output", tmp_path)
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
    "rate 0": (["--target.learning-rate", "0"], "target.learning_rate = 0"),
    "b below 0": (["--defense.name", "arden", "--defense.scale", "-1"], "scale = -1"),
    "mu of 1": (
        ["--defense.name", "arden", "--defense.nullified", "1"],
        "nullified = 1",
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
        "initial_scale = 0",
    ),
    "no data": (["--data.name", "mnist"], "ghostjax data prepare mnist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    case, path, tmp_path, capsys, monkeypatch
):
    words, said = BAD[case]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    output = tmp_path / "runs"
    try:
        status = cli.main(["run", str(path), "--output", str(output), *words])
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


def test_an_unwritable_output_is_named(path, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, errors = ghostjax("run", path, "--output", tmp_path / "file" / "runs")
    assert status == 2
    assert f"cannot be made: {tmp_path / 'file'} is a file" in errors


def test_a_diverging_run_stops_and_names_the_step(path, tmp_path):
    words = ["--output", tmp_path, "--target.learning-rate", "1e30"]
    status, _, errors = ghostjax("run", path, *words)
    assert status == 2
    assert "at step" in errors and "lower target.learning_rate" in errors
