"""Several finished runs as one table and one self-contained page. Imports no jax.

Columns that this file does not know are in the tables all the same.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from ghostjax import files
from ghostjax.config.grid import differing
from ghostjax.evaluation.rows import Row
from ghostjax.report import charts, page, panels, tables, tradeoff
from ghostjax.report.folder import cautions, joined, read_labels, read_row
from ghostjax.report.page import Chart
from ghostjax.report.replicates import (
    DRAWS,
    Replicates,
    cell,
    follows,
    note,
    replicates,
)
from ghostjax.report.run_page import columns, panel_name, tried, words
from ghostjax.report.tables import Table

__all__ = ["SETTINGS", "compare", "varying"]

SETTINGS = (
    "data", "network", "cut", "defense", "stego", "bits", "gamma", "attack", "denoise",
)  # fmt: skip
_WITH_PICTURES = 24  # runs of a comparison; all have their own report
_RESULTS = (
    "accuracy_secret", "accuracy_secret_n", "control_constant_answer",
    "control_shuffled_secret", "control_cover_only", "uses_secret", "accuracy_public",
    "target_accuracy_public", "covers_called_sensitive", "psnr_cover_stego_mean",
    "psnr_revealed_secret_mean", "psnr_cover_perturbed_mean", "perturbation_l2_mean",
    "accuracy_all", "target_accuracy_all",
    "psnr_reconstruction_secret_mean", "ssim_reconstruction_secret_mean",
    "psnr_extracted_secret_mean", "ssim_extracted_secret_mean",
    "psnr_extracted_before_secret_mean", "ssim_extracted_before_secret_mean",
    "recognised", "recognised_chance", "reidentified", "candidates",
    "diverged", "seconds_total",
)  # fmt: skip


def compare(folders: Sequence[Path], output: Path) -> Path:
    """Several runs as one table (comparison.csv, .parquet) and one page.

    The two files hold every run, in the order given. On the page runs that differ only
    in the seed are means with their 95 % intervals (`replicates`), and below them every
    run.

    Args:
      folders: finished run folders.
      output: a folder, made if missing, that gets the two tables, report.html and
        pictures/*.png, the charts that `charts.charts` finds fitting; and a list of
        the tables' digests.

    Returns:
      The path of output/report.html.

    Raises:
      ValueError: no folders, or one that is not finished, or whose row is not what was
        written.
    """
    if not folders:
        raise ValueError("nothing to compare: give at least one finished run folder")
    rows = [{"folder": _shown(folder), **read_row(folder)} for folder in folders]
    labels = read_labels(*folders)
    pictures = files.make_folder(files.make_folder(output) / "pictures")
    table = joined(rows, labels)
    contents = {
        "comparison.csv": files.csv_bytes(table),
        "comparison.parquet": files.parquet_bytes(table),
    }
    files.write_sealed(output, contents)
    keys = varying(rows)
    body = [page.heading(f"{len(rows)} runs compared", _shared(rows[0], keys))]
    shown = {tuple(str(row.get(key)) for key in (*keys, *DRAWS)) for row in rows}
    if len(shown) < len(rows):
        body.append(page.paragraph("caution", _ALIKE))
    said = cautions(*folders)
    body += [page.paragraph("caution", line) for line in said]
    body += _tradeoff(tradeoff.points(rows, keys, labels), pictures)
    body += [page.chart(pictures, chart) for chart in charts.charts(rows, keys)]
    runs = replicates(rows, keys)
    if len(runs) < len(rows):
        body.append(page.table(_averaged(runs, keys)))
    body.append(page.table(_side_by_side(rows, keys)))
    for folder, row in list(zip(folders, rows, strict=True))[:_WITH_PICTURES]:
        body += [f"<h2>{html.escape(folder.name)}</h2>", *words(row)]
        body += tried(_small_panel, folder, said)
    path = output / "report.html"
    files.write_text(path, page.page(f"{len(rows)} runs compared", body))
    return path


def _shown(folder: Path) -> str:
    """A folder's path; what of it is in no encoding is replaced."""
    return str(folder).encode(errors="replace").decode()


def varying(rows: Sequence[Row]) -> list[str]:
    """The settings that tell the runs apart, and the config keys ("defense.steps") that
    tell those of the same settings apart; no seeds, and none that goes with `seed`."""
    keys = dict.fromkeys((*SETTINGS, *(k for row in rows for k in row if "." in k)))
    telling = [key for key in keys if not follows(rows, key)]
    return differing(rows, telling, [key for key in telling if "." in key])


_ALIKE = (
    "Some runs differ in nothing shown here: they are the same run, or their "
    "config.toml tells them apart."
)


def _tradeoff(points: Sequence[tradeoff.Point], pictures: Path) -> list[str]:
    """Defenses side by side; nothing where there are no points."""
    if not points:
        return []
    table, figure = tradeoff.table(points), tradeoff.figure(points)
    shown = [Chart("tradeoff", table.title, tradeoff.CAPTION, figure)]
    if (budgets := tradeoff.budgets(points)) is not None:
        title = "Accuracy over each rival's budget"
        shown.append(Chart("budgets", title, tradeoff.BUDGETS_CAPTION, budgets))
    first, *more = (page.chart(pictures, chart) for chart in shown)
    return [first, page.table(table), *more]


def _small_panel(folder: Path) -> list[str]:
    """Three rows of the panel; nothing is written."""
    with files.reading(folder / "arrays.npz"):
        shown = columns(folder)
        if not shown:
            return []
        panel = panels.png(panels.panel(shown, 3))
    return [page.picture(panel, panel_name(shown), "", "wide")]


def _averaged(runs: Sequence[Replicates], varying: Sequence[str]) -> Table:
    """What differs only in the seed as one line: what varies, how many, the means."""
    results = tables.shown([run.row for run in runs], _RESULTS)
    head = [*map(tables.label, varying), "seeds (n)", *map(tables.label, results)]
    lines = [
        [
            *(tables.cell(key, run.row.get(key)) for key in varying),
            str(run.seeds),
            *(cell(run, key) for key in results),
        ]
        for run in runs
    ]
    return Table(title="Results over seeds", head=head, lines=lines, note=note(runs))


def _side_by_side(rows: Sequence[Row], varying: Sequence[str]) -> Table:
    """The runs below each other: what varies, then the results that any of them has."""
    draws = [key for key in DRAWS if len({str(r.get(key)) for r in rows}) > 1]
    keys = [*varying, *draws, *tables.shown(rows, _RESULTS)]
    head = ["run", *(tables.label(key) for key in keys)]
    lines = [
        [Path(row["folder"]).name, *(tables.cell(key, row.get(key)) for key in keys)]
        for row in rows
    ]
    return Table(title="Results", head=head, lines=lines)


def _shared(row: Row, varying: Sequence[str]) -> str:
    alike = [k for k in SETTINGS if k not in varying and row.get(k) is not None]
    return "the same in all: " + ", ".join(f"{key} {row[key]}" for key in alike)
