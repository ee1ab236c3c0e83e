"""report.py: the page says what the row says, the panel shows what the arrays hold."""

import json
import re
from functools import cache
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from ghostjax import files
from ghostjax.evaluation.intervals import proportion
from ghostjax.evaluation.rows import Label
from ghostjax.report import charts, findings, panels, tables
from ghostjax.report.comparison_page import compare
from ghostjax.report.folder import joined, read_labels, read_row
from ghostjax.report.run_page import summary, write_report

BITS = 3
ROW = {
    "name": "digits", "hash": "0123456789abcdef", "data": "digits", "network": "cnn2",
    "cut": "pool1", "defense": "ghost", "stego": "lsb", "bits": BITS, "gamma": "2:8",
    "sensitive_labels": "3 7", "public_labels": "0 1 2 4 5 6 8 9", "seed": 0,
    "attack": "rmle", "target_parameters": 421642,
    "target_accuracy_public": 99.11, "target_accuracy_public_n": 1446,
    "target_accuracy_all": 98.93, "target_accuracy_all_n": 1797,
    "accuracy_public": 98.94, "accuracy_public_n": 1446,
    "accuracy_secret": 97.13, "accuracy_secret_n": 1234,
    "control_constant_answer": 52.31, "control_constant_answer_n": 1234,
    "control_shuffled_secret": 50.08, "control_shuffled_secret_n": 1234,
    "control_cover_only": 0.16, "control_cover_only_n": 1234,
    "covers_called_sensitive": 0.41, "covers_called_sensitive_n": 1446,
    "psnr_cover_stego_mean": 40.12, "psnr_cover_stego_low": 40.01,
    "psnr_cover_stego_high": 40.23, "psnr_cover_stego_n": 98,
    "psnr_cover_stego_infinite": 2,
    "ssim_cover_stego_mean": 0.9712, "ssim_cover_stego_low": 0.9691,
    "ssim_cover_stego_high": 0.9733, "ssim_cover_stego_n": 100,
    "psnr_reconstruction_secret_mean": 8.23, "psnr_reconstruction_secret_low": 8.01,
    "psnr_reconstruction_secret_high": 8.45, "psnr_reconstruction_secret_n": 100,
    "psnr_reconstruction_secret_infinite": 0,
    "ssim_reconstruction_secret_mean": 0.2014,
    "psnr_extracted_secret_mean": 11.24, "ssim_extracted_secret_mean": 0.3149,
    "psnr_reconstruction_cover_mean": 31.92, "ssim_reconstruction_cover_mean": 0.9418,
    "seconds_target": 9.32, "seconds_defense": 21.7, "seconds_attack": 3.91,
    "seconds_total": 39.44,
}  # fmt: skip


@cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures, uint8 [200, 28, 28, 1], and labels."""
    coarse = np.random.default_rng(2).integers(0, 256, (200, 4, 4), np.uint8)
    large = [np.array(Image.fromarray(image).resize((28, 28), 2)) for image in coarse]
    return np.stack(large)[..., None], np.arange(200) % 10


def arrays_of(channels: int = 1, count: int = 10) -> dict[str, np.ndarray]:
    """A run's arrays: LSB in NumPy, a noisy reconstruction of stego."""
    images, labels = pictures()
    images = images.repeat(channels, axis=-1)
    if channels == 3:
        images = (images * np.array([1.0, 0.7, 0.4])).astype(np.uint8)
    sensitive = np.flatnonzero(np.isin(labels, (3, 7)))[:count]
    public = np.flatnonzero(~np.isin(labels, (3, 7)))[:count]
    cover, secret = images[public], images[sensitive]
    stego = (cover >> BITS << BITS) | (secret >> (8 - BITS))
    noise = np.random.default_rng(0).normal(0, 1.5, stego.shape)
    rebuilt = np.clip(np.round(stego + noise), 0, 255).astype(np.uint8)
    answer = labels[sensitive].copy()
    answer[1] = 4
    return {
        "cover": cover, "secret": secret, "stego": stego, "reconstruction": rebuilt,
        "revealed": panels.low_bits(stego, BITS),
        "extracted": panels.low_bits(rebuilt, BITS),
        "cover_label": labels[public], "secret_label": labels[sensitive],
        "answer": answer, "bits": np.int64(BITS),
    }  # fmt: skip


