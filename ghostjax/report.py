"""A finished run folder as pictures and one self-contained HTML page.

Reads what `experiment` left (row.parquet, arrays.npz, metrics.jsonl, config.toml,
environment.json), writes pictures/*.png and report.html. Accuracies are percent, PSNR
is dB, intervals are 95 %. Columns that this file does not know are shown all the same,
under "other". Imports no jax.
"""

import html
import json
from collections.abc import Sequence
from pathlib import Path

from ghostjax import charts, figures, files, findings, page, tables, tradeoff
from ghostjax.results import joined
from ghostjax.results import read_labels as read_labels
from ghostjax.results import read_row as read_row
from ghostjax.tables import Row, Table

SETTINGS = (
    "data", "network", "cut", "defense", "stego", "bits", "gamma", "attack", "denoise",
)  # fmt: skip
_WITH_PICTURES = 24  # runs of a comparison; all have their own report
_DRAWS = ("seed", "sensitive_labels")
_RESULTS = (
    "accuracy_secret", "accuracy_secret_n", "control_constant_answer",
    "control_shuffled_secret", "control_cover_only", "uses_secret", "accuracy_public",
    "target_accuracy_public", "covers_called_sensitive", "psnr_cover_stego_mean",
    "psnr_revealed_secret_mean", "psnr_cover_perturbed_mean", "perturbation_l2_mean",
    "accuracy_all", "target_accuracy_all",
    "psnr_reconstruction_secret_mean", "ssim_reconstruction_secret_mean",
    "psnr_extracted_secret_mean", "ssim_extracted_secret_mean",
    "psnr_extracted_before_secret_mean", "ssim_extracted_before_secret_mean",
    "seconds_total",
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Makes pictures/*.png and report.html of a finished run folder.

    Returns:
      The path of report.html.

    Raises:
      ValueError: the run is not finished, or a file of it cannot be read.
    """
    row = read_row(folder)
    body = [page.heading(str(row.get("name", folder.name)), findings.subject(row))]
    body += _words(row) + _panel(folder)
    body += [page.table(table) for table in tables.tables(row, read_labels(folder))]
    body += _training(folder)
    body += _environment(folder) + _config(folder)
    path = folder / "report.html"
    files.write_text(path, page.page(str(row.get("name", folder.name)), body))
    return path


def compare(folders: Sequence[Path], output: Path) -> Path:
    """Several runs as one table (comparison.csv, .parquet) and one page.

    Args:
      folders: finished run folders.
      output: a folder, made if missing, that gets the two tables, report.html and
        pictures/*.png, the charts that `charts.charts` finds fitting.

    Returns:
      The path of output/report.html.

    Raises:
      ValueError: no folders, or one that is not finished.
    """
    if not folders:
        raise ValueError("nothing to compare: give at least one finished run folder")
    rows = [{"folder": str(folder), **read_row(folder)} for folder in folders]
    labels = read_labels(*folders)
    pictures = output / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    table = joined(rows, labels)
    files.write_parquet(output / "comparison.parquet", table)
    files.write_csv(output / "comparison.csv", table)
    keys = varying(rows)
    body = [page.heading(f"{len(rows)} runs compared", _shared(rows[0], keys))]
    shown = {tuple(str(row.get(key)) for key in (*keys, *_DRAWS)) for row in rows}
    if len(shown) < len(rows):
        body.append(page.paragraph("caution", _ALIKE))
    body += _tradeoff(tradeoff.points(rows, keys, labels), pictures)
    for chart in charts.charts(rows, keys):
        path = pictures / f"{chart.name}.png"
        body.append(page.chart(chart.figure, path, chart.title, chart.caption))
    body.append(page.table(_side_by_side(rows, keys)))
    for folder, row in list(zip(folders, rows, strict=True))[:_WITH_PICTURES]:
        body += [f"<h2>{html.escape(folder.name)}</h2>", *_words(row)]
        body += _small_panel(folder)
    path = output / "report.html"
    files.write_text(path, page.page(f"{len(rows)} runs compared", body))
    return path


def varying(rows: Sequence[Row]) -> list[str]:
    """The settings that tell the runs apart, and the config keys ("defense.steps") that
    tell those of the same settings apart."""
    keys = dict.fromkeys((*SETTINGS, *(k for row in rows for k in row if "." in k)))
    return tables.telling(rows, list(keys), [key for key in keys if "." in key])


def summary(row: Row) -> list[tuple[str, str]]:
    """The few lines, (label, text), that the command line prints after a run."""
    return findings.summary(row)


_ALIKE = (
    "Some runs differ in nothing shown here: they are the same run, or their "
    "config.toml tells them apart."
)


def _words(row: Row) -> list[str]:
    """The verdict and its cautions."""
    cautions = [page.paragraph("caution", line) for line in findings.cautions(row)]
    return [page.paragraph("verdict", findings.verdict(row)), *cautions]


def _tradeoff(points: Sequence[tradeoff.Point], pictures: Path) -> list[str]:
    """Defenses side by side; nothing where there are no points."""
    if not points:
        return []
    table, path = tradeoff.table(points), pictures / "tradeoff.png"
    figure = tradeoff.figure(points)
    body = [page.chart(figure, path, table.title, tradeoff.CAPTION), page.table(table)]
    if (figure := tradeoff.budgets(points)) is not None:
        path, title = pictures / "budgets.png", "Accuracy over each rival's budget"
        body.append(page.chart(figure, path, title, tradeoff.BUDGETS_CAPTION))
    return body


def _panel(folder: Path) -> list[str]:
    """The panel and the strips, written; nothing where the run left no images."""
    shown = _columns(folder)
    if not shown:
        return []
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    panel = figures.png(figures.panel(shown), dpi=(figures.DPI, figures.DPI))
    files.write_bytes(pictures / "panel.png", panel)
    for column in shown:
        strip = figures.png(figures.strip(column.images))
        files.write_bytes(pictures / f"{column.name}.png", strip)
    return [
        "<h2>Pictures</h2>",
        page.picture(panel, _panel_name(shown), _PANEL, "wide"),
    ]


def _small_panel(folder: Path) -> list[str]:
    """Three rows of the panel; nothing is written."""
    shown = _columns(folder)
    if not shown:
        return []
    panel = figures.png(figures.panel(shown, 3))
    return [page.picture(panel, _panel_name(shown), "", "wide")]


def _columns(folder: Path) -> list[figures.Column]:
    path = folder / "arrays.npz"
    if not path.is_file():
        return []
    arrays = files.read_npz(path)
    return figures.columns(arrays, int(arrays.get("bits", 0)) or None)


def _panel_name(shown: Sequence[figures.Column]) -> str:
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
    records, torn = [], 0
    for line in files.read_text(path).splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            torn += 1
            continue
        records.append(record)
    figure = figures.training(records)
    if figure is None:
        return []
    caption = f"Unreadable lines of metrics.jsonl, skipped: {torn}." if torn else ""
    (folder / "pictures").mkdir(exist_ok=True)
    picture = folder / "pictures" / "training.png"
    return [
        "<h2>Training</h2>",
        page.chart(figure, picture, "Training curves", caption),
    ]


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


def _side_by_side(rows: Sequence[Row], varying: Sequence[str]) -> Table:
    """The runs below each other: what varies, then the results that any of them has."""
    draws = [key for key in _DRAWS if len({str(r.get(key)) for r in rows}) > 1]
    keys = [*varying, *draws]
    keys += [k for k in _RESULTS if any(r.get(k) is not None for r in rows)]
    head = ["run", *(tables.label(key) for key in keys)]
    lines = [
        [Path(row["folder"]).name, *(tables.cell(key, row.get(key)) for key in keys)]
        for row in rows
    ]
    return Table(title="Results", head=head, lines=lines)


def _shared(row: Row, varying: Sequence[str]) -> str:
    alike = [k for k in SETTINGS if k not in varying and row.get(k) is not None]
    return "the same in all: " + ", ".join(f"{key} {row[key]}" for key in alike)
