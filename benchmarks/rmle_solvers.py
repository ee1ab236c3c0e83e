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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import peers
import timing
import torch
from matplotlib.figure import Figure
from rich.console import Console

from ghostjax import data, registry, runtime
from ghostjax.attacks.records import Rmle
from ghostjax.attacks.rmle import AUTHORS
from ghostjax.base import Context, Cut
from ghostjax.config.sections import Target
from ghostjax.evaluation import metrics
from ghostjax.experiments import parts
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain, zoo
from ghostjax.pixels import as_float
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import drive

HERE = Path(__file__).parent
TARGETS = 256
WANTED = {"conv1": 39.69, "ReLU2": 15.10}  # dB, He et al.'s rMLE
TV = {"conv1": 0.0, "ReLU2": 1.0}  # the authors' lambda
EPSILONS = (1e-3, 1e-5, 1e-8)
SHAPE = (28, 28, 1)
OURS = {  # name -> (record, numbers of steps, whether lambda is the authors')
    "gauss_newton": (Rmle(), (1, 2, 4, 8, 16, 40), False),
    "gauss_newton, dark start": (
        Rmle(start="dark"),
        (1, 2, 3, 4, 6, 8, 12, 20, 40),
        False,
    ),
    "gauss_newton, dark start, 5 CG steps": (
        Rmle(start="dark", cg_steps=5),
        (1, 2, 3, 4, 6, 8, 12, 20, 40),
        False,
    ),
    "lbfgs, dark start": (
        Rmle(solver="lbfgs", start="dark"),
        (5, 10, 20, 40),
        False,
    ),
    "adam, box": (Rmle(solver="gd", start="dark"), (50, 100, 200, 400, 800), False),
    "authors' objective, eps 1e-8": (
        replace(AUTHORS, epsilon=1e-8),
        (100, 200, 400, 800),
        True,
    ),
    "authors": (AUTHORS, (100, 200, 400, 800), True),
}


def main() -> None:
    """Measures and writes everything."""
    runtime.configure()
    variables, images = lenet5(), data.load("mnist").test.images[:TARGETS]
    truth = as_float(images)
    results = {}
    for layer in WANTED:
        case = make_case(layer, variables, truth)
        results[layer] = {
            "steps": steps(case),
            "curves": (curves := case.curves()),
            "time_to": time_to(case, curves),
        }
        print(layer, results[layer]["steps"], results[layer]["time_to"], flush=True)
    about = {"targets": TARGETS, "torch": torch.__version__, "wanted_db": WANTED}
    timing.write(HERE / "results" / "rmle_solvers.json", results, **about)
    plot(results).savefig(HERE / "results" / "rmle_solvers.png", dpi=160)


class Case(NamedTuple):
    """One cut: everything that both programs need."""

    cut: Cut
    variables: Any  # of the edge
    features: jax.Array
    truth: jax.Array
    network: torch.nn.Module  # the edge, in PyTorch
    tensor: torch.Tensor  # the features

    @property
    def layer(self) -> str:
        """The name of the cut."""
        return self.cut.edge[-1][0]

    def ours(self, record: Rmle, weighted: bool, count: int = TARGETS) -> Callable:
        """A program without arguments that inverts the first `count` targets."""
        if weighted:
            record = replace(record, tv_weight=TV[self.layer])
        attack = registry.build(record, self.cut, Context())
        features, key = self.features[:count], jax.random.key(0)
        hyper = traced_half(record)
        return lambda: attack.invert(self.variables, key, features, hyper).images

    def peer(
        self,
        count: int,
        steps: int,
        epsilon: float = 1e-3,
        start: float = 0.5,
        look: Callable = lambda step, z: False,
    ) -> Callable:
        """The same for PyTorch."""
        descent = peers.Descent(epsilon=epsilon, tv_weight=TV[self.layer], start=start)
        features = self.tensor[:count]
        return lambda: peers.invert(self.network, features, steps, descent, look)

    def score(self, pictures) -> float:
        """Mean PSNR in dB."""
        return metrics.summarise(metrics.psnr(jnp.asarray(pictures), self.truth)).mean

    def curves(self) -> dict[str, list[tuple[float, float, int]]]:
        """name -> [(seconds, dB, steps)]."""
        curves: dict[str, list] = {}
        for name, (record, counts, weighted) in OURS.items():
            curves[name] = []
            for count in counts:
                program = self.ours(replace(record, steps=count), weighted)
                seconds, pictures = clocked(program)
                curves[name].append((seconds, round(self.score(pictures), 2), count))
        for epsilon in EPSILONS:
            for start in (0.5, 0.1):
                name = f"torch adam, eps {epsilon:g}, start {start}"
                curves[name] = self._peer_curve(epsilon, start)
        return curves

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
            return quality >= WANTED[self.layer] + 0.5

        self.peer(TARGETS, 1200, epsilon, start=start, look=look)()
        return points


