"""Programs compiled ahead of time, with what they cost, and how long they take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import timing
from jax import lax

from ghostjax import runtime
from instrument.flops import flops
from instrument.report import Row, spread

_SECONDS = 0.4  # of timed turns, about
_TURNS = 3, 15  # at least, at most


@dataclass(frozen=True)
class Cost:
    """Of one step; 0 where it is not known."""

    flops: float  # of products and convolutions, as `flops` counts them
    bytes: float  # between the compiled step's kernels; they may come from caches

    def times(self, steps: float) -> "Cost":
        return Cost(steps * self.flops, steps * self.bytes)


class Program:
    """`steps` steps of `state, out = step(state, index, *constants)`.

    Args:
      step: as for `loop.run`.
      state: copied.
      constants: what the step reads.
      steps: to one call.
      scanned: one compiled scan, or a Python loop of compiled steps; by default what
        `loop.run` takes on this backend.
      donate: hand the state's buffers to the program.

    Attributes:
      compile_seconds: lowering and compiling.
      cost: of one step.
      memory: peak bytes of arguments, results and temporaries.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        state: Any,
        *constants: Any,
        steps: int,
        scanned: bool | None = None,
        donate: bool = True,
    ):
        self.scanned = not runtime.on_cpu() if scanned is None else scanned
        self.steps, self.constants, self.donate = steps, constants, donate
        self.state = jax.tree.map(jnp.copy, state)
        self.index = 0

        def several(state, start, *constants):
            def one(carry, index):
                return step(carry, index, *constants)

            return lax.scan(one, state, start + jnp.arange(steps, dtype=jnp.int32))

        def single(state, index, *constants):  # new, so that no program is found ready
            return step(state, index, *constants)

        body = several if self.scanned else single
        jitted = jax.jit(body, donate_argnums=0 if donate else ())
        began = time.perf_counter()
        lowered = jitted.lower(self.state, jnp.int32(0), *constants)
        self.compiled = lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        # XLA counts a scan's body once, so these are one step's bytes in either form.
        index = jnp.int32(0)
        count = flops(step, self.state, index, *constants)
        self.cost = Cost(count, moved(self.compiled))
        self.memory = memory(self.compiled)

    def __call__(self) -> Any:
        state, out = self.state, None
        for _ in range(1 if self.scanned else self.steps):
            state, out = self.compiled(state, jnp.int32(self.index), *self.constants)
            self.index += self.steps if self.scanned else 1
        self.state = state
        return out

    def seconds(self) -> list[float]:
        """Of one step, in several timed turns."""
        return [turn / self.steps for turn in repeat(self)]


def moved(compiled: Any) -> float:
    """Bytes that a compiled program's kernels read and write, as XLA counts them."""
    return float((compiled.cost_analysis() or {}).get("bytes accessed", 0))


def memory(compiled: Any) -> int:
    """Bytes that a compiled program needs at once."""
    stats = compiled.memory_analysis()
    if stats is None:
        return 0
    return int(
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )


def repeat(program: Callable[[], Any], warmup: int = 1) -> list[float]:
    """Seconds of each of several calls, after `warmup` and one that sets their number.

    The number shrinks with the time of one call.
    """
    for _ in range(warmup):
        jax.block_until_ready(program())
    began = time.perf_counter()
    jax.block_until_ready(program())
    once = time.perf_counter() - began
    turns = min(max(int(_SECONDS / max(once, 1e-6)), _TURNS[0]), _TURNS[1])
    return timing.interleaved({"": program}, turns=turns, warmup=0)[""]


class Rate(NamedTuple):
    """What a program gets done in one step, and at what price."""

    items: float
    unit: str  # of a second's items
    price: Cost
    arithmetic: str = "float32 highest"  # the name of the limit on FLOPs


def throughput(
    case: str, figure: str, rate: Rate, seconds: list[float], limits: dict[str, float]
) -> Row:
    """Items a second, as a share of the device's limit that is nearest.

    Args:
      case, figure: of the row.
      rate: of one step.
      seconds: of one step, several times.
      limits: FLOP/s and bytes/s, by name.
    """
    values = spread([rate.items / turn for turn in seconds])
    step, price = rate.items / values["value"], rate.price
    shares = {
        name: amount / step / limits[name]
        for name, amount in ((rate.arithmetic, price.flops), ("copy", price.bytes))
        if limits.get(name)
    }
    nearest = max(shares, key=shares.get, default="")
    share, note = shares.get(nearest), ""
    if share is not None and share > 1:
        note = "data in a cache" if nearest == "copy" else "a faster algorithm"
    return Row(
        case=case,
        figure=figure,
        unit=rate.unit,
        limit=nearest,
        share=share,
        note=note,
        **values,
    )
