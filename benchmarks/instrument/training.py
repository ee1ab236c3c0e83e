"""Training: images a second of everything that learns, and what a step's form costs."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
from instrument import cases as catalogue
from instrument.cases import Training
from instrument.clock import Program, throughput
from instrument.report import Row
from instrument.section import Bench, Case

from ghostjax import runtime

_STEPS = 10  # to one call


def cases(bench: Bench) -> Iterator[Case]:
    cpu = runtime.on_cpu()
    names = bench.pick(["lenet5"], list(catalogue.TRAININGS), list(catalogue.TRAININGS))
    batches = bench.pick((8,), (128, 1024), (64, 256, 1024, 4096))
    if cpu and bench.size == "core":
        batches = (32, 128)
    steps = bench.pick(2, 3, _STEPS) if cpu else _STEPS
    for batch in batches:
        for name in names:
            make = partial(catalogue.TRAININGS[name], batch)
            case = f"{name}, batch {batch}"
            yield Case(case, partial(measure, bench, make, case, steps))
    batch = bench.pick(8, 128, 256)
    for name in bench.pick([], ["lenet5"], ["lenet5", "cnn4_bn"]):
        make = partial(catalogue.TRAININGS[name], batch)
        for precision in bench.precisions[1:]:
            case = f"{name}, batch {batch}, {precision}"
            yield Case(case, partial(measure, bench, make, case, steps, precision))
        for form, choices in forms().items():
            case = f"{name}, batch {batch}, {form}"
            yield Case(case, partial(measure, bench, make, case, **choices))
    for name in [] if cpu else bench.pick([], ["cnn4_bn", "covert branch"], names):
        batch = 1024
        make = partial(catalogue.TRAININGS[name], batch)
        case = f"{name}, batch {batch}, default"
        yield Case(case, partial(measure, bench, make, case, steps, "default"))


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
    make: Callable[[], Training],
    case: str,
    steps: int,
    precision: str = "highest",
    **choices: bool,
) -> Iterator[Row]:
    """Images a second, compile seconds, peak memory of one training."""
    training = make()
    with jax.default_matmul_precision(precision):
        program = Program(
            training.step, training.state, *training.constants, steps=steps, **choices
        )
    yield throughput(
        case,
        "training",
        training.batch,
        "images/s",
        program.seconds(),
        program.cost,
        bench.limits,
        f"float32 {precision}",
    )
    yield Row(case=case, figure="compile", value=program.compile_seconds, unit="s")
    yield Row(case=case, figure="peak memory", value=program.memory / 2**20, unit="MiB")
