"""Runs a step n times, the way the hardware likes it.

On CPU the jitted step is called from a Python loop: XLA runs a convolution inside
`scan` 2 to 3 times slower there (jax issue 12868). On accelerators the loop is one
compiled `scan`. Both give the same numbers to float32 rounding. This file owns that
choice; nothing else in ghostjax loops over steps.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ghostjax import runtime

Carry = TypeVar("Carry")
Step = Callable[..., tuple[Any, Any]]


def run(
    step: Step,
    carry: Carry,
    steps: int,
    *constants: Any,
    start: int = 0,
    scanned: bool | None = None,
) -> tuple[Carry, Any]:
    """Runs `carry, out = step(carry, index, *constants)` for `steps` indices.

    Args:
      step: a pure function; pass the same object again to reuse the compiled program.
      carry: a pytree of arrays; copied, so the caller's arrays stay valid.
      steps: how many, static.
      constants: pytrees the step reads (data, frozen variables, traced rates).
      start: the first index; a resumed run passes the steps already done.
      scanned: one compiled scan (True) or a Python loop of jitted steps (False); by
        default the scan everywhere but on CPU. Inside jit or pmap pass True.

    Returns:
      The last carry and the outputs stacked along a leading axis [steps, ...].
    """
    scanned = not runtime.on_cpu() if scanned is None else scanned
    carry = _copied(carry)
    # Under vmap the first carry has no run axis yet: its buffers cannot be reused.
    leaves = jax.tree.leaves((carry, constants))
    donate = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if scanned:
        return _scanned(step, steps, donate)(carry, jnp.int32(start), constants)
    one, outputs = _stepped(step, donate), []
    for index in range(start, start + steps):
        carry, out = one(carry, index, *constants)
        outputs.append(out)
    return carry, jax.tree.map(_stack if donate else _traced_stack, *outputs)


@jax.jit  # one program for the whole carry, where each leaf would be one
def _copied(carry: Carry) -> Carry:
    return jax.tree.map(jnp.copy, carry)


def _stack(*leaves: jax.Array) -> jax.Array:
    # On the host: XLA compiles a stack of 28,000 arrays for minutes, in gigabytes.
    return jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves]))


def _traced_stack(*leaves: jax.Array) -> jax.Array:
    return jnp.stack(leaves)


@lru_cache(maxsize=64)
def _stepped(step: Step, donate: bool) -> Step:
    return jax.jit(step, donate_argnums=0 if donate else ())


@lru_cache(maxsize=64)
def _scanned(step: Step, steps: int, donate: bool) -> Callable[..., Any]:
    def whole(carry, start, constants):
        indices = start + jnp.arange(steps, dtype=jnp.int32)
        return lax.scan(lambda c, i: step(c, i, *constants), carry, indices)

    return jax.jit(whole, donate_argnums=0 if donate else ())
