"""A finished run folder as pictures and one self-contained HTML page.

Reads what `experiment` left (row.parquet, arrays.npz, metrics.jsonl, config.toml,
environment.json), writes pictures/*.png and report.html. Accuracies are percent, PSNR
is dB, intervals are 95 %. Columns that this file does not know are shown all the same,
under "other". Imports no jax.
"""

import html
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ghostjax import files
from ghostjax.evaluation.rows import Row
from ghostjax.report import findings, page, panels, tables
from ghostjax.report.folder import read_labels, read_row
from ghostjax.report.tables import Table

__all__ = ["columns", "panel_name", "summary", "words", "write_report"]


def write_report(folder: Path) -> Path:
    """Makes pictures/*.png and report.html of a finished run folder.

    Returns:
      The path of report.html.

    Raises:
      ValueError: the run is not finished, or a file of it cannot be read.
    """
    row = read_row(folder)
    body = [page.heading(str(row.get("name", folder.name)), findings.subject(row))]
    body += words(row) + _panel(folder)
    body += [page.table(table) for table in tables.tables(row, read_labels(folder))]
    body += _training(folder)
    body += _environment(folder) + _config(folder)
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


def _panel(folder: Path) -> list[str]:
    """The panel and the strips, written; nothing where the run left no images."""
    shown = columns(folder)
    if not shown:
        return []
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    panel = panels.png(panels.panel(shown), dpi=(panels.DPI, panels.DPI))
    files.write_bytes(pictures / "panel.png", panel)
    for column in shown:
        strip = panels.png(panels.strip(column.images))
        files.write_bytes(pictures / f"{column.name}.png", strip)
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
    """The curves of metrics.jsonl; a line torn by a kill is skipped and counted."""
    path = folder / "metrics.jsonl"
    png, torn = _curves(files.read_text(path) if path.is_file() else "")
    if png is None:
        return []
    caption = f"Unreadable lines of metrics.jsonl, skipped: {torn}." if torn else ""
    (folder / "pictures").mkdir(exist_ok=True)
    files.write_bytes(folder / "pictures" / "training.png", png)
    return ["<h2>Training</h2>", page.picture(png, "Training curves", caption)]


@lru_cache(maxsize=8)  # members of a sweep share trainings; a chart takes 0.4 s
def _curves(text: str) -> tuple[bytes | None, int]:
    """The chart of metrics.jsonl, and how many lines of it are torn."""
    records, torn = [], 0
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            torn += 1
            continue
        records.append(record)
    figure = panels.training(records)
    return (None if figure is None else page.drawn(figure)), torn


def _environment(folder: Path) -> list[str]:
    path = folder / "environment.json"
    if not path.is_file():
        return []
    facts = files.read_json(path)
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
