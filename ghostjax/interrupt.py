"""Ctrl-C and SIGTERM: a flag that loops read between steps. Imports no jax.

An exception in the middle of anything may fall into a callback of XLA, which swallows
it, or leave computations behind that end the process with a segmentation fault. So
inside `listening` a signal changes nothing but a flag. Who can stop asks `asked`, or
calls `check`, which raises `Stopped`. A second signal ends the process at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "asked", "check", "listening", "received"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = b"\0"  # what ends the watch; no signal's number

_received: list[int] = []  # numbers of the signals that have come
_listens = False


class Stopped(KeyboardInterrupt):
    """The user, or a scheduler, has asked the run to stop.

    Args:
      number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def status(self) -> int:
        """The exit status: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


def asked() -> bool:
    """Whether a signal has come."""
    return bool(_received)


def received() -> int:
    """The number of the first signal that has come; of none, SIGINT's."""
    return _received[0] if _received else signal.SIGINT


def check() -> None:
    """Raises `Stopped` where a signal has come."""
    if _received:
        raise Stopped(received())


@contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM are noted instead of raised.

    Outside of the main thread, inside another `listening`, and for a signal that
    somebody else listens to or that is ignored, nothing is changed.

    Raises:
      Stopped: at the end, where a signal has come that nobody has read.
    """
    global _listens
    if _listens or threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.default_int_handler, signal.SIG_DFL)
    mine = [number for number in _SIGNALS if signal.getsignal(number) in usual]
    # The system's own handler writes into the pipe, also while the main thread is in
    # a compilation, which may take minutes.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watch = threading.Thread(target=_watch, args=(reader,), daemon=True)
    before = {number: signal.signal(number, _note) for number in mine}
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _listens = True
    watch.start()
    try:
        yield
        check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.write(writer, _END)
        watch.join()
        os.close(writer)
        os.close(reader)
        _received.clear()
        _listens = False


def _note(number: int, frame: FrameType | None) -> None:
    """Takes the place of what would raise; the watch has its number already."""


def _watch(reader: int) -> None:
    """Notes the first signal, and ends the process with the second."""
    while (byte := os.read(reader, 1)) not in (_END, b""):
        number = byte[0]
        if number not in _SIGNALS:
            continue  # another signal that Python handles
        if _received:
            os._exit(128 + number)
        _received.append(number)
