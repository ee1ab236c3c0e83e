"""Trained parts on disk, named by what they depend on and shared between runs.

A part is the folder of the trainings of one fit, each with the checkpoints of its
`fit.fit_resumable`; finished, it is a cache entry. One process trains a part at a
time, others wait for it.
"""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import ceil, inf, nan
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
from jax import Array
from rich.console import Console

from ghostjax import files, interrupt
from ghostjax.experiments import environment
from ghostjax.experiments.progress import progress, say
from ghostjax.experiments.state import holder
from ghostjax.training import checkpoint, members, parallel, stacks
from ghostjax.training.fit import (
    NonFiniteLoss,
    Train,
    Training,
    TrainState,
    fit_resumable,
)
from ghostjax.training.members import (
    Places,
    Together,
    TrainMembers,
    fit_members,
)
from ghostjax.training.strategies import Strategy

__all__ = ["Busy", "Way", "lock", "seconds", "together", "trainer"]

_CHUNKS = 20  # checkpoints and progress lines of one training
_SMALLEST = 10  # steps of a chunk; a checkpoint costs some 50 ms
_POLL = 0.2  # seconds between two looks at a lock that another process holds
_TRIES, _INSTANT = 5, 0.02  # seconds between two tries to take a lock


_Ended = tuple[TrainState, Mapping[str, Array]]


class Busy(ValueError):
    """Another process holds the folder."""


def trainer(folder: Path, name: str, console: Console) -> Train:
    """A `fit.fit` that keeps its state in `folder`, resumes, and shows progress.

    Args:
      folder: the part's own folder; each training has a folder of its name inside.
      name: what is trained, for people.
      console: where progress goes.
    """

    def train(training: Training) -> tuple[TrainState, Mapping[str, Array]]:
        part, steps = training.part, training.recipe.steps
        place = folder / part
        title = name if part in ("", name) else f"{name} {part}"
        with lock(place, wait=True, console=console):
            done = checkpoint.latest(place)
            _announce(place.relative_to(folder.parent), title, done, steps, console)
            files.tidy(folder)
            if done < steps:
                environment.note(folder)
            began = time.monotonic()
            with progress(console, title, steps) as show:

                def on_chunk(step: int, metrics: Mapping[str, Any]) -> None:
                    nonlocal began
                    _require_there(place)
                    now = time.monotonic()
                    _spend(folder, now - began)
                    began = now
                    show(step, metrics)

                resume = partial(
                    fit_resumable,
                    training,
                    place,
                    chunk=_chunk(steps),
                    on_chunk=on_chunk,
                )
                return _without_damaged(resume, title, console)

    return train


def _without_damaged(
    resume: Callable[[], _Ended], title: str, console: Console
) -> _Ended:
    """What a training ends in that goes on from its newest checkpoint that can be read:
    those that cannot are set aside."""
    while True:
        try:
            return resume()
        except checkpoint.Corrupted as error:
            aside = checkpoint.set_aside(error.folder)
            say(
                console,
                f"{title}  {error.fault}: it is {aside.name} now, and made anew",
            )


def seconds(folder: Path) -> float:
    """Wall time spent on training the part, over all interrupted tries; of members that
    were trained in step, each one's share. NaN: it is not known any more."""
    spent = folder / "seconds"
    if not spent.exists():
        return 0.0
    try:
        known = float(files.read_text(spent))
    except ValueError:  # a side file: what it says is lost, not the part
        return nan
    return known if 0 <= known < inf else nan


class Way(NamedTuple):
    """How the trainings of a group's members are run."""

    strategy: Strategy
    at_once: int | None  # members, at most; None: as many as fit the device's memory


def together(
    folders: Sequence[Path], name: str, console: Console, way: Way
) -> TrainMembers:
    """Trains members in step, resumably; each one's part is as `trainer` leaves it.

    Args:
      folders: the members' parts.
      name: what is trained, for people.
      console: where progress goes.
      way: how; members whose part has begun alone go on alone.
    """
    alone = [trainer(folder, name, console) for folder in folders]
    groups = _groups(folders[0])

    def one_by_one(places: Sequence[int], trainings: Sequence[Training]) -> list[Any]:
        pairs = zip(places, trainings, strict=True)
        ended = [_caught(alone[k], training) for k, training in pairs]
        stacks.tidy(groups)
        return ended

    def in_step(places: Sequence[int], trainings: Sequence[Training]) -> list[Any]:
        some = [folders[place] for place in places]
        try:
            ended = _in_step(some, trainings, name, console, way)
            # None: another process has begun some meanwhile.
            return train(places, trainings) if ended is None else ended
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or len(places) == 1:
                raise
        half = len(places) // 2
        say(console, f"{name}: out of memory; going on with {half} members at once")
        return train(places[:half], trainings[:half]) + train(
            places[half:], trainings[half:]
        )

    def train(places: Sequence[int], trainings: Sequence[Training]) -> list[Any]:
        if way.strategy == "one_by_one":
            return one_by_one(places, trainings)
        part = trainings[0].part
        begun = [checkpoint.latest(folders[place] / part) > 0 for place in places]
        ended: dict[int, Any] = {}
        for lone in (True, False):
            mine = [k for k in range(len(places)) if begun[k] == lone]
            several = len(mine) > 1 and not lone
            size = _size(trainings[0], len(mine), way) if several else 1
            for start in range(0, len(mine), size):
                chosen = mine[start : start + size]
                some = [places[k] for k in chosen]
                # One that has begun in step goes on from there.
                stacked = not lone and _is_stacked(folders[some[0]] / part, groups)
                run = in_step if len(chosen) > 1 or stacked else one_by_one
                outcomes = run(some, [trainings[k] for k in chosen])
                ended |= dict(zip(chosen, outcomes, strict=True))
        return [ended[k] for k in range(len(places))]

    return train


