"""Target, GHOST, inversion, in a few steps; prints what was compiled, as JSON.

  python -m instrument.small_experiment STEPS whole STARTED  # seconds of the epoch

"brief" in place of "whole" inverts the features of a toy that nobody trained.
"""

import json
import sys
import time
from functools import partial

import jax

from ghostjax import base, runtime
from ghostjax.attacks.records import Rmle
from ghostjax.defenses.records import Ghost
from ghostjax.fields import traced_half
from ghostjax.pixels import as_float
from ghostjax.training.fit import drive
from instrument import attack, cases

COMPILED = "/jax/core/compile/backend_compile_duration"
FROM_CACHE = "/jax/compilation_cache/cache_hits"


def main(steps: int, extent: str, started: float) -> None:
    """Runs it and prints the counts."""
    counts = {"programs": 0, "compiling": 0.0, "programs from the cache": 0}

    def on_duration(event: str, seconds: float, **_: object) -> None:
        if event == COMPILED:
            counts["programs"] += 1
            counts["compiling"] += seconds

    def on_event(event: str, **_: object) -> None:
        counts["programs from the cache"] += event == FROM_CACHE

    jax.monitoring.register_event_duration_secs_listener(on_duration)
    jax.monitoring.register_event_listener(on_event)
    runtime.configure()
    if extent == "whole":
        problem = search_behind_ghost(steps)
    else:
        problem = attack.search(*attack.TOY_CUT, 16)
    invert = problem.invert(Rmle(solver="gd", steps=steps, start="grey"))
    jax.block_until_ready(invert(problem.weights, problem.features))
    counts["start to first result"] = time.time() - started
    compiled = counts.pop("programs")
    counts["programs compiled"] = compiled - counts["programs from the cache"]
    print(json.dumps(counts))


def search_behind_ghost(steps: int) -> attack.Search:
    """Features of stegos, which GHOST's cloud has been trained to answer."""
    record = Ghost(steps=steps, batch_size=64, public_batch_size=64, covert_filters=16)
    defense, cut = cases.defended(record)
    task = cases.task(cut, cases.pictures("cnn2"), cases.trained("cnn2", steps))
    fit = defense.fit(jax.random.key(1), traced_half(record), task)
    params, _ = drive(fit)
    images = as_float(task.images[:32])
    encode = jax.jit(partial(base.encode, defense))
    features = encode(params, jax.random.key(2), images[:16], images[16:])
    weights = task.edge_variables
    return attack.Search(cut=cut, weights=weights, features=features, truth=images[:16])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
