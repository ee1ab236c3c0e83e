"""Runs a step n times, the way the hardware likes it.

On CPU the jitted step is called from a Python loop: XLA runs a convolution inside
`scan` 2 to 3 times slower there (jax issue 12868). On accelerators the loop is one
compiled `scan`. Both give the same numbers to float32 rounding. This file owns that
choice; nothing else in ghostjax loops over steps.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ghostjax import runtime

__all__ = ["Carry", "Step", "run"]

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
      step: a pure function, hashable; equal ones share the compiled program.
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
    held = _Held(step)
    # Under vmap the first carry has no run axis yet: its buffers cannot be reused.
    leaves = jax.tree.leaves((carry, constants))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if scanned:
        whole = _scanned_anew if traced else _scanned
        return whole(held, steps, _copied(carry), jnp.int32(start), constants)
    carry = _copied(carry)
    one, outputs = _stepped_anew if traced else _stepped, []
    for index in range(start, start + steps):
        carry, out = one(held, carry, index, constants)
        outputs.append(out)
    return carry, jax.tree.map(_traced_stack if traced else _stack, *outputs)


@jax.jit  # one program for the whole carry, where each leaf would be one
def _copied(carry: Carry) -> Carry:
    return jax.tree.map(jnp.copy, carry)


def _stack(*leaves: jax.Array) -> jax.Array:
    # On the host: XLA compiles a stack of 28,000 arrays for minutes, in gigabytes.
    return jax.device_put(np.stack([np.asarray(leaf) for leaf in leaves]))


def _traced_stack(*leaves: jax.Array) -> jax.Array:
    return jnp.stack(leaves)


class _Held:
    """A step that is hashed once, not at every call."""

    __slots__ = ("_hash", "step")

    def __init__(self, step: Step):
        self.step, self._hash = step, hash(step)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Held):
            return NotImplemented
        return self.step is other.step or self.step == other.step


def _one(held: _Held, carry: Any, index: Any, constants: tuple[Any, ...]) -> Any:
    return held.step(carry, index, *constants)


def _all(
    held: _Held, steps: int, carry: Any, start: jax.Array, constants: tuple[Any, ...]
) -> Any:
    indices = start + jnp.arange(steps, dtype=jnp.int32)
    return lax.scan(lambda c, i: held.step(c, i, *constants), carry, indices)


# jit's own cache keeps a program for each step: equal steps share it.
_stepped = jax.jit(_one, static_argnums=0, donate_argnums=1)
_stepped_anew = jax.jit(_one, static_argnums=0)
_scanned = jax.jit(_all, static_argnums=(0, 1), donate_argnums=2)
_scanned_anew = jax.jit(_all, static_argnums=(0, 1))
