"""Thousands of targets in constant memory: an attack's `invert` piece by piece."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax import interrupt, runtime
from ghostjax.base import Attack, Features, Inversion, Key, per_target
from ghostjax.fields import Hyper
from ghostjax.training import parallel

__all__ = ["CHUNK", "in_chunks", "most", "require_finite"]

CHUNK = 256  # targets inverted at once on a CPU
_WIDE = 2048  # on an accelerator so many are tried; it pays to reckon from there
_UNIT, _MOST = 64, 16384  # targets that memory is reckoned in, and at most


def in_chunks(
    attack: Attack, at_once: int | None = None, say: Callable[[str], None] = print
) -> Attack:
    """`attack` with at most `at_once` targets in memory.

    Where a chunk does not fit the device's memory nevertheless it is halved, `say` is
    told, and the search goes on from the targets that are not done yet.

    Args:
      attack: any; its `invert` treats targets independently of each other.
      at_once: how many targets, at least 1; None: 256 on a CPU; elsewhere 2,048 on each
        device of `parallel.now()`, or where there are more, as many as fit; see `most`.
      say: a sink for lines.

    Returns:
      The attack; inversions are joined along the targets. Each target keeps its own
      values of `hyper`, where those are arrays [B].

    Raises:
      ValueError: when called: features that are not finite; a single target that does
        not fit the memory.
    """

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        require_finite(features)
        count = len(features)
        hyper = per_target(hyper, count)
        now = at_once or _usual(attack, params, key, features, hyper)
        done, start = [], 0
        while start < count:
            interrupt.check()
            end = min(start + now, count)
            arguments = features[start:end], _rows(hyper, start, end)
            try:
                part_key = jax.random.fold_in(key, start)
                part = attack.invert(params, part_key, *arguments)
                done.append(jax.block_until_ready(part))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                if now == 1:
                    raise ValueError(
                        f"one target of features {features.shape[1:]} does not fit the "
                        "device's memory: cut later, or use a smaller solver"
                    ) from error
                now = (end - start) // 2 or 1
                say(
                    f"{attack.name}: out of memory; going on with {now} targets at once"
                )
                continue
            start = end
        return done[0] if len(done) == 1 else _joined(done)

    return attack._replace(invert=invert)


def most(
    attack: Attack, params: Any, key: Key, features: Features, hyper: Hyper, limit: int
) -> int:
    """How many targets fit `limit` bytes, a power of two from 64 to 16,384.

    On an accelerator: what a CPU runs step by step is no single program.

    Args:
      attack: its `invert` is compiled for 64 and for 128 targets, and not run; see
        `parallel.fitting`.
      params, key: what it is called with.
      features: [B, ...]; only their shape counts.
      hyper: leaves [B].
      limit: of one device.

    Returns:
      The number; 2,048 for an attack that cannot be compiled as a whole.
    """
    parts = features, hyper
    try:
        one = jax.tree.map(lambda leaf: _like(leaf, (1, *leaf.shape[1:])), parts)
        known = jax.tree.map(lambda leaf: _like(leaf, np.shape(leaf)), (params, key))
        leaves, form = jax.tree.flatten((*known, one))
        return _most(attack.invert, form, tuple(leaves), limit)
    except (TypeError, jax.errors.JaxRuntimeError):  # on the host, or too large
        return _WIDE


def _like(leaf: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.typeof(leaf).dtype)


@lru_cache(maxsize=64)
def _most(
    invert: Callable[..., Inversion], form: Any, shapes: tuple[Any, ...], limit: int
) -> int:
    """`most`, by shapes: equal ones are compiled once."""

    def peak(units: int) -> int:
        def sized(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((units * _UNIT, *leaf.shape[1:]), leaf.dtype)

        params, key, targets = jax.tree.unflatten(form, shapes)
        arguments = params, key, *jax.tree.map(sized, targets)
        return parallel.needed(jax.jit(invert).lower(*arguments))

    units = parallel.fitting(peak, limit, _MOST // _UNIT)
    return _UNIT << units.bit_length() - 1


def _usual(
    attack: Attack, params: Any, key: Key, features: Features, hyper: Hyper
) -> int:
    """Targets at once where nobody says how many."""
    if runtime.on_cpu():
        return CHUNK
    devices, limit = max(len(parallel.now()), 1), parallel.memory()
    if limit is None or len(features) <= _WIDE * devices:
        return _WIDE * devices
    return devices * most(attack, params, key, features, hyper, limit)


def require_finite(features: Features) -> None:
    """Raises ValueError where there is no target, or names the first with a NaN or an
    infinity."""
    if not len(features):
        raise ValueError(
            f"features have shape {features.shape}: give one target at least"
        )
    bad = np.asarray(_not_finite(features))
    if bad.any():
        raise ValueError(
            f"features of target {int(bad.argmax())} are not finite: nothing can be "
            "inverted; look at what the defense adds"
        )


def _rows(hyper: Hyper, start: int, end: int) -> Hyper:
    return jax.tree.map(lambda leaf: leaf[start:end], hyper)


@jax.jit  # one program, where each leaf would be one
def _joined(parts: list[Inversion]) -> Inversion:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@jax.jit
def _not_finite(features: Features) -> Array:
    """[B], which targets are not."""
    return ~jnp.isfinite(features).reshape(len(features), -1).all(1)
