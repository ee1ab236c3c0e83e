"""What the edge spends on one sensitive image, beside sending it undefended.

  python benchmarks/edge_time.py  # needs no data; writes results/edge_time.json

The programs are the defenses' own jitted `encode`, images in, features out, compilation
excluded, in turn, at batches of 1 and 256. Pictures are random and weights untrained:
neither changes the time.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing

from ghostjax import base, registry, runtime
from ghostjax.base import Context, Cut, Rows, Task
from ghostjax.defenses.records import GhostPlus, Hide, Plain
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.records import DefenseRecord
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.fit import Fit, drive, start

SHAPE, CUT = (28, 28, 1), "pool1"
BATCHES = (1, 256)
TURNS, WARMUP = 21, 3


def main() -> None:
    """Measures and writes the results, milliseconds of a batch."""
    runtime.configure()
    cut = Cut(*chain.cut(zoo.network("cnn2").build(10), CUT), SHAPE)
    programs = encoders(cut)
    results: dict[str, Any] = {}
    for batch in BATCHES:
        keys = jax.random.split(jax.random.key(0))
        images, covers = (jax.random.uniform(k, (batch, *SHAPE)) for k in keys)
        runs = {
            name: partial(encode, jax.random.key(2), images, covers)
            for name, encode in programs.items()
        }
        results[f"batch {batch}"] = timing.paired(runs, turns=TURNS, warmup=WARMUP)
    for name, times in results.items():
        print(name, *(f"{k} {v['median_ms']} ms" for k, v in times.items()), sep="  ")
    path = Path(__file__).parent / "results" / "edge_time.json"
    about = {"network": "cnn2", "cut": CUT, "turns": TURNS, "warmup": WARMUP}
    timing.write(path, results, **about)


def encoders(cut: Cut) -> dict[str, Callable[..., jax.Array]]:
    """What the edge does undefended, in GHOST (it hides), and in GHOST+, of each stego
    method: name -> `encode(key, secrets, covers)`."""
    programs = {"plain": encoder(cut, Plain(), Context(), ())}
    for name, record in {"lsb": Lsb(), "n32": Nns(network="n32")}.items():
        method = registry.build(record, SHAPE, Context())
        learned = untrained(method.fit(jax.random.key(3), traced_half(record), PAIR))
        context = Context(stego=method)
        programs[f"ghost, {name}"] = encoder(cut, Hide(), context, learned)
        for sees in ("stego", "revealed"):
            programs[f"ghost_plus, {name}, sees {sees}"] = encoder(
                cut, GhostPlus(sees=sees), context, learned
            )
    return programs


def encoder(
    cut: Cut, record: DefenseRecord, context: Context, learned: Any
) -> Callable[..., jax.Array]:
    """A defense's `encode`, compiled for untrained params."""
    defense = registry.build(record, cut, context)
    problem = task(cut, learned)
    params = untrained(defense.fit(jax.random.key(1), traced_half(record), problem))
    return partial(jax.jit(partial(base.encode, defense)), params)


PAIR = np.zeros((2, *SHAPE), np.uint8)


def task(cut: Cut, learned: Any) -> Task:
    """Untrained variables, and two images for their labels."""
    init = jax.jit(partial(chain.init, cut.edge + cut.cloud))
    variables = init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return Task(
        edge_variables=chain.select(cut.edge, variables),
        cloud_variables=chain.select(cut.cloud, variables),
        images=PAIR,
        labels=np.arange(2),
        covers=Rows(np.zeros(2, np.int32), 1),
        secrets=Rows(np.ones(2, np.int32), 1),
        sensitive=np.arange(cut.classes) == 1,
        stego=learned,
    )


def untrained(fit: Fit) -> Any:
    """What a fit returns where no training changes anything."""
    return drive(fit, lambda training: (start(training), {}))[0]


if __name__ == "__main__":
    main()
