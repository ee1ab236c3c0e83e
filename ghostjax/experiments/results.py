"""What a finished run leaves in its folder, besides its config. Imports no jax."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ghostjax import files
from ghostjax.config.sections import Config
from ghostjax.evaluation.rows import Label, Row
from ghostjax.experiments import environment
from ghostjax.report.folder import joined

if TYPE_CHECKING:
    from ghostjax.base import Column

__all__ = ["Outcome", "config_columns", "write"]


class Outcome(NamedTuple):
    """What a run has found out."""

    row: Row  # flat columns of numbers and strings
    metrics: Mapping[str, Mapping[str, Any]]  # part -> name -> one value a step [steps]
    arrays: Mapping[str, np.ndarray]  # examples for pictures
    columns: "Sequence[Column]" = ()  # what the defense says of itself, for the row


def write(
    folder: Path, outcome: Outcome, about: Mapping[str, Any], began: float
) -> None:
    """Writes environment.json, metrics.jsonl, arrays.npz, row.csv and row.parquet, and
    their digests and that of config.toml.

    Args:
      folder: the run folder.
      outcome: what they hold. The columns that a defense says of itself join the row,
        their labels and units the metadata of row.parquet's fields.
      about: what environment.json says besides versions and device.
      began: `time.time()` when the run started.

    Raises:
      files.Unwritable: the folder cannot be written.
    """
    description = {
        **environment.describe(),
        **about,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began, 1),
    }
    records = [r for part in outcome.metrics.items() for r in _records(*part)]
    said = {column.name: column.value for column in outcome.columns}
    labels = {
        column.name: Label(column.label, column.unit, column.budget)
        for column in outcome.columns
    }
    table = joined([{**outcome.row, **said}], labels)
    contents = {
        "environment.json": files.json_bytes(description),
        "metrics.jsonl": files.jsonl_bytes(records),
        "arrays.npz": files.npz_bytes(outcome.arrays),
        "row.csv": files.csv_bytes(table),
        # The row comes last: with it the run counts as finished.
        "row.parquet": files.parquet_bytes(table),
    }
    config = folder / "config.toml"
    if config.is_file():
        contents = {config.name: config.read_bytes(), **contents}
    (folder / "report.html").unlink(missing_ok=True)  # of an older row
    files.write_sealed(folder, contents)


def config_columns(config: Config) -> dict[str, Any]:
    """Every key of the config as a column, "defense.steps", to compare runs by.

    Left out are those that stand in the row under a name of their own, and those of
    the device, which change no result.
    """
    columns: dict[str, Any] = {}
    for section in dataclasses.fields(config):
        record = getattr(config, section.name)
        if section.name not in _NO_RESULT and dataclasses.is_dataclass(record):
            columns |= dict(_leaves(record, section.name))
    return {key: v for key, v in columns.items() if key not in _ELSEWHERE}


_NO_RESULT = ("device",)
_ELSEWHERE = {
    "data.name": "data",
    "data.gamma": "gamma",
    "data.sensitive_labels": "sensitive_labels",
    "target.network": "network",
    "stego.name": "stego",
    "defense.name": "defense",
    "defense.cut": "cut",
    "attack.name": "attack",
    "denoise.name": "denoise",
}
"""Key of the config -> column of the row that holds it."""


def _leaves(record: Any, above: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a record and of the records in it."""
    for field in dataclasses.fields(record):
        key, value = f"{above}.{field.name}", getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, key)
        else:
            yield key, " ".join(map(str, value)) if isinstance(value, tuple) else value


def _records(part: str, history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """At most 200 records of a training, each the mean of its stretch of steps."""
    if not history:
        return []
    values = {name: np.asarray(value) for name, value in history.items()}
    steps = len(next(iter(values.values())))
    ends = np.unique(np.linspace(0, steps, min(steps, 200) + 1).astype(int))
    return [
        {
            "part": part,
            "step": int(end),
            **{name: float(value[start:end].mean()) for name, value in values.items()},
        }
        for start, end in zip(ends, ends[1:], strict=False)
    ]