def make_run(
    folder: Path, arrays=None, drop=(), labels=None, curves=("attack",), **changes
) -> Path:
    """A finished run folder, as an experiment leaves it; `curves` names the trainings
    that it has curves of."""
    folder.mkdir(parents=True)
    row = {key: value for key, value in ROW.items() if key not in drop} | changes
    table = joined([row], labels or {})
    environment = {"jax": "0.10.2", "device": "cpu (2 cores)", "git": {"dirty": True}}
    lines = [x for x in metrics() if x["part"] in curves]
    arrays = arrays_of() if arrays is None else arrays
    contents = {
        "config.toml": b'name = "digits"\nseed = 0\n',
        "environment.json": files.json_bytes(environment),
        "metrics.jsonl": files.jsonl_bytes(lines),
        "arrays.npz": files.npz_bytes(arrays),
        "row.csv": files.csv_bytes(table),
        "row.parquet": files.parquet_bytes(table),
    }
    files.write_sealed(folder, contents)
    return folder


def old(run: Path) -> Path:
    """The run as one from before there were digests."""
    (run / files.SUMS).unlink()
    return run


@cache
def metrics() -> list[dict[str, object]]:
    rng = np.random.default_rng(1)
    records = [
        {"part": part, "step": step, "loss": 2.3 * np.exp(-step / 80) + floor * noise,
         "accuracy": 1 - 0.9 * np.exp(-step / 60) * noise}
        for part, steps, floor in (("target", 400, 0.02), ("defense", 600, 0.1))
        for step, noise in enumerate(rng.uniform(0.5, 1, steps))
    ]  # fmt: skip
    return records + [
        {"part": "attack", "step": step, "loss": 40 / (1 + step)} for step in range(100)
    ]


def make_words(folder: Path, **changes) -> Path:
    """A finished run folder of whose page only words are read: it has no pictures."""
    return make_run(folder, {}, curves=(), **changes)


def page(folder: Path) -> str:
    return write_report(folder).read_text()


def words(text: str) -> str:
    """The page as a reader sees it."""
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def test_page_shows_the_numbers_of_the_row(tmp_path):
    parts = ("target", "defense", "attack")
    seen = words(page(make_run(tmp_path / "run", curves=parts)))
    assert (
        "The cloud answers 97.1 % of hidden images right (a constant answer would get "
        "52.3 %), public accuracy is 98.9 % (target 99.1 %); the attacker's best "
        "pictures (the secret read out of the reconstruction) have 11.2 dB / SSIM "
        "0.315 against the secret on average; whether anything is recognised in them "
        "was not measured."
    ) in seen
    assert "secret images 97.13 % [96.04, 97.93] 1,234" in seen
    assert "control: best constant answer 52.31 %" in seen
    assert "control: cover alone, no secret 0.16 %" in seen
    assert (
        "cover against stego 40.12 dB [40.01, 40.23], 2 equal (∞) "
        "0.971 [0.969, 0.973] 100"
    ) in seen
    assert "reconstruction against secret 8.23 dB [8.01, 8.45] 0.201 100" in seen
    assert "seconds attack 3.9 s" in seen
    assert "target parameters 421,642" in seen
    assert "sensitive labels 3 7" in seen
    assert 'name = "digits" seed = 0' in seen
    assert "cpu (2 cores)" in seen and "dirty: yes" in seen


def test_every_column_is_on_the_page_also_unknown_ones(tmp_path):
    added = {
        "psnr8_cover_stego_mean": 40.56,
        "generator_steps": 77123, "information_v_x_mean": 1.2345,
        "information_v_x_low": 1.1, "information_v_x_high": 1.3,
        "psnr_denoised_secret_mean": 13.57, "accuracy_denoised": 12.34,
        "shredder_note": "in vivo",
    }  # fmt: skip
    seen = words(page(make_words(tmp_path / "run", **added)))
    for text in (
        "77123",
        "1.2345 [1.1, 1.3]",
        "13.57 dB",
        "40.56 dB",
        "12.34 %",
        "in vivo",
    ):
        assert text in seen
    for table in tables.tables(ROW | added):
        names = [line[0] for line in table.lines]
        assert len(set(names)) == len(names), f"{table.title} shows a column twice"


