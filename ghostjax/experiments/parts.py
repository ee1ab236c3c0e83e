"""Trained parts on disk, named by what they depend on and shared between runs.

A part is the folder of the trainings of one fit, each with the checkpoints of its
`fit.fit_resumable`; finished, it is a cache entry. One process trains a part at a
time, others wait for it.
"""

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax import Array
from rich.console import Console

from ghostjax import files
from ghostjax.experiments.progress import progress
from ghostjax.training import checkpoint
from ghostjax.training.fit import Train, Training, TrainState, fit_resumable

__all__ = ["Busy", "lock", "seconds", "trainer"]

_CHUNKS = 20  # checkpoints and progress lines of one training
_SMALLEST = 10  # steps of a chunk; a checkpoint costs some 50 ms


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
            began = time.monotonic()
            with progress(console, title, steps) as show:

                def on_chunk(step: int, metrics: Mapping[str, Any]) -> None:
                    nonlocal began
                    now = time.monotonic()
                    _spend(folder, now - began)
                    began = now
                    show(step, metrics)

                return fit_resumable(
                    training,
                    place,
                    chunk=max(steps // _CHUNKS, _SMALLEST),
                    on_chunk=on_chunk,
                )

    return train


def seconds(folder: Path) -> float:
    """Wall time spent on training the part, over all interrupted tries."""
    spent = folder / "seconds"
    return float(files.read_text(spent)) if spent.exists() else 0.0


@contextmanager
def lock(folder: Path, *, wait: bool, console: Console) -> Iterator[None]:
    """Holds `folder` for this process; released by the system even after a kill.

    Raises:
      Busy: another process has it and `wait` is False.
      ValueError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("w")
    except OSError as error:
        raise ValueError(
            f"cannot write to {folder} ({error.strerror}): choose another --output"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise Busy(
                    f"{folder} is in use by another ghostjax process: wait for it, or "
                    "give another --output"
                ) from error
            console.print(f"waiting for another process that works on {folder.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _announce(part: Path, name: str, done: int, steps: int, console: Console) -> None:
    if done == steps:
        console.print(f"{name}  from the cache ({part})", highlight=False)
    elif done:
        console.print(f"{name}  continues at step {done} of {steps}", highlight=False)


def _spend(folder: Path, more: float) -> None:
    files.write_text(folder / "seconds", f"{seconds(folder) + more:.3f}")
