"""rMLE: image-steps a second, memory, and the time to the quality He et al. print."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ghostjax import registry, runtime
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context, Cut
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.pixels import as_float
from instrument import cases as catalogue
from instrument.clock import Cost, Rate, memory, moved, repeat, throughput
from instrument.flops import flops
from instrument.report import Row, spread
from instrument.section import Bench, Case

SOLVERS = {
    "Adam": Rmle(solver="gd", steps=20, start="grey", tolerance=0),
    "Gauss–Newton": Rmle(steps=10, start="grey", tolerance=0),
}
"""No tolerance: every step is done."""

CUTS = ("lenet5", "conv1"), ("lenet5", "ReLU2")
TOY_CUT = catalogue.TOY, "conv1"
DEEP = ("cnn6", "conv11"), ("cnn6", "ReLU22"), ("cnn6", "ReLU32")
WANTED = {"conv1": 39.69, "ReLU2": 15.10}  # dB, He et al.'s rMLE on MNIST
_TARGETS = 256  # of the time to a quality
_COUNTS = 1, 2, 3, 4, 6, 8, 12, 20, 40  # steps that are tried for it


class Search(NamedTuple):
    """An edge, what crosses it, and what the attack is to find."""

    cut: Cut
    weights: Any
    features: jax.Array
    truth: jax.Array

    def invert(self, record: Rmle) -> Callable[[Any, jax.Array], jax.Array]:
        """(weights, features) to pictures."""
        attack = registry.build(record, self.cut, Context())
        key, hyper = jax.random.key(0), traced_half(record)
        return lambda weights, sent: attack.invert(weights, key, sent, hyper).images


def search(network: str, cut: str, batch: int, steps: int = 0) -> Search:
    """Features of drawn pictures; of a network trained for so many steps."""
    halves, weights = catalogue.cut(network, cut), catalogue.variables(network)
    if steps:
        weights = catalogue.trained(network, steps)
    weights = chain.select(halves.edge, weights)
    images = catalogue.pictures(network).images
    truth = as_float(images[jnp.arange(batch) % len(images)])
    features = jax.jit(partial(chain.apply, halves.edge))(weights, truth)
    return Search(cut=halves, weights=weights, features=features, truth=truth)


def cases(bench: Bench) -> Iterator[Case]:
    cpu = runtime.on_cpu()
    for cut, wanted in WANTED.items():
        case = f"lenet5 {cut}, {bench.pick(8, _TARGETS, _TARGETS)} targets"
        if bench.size != "small":
            yield Case(case, partial(time_to, bench, case, cut, wanted))
    batches = bench.pick((8,), (256, 4096), (64, 256, 1024, 4096, 16384))
    if cpu and bench.size == "core":
        batches = 64, 256
    for network, cut in bench.pick([TOY_CUT], CUTS, CUTS + DEEP):
        for solver in bench.pick(["Adam"], list(SOLVERS), list(SOLVERS)):
            for batch in batches:
                case = f"{network} {cut}, {solver}, batch {batch}"
                run = partial(measure, bench, case, network, cut, solver, batch)
                yield Case(case, run)
            case = f"{network} {cut}, {solver}"
            yield Case(
                f"{case}, memory",
                partial(capacity, case, network, cut, solver, batches[-1]),
            )


def measure(
    bench: Bench, case: str, network: str, cut: str, solver: str, batch: int
) -> Iterator[Row]:
    """The attack as it is called, and on accelerators as one program too."""
    problem, record = search(network, cut, batch), SOLVERS[solver]
    price = step_cost(problem, record).times(record.steps)
    rate = Rate(items=batch * record.steps, unit="image-steps/s", price=price)
    inputs = problem.weights, problem.features
    invert = problem.invert(record)
    began = time.perf_counter()
    jax.block_until_ready(invert(*inputs))
    first = time.perf_counter() - began
    seconds = repeat(partial(invert, *inputs), warmup=0)
    yield throughput(case, "attack", rate, seconds, bench.limits)
    yield Row(
        case=case,
        figure="first call less the next",
        value=max(0.0, first - spread(seconds)["value"]),
        unit="s",
    )
    if runtime.on_cpu():
        return
    program = jax.jit(invert).lower(*inputs).compile()
    seconds = repeat(partial(program, *inputs))
    yield throughput(case, "attack as one program", rate, seconds, bench.limits)


def step_cost(problem: Search, record: Rmle) -> Cost:
    """Of one step; what a solver with a loop inside moves is not known."""

    def once(steps: int) -> Callable[..., jax.Array]:
        return problem.invert(replace(record, steps=steps, keep="last"))

    inputs = problem.weights, problem.features
    count = flops(once(2), *inputs) - flops(once(1), *inputs)
    if record.solver != "gd":
        return Cost(count, 0.0)
    return Cost(count, moved(jax.jit(once(1)).lower(*inputs).compile()))


def capacity(
    case: str, network: str, cut: str, solver: str, batch: int
) -> Iterator[Row]:
    """Peak bytes a target, and how many targets the device's memory holds."""
    sizes = []
    for count in (batch // 2, batch):
        problem = search(network, cut, count)
        record = replace(SOLVERS[solver], steps=1)
        program = jax.jit(problem.invert(record))
        sizes.append(memory(program.lower(problem.weights, problem.features).compile()))
    each = (sizes[1] - sizes[0]) / (batch - batch // 2)
    yield Row(case=case, figure="memory a target", value=each / 2**10, unit="KiB")
    fits = (memory_limit() - (sizes[1] - batch * each)) / max(each, 1.0)
    yield Row(
        case=case,
        figure="targets that fit",
        value=int(fits),
        unit="targets",
        note=f"linear in the memory of {batch // 2} and {batch} targets",
    )


def memory_limit() -> int:
    """Bytes of the device's memory, or of the machine's."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def time_to(bench: Bench, case: str, cut: str, wanted: float) -> Iterator[Row]:
    """Seconds from features to pictures of the wanted PSNR, all targets together."""
    problem = search("lenet5", cut, _TARGETS, steps=200)
    inputs = problem.weights, problem.features
    for steps in _COUNTS:
        invert = problem.invert(Rmle(steps=steps))
        quality = float(psnr(invert(*inputs), problem.truth))
        if quality >= wanted or bench.out_of_time():
            break
    note = f"{quality:.2f} dB, two starts explored and then {steps} steps; drawn digits"
    if quality < wanted:
        yield Row(case=case, figure=f"to {wanted} dB", value=None, unit="s", note=note)
        return
    jax.clear_caches()
    began = time.perf_counter()
    jax.block_until_ready(invert(*inputs))
    cold = time.perf_counter() - began
    yield Row(
        case=case, figure=f"to {wanted} dB, cold", value=cold, unit="s", note=note
    )
    warm = spread(repeat(partial(invert, *inputs), warmup=0))
    yield Row(case=case, figure=f"to {wanted} dB, warm", unit="s", note=note, **warm)


@jax.jit
def psnr(images: jax.Array, truth: jax.Array) -> jax.Array:
    """Mean over images, dB; an exact picture counts 100."""
    error = ((images - truth) ** 2).mean((1, 2, 3))
    return (-10 * jnp.log10(jnp.maximum(error, 1e-10))).mean()
