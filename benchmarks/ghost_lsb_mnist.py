"""GHOST with LSB on MNIST over gamma and draws of the sensitive labels (Fig. 6).

  python benchmarks/ghost_lsb_mnist.py  # needs mnist; continues after a stop

Runs configs/ghost_lsb_mnist.toml at four gammas and three seeds (the target is shared;
the first seed is also attacked) and configs/ghost_lsb_mnist_literal.toml at two gammas,
into runs/, and writes results/ghost_lsb_mnist.json: one short row a run, the mean and
the range over draws for each gamma.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import timing
from rich.console import Console

from ghostjax import config, experiment, report, runtime, sections

HERE = Path(__file__).parent
GAMMAS, SEEDS = ("1:9", "2:8", "3:7", "4:6"), (0, 1, 2)
SHOWN = (
    "accuracy_secret",
    "accuracy_public",
    "accuracy_all",
    "target_accuracy_public",
    "target_accuracy_all",
    "control_constant_answer",
    "control_shuffled_secret",
    "control_cover_only",
    "covers_called_sensitive",
)


def main() -> None:
    """Runs what is not finished yet and writes the results."""
    runtime.configure()
    rows = [
        row("ghost_lsb_mnist", gamma, seed, attack=seed == 0)
        for seed in SEEDS
        for gamma in reversed(GAMMAS)
    ]
    literal = [row("ghost_lsb_mnist_literal", gamma, 0) for gamma in ("4:6", "1:9")]
    results = {
        "recipe": {"by_gamma": summary(rows), "runs": rows},
        "literal": {"runs": literal},
    }
    timing.write(HERE / "results" / "ghost_lsb_mnist.json", results)


def row(name: str, gamma: str, seed: int, attack: bool = False) -> dict:
    """One run's numbers; finished runs are read."""
    chosen = config.load(HERE.parent / "configs" / f"{name}.toml")
    chosen = replace(chosen, seed=seed, data=replace(chosen.data, gamma=gamma))
    if not attack:
        chosen = replace(chosen, attack=sections.NoAttack())
    folder = experiment.run(chosen, Path("runs"), Console())
    whole = report.read_row(folder)
    attacked = [key for key in whole if key.startswith(("psnr_", "ssim_"))]
    shown = {key: round(whole[key], 2) for key in SHOWN}
    shown |= {key: round(whole[key], 3) for key in attacked if key.endswith("_mean")}
    about = {key: whole[key] for key in ("gamma", "seed", "sensitive_labels")}
    counts = {key: whole[key] for key in ("accuracy_secret_n", "accuracy_public_n")}
    return {**about, **shown, **counts, "seconds": round(whole["seconds_defense"])}


def summary(rows: list[dict]) -> dict:
    """gamma -> column -> [mean, least, most] over draws."""
    return {
        gamma: {
            key: [round(float(f(values)), 2) for f in (np.mean, np.min, np.max)]
            for key in SHOWN
            for values in [[row[key] for row in rows if row["gamma"] == gamma]]
        }
        for gamma in GAMMAS
    }


if __name__ == "__main__":
    main()
