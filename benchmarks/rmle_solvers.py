"""rMLE on MNIST: solvers against each other and against PyTorch, quality over time.

  python benchmarks/rmle_solvers.py  # needs mnist and the extra `bench`; writes
                                     # results/rmle_solvers.json and .png

One process, the same trained LeNet-5, features and targets for all. Three questions:
how many plain gradient steps a second (the authors' objective; `steps`), what quality
after what time on 256 targets (`curves`), and how much sooner than the best PyTorch
Adam a quality is reached (`time_to`, both programs in turn). Compiling is not timed;
everything from features to pictures is.
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import peers
import timing
import torch
from matplotlib.figure import Figure
from rich.console import Console

from ghostjax import chain, data, metrics, parts, runtime, zoo
from ghostjax.attacks.rmle import AUTHORS, Settings, rmle
from ghostjax.attacks.solvers import Choices
from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.train import Recipe

HERE = Path(__file__).parent
TARGETS = 256
WANTED = {"conv1": 39.69, "ReLU2": 15.10}  # dB, He et al.'s rMLE
TV = {"conv1": 0.0, "ReLU2": 1.0}  # the authors' lambda
EPSILONS = (1e-3, 1e-5, 1e-8)
SHAPE = (28, 28, 1)
ADAM = AUTHORS._replace(choices=Choices("amsgrad", 1e-8))
OURS = {  # name -> (settings, numbers of steps, lambda or None for the default)
    "gauss_newton": (Settings(), (1, 2, 4, 8, 16, 40), None),
    "gauss_newton, dark start": (
        Settings(start="dark"),
        (1, 2, 3, 4, 6, 8, 12, 20, 40),
        None,
    ),
    "gauss_newton, dark start, 5 CG steps": (
        Settings(start="dark", choices=Choices("adam", 1e-8, cg_steps=5)),
        (1, 2, 3, 4, 6, 8, 12, 20, 40),
        None,
    ),
    "lbfgs, dark start": (Settings("lbfgs", start="dark"), (5, 10, 20, 40), None),
    "adam, box": (Settings("gd", start="dark"), (50, 100, 200, 400, 800), None),
    "authors' objective, eps 1e-8": (ADAM, (100, 200, 400, 800), TV),
    "authors": (AUTHORS, (100, 200, 400, 800), TV),
}


def main() -> None:
    """Measures and writes everything."""
    runtime.configure()
    variables, images = lenet5(), data.load("mnist").test.images[:TARGETS]
    truth = jnp.asarray(images, jnp.float32) / 255
    results = {}
    for cut in WANTED:
        edge, _ = chain.cut(zoo.lenet5(), cut)
        own = chain.select(edge, variables)
        features = jax.jit(lambda v, x, e=edge: chain.apply(e, v, x))(own, truth)
        case = Case(cut, edge, own, features, truth, peers.edge(own, cut))
        results[cut] = {
            "steps": steps(case),
            "curves": (curves := case.curves()),
            "time_to": time_to(case, curves),
        }
        print(cut, results[cut]["steps"], results[cut]["time_to"], flush=True)
    about = {"targets": TARGETS, "torch": torch.__version__, "wanted_db": WANTED}
    timing.write(HERE / "results" / "rmle_solvers.json", results, **about)
    plot(results).savefig(HERE / "results" / "rmle_solvers.png", dpi=160)


class Case:
    """One cut: everything that both programs need."""

    def __init__(self, cut, edge, variables, features, truth, network):
        self.cut, self.edge, self.variables = cut, edge, variables
        self.features, self.truth, self.network = features, truth, network
        self.tensor = peers.tensor(features)

    def ours(self, settings: Settings, weights, count: int = TARGETS) -> Callable:
        """A program without arguments that inverts the first `count` targets."""
        rates = {"learning_rate": 1e-2 if settings.keep == "last" else 5e-2}
        if weights:
            rates["tv_weight"] = weights[self.cut]
        attack = rmle(self.edge, SHAPE, settings, **rates)
        features, key = self.features[:count], jax.random.key(0)
        return lambda: attack.invert(self.variables, key, features)[0]

    def peer(self, count: int, steps: int, epsilon: float = 1e-3, **rest) -> Callable:
        """The same for PyTorch."""
        features = self.tensor[:count]
        own = {"epsilon": epsilon, "tv_weight": TV[self.cut], **rest}
        return lambda: peers.invert(self.network, features, steps, **own)

    def score(self, pictures) -> float:
        """Mean PSNR in dB."""
        return metrics.summarise(metrics.psnr(jnp.asarray(pictures), self.truth)).mean

    def curves(self) -> dict[str, list[tuple[float, float, int]]]:
        """name -> [(seconds, dB, steps)]."""
        found = {}
        for name, (settings, counts, weights) in OURS.items():
            found[name] = []
            for count in counts:
                program = self.ours(settings._replace(steps=count), weights)
                seconds, pictures = clocked(program)
                found[name].append((seconds, round(self.score(pictures), 2), count))
        for epsilon in EPSILONS:
            for start in (0.5, 0.1):
                name = f"torch adam, eps {epsilon:g}, start {start}"
                found[name] = self._peer_curve(epsilon, start)
        return found

    def _peer_curve(self, epsilon: float, start: float) -> list:
        torch.set_num_threads(2)
        points, clock = [], {"spent": 0.0, "began": time.perf_counter()}

        def look(step, z):
            if step % 20:
                return False
            clock["spent"] += time.perf_counter() - clock["began"]
            quality = round(self.score(peers.pictures(z)), 2)
            points.append((round(clock["spent"], 3), quality, step))
            clock["began"] = time.perf_counter()
            return quality >= WANTED[self.cut] + 0.5

        self.peer(TARGETS, 1200, epsilon, start=start, look=look)()
        return points


def clocked(program: Callable) -> tuple[float, object]:
    """Median seconds of three calls after one, and what the program gives."""
    jax.block_until_ready(program())
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        out = jax.block_until_ready(program())
        seconds.append(time.perf_counter() - began)
    return round(float(np.median(seconds)), 3), out


def steps(case: Case) -> dict[str, dict]:
    """Image-steps a second of the authors' search, in turn, for each batch."""
    found = {}
    for batch, count in ((1, 200), (64, 50), (256, 20)):
        settings = AUTHORS._replace(steps=count)

        peer = case.peer(batch, count)
        programs = {
            "torch, 1 thread": lambda peer=peer: threaded(1, peer),
            "torch, 2 threads": lambda peer=peer: threaded(2, peer),
            "ours": case.ours(settings, TV, batch),
        }
        times = timing.paired(programs, turns=9)
        for own in times.values():
            own["image_steps_per_second"] = round(
                batch * count / own["median_ms"] * 1e3
            )
        best = min(times[name]["median_ms"] for name in list(times)[:2])
        times["ours_against_best_torch"] = round(best / times["ours"]["median_ms"], 2)
        found[f"batch {batch}"] = times
    return found


