"""Runs a plan: every task of every member, each once, rows as soon as they can be.

A single experiment is a sweep of one member. What is finished is found and not run
again; what was interrupted continues. Members go through the stages in waves: a wave
shares its target, what its members train is trained in step where that is faster, they
are measured together and their targets are inverted in one call. A member that fails
is noted in its folder and listed at the end, and the others go on.
"""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from ghostjax import files, interrupt, runtime
from ghostjax.config.sections import Config
from ghostjax.config.toml import to_toml
from ghostjax.data import Dataset
from ghostjax.experiments import parts, stages, state
from ghostjax.experiments.build import Built, build
from ghostjax.experiments.plan import (
    LEARNED,
    STAGES,
    Member,
    Task,
    groups,
    lay_out,
    plan,
)
from ghostjax.experiments.progress import say
from ghostjax.experiments.ways import Failure, Outcome, Ways
from ghostjax.records import Trained
from ghostjax.report.folder import faults
from ghostjax.training import parallel
from ghostjax.training.strategies import Strategy

__all__ = ["Telling", "Title", "run"]

Title = Callable[[Config], str]
_USUAL = Ways()
_WAVE = 64  # members whose results are held at once


class Telling(NamedTuple):
    """What is told of members."""

    title: Title = lambda config: ""
    """What tells a member from the others; goes before its lines and errors."""
    finished: Callable[[Path], None] = lambda folder: None
    """Called with each run folder, once its row is there."""


_QUIETLY = Telling()


def run(
    configs: Sequence[Config],
    output: Path,
    console: Console,
    telling: Telling = _QUIETLY,
    data: Dataset | None = None,
    ways: Ways = _USUAL,
) -> Outcome:
    """Runs experiments, or continues them, or finds them finished.

    Args:
      configs: the members, in the order in which they run.
      output: folder of run folders; trained parts are shared in `output/parts`.
      console: progress goes there.
      telling: titles of members, and who hears of their rows.
      data: takes the place of the data that the configs name.
      ways: strategy, devices, and whether what has failed before is tried again.

    Returns:
      The run folders, each with config.toml, environment.json, metrics.jsonl,
      arrays.npz, row.parquet and row.csv; and which of several members have failed.

    Raises:
      interrupt.Stopped: the user asked for it; the same call continues.
      files.Unwritable: the disk is full, or the output cannot be written or is gone;
        the same call continues once it can.
      ValueError: anything in a config that cannot be done, before a file is written;
        of a single experiment what it could not do, `fit.NonFiniteLoss` for one.
    """
    devices = parallel.require(ways.devices)
    title = telling.title
    members = lay_out(configs, title, data)
    builds = []
    for one in members:
        with _named(title(one.config)):
            builds.append(build(one))
    session = _Session(members, builds, output, console)
    session.title, session.finished, session.ways = *telling, ways
    with interrupt.listening(), parallel.on_devices(devices):
        return session.run()


