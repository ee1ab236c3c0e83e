"""What the device can do at most: products, copies, calls."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ghostjax import runtime
from ghostjax.training.sampling import epoch_indices
from instrument.clock import repeat
from instrument.report import Row, spread
from instrument.section import Bench, Case

_CALLS = 200  # of an empty program, to one turn


def cases(bench: Bench) -> Iterator[Case]:
    yield Case("copy", partial(copy, bench))
    yield Case("dispatch", partial(dispatch, bench))
    for precision in bench.precisions:
        yield Case(f"float32 {precision}", partial(product, bench, precision))
    yield Case("index streams", partial(streams, bench))
    yield Case("bfloat16", partial(product, bench, "bfloat16"))


def product(bench: Bench, kind: str) -> Iterator[Row]:
    """FLOP/s of a product of two square matrices of random numbers."""
    side = bench.pick(256, 2048, 2048) if runtime.on_cpu() else 4096
    dtype = jnp.bfloat16 if kind == "bfloat16" else jnp.float32
    precision = "default" if kind == "bfloat16" else kind
    a, b = (
        jax.random.normal(key, (side, side), dtype)
        for key in jax.random.split(jax.random.key(0))
    )
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    seconds = repeat(partial(multiply, a, b))
    rates = spread([2 * side**3 / turn for turn in seconds])
    name = kind if kind == "bfloat16" else f"float32 {kind}"
    bench.limits[name] = rates["value"]
    yield Row(case=f"{side} x {side} {name}", figure="product", unit="FLOP/s", **rates)


def copy(bench: Bench) -> Iterator[Row]:
    """Bytes read and written a second, of an array that no cache holds."""
    count = bench.pick(2**22, 2**25, 2**25) if runtime.on_cpu() else 2**29
    x = jnp.arange(count, dtype=jnp.float32)
    add = jax.jit(lambda x: x + 1)
    rates = spread([8 * count / turn for turn in repeat(partial(add, x), warmup=3)])
    bench.limits["copy"] = rates["value"]
    case = f"{4 * count / 2**20:.0f} MiB read, as much written"
    yield Row(case=case, figure="copy", unit="bytes/s", **rates)


def dispatch(bench: Bench) -> Iterator[Row]:
    """Seconds from a call of an empty program to its end, and of one call of many."""
    x = jnp.zeros(1)
    empty = jax.jit(lambda x: x + 1)
    alone = spread(repeat(partial(empty, x)))
    yield Row(case="one call, waited for", figure="dispatch", unit="seconds", **alone)

    def many():
        y = x
        for _ in range(_CALLS):
            y = empty(y)
        return y

    each = spread([turn / _CALLS for turn in repeat(many)])
    yield Row(
        case=f"one of {_CALLS} in a row", figure="dispatch", unit="seconds", **each
    )

    def scan(x):
        return lax.scan(lambda c, _: (jnp.cos(c), None), x, length=_CALLS)[0]

    inside = spread([turn / _CALLS for turn in repeat(partial(jax.jit(scan), x))])
    yield Row(
        case=f"one of {_CALLS} turns of a scan",
        figure="dispatch",
        unit="seconds",
        **inside,
    )


def streams(bench: Bench) -> Iterator[Row]:
    """What drawing a batch costs a step: the shuffle's rounds are a loop."""
    steps = 20

    def draw(key):
        def step(total, index):
            return total + epoch_indices(key, index, 256, 60_000).sum(), None

        indices = jnp.arange(steps, dtype=jnp.int32)
        return lax.scan(step, jnp.int32(0), indices)[0]

    seconds = repeat(partial(jax.jit(draw), jax.random.key(0)))
    each = spread([turn / steps for turn in seconds])
    yield Row(
        case="256 of 60,000, in a scan", figure="index stream", unit="seconds", **each
    )