def make_case(layer: str, variables: chain.Variables, truth: jax.Array) -> Case:
    """The cut behind a layer of LeNet-5."""
    cut = Cut(*chain.cut(zoo.lenet5(), layer), SHAPE)
    weights = chain.select(cut.edge, variables)
    features = jax.jit(partial(chain.apply, cut.edge))(weights, truth)
    return Case(
        cut=cut,
        variables=weights,
        features=features,
        truth=truth,
        network=peers.edge(weights, layer),
        tensor=peers.tensor(features),
    )


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
    batches = {}
    for batch, count in ((1, 200), (64, 50), (256, 20)):
        peer = case.peer(batch, count)
        programs = {
            "torch, 1 thread": lambda peer=peer: threaded(1, peer),
            "torch, 2 threads": lambda peer=peer: threaded(2, peer),
            "ours": case.ours(replace(AUTHORS, steps=count), True, batch),
        }
        times = timing.paired(programs, turns=9)
        for one in times.values():
            rate = batch * count / one["median_ms"] * 1e3
            one["image_steps_per_second"] = round(rate)
        best = min(times[name]["median_ms"] for name in list(times)[:2])
        times["ours_against_best_torch"] = round(best / times["ours"]["median_ms"], 2)
        batches[f"batch {batch}"] = times
    return batches


def threaded(number: int, program: Callable) -> np.ndarray:
    """Runs a PyTorch program with a number of threads."""
    torch.set_num_threads(number)
    return program().numpy()


def time_to(case: Case, curves: dict) -> dict:
    """Both programs to the wanted quality, in turn, with just the steps it takes."""
    wanted = WANTED[case.layer]
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
    record, _, weighted = OURS[ours]
    programs = {}
    for start in (0.5, 0.1):
        name = fastest(lambda name, s=start: name.endswith(f"start {s}"))
        epsilon = float(name.split()[3].rstrip(","))
        programs[name] = case.peer(TARGETS, reached[name][1], epsilon, start=start)
    programs[ours] = case.ours(replace(record, steps=reached[ours][1]), weighted)
    torch.set_num_threads(2)
    waiting = {
        name: (lambda program=program: np.asarray(program()))
        for name, program in programs.items()
    }
    times = timing.paired(waiting, turns=5, warmup=1)
    return {"wanted_db": wanted, "reached": reached, "paired": times}


def lenet5() -> dict:
    """The target, trained once with the authors' settings (6 epochs) and kept."""
    split = data.load("mnist").train
    record = Target(epochs=6, batch_size=32, learning_rate=1e-3, optimizer="amsgrad")
    images = LabelledImages(jnp.asarray(split.images), jnp.asarray(split.labels))
    context = Context(train_count=len(split.labels))
    fit = classifier(zoo.lenet5(), static_half(record), context)
    folder = Path("runs") / "parts" / "benchmark-lenet5"
    trainer = parts.trainer(folder, "target", Console())
    fitting = fit(jax.random.key(0), traced_half(record), images)
    return drive(fitting, trainer)[0]


def plot(results: dict) -> Figure:
    """PSNR over wall time, one panel a cut."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(1, len(results))
    for ax, (layer, figures) in zip(axes, results.items(), strict=True):
        for name, points in figures["curves"].items():
            seconds, decibels, _ = zip(*points, strict=True)
            style = "--" if name.startswith("torch") else "-o"
            ax.plot(seconds, decibels, style, ms=3, lw=1.4, label=name)
        ax.axhline(WANTED[layer], color="#999999", lw=0.8, ls=":")
        ax.set_xscale("log")
        ax.set_title(f"{layer}, {TARGETS} targets")
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
