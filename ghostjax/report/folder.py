"""What a finished run folder holds, read back; rows as tables. Imports no jax."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ghostjax import files
from ghostjax.evaluation.rows import Label, Labels, Row

__all__ = ["joined", "read_labels", "read_row"]


def read_row(folder: Path) -> dict[str, Any]:
    """The result row of a finished run.

    Raises:
      ValueError: no row (the run is not finished), or a damaged one.
    """
    rows = _read(folder).to_pylist()
    if len(rows) != 1:
        raise ValueError(
            f"{folder / 'row.parquet'} has {len(rows)} rows: a run's has 1"
        )
    return rows[0]


def read_labels(*folders: Path) -> Labels:
    """What the defenses of finished runs call the columns that they added to the rows.

    Raises:
      ValueError: see `read_row`.
    """
    labels: dict[str, Label] = {}
    for folder in folders:
        for field in _read(folder).schema:
            facts = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
            if "label" in facts:
                budget = facts.get("budget") == "yes"
                labels[field.name] = Label(
                    facts["label"], facts.get("unit", ""), budget
                )
    return labels


def joined(rows: Sequence[Row], labels: Labels) -> pa.Table:
    """Rows as a table of all their columns; one of mixed kinds becomes text."""
    fields, arrays = [], []
    for name in {key: None for row in rows for key in row}:
        values = [row.get(name) for row in rows]
        try:
            array = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            array = pa.array([None if v is None else str(v) for v in values])
        field = pa.field(name, array.type)
        if name in labels:
            label, unit, budget = labels[name]
            over = "yes" if budget else "no"
            field = field.with_metadata({"label": label, "unit": unit, "budget": over})
        fields.append(field)
        arrays.append(array)
    return pa.table(arrays, pa.schema(fields))


def _read(folder: Path) -> pa.Table:
    path = folder / "row.parquet"
    if path.is_file():
        return files.read_parquet(path)
    config = folder / "config.toml"
    if not config.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no row.parquet")
    raise ValueError(
        f"{folder} has no row.parquet: the run is not finished; "
        f"finish it with: ghostjax run {config} --output {folder.parent}"
    )
