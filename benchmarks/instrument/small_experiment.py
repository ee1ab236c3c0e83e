"""Target, GHOST, inversion, in a few steps; prints what was compiled, as JSON.

  python -m instrument.small_experiment STEPS whole STARTED  # seconds of the epoch

"brief" in place of "whole" leaves GHOST out.
"""

import json
import sys
import time

import jax

from ghostjax import chain, runtime, train
from ghostjax.attacks.rmle import Settings
from ghostjax.defenses import ghost, plain
from ghostjax.stego import lsb
from ghostjax.train import Recipe
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
    network, cut = ("cnn2", "pool1") if extent == "whole" else ("lenet5", "conv1")
    weights = cases.trained(network, steps)
    edge, cloud = chain.cut(cases.layers(network), cut)
    task = cases.task(network, cut, weights)
    images = task.images[:32].astype("float32") / 255
    if extent == "whole":
        settings = ghost.Settings(Recipe(steps), 64, 64, covert_filters=16)
        defense = ghost.ghost(edge, cloud, (28, 28, 1), lsb.lsb(3), settings)
    else:
        defense = plain.plain(edge, cloud)
    params, _ = defense.fit(jax.random.key(1), task, train.fit)
    encode = jax.jit(defense.encode)
    features = encode(params, jax.random.key(2), images[:16], images[16:])
    problem = attack.Search(edge, (28, 28, 1), params["edge"], features, images)
    invert = problem.invert(Settings("gd", steps, "grey", choices=attack.ADAM))
    jax.block_until_ready(invert(params["edge"], features))
    counts["start to first result"] = time.time() - started
    compiled = counts.pop("programs")
    counts["programs compiled"] = compiled - counts["programs from the cache"]
    print(json.dumps(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
