"""Runs a plan: every task of every member, each once, rows as soon as they can be.

A single experiment is a sweep of one member. What is finished is found and not run
again; what was interrupted continues.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from ghostjax import files
from ghostjax.config.sections import Config
from ghostjax.config.toml import to_toml
from ghostjax.data import Dataset, load
from ghostjax.experiments import parts, stages
from ghostjax.experiments.plan import Member, Task, member, plan

__all__ = ["Title", "run"]

Title = Callable[[Config], str]


def run(
    configs: Sequence[Config],
    output: Path,
    console: Console,
    title: Title = lambda config: "",
    finished: Callable[[Path], None] = lambda folder: None,
    data: Dataset | None = None,
) -> list[Path]:
    """Runs experiments, or continues them, or finds them finished.

    Args:
      configs: the members, in the order in which they run.
      output: folder of run folders; trained parts are shared in `output/parts`.
      console: progress goes there.
      title: what tells a member from the others; goes before its lines and errors.
      finished: called with each run folder, once its row is there.
      data: takes the place of the data that the configs name.

    Returns:
      The run folders, each with config.toml, environment.json, metrics.jsonl,
      arrays.npz, row.parquet and row.csv.

    Raises:
      ValueError: anything in a config that cannot be done, before a file is written;
        or, named, what the member that failed could not do.
      fit.NonFiniteLoss: training diverged; the last good checkpoint is kept.
    """
    members, builds = _prepared(configs, title, data)
    session = _Session(members, builds, output, console)
    folders = []
    for place, one in enumerate(members):
        name = title(one.config)
        if len(members) > 1:
            line = f"[{place + 1}/{len(members)}] {name}"
            console.print(line, highlight=False, markup=False)
        with _named(name):
            folders.append(session.run(place))
            finished(folders[-1])
    return folders


def _prepared(
    configs: Sequence[Config], title: Title, data: Dataset | None
) -> tuple[list[Member], list[stages.Built]]:
    """Every member and what it stands for; everything is refused here."""

    @cache
    def loaded(name: str, folder: str, size: tuple[int, ...]) -> Dataset:
        return load(name, folder=folder, size=size)

    members, builds = [], []
    for config in configs:
        with _named(title(config)):
            section = config.data
            dataset = data or loaded(section.name, section.folder, section.size)
            members.append(member(config, dataset, lambda name: loaded(name, "", ())))
            builds.append(stages.build(members[-1]))
    return members, builds


class _Session:
    """The results that members share, each kept as long as a task will read it."""

    def __init__(
        self,
        members: Sequence[Member],
        builds: Sequence[stages.Built],
        output: Path,
        console: Console,
    ):
        self._members, self._builds = members, builds
        self._output, self._console = output, console
        self._results: dict[str, Any] = {}  # name of a task -> its result
        self._newest: dict[str, Any] = {}

    def run(self, place: int) -> Path:
        """Does all tasks of one member whose row is not there."""
        one = self._members[place]
        folder = self._output / one.folder
        with parts.lock(folder, wait=False, console=self._console):
            if (folder / "row.parquet").exists():
                self._console.print(f"already finished: {folder}", highlight=False)
                return folder
            files.write_text(folder / "config.toml", to_toml(one.config))
            began = time.time()
            for task in self._pending(place):
                self._do(task, place, folder, began)
        return folder

    def _pending(self, place: int) -> list[Task]:
        tasks = plan(self._members[place : place + 1])
        return [task for task in tasks if task.name not in self._results]

    def _do(self, task: Task, place: int, folder: Path, began: float) -> None:
        work = stages.Work(
            member=self._members[place],
            built=self._builds[place],
            results=self._results,
            parts=self._output / "parts",
            console=self._console,
            newest=self._newest,
        )
        if task.stage == "row":
            stages.row(work, folder, began)
            self._forget(place)
        else:
            self._results[task.name] = getattr(stages, task.stage)(work)

    def _forget(self, place: int) -> None:
        """Drops what no later member reads."""
        later = {
            name for one in self._members[place + 1 :] for name in one.names.values()
        }
        self._results = {k: v for k, v in self._results.items() if k in later}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts a member's title before the message of what it raises."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else str(error)) from error
