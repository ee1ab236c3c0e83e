"""Many experiments from one config file, run one after another. Imports no jax.

A file with `[sweep]` or `[[variants]]` stands for every combination of them:

  [sweep]                                   # axes: dotted keys, each with its values
  "defense.level" = [0.0, 0.5, 1.0]
  attack = [{name = "rmle", preset = "authors"}, {name = "inverse"}]
  "*" = [{attack.name = "rmle", denoise.name = "cda"}, …]   # joint values of one axis
  [[variants]]                              # joint changes; `label` goes into the name
  label = "conv22"
  defense.cut = "conv22"
  attack.tv_weight = 10.0
  sweep."stego.bits" = [2, 3]               # axes of this variant alone, or in place of
                                            # the same axis of all

Variants come outermost, then the axes as stated, the last one changing fastest. Tables
are laid over the rest of the file as `extends` lays them: another `name` replaces its
section. Every member is an ordinary run that its own command could have made.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from ghostjax import config, tables
from ghostjax.sections import Config
from ghostjax.tables import Row, Table

_HIDDEN = {"accuracy_secret": "secrets", "control_constant_answer": "constant answer"}
_RESULTS = {
    "accuracy_all": "accuracy",
    "psnr_reconstruction_secret_mean": "PSNR",
    "ssim_reconstruction_secret_mean": "SSIM",
    "ssim_extracted_secret_mean": "SSIM, read out",
    "ssim_extracted_before_secret_mean": "SSIM, read out before denoising",
}
_JOINT = "*"  # the axis whose values are joint changes


class Sweep(NamedTuple):
    """The experiments of a config file."""

    name: str
    keys: tuple[str, ...]  # dotted, what the file varies; () for a single experiment
    members: tuple[Config, ...]


def load(path: Path) -> Sweep:
    """Reads a config file of one or many experiments, following `extends`.

    Raises:
      ValueError: what `config.load` refuses; axes or variants that are malformed,
        empty, or name an experiment twice.
    """
    tree, where = config.read(path), str(path)
    variants, axes = tree.pop("variants", None), tree.pop("sweep", None)
    if variants is None and axes is None:
        single = config.build(tree, where)
        return Sweep(single.name, (), (single,))
    joint = [("", {}, {})] if variants is None else _variants(variants, where)
    common = {} if axes is None else _axes(axes, where)
    members, keys = [], {}
    for label, patch, own_axes in joint:
        named = {**{k: v for k, v in own_axes.items() if k not in common}, **common}
        named |= own_axes
        patches = [[(key, value) for value in values] for key, values in named.items()]
        for chosen in itertools.product(*patches):
            own = [patch, *(_nested(key, value, where) for key, value in chosen)]
            leaves = {key: None for part in own for key, _ in _leaves(part)}
            keys |= leaves
            members.append(_member(tree, own, label, where))
    name = str(tree.get("name", Config.name))
    return Sweep(name, tuple(keys), distinct(members, tuple(keys)))


def distinct(members: Sequence[Config], keys: Sequence[str]) -> tuple[Config, ...]:
    """The members themselves.

    Raises:
      ValueError: two of them are the same experiment.
    """
    seen: dict[Config, int] = {}
    for place, member in enumerate(members, 1):
        first = seen.setdefault(replace(member, name=""), place)
        if first != place:
            raise ValueError(
                f"experiments {first} and {place} of the sweep are the same "
                f"({title(member, keys)}): leave one of them out"
            )
    return tuple(members)


def title(member: Config, keys: Sequence[str]) -> str:
    """What tells a member from the others: `defense.level 0.5, attack.name rmle`."""
    shown = ((key, value_of(member, key)) for key in keys)
    return ", ".join(f"{key} {value}" for key, value in shown if value is not None)


def value_of(member: Config, key: str) -> Any:
    """The value of a dotted key; None where the member's section has no such key."""
    value: Any = member
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def telling(sweep: Sweep) -> tuple[str, ...]:
    """Those keys of a sweep that tell members apart and do not follow from others:
    ARDEN's steps beside GHOST's follow from the defense, others from the ratio."""
    members = sweep.members
    inner = [k for k in sweep.keys if k.split(".")[0] in config.TABLES]
    inner = [key for key in inner if not key.endswith(".name")]
    outer = [key for key in sweep.keys if key not in inner]
    kinds = [tuple(value_of(m, key) for key in outer) for m in members]
    none = [()] * len(members)

    def tells(key: str) -> bool:
        values = [value_of(m, key) for m in members]
        return tables.varies(values, kinds if key in inner else none)

    return tuple(key for key in sweep.keys if tells(key))


