"""Thousands of targets in constant memory: an attack's `invert` piece by piece."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.base import Attack, Key

CHUNK = 256  # targets inverted at once


def in_chunks(
    attack: Attack, size: int = CHUNK, say: Callable[[str], None] = print
) -> Attack:
    """`attack` with at most `size` targets in memory at once.

    Where a chunk does not fit the device's memory it is halved, `say` is told, and the
    search goes on from the targets that are not done yet.

    Args:
      attack: any; its `invert` treats targets independently of each other.
      size: targets at once, at least 1.
      say: a sink for lines.

    Returns:
      The attack; images and traces are joined along the targets.

    Raises:
      ValueError: when called: features that are not finite; a single target that does
        not fit the memory.
    """

    def invert(params: Any, key: Key, features: Array) -> tuple[Array, Any]:
        require_finite(features)
        done, start, now = [], 0, size
        while start < len(features):
            part = features[start : start + now]
            try:
                one = attack.invert(params, jax.random.fold_in(key, start), part)
                done.append(jax.block_until_ready(one))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                if now == 1:
                    raise ValueError(
                        f"one target of features {features.shape[1:]} does not fit the "
                        "device's memory: cut later, or use a smaller solver"
                    ) from error
                now = min(now, len(part)) // 2 or 1
                say(
                    f"{attack.name}: out of memory; going on with {now} targets at once"
                )
                continue
            start += len(part)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *done)

    return attack._replace(invert=invert)


def require_finite(features: Array) -> None:
    """Raises ValueError that names the first target with a NaN or an infinity."""
    bad = ~jnp.isfinite(features).reshape(len(features), -1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"features of target {int(bad.argmax())} are not finite: nothing can be "
            "inverted; look at what the defense adds"
        )
