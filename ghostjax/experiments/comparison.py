"""A whole sweep: every member run, then all of them compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ghostjax import files
from ghostjax.config import grid
from ghostjax.config.grid import Sweep
from ghostjax.config.sections import Config
from ghostjax.data import Dataset
from ghostjax.evaluation.rows import Row
from ghostjax.experiments import run
from ghostjax.experiments.progress import say
from ghostjax.experiments.ways import Outcome, Ways
from ghostjax.fields import content_hash
from ghostjax.report import comparison_page, page, tables, tradeoff
from ghostjax.report.folder import read_labels, read_row
from ghostjax.report.replicates import cell, note, replicates
from ghostjax.report.run_page import write_report
from ghostjax.report.tables import Table

__all__ = ["compare", "print_table", "results", "with_reports"]

_USUAL = Ways()
_HIDDEN = {"accuracy_secret": "secrets", "control_constant_answer": "constant answer"}
_RESULTS = {
    "accuracy_all": "accuracy",
    "psnr_reconstruction_secret_mean": "PSNR",
    "ssim_reconstruction_secret_mean": "SSIM",
    "ssim_extracted_secret_mean": "SSIM, read out",
    "ssim_extracted_before_secret_mean": "SSIM, read out before denoising",
    "recognised": "recognised",
    "reidentified": "re-identified",
    "diverged": "diverged",
}


def compare(
    members: Sweep,
    output: Path,
    console: Console,
    data: Dataset | None = None,
    ways: Ways = _USUAL,
) -> Path:
    """Runs every member, then compares them; returns the page of the comparison.

    The comparison is `OUTPUT/<name>-sweep-<hash>`, named by its members' folders. Where
    it is one of defenses under attack, the table printed is `tradeoff`'s. Members that
    differ only in the seed are one line, the mean over them with its 95 % interval. For
    interruptions, `data` and `ways` see `run.run`.

    Raises:
      Failed: some members have failed; the others are compared.
      files.Unwritable: the page cannot be written; where nobody may write there, as it
        may be with what is finished, that is only printed.
    """
    keys = grid.telling(members)
    outcome = with_reports(members.members, keys, output, console, data, ways)
    folders = outcome.folders
    if not folders:
        outcome.require_all()
    done = tuple(members.members[place] for place in outcome.places)
    members = members._replace(members=done, trees=())  # not built anew
    digest = content_hash(*(folder.name for folder in folders))[:8]
    place = output / f"{members.name}-sweep-{digest}"
    with _reading_on(console):
        comparison_page.compare(folders, place)
    rows = [read_row(folder) for folder in folders]
    labels = read_labels(*folders)
    points = tradeoff.points(rows, comparison_page.varying(rows), labels)
    rivals = tradeoff.rivals(points)
    shown = tradeoff.table(points) if rivals else results(members, rows)
    print_table(shown, console)
    if said := note(replicates(rows, comparison_page.varying(rows))):
        say(console, said)
    outcome.require_all()
    return place / "report.html"


def with_reports(
    configs: Sequence[Config],
    keys: Sequence[str],
    output: Path,
    console: Console,
    data: Dataset | None = None,
    ways: Ways = _USUAL,
) -> Outcome:
    """Runs all configs, each with its own report.

    Args:
      configs: what to run.
      keys: dotted, what tells them apart.
      output: folder of run folders.
      console: progress goes there.
      data: takes the place of the data that the configs name.
      ways: see `run.run`.
    """

    def reported(folder: Path) -> None:
        if not page.is_whole(folder / "report.html"):
            with _reading_on(console):
                write_report(folder)

    def title(config: Config) -> str:
        return grid.title(config, keys)

    telling = run.Telling(title, reported)
    return run.run(configs, output, console, telling, data, ways)


@contextmanager
def _reading_on(console: Console) -> Iterator[None]:
    """A page that nobody may write is a line, since what it shows can be read."""
    try:
        yield
    except files.Unwritable as error:
        if not error.is_read_only:
            raise
        say(console, str(error))


def results(members: Sweep, rows: Sequence[Row]) -> Table:
    """One line a member: what varies, accuracy, and the attacker's pictures.

    `accuracy` is of the images of all labels, with nothing hidden in them. Where a run
    hides secrets, their accuracy and the best constant answer's come first. Members
    that differ only in the seed are one line, of means over so many seeds.
    """
    heads = _RESULTS
    if any(row.get("stego") for row in rows):
        heads = _HIDDEN | _RESULTS
    shown = tables.shown(rows, heads)
    pairs = zip(rows, members.members, strict=True)
    member_of = {id(row): member for row, member in pairs}
    runs = replicates(rows, comparison_page.varying(rows))
    groups = [[member_of[id(row)] for row in run.rows] for run in runs]
    keys = [
        key
        for key in grid.telling(members)
        if all(len({str(grid.value_of(m, key)) for m in g}) == 1 for g in groups)
    ]
    several = any(run.seeds > 1 for run in runs)
    lines = [
        [
            *(tables.text(grid.value_of(group[0], key)) for key in keys),
            *([str(run.seeds)] if several else []),
            *(cell(run, key) for key in shown),
        ]
        for run, group in zip(runs, groups, strict=True)
    ]
    counted = ["seeds (n)"] if several else []
    head = [*keys, *counted, *(heads[key] for key in shown)]
    return Table("Results", head, lines, note(runs))


def print_table(table: Table, console: Console) -> None:
    """A table as text, as wide as it is."""
    lines = [table.head, *table.lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(w) for cell, w in zip(line, widths, strict=True))
        text = "  ".join(cells).rstrip()
        console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
