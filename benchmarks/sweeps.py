"""Sweeps as they are run: members in step against one after another, and many targets.

  python benchmarks/sweeps.py           # an accelerator; MNIST for the GHOST part
  python benchmarks/sweeps.py --small   # minutes of a CPU, digits

Every sweep is run whole, into a folder of its own: trainings with their checkpoints,
measuring, rows, reports. Each way runs once to compile and then `--turns` times, the
ways in turn. Writes results/sweeps-<platform>.json: seconds of every turn, the ratio of
medians, programs compiled; and the seconds of 10,000 rMLE targets in one call.
"""

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
import timing
from rich.console import Console

from ghostjax import config, data, registry, runtime
from ghostjax.attacks.chunks import in_chunks
from ghostjax.attacks.records import PRESETS, Rmle
from ghostjax.base import Context, Cut, Knowledge
from ghostjax.experiments import run
from ghostjax.experiments.ways import Ways
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.testing import compiled
from ghostjax.training.fit import drive

HERE = Path(__file__).parent
WAYS = ("one_by_one", "vmap")
QUIET: dict[str, Any] = {"attack": {"name": "none"}, "defense": {"name": "plain"}}


def main() -> None:
    """Runs all of it and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few members and steps")
    parser.add_argument("--turns", type=int, default=2, help="of each way, warm")
    options = parser.parse_args()
    runtime.configure(cached=False)
    members, turns = (4 if options.small else 32), options.turns
    results: dict[str, Any] = {"members": members, "turns": turns}
    for name, (trees, images) in plans(members, options.small).items():
        results[name] = compared(trees, images, turns)
        print(name, results[name], flush=True)
    for preset in ("authors", "gauss_newton"):
        count = 100 if options.small else 10_000
        results[f"rmle, {preset}"] = inverted(preset, count)
        print(preset, results[f"rmle, {preset}"], flush=True)
    platform = re.sub(r"\W+", "-", jax.devices()[0].device_kind.lower())
    timing.write(HERE / "results" / f"sweeps-{platform}.json", results)


def plans(members: int, small: bool) -> dict[str, Any]:
    """Name -> (the members' trees, their data set or None: what they name)."""
    draw = np.random.default_rng(0)
    shape = (256 if small else 12_800, 28, 28, 1)
    images = draw.integers(0, 256, shape, np.uint8)
    labels = draw.integers(0, 10, len(images)).astype(np.int32)
    names = [str(label) for label in range(10)]
    noise = data.from_arrays(
        "noise28", (images, labels), (images[:200], labels[:200]), names
    )
    found: dict[str, Any] = {}
    for batch in (16, 128):
        target = {"network": "cnn2", "epochs": 2, "batch_size": batch}
        trees = [
            {**QUIET, "seed": seed, "target": {**target, "seed": seed}}
            for seed in range(members)
        ]
        found[f"cnn2, batches of {batch}"] = trees, noise
    extends = "digits" if small else "ghost_lsb_mnist"
    steps = 20 if small else 500
    ghost = config.read(config.locate(extends))
    ghost = config.merge(ghost, {"attack": {"name": "none"}})
    ghost = config.merge(ghost, {"defense": {"steps": steps}})
    if small:
        ghost = config.merge(ghost, {"target": {"epochs": 1}})
    trees = [config.merge(ghost, {"seed": seed}) for seed in range(members)]
    return {**found, f"GHOST as {extends}, {steps} steps": (trees, None)}


def compared(
    trees: list[Mapping[str, Any]], images: data.Dataset | None, turns: int
) -> dict[str, Any]:
    """Seconds of whole sweeps, each way."""
    configs = [config.build(dict(tree)) for tree in trees]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    programs: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "runs"
        # The target that GHOST's members share is trained before anything is timed.
        run.run(configs[:1], output, Console(quiet=True), data=images)
        targets = {path.name for path in output.glob("parts/target-*")}
        if len({one.target for one in configs}) > 1:
            targets = set()
        for turn in range(turns + 1):
            for way in WAYS:
                forget(output, targets)
                began = time.monotonic()
                ways = Ways(strategy=way, devices=1)
                # Alone, two members compile all that thirty-two run.
                chosen = configs if turn or way == "vmap" else configs[:2]
                with compiled() as counted:
                    outcome = run.run(
                        chosen, output, Console(quiet=True), data=images, ways=ways
                    )
                outcome.require_all()
                if turn:
                    seconds[way].append(round(time.monotonic() - began, 2))
                else:
                    programs[way] = len(counted)
    ratio = median(seconds["one_by_one"]) / median(seconds["vmap"])
    return {"seconds": seconds, "ratio": round(ratio, 2), "programs": programs}


def forget(output: Path, kept: set[str]) -> None:
    """Deletes all but the parts that are shared."""
    for path in [*output.glob("*"), *output.glob("parts/*")]:
        if path.name != "parts" and path.name not in kept:
            shutil.rmtree(path)


def inverted(preset: str, count: int) -> dict[str, Any]:
    """Seconds of `count` targets behind LeNet's second ReLU, in one call."""
    network = zoo.network("lenet5")
    layers = network.build(network.classes)
    cut = Cut(*chain.cut(layers, "ReLU2"), network.image_shape)
    draw = np.random.default_rng(0).random((count, *network.image_shape), np.float32)
    images = jax.numpy.asarray(draw)
    variables = chain.init(cut.edge, jax.random.key(0), images[:1])
    features = jax.jit(chain.apply, static_argnums=0)(cut.edge, variables, images)
    record = Rmle(preset=preset, **PRESETS[preset])
    attack = registry.build(record, cut, Context())
    hyper, key = traced_half(record), jax.random.key(1)
    knowledge = Knowledge(edge_variables=variables)
    params, _ = drive(attack.fit(key, hyper, knowledge))
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        shown = in_chunks(attack).invert(params, key, features, hyper)
        shown.images.block_until_ready()
        seconds.append(round(time.monotonic() - began, 2))
    return {"targets": count, "seconds": seconds, "first": "compiles"}


if __name__ == "__main__":
    main()
