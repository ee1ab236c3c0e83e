"""K trainings at once: which way of batching members a backend runs fastest.

All members read the same data and frozen weights; each has a key, weights, optimizer
state, rates and pairs of its own.
Ways: (a) the gradient of the summed vmapped loss, (b) vmap of the gradient, (c) a
`lax.map` over the members, (d) one member after another through one program.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ghostjax import runtime
from ghostjax.training import members
from instrument import cases as catalogue
from instrument.cases import Learning
from instrument.clock import Cost, Program, Rate, repeat, throughput
from instrument.report import Row
from instrument.section import Bench, Case

WAYS = {
    "a": "grad(sum(vmap(loss)))",
    "b": "vmap(grad(loss))",
    "c": "lax.map",
    "d": "one after another",
}
_BATCH = 128


def cases(bench: Bench) -> Iterator[Case]:
    grid = bench.pick(
        [(catalogue.TOY, (2,))],
        [
            ("cnn2", (32,)),
            ("covert branch", (64,)),
            ("lenet5", (64,)),
            ("cnn4_bn", (4,)),
            ("covert branch", (16,)),
            ("lenet5", (16,)),
        ],
        [(name, (1, 4, 16, 64)) for name in ("lenet5", "cnn2", "cnn4_bn")]
        + [("covert branch", (1, 4, 16, 64))],
    )
    if bench.size == "core" and runtime.on_cpu():
        grid = [("lenet5", (4,)), ("covert branch", (2,))]
    for name, counts in grid:
        make = partial(catalogue.TRAININGS[name], bench.pick(8, _BATCH, _BATCH))
        for count in counts:
            for way in bench.pick("a", "dab", "dabc"):
                case = f"{name}, K = {count}, ({way}) {WAYS[way]}"
                yield Case(case, partial(measure, bench, make, case, count, way))


def measure(
    bench: Bench, make: Callable[[], Learning], case: str, count: int, way: str
) -> Iterator[Row]:
    """Images a second of all members together, compile seconds, peak memory."""
    learning, steps = make(), bench.pick(2, 10, 20)
    if way == "d":
        program = Program(
            learning.step, learning.state, *learning.constants, steps=steps
        )

        def run():
            return [program() for _ in range(count)]

        seconds = [turn / steps for turn in repeat(run)]
        price = program.cost.times(count)
        # Each member's state stays on the device; the data and temporaries are shared.
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(learning.state))
        memory = program.memory + (count - 1) * size
    else:
        key, hyper, shared, varying = learning.constants
        states, hyper, varying = jax.tree.map(
            lambda leaf: jnp.stack([jnp.asarray(leaf)] * count),
            (learning.state, hyper, varying),
        )
        hyper["learning_rate"] *= jnp.linspace(0.5, 1.0, count)
        keys, step = jax.random.split(key, count), members_step(learning, way)
        program = Program(step, states, keys, hyper, shared, varying, steps=steps)
        seconds, price, memory = program.seconds(), program.cost, program.memory
        if way == "c":  # XLA counts the body of the map once
            price = Cost(price.flops, count * price.bytes)
    rate = Rate(items=count * learning.batch, unit="images/s", price=price)
    yield throughput(case, "training", rate, seconds, bench.limits)
    yield Row(case=case, figure="compile", value=program.compile_seconds, unit="s")
    yield Row(case=case, figure="peak memory", value=memory / 2**20, unit="MiB")


def members_step(learning: Learning, way: str) -> Callable[..., Any]:
    """`step(states, index, keys, hyper, shared, varying)`; all but index and shared are
    [K, ...]."""
    if way == "a":
        return members.members_step(learning.training)
    if way == "b":
        return jax.vmap(learning.step.__call__, (0, None, 0, 0, None, 0))

    def mapped(states, index, keys, hyper, shared, varying):
        def one(member):
            state, key, rates, data = member
            return learning.step(state, index, key, rates, shared, data)

        return lax.map(one, (states, keys, hyper, varying))

    return mapped
