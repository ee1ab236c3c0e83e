"""Training throughput of stego networks and of GHOST+'s generator.

  python benchmarks/stego_training.py  # needs mnist; writes results/stego_training.json

Each training runs through its own `fit`, handed a `train` that clocks single steps: one
jitted program with a donated state, pairs drawn on the device. FLOPs are those that XLA
counts in the compiled step (`cost_analysis`). On CPU only n16 and n32 are timed; give
names for others: `python benchmarks/stego_training.py muzio65 baluja50`.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing

from ghostjax import chain, data, runtime, zoo
from ghostjax.base import Task
from ghostjax.defenses import ghost_plus
from ghostjax.stego import lsb, nns
from ghostjax.train import Recipe, make_step, start

SHAPE = (28, 28, 1)
STEPS, WARM = 12, 3
BATCHES = {"nns": 32, "generator": 128}


def main(names: list[str]) -> None:
    """Measures every training and writes the results."""
    runtime.configure()
    train = data.load("mnist").train
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    results: dict[str, Any] = {}
    for name in names or ["n16", "n32"]:
        for distance in ("squared", "ssim"):
            settings = nns.Settings(Recipe(STEPS), name, distance, BATCHES["nns"])
            method = nns.nns(SHAPE, settings)
            clock, told = clocked(BATCHES["nns"])
            learned, _ = method.fit(jax.random.key(0), images, clock)
            results[f"nns {name}, {distance}"] = told
        results |= generators(name, method, learned, images, labels)
    results |= generators("lsb", lsb.lsb(3), (), images, labels)
    for name, told in results.items():
        print(name, told, flush=True)
    path = Path(__file__).parent / "results" / "stego_training.json"
    timing.write(path, results, batches=BATCHES, steps=STEPS, warmup=WARM)


def generators(
    name: str, method: Any, learned: Any, images: jax.Array, labels: jax.Array
) -> dict[str, dict]:
    """Steps of GHOST+ at pool1 of `cnn2`, whose weights do not matter here."""
    layers = zoo.network("cnn2").build(10)
    variables = chain.init(layers, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    edge, cloud = chain.cut(layers, "pool1")
    halves = chain.select(edge, variables), chain.select(cloud, variables)
    rows = np.asarray(labels)
    covers, secrets = (jnp.asarray(np.flatnonzero(x)) for x in (rows < 6, rows >= 6))
    task = Task(*halves, images, labels, covers, secrets, learned)
    found = {}
    for sees in ("stego", "revealed"):
        settings = ghost_plus.Settings(Recipe(STEPS), BATCHES["generator"], sees=sees)
        defense = ghost_plus.ghost_plus(edge, cloud, SHAPE, method, settings)
        clock, told = clocked(BATCHES["generator"])
        defense.fit(jax.random.key(1), task, clock)
        found[f"generator, {name}, sees {sees}"] = told
    return found


def clocked(batch: int) -> tuple[Callable, dict[str, float]]:
    """(a `train` that clocks steps of `batch` images, what it will have found)."""
    told: dict[str, float] = {}

    def train(
        key, params, model_state, data, learning_rate, *, loss, draw, recipe, part=""
    ):
        state = jax.tree.map(jnp.copy, start(params, model_state, recipe))
        step = make_step(loss, draw, recipe)
        rest = key, jnp.float32(learning_rate), data
        program = jax.jit(step, donate_argnums=0).lower(state, 0, *rest).compile()
        seconds = []
        for index in range(WARM + STEPS):
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(program(state, index, *rest))
            seconds.append(time.perf_counter() - began)
        times = np.asarray(seconds[WARM:])
        flops, median = program.cost_analysis()["flops"], float(np.median(times))
        told["median_ms"] = round(1e3 * median, 2)
        told["low_ms"], told["high_ms"] = (
            round(1e3 * float(np.quantile(times, q)), 2) for q in (0.25, 0.75)
        )
        told["images_per_second"] = round(batch / median)
        told["gflop_per_image"] = round(flops / batch / 1e9, 4)
        told["gflops"] = round(flops / median / 1e9, 1)
        return state, metrics

    return train, told


if __name__ == "__main__":
    main(sys.argv[1:])