def test_what_a_defense_says_of_itself_is_shown_with_its_label_and_unit(tmp_path):
    labels = {
        "price": Label("what it costs, of one value", "nats", budget=True),
        "loudness": Label("loudness of the noise"),
    }
    run = make_words(tmp_path / "run", labels=labels, price=4.25, loudness=7.5)
    assert read_labels(run) == labels
    assert read_row(run)["price"] == 4.25
    seen = words(page(run))
    assert "What the defense says of itself" in seen
    assert "what it costs, of one value 4.25 nats" in seen
    assert "loudness of the noise 7.5" in seen
    row = read_row(run)
    shown = [line for table in tables.tables(row, labels) for line in table.lines]
    assert sum("4.25" in line[1] for line in shown) == 1, "in one table only"


def test_wilson_interval_solves_its_equation():
    """Wilson's ends p solve |share - p| = z sqrt(p (1 - p) / n), z of 95 %."""
    found = proportion(97, 120)
    assert found[0] == pytest.approx(97 / 1.2)
    for end in (found.low / 100, found.high / 100):
        errors = abs(97 / 120 - end) / np.sqrt(end * (1 - end) / 120)
        assert errors == pytest.approx(1.959963984540, abs=1e-9)
    assert found.low < found[0] < found.high
    draws = proportion(97.25, 120)  # a mean over draws
    assert found.low < draws.low < found.high


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"accuracy_secret": 52.9}, "beyond a constant answer: 52.90 % against 52.31"),
        ({"accuracy_secret": 56.4}, None),
        ({"accuracy_secret": 56.4, "accuracy_secret_n": 50}, "a constant answer"),
        ({"control_shuffled_secret": 96.9}, "hardly depends on the secret"),
        ({"control_cover_only": 97.0}, "without any secret"),
        ({"accuracy_public": 98.2}, None),
        ({"accuracy_public": 98.0}, "fell by 1.11 points"),
        ({"covers_called_sensitive": 1.0}, None),
        ({"covers_called_sensitive": 1.7}, "1.70 % of clean covers"),
        ({"covers_called_sensitive": 1.7, "defense": "noise", "stego": ""}, None),
        ({"ssim_extracted_secret_mean": 0.81}, "The attacker sees the secret"),
        ({"ssim_extracted_before_secret_mean": 0.81}, "before it was denoised"),
        ({"defense_caution": ""}, None),
        ({"defense_caution": "It saw the secret."}, "It saw the secret."),
        ({"control_constant_answer": 100.0, "control_shuffled_secret": 100.0,
          "accuracy_secret": 100.0}, "All secrets have one label"),
    ],
)  # fmt: skip
def test_cautions_appear_exactly_when_the_numbers_say_so(tmp_path, changes, expected):
    said = findings.cautions(ROW | changes)
    if expected is None:
        assert said == []
        return
    assert expected in " ".join(said)
    if "accuracy_secret_n" not in changes and changes.get("accuracy_secret") != 52.9:
        assert len(said) == 1


def test_cautions_reach_the_page_and_the_summary(tmp_path):
    assert "⚠" not in page(make_words(tmp_path / "good"))
    bad = make_words(tmp_path / "bad", accuracy_secret=52.9)
    assert page(bad).count("⚠") == 2  # the constant answer, and the shuffled secrets
    assert "caution" in dict(summary(read_row(bad)))


def test_summary_has_the_accuracies_with_controls_and_the_attack():
    lines = dict(summary(ROW))
    assert lines["secret accuracy"] == (
        "97.13 % of 1,234 "
        "(constant answer 52.31 %, shuffled 50.08 %, cover only 0.16 %)"
    )
    assert lines["public accuracy"] == "98.94 % of 1,446 (target 99.11 %)"
    assert lines["attack vs secret"] == "PSNR 8.23 dB, SSIM 0.201 (100 images)"
    assert lines["stego vs cover"].endswith("(100 images, 2 equal)")
    assert lines["time"] == "39.4 s"
    assert summary({}) == []
    equal = {"psnr_cover_stego_mean": float("nan"), "psnr_cover_stego_infinite": 7}
    assert summary(equal) == [("stego vs cover", "PSNR ∞ (7 images, 7 equal)")]


