"""Standard output and error that nobody breaks by not reading them. Imports no jax.

What the terminal's encoding cannot show is replaced. A pipe whose reader has gone
(`ghostjax networks | head -1`) takes no more and raises nothing. Where work goes on
that must not end with its terminal, no error of writing is raised at all.
"""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # else imported where one is made
    from rich.console import Console

__all__ = ["Stream", "console", "guarded", "say"]


class Stream:
    """A stream of text in the place of another, whose other attributes it has."""

    def __init__(self, stream: TextIO | None, lasting: bool = False):
        """`stream` is None where the process was started without it; with `lasting` no
        error of writing is raised."""
        self._stream: Any = _Nowhere() if stream is None else stream
        self.lasting = lasting

    def write(self, text: str) -> int:
        """Writes what the stream can show of a text; gives the text's length."""
        with self._enduring():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes all the lines."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hands on what was written."""
        with self._enduring():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._turn_away()
            if not (self.lasting or isinstance(error, BrokenPipeError | ValueError)):
                raise

    def _turn_away(self) -> None:
        """What is still to be written, at the end of the process too, goes nowhere."""
        broken, self._stream = self._stream, _Nowhere()
        if broken in (sys.__stdout__, sys.__stderr__):
            try:
                _lead_nowhere(broken.fileno())
            except (OSError, ValueError):  # a closed one has no number
                return


class _Nowhere(io.TextIOBase):
    """A stream that keeps nothing."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


def _lead_nowhere(number: int) -> None:
    """Makes a file's number one of the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def console(stream: Stream, quiet: bool = False) -> "Console":
    """A console that takes text as it is: no word of a user's is markup. What is not
    read by people at a terminal is not wrapped."""
    from rich.console import Console

    return Console(
        file=stream,  # type: ignore[arg-type]
        quiet=quiet,
        soft_wrap=not stream.isatty(),
        markup=False,
        emoji=False,
        highlight=False,
    )


def say(line: str) -> None:
    """Writes a line to standard error, if somebody reads it."""
    stream = Stream(sys.stderr, lasting=True)
    stream.write(f"{line}\n")
    stream.flush()


@contextmanager
def guarded() -> Iterator[Stream]:
    """Standard output and error are such streams within, the latter a lasting one;
    gives the former."""
    before = sys.stdout, sys.stderr
    for number, stream in enumerate(before, 1):
        if stream is None:
            _occupy(number)
    output, errors = Stream(before[0]), Stream(before[1], lasting=True)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.lasting = True
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _occupy(number: int) -> None:
    """Sees to it that no file of ours gets the number of a closed standard stream, to
    which libraries write."""
    try:
        os.fstat(number)
    except OSError:
        _lead_nowhere(number)
