"""K trainings at once: which way of batching members a backend runs fastest.

All members read the same data; each has its own key, weights, optimizer state and rate.
Ways: (a) the gradient of the summed vmapped loss, (b) vmap of the gradient, (c) a
`lax.map` over the members, (d) one member after another through one program.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ghostjax import runtime
from ghostjax.train import OPTIMIZERS, SCHEDULES, TrainState
from instrument import cases as catalogue
from instrument.cases import Training
from instrument.clock import Cost, Program, repeat, throughput
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
        [("lenet5", (2,))],
        [
            ("lenet5", (16,)),
            ("covert branch", (16,)),
            ("cnn4_bn", (4,)),
            ("lenet5", (64,)),
        ],
        [(name, (1, 4, 16, 64)) for name in ("lenet5", "cnn2", "cnn4_bn")]
        + [("covert branch", (1, 4, 16, 64))],
    )
    if bench.size == "core" and runtime.on_cpu():
        grid = [("lenet5", (4,)), ("covert branch", (2,))]
    for name, counts in grid:
        training = partial(catalogue.TRAININGS[name], bench.pick(8, _BATCH, _BATCH))
        for count in counts:
            for way in bench.pick("a", "dabc", "dabc"):
                case = f"{name}, K = {count}, ({way}) {WAYS[way]}"
                yield Case(case, partial(measure, bench, training, case, count, way))


def measure(
    bench: Bench, make: Callable[[], Training], case: str, count: int, way: str
) -> Iterator[Row]:
    """Images a second of all members together, compile seconds, peak memory."""
    training, steps = make(), bench.pick(2, 10, 20)
    alone = way == "d"
    if alone:
        program = Program(
            training.step, training.state, *training.constants, steps=steps
        )

        def run():
            return [program() for _ in range(count)]

        seconds = [turn / steps for turn in repeat(run)]
        price = program.cost.times(count)
        # Each member's state stays on the device; the data and temporaries are shared.
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(training.state))
        memory = program.memory + (count - 1) * size
    else:
        states = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), training.state)
        keys = jax.random.split(training.key, count)
        rates = training.learning_rate * jnp.linspace(0.5, 1.0, count)
        step = members_step(training, way)
        program = Program(step, states, keys, rates, training.data, steps=steps)
        seconds, price, memory = program.seconds(), program.cost, program.memory
        if way == "c":  # XLA counts the body of the map once
            price = Cost(price.flops, count * price.bytes)
    yield throughput(
        case,
        "training",
        count * training.batch,
        "images/s",
        seconds,
        price,
        bench.limits,
        "float32 highest",
    )
    yield Row(case=case, figure="compile", value=program.compile_seconds, unit="s")
    yield Row(case=case, figure="peak memory", value=memory / 2**20, unit="MiB")


def members_step(training: Training, way: str) -> Callable[..., Any]:
    """`step(states, index, keys, rates, data)`; all but index and data are [K, ...]."""
    loss, draw, recipe = training.loss, training.draw, training.recipe

    def update(gradients, optimizer_state, params, rate, index):
        rate = rate * SCHEDULES[recipe.schedule](index, recipe.steps)
        optimizer = OPTIMIZERS[recipe.optimizer](rate)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    def mapped(states, index, keys, rates, data):
        def one(member):
            state, key, rate = member
            return training.step(state, index, key, rate, data)

        return lax.map(one, (states, keys, rates))

    def together(states, index, keys, rates, data):
        draw_keys, loss_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        loss_keys = jax.vmap(jax.random.fold_in, (0, None))(loss_keys, index)
        batch = jax.vmap(draw, (0, None, None))(draw_keys, index, data)
        batch = lax.optimization_barrier(batch)
        if way == "a":

            def total(params):
                values, rest = jax.vmap(loss)(
                    params, states.model_state, loss_keys, batch
                )
                return values.sum(), (values, rest)

            gradients, (values, rest) = jax.grad(total, has_aux=True)(states.params)
        else:
            graded = jax.vmap(jax.value_and_grad(loss, has_aux=True))
            (values, rest), gradients = graded(
                states.params, states.model_state, loss_keys, batch
            )
        model_state, metrics = rest
        params, optimizer_state = jax.vmap(update, (0, 0, 0, 0, None))(
            gradients, states.optimizer_state, states.params, rates, index
        )
        state = TrainState(params, model_state, optimizer_state)
        return state, {"loss": values, **metrics}

    return mapped if way == "c" else together
