"""The only file that names devices: members or targets spread over them by `jax.pmap`.

What runs inside `on_devices` is spread: trainings of several members, the targets of a
search, the batches of an evaluation. The leading axis of what is spread is padded to a
multiple of the number of devices by repeating the last entry, and the padding is cut
off again. On one device nothing here changes a program or a number.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from math import ceil
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Devices",
    "about",
    "fitting",
    "join",
    "mapped",
    "memory",
    "needed",
    "now",
    "on_devices",
    "processors",
    "replicate",
    "require",
    "spread",
]

Devices = tuple[jax.Device, ...]
Tree = TypeVar("Tree")


def about() -> str:
    """The devices of this process in words."""
    device, count = jax.devices()[0], jax.device_count()
    if device.platform != "cpu":
        return f"{device.platform} ({device.device_kind}, {count} devices)"
    there, ours = os.cpu_count() or 1, processors()
    cores = f"{there} cores" if ours == there else f"{ours} of {there} cores"
    return f"cpu ({cores})" if count == 1 else f"cpu ({cores}, {count} devices)"


def processors() -> int:
    """How many of the machine's this process may use: XLA's threads, whose number
    decides on the order of sums."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require(count: int | None) -> Devices:
    """The first `count` local devices; None: all.

    Raises:
      ValueError: there are fewer.
    """
    local = jax.local_devices()
    if count is not None and not 1 <= count <= len(local):
        raise ValueError(
            f"--devices {count}: this machine has {len(local)} of kind "
            f"{local[0].platform}: give 1 to {len(local)}, or all"
        )
    return tuple(local[:count])


_DEVICES: ContextVar[Devices] = ContextVar("devices", default=())


def now() -> Devices:
    """What is spread is spread over these; () on one device."""
    return _DEVICES.get()


def memory() -> int | None:
    """Bytes that a device gives this process; None where it does not say, as CPUs."""
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit)


_USED = 0.85  # of a device's memory; the rest is left to what lies there besides


def fitting(peak: Callable[[int], int], limit: int, most: int) -> int:
    """How many units of work fit a device at once, from 1 to `most`.

    What a program holds is linear in their number, so two programs tell, of which
    nothing is run.

    Args:
      peak: `peak(units) -> bytes` that a program of so many units holds at once; called
        with 1 and 2.
      limit: bytes of one device.
      most: what is given at most.
    """
    one, two = peak(1), peak(2)
    slope = max(two - one, 1)
    units = _USED * (limit - (one - slope)) // slope
    return max(1, min(most, int(units)))


def needed(lowered: jax.stages.Lowered) -> int:
    """Bytes that a program holds at once: what it is given and gives, and what lies
    between; it is compiled and not run."""
    analysis: Any = lowered.compile().memory_analysis()
    parts = "argument", "output", "temp"
    return sum(getattr(analysis, f"{part}_size_in_bytes") for part in parts)


@contextmanager
def on_devices(devices: Devices) -> Iterator[None]:
    """Spreads what is done inside over devices, of `require`; one is none."""
    token = _DEVICES.set(devices if len(devices) > 1 else ())
    try:
        yield
    finally:
        _DEVICES.reset(token)


def spread(tree: Tree, devices: Devices) -> Tree:
    """Leaves [n, ...] as [devices, n / devices, ...], each part on its device."""

    def place(leaf: Any) -> Any:
        size = ceil(len(leaf) / len(devices))
        rows = np.minimum(np.arange(size * len(devices)), len(leaf) - 1)
        return leaf[rows].reshape(len(devices), size, *leaf.shape[1:])

    return jax.device_put(jax.tree.map(place, tree), _sharding(devices))


def replicate(tree: Tree, devices: Devices) -> Tree:
    """Leaves [...] as [devices, ...], a copy on each device."""

    def repeat(leaf: Any) -> Any:
        whole = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return _repeated(len(devices), whole)

    return jax.device_put(jax.tree.map(repeat, tree), _sharding(devices))


def join(tree: Tree, count: int, axis: int = 0) -> Tree:
    """Leaves [devices, n / devices, ...] as [count, ...] on the host.

    Args:
      tree: what a mapped function gave.
      count: how many entries are no padding.
      axis: where the axis of the devices is.
    """

    def flat(leaf: Any) -> Any:
        parts = _host(leaf)
        before, after = parts.shape[:axis], parts.shape[axis + 2 :]
        whole = parts.reshape(*before, -1, *after)
        return whole[(slice(None),) * axis + (slice(count),)]

    return jax.tree.map(flat, tree)


@lru_cache(maxsize=64)
def mapped(
    function: Callable[..., Any], axes: tuple[int | None, ...], devices: Devices
) -> Callable[..., Any]:
    """`function` on every device, kept: an equal one is not compiled anew.

    Args:
      function: pure and hashable.
      axes: for each argument 0, if its leaves have the axis of the devices, or None.
      devices: which.
    """
    return jax.pmap(function, in_axes=axes, devices=devices)


@lru_cache(maxsize=8)
def _sharding(devices: Devices) -> jax.sharding.Sharding:
    """A part of the leading axis on each device, as `jax.pmap` has it."""
    mesh = jax.sharding.Mesh(np.asarray(devices), ("devices",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))


@partial(jax.jit, static_argnums=0)
def _repeated(count: int, leaf: Any) -> Any:
    return jnp.stack([leaf] * count)


def _host(leaf: Any) -> Any:
    """On the host, keys included."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data)
    return np.asarray(leaf)
