"""results.py: what a run leaves can be read back whole."""

import csv
import json
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest

from ghostjax.attacks.records import NoDenoise
from ghostjax.base import Column
from ghostjax.config.grid import differing
from ghostjax.config.sections import Config
from ghostjax.defenses.records import Arden
from ghostjax.evaluation.rows import Label
from ghostjax.experiments import results
from ghostjax.fields import Record
from ghostjax.report.folder import read_labels, read_row
from ghostjax.stego.records import Nns

OUTCOME = results.Outcome(
    row={"name": "γ", "accuracy_secret": 97.3, "uses_secret": True, "stego": None},
    metrics={
        "target": {"loss": np.arange(1000.0), "accuracy": np.ones(1000)},
        "probe": {"distance": [3.0, 2.0]},
        "nothing": {},
    },
    arrays={"secret": np.zeros((2, 4, 4, 1), np.uint8), "bits": np.int32(3)},
    columns=[
        Column("price", 4.25, "what it costs", "nats", budget=True),
        Column("loudness", float("inf"), "loudness of the noise"),
    ],
)


@pytest.fixture
def folder(tmp_path):
    results.write(tmp_path, OUTCOME, {"seed": 3}, began=0.0)
    return tmp_path


def test_row_labels_and_units_are_read_back(folder):
    row = read_row(folder)
    assert row == {**OUTCOME.row, "price": 4.25, "loudness": float("inf")}
    assert read_labels(folder) == {
        "price": Label("what it costs", "nats", budget=True),
        "loudness": Label("loudness of the noise"),
    }
    with (folder / "row.csv").open() as file:
        (text,) = csv.DictReader(file)
    assert set(text) == set(row) and float(text["accuracy_secret"]) == 97.3


def test_metrics_are_means_of_stretches(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    target = [record for record in records if record["part"] == "target"]
    assert len(target) == 200 and target[-1]["step"] == 1000
    assert target[0] == {"part": "target", "step": 5, "loss": 2.0, "accuracy": 1.0}
    assert [r["distance"] for r in records if r["part"] == "probe"] == [3.0, 2.0]
    about = json.loads((folder / "environment.json").read_text())
    assert about["seed"] == 3 and about["started"].startswith("1970-01-01T00:00")


def test_every_key_is_a_column_once():
    config = Config(defense=Arden(scale=2.0), stego=Nns(network="n16"))
    columns = results.config_columns(config)
    assert columns["defense.scale"] == 2.0 and columns["attack.cg_steps"] == 10
    assert columns["stego.network"] == "n16"
    assert columns["attacker.rows"] == ""
    rows = replace(config, attacker=replace(config.attacker, rows=(3, 5)))
    assert results.config_columns(rows)["attacker.rows"] == "3 5"
    assert not any(key.startswith("device.") for key in columns)
    named = {f"{s.name}.{f.name}" for s in fields(Config) for f in _fields(config, s)}
    elsewhere = set(results._ELSEWHERE) | {k for k in named if k.startswith("device.")}
    assert set(columns) == named - elsewhere


def _fields(config, section):
    value = getattr(config, section.name)
    return fields(value) if isinstance(value, Record) else ()


@dataclass(frozen=True, kw_only=True)
class Inside(Record):
    name: str = "inside"
    steps: int = 7


@dataclass(frozen=True, kw_only=True)
class Around(NoDenoise):
    inner: Inside = field(default_factory=Inside)


def test_records_in_records_are_columns_too():
    columns = results.config_columns(Config(denoise=Around()))
    assert columns["denoise.inner.steps"] == 7
    assert columns["denoise.inner.name"] == "inside"


def test_what_tells_rows_apart_does_not_follow_from_the_others():
    rows = [
        {"defense": "a", "seed": 0, "defense.steps": 10, "defense.level": 1.0},
        {"defense": "a", "seed": 0, "defense.steps": 10, "defense.level": 2.0},
        {"defense": "b", "seed": 0, "defense.steps": 20},
    ]
    keys, inner = ["defense", "defense.steps", "defense.level", "seed"], []
    assert differing(rows, keys, inner) == ["defense", "defense.steps", "defense.level"]
    inner = ["defense.steps", "defense.level"]
    assert differing(rows, keys, inner) == ["defense", "defense.level"]
    assert differing(rows[:1], keys, inner) == differing([], keys, inner) == []