def threaded(number: int, program: Callable) -> np.ndarray:
    """Runs a PyTorch program with a number of threads."""
    torch.set_num_threads(number)
    return program().numpy()


def time_to(case: Case, curves: dict) -> dict:
    """Both programs to the wanted quality, in turn, with just the steps it takes."""
    wanted = WANTED[case.cut]
    reached = {
        name: next(((t, count) for t, db, count in points if db >= wanted), None)
        for name, points in curves.items()
    }

    def fastest(kind: Callable[[str], bool]) -> str:
        return min(
            (name for name, hit in reached.items() if hit and kind(name)),
            key=lambda name: reached[name][0],
        )

    ours = fastest(lambda name: name in OURS)
    settings, _, weights = OURS[ours]
    programs = {}
    for start in (0.5, 0.1):
        name = fastest(lambda name, s=start: name.endswith(f"start {s}"))
        epsilon = float(name.split()[3].rstrip(","))
        programs[name] = case.peer(TARGETS, reached[name][1], epsilon, start=start)
    programs[ours] = case.ours(settings._replace(steps=reached[ours][1]), weights)
    torch.set_num_threads(2)
    waiting = {
        name: (lambda own=own: np.asarray(own())) for name, own in programs.items()
    }
    times = timing.paired(waiting, turns=5, warmup=1)
    return {"wanted_db": wanted, "reached": reached, "paired": times}


def lenet5() -> dict:
    """The target, trained once with the authors' settings (6 epochs) and kept."""
    train = data.load("mnist").train
    held = LabelledImages(jnp.asarray(train.images), jnp.asarray(train.labels))
    folder = Path("runs") / "parts" / "benchmark-lenet5"
    return fit_classifier(
        jax.random.key(0),
        zoo.lenet5(),
        held,
        recipe=Recipe(-(-6 * len(train.labels) // 32), "amsgrad", "constant"),
        batch_size=32,
        learning_rate=1e-3,
        train=parts.trainer(folder, "target", Console()),
    )[0]


def plot(results: dict) -> Figure:
    """PSNR over wall time, one panel a cut."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(1, len(results))
    for ax, (cut, found) in zip(axes, results.items(), strict=True):
        for name, points in found["curves"].items():
            seconds, decibels, _ = zip(*points, strict=True)
            style = "--" if name.startswith("torch") else "-o"
            ax.plot(seconds, decibels, style, ms=3, lw=1.4, label=name)
        ax.axhline(WANTED[cut], color="#999999", lw=0.8, ls=":")
        ax.set_xscale("log")
        ax.set_title(f"{cut}, {TARGETS} targets")
        ax.set_xlabel("seconds")
        ax.set_ylabel("mean PSNR (dB)")
        ax.grid(alpha=0.25)
    names, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        names, labels, loc="outside lower center", ncols=5, fontsize=7, frameon=False
    )
    return figure


if __name__ == "__main__":
    main()
