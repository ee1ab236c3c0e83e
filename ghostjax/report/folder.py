"""What a finished run folder holds, read back; rows as tables. Imports no jax.

Numbers are read from files whose digests `files.SUMS` beside them states. Runs from
before there were digests have no such list, and are read with a caution.
"""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import pyarrow as pa

from ghostjax import files
from ghostjax.evaluation.rows import Label, Labels, Row

__all__ = ["KEPT", "cautions", "faults", "joined", "read_labels", "read_row"]

_ROW = "row.parquet"
KEPT = (
    "config.toml", "environment.json", "metrics.jsonl", "arrays.npz", "row.csv", _ROW,
)  # fmt: skip
"""The files that a finished run leaves, in the order in which they are written."""


def faults(folder: Path) -> list[str]:
    """What is wrong with the files of a run that has a row, a line each that names the
    file; empty: they are what was written, as far as that is known.

    Raises:
      files.FileError: the system does not let one be read.
    """
    try:
        listed = files.sums(folder)
        if not listed:
            read_row(folder)
    except ValueError as error:
        if isinstance(error, files.FileError) and error.is_systems:
            raise
        return [str(error)]
    if listed and _ROW not in listed:
        return [f"{folder / files.SUMS} is damaged: it does not name {_ROW}"]
    lines = (_fault(folder / name) for name in listed)
    return [line for line in lines if line]


def _fault(path: Path) -> str:
    """Why a file that the list names is not what was written; empty: it is."""
    return files.damage(path) if path.is_file() else f"{path} is missing"


def cautions(*folders: Path) -> list[str]:
    """What readers of finished runs are to know of their files: the faults, what is
    missing, and which runs have no digests by which a damage would be noticed."""
    lines, bare = [], []
    for folder in folders:
        lines += faults(folder)
        if not (folder / files.SUMS).is_file():
            bare.append(str(folder))
            gone = (folder / name for name in KEPT if not (folder / name).is_file())
            lines += [f"{path} is missing" for path in gone]
    if bare:
        more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
        lines.append(
            f"no {files.SUMS} in {', '.join(bare[:3])}{more}: a damage to what the "
            "numbers are read from would not be noticed"
        )
    return list(dict.fromkeys(lines))


def read_row(folder: Path) -> dict[str, Any]:
    """The result row of a finished run.

    Raises:
      ValueError: no row (the run is not finished), or one that is not what was written;
        the line says which file, and how it is made again.
    """
    rows = _read(folder).to_pylist()
    if len(rows) != 1:
        raise ValueError(f"{folder / _ROW} has {len(rows)} rows: a run's has 1")
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
    path, config = folder / _ROW, folder / "config.toml"
    command = f"ghostjax run {quote(str(config))} --output {quote(str(folder.parent))}"
    if path.is_file():
        try:
            return files.read_parquet(path)
        except files.FileError as error:
            if error.is_systems:
                raise
            raise files.FileError(f"{error}; {command} makes it again") from error
    if not config.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no {_ROW}")
    raise ValueError(
        f"{folder} has no {_ROW}: the run is not finished; finish it with: {command}"
    )
