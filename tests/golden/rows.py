"""Golden rows: every option in a few steps, run and compared.

  python tests/golden/rows.py --write FILE  runs the configs beside it, keeps the rows
  python tests/golden/rows.py OLD NEW       bits of one machine, before and after

The second command prints every column that differs and is not in `EXPLAINED`, and
exits with 1 where there is one. `rows.json` holds the rows that tests/test_golden.py
compares to tolerances.
"""

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ghostjax import cli, runtime
from ghostjax.config import grid
from ghostjax.experiments import run
from ghostjax.report.folder import read_row

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "experiments"))

import sample  # noqa: E402

SWEEPS = ("daily", "quick", "whole")
WALK = "walk"
Row = Mapping[str, Any]

SCORES = ("psnr", "ssim", "worst_")
LAST_BITS = 2e-6
EXPLAINED: dict[str, str] = {
    "ssim_": "SSIM is computed by matrices: within 3e-6",
    "ssim ": "SSIM is computed by matrices: within 3e-6",
    "worst_ssim": "SSIM is computed by matrices: within 3e-6",
    "perturbation_": "both norms are one program: last bits",
    "defense.draws": "a field of its own",
    "data.folder": "a field of its own",
    "data.size": "a field of its own",
    "defense_caution": "a column of its own",
    "stego.network": "a column that was dropped",
}
"""Column (or its beginning) -> why its bits are not those before the rebuild."""
EXPLAINED_MEMBERS: dict[str, str] = {
    "hide": "moments that a decoder whitens by are one program: eigenvectors turn",
    "revealed": "moments that a decoder whitens by are one program",
    "arden": "moments that a decoder whitens by are one program",
    "network": "the attacker hides and encodes in one program: last bits, amplified",
    "shredder": "moments that a decoder whitens by are one program",
    "covert": "the covert branch's scales are measured in one program: last bits",
}
"""Member -> why what its attack or its training gives is not the same to the bit."""


def golden(chosen: Collection[str] | None = None) -> dict[str, Row]:
    """Runs the members of the given names, or all.

    Returns:
      Name of a member -> its row, without seconds and hash. Of the walk there are all
      rows or none.
    """
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        with sample.registered():
            for name in SWEEPS:
                rows |= dict(_sweep(name, chosen, Path(folder) / name))
        if chosen is None or any(name.startswith(WALK) for name in chosen):
            rows |= dict(_walk(Path(folder) / WALK))
    return rows


def _sweep(
    sweep: str, chosen: Collection[str] | None, output: Path
) -> Iterator[tuple[str, Row]]:
    runtime.configure()
    members = {}
    for place, member in enumerate(grid.load(HERE / f"{sweep}.toml").members):
        name = f"{sweep} {place:02d} {member.name.removeprefix(f'{sweep}-')}"
        if chosen is None or name in chosen:
            members[name] = member
    plans = list(members.values())
    folders = run.run(plans, output, Console()).folders if plans else []
    for name, folder in zip(members, folders, strict=True):
        yield name, clean(read_row(folder))


def _walk(output: Path) -> Iterator[tuple[str, Row]]:
    words = ["partition", str(HERE / f"{WALK}.toml"), "--output", str(output)]
    if status := cli.main(words):
        sys.exit(status)
    (page,) = output.glob("*/partition.csv")
    with page.open() as file:
        for row in csv.DictReader(file):
            yield f"{WALK} {row['cut']}", {key: _value(x) for key, x in row.items()}


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def clean(row: Row) -> Row:
    """The row without what a clock or the config's form decides."""
    return {
        key: value
        for key, value in row.items()
        if not key.startswith("seconds") and key != "hash"
    }


def differences(old: Row, new: Row) -> dict[str, tuple[Any, Any]]:
    """Column -> (before, after) where they are not the same to the bit."""
    columns = {**old, **new}
    pairs = {key: (old.get(key), new.get(key)) for key in columns}
    return {key: pair for key, pair in pairs.items() if not _equal(*pair)}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return one == other


def reason(name: str, key: str, pair: tuple[Any, Any]) -> str:
    """Why a column of a member may differ; empty where nothing explains it."""
    member = EXPLAINED_MEMBERS.get(name.split()[-1], "")
    if key.startswith(SCORES) and all(isinstance(value, float) for value in pair):
        if math.isclose(*pair, rel_tol=LAST_BITS):
            return "all scores of a pair of pictures are one program: last bits"
    words = (why for start, why in EXPLAINED.items() if key.startswith(start))
    return next(words, member)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="OLD NEW")
    parser.add_argument("--write", type=Path, help="where the rows go")
    words = parser.parse_args()
    if words.write:
        words.write.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
        return 0
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in words.files)
    unexplained = 0
    for name in {**old, **new}:
        for key, pair in differences(old.get(name, {}), new.get(name, {})).items():
            why = reason(name, key, pair)
            unexplained += not why
            print(f"{name}  {key}: {pair[0]!r} -> {pair[1]!r}  {why}")
    print(f"{unexplained} unexplained differences in {len(new)} rows")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
