"""What numbers depend on besides the code: refused, or said."""

import io
from contextlib import contextmanager

import jax
import plans
import pytest
from plans import GHOST, member, sweep
from rich.console import Console

from ghostjax import cli, runtime
from ghostjax.experiments import environment, parts
from ghostjax.report import findings
from ghostjax.report.folder import read_row
from ghostjax.training import parallel

SWITCHES = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 1,
    "jax_disable_jit": True,
}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with plans.registered():
        yield


@contextmanager
def switched(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_that_change_every_number_are_refused_by_name(name, tmp_path, capsys):
    with switched(name, SWITCHES[name]):
        with pytest.raises(ValueError, match=f"{name.upper()} = "):
            runtime.configure()
        status = cli.main(["run", "digits", "--output", str(tmp_path / "runs")])
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2 and name.upper() in line and repr(name) in line
    assert not (tmp_path / "runs").exists()


def test_products_are_as_exact_whatever_the_environment_says():
    with switched("jax_default_matmul_precision", "bfloat16"):
        runtime.configure(cached=False)
        assert jax.config.jax_default_matmul_precision == "highest"
        assert environment.describe()["precision"] == "highest"


def test_processors_and_devices_are_told(monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(parallel, "processors", lambda: 3)
    for count, words in (
        (1, "cpu (3 of 8 cores)"),
        (4, "cpu (3 of 8 cores, 4 devices)"),
    ):
        monkeypatch.setattr(jax, "device_count", lambda count=count: count)
        assert environment.describe()["device"] == words


class Killed(Exception):
    pass


@contextmanager
def killing(console, title, steps):
    def show(step, metrics):
        if title == "ghost":
            raise Killed

    yield show


@pytest.mark.parametrize("other", [False, True])
def test_a_part_that_is_continued_elsewhere_is_marked(other, tmp_path, monkeypatch):
    one = member(GHOST)
    with monkeypatch.context() as patch:
        patch.setattr(parts, "progress", killing)
        if other:
            patch.setattr(parallel, "processors", lambda: 77)
        with pytest.raises(Killed):
            sweep([one], tmp_path, devices=1)
    row = read_row(sweep([one], tmp_path, devices=1).folders[0])
    assert row["mixed_environment"] == ("defense" if other else "")
    assert any("(defense)" in line for line in findings.cautions(row)) == other


@pytest.mark.parametrize("text", ["", "[", "3", "\ud800", "{}"])
def test_a_damaged_note_is_made_again(text, tmp_path):
    (tmp_path / "environments.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert environment.noted(tmp_path) == []
    environment.note(tmp_path)
    environment.note(tmp_path)
    (noted,) = environment.noted(tmp_path)
    assert noted["jaxlib"] == environment.version("jaxlib")


def test_a_damaged_part_is_set_aside_and_made_anew(tmp_path):
    one = member(GHOST)
    (first,) = plans.rows(sweep([one], tmp_path, devices=1).folders)
    (run,) = tmp_path.glob("toy-*")
    (run / "row.parquet").unlink()
    steps = sorted(tmp_path.glob("parts/ghost-*/ghost/[0-9]*"), key=lambda x: x.name)
    assert [x.name for x in steps] == ["10", "20"]
    for step in steps:
        (step / "digest").write_text("0" * 64)
    console = Console(record=True, width=400, file=io.StringIO())
    (again,) = plans.rows(sweep([one], tmp_path, console, devices=1).folders)
    assert again == first
    said = [x for x in console.export_text().splitlines() if "is not what was" in x]
    assert len(said) == 2 and said[0].endswith("it is 20.damaged now, and made anew")
    assert (steps[1].with_name("20.damaged") / "digest").exists()
