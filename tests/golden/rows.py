"""Golden rows: every option in a few steps, run by the command line, and compared.

  python tests/golden/rows.py --write FILE    runs rows.toml and walk.toml, keeps the rows
  python tests/golden/rows.py OLD NEW         bits of one machine, before and after

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ghostjax import cli, report

HERE = Path(__file__).parent
Row = Mapping[str, Any]

EXPLAINED: dict[str, str] = {}
"""Column (or its beginning) -> why its bits are not those before the rebuild."""


def golden() -> dict[str, Row]:
    """Runs both files; name of a member -> its row, without seconds and hash."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        rows = dict(_sweep(output / "rows")) | dict(_walk(output / "walk"))
    return rows


def _sweep(output: Path) -> Iterator[tuple[str, Row]]:
    _run("run", HERE / "rows.toml", "--output", output)
    for place, folder in enumerate(_folders(output)):
        row = report.read_row(folder)
        yield f"{place:02d} {row['name']}", clean(row)


def _walk(output: Path) -> Iterator[tuple[str, Row]]:
    _run("partition", HERE / "walk.toml", "--output", output)
    (page,) = output.glob("*/partition.csv")
    with page.open() as file:
        for row in csv.DictReader(file):
            yield f"walk {row['cut']}", {key: _value(x) for key, x in row.items()}


def _run(*words: Any) -> None:
    if status := cli.main([*map(str, words)]):
        sys.exit(status)


def _folders(output: Path) -> list[Path]:
    """The run folders in the order of the sweep."""
    (page,) = output.glob("*/comparison.csv")
    with page.open() as file:
        return [Path(row["folder"]) for row in csv.DictReader(file)]


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="OLD NEW")
    parser.add_argument("--write", type=Path, help="where the rows go")
    words = parser.parse_args()
    if words.write:
        words.write.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
        return 0
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in words.files)
    failed = 0
    for name in {**old, **new}:
        for key, pair in differences(old.get(name, {}), new.get(name, {})).items():
            reason = next((w for k, w in EXPLAINED.items() if key.startswith(k)), "")
            failed += not reason
            print(f"{name}  {key}: {pair[0]!r} -> {pair[1]!r}  {reason}")
    print(f"{failed} unexplained differences in {len(new)} rows")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
