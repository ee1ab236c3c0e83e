"""A finished run folder as pictures and one self-contained HTML page.

Reads what `experiment` left (row.parquet, arrays.npz, metrics.jsonl, config.toml,
environment.json), writes pictures/*.png and report.html. Accuracies are percent, PSNR
is dB, intervals are 95 %. Columns that this file does not know are shown all the same,
under "other". Without its row a run has no page; of any other file that is damaged or
missing the page says so. Imports no jax.
"""

import html
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ghostjax import files
from ghostjax.evaluation.rows import Row
from ghostjax.report import findings, page, panels, tables
from ghostjax.report.folder import cautions, read_labels, read_row
from ghostjax.report.tables import Table

__all__ = ["columns", "panel_name", "summary", "tried", "words", "write_report"]


def write_report(folder: Path) -> Path:
    """Makes pictures/*.png and report.html of a finished run folder.

    Returns:
      The path of report.html.

    Raises:
      ValueError: the run is not finished, or its row is not what was written; or the
        page cannot be written.
    """
    row, said = read_row(folder), cautions(folder)
    files.tidy(folder)
    body = [page.heading(str(row.get("name", folder.name)), findings.subject(row))]
    body += words(row) + [page.paragraph("caution", line) for line in said]
    body += tried(_panel, folder, said)
    body += [page.table(table) for table in tables.tables(row, read_labels(folder))]
    for section in (_training, _environment, _config):
        body += tried(section, folder, said)
    path = folder / "report.html"
    files.write_text(path, page.page(str(row.get("name", folder.name)), body))
    return path


def summary(row: Row) -> list[tuple[str, str]]:
    """The few lines, (label, text), that the command line prints after a run."""
    return findings.summary(row)


def words(row: Row) -> list[str]:
    """The verdict and its cautions."""
    cautions = [page.paragraph("caution", line) for line in findings.cautions(row)]
    return [page.paragraph("verdict", findings.verdict(row)), *cautions]


def tried(
    section: Callable[[Path], list[str]], folder: Path, said: Sequence[str]
) -> list[str]:
    """A section of a page; where the file that it shows cannot be read, the line that
    says so, if it is not said already."""
    try:
        return section(folder)
    except files.Unwritable:
        raise
    except files.FileError as error:
        return [] if str(error) in said else [page.paragraph("caution", str(error))]


def _panel(folder: Path) -> list[str]:
    """The panel and the strips, written; nothing where the run left no images."""
    with files.reading(folder / "arrays.npz"):
        shown = columns(folder)
        if not shown:
            return []
        panel = panels.png(panels.panel(shown), dpi=(panels.DPI, panels.DPI))
        strips = {x.name: panels.png(panels.strip(x.images)) for x in shown}
    pictures = files.make_folder(folder / "pictures")
    for name, picture in {"panel": panel, **strips}.items():
        files.write_bytes(pictures / f"{name}.png", picture)
    return [
        "<h2>Pictures</h2>",
        page.picture(panel, panel_name(shown), _PANEL, "wide"),
    ]


def columns(folder: Path) -> list[panels.Column]:
    path = folder / "arrays.npz"
    if not path.is_file():
        return []
    arrays = files.read_npz(path)
    return panels.columns(arrays, int(arrays.get("bits", 0)) or None)


def panel_name(shown: Sequence[panels.Column]) -> str:
    return "Panel: " + ", ".join(column.title for column in shown)


_PANEL = (
    "Test images as they are: black is 0, white is 255, nothing is stretched. dB is "
    "each image's PSNR: under the difference that of stego against cover, under a "
    "perturbed stego its own against the cover, under all that follows that of the "
    "shown image against the secret."
)


def _training(folder: Path) -> list[str]:
    """The curves of metrics.jsonl; lines that are no records are skipped, counted."""
    path = folder / "metrics.jsonl"
    text = files.read_text(path) if path.is_file() else ""
    with files.reading(path):
        png, torn = _curves(text)
    caption = f"Unreadable lines of metrics.jsonl, skipped: {torn}." if torn else ""
    if png is None:
        return [page.paragraph("caution", caption)] if torn else []
    pictures = files.make_folder(folder / "pictures")
    files.write_bytes(pictures / "training.png", png)
    return ["<h2>Training</h2>", page.picture(png, "Training curves", caption)]


@lru_cache(maxsize=8)  # members of a sweep share trainings; a chart takes 0.4 s
def _curves(text: str) -> tuple[bytes | None, int]:
    """The chart of metrics.jsonl, and how many lines of it are no records."""
    lines = text.splitlines()
    records = [record for line in lines if (record := _record(line)) is not None]
    figure = panels.training(records)
    png = None if figure is None else page.drawn(figure)
    return png, len(lines) - len(records)


def _record(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None: a kill has torn it, or it is something else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("part"), str):
        return None
    return record if panels.finite(record.get("step")) else None


def _environment(folder: Path) -> list[str]:
    path = folder / "environment.json"
    if not path.is_file():
        return []
    facts = files.read_json(path)
    with files.reading(path):
        lines = [(str(key), tables.text(value)) for key, value in facts.items()]
    table = Table(title="Environment", head=("", ""), lines=lines)
    return [page.table(table)]


def _config(folder: Path) -> list[str]:
    path = folder / "config.toml"
    if not path.is_file():
        return []
    return [
        "<h2>Config</h2>",
        f"<pre>{html.escape(files.read_text(path))}</pre>",
    ]
