"""Training: images a second of everything that learns, and what a step's form costs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from ghostjax import runtime
from instrument import cases as catalogue
from instrument.cases import Learning
from instrument.clock import Program, Rate, throughput
from instrument.report import Row
from instrument.section import Bench, Case

_STEPS = 10  # to one call
ORDER = (
    *("lenet5", "cnn2", "covert branch", "generator", "cnn4_bn"),
    *("stego network n32", "cnn6", "cnn6_gtsrb"),
)
"""The cheapest first."""


def cases(bench: Bench) -> Iterator[Case]:
    """One batch of everything, then a larger one, with precision and forms between."""
    cpu = runtime.on_cpu()
    names = bench.pick([catalogue.TOY], list(ORDER), list(ORDER))
    batches = bench.pick((8,), (128, 1024), (64, 256, 1024, 4096))
    if cpu and bench.size == "core":
        batches = (32, 128)
    steps = bench.pick(2, 3, _STEPS) if cpu else _STEPS

    def case(name: str, batch: int, what: str = "", **choices: Any) -> Case:
        title = ", ".join(filter(None, (name, f"batch {batch}", what)))
        make = partial(catalogue.TRAININGS[name], batch)
        choices = {"steps": steps, **choices}
        return Case(title, partial(measure, bench, make, title, **choices))

    yield from (case(name, batches[0]) for name in names)
    for name in bench.pick([], ["cnn4_bn", "covert branch"], names):
        for precision in bench.precisions[1:]:
            yield case(name, batches[-1], precision, precision=precision)
    for name in bench.pick([], ["lenet5"], ["lenet5", "cnn4_bn"]):
        for form, choices in forms().items():
            yield case(name, batches[0], form, **choices)
    for batch in batches[1:]:
        yield from (case(name, batch) for name in names)


def forms() -> dict[str, dict]:
    """Ways to run the same steps."""
    long = 10 if runtime.on_cpu() else 100
    return {
        "host loop": {"steps": long, "scanned": False},
        "host loop, not donated": {"steps": long, "scanned": False, "donate": False},
        **{f"scan of {n}": {"steps": n, "scanned": True} for n in (1, 10, long)},
    }


def measure(
    bench: Bench,
    make: Callable[[], Learning],
    case: str,
    steps: int,
    precision: str = "highest",
    **choices: bool,
) -> Iterator[Row]:
    """Images a second, compile seconds, peak memory of one training."""
    learning = make()
    with jax.default_matmul_precision(precision):
        program = Program(
            learning.step, learning.state, *learning.constants, steps=steps, **choices
        )
    rate = Rate(
        items=learning.batch,
        unit="images/s",
        price=program.cost,
        arithmetic=f"float32 {precision}",
    )
    yield throughput(case, "training", rate, program.seconds(), bench.limits)
    yield Row(case=case, figure="compile", value=program.compile_seconds, unit="s")
    yield Row(case=case, figure="peak memory", value=program.memory / 2**20, unit="MiB")
