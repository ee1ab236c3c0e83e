"""How a plan is run, and what became of its members. Imports no jax."""

from pathlib import Path
from typing import NamedTuple

from ghostjax.training.strategies import Strategy

__all__ = ["Failed", "Failure", "Outcome", "Ways"]


class Ways(NamedTuple):
    """How a plan is run. None of it is part of a result."""

    strategy: Strategy | None = None
    """How several members are trained, see `training.members`; None: what the backend
    runs fastest."""
    at_once: int | None = None
    """Members trained in step, at most; None: as many as fit."""
    devices: int | None = None
    """Local devices that members, targets and batches are spread over; None: all."""
    retry_failed: bool = False
    """Whether members that have failed before are run again."""


class Failure(NamedTuple):
    """A member that has no row."""

    title: str
    line: str  # why


class Outcome(NamedTuple):
    """What became of the members of a plan."""

    folders: list[Path]  # of those that have a row, in order
    places: list[int]  # which members they are
    failures: list[Failure]

    def require_all(self) -> None:
        """Refuses an outcome with failures.

        Raises:
          Failed: lists them.
        """
        if self.failures:
            count = len(self.failures) + len(self.folders)
            lines = [f"  {one.title}: {one.line}" for one in self.failures]
            raise Failed(
                "\n".join([f"{len(lines)} of {count} members have failed:", *lines])
            )


class Failed(Exception):
    """Some members have failed; the others have their rows."""
