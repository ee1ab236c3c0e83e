"""benchmarks/accelerator.py runs nearly bare, and a break loses nothing."""

import importlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ghostjax import runtime
from ghostjax.models import chain, zoo

ROOT = Path(__file__).parent.parent
SECTIONS = "limits agreement members attack training programs torch".split()
BLOCKED = (
    *("tyro", "tensorflow_datasets", "pyarrow", "dm_pix", "matplotlib", "tomli_w"),
    *("array_record", "shtab", "sklearn", "PIL", "torch"),
)
BLOCKER = f"""
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{{name}} is blocked")


sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def accelerator(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("accelerator")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(what was printed, the JSON) of `--small` where nothing optional can be had.

    Processes that it starts are blocked too.
    """
    folder = tmp_path_factory.mktemp("accelerator")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    output = folder / "small.json"
    script = ROOT / "benchmarks" / "accelerator.py"
    done = subprocess.run(
        [sys.executable, script, "--small", "--seconds", "800", "--output", output],
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # nearly all of its time is XLA's
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout, json.loads(output.read_text())


@pytest.mark.science
def test_every_section_has_rows_with_a_unit_and_a_share_that_can_be(small_run):
    printed, whole = small_run
    assert set(whole) == {"environment", "size", "budget_seconds", "limits", "sections"}
    assert list(whole["sections"]) == SECTIONS
    for name, section in whole["sections"].items():
        assert section["rows"] and not section["failed"], name
        for row in section["rows"]:
            assert set(row) == {
                *("case", "figure", "value", "unit", "n", "low", "high"),
                *("limit", "share", "note"),
            }
            assert row["case"] in printed
            assert row["share"] is None or row["share"] <= 1 or row["note"], row
    units = {row["unit"] for s in whole["sections"].values() for row in s["rows"]}
    assert units >= {
        *("FLOP/s", "bytes/s", "seconds", "s", "of the largest", "dB"),
        *("images/s", "image-steps/s", "MiB", "KiB", "targets", "programs"),
    }
    assert {"copy", "float32 highest", "bfloat16"} == set(whole["limits"])


@pytest.mark.science
def test_throughput_is_told_as_a_share_of_a_limit(small_run):
    rows = [r for s in small_run[1]["sections"].values() for r in s["rows"]]
    rates = [r for r in rows if r["unit"] in ("images/s", "image-steps/s")]
    assert len(rates) >= 3
    for row in rates:
        assert row["share"] > 0 and row["n"] >= 3
        assert row["low"] <= row["value"] <= row["high"]


@pytest.mark.science
def test_both_forms_of_a_program_agree(small_run):
    rows = small_run[1]["sections"]["agreement"]["rows"]
    assert rows and all(row["note"].startswith("agrees") for row in rows), rows


@pytest.mark.science
def test_a_filled_cache_compiles_nothing(small_run):
    rows = small_run[1]["sections"]["programs"]["rows"]
    compiled = [r["value"] for r in rows if r["figure"] == "programs compiled"]
    assert compiled[0] > 10 and compiled[1] == 0


def test_what_a_break_leaves_is_on_disk(accelerator, tmp_path, monkeypatch, capsys):
    from instrument.report import Report, Row
    from instrument.section import Case, Section

    def row(name):
        return Row(case=name, figure="figure", value=1.0, unit="unit")

    def broken():
        yield row("before the fault")
        raise ZeroDivisionError("a fault")

    def full():
        yield from ()
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to …")

    def stopped():
        raise KeyboardInterrupt

    def cases(*measures):
        return lambda bench: (Case(f.__name__, f) for f in measures)

    def good():
        return [row("good")]

    sections = [
        Section("first", "whole", 1, cases(good, full, good)),
        Section("second", "with a fault", 1, cases(broken, good)),
        Section("third", "stopped by hand", 1, cases(good, stopped)),
    ]
    monkeypatch.setattr(accelerator, "SECTIONS", sections)
    path = tmp_path / "folder" / "out.json"
    report = Report(path, {})
    failed = accelerator.run(report, "small", ["first", "second"], 60)
    assert failed == ["second: broken"]  # to be out of memory is a finding
    with pytest.raises(KeyboardInterrupt):
        accelerator.run(report, "small", ["third"], 60)
    sections = json.loads(path.read_text())["sections"]
    names = [r["case"] for s in sections.values() for r in s["rows"]]
    assert names == [
        *("good", "full", "good"),
        *("before the fault", "broken", "good"),
        "good",
    ]
    assert sections["first"]["rows"][1]["note"] == "out of memory"
    assert "ZeroDivisionError" in sections["second"]["rows"][1]["note"]
    assert not list(path.parent.glob("*.part"))


def test_a_section_says_what_it_had_no_time_for(accelerator, tmp_path, monkeypatch):
    from instrument.report import Report
    from instrument.section import Case, Section

    section = Section("late", "", 1, lambda bench: [Case("slow", list)])
    monkeypatch.setattr(accelerator, "SECTIONS", [section])
    report = Report(tmp_path / "out.json", {})
    accelerator.run(report, "small", ["late"], -1.0)
    assert report.sections["late"].skipped == ["slow"]


def test_two_files_are_compared(accelerator, tmp_path, capsys):
    from instrument.report import Report, Row

    about = {"environment": {"device": "one", "jax": "0", "git": ""}}
    for name, value in (("a", 2.0), ("b", 5.0)):
        report = Report(tmp_path / f"{name}.json", about)
        section = report.begin("attack", "")
        report.add(section, Row(case="c", figure="speed", value=value, unit="images/s"))
        report.add(section, Row(case=name, figure="alone", value=1, unit=""))
    capsys.readouterr()
    words = ["--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert accelerator.main(words) == 0
    printed = capsys.readouterr().out
    assert "B/A 2.50" in printed and "only in A: 1 figures" in printed


@pytest.mark.parametrize(
    "words, message",
    [
        (["--sections", "atack"], "no section 'atack': choose from limits, agreement"),
        (["--seconds", "0"], "'0' is no number of seconds above 0"),
        (["--seconds", "soon"], "'soon' is no number of seconds above 0"),
        (["--compare", "nowhere.json", "b.json"], "there is no file 'nowhere.json'"),
        (["--small", "--full"], "not allowed with argument"),
    ],
)
def test_bad_options_are_refused_in_one_line(accelerator, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        accelerator.main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_operations_are_counted_as_by_hand(accelerator):
    from instrument.flops import flops

    layers, batch, side = zoo.lenet5(), 3, (28, 28, 1)
    images = jax.ShapeDtypeStruct((batch, *side), jnp.float32)
    variables = jax.eval_shape(partial(chain.init, layers), jax.random.key(0), images)

    def forward(variables, images):
        return chain.apply(layers, variables, images)

    by_hand = batch * sum(
        row.flops
        for row in chain.describe(layers, side)
        if row.name.startswith(("conv", "fc")) and not row.name.endswith("act")
    )

    def seven(variables, images):
        def body(_, x):
            return x + forward(variables, x).mean()

        return jax.lax.fori_loop(0, 7, body, images)

    with runtime.written_for("gpu"):
        assert flops(forward, variables, images) == by_hand
        assert flops(seven, variables, images) == 7 * by_hand
    with runtime.written_for("cpu"):  # multiplies rows that valid windows lack, too
        assert by_hand < flops(forward, variables, images) < 1.5 * by_hand

    def gradient(variables, images):
        return jax.grad(lambda v: forward(v, images).sum())(variables)

    with runtime.written_for("gpu"):
        # Twice forward for the gradients of kernels and inputs, but the first input's.
        first = 2 * 25 * 24 * 24 * 8 * batch
        counted = flops(gradient, variables, images)
        # Padded convolutions of the inputs' gradients count border taps as well.
        assert 3 * by_hand - first <= counted <= 1.6 * (3 * by_hand - first)


def test_xla_counts_a_loop_once(accelerator):
    """Why `flops` does not ask XLA."""
    from instrument.flops import flops

    matrix = jnp.ones((64, 64))

    def power(matrix, times):
        return jax.lax.fori_loop(0, times, lambda i, x: x @ matrix, matrix)

    counts = [
        jax.jit(power, static_argnums=1).lower(matrix, n).cost_analysis()["flops"]
        for n in (2, 20)
    ]
    assert counts[0] == counts[1]
    assert flops(lambda m: power(m, 20), matrix) == 20 * 2 * 64**3


def test_the_networks_have_peers_that_compute_alike(accelerator):
    torch = pytest.importorskip("torch", reason="the extra `bench` is not installed")
    import peers

    for name in ("lenet5", "cnn2", "cnn4_bn", "cnn6", "cnn6_gtsrb"):
        entry = zoo.network(name)
        layers = entry.build(entry.classes)
        images = jax.random.uniform(jax.random.key(1), (2, *entry.image_shape))
        variables = chain.init(layers, jax.random.key(0), images)
        module = peers.network(layers, variables, entry.image_shape).eval()
        with torch.no_grad():
            theirs = module(peers.tensor(images)).numpy()
        ours = chain.apply(layers, variables, images)
        assert jnp.abs(ours - theirs).max() < 1e-4 * jnp.abs(ours).max(), name
