"""How many programs a small experiment compiles, and what a user waits for.

A process of its own trains a target, GHOST's covert branch on it, and inverts features:
once with an empty compilation cache, once with the one that the first left.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from instrument.report import Row
from instrument.section import Bench, Case

_HERE = Path(__file__).parent


def cases(bench: Bench) -> Iterator[Case]:
    yield Case("a small experiment", partial(measure, bench))


def measure(bench: Bench) -> Iterator[Row]:
    steps = bench.pick(2, 20, 100)
    extent = bench.pick("brief", "whole", "whole")
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "filled"):
            counts = first_result(steps, extent, folder)
            case = f"{cache} compilation cache, {steps} steps each"
            for figure, unit in (
                ("programs compiled", "programs"),
                ("programs from the cache", "programs"),
                ("compiling", "s"),
                ("start to first result", "s"),
            ):
                yield Row(case=case, figure=figure, value=counts[figure], unit=unit)


def first_result(steps: int, extent: str, folder: str) -> dict[str, float]:
    """What the process counted."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
    began = time.time()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "instrument.small_experiment",
            *(str(steps), extent, str(began)),
        ],
        cwd=_HERE.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the small experiment ended with: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
