"""Thousands of targets in constant memory: an attack's `invert` piece by piece."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax import runtime
from ghostjax.base import Attack, Features, Inversion, Key, per_target
from ghostjax.fields import Hyper
from ghostjax.training import parallel

__all__ = ["CHUNK", "in_chunks", "require_finite"]

CHUNK = 256  # targets inverted at once on a CPU
_WIDE = 2048  # on every accelerator; halved where that does not fit


def in_chunks(
    attack: Attack, at_once: int | None = None, say: Callable[[str], None] = print
) -> Attack:
    """`attack` with at most `at_once` targets in memory.

    Where a chunk does not fit the device's memory it is halved, `say` is told, and the
    search goes on from the targets that are not done yet.

    Args:
      attack: any; its `invert` treats targets independently of each other.
      at_once: how many targets, at least 1; None: 256 on a CPU, 2048 on each device
        of `parallel.now()` elsewhere.
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
        usual = CHUNK if runtime.on_cpu() else _WIDE * max(len(parallel.now()), 1)
        done, start, now = [], 0, at_once or usual
        while start < count:
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


def require_finite(features: Features) -> None:
    """Raises ValueError that names the first target with a NaN or an infinity."""
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
