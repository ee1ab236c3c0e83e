"""Every training of the package and every attack's search, at toy size, one step each.

`trainer(name)` gives the step and what it is called with. Nothing is copied from the
members: each one's `fit` is called with a `train` that catches what the member hands it
and ends the fit there, each attack's `invert` with a loop that does the same.

A training's `fit` is traced, not run: compiling what members do before they train (to
draw variables, to measure scales) costs more than the steps. Where it would have
computed arrays, the trainer has noise of their shapes.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from ghostjax import chain, loop, zoo
from ghostjax.attacks import denoise, direct, inverse, pairs, probe, rmle, shadow
from ghostjax.attacks.objective import Goal
from ghostjax.attacks.solvers import SOLVERS
from ghostjax.base import Attack, Defense, Knowledge, Stego, Task, limit
from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.defenses import arden, generator, ghost, ghost_plus, shredder
from ghostjax.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Normalize,
    Relu,
    Sigmoid,
)
from ghostjax.stego import lsb, nns
from ghostjax.train import Recipe, make_step, start

SHAPE = (16, 16, 1)  # the smallest that GHOST+'s generator takes
CLASSES, SENSITIVE = 4, (2, 3)
IMAGES, BATCH, STEPS = 32, 4, 3
RECIPE = Recipe(STEPS)
RATE = 1e-2
NETWORK = (
    ("normalize", Normalize((0.5,), (0.5,))),
    ("conv1", Conv(8, 5)),
    ("ReLU1", Relu()),
    ("pool1", MaxPool()),
    ("conv2", Conv(8, 3, "SAME")),
    ("ReLU2", Relu()),
    ("fc", Dense(CLASSES)),
)
LAYERS = (  # those that NETWORK has not
    ("conv1", Conv(4, 3, "SAME")),
    ("bn1", BatchNorm()),
    ("ReLU1", Relu()),
    ("pool1", MaxPool(3, 2)),
    ("drop1", Dropout(0.25)),
    ("conv2", Conv(8, 3)),
    ("act2", Sigmoid()),
    ("fc", Dense(CLASSES)),
)
EDGE, CLOUD = chain.cut(NETWORK, "pool1")
FEATURES = chain.describe(EDGE, SHAPE)[-1].shape
INVERTED, _ = chain.cut(NETWORK, "ReLU1")
LSB = lsb.lsb(3)
DECODER = pairs.Settings(RECIPE, BATCH, 8)

Train = Callable[..., Any]


class Trainer(NamedTuple):
    """One step, called as `state, metrics = step(state, index, *arguments)`."""

    step: loop.Step
    state: Any
    arguments: tuple[Any, ...]


class Captured(Exception):
    """What a member wanted to run; raised in its place."""

    def __init__(self, **run: Any):
        self.run = run


def trainer(name: str, optimizer: str = "adam") -> Trainer:
    """The step of a name in `TRAININGS`, `NETWORKS` or `SEARCHES`.

    Searches are the backend's at hand: an edge is frozen in the form that suits it.

    Args:
      name: of the training or search.
      optimizer: of the training; searches have their own.
    """
    if name in SEARCHES:
        run = captured(SEARCHES[name])
        return Trainer(run["step"], run["state"], run["arguments"])
    run = _training(name)
    recipe = run["recipe"]._replace(optimizer=optimizer)
    return Trainer(
        make_step(run["loss"], run["draw"], recipe),
        start(run["params"], run["model_state"], recipe),
        (run["key"], jnp.float32(run["learning_rate"]), run["data"]),
    )


def captured(work: Callable[[], Any]) -> dict[str, Any]:
    """Does the work up to what is captured there."""
    try:
        work()
    except Captured as capture:
        return capture.run
    raise AssertionError("nothing was run")


def _capture(
    key, params, model_state, data, learning_rate, *, loss, draw, recipe, part=""
):
    """In the place of `train.fit`."""
    raise Captured(
        key=key,
        params=params,
        model_state=model_state,
        data=data,
        learning_rate=learning_rate,
        loss=loss,
        draw=draw,
        recipe=recipe,
    )


def _capture_loop(step, state, steps, *arguments, **rest):
    """In the place of `loop.run` or `search.run`."""
    raise Captured(step=step, state=state, arguments=arguments)


@lru_cache(maxsize=64)
def _training(name: str) -> dict[str, Any]:
    run: dict[str, Any] = {}

    def arrays():
        run.update(captured(lambda: (TRAININGS | NETWORKS)[name](_capture)))
        traced = {k: run[k] for k in ("params", "model_state", "data")}
        return jax.tree.map(lambda leaf: leaf + 0 if _computed(leaf) else None, traced)

    shapes = jax.eval_shape(arrays)
    filled = {
        part: jax.tree.map(
            partial(_fill, np.random.default_rng(0), part == "params"),
            shapes[part],
            run[part],
            is_leaf=lambda leaf: leaf is None,
        )
        for part in shapes
    }
    return {**run, **filled, "key": jax.random.key(0)}


def _computed(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer)


def _fill(draw: np.random.Generator, signed: bool, shape: Any, leaf: Any) -> Any:
    """The array itself where it is one, else noise of its shape.

    Weights by He et al.'s rule; scales, variances and rates are positive.
    """
    if not _computed(leaf):
        return leaf
    if not shape.shape:
        return jnp.asarray(0.5, shape.dtype)
    fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) > 1 else 4
    noise = draw.standard_normal(shape.shape, np.float32) * (2 / fan_in) ** 0.5
    return jnp.asarray(noise if signed else 0.5 + abs(noise), shape.dtype)


@lru_cache(maxsize=1)
def images() -> tuple[Array, Array]:
    """Noise, uint8 [N, H, W, C]: no window has equal pixels by rule; and labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE))
    labels = np.arange(IMAGES) % CLASSES
    with jax.ensure_compile_time_eval():
        return jnp.asarray(pixels, jnp.uint8), jnp.asarray(labels, jnp.int32)