def test_page_is_self_contained_and_escaped(tmp_path):
    nasty = "<script>alert('1')</script>&\"x"
    run = make_run(tmp_path / "run", name=nasty, note=nasty)
    (run / "config.toml").write_text(f"# {nasty}\n")
    (run / "environment.json").write_text(json.dumps({nasty: nasty}))
    text = page(run)
    assert "<script" not in text and "alert(&#x27;1&#x27;)" in text
    sources = re.findall(r"\bsrc=\"?([^\s>]{0,30})", text)
    text = re.sub(r"data:image/png;base64,[\w+/=]*", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|\shref=", text)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def cell(image: Image.Image, row: int, column: int, size: int = 28) -> np.ndarray:
    """The image in a row and column of a panel, reduced to its own pixels."""
    scale = panels.enlargement(size, size)
    left, top = panels.cell_corner(row, column, size, size)
    box = (left, top, left + size * scale, top + size * scale)
    pixels = np.asarray(image.crop(box)).reshape(size, scale, size, scale, 3)
    assert (pixels == pixels[:, :1, :, :1]).all(), "a pixel is not a crisp square"
    return pixels[:, 0, :, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_panel_holds_the_images_pixel_by_pixel(tmp_path, channels):
    arrays = arrays_of(channels)
    arrays["stego"][2] = arrays["cover"][2]
    arrays["secret"][3] = 17  # constant: must stay dark grey
    run = make_run(tmp_path / "run", arrays, curves=())
    write_report(run)
    image = Image.open(run / "pictures" / "panel.png")
    names = [
        "cover",
        "secret",
        "stego",
        None,
        "reconstruction",
        "extracted",
        "revealed",
    ]
    for row in (0, 2, 7):
        for column, name in enumerate(names):
            if name:
                shown = cell(image, row, column)
                assert (shown == arrays[name][row]).all(), (row, name)
    assert (cell(image, 3, 1) == 17).all()
    assert (cell(image, 2, 3) == 0).all()
    gap = np.abs(arrays["stego"][0].astype(int) - arrays["cover"][0])
    assert (cell(image, 0, 3) == 36 * gap).all()
    assert gap.max() * 36 > 200
    right, bottom = panels.cell_corner(8, 7, 28, 28)
    assert image.width < right + 20 and image.height < bottom + 20, "8 rows, 7 columns"
    strip = np.asarray(Image.open(run / "pictures" / "stego.png"))
    assert (strip[:, 28:56] == arrays["stego"][1]).all()


def test_columns_name_labels_answers_and_bits():
    shown = {column.name: column for column in panels.columns(arrays_of(), BITS)}
    assert [column.title for column in shown.values()] == [
        "cover", "secret", "stego, ζ = 3", "difference × 36", "reconstruction",
        "its low 3 bits", "revealed",
    ]  # fmt: skip
    labels = arrays_of()["cover_label"]
    assert shown["cover"].captions[0].text == f"cover: {labels[0]}"
    assert shown["stego"].captions[0].text.endswith("✓")
    assert shown["stego"].captions[1].text == "answer: 4 ✗"
    derived = {k: v for k, v in arrays_of().items() if k != "extracted"}
    low = next(c for c in panels.columns(derived, BITS) if c.name == "low_bits")
    assert (low.images == arrays_of()["extracted"]).all()


def test_a_perturbed_stego_and_a_denoised_picture_are_columns_of_their_own():
    arrays = arrays_of()
    arrays["perturbed"] = arrays["cover"] ^ 1  # one grey level everywhere: 48.13 dB
    arrays["denoised"] = np.int32(1)
    shown = {column.name: column for column in panels.columns(arrays, BITS)}
    assert list(shown).index("perturbed") < list(shown).index("reconstruction")
    assert (shown["perturbed"].images == arrays["perturbed"]).all()
    assert {caption.text for caption in shown["perturbed"].captions} == {"48.1 dB"}
    assert shown["reconstruction"].subtitle == "by the attacker, denoised"


def test_gain_without_bits_makes_a_learned_difference_visible():
    cover = np.zeros((2, 8, 8, 3), np.uint8)
    assert panels.difference_gain(cover, cover + np.uint8(10), None) == 25
    assert panels.difference_gain(cover, cover, None) == 255
    assert panels.difference_gain(cover, cover, 3) == 36


def test_plain_defense_has_no_cover_and_no_stego(tmp_path):
    arrays = {k: arrays_of()[k] for k in ("secret", "secret_label", "answer")}
    arrays["reconstruction"] = arrays["secret"]
    gone = [k for k in ROW if "cover" in k or "extracted" in k]
    run = make_run(tmp_path / "run", arrays, gone, defense="plain", stego="",
                   psnr_reconstruction_secret_infinite=100,
                   psnr_reconstruction_secret_n=0,
                   psnr_reconstruction_secret_mean=float("nan"),
                   ssim_reconstruction_secret_mean=1.0)  # fmt: skip
    seen = words(page(run))
    assert "97.1 % of sensitive, unhidden images" in seen
    assert "∞ (all equal)" in seen and "nan" not in seen.lower()
    assert "lsb ζ" not in seen and "Invisibility" not in seen
    names = {path.stem for path in (run / "pictures").iterdir()}
    assert names == {"panel", "training", "secret", "reconstruction"}


def test_a_bare_row_makes_a_page(tmp_path):
    run = make_run(tmp_path / "run", {}, drop=ROW, name="bare", accuracy_secret=None)
    for name in ("arrays.npz", "metrics.jsonl", "config.toml", "environment.json"):
        (run / name).unlink()
    assert "neither accuracies nor an attack" in words(page(run))


def test_torn_and_repeated_metrics_lines_of_a_resumed_run(tmp_path):
    run = old(make_run(tmp_path / "run", {}))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"part": "target", "st\n{"part":"target","step":3,"loss":NaN}\n')
        file.write('{"part": "target", "step": 3, "loss": 1.0}\n')
    assert "metrics.jsonl, skipped: 1." in words(page(run))


def test_compare_makes_tables_a_page_and_the_gamma_chart(tmp_path):
    runs = [
        make_run(tmp_path / f"run{i}", gamma=gamma, seed=seed, accuracy_secret=value)
        for i, (gamma, seed, value) in enumerate(
            [("1:9", 0, 99.0), ("1:9", 1, 98.0), ("4:6", 0, 91.0), ("4:6", 1, 90.25)]
        )
    ]
    path = compare(runs, tmp_path / "out")
    text = path.read_text()
    seen = words(text)
    assert text.count("data:image/png;base64,") == 5
    assert "run3 4:6 1 90.25 % 1,234 52.31 %" in seen
    assert "the same in all: data digits, network cnn2, cut pool1" in seen
    table = pa.parquet.read_table(tmp_path / "out" / "comparison.parquet")
    assert table["accuracy_secret"].to_pylist() == [99.0, 98.0, 91.0, 90.25]
    assert pa.csv.read_csv(tmp_path / "out" / "comparison.csv").num_rows == 4
    assert (tmp_path / "out" / "pictures" / "gamma.png").is_file()
    assert not (runs[0] / "pictures").exists(), "comparing writes into no run"
    assert "differ in nothing" not in seen
    averaged, single = seen.split("Results over seeds")[1].split(" Results ")[:2]
    half = 12.7062 * 0.375  # of 91 and 90.25
    assert f"4:6 2 90.62 ± {half:.2f} % 1,234 52.31 ± 0.00 %" in averaged
    assert "n = 2 runs that differ only in the seed" in averaged
    assert "run0 1:9 0 99.00 %" in single


def test_runs_of_one_seed_look_as_they_did(tmp_path):
    runs = [make_words(tmp_path / f"{cut}", cut=cut) for cut in ("conv1", "pool1")]
    seen = words(compare(runs, tmp_path / "out").read_text())
    assert "over seeds" not in seen and "±" not in seen and "seeds (n)" not in seen


def test_compare_of_rivals_draws_leakage_and_budgets(tmp_path):
    rival = {"defense": "rival", "stego": "", "price": 4.3}
    rival["labels"] = {"price": Label("price", "nats", budget=True)}
    runs = [make_words(tmp_path / "ghost"), make_words(tmp_path / "rival", **rival)]
    text = compare(runs, tmp_path / "out").read_text()
    drawn = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert {"tradeoff.png", "budgets.png"} <= drawn
    assert "no ε here is a guarantee" in text and "<th scope=col>price, nats" in text
    joined = pa.parquet.read_table(tmp_path / "out" / "comparison.parquet")
    assert joined.schema.field("price").metadata[b"unit"] == b"nats"


def test_compare_says_when_runs_look_alike(tmp_path):
    runs = [make_run(tmp_path / name, {}) for name in ("one", "two")]
    seen = words(compare(runs, tmp_path / "out").read_text())
    assert "Some runs differ in nothing shown here" in seen


def test_compare_of_unlike_runs(tmp_path):
    one = make_words(tmp_path / "one", bits=3, odd="text")
    two = make_words(tmp_path / "two", drop=["control_cover_only"], bits="none", odd=7)
    seen = words(compare([one, two], tmp_path / "out").read_text())
    assert "comparison" not in seen and "two none 97.13 %" in seen
    table = pa.parquet.read_table(tmp_path / "out" / "comparison.parquet")
    assert table["control_cover_only"].to_pylist() == [0.16, None]
    assert table["odd"].to_pylist() == ["text", "7"]
    assert not (tmp_path / "out" / "pictures" / "gamma.png").exists()


TRIVIAL = {
    "psnr_black_secret_mean": 9.7, "ssim_black_secret_mean": 0.05,
    "psnr_train_mean_secret_mean": 11.9, "ssim_train_mean_secret_mean": 0.21,
    "psnr_constant_secret_mean": 50.0, "ssim_constant_secret_mean": 0.9,
}  # fmt: skip


def test_the_baselines_have_a_table_of_their_own():
    from ghostjax.evaluation import baselines

    assert set(tables.BASELINES) == set(baselines.BASELINES)
    row = ROW | TRIVIAL | {"ssim7_reconstruction_secret_mean": 0.4321}
    by_title = {table.title: table for table in tables.tables(row)}
    trivial = by_title["Without looking at any feature"]
    assert [line[:3] for line in trivial.lines] == [
        ("all black", "9.70 dB", "0.050"),
        ("mean training image", "11.90 dB", "0.210"),
        ("the secret's own mean colour (an oracle)", "50.00 dB", "0.900"),
    ]
    attacked = by_title["What the attacker got"]
    assert "SSIM as He et al. (uniform 7x7, own range)" in attacked.head
    assert not any("black" in line[0] for line in attacked.lines)
    (line,) = [x for x in attacked.lines if x[0] == "reconstruction against secret"]
    assert "0.432" in line


SEEN = {"recognised_chance": 50.0, "candidates": 200, "recognised": 51.0} | {
    key: value
    for name, share in (
        ("recognised_reconstruction_judge", 12.0),
        ("recognised_reconstruction_judge_known", 51.0),
        ("recognised_reconstruction_target", 0.0),
        ("reidentified_reconstruction_judge", 0.5),
        ("reidentified_reconstruction_ssim", 0.6),
    )
    for key, value in ((name, share), (f"{name}_n", 1000))
}
"""What nobody sees in 1,000 pictures."""


def attacked(psnr, ssim, **changes):
    """A row whose pictures nobody recognises, but for the changes."""
    row = TRIVIAL | SEEN | changes
    for score, mean in (("psnr", psnr), ("ssim", ssim)):
        name = f"{score}_reconstruction_secret"
        row |= {f"{name}_mean": mean, f"{name}_low": mean - 0.01, f"{name}_n": 1000}
    return row


@pytest.mark.parametrize(
    ("psnr", "ssim", "nothing"),
    [(11.5, 0.2, True), (11.5, 0.5, False), (12.5, 0.2, False), (11.9, 0.21, True)],
)
def test_an_attack_below_every_baseline_has_recovered_nothing(psnr, ssim, nothing):
    said = findings.verdict(attacked(psnr, ssim))  # the oracle does not count
    assert ("has recovered nothing" in said) == nothing
    assert f"PSNR is {psnr:.1f} dB (without features 11.9 dB)" in said
    assert ("has recovered something" in said) == (not nothing)
    unseen = {key: value for key, value in TRIVIAL.items()}
    assert "recovered" not in findings.verdict(unseen | {"accuracy_secret": 9.0})


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"recognised_reconstruction_judge_known": 74.0},
            "recovered something: 74.0 %",
        ),
        ({"recognised_reconstruction_target": 74.0}, "recognised by the target"),
        ({"reidentified_reconstruction_ssim": 78.1}, "by SSIM among 200"),
        ({"reidentified_reconstruction_ssim_clear": 1}, "1 picture is clearly"),
        ({"recognised_chance": 100.0}, "with one sensitive label"),
        ({"class_mean": 0.0, "psnr_class_mean_secret_mean": 30.0}, "features 11.9 dB"),
    ],
)
def test_the_verdict_says_what_was_seen(changes, words):
    said = findings.verdict(attacked(11.5, 0.2, **changes))
    assert words in said
    seen = "recovered something" in said
    assert seen == any(word.startswith(("recognised_r", "reid")) for word in changes)