def _groups(folder: Path) -> Path:
    """Where the parts beside one have their stacked checkpoints."""
    return folder.parent / stacks.TOGETHER


def _is_stacked(folder: Path, groups: Path) -> bool:
    """Whether a training has begun in step."""
    return stacks.furthest(groups, stacks.names(groups, [folder])) is not None


_FIXED = 16  # members in step where memory is not known


def _size(training: Training, count: int, way: Way) -> int:
    """Members in step: in equal shares, so that few numbers of them are compiled."""
    devices, limit = max(len(parallel.now()), 1), parallel.memory()
    if way.at_once is not None:
        most = way.at_once
    elif limit is None:
        most = _FIXED
    else:
        most = devices * members.most(training, way.strategy, limit)
    return max(1, ceil(count / ceil(count / most)))


def _caught(train: Train, training: Training) -> Any:
    try:
        return train(training)
    except NonFiniteLoss as error:
        return error


def _in_step(
    folders: Sequence[Path],
    trainings: Sequence[Training],
    name: str,
    console: Console,
    way: Way,
) -> list[Any] | None:
    """What each has ended in; None: nothing, as one has begun to be trained alone."""
    part, steps = trainings[0].part, trainings[0].recipe.steps
    title = name if part in ("", name) else f"{name} {part}"
    title = f"{title}, {len(folders)} member{'s' if len(folders) > 1 else ''}"
    places = Places([folder / part for folder in folders], _groups(folders[0]))
    with ExitStack() as stack:
        for place in sorted(places.folders):
            stack.enter_context(lock(place, wait=True, console=console))
        if any(checkpoint.latest(place) for place in places.folders):
            return None
        for folder in folders:
            environment.note(folder)
        show = stack.enter_context(progress(console, title, steps))
        began = time.monotonic()

        def on_chunk(step: int, metrics: Mapping[str, Any]) -> None:
            nonlocal began
            for place in places.folders:
                _require_there(place)
            now = time.monotonic()
            for folder in folders:
                _spend(folder, (now - began) / len(folders))
            began = now
            show(step, metrics)

        how = Together(way.strategy, _chunk(steps), on_chunk)
        return fit_members(trainings, places, how)


def _chunk(steps: int) -> int:
    return max(steps // _CHUNKS, _SMALLEST)


@contextmanager
def lock(folder: Path, *, wait: bool, console: Console) -> Iterator[None]:
    """Holds `folder` for this process; released by the system even after a kill.

    The file `lock` in it says who holds it and since when (`state.holder`); it stays
    behind, and says nothing where nobody holds it.

    Raises:
      Busy: another process has it and `wait` is False.
      files.Unwritable: the folder cannot be made or written.
    """
    files.make_folder(folder)
    path = folder / "lock"
    try:
        handle = path.open("a", encoding="utf-8")  # what its holder wrote stays
    except OSError as error:
        raise files.unwritable(path, error) from error
    with handle:
        if not _taken(handle):
            if not wait:
                raise Busy(
                    f"{folder} is in use by another ghostjax process: wait for it, or "
                    "give another --output"
                )
            say(console, f"waiting for another process that works on {folder.name}")
            while not _taken(handle):  # flock itself would wait on through a Ctrl-C
                interrupt.check()
                time.sleep(_POLL)
        handle.truncate(0)
        handle.write(holder())
        handle.flush()
        yield


def _require_there(folder: Path) -> None:
    """Refuses to go on in a folder that somebody has taken away, with its lock."""
    if not (folder / "lock").exists():
        raise files.Unwritable(f"{folder} was taken away while it was worked in")


def _taken(handle: IO[str]) -> bool:
    """Whether the lock is ours now; `state_of` of another process holds it for an
    instant, hence the tries."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_INSTANT)
    return False


def _announce(part: Path, name: str, done: int, steps: int, console: Console) -> None:
    if done == steps:
        say(console, f"{name}  from the cache ({part})")
    elif done:
        say(console, f"{name}  continues at step {done} of {steps}")


def _spend(folder: Path, more: float) -> None:
    files.write_text(folder / "seconds", f"{seconds(folder) + more:.3f}")
