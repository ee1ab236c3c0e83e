"""The only file that names devices: runs or targets spread over them by `jax.pmap`.

`over_runs` and `over_batch` put the leading axis on devices; a count that does not
divide by the number of devices is padded by repeating the last entry, and the padding
is cut off again. With one device they are a plain vmap (or call) and give the same
numbers.
"""

import os
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["about", "one_device", "over_batch", "over_runs"]


def one_device() -> jax.sharding.Sharding:
    """Where arrays of one device's programs lie."""
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def about() -> str:
    """The devices of this process in words."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"cpu ({os.cpu_count()} cores)"
    return f"{device.platform} ({device.device_kind}, {jax.device_count()} devices)"


def over_runs(
    run: Callable[..., Any],
    runs: Any,
    *shared: Any,
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """`run(one, *shared)` for each of `runs`, a device taking several by vmap.

    Args:
      run: pure function of one run's arrays (a key, a learning rate, …), such as
        `fit.fit` with `scanned=True`.
      runs: pytree whose leaves have a leading axis [runs].
      shared: pytrees that all runs read (data); placed on every device once.
      devices: defaults to all local ones.

    Returns:
      The results stacked [runs, ...].
    """

    def several(some: Any, *common: Any) -> Any:
        return jax.vmap(lambda one: run(one, *common))(some)

    return over_batch(several, runs, *shared, devices=devices)


def over_batch(
    function: Callable[..., Any],
    batch: Any,
    *shared: Any,
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """`function(part, *shared)` on an equal part of `batch` per device.

    Args:
      function: pure function of a batch, each entry independent of the others (an
        attack's `invert`, an evaluation).
      batch: pytree whose leaves have a leading axis [n].
      shared: pytrees every device reads.
      devices: defaults to all local ones.

    Returns:
      The results, leading axis [n].
    """
    devices = list(devices or jax.local_devices())
    count = jax.tree.leaves(batch)[0].shape[0]
    size = ceil(count / len(devices))
    padding = size * len(devices) - count

    def place(leaf: jax.Array) -> jax.Array:
        padded = jnp.concatenate([leaf, jnp.repeat(leaf[-1:], padding, 0)])
        return padded.reshape(len(devices), size, *leaf.shape[1:])

    axes = (0, *(None for _ in shared))
    mapped = jax.pmap(function, in_axes=axes, devices=devices)
    out = mapped(jax.tree.map(place, batch), *shared)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], out)
