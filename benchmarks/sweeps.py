"""Sweeps as they are run: members in step against one after another, and many targets.

  python benchmarks/sweeps.py           # an accelerator; MNIST for the GHOST parts
  python benchmarks/sweeps.py --small   # a CPU; digits but for ghost24
  python benchmarks/sweeps.py --only ghost24 --small

Parts: `members`, K of them in step against one after another; `targets`, 10,000 of rMLE
in one call; `ghost24`, 24 members of a GHOST sweep in one run against 24 runs of one,
as anybody would start either; `answers`, what asking a member of `noise_mnist` costs,
and what its products alone would.

Every sweep is run whole, into a folder of its own: trainings with their checkpoints,
measuring, rows, reports. Each way runs once to compile and then `--turns` times, the
ways in turn. Into results/sweeps-<device>.json go seconds of every turn, the ratio of
medians and programs compiled; what stands there of other parts stays.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from rich.console import Console

from ghostjax import config, data, registry, runtime
from ghostjax.attacks.chunks import in_chunks
from ghostjax.attacks.records import PRESETS, Rmle
from ghostjax.base import Context, Cut, Knowledge
from ghostjax.defenses.records import Noise
from ghostjax.evaluation.answers import Asked, answers
from ghostjax.experiments import environment, run
from ghostjax.experiments.ways import Ways
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.testing import compiled
from ghostjax.training.fit import drive

HERE = Path(__file__).parent
PARTS = ("members", "targets", "ghost24", "answers")
WAYS = ("one_by_one", "vmap")
QUIET: dict[str, Any] = {"attack": {"name": "none"}, "defense": {"name": "plain"}}


def main() -> None:
    """Runs the parts and keeps their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--small", action="store_true", help="few members and steps")
    parser.add_argument("--turns", type=int, default=2, help="of each way, warm")
    options = parser.parse_args()
    runtime.configure(cached=False)
    small, turns = options.small, options.turns
    if "members" in options.only:
        for name, (trees, images) in plans(4 if small else 32, small).items():
            keep(name, compared(trees, images, turns))
    if "targets" in options.only:
        for preset in ("authors", "gauss_newton"):
            keep(f"rmle, {preset}", inverted(preset, 100 if small else 10_000))
    if "ghost24" in options.only:
        keep(*ghost24(small, turns))
    if "answers" in options.only:
        keep("answers of lenet5 behind ReLU2", asked(max(turns, 5)))


def keep(name: str, result: dict[str, Any]) -> None:
    """Writes a result beside those that are there."""
    device = jax.devices()[0].device_kind.lower()
    if device == "cpu":
        device = f"cpu-{os.cpu_count()}-cores"
    path = HERE / "results" / f"sweeps-{re.sub(r'[^a-z0-9]+', '-', device)}.json"
    there = json.loads(path.read_text()) if path.exists() else {}
    about = {k: environment.describe()[k] for k in ("device", "jax", "python", "git")}
    there[name] = {**result, "environment": about}
    path.write_text(json.dumps(there, indent=1) + "\n")
    print(name, there[name], flush=True)


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
    return {
        "members": len(configs),
        "seconds": seconds,
        "ratio": round(ratio, 2),
        "programs": programs,
    }


def ghost24(small: bool, turns: int) -> tuple[str, dict[str, Any]]:
    """(name, result) of a sweep over 24 seeds, in one run and in 24."""
    members, steps = 24, 200
    tree = config.merge(
        config.read(config.locate("ghost_lsb_mnist")),
        {"attack": {"name": "none"}, "target": {"epochs": 1}},
    )
    whole = data.load("mnist")
    images = whole
    sizes = {"steps": steps}
    if small:
        sizes |= {"batch_size": 16, "public_batch_size": 16, "covert_filters": 4}
        splits = (
            (split.images[:count], split.labels[:count])
            for split, count in ((whole.train, 12_800), (whole.test, 1_000))
        )
        images = data.from_arrays("mnist_part", *splits, whole.class_names)
    tree = config.merge(tree, {"defense": sizes})
    configs = [
        config.build(config.merge(tree, {"seed": seed})) for seed in range(members)
    ]
    name = f"GHOST as ghost_lsb_mnist, {members} seeds, {steps} steps"
    return name + (", small" if small else ""), {
        **sizes,
        "train_images": len(images.train.labels),
        "test_images": len(images.test.labels),
        **run_or_runs(configs, images, turns),
    }