@lru_cache(maxsize=1)
def variables() -> chain.Variables:
    """NETWORK's."""
    image = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    shapes = jax.eval_shape(partial(chain.init, NETWORK), jax.random.key(0), image)
    draw = np.random.default_rng(1)
    with jax.ensure_compile_time_eval():
        return jax.tree.map(
            lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) / 4, leaf.dtype),
            shapes,
        )


def task(stego_params: Any = ()) -> Task:
    pixels, labels = images()
    secret = np.isin(np.arange(IMAGES) % CLASSES, SENSITIVE)
    with jax.ensure_compile_time_eval():
        covers, secrets = (jnp.asarray(np.flatnonzero(x)) for x in (~secret, secret))
    return Task(
        edge_variables=chain.select(EDGE, variables()),
        cloud_variables=chain.select(CLOUD, variables()),
        images=pixels,
        labels=labels,
        covers=covers,
        secrets=secrets,
        stego=stego_params,
    )


def _query(edge_variables: Any, key: Array, shown: Array) -> Array:
    return chain.apply(EDGE, edge_variables, shown)


def _encode(edge_variables: Any, key: Array, secrets: Array, covers: Array) -> Array:
    return chain.apply(EDGE, edge_variables, LSB.hide((), covers, secrets))


def knowledge(needs: tuple[str, ...]) -> Knowledge:
    pixels, labels = images()
    edge_variables = chain.select(EDGE, variables())
    everything = Knowledge(
        edge_variables=edge_variables,
        cloud_variables=chain.select(CLOUD, variables()),
        query=Partial(_query, edge_variables),
        public_images=pixels,
        public_labels=labels,
        perturbed_pairs=(pixels, pixels),
        stego_params=(),
        encode=Partial(_encode, edge_variables),
    )
    return limit(everything, needs)


def _classify(network: chain.Chain, data: LabelledImages, train: Train) -> Any:
    return fit_classifier(
        jax.random.key(0),
        network,
        data,
        recipe=RECIPE,
        batch_size=BATCH,
        learning_rate=RATE,
        train=train,
    )


def _classifier(train: Train) -> Any:
    return _classify(LAYERS, LabelledImages(*images()), train)


def _zoo_classifier(name: str, train: Train) -> Any:
    network = zoo.network(name)
    pixels = np.zeros((IMAGES, *network.image_shape), np.uint8)
    with jax.ensure_compile_time_eval():
        data = LabelledImages(jnp.asarray(pixels), images()[1])
    return _classify(network.build(network.classes), data, train)


def _stego(distance: str = "squared") -> Stego:
    return nns.nns(SHAPE, nns.Settings(RECIPE, "n16", distance, BATCH))


def _hiding(distance: str, train: Train) -> Any:
    return _stego(distance).fit(jax.random.key(0), images()[0], train)


def _defend(defense: Defense, train: Train, stego_params: Any = ()) -> Any:
    return defense.fit(jax.random.key(0), task(stego_params), train)


def _ghost(hiding: str, train: Train, **choices: int) -> Any:
    stego, stego_params = LSB, ()
    if hiding == "nns":
        image = jnp.zeros((1, *SHAPE))
        stego = _stego()
        stego_params = stego.init(jax.random.key(1), image, image)
    settings = ghost.Settings(RECIPE, BATCH, BATCH, **choices)
    defense = ghost.ghost(EDGE, CLOUD, SHAPE, stego, settings)
    return _defend(defense, train, stego_params)


def _ghost_plus(train: Train, **choices: Any) -> Any:
    """With one residual block of the four, which are alike."""
    settings = ghost_plus.Settings(RECIPE, BATCH, **choices)
    generator.generator.cache_clear()
    with mock.patch.object(generator, "_BLOCKS", 1):
        defense = ghost_plus.ghost_plus(EDGE, CLOUD, SHAPE, LSB, settings)
    generator.generator.cache_clear()
    return _defend(defense, train)


