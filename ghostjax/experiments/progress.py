"""What a person sees while something is run: lines, and a bar in a terminal."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

__all__ = ["OnChunk", "progress", "say"]

OnChunk = Callable[[int, Mapping[str, np.ndarray]], None]


def say(console: Console, line: str) -> None:
    """Prints a line as it is, whatever console it is: names and paths in it are the
    user's, and no markup. It is wrapped by nobody but a terminal."""
    console.print(
        line,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not console.is_terminal,
    )


@contextmanager
def progress(console: Console, part: str, total: int) -> Iterator[OnChunk]:
    """Yields `on_chunk(done, metrics)`, which shows metrics, rate and time left.

    Args:
      console: where to show it.
      part: what is trained, one word.
      total: steps in all.
    """
    status = _status(total)
    if not console.is_terminal:
        yield lambda done, metrics: say(
            console, f"{part}  {done}/{total}  {status(done, metrics)}"
        )
        return
    texts = "{task.description}", "{task.completed}/{task.total}", "{task.fields[note]}"
    name, count, note = (TextColumn(text, markup=False) for text in texts)
    with Progress(name, BarColumn(), count, note, console=console) as bar:
        task = bar.add_task(part, total=total, note="compiling")
        yield lambda done, metrics: bar.update(
            task, completed=done, note=status(done, metrics)
        )


def _status(total: int) -> Callable[[int, Mapping[str, np.ndarray]], str]:
    # The first chunk compiles, so the rate is counted from its end.
    first: list[tuple[float, int]] = []

    def text(done: int, metrics: Mapping[str, np.ndarray]) -> str:
        means = (f"{name} {np.mean(values):.4f}" for name, values in metrics.items())
        now, line = time.monotonic(), "  ".join(means)
        if not first:
            first.append((now, done))
            return line
        speed = (done - first[0][1]) / max(now - first[0][0], 1e-9)
        minutes, seconds = divmod(round((total - done) / speed), 60)
        return f"{line}  {speed:.1f} steps/s  {minutes}:{seconds:02d} left"

    return text
