"""Runs a step n times, the way the hardware likes it.

On CPU the jitted step is called from a Python loop: XLA runs a convolution inside
`scan` 2 to 3 times slower there (jax issue 12868). On accelerators the loop is one
compiled `scan`. Both give the same numbers to float32 rounding. This file owns that
choice; nothing else in ghostjax loops over steps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ghostjax import interrupt, runtime
from ghostjax.training import parallel

__all__ = ["Carry", "Halted", "Step", "run", "run_spread"]

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

    Raises:
      Halted: between two steps, where the user asks for it; a scan always ends.
    """
    scanned = not runtime.on_cpu() if scanned is None else scanned
    held = _Held(step)
    # Under vmap the first carry has no run axis yet: its buffers cannot be reused.
    leaves = jax.tree.leaves((carry, constants))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if scanned:
        together = _scanned_anew if traced else _scanned
        return together(held, steps, _copied(carry), jnp.int32(start), constants)
    carry = _copied(carry)
    one, outputs = _stepped_anew if traced else _stepped, []
    stepping = _Stepping()
    for index in range(start, start + steps):
        carry, out = one(held, carry, index, constants)
        outputs.append(out)
        if not traced and stepping.ends(outputs):
            raise Halted((carry, jax.tree.map(_stack, *outputs)))
    return carry, jax.tree.map(_traced_stack if traced else _stack, *outputs)


class Halted(interrupt.Stopped):
    """A loop that was stopped between two steps.

    Args:
      ended: (carry, outputs) of the steps that are done, one at least, as the loop
        would have returned them.
    """

    def __init__(self, ended: tuple[Any, Any]):
        super().__init__(interrupt.received())
        self.ended = ended


class _Stepping:
    """What is looked at between steps on the host."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def ends(self, outputs: list[Any]) -> bool:
        """Whether the last of these is to be the last.

        jax lets the host be dozens of steps ahead, all of which would have to end after
        a signal: where they are slow, one of the last is waited for.
        """
        mean = (time.monotonic() - self._began) / len(outputs)
        if mean > _SLOW and len(outputs) > _AHEAD:
            jax.block_until_ready(outputs[-_AHEAD])
        if not interrupt.asked():
            return False
        jax.block_until_ready(outputs[-1])
        return True


_SLOW, _AHEAD = 0.05, 4  # seconds of a step, and steps


def run_spread(
    devices: parallel.Devices,
    step: Step,
    carry: Carry,
    indices: range,
    *constants: Any,
) -> tuple[Carry, Any]:
    """`run` on several devices, each of which has its own part.

    Args:
      devices: which.
      step: as for `run`.
      carry: leaves [devices, ...], from `parallel.spread`.
      indices: consecutive ones.
      constants: leaves [devices, ...], of `parallel.spread` or `parallel.replicate`.

    Returns:
      The last carry, [devices, ...], and outputs [steps, devices, ...], on the host.

    Raises:
      Halted: as `run`.
    """
    held = _Held(step)
    axes = 0, None, 0
    if not runtime.on_cpu():
        together = parallel.mapped(_All(held, len(indices)), axes, devices)
        carry, out = together(carry, np.int32(indices.start), constants)
        return carry, jax.tree.map(lambda x: np.asarray(x).swapaxes(0, 1), out)
    one, outputs = parallel.mapped(_One(held), axes, devices), []
    stepping = _Stepping()
    for index in indices:
        carry, out = one(carry, np.int32(index), constants)
        outputs.append(out)
        if stepping.ends(outputs):
            raise Halted((carry, jax.tree.map(_stacked, *outputs)))
    return carry, jax.tree.map(_stacked, *outputs)


def _stacked(*leaves: jax.Array) -> np.ndarray:
    return np.stack([np.asarray(leaf) for leaf in leaves])


@jax.jit  # one program for the whole carry, where each leaf would be one
def _copied(carry: Carry) -> Carry:
    return jax.tree.map(jnp.copy, carry)


def _stack(*leaves: jax.Array) -> jax.Array:
    # On the host: XLA compiles a stack of 28,000 arrays for minutes, in gigabytes.
    return jax.device_put(_stacked(*leaves))


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


@dataclass(frozen=True)
class _One:
    """A step on one of several devices; equal ones share a program."""

    held: _Held

    def __call__(self, carry: Any, index: Any, constants: tuple[Any, ...]) -> Any:
        return _one(self.held, carry, index, constants)


@dataclass(frozen=True)
class _All:
    """All steps on one of several devices."""

    held: _Held
    steps: int

    def __call__(self, carry: Any, start: Any, constants: tuple[Any, ...]) -> Any:
        return _all(self.held, self.steps, carry, start, constants)


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
