"""What a finished run leaves in its folder, besides its config."""

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ghostjax import environment
from ghostjax.sections import Config


def write(
    folder: Path,
    row: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    began: float,
) -> None:
    """Writes environment.json, metrics.jsonl, arrays.npz, row.csv and row.parquet.

    Args:
      folder: the run folder.
      row: flat columns of numbers and strings.
      metrics: part -> name -> one value a step [steps].
      arrays: examples for pictures.
      about: what environment.json tells besides versions and device.
      began: `time.time()` when the run started.
    """
    told = {
        **environment.describe(),
        **about,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "seconds": round(time.time() - began, 1),
    }
    (folder / "environment.json").write_text(json.dumps(told, indent=1))
    with (folder / "metrics.jsonl").open("w") as lines:
        for part, history in metrics.items():
            for record in _records(part, history):
                lines.write(json.dumps(record) + "\n")
    np.savez(folder / "arrays.npz", **arrays)
    with (folder / "row.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    # The row comes last and whole: with it the run counts as finished.
    writing = folder / "row.parquet.writing"
    pyarrow.parquet.write_table(pa.Table.from_pylist([dict(row)]), writing)
    writing.rename(folder / "row.parquet")


def config_columns(config: Config) -> dict[str, Any]:
    """Every key of the config as a column, "defense.steps", to compare runs by."""
    return {
        f"{section}.{key}": " ".join(map(str, value))
        if isinstance(value, tuple)
        else value
        for section in ("target", "stego", "defense", "attacker", "attack", "denoise")
        for key, value in asdict(getattr(config, section)).items()
        if key not in ("name", "cut", "network")
    }


def _records(part: str, history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """At most 200 records of a training, each the mean of its stretch of steps."""
    if not history:
        return []
    values = {name: np.asarray(value) for name, value in history.items()}
    steps = len(values["loss"])
    ends = np.unique(np.linspace(0, steps, min(steps, 200) + 1).astype(int))
    return [
        {
            "part": part,
            "step": int(end),
            **{name: float(value[start:end].mean()) for name, value in values.items()},
        }
        for start, end in zip(ends, ends[1:], strict=False)
    ]
