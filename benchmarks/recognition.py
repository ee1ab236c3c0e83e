"""What is recognised in a white-box attacker's pictures, on MNIST and CIFAR-10.

  python benchmarks/recognition.py  # needs mnist and cifar10; continues after a stop
  python benchmarks/recognition.py --only read_mnist

Runs configs/read_mnist.toml and configs/read_cifar10.toml into runs/ (or --output) and
writes results/recognition.json: for each member its accuracies, what is recognised and
re-identified beside chance, the mean scores of its pictures, and the verdict.
"""

import argparse
import json
from pathlib import Path

import timing
from rich.console import Console

from ghostjax import runtime
from ghostjax.config import grid
from ghostjax.experiments import run
from ghostjax.report import leaked
from ghostjax.report.folder import read_row

HERE = Path(__file__).parent
NAMES = ("read_mnist", "read_cifar10")
RESULT = HERE / "results" / "recognition.json"
SHOWN = ("accuracy_", "control_", "recognised_", "reidentified_", "candidates")
SETTINGS = ("defense", "stego", "cut", "network", "gamma", "sensitive_labels", "seed")
READING = ("attacker.reading", "denoise", "denoise.pairs")


def main() -> None:
    """Runs what is not finished yet and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args()
    runtime.configure()
    tables = {}
    if RESULT.exists():
        tables = json.loads(RESULT.read_text())["results"]
    for name in options.only:
        sweep = grid.load(HERE.parent / "configs" / f"{name}.toml")
        outcome = run.run(sweep.members, options.output, Console())
        outcome.require_all()
        tables[name] = [row(folder) for folder in outcome.folders]
    timing.write(RESULT, tables)


def row(folder: Path) -> dict[str, object]:
    """One run's numbers, rounded."""
    whole = read_row(folder)
    short = {k: whole[k] for k in (*SETTINGS, *READING) if whole.get(k) is not None}
    short["n"] = whole["recognised_n"]
    numbers = {
        key: round(value, 2)
        for key, value in whole.items()
        if key.startswith(SHOWN) and not key.endswith("_n")
    }
    scores = {
        key: round(value, 3)
        for key, value in whole.items()
        if key.startswith(("psnr_", "ssim_")) and key.endswith("_secret_mean")
    }
    stego = {
        key: round(whole[key], 3)
        for key in ("psnr_reconstruction_stego_mean", "ssim_reconstruction_stego_mean")
    }
    return {**short, **numbers, **scores, **stego, "verdict": leaked.said(whole)}


if __name__ == "__main__":
    main()
