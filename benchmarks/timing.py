"""Paired timing: several programs in turn, medians and spread, as JSON.

Machines are shared and their speed drifts, so programs run A B C A B C …, each after a
warm-up that compiles it, and ratios are taken turn by turn.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ghostjax.experiments import environment


def paired(
    programs: Mapping[str, Callable[[], Any]], *, turns: int = 11, warmup: int = 2
) -> dict[str, dict[str, float]]:
    """Times each program once a turn.

    Args:
      programs: name -> a function without arguments; what it returns is waited for.
      turns: timed turns.
      warmup: untimed ones before.

    Returns:
      name -> median, low and high (quartiles) in milliseconds, and the median of the
      ratios to the first program's time in the same turn.
    """
    times = interleaved(programs, turns=turns, warmup=warmup)
    first = 1e3 * np.asarray(next(iter(times.values())))
    return {name: _summary(1e3 * np.asarray(t), first) for name, t in times.items()}


def _summary(milliseconds: np.ndarray, first: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(milliseconds, (0.25, 0.5, 0.75))
    return {
        "median_ms": round(float(median), 2),
        "low_ms": round(float(low), 2),
        "high_ms": round(float(high), 2),
        "speed_against_first": round(float(np.median(first / milliseconds)), 2),
    }


def interleaved(
    programs: Mapping[str, Callable[[], Any]], *, turns: int, warmup: int
) -> dict[str, list[float]]:
    """Seconds of each timed turn of each program, A B C A B C …

    Args and waiting as for `paired`.
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(warmup + turns):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program())
            if turn >= warmup:
                times[name].append(time.perf_counter() - began)
    return times


def write(path: Path, results: Any, **about: Any) -> None:
    """Writes results with device, versions and what was run."""
    whole = {"environment": environment.describe(), **about, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")
