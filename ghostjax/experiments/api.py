"""Experiments from Python: `ghostjax.run` and `ghostjax.sweep`."""

from pathlib import Path

from rich.console import Console

from ghostjax.config import Config, grid
from ghostjax.experiments import comparison

__all__ = ["run", "sweep"]


def run(config: Config, output: str | Path = "runs", quiet: bool = False) -> Path:
    """Runs an experiment, or continues it, or finds it finished; gives its folder."""
    (folder,) = comparison.with_reports(
        [config], (), Path(output), Console(quiet=quiet)
    )
    return folder


def sweep(plan: grid.Sweep, output: str | Path = "runs", quiet: bool = False) -> Path:
    """Runs every member of a sweep and compares them; gives the comparison's page."""
    return comparison.compare(plan, Path(output), Console(quiet=quiet))
