"""Every training of the package and every attack's search, at toy size, one step each.

`trainer(name)` gives the step and what it is called with. Nothing is copied from the
members: a fit, which is a generator, hands out its training; an attack's search is
caught by a loop that does not run it.

A fit is traced up to its training, not run: compiling what members do before they train
(to draw variables, to measure scales) costs more than the steps. Where it would have
computed arrays, the trainer has noise of their shapes.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import probes
from jax import Array
from jax.tree_util import Partial

from ghostjax import registry
from ghostjax.attacks import rmle
from ghostjax.attacks.records import Denoise, Direct, Inverse, Rmle, Shadow
from ghostjax.attacks.solvers import SOLVERS
from ghostjax.base import Attack, Context, Encoder, Knowledge, Probe, Task, limit
from ghostjax.config.sections import Target
from ghostjax.defenses import generator, shredder
from ghostjax.defenses.ghost_plus import ghost_plus
from ghostjax.defenses.records import Arden, Ghost, GhostPlus, Hide, Shredder
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.chain import Chain
from ghostjax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Normalize,
    Relu,
    Sigmoid,
)
from ghostjax.pixels import as_float
from ghostjax.records import AttackRecord, DefenseRecord
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training import loop
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import Fit, Recipe, Training, start, step_of

SHAPE = (16, 16, 1)  # the smallest that GHOST+'s generator takes
CLASSES, SENSITIVE = 4, (2, 3)
IMAGES, BATCH, STEPS = 32, 4, 3
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
CUT = probes.at("pool1", NETWORK, SHAPE)
INVERTED = probes.at("ReLU1", NETWORK, SHAPE)
LSB = registry.build(Lsb(), SHAPE, Context())
BITS = {"bits": np.uint8(3)}  # what LSB's own fit ends in
SENT = registry.build(Hide(), CUT, Context(stego=LSB))


class Trainer(NamedTuple):
    """One step, called as `state, metrics = step(state, index, *arguments)`."""

    step: loop.Step
    state: Any
    arguments: tuple[Any, ...]


class Captured(Exception):
    """The search that a member wanted to run; raised in its place."""

    def __init__(self, step, state, steps, *arguments, **rest):
        self.trainer = Trainer(step, state, arguments)


def trainer(name: str, optimizer: str = "adam") -> Trainer:
    """The step of a name in `TRAININGS`, `NETWORKS` or `SEARCHES`.

    Searches are the backend's at hand: an edge is frozen in the form that suits it.

    Args:
      name: of the training or search.
      optimizer: of the training; searches have their own.
    """
    if name in SEARCHES:
        return captured(SEARCHES[name])
    training = caught(name)._replace(recipe=Recipe(STEPS, optimizer))
    hyper = {key: jnp.asarray(value) for key, value in training.hyper.items()}
    return Trainer(
        step_of(training),
        start(training),
        (training.key, hyper, training.shared, training.own),
    )


def captured(work: Callable[[], Any]) -> Trainer:
    """Does the work up to the search that is captured there."""
    try:
        work()
    except Captured as capture:
        return capture.trainer
    raise AssertionError("nothing was run")


def _capture(*arguments: Any, **rest: Any) -> None:
    """In the place of `loop.run` or `search.run`."""
    raise Captured(*arguments, **rest)


@lru_cache(maxsize=64)
def caught(name: str) -> Training:
    """The first training that the member's fit yields."""
    yielded = []

    def arrays():
        yielded.append(next((TRAININGS | NETWORKS)[name]()))
        parts = (getattr(yielded[0], part) for part in _ARRAYS)
        return jax.tree.map(lambda x: x + 0 if _computed(x) else None, tuple(parts))

    shapes = jax.eval_shape(arrays)
    filled = {
        part: jax.tree.map(
            partial(_fill, np.random.default_rng(0), part == "params"),
            shape,
            getattr(yielded[0], part),
            is_leaf=lambda leaf: leaf is None,
        )
        for part, shape in zip(_ARRAYS, shapes, strict=True)
    }
    return yielded[0]._replace(key=jax.random.key(0), **filled)


_ARRAYS = ("params", "model_state", "shared", "own")


def _computed(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer)


def _fill(draw: np.random.Generator, signed: bool, shape: Any, leaf: Any) -> Any:
    """The array itself where it is one, else noise of its shape.

    Weights by He et al.'s rule; scales, variances and rates are positive; integers are
    rows of the images.
    """
    if not _computed(leaf):
        return leaf
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        return draw.integers(0, IMAGES, shape.shape).astype(shape.dtype)
    if not shape.shape:
        return np.asarray(0.5, shape.dtype)
    fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) > 1 else 4
    noise = draw.standard_normal(shape.shape, np.float32) * (2 / fan_in) ** 0.5
    return (noise if signed else 0.5 + abs(noise)).astype(shape.dtype)


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


def task(learned: Any = ()) -> Task:
    """`learned` is what the stego method is called with."""
    with jax.ensure_compile_time_eval():
        return probes.task(CUT, variables(), *images(), SENSITIVE, learned)


def knowledge(needs: tuple[str, ...]) -> Knowledge:
    pixels, labels = images()
    params = {"edge": chain.select(CUT.edge, variables()), "stego": BITS}
    everything = Knowledge(
        edge_variables=params["edge"],
        cloud_variables=chain.select(CUT.cloud, variables()),
        query=Partial(SENT.send, params),
        public_images=pixels,
        public_labels=labels,
        perturbed_pairs=(pixels, pixels),
        stego_params=BITS,
        encode=Partial(Encoder(SENT), params),
    )
    return limit(everything, needs)


