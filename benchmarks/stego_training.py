"""Training throughput of stego networks and of GHOST+'s generator.

  python benchmarks/stego_training.py  # needs mnist; writes results/stego_training.json

Each fit's training is run by a loop that clocks single steps: one jitted program with a
donated state, pairs drawn on the device. FLOPs are those that XLA
counts in the compiled step (`cost_analysis`). On CPU only n16 and n32 are timed; give
names for others: `python benchmarks/stego_training.py muzio65 baluja50`.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing

from ghostjax import data, registry, runtime
from ghostjax.base import Context, Cut, Rows, Stego, Task
from ghostjax.defenses.records import GhostPlus
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.classifier import LabelledImages
from ghostjax.training.fit import Fit, Training, TrainState, drive, start, step_of

SHAPE = (28, 28, 1)
STEPS, WARM = 12, 3
BATCHES = {"nns": 32, "generator": 128}


def main(names: list[str]) -> None:
    """Measures every training and writes the results."""
    runtime.configure()
    split = data.load("mnist").train
    images = LabelledImages(jnp.asarray(split.images), jnp.asarray(split.labels))
    results = measure(names or ["n16", "n32"], images)
    for name, times in results.items():
        print(name, times, flush=True)
    path = Path(__file__).parent / "results" / "stego_training.json"
    timing.write(path, results, batches=BATCHES, steps=STEPS, warmup=WARM)


def measure(names: list[str], images: LabelledImages) -> dict[str, dict]:
    """name of a training -> its times; networks by name, then generators over LSB."""
    results: dict[str, dict] = {}
    count = len(images.labels)
    for name in names:
        for distance in ("squared", "ssim"):
            record = Nns(network=name, distance=distance, batch_size=BATCHES["nns"])
            method = registry.build(record, SHAPE, Context(train_count=count))
            hyper = traced_half(record)
            fit = method.fit(jax.random.key(0), hyper, images.images)
            learned, times = clocked(fit, BATCHES["nns"])
            results[f"nns {name}, {distance}"] = times
        results |= generators(name, method, learned, images)
    method = registry.build(Lsb(), SHAPE, Context())
    return results | generators("lsb", method, traced_half(Lsb()), images)


def generators(
    name: str, method: Stego, learned: Any, images: LabelledImages
) -> dict[str, dict]:
    """Steps of GHOST+ at pool1 of `cnn2`, whose weights do not matter here."""
    cut = Cut(*chain.cut(zoo.network("cnn2").build(10), "pool1"), SHAPE)
    problem, results = task(cut, images, learned), {}
    for sees in ("stego", "revealed"):
        record = GhostPlus(batch_size=BATCHES["generator"], sees=sees)
        defense = registry.build(record, cut, Context(stego=method))
        fit = defense.fit(jax.random.key(1), traced_half(record), problem)
        _, times = clocked(fit, BATCHES["generator"])
        results[f"generator, {name}, sees {sees}"] = times
    return results


def task(cut: Cut, images: LabelledImages, learned: Any) -> Task:
    """Untrained variables; labels from 6 on are sensitive."""
    init = jax.jit(partial(chain.init, cut.edge + cut.cloud))
    variables = init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    secret = np.asarray(images.labels) >= 6
    covers, secrets = (
        Rows(np.resize(rows, len(secret)).astype(np.int32), len(rows))
        for rows in (np.flatnonzero(~secret), np.flatnonzero(secret))
    )
    return Task(
        edge_variables=chain.select(cut.edge, variables),
        cloud_variables=chain.select(cut.cloud, variables),
        images=images.images,
        labels=images.labels,
        covers=covers,
        secrets=secrets,
        sensitive=np.arange(cut.classes) >= 6,
        stego=learned,
    )


def clocked(fit: Fit, batch: int) -> tuple[Any, dict[str, float]]:
    """(what a fit learns in some steps, the times of one step of `batch` images)."""
    times: dict[str, float] = {}

    def clock(training: Training) -> tuple[TrainState, dict]:
        state = jax.tree.map(jnp.copy, start(training))
        hyper = jax.tree.map(jnp.asarray, dict(training.hyper))
        rest = training.key, hyper, training.shared, training.own
        step = jax.jit(step_of(training).__call__, donate_argnums=0)
        program = step.lower(state, 0, *rest).compile()
        seconds = []
        for index in range(WARM + STEPS):
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(program(state, index, *rest))
            seconds.append(time.perf_counter() - began)
        flops = program.cost_analysis()["flops"]
        times.update(summary(np.asarray(seconds[WARM:]), flops, batch))
        return state, metrics

    return drive(fit, clock)[0], times


def summary(seconds: np.ndarray, flops: float, batch: int) -> dict[str, float]:
    """Median and quartiles of a step's times, and the rates that follow."""
    low, median, high = (float(np.quantile(seconds, q)) for q in (0.25, 0.5, 0.75))
    return {
        "median_ms": round(1e3 * median, 2),
        "low_ms": round(1e3 * low, 2),
        "high_ms": round(1e3 * high, 2),
        "images_per_second": round(batch / median),
        "gflop_per_image": round(flops / batch / 1e9, 4),
        "gflops": round(flops / median / 1e9, 1),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
