"""Runs that differ only in their seeds, taken together as means. Imports no jax.

A seed gives a run its draw of sensitive labels, its pairs, its trainings and its
attack. Runs that are alike but for it, each with a seed of its own, are replicates:
what they measured is shown as the mean over them, with Student's 95 % interval. The
interval holds what the seeds vary; a training that all of them share is said to be
shared.
"""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from ghostjax.evaluation import intervals
from ghostjax.evaluation.intervals import Mean
from ghostjax.evaluation.rows import Row, is_number, number
from ghostjax.report import tables

__all__ = [
    "DRAWS",
    "Replicates",
    "alike",
    "cell",
    "follows",
    "note",
    "replicates",
    "spread",
]

DRAWS = ("seed", "sensitive_labels")
"""Columns by which runs may differ and still be replicates of each other."""
_SEED = ".seed"  # ends the columns of further seeds: target.seed
_OWN = (*DRAWS, "public_labels", "hash", "folder")  # of one run, no result


class Replicates(NamedTuple):
    """Runs that differ only in their seeds; perhaps one alone."""

    rows: Sequence[Row]
    row: Row  # what they share, and means of the numbers that they do not

    @property
    def seeds(self) -> int:
        """How many runs, each of another seed."""
        return len(self.rows)

    def mean(self, column: str) -> Mean | None:
        """The mean of a column's finite numbers; None where there are none."""
        values = [number(row, column) for row in self.rows]
        known = [value for value in values if value is not None]
        return intervals.mean(known) if known else None


def replicates(rows: Sequence[Row], keys: Sequence[str]) -> list[Replicates]:
    """Runs that are `alike` in the keys, each with a seed of its own.

    Runs of one seed are no replicates: where there are any, each run stands alone.

    Args:
      rows: result rows.
      keys: columns that tell runs apart, seeds not among them.
    """
    together = []
    for group in alike(rows, keys):
        distinct = _values(group, "seed") == len(group)
        for part in [group] if distinct else [[row] for row in group]:
            together.append(Replicates(rows=part, row=_shared(part)))
    return together


def alike(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    """Rows that the keys do not tell apart, together, in the order of the first ones.

    Sensitive labels that differ at one seed, and further seeds that some of the runs
    share, follow from no seed: they tell runs apart too.
    """
    groups = []
    for group in _grouped(rows, keys):
        seeds = _values(group, "seed")
        further = {key: None for row in group for key in row if key.endswith(_SEED)}
        telling = [key for key in further if _values(group, key) not in (1, seeds)]
        telling += ["sensitive_labels"] if _values(group, *DRAWS) > seeds else []
        groups += _grouped(group, telling)
    places = {id(row): place for place, row in enumerate(rows)}
    return sorted(groups, key=lambda group: places[id(group[0])])


def follows(rows: Sequence[Row], key: str) -> bool:
    """Whether a column is a further seed that goes with `seed`, one value to one."""
    if not key.endswith(_SEED):
        return False
    pairs = {(str(r.get("seed")), str(r[key])) for r in rows if r.get(key) is not None}
    seeds, values = ({pair[place] for pair in pairs} for place in (0, 1))
    return len(pairs) == len(seeds) == len(values)


def cell(shown: Replicates, key: str) -> str:
    """A column of replicates: `97.13 ± 0.40 %`, the mean and half its interval."""
    values = [row[key] for row in shown.rows if row.get(key) is not None]
    known = shown.mean(key)
    if shown.seeds == 1 or not values:
        return tables.cell(key, shown.row.get(key))
    if all(isinstance(value, bool | np.bool_) for value in values):
        right = sum(map(bool, values))
        alike = right in (0, len(values))
        return tables.text(values[0]) if alike else f"yes in {right} of {len(values)}"
    if known is None:
        return tables.cell(key, shown.row.get(key))
    if key.endswith("_n"):
        ends = [tables.cell(key, end) for end in (min(values), max(values))]
        return "–".join(dict.fromkeys(ends))
    if key.startswith("seconds_"):
        return tables.cell(key, known.mean)
    words = spread(tables.cell(key, known.mean), tables.cell(key, known.half))
    return words if known.n == shown.seeds else f"{words} (n = {known.n})"


def spread(value: str, half: str) -> str:
    """A value and half its interval, both with their unit: `97.13 ± 0.40 %`."""
    bare, _, unit = value.partition(" ")
    if half == tables.NONE:
        return value
    return f"{bare} ± {half.partition(' ')[0]} {unit}".rstrip()


def note(shown: Sequence[Replicates]) -> str:
    """What the means of a table are over; empty where no run has a replicate."""
    several = [group for group in shown if group.seeds > 1]
    if not several:
        return ""
    counts = sorted({group.seeds for group in several})
    words = (
        f"Mean over n = {', '.join(map(str, counts))} runs that differ only in the "
        "seed ± half its 95 % interval (Student's t)."
    )
    shared = list(dict.fromkeys(key for group in several for key in _held(group.row)))
    if shared:
        words += (
            f" {' and '.join(shared)} did not vary with it: all have the same trained "
            f"{' and '.join(key.removesuffix(_SEED) for key in shared)}, and how that "
            "varies is in no interval (`seeds` in a [sweep] varies all)."
        )
    return words


def _held(row: Row) -> list[str]:
    """The further seeds that replicates share, of what they have."""
    keys = [key for key in row if key.endswith(_SEED)]
    return [k for k in keys if row.get(k.removesuffix(_SEED), k) not in tables.ABSENT]


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key)) for key in keys), []).append(row)
    return list(groups.values())


def _values(rows: Sequence[Row], *keys: str) -> int:
    """How many combinations of values the columns have."""
    return len(_grouped(rows, keys))


def _shared(rows: Sequence[Row]) -> Row:
    """What rows have in common; of numbers that they do not, the means."""
    if len(rows) == 1:
        return rows[0]
    shared: dict[str, Any] = {}
    for key in {key: None for row in rows for key in row}:
        values = [row.get(key) for row in rows]
        if values.count(values[0]) == len(values):
            shared[key] = values[0]
        elif not key.endswith(_SEED) and key not in _OWN:
            known = [float(v) for v in values if is_number(v) and isfinite(v)]
            shared |= {key: fmean(known)} if known else {}
    return shared