def _classify(network: Chain, data: LabelledImages) -> Fit:
    record = Target(epochs=1, batch_size=BATCH)
    fit = classifier(network, static_half(record), Context(train_count=IMAGES))
    return fit(jax.random.key(0), traced_half(record), data)


def _classifier() -> Fit:
    return _classify(LAYERS, LabelledImages(*images()))


def _zoo_classifier(name: str) -> Fit:
    network = zoo.network(name)
    pixels = np.zeros((IMAGES, *network.image_shape), np.uint8)
    data = LabelledImages(pixels, images()[1])
    return _classify(network.build(network.classes), data)


def _hiding(distance: str) -> Fit:
    record = Nns(network="n16", distance=distance, epochs=1, batch_size=BATCH)
    method = registry.build(record, SHAPE, Context(train_count=IMAGES))
    return method.fit(jax.random.key(0), traced_half(record), images()[0])


def _defend(record: DefenseRecord, context: Context, learned: Any = ()) -> Fit:
    defense = registry.build(record, CUT, context)
    return defense.fit(jax.random.key(0), traced_half(record), task(learned))


def _ghost(hiding: str, **choices: int) -> Fit:
    record = Ghost(batch_size=BATCH, public_batch_size=BATCH, **choices)
    if hiding == "lsb":
        return _defend(record, Context(stego=LSB), BITS)
    method = registry.build(Nns(network="n16"), SHAPE, Context(train_count=IMAGES))
    return _defend(record, Context(stego=method), caught("nns").params)


def _ghost_plus(**choices: Any) -> Fit:
    """With one residual block of the four, which are alike."""
    record = GhostPlus(batch_size=BATCH, **choices)
    with mock.patch.object(generator, "_BLOCKS", 1):
        defense = ghost_plus(CUT, static_half(record), Context(stego=LSB))
    return defense.fit(jax.random.key(0), traced_half(record), task(BITS))


def _arden() -> Fit:
    return _defend(Arden(batch_size=BATCH, bound=1.0), Context())


def _shredder() -> Fit:
    with mock.patch.object(shredder, "_require_signal", lambda signal: None):
        fit = _defend(Shredder(batch_size=BATCH, members=3), Context())
        yield next(fit)


def _attack(record: AttackRecord) -> Fit:
    attack = registry.build(record, CUT, Context(public_count=IMAGES))
    return _learn(attack, traced_half(record))


def _learn(learner: Attack | Probe, hyper: dict[str, Any]) -> Fit:
    return learner.fit(jax.random.key(0), hyper, knowledge(learner.needs))


def _probe() -> Fit:
    attack = registry.build(DIRECT, CUT, Context(public_count=IMAGES))
    return _learn(attack.probe, traced_half(DIRECT))


def _denoise() -> Fit:
    inner, record = Rmle(), Denoise(pairs="generator", batch_size=BATCH, images=IMAGES)
    attack = registry.build(inner, CUT, Context())
    denoised = registry.build(record, CUT, Context(inner=attack, public_count=IMAGES))
    hyper = {"attack": traced_half(inner), "denoise": traced_half(record)}
    return _learn(denoised, hyper)


DIRECT = Direct(epochs=1, batch_size=BATCH, width=8)

TRAININGS: dict[str, Callable[[], Fit]] = {
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
    "inverse": partial(_attack, Inverse(epochs=1, batch_size=BATCH, width=8)),
    "direct": partial(_attack, DIRECT),
    "probe": _probe,
    "shadow": partial(_attack, Shadow(epochs=1, batch_size=BATCH)),
    "cda": _denoise,
}
"""name -> the member's own fit."""

NETWORKS: dict[str, Callable[[], Fit]] = {
    f"classifier, {name}": partial(_zoo_classifier, name)
    for name in ("lenet5", "cnn2", "cnn4_bn_32", "cnn6", "cnn6_gtsrb", "alexnet_svhn")
}
"""The same for the zoo's networks, which are large: to be lowered, not run."""


@lru_cache(maxsize=1)
def search_targets() -> tuple[chain.Variables, Array]:
    """(the edge's variables, features of two images)."""
    edge_variables = chain.select(INVERTED.edge, variables())
    pixels = as_float(images()[0][:2])
    return edge_variables, jax.jit(partial(chain.apply, INVERTED.edge))(
        edge_variables, pixels
    )


def invert(name: str) -> tuple[Array, Array]:
    """(images, trace) of a name in `INVERSIONS`: a few steps from one grey level."""
    solver, unfold = INVERSIONS[name]
    record = Rmle(solver=solver, steps=STEPS, start="dark", tolerance=0, unfold=unfold)
    edge_variables, features = search_targets()
    attack = registry.build(record, INVERTED, Context())
    hyper = traced_half(record)
    inversion = attack.invert(edge_variables, jax.random.key(0), features, hyper)
    return inversion.images, inversion.trace


INVERSIONS: dict[str, tuple[str, bool]] = {
    f"rmle, {solver}, {'unfolded' if unfold else 'plain'}": (solver, unfold)
    for solver in SOLVERS
    for unfold in (False, True)
}
"""name -> (the solver, whether it looks behind the edge's last ReLU)."""


def _search(name: str) -> Any:
    with mock.patch.object(rmle.search, "run", _capture):
        return invert(name)


def _readout() -> Any:
    """The search for the last layer of the attack `inverse`, after its training."""
    fit = TRAININGS["inverse"]()
    state = start(next(fit))
    with mock.patch.object(loop, "run", _capture):
        return fit.send(state)


READOUT = "inverse, last layer"
SEARCHES: dict[str, Callable[[], Any]] = {
    name: partial(_search, name) for name in INVERSIONS
} | {READOUT: _readout}
"""name -> the attack's own search."""