def test_without_a_judge_the_verdict_is_open_and_a_caution_says_why():
    row = {k: v for k, v in attacked(11.5, 0.2).items() if "_judge" not in k}
    row["judge_caution"] = "there are 3 training images of class 'a'"
    assert "Without an independent judge it stays open" in findings.verdict(row)
    (caution,) = [line for line in findings.cautions(row) if "judge" in line]
    assert "3 training images" in caution


def test_who_has_seen_what_has_a_table_of_its_own():
    by_title = {table.title: table for table in tables.tables(ROW | SEEN)}
    lines = by_title["Who has seen what in it"].lines
    assert len(lines) == 5
    assert lines[0][0] == "reconstructions are recognised by the judge"
    told = (
        "reconstructions are recognised by the judge, told which labels are sensitive"
    )
    (known,) = [line for line in lines if line[0] == told]
    assert known[1:] == ("51.00 %", "[47.90, 54.09]", "50.00 %", "1,000")
    assert "Other" not in by_title
    said = dict(findings.summary(ROW | SEEN))
    assert said["attacker reads"].startswith("51.0 % of 1,000 reconstructions")
    assert "among 200" in said["attacker finds"]


def curve_rows(**axes):
    """Rows over the product of axes, with results that tell each apart."""
    from itertools import product

    return [
        dict(zip(axes, values, strict=True))
        | TRIVIAL
        | {"accuracy_all": 90.0 - place, "psnr_reconstruction_secret_mean": 8.0 + place}
        for place, values in enumerate(product(*axes.values()))
    ]


