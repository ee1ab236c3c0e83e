"""What an accelerator does with ghostjax: one command, on GPU, TPU and CPU alike.

  python benchmarks/accelerator.py                    # the core grid, five minutes
  python benchmarks/accelerator.py --full             # everything
  python benchmarks/accelerator.py --compare A.json B.json

It needs jax, flax, optax, orbax and numpy, no data and no network; PyTorch is measured
beside ours where it is installed. The file is written after every row, so that a stop
loses nothing. Sections and what they measure: `--help`.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

# Memory is taken as it is needed: PyTorch and processes of our own share the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from instrument import (  # noqa: E402
    agreement,
    attack,
    beside_torch,
    limits,
    members,
    programs,
    training,
)
from instrument.report import Report, Row, compare  # noqa: E402
from instrument.section import Bench, Section  # noqa: E402

from ghostjax import runtime
from ghostjax.experiments import environment

SECTIONS = (
    Section("limits", "what the device can do at most", 0.5, limits.cases),
    Section("agreement", "does it compute what the CPU does", 2, agreement.cases),
    Section("members", "K trainings at once", 2, members.cases),
    Section("attack", "rMLE", 2, attack.cases),
    Section("training", "one training", 2, training.cases),
    Section("programs", "compilation", 1, programs.cases),
    Section("torch", "beside PyTorch", 1.5, beside_torch.cases),
)
_SECONDS = {"small": 300, "core": 300, "full": 3600}  # of a run
_CPU_SECONDS = {**_SECONDS, "core": 540}


def main(words: Sequence[str] | None = None) -> int:
    """Runs the sections; 1 where a case failed otherwise than for memory."""
    options = parse(words)
    if options.compare:
        print(compare(*options.compare))
        return 0
    runtime.configure(cached=False)
    size = "small" if options.small else "full" if options.full else "core"
    about = environment.describe()
    seconds = options.seconds or (_CPU_SECONDS if runtime.on_cpu() else _SECONDS)[size]
    settings = {
        "environment": {**about, "xla_flags": os.environ.get("XLA_FLAGS", "")},
        "size": size,
        "budget_seconds": seconds,
    }
    report = Report(options.output or default_output(about["device"], size), settings)
    print(f"{about['device']}, jax {about['jax']}, Python {about['python']}, {size}")
    failed = run(report, size, options.sections, seconds)
    print(f"\nwritten: {report.path}")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    lines = "\n".join(f"  {s.name:<10} {s.title}" for s in SECTIONS)
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"sections:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="everything, for an hour")
    size.add_argument("--small", action="store_true", help="for tests: toy sizes")
    parser.add_argument(
        "--sections",
        type=section_names,
        default=[s.name for s in SECTIONS],
        metavar="A,B",
        help="these only (limits always run: shares refer to them)",
    )
    parser.add_argument(
        "--seconds", type=positive, help="budget over the sections; the rest is skipped"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the JSON file")
    parser.add_argument(
        "--compare", nargs=2, type=existing, metavar="JSON", help="ratios of two files"
    )
    return parser.parse_args(words)


def section_names(text: str) -> list[str]:
    known, names = [s.name for s in SECTIONS], text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"no section {name!r}: choose from {', '.join(known)}"
            )
    return ["limits", *(name for name in names if name != "limits")]


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def existing(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def default_output(device: str, size: str) -> Path:
    """Beside the committed results, named by device and size."""
    name = "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")
    while "--" in name:
        name = name.replace("--", "-")
    return Path(__file__).parent / "results" / "accelerator" / f"{name}-{size}.json"


def run(report: Report, size: str, names: Sequence[str], seconds: float) -> list[str]:
    """Runs the named sections within a time; gives the names of cases that failed.

    Each section may take its weight's share of the time that is left, so what one does
    not need the next ones have.
    """
    chosen = [s for s in SECTIONS if s.name in names]
    end, failed = time.monotonic() + seconds, []
    for place, section in enumerate(chosen):
        left = end - time.monotonic()
        share = section.weight / sum(s.weight for s in chosen[place:])
        failed += run_section(report, size, section, left * share)
    return failed


def run_section(
    report: Report, size: str, section: Section, seconds: float
) -> list[str]:
    """One section's cases until its time is over."""
    result = report.begin(section.name, section.title)
    began = time.monotonic()

    def out_of_time() -> bool:
        return time.monotonic() - began > seconds

    def attempt(name: str, measure: Callable[[], Iterable[Row]]) -> None:
        try:
            for row in measure():
                report.add(result, row)
        except Exception as error:  # whatever it is, the rest is worth measuring
            full = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error)
            first = (str(error).strip().splitlines() or [""])[0]
            why = "out of memory" if full else f"{type(error).__name__}: {first}"
            failed = Row(case=name, figure="failed", value=None, unit="", note=why)
            report.add(result, failed)
            if not full:
                traceback.print_exc()
                result.failed.append(name)

    def rows() -> Iterator[Row]:
        for case in section.cases(Bench(size, report.limits, out_of_time)):
            if out_of_time():
                result.skipped.append(case.name)
            else:
                attempt(case.name, case.measure)
        yield from ()  # the cases add rows of their own

    attempt(section.name, rows)
    result.seconds = round(time.monotonic() - began, 1)
    if result.skipped:
        print(f"  no time for {len(result.skipped)}: {'; '.join(result.skipped)}")
    report.write()
    return [f"{section.name}: {name}" for name in result.failed]


if __name__ == "__main__":
    sys.exit(main())
