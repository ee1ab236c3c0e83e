"""Experiments from Python: `ghostjax.run` and `ghostjax.sweep`."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pyarrow

from ghostjax import files, runtime, terminal
from ghostjax.config import grid
from ghostjax.config.named import locate
from ghostjax.config.sections import Config, OwnTarget
from ghostjax.data import Dataset
from ghostjax.experiments import comparison
from ghostjax.experiments.plan import renamed
from ghostjax.experiments.ways import Ways
from ghostjax.names import require, unknown
from ghostjax.own import EDGE, OwnDefense
from ghostjax.records import AttackRecord, DefenseRecord, Member, StegoRecord
from ghostjax.registry import FAMILIES

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Members", "run", "sweep"]

_USUAL = Ways()


class Members(TypedDict, total=False):
    """What takes the place of a config's own."""

    network: OwnTarget
    """From `own.network`: a trained network, whose edge is cut off as it is."""
    stego: StegoRecord
    defense: DefenseRecord
    attack: AttackRecord
    denoise: AttackRecord
    data: Dataset
    """From `data.from_arrays` or `data.from_folder`, or any other in memory."""


def run(
    config: Config | str | Path,
    output: str | Path = "runs",
    quiet: bool = False,
    **members: Unpack[Members],
) -> Path:
    """Runs an experiment, or continues it, or finds it finished.

      ghostjax.run("digits")
      ghostjax.run("digits", defense=Noise(level=2.0), quiet=True)
      ghostjax.run("my.toml", attack=own.attack("mean", mean, needs=("public_images",)))

    It does what `ghostjax run` does: row, controls and report come of it, trained parts
    are shared with other runs in the same output folder, and jax is set up as by
    `runtime.configure`, which comes before the first computation.

    Args:
      config: a `config.Config`; the path of a TOML file; or the name of a config that
        comes with ghostjax (`ghostjax configs` lists them).
      output: folder of run folders.
      quiet: print nothing.
      members: `data=` takes the place of the config's data set: see `ghostjax.data`.
        `network=`, `stego=`, `defense=`, `attack=`, `denoise=` take the place of the
        config's: a record, as in `ghostjax.defenses.records` and
        `ghostjax.attacks.records`, one of your own (`registry.add`), or what
        `ghostjax.own` gives for functions. A record is taken as it is: its `cut` too,
        but that of `own.defense` is the config's where it says none, and with a
        `network` of your own the cut is where its halves meet.

    Returns:
      The run folder, `OUTPUT/<name>-<hash>`, with config.toml, row.parquet, row.csv,
      report.html and pictures. `ghostjax.report.folder.read_row(folder)` gives the row,
      name -> value: accuracies in percent, PSNR in dB.

    Raises:
      ValueError: anything that cannot be done, before a file is written; a config of
        many experiments, which `ghostjax.sweep` runs.
    """
    chosen = _replaced(_config(config), members)
    runtime.configure()
    outcome = comparison.with_reports(
        [chosen], (), Path(output), _console(quiet), members.get("data")
    )
    return outcome.folders[0]


def sweep(
    plan: grid.Sweep | str | Path,
    output: str | Path = "runs",
    quiet: bool = False,
    ways: Ways = _USUAL,
    **members: Unpack[Members],
) -> pyarrow.Table:
    """Runs every member of a sweep and compares them.

      rows = ghostjax.sweep("noise_mnist")
      rows.select(["defense.level", "accuracy_all"]).to_pylist()

    Args:
      plan: a `config.grid.Sweep`; the path of a TOML file with `[sweep]` or
        `[[variants]]`; or the name of one that comes with ghostjax.
      output: folder of run folders.
      quiet: print nothing.
      ways: strategy, devices and so on: `experiments.ways.Ways`.
      members: as for `run`, in the place of every experiment's own; where the plan
        varies `seeds`, seeds of theirs that are not stated follow.

    Returns:
      The result rows, one a member, in the order of the plan: the columns that
      `ghostjax report --help-columns` lists, `folder` among them, the member's run
      folder. What a defense says of itself has label and unit in its field's metadata.
      The comparison's page is `OUTPUT/<name>-sweep-<hash>/report.html`, whose path is
      `rows.schema.metadata[b"page"].decode()`; comparison.parquet and comparison.csv
      beside it hold the same rows.

    Raises:
      ValueError: anything that cannot be done, before a file is written; experiments
        made equal.
      experiments.ways.Failed: some members have failed; the others have their rows and
        are compared.
    """
    if not isinstance(plan, grid.Sweep):
        plan = grid.load(locate(plan))
    replaced = [_replaced(member, members) for member in plan.members]
    plan = grid.changed(plan, replaced)
    require("name of the sweep", plan.name)
    runtime.configure()
    data = members.get("data")
    page = comparison.compare(plan, Path(output), _console(quiet), data, ways)
    rows = files.read_parquet(page.with_name("comparison.parquet"))
    return rows.replace_schema_metadata({"page": str(page)})


def _console(quiet: bool) -> "Console":
    """Where a run says how far it is, and which never ends it."""
    return terminal.console(terminal.Stream(sys.stdout, lasting=True), quiet)


def _config(config: Config | str | Path) -> Config:
    if isinstance(config, Config):
        return config
    path = locate(config)
    plan = grid.load(path)
    if len(plan.members) > 1:
        raise ValueError(
            f"{path} holds {len(plan.members)} experiments: ghostjax.sweep runs them"
        )
    return plan.members[0]


_OTHERS = {"network": OwnTarget, "data": Dataset}  # that are no members of a family


def _require(key: str, value: Any) -> None:
    """Refuses what cannot take the place that a keyword names."""
    if key not in (*_OTHERS, *FAMILIES):
        raise ValueError(unknown("keyword", key, (*_OTHERS, *FAMILIES)))
    if key in _OTHERS:
        if not isinstance(value, _OTHERS[key]):
            door = "data.from_arrays" if key == "data" else "own.network"
            kind = type(value).__name__
            raise ValueError(f"{key} is a {kind}: give what ghostjax.{door} gives")
        return
    row = FAMILIES[key].get(value.name) if isinstance(value, Member) else None
    if row is None or row.record is not type(value):
        raise ValueError(
            f"{key} = {value!r}: give the record of a registered {key}, or what "
            "ghostjax.own gives"
        )


def _replaced(config: Config, members: Mapping[str, Any]) -> Config:
    """The config with members in the place of its own."""
    for key, value in members.items():
        _require(key, value)
    if "data" in members:
        config = renamed(config, members["data"])
    changes = {k: v for k, v in members.items() if k not in ("network", "data")}
    changed = replace(config, **changes)
    defense, cut = changed.defense, changed.defense.cut
    if isinstance(defense, OwnDefense) and not cut:
        cut = config.defense.cut
    if "network" in members:
        changed, cut = replace(changed, target=members["network"]), EDGE
    return replace(changed, defense=replace(defense, cut=cut))