def test_over_gamma_the_best_attack_reads_and_classifies():
    base = {"accuracy_secret": 90.0, "accuracy_public": 98.0, "seed": 0}
    rows = [
        {**base, "gamma": gamma, "attack": attack, "recognised": percent}
        for gamma, attack, percent in (
            ("2:8", "rmle", 60.0), ("2:8", "direct", 90.0),
            ("4:6", "rmle", 70.0), ("4:6", "direct", 30.0),
        )
    ]  # fmt: skip
    (ax,) = charts.gamma_chart(rows, []).axes
    by_name = {line.get_label(): line for line in ax.lines}
    assert list(by_name["read and classified"].get_ydata()) == [90.0, 70.0]
    assert list(by_name["secret images"].get_ydata()) == [90.0, 90.0]
    (ax,) = charts.gamma_chart([{**base, "gamma": "2:8"}], []).axes
    assert "read and classified" not in {line.get_label() for line in ax.lines}


def test_one_number_that_varies_becomes_the_axis_and_words_become_lines():
    rows = curve_rows(cut=["conv1", "fc1"], **{"defense.level": [1.0, 0.0]})
    (chart,) = charts.charts(rows, ["cut", "defense.level"])
    assert chart.name == "defense_level"
    accuracy, psnr = chart.figure.axes
    shallow, deep = accuracy.lines[:2]
    assert (shallow.get_label(), deep.get_label()) == ("cut conv1", "cut fc1")
    assert list(shallow.get_xdata()) == [0.0, 1.0]
    assert list(shallow.get_ydata()) == [89.0, 90.0]
    heights = [line.get_ydata()[0] for line in psnr.lines if len(line.get_xdata()) == 2]
    assert 9.7 in heights and 11.9 in heights and 50.0 not in heights


