"""What a section is, and what it may know."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ghostjax import runtime
from instrument.report import Row


class Case(NamedTuple):
    """One thing to measure."""

    name: str
    measure: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Bench:
    """The options of a run, and the limits of the device once they are known."""

    size: str  # "small": for tests; "core"; "full"
    limits: dict[str, float]  # FLOP/s of products and bytes/s of copies, by name
    out_of_time: Callable[[], bool]  # asked between the parts of a long case

    def pick(self, small, core, full):
        """The choice of this run's size."""
        return {"small": small, "core": core, "full": full}[self.size]

    @property
    def precisions(self) -> tuple[str, ...]:
        """Of float32 products; a CPU has one."""
        if runtime.on_cpu():
            return ("highest",)
        return self.pick(
            ("highest", "default"),
            ("highest", "default"),
            ("highest", "high", "default"),
        )


class Section(NamedTuple):
    """Measures one thing that accelerators are for."""

    name: str
    title: str
    weight: float  # of its share in the time
    cases: Callable[[Bench], Iterator[Case]]
