"""What the edge spends on one sensitive image, beside sending it undefended.

  python benchmarks/edge_time.py  # needs no data; writes results/edge_time.json

The programs are the defenses' own jitted `encode`, images in, features out, compilation
excluded, in turn, at batches of 1 and 256. Pictures are random and weights untrained:
neither changes the time.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import timing

from ghostjax import chain, runtime, zoo
from ghostjax.base import Defense, Stego, Task
from ghostjax.defenses import ghost_plus, hide, plain
from ghostjax.stego import lsb, nns
from ghostjax.train import Recipe, start

SHAPE, CUT = (28, 28, 1), "pool1"
BATCHES = (1, 256)
TURNS, WARMUP = 21, 3


def main() -> None:
    """Measures and writes the results, milliseconds of a batch."""
    runtime.configure()
    layers = zoo.network("cnn2").build(10)
    edge, cloud = chain.cut(layers, CUT)
    programs = {"plain": plain.plain(edge, cloud), **defenses(edge, cloud)}
    results: dict[str, Any] = {}
    for batch in BATCHES:
        keys = jax.random.split(jax.random.key(0))
        images, covers = (jax.random.uniform(k, (batch, *SHAPE)) for k in keys)
        runs = {}
        for name, defense in programs.items():
            params, _ = defense.fit(jax.random.key(1), task(layers, name), untrained)
            own = params, jax.random.key(2), images, covers
            runs[name] = partial(jax.jit(defense.encode), *own)
        results[f"batch {batch}"] = timing.paired(runs, turns=TURNS, warmup=WARMUP)
    for name, told in results.items():
        print(name, *(f"{k} {v['median_ms']} ms" for k, v in told.items()), sep="  ")
    path = Path(__file__).parent / "results" / "edge_time.json"
    about = {"network": "cnn2", "cut": CUT, "turns": TURNS, "warmup": WARMUP}
    timing.write(path, results, **about)


def methods() -> dict[str, Stego]:
    """The stego methods timed."""
    return {"lsb": lsb.lsb(3), "n32": nns.nns(SHAPE, nns.Settings(Recipe(1)))}


def defenses(edge: chain.Chain, cloud: chain.Chain) -> dict[str, Defense]:
    """What GHOST's edge does (it hides), and GHOST+'s, of each stego method."""
    made = {}
    for name, method in methods().items():
        made[f"ghost, {name}"] = hide.hide(edge, cloud, method)
        for sees in ("stego", "revealed"):
            settings = ghost_plus.Settings(Recipe(1), sees=sees)
            made[f"ghost_plus, {name}, sees {sees}"] = ghost_plus.ghost_plus(
                edge, cloud, SHAPE, method, settings
            )
    return made


def task(layers: chain.Chain, name: str) -> Task:
    """Untrained variables, and two images for their labels."""
    image = jnp.zeros((1, *SHAPE))
    variables = chain.init(layers, jax.random.key(0), image)
    halves = (chain.select(half, variables) for half in chain.cut(layers, CUT))
    images, labels = jnp.zeros((2, *SHAPE), jnp.uint8), jnp.arange(2)
    learned = ()
    if "n32" in name:
        learned = methods()["n32"].init(jax.random.key(3), image, image)
    return Task(*halves, images, labels, labels[:1], labels[1:], learned)


def untrained(key, params, model_state, data, rate, *, recipe, **rest):
    """A `train` that leaves everything as it is."""
    return start(params, model_state, recipe), {}


if __name__ == "__main__":
    main()