def _arden(train: Train) -> Any:
    settings = arden.Settings(RECIPE, BATCH)
    return _defend(arden.arden(EDGE, CLOUD, SHAPE, settings, bound=1.0), train)


def _shredder(train: Train) -> Any:
    settings = shredder.Settings(RECIPE, BATCH, members=3)
    with mock.patch.object(shredder, "_signal", lambda edge, task: jnp.ones(())):
        return _defend(shredder.shredder(EDGE, CLOUD, SHAPE, settings), train)


def _attack(attack: Attack | probe.Probe, train: Train) -> Any:
    return attack.fit(jax.random.key(0), knowledge(attack.needs), train)


def _inverse(train: Train) -> Any:
    return _attack(inverse.inverse(FEATURES, SHAPE, DECODER), train)


def _direct(train: Train) -> Any:
    return _attack(direct.direct(FEATURES, SHAPE, DECODER), train)


def _probe(train: Train) -> Any:
    return _attack(probe.probe(FEATURES, SHAPE, CLASSES, DECODER), train)


def _shadow(train: Train) -> Any:
    layers = shadow.other(SHAPE, FEATURES, True)
    inner, settings = rmle.rmle(layers, SHAPE), shadow.Settings(RECIPE, BATCH)
    return _attack(shadow.shadow(layers, CLOUD, SHAPE, inner, settings), train)


def _denoise(train: Train) -> Any:
    settings = denoise.Settings(RECIPE, BATCH, IMAGES, "generator")
    return _attack(denoise.denoise(rmle.rmle(EDGE, SHAPE), SHAPE, settings), train)


TRAININGS: dict[str, Callable[[Train], Any]] = {
    "classifier": _classifier,
    "nns": partial(_hiding, "squared"),
    "nns, ssim": partial(_hiding, "ssim"),
    "ghost, lsb": partial(_ghost, "lsb"),
    "ghost, lsb, covert, candidates": partial(
        _ghost, "lsb", covert_filters=4, cover_candidates=4
    ),
    "ghost, nns": partial(_ghost, "nns"),
    "ghost, nns, covert": partial(_ghost, "nns", covert_filters=4),
    "ghost+, stego": partial(_ghost_plus, sees="stego"),
    "ghost+, revealed": partial(_ghost_plus, sees="revealed"),
    "ghost+, secret, candidates": partial(
        _ghost_plus, sees="secret", cover_candidates=4
    ),
    "ghost+, label": partial(_ghost_plus, sees="label"),
    "ghost+, one a label": partial(_ghost_plus, generators="label"),
    "arden": _arden,
    "shredder": _shredder,
    "inverse": _inverse,
    "direct": _direct,
    "probe": _probe,
    "shadow": _shadow,
    "cda": _denoise,
}
"""name -> the member's own fit, as a function of `train`."""

NETWORKS: dict[str, Callable[[Train], Any]] = {
    f"classifier, {name}": partial(_zoo_classifier, name)
    for name in ("lenet5", "cnn2", "cnn4_bn_32", "cnn6", "cnn6_gtsrb", "alexnet_svhn")
}
"""The same for the zoo's networks, which are large: to be lowered, not run."""


@lru_cache(maxsize=1)
def search_targets() -> tuple[chain.Variables, Array]:
    """(the edge's variables, features of two images)."""
    edge_variables = chain.select(INVERTED, variables())
    pixels = images()[0][:2].astype(jnp.float32) / 255
    return edge_variables, jax.jit(partial(chain.apply, INVERTED))(
        edge_variables, pixels
    )


def invert(name: str) -> tuple[Array, Array]:
    """(images, trace) of a name in `INVERSIONS`: a few steps from one grey level."""
    solver, unfold = INVERSIONS[name]
    goal = Goal(total_variation="paper", unfold=unfold)
    settings = rmle.Settings(solver, STEPS, "dark", 0.0, goal=goal)
    edge_variables, features = search_targets()
    attack = rmle.rmle(INVERTED, SHAPE, settings)
    return attack.invert(edge_variables, jax.random.key(0), features)


INVERSIONS: dict[str, tuple[str, bool]] = {
    f"rmle, {solver}, {'unfolded' if unfold else 'plain'}": (solver, unfold)
    for solver in SOLVERS
    for unfold in (False, True)
}
"""name -> (the solver, whether it looks behind the edge's last ReLU)."""


def _search(name: str) -> Any:
    with mock.patch.object(rmle.search, "run", _capture_loop):
        return invert(name)


def _readout() -> Any:
    """The search for the last layer of the attack `inverse`."""
    run = _training("inverse")
    network = inverse.decoder(FEATURES, SHAPE, DECODER.width)
    with mock.patch.object(loop, "run", _capture_loop):
        return pairs.solve_last(
            run["key"], network, run["params"], run["data"], run["draw"]
        )


READOUT = "inverse, last layer"
SEARCHES: dict[str, Callable[[], Any]] = {
    name: partial(_search, name) for name in INVERSIONS
} | {READOUT: _readout}
"""name -> the attack's own search."""