class _Session:
    """Members on their way, and the results that they share."""

    title: Title
    finished: Callable[[Path], None]
    ways: Ways

    def __init__(
        self,
        members: Sequence[Member],
        builds: Sequence[Built],
        output: Path,
        console: Console,
    ):
        self._members, self._builds = members, builds
        self._output, self._console = output, console
        self._results: dict[str, Any] = {}  # name of a task -> its result
        self._newest: dict[str, Any] = {}
        self._failures: dict[int, BaseException | str] = {}
        self._notes: dict[int, state.Failure | None] = {}  # before this run
        self._began, self._done = time.time(), 0

    def run(self) -> Outcome:
        """All waves, and then what another process had begun."""
        pending = self._pending()
        self._train_apart(pending)
        todo, busy = list(pending), []
        while todo := [place for place in todo if place not in self._failures]:
            wave = self._wave(todo)
            del todo[: len(wave)]
            busy += self._run_wave(wave, wait=False)
            self._forget(todo + busy)
            self._say_left(len(pending))
        for place in busy:
            if place not in self._failures:
                self._run_wave([place], wait=True)
                self._forget(busy)
        return self._outcome()

    def _train_apart(self, pending: Sequence[int]) -> None:
        """Targets and stego methods of all members, in step: waves share theirs."""
        if self._strategy() == "one_by_one":
            return
        for stage in ("target", "stego"):
            self._stage(stage, [p for p in pending if p not in self._failures])

    def _pending(self) -> list[int]:
        """Members without a row; what has failed before only if it is tried again."""
        pending = []
        for place, one in enumerate(self._members):
            folder = self._output / one.folder
            if (folder / "row.parquet").exists():
                if not (wrong := faults(folder)):
                    self._say(f"already finished: {folder}")
                    self.finished(folder)
                    continue
                self._say(f"made again: {wrong[0]}")
            before = self._notes[place] = state.read_error(folder)
            if before and not self.ways.retry_failed and len(self._members) > 1:
                self._failures[place] = (
                    f"{before.error} (before; --retry-failed runs it again)"
                )
                continue
            pending.append(place)
        return pending

    def _wave(self, todo: Sequence[int]) -> list[int]:
        """The next members that go through the stages together.

        They share a target. Where members are trained one after the other, one that
        has something to train is a wave of its own: its row does not wait for others.
        """
        first = todo[0]
        if self._strategy() == "one_by_one" and self._trains(first):
            return [first]
        wave = []
        for place in todo[:_WAVE]:
            one = self._members[place]
            alike = one.names["target"] == self._members[first].names["target"]
            if not alike or one.dataset is not self._members[first].dataset:
                break
            if self._strategy() == "one_by_one" and self._trains(place):
                break
            wave.append(place)
        return wave

    def _trains(self, place: int) -> bool:
        """Whether a member has anything to train behind its target."""
        config = self._members[place].config
        learning = config.defense, config.attack, config.denoise
        hiding = (config.stego,) if config.defense.hides else ()
        return any(isinstance(record, Trained) for record in (*learning, *hiding))

    def _strategy(self) -> Strategy:
        """By default what `benchmarks/` has measured: on CPUs a convolution over the
        batches of all members is no faster than one after the other, on a GPU 1.3 to
        3.8 times."""
        usual: Strategy = "one_by_one" if runtime.on_cpu() else "vmap"
        return self.ways.strategy or usual

    def _run_wave(self, wave: Sequence[int], wait: bool) -> list[int]:
        """Runs a wave; returns those members that another process works on."""
        busy, mine = [], []
        with ExitStack() as stack:
            for place in wave:
                folder = self._output / self._members[place].folder
                alone = len(self._members) == 1
                try:
                    held = parts.lock(folder, wait=wait, console=self._console)
                    stack.enter_context(held)
                except parts.Busy:
                    if alone:
                        raise
                    busy.append(place)
                    continue
                row = folder / "row.parquet"
                if row.exists() and not faults(folder):  # meanwhile
                    self.finished(folder)
                    continue
                note = state.read_error(folder)
                if note and note != self._notes[place] and not alone:  # meanwhile
                    self._failures[place] = note.error
                    continue
                state.clear_error(folder)
                config = self._members[place].config
                files.write_text(folder / "config.toml", to_toml(config))
                mine.append(place)
            self._work(mine)
        return busy

    def _work(self, mine: Sequence[int]) -> None:
        """All stages of some members."""
        if not mine:
            return
        self._introduce(mine)
        began = time.time()
        for stage in STAGES[:-1]:
            self._stage(stage, [p for p in mine if p not in self._failures])
        for place in mine:
            if place in self._failures:
                continue
            interrupt.check()
            folder = self._output / self._members[place].folder
            with self._noted("row", [place]):
                stages.row(self._at_work(place), folder, began)
            if place not in self._failures:
                self._done += 1
                self.finished(folder)

    def _stage(self, stage: str, mine: Sequence[int]) -> None:
        """One stage of some members, in groups that run the same programs."""
        tasks = plan([self._members[place] for place in mine])
        wanted = [
            task._replace(member=mine[task.member])
            for task in tasks
            if task.stage == stage and task.name not in self._results
        ]
        together: dict[Any, list[Task]] = {}
        for (_, group), some in groups(wanted).items():
            # Inversions are put together by what is inverted, not by what was sent.
            key = None if stage == "invert" else group
            together.setdefault(key, []).extend(some)
        for some in together.values():
            self._do(stage, some)

    def _do(self, stage: str, tasks: Sequence[Task]) -> None:
        """Tasks of one group; where they cannot be done together, one by one."""
        interrupt.check()
        places = [task.member for task in tasks]
        works = [self._at_work(place) for place in places]
        try:
            if stage in LEARNED:
                way = parts.Way(self._strategy(), self.ways.at_once)
                outcomes: Sequence[Any] = stages.learn(stage, works, way)
            else:
                outcomes = _TOGETHER[stage](works)
        except files.Unwritable:  # nobody's fault: the same command continues
            raise
        except Exception as error:
            if len(tasks) > 1:
                for task in tasks:
                    self._do(stage, [task])
                return
            outcomes = [error]
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(stage, task.name, outcome)
            else:
                self._results[task.name] = outcome

    def _fail(self, stage: str, name: str, error: Exception) -> None:
        """Notes what the members that want a task's result have failed with."""
        for place, one in enumerate(self._members):
            if one.names.get(stage) == name and place not in self._failures:
                folder = self._output / one.folder
                files.make_folder(folder)
                state.write_error(folder, stage, error)
                self._failures[place] = error
        if len(self._members) == 1:
            raise error

    @contextmanager
    def _noted(self, stage: str, places: Sequence[int]) -> Iterator[None]:
        try:
            yield
        except files.Unwritable:
            raise
        except Exception as error:
            for place in places:
                self._fail(stage, self._members[place].names[stage], error)

    def _at_work(self, place: int) -> stages.Work:
        return stages.Work(
            member=self._members[place],
            built=self._builds[place],
            results=self._results,
            parts=self._output / "parts",
            console=self._console,
            newest=self._newest,
        )

    def _forget(self, later: Sequence[int]) -> None:
        """Drops what no later member reads."""
        names = {n for place in later for n in self._members[place].names.values()}
        self._results = {k: v for k, v in self._results.items() if k in names}

    def _introduce(self, mine: Sequence[int]) -> None:
        count = len(self._members)
        if count == 1:
            return
        if len(mine) == 1:
            name = self.title(self._members[mine[0]].config)
            self._say(f"[{mine[0] + 1}/{count}] {name}")
        else:
            names = [self.title(self._members[p].config) for p in (mine[0], mine[-1])]
            self._say(
                f"[{mine[0] + 1}-{mine[-1] + 1}/{count}] {len(mine)} members: "
                f"{names[0]} to {names[1]}"
            )

    def _say_left(self, pending: int) -> None:
        """Time and memory, once there is something to reckon with."""
        if not 0 < self._done < pending:
            return
        spent = time.time() - self._began
        left = spent / self._done * (pending - self._done - len(self._failures))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self._say(
            f"{self._done} of {pending} done in {_clock(spent)}, about "
            f"{_clock(max(left, 0))} left, {peak:.1f} GB at most"
        )

    def _say(self, line: str) -> None:
        say(self._console, line)

    def _outcome(self) -> Outcome:
        places = [k for k in range(len(self._members)) if k not in self._failures]
        folders = [self._output / self._members[place].folder for place in places]
        failures = [
            Failure(self.title(self._members[place].config), _line(error))
            for place, error in sorted(self._failures.items())
        ]
        return Outcome(folders, places, failures)


_TOGETHER: dict[str, Callable[[Sequence[stages.Work]], Sequence[Any]]] = {
    "measure": stages.measure,
    "invert": stages.invert,
}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(error: BaseException | str) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts a member's title before the message of what it raises."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else str(error)) from error