def test_a_number_that_follows_from_a_word_is_no_axis():
    rows = curve_rows(cut=["conv1", "ReLU2"], **{"attack.preset": ["authors", "adam"]})
    for row in rows:
        row["attack.tv_weight"] = 10.0 if row["cut"] == "ReLU2" else 0.0
        row["attack.epsilon"] = 1e-3 if row["attack.preset"] == "authors" else 1e-8
        row["edge_layers"] = 2 if row["cut"] == "conv1" else 6
    varying = ["cut", "attack.preset", "attack.epsilon", "attack.tv_weight"]
    (chart,) = charts.charts(rows[::-1], varying)  # the rows need no order
    assert chart.name == "cut"
    ax = chart.figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["conv1", "ReLU2"]
    assert {x.get_label() for x in ax.lines[:2]} == {"preset authors", "preset adam"}


def test_two_numbers_that_vary_make_no_chart():
    rows = curve_rows(**{"defense.level": [0.0, 1.0], "attack.steps": [10, 20]})
    assert charts.charts(rows, ["defense.level", "attack.steps"]) == []


def test_a_point_is_the_mean_over_seeds_with_its_interval():
    rows = curve_rows(seed=[0, 1], **{"defense.rate": [0.1, 0.5]})
    (chart,) = charts.charts(rows, ["defense.rate"])
    ax = chart.figure.axes[0]
    assert list(ax.lines[0].get_ydata()) == [89.0, 88.0]
    half = 12.7062 * 1  # t of one degree, times the standard error of 90 and 88
    ends = [(0.1, 89 - half, 89 + half), (0.5, 88 - half, 88 + half)]
    assert np.allclose(bars(ax), ends, rtol=1e-5)
    assert ax.get_ylim()[1] <= 103, "no accuracy is there"
    assert "means over up to 2 runs that differ only in the seed" in chart.caption
    (alone,) = charts.charts(rows[:2], ["defense.rate"])
    assert bars(alone.figure.axes[0]) == [] and "seed" not in alone.caption


