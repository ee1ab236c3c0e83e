"""Counts what XLA compiles."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def compiled() -> Iterator[list[str]]:
    """Yields a list that gets an entry for every program that is compiled inside, or
    read from the cache on disk."""
    programs: list[str] = []

    def listen(event: str, seconds: float, **about: object) -> None:
        if event == _COMPILED:
            programs.append(str(about.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