def run(sweep: Sweep, output: Path, console: Console) -> Path:
    """Runs every member, then compares them; returns the page of the comparison.

    The comparison is `OUTPUT/<name>-sweep-<hash>`, named by its members' folders. Where
    it is one of defenses under attack, the table printed is `tradeoff`'s. For
    interruptions and errors see `run_all`.
    """
    from ghostjax import report, tradeoff  # here: they bring matplotlib

    folders = run_all(sweep.members, telling(sweep), output, console)
    digest = config.content_hash(*(folder.name for folder in folders))[:8]
    page = report.compare(folders, output / f"{sweep.name}-sweep-{digest}")
    rows = [report.read_row(folder) for folder in folders]
    points = tradeoff.points(rows, report.varying(rows))
    shown = tradeoff.table(points) if points else results(sweep, rows)
    print_table(shown, console)
    return page


def run_all(
    members: Sequence[Config], keys: Sequence[str], output: Path, console: Console
) -> list[Path]:
    """Runs every config in order, sharing data and target; the run folders.

    Finished ones are found and not run again, so the same call continues after a kill.

    Raises:
      ValueError: one of them cannot be done, before any is run; or, named, the one
        that failed.
    """
    from ghostjax import experiment, report  # here: they bring jax and matplotlib

    kept: dict[str, Any] = {}
    for member in members:
        with _named(title(member, keys)):
            experiment.prepare(member, kept)
    folders = []
    for place, member in enumerate(members, 1):
        name = title(member, keys)
        console.print(f"[{place}/{len(members)}] {name}", highlight=False, markup=False)
        with _named(name):
            folder = experiment.run(member, output, console, kept)
        if not (folder / "report.html").exists():
            report.write_report(folder)
        folders.append(folder)
    return folders


def results(sweep: Sweep, rows: Sequence[Row]) -> Table:
    """One line a member: what varies, accuracy, and the attacker's pictures.

    `accuracy` is of the images of all labels, with nothing hidden in them. Where a run
    hides secrets, their accuracy and the best constant answer's come first.
    """
    heads = _RESULTS
    if any(row.get("stego") for row in rows):
        heads = _HIDDEN | _RESULTS
    values = {key: [value_of(m, key) for m in sweep.members] for key in telling(sweep)}
    shown = [key for key in heads if any(row.get(key) is not None for row in rows)]
    lines = [
        [
            *(tables.text(own[place]) for own in values.values()),
            *(tables.cell(key, row.get(key)) for key in shown),
        ]
        for place, row in enumerate(rows)
    ]
    return Table("Results", [*values, *(heads[key] for key in shown)], lines)


def print_table(table: Table, console: Console) -> None:
    """A table as text, as wide as it is."""
    lines = [table.head, *table.lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(w) for cell, w in zip(line, widths, strict=True))
        text = "  ".join(cells).rstrip()
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _axes(axes: Any, where: str) -> dict[str, list[Any]]:
    """Dotted key -> its values; unquoted dotted keys came as nested tables."""
    if not isinstance(axes, Mapping) or not axes:
        raise ValueError(f"{where}: sweep = {axes!r}: write a table of keys and lists")
    found = dict(_leaves(axes))
    for key, values in found.items():
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{where}: sweep: {key} = {values!r}: give a list of its values"
            )
        for place, value in enumerate(values):
            if value in values[:place]:
                raise ValueError(f"{where}: sweep: {key} names {value!r} twice")
    return found


def _variants(
    variants: Any, where: str
) -> list[tuple[str, dict[str, Any], dict[str, list[Any]]]]:
    """(label, partial tree, own axes) of each; the label is "" where there is none."""
    tables_ = isinstance(variants, list) and all(isinstance(v, dict) for v in variants)
    if not tables_ or not variants:
        raise ValueError(f"{where}: variants = {variants!r}: write [[variants]] tables")
    found = []
    for variant in variants:
        label = variant.get("label", "")
        if not isinstance(label, str) or not re.fullmatch(r"[\w.+-]*", label):
            raise ValueError(
                f"{where}: variants: label = {label!r}: letters, digits and _.+- only"
            )
        axes = _axes(variant["sweep"], where) if "sweep" in variant else {}
        patch = {k: v for k, v in variant.items() if k not in ("label", "sweep")}
        found.append((label, patch, axes))
    return found


def _member(
    tree: Mapping[str, Any], patches: Sequence[Mapping], label: str, where: str
) -> Config:
    for patch in patches:
        tree = config.merge(tree, patch)
    told = ", ".join(f"{k} = {v!r}" for patch in patches for k, v in _leaves(patch))
    built = config.build(tree, f"{where} ({told})")
    return replace(built, name=f"{built.name}-{label}") if label else built


def _nested(key: str, value: Any, where: str) -> dict[str, Any]:
    """{"a": {"b": value}} of "a.b"; of "*" the value, which is such a tree itself."""
    if key == _JOINT:
        if not isinstance(value, dict) or not value:
            raise ValueError(f"{where}: sweep: '*' has {value!r}: write tables of keys")
        return value
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is not itself a table."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts a member's title before the message of what it raises."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}" if name else str(error)) from error