def run_or_runs(configs: Any, images: data.Dataset, turns: int) -> dict[str, Any]:
    """Wall and processor seconds of one run of all and of a run for each, the target
    cached; the ratios are one run's over the runs'."""
    plans = {"one_run": [configs], "runs_of_one": [[one] for one in configs]}
    spent: dict[str, dict[str, list[float]]] = {
        way: {"wall": [], "processor": []} for way in plans
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "runs"
        few = configs[:2] if runtime.on_cpu() else configs
        for chosen in (configs[:1], few):  # compiles
            run.run(chosen, output, Console(quiet=True), data=images).require_all()
        targets = {path.name for path in output.glob("parts/target-*")}
        for turn in range(turns):
            for way in sorted(plans, reverse=bool(turn % 2)):
                forget(output, targets)
                began, processor = time.monotonic(), sum(os.times()[:2])
                for some in plans[way]:
                    outcome = run.run(some, output, Console(quiet=True), data=images)
                    outcome.require_all()
                spent[way]["wall"].append(round(time.monotonic() - began, 1))
                used = sum(os.times()[:2]) - processor
                spent[way]["processor"].append(round(used, 1))
    ratios = {
        clock: [
            round(one / other, 3)
            for one, other in zip(
                spent["one_run"][clock], spent["runs_of_one"][clock], strict=True
            )
        ]
        for clock in ("wall", "processor")
    }
    return {"seconds": spent, "ratios": ratios, "n": turns}


def forget(output: Path, kept: set[str]) -> None:
    """Deletes all but the parts that are shared."""
    for path in [*output.glob("*"), *output.glob("parts/*")]:
        if path.name != "parts" and path.name not in kept:
            shutil.rmtree(path)


def asked(turns: int) -> dict[str, Any]:
    """Milliseconds of the processor for 1,000 images of a member of `noise_mnist`."""
    network, count = zoo.network("lenet5"), 2_000
    layers = network.build(network.classes)
    cut = Cut(*chain.cut(layers, "ReLU2"), network.image_shape)
    images = np.random.default_rng(0).integers(
        0, 256, (count, *network.image_shape), np.uint8
    )
    variables = chain.init(layers, jax.random.key(0), images[:1])
    edge, cloud = (chain.select(half, variables) for half in cut[:2])
    programs: dict[str, tuple[int, Any]] = {}  # name -> (members, what is run)
    for place in ("input", "features"):
        defense = registry.build(Noise(place=place, cut="ReLU2"), cut, Context())
        members = [
            Asked(
                params={"edge": edge, "cloud": cloud, "level": np.float32(level / 4)},
                key=jax.random.key(1),
                rows=(np.arange(count),),
            )
            for level in range(8)
        ]
        for some in (members[:1], members):
            programs[f"{place}, {len(some)} asked at once"] = (
                len(some),
                partial(answers, defense.send, defense.answer, some, images),
            )
    for shape in PRODUCTS.values():
        programs[f"product {shape}"] = 1, product(*shape)
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(turns + 1):
        for name, (members_, program) in programs.items():
            began = time.process_time()
            jax.block_until_ready(program())
            if turn:
                spent[name].append((time.process_time() - began) / members_)
    return _costs(spent, chain.describe(layers, network.image_shape), count)


PRODUCTS = {  # of a batch of 500, as patches; and one that is as fast as they come
    "conv1": (500 * 24 * 24, 25, 8),
    "conv2": (500 * 8 * 8, 200, 16),
    "fc1": (500, 256, 120),
    "square": (2048, 2048, 2048),
}


def product(rows: int, inner: int, columns: int) -> Any:
    """A matrix product of this shape."""
    left = jax.random.normal(jax.random.key(0), (rows, inner))
    right = jax.random.normal(jax.random.key(1), (inner, columns))
    return partial(jax.jit(lambda left, right: left @ right), left, right)


def _costs(spent: Any, layers: list[chain.Layer], count: int) -> dict[str, Any]:
    """Medians and quartiles of each, rates, and the least a member costs by them."""
    thousand: dict[str, Any] = {}
    rates: dict[str, float] = {}
    for name, seconds in spent.items():
        quartiles = np.quantile(seconds, (0.5, 0.25, 0.75))
        if name.startswith("product"):
            shape = next(x for x in PRODUCTS if name.endswith(str(PRODUCTS[x])))
            rates[shape] = 2e-9 * float(np.prod(PRODUCTS[shape])) / float(quartiles[0])
        else:
            thousand[name] = [round(float(1e6 * x / count), 1) for x in quartiles]
    flops = {layer.name: layer.flops for layer in layers}
    dense = sum(flops[name] for name in ("fc1", "fc2", "fc3"))
    edge = flops["conv1"], flops["conv2"]
    shaped = (*rates.values(),)[:3]
    floors = {}
    for place, share in (("input", 1), ("features", 1 / 8)):
        work = *(share * x for x in edge), dense
        floors[place] = {
            "at the fastest product's rate": round(
                1e-3 * sum(work) / rates["square"], 2
            ),
            "at the rates of products of these shapes": round(
                1e-3 * sum(w / r for w, r in zip(work, shaped, strict=True)), 2
            ),
        }
    return {
        "processor ms for 1,000 images a member, median and quartiles": thousand,
        "GFLOP a processor second": {k: round(v, 1) for k, v in rates.items()},
        "floor, ms, of the products of a member among 8": floors,
        "n": len(next(iter(spent.values()))),
    }


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