def bars(ax):
    ends = [segment for lines in ax.collections for segment in lines.get_segments()]
    return [(float(a[0]), float(a[1]), float(b[1])) for a, b in ends]


def test_a_mean_over_more_than_seeds_has_no_interval():
    rows = curve_rows(gamma=["1:9", "4:6"], **{"defense.rate": [0.1, 0.5]})
    for place, row in enumerate(rows):
        row["seed"] = place  # each has its own, and a ratio of its own too
    (_, chart) = charts.charts(rows, ["gamma", "defense.rate"])
    assert bars(chart.figure.axes[0]) == []


def test_the_gamma_chart_counts_a_seed_once_whatever_attacks_it():
    rows = [
        {"gamma": "2:8", "seed": seed, "sensitive_labels": str(seed), "attack": attack,
         "accuracy_secret": 90.0 + seed}
        for seed in range(3)
        for attack in ("rmle", "inverse")
    ]  # fmt: skip
    (chart,) = [
        c for c in charts.charts(rows, ["gamma", "attack"]) if c.name == "gamma"
    ]
    ((x, low, high),) = [
        bar
        for lines in chart.figure.axes[0].collections
        if hasattr(lines, "get_segments")
        for bar in [(0, *(float(end[1]) for end in lines.get_segments()[0]))]
    ]
    assert (x, low + high) == (0, 182.0)
    assert high - low == pytest.approx(2 * 4.302653 / 3**0.5, rel=1e-6)


@pytest.mark.parametrize(("first", "last"), [(99.5, 98.9), (0.1, 0.4), (50.0, 51.0)])
def test_one_point_of_accuracy_is_no_cliff(first, last):
    rows = curve_rows(**{"defense.level": [0.0, 1.0]})
    rows[0] |= {"accuracy_all": first, "ssim_reconstruction_secret_mean": 0.20}
    rows[1] |= {"accuracy_all": last, "ssim_reconstruction_secret_mean": 0.21}
    rows = [{k: v for k, v in r.items() if k not in TRIVIAL} for r in rows]
    (chart,) = charts.charts(rows, ["defense.level"])
    for ax, least in zip(chart.figure.axes, (10, 2, 0.1), strict=True):
        low, high = ax.get_ylim()
        assert high - low >= least * 0.999
        inside = [y for line in ax.lines for y in line.get_ydata()]
        assert all(low <= y <= high for y in inside)


def test_a_training_that_hardly_learns_looks_so():
    records = [
        {"part": "target", "step": step, "loss": 1.0, "accuracy": 0.50 + step / 1000}
        for step in range(10)
    ]
    _, lower = panels.training(records).axes
    low, high = lower.get_ylim()
    assert high - low >= 10


def test_compare_draws_the_curves(tmp_path):
    runs = [
        make_words(
            tmp_path / f"{level}", **{"defense.level": level, "accuracy_all": 90.0}
        )
        for level in (0.0, 0.5, 1.0)
    ]
    text = compare(runs, tmp_path / "out").read_text()
    assert "over defense.level" in text
    picture = tmp_path / "out" / "pictures" / "defense_level.png"
    assert picture.stat().st_size > 5_000


def test_errors_name_the_file_and_the_way_out(tmp_path):
    run = old(make_run(tmp_path / "run"))
    (run / "row.parquet").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"row\.parquet cannot be read"):
        read_row(run)
    (run / "row.parquet").unlink()
    with pytest.raises(ValueError, match="not finished.*ghostjax run .*config.toml"):
        write_report(run)
    with pytest.raises(ValueError, match="not a run folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([], tmp_path / "out")
