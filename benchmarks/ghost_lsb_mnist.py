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

from ghostjax import config, runtime
from ghostjax.attacks.records import NoAttack
from ghostjax.config.sections import Config
from ghostjax.experiments import run
from ghostjax.report.folder import read_row

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
    recipe = [
        variant("ghost_lsb_mnist", gamma, seed, attacked=seed == 0)
        for seed in SEEDS
        for gamma in reversed(GAMMAS)
    ]
    literal = [variant("ghost_lsb_mnist_literal", gamma) for gamma in ("4:6", "1:9")]
    folders = run.run(
        [*recipe, *literal], Path("runs"), Console(), run.Telling(title)
    ).folders
    rows = [row(folder) for folder in folders]
    runs, others = rows[: len(recipe)], rows[len(recipe) :]
    tables = {
        "recipe": {"by_gamma": summary(runs), "runs": runs},
        "literal": {"runs": others},
    }
    timing.write(HERE / "results" / "ghost_lsb_mnist.json", tables)


def title(chosen: Config) -> str:
    """What tells a run from the others."""
    return f"{chosen.name}, {chosen.data.gamma}, seed {chosen.seed}"


def variant(name: str, gamma: str, seed: int = 0, attacked: bool = False) -> Config:
    """A config file at another gamma and seed."""
    chosen = config.load(HERE.parent / "configs" / f"{name}.toml")
    chosen = replace(chosen, seed=seed, data=replace(chosen.data, gamma=gamma))
    return chosen if attacked else replace(chosen, attack=NoAttack())


def row(folder: Path) -> dict:
    """One run's numbers, rounded."""
    whole = read_row(folder)
    qualities = [key for key in whole if key.startswith(("psnr_", "ssim_"))]
    shown = {key: round(whole[key], 2) for key in SHOWN}
    shown |= {key: round(whole[key], 3) for key in qualities if key.endswith("_mean")}
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
