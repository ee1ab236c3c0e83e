"""Who breaks which contract, in one line; and how results are compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.records import Member

__all__ = [
    "Judge",
    "compiled",
    "difference",
    "equal",
    "host",
    "judge_of",
    "require_equal",
]


class Judge(NamedTuple):
    """Says whose contract is broken, in one line."""

    family: str
    name: str
    steps: int  # of every training

    def require(self, good: bool, contract: str, words: str) -> None:
        """Raises AssertionError unless `good`."""
        if not good:
            raise self.error(contract, words)

    def error(self, contract: str, words: str) -> AssertionError:
        """The error, with the first line of `words`."""
        line = words.strip().partition("\n")[0]
        return AssertionError(f"{self.family} {self.name!r} breaks {contract}: {line}")

    @contextmanager
    def keeping(
        self, contract: str, doing: str, *refusals: type[Exception]
    ) -> Iterator[None]:
        """Whatever fails inside breaks the contract, but what the member refuses."""
        passed: tuple[type[Exception], ...] = (AssertionError, *refusals)
        try:
            yield
        except passed:
            raise
        except Exception as error:
            words = f"{doing} fails: {type(error).__name__}: {error}"
            raise self.error(contract, words) from error


def judge_of(family: str, record: Any, cls: type[Member], steps: int) -> Judge:
    if not isinstance(record, cls):
        raise ValueError(f"record = {record!r}: give an instance of a {cls.__name__}")
    if steps < 0:
        raise ValueError(f"steps = {steps}: must be 0 or more")
    return Judge(family, record.name, steps)


@contextmanager
def compiled() -> Iterator[list[str]]:
    """Yields a list that gets the name of every program that is compiled inside, or
    read from the cache on disk."""
    programs: list[str] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(str(about.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def require_equal(
    judge: Judge, contract: str, words: str, first: Any, second: Any
) -> None:
    """To the bit; says by how much they differ."""
    with judge.keeping(contract, f"comparing ({words})"):
        first, second = host(first), host(second)
    if not equal(first, second):
        raise judge.error(contract, f"{words}{difference(first, second)}")


def equal(first: Any, second: Any) -> bool:
    """Whether two pytrees have the same structure, types and numbers."""
    first, second = host(first), host(second)
    return _structure(first) == _structure(second) and all(
        one.dtype == two.dtype
        and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
        for one, two in zip(*map(jax.tree.leaves, (first, second)), strict=True)
    )


def difference(first: Any, second: Any) -> str:
    """Words: by how much the numbers of two pytrees differ at most."""
    if _structure(first) != _structure(second):
        return " (of another structure)"
    pairs = list(zip(*map(jax.tree.leaves, (first, second)), strict=True))
    if any(one.shape != two.shape or one.dtype != two.dtype for one, two in pairs):
        return " (of other shapes or types)"
    sizes = [
        np.abs(one.astype(float) - two.astype(float)).max(initial=0)
        for one, two in pairs
        if one.dtype.kind in "fiub"
    ]
    return f" (by up to {max(sizes, default=0):.3g})"


def host(tree: Any) -> Any:
    """A copy whose leaves are NumPy arrays."""
    return jax.tree.map(_copied, tree)


def _copied(leaf: Any) -> np.ndarray:
    if isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.array(leaf)


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)
