"""Rows of measurements: printed as they come, and on disk after every one of them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. What does not apply to it is None or ""."""

    case: str  # what was run
    figure: str  # what was measured of it
    value: float | str | None  # median of n, exact count, or a verdict
    unit: str
    n: int = 1
    low: float | None = None  # lower quartile of n
    high: float | None = None  # upper quartile of n
    limit: str = ""  # the device's limit that is nearest, as `limits` names it
    share: float | None = None  # of that limit
    note: str = ""


class Budget(Exception):
    """A case gives up since its section's time is over."""


@dataclass
class Section:
    """What one section gave."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # cases that no time was left for
    failed: list[str] = field(default_factory=list)  # cases that raised
    seconds: float = 0.0


class Report:
    """All sections so far; the file holds them after every row.

    Args:
      path: the JSON file.
      about: device, versions and settings, written beside the sections.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]):
        self.path, self.about = path, about
        self.sections: dict[str, Section] = {}
        self.limits: dict[str, float] = {}  # FLOP/s or bytes/s, by name

    def begin(self, name: str, title: str) -> Section:
        self.sections[name] = section = Section()
        print(f"\n{name}: {title}", flush=True)
        self.write()
        return section

    def add(self, section: Section, row: Row) -> None:
        section.rows.append(row)
        print(line(row), flush=True)
        self.write()

    def write(self) -> None:
        """Replaces the file; a stop in between leaves the one before."""
        whole = {
            **self.about,
            "limits": self.limits,
            "sections": {name: asdict(part) for name, part in self.sections.items()},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.path)


def line(row: Row) -> str:
    """A row for a reader."""
    spread = "" if row.low is None else f"{number(row.low)}–{number(row.high)}"
    share = "" if row.share is None else f"{100 * row.share:.3g} % of {row.limit}"
    value = number(row.value) if not isinstance(row.value, str) else row.value
    parts = f"  {row.case:<62} {row.figure:<23} {value:>10} {row.unit:<16}"
    return f"{parts} {f'n={row.n}':<5} {spread:<19} {share} {row.note}".rstrip()


def number(value: float | None) -> str:
    """Four digits."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def spread(values: Sequence[float]) -> dict[str, Any]:
    """value, n, low and high of a row: median and quartiles."""
    if len(values) < 2:
        return {"value": float(values[0]), "n": 1}
    low, median, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75))
    return {
        "value": float(median),
        "n": len(values),
        "low": float(low),
        "high": float(high),
    }


def compare(first: Path, second: Path) -> str:
    """A table of the figures that two files share, and their ratios second / first."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in (first, second)]
    lines = [
        f"{name}: {f['environment']['device']}, jax {f['environment']['jax']}, "
        f"git {f['environment']['git']}"
        for name, f in zip("AB", files, strict=True)
    ]
    tables = [
        {
            (name, row["case"], row["figure"]): row
            for name, section in f["sections"].items()
            for row in section["rows"]
        }
        for f in files
    ]
    for key, row in tables[0].items():
        other = tables[1].get(key)
        values = row["value"], other and other["value"]
        if not all(isinstance(value, int | float) for value in values):
            continue
        section, case, figure = key
        ratio = f"{values[1] / values[0]:.2f}" if values[0] else "–"
        a, b = (number(value) for value in values)
        lines.append(
            f"  {section:<10} {case:<62} {figure:<23} {a:>10} {b:>10} {row['unit']:<16}"
            f" B/A {ratio}"
        )
    missing = [set(tables[i]) - set(tables[1 - i]) for i in (0, 1)]
    for name, keys in zip("AB", missing, strict=True):
        if keys:
            lines.append(f"only in {name}: {len(keys)} figures")
    return "\n".join(lines)
