"""A small problem that trains nothing: what members are tried on by `testing`.

32 pictures of noise, 16 x 16 x 1, and 4 classes, of which 2 and 3 are sensitive. The
layers conv1 and ReLU1 are the edge, fc1 is the cloud; weights are drawn on the host, by
He et al.'s rule. Everything is the same at every call.
"""

import dataclasses
from functools import cache, partial
from math import prod
from typing import Any, Never

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from ghostjax import registry
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Encoder,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    Params,
    Rows,
    Task,
)
from ghostjax.defenses import plain
from ghostjax.defenses.records import Hide
from ghostjax.fields import Hyper, Record, facts
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Dense, Relu
from ghostjax.pixels import as_float
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import Fit

__all__ = [
    "Poison",
    "Touched",
    "another",
    "attack",
    "changed",
    "cut",
    "keys",
    "knowledge",
    "moved",
    "pictures",
    "targets",
    "task",
]

_SHAPE = (16, 16, 1)  # the smallest that GHOST+'s generator takes
_CLASSES = 4
_IMAGES = 32
_LSB = {"bits": np.uint8(3)}  # what the fit of Lsb() ends in
_NETWORK: chain.Chain = (
    ("conv1", Conv(4, 3, "SAME")),
    ("ReLU1", Relu()),
    ("fc1", Dense(_CLASSES)),
)


def cut() -> Cut:
    """The network, cut behind ReLU1."""
    return Cut(*chain.cut(_NETWORK, "ReLU1"), _SHAPE)


@cache
def keys() -> tuple[Key, ...]:
    """Four typed keys."""
    return tuple(jax.random.key(seed) for seed in range(4))


def pictures(shape: tuple[int, ...] = _SHAPE) -> np.ndarray:
    """Noise, uint8 [32, *shape]."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (_IMAGES, *shape), dtype=np.uint8)


def task(network: Cut, variables: tuple[Params, Params] | None = None) -> Task:
    """The pictures, for a network; half of its labels, the upper ones, are sensitive.

    Args:
      network: for images of any shape.
      variables: of edge and cloud; None: drawn, for networks of layers.
    """
    if variables is None:
        variables = _drawn(network)
    labels = np.arange(_IMAGES, dtype=np.int32) % network.classes
    sensitive = np.arange(network.classes) >= network.classes // 2
    return Task(
        edge_variables=variables[0],
        cloud_variables=variables[1],
        images=jax.device_put(pictures(network.image_shape)),
        labels=jax.device_put(labels),
        covers=_rows(~sensitive[labels]),
        secrets=_rows(sensitive[labels]),
        sensitive=sensitive,
        stego=_LSB,
    )


def another(problem: Task) -> Task:
    """A task of the same shapes: other weights, pictures and sensitive labels, other
    numbers of covers and secrets, and 2 bits where secrets are hidden by LSB."""
    labels = np.asarray(problem.labels)
    sensitive = np.roll(problem.sensitive, 1)
    if len(np.unique(sensitive[labels[1:]])) < 2:  # no covers, or no secrets
        sensitive = problem.sensitive
    chosen = np.arange(len(labels)) > 0  # one fewer of them
    return problem._replace(
        edge_variables=changed(problem.edge_variables),
        cloud_variables=changed(problem.cloud_variables),
        images=changed(problem.images),
        covers=_rows(chosen & ~sensitive[labels]),
        secrets=_rows(chosen & sensitive[labels]),
        sensitive=sensitive,
        stego={"bits": np.uint8(2)} if problem.stego else problem.stego,
    )


def knowledge(
    network: Cut, variables: tuple[Params, Params] | None = None
) -> Knowledge:
    """All that can be known where secrets are hidden by LSB and what hides them crosses
    the cut plainly; the arguments are those of `task`."""
    problem = task(network, variables)
    lsb = registry.build(Lsb(), network.image_shape, Context())
    hiding = registry.build(Hide(), network, Context(stego=lsb))
    params = {**plain.halves(problem), "stego": _LSB}
    return Knowledge(
        edge_variables=problem.edge_variables,
        cloud_variables=problem.cloud_variables,
        query=Partial(hiding.send, params),
        public_images=problem.images,
        public_labels=problem.labels,
        perturbed_pairs=(problem.images, problem.images),
        stego_params=_LSB,
        encode=Partial(Encoder(hiding), params),
    )


def targets(network: Cut, known: Knowledge, count: int) -> Features:
    """[count, ...], of the last pictures; noise where there is no query."""
    if known.query is None:
        draw = np.random.default_rng(1)
        noise = draw.standard_normal((count, *network.feature_shape), np.float32)
        return jax.device_put(abs(noise))
    images = as_float(pictures(network.image_shape)[-count:])
    return _sent(known.query, keys()[0], images)


@jax.jit
def _sent(query: Partial, key: Key, images: Images) -> Features:
    return query(key, images)


def attack(network: Cut) -> Attack:
    """Fixed mixtures of the features as pictures: [B, ...] to [B, H, W, C] in [0, 1].

    It needs `edge_variables`; its `hyper` is {"gain"}.
    """
    values, pixels = prod(network.feature_shape), prod(network.image_shape)
    draw = np.random.default_rng(2)
    mixing = draw.standard_normal((values, pixels), np.float32) / values**0.5

    def fit(key: Key, hyper: Hyper, known: Knowledge) -> Fit:
        yield from ()
        return known.edge_variables

    @jax.jit
    def invert(params: Params, key: Key, features: Features, hyper: Hyper) -> Inversion:
        light = sum(leaf.mean() for leaf in jax.tree.leaves(params))
        mixed = features.reshape(len(features), -1) @ mixing
        clouds = jax.nn.sigmoid(light + jnp.reshape(hyper["gain"], (-1, 1)) * mixed)
        return Inversion(clouds.reshape(-1, *network.image_shape))

    return Attack("toy", ("edge_variables",), fit, invert)


def moved(record: Any) -> Any:
    """The record with other traced values, as far as its ranges let them; its static
    half is the same."""
    for field in dataclasses.fields(record):
        value, known = getattr(record, field.name), facts(field)
        if isinstance(value, Record):
            record = dataclasses.replace(record, **{field.name: moved(value)})
        elif known.kind in ("traced", "switch"):
            for other in (value / 2, 2 * value, 0.5, value + 1, value - 1):
                if isinstance(value, int) and other != int(other):
                    continue
                other = type(value)(other)
                off = known.kind == "switch" and bool(other) != bool(value)
                if other != value and not off and known.range.holds(other):
                    record = dataclasses.replace(record, **{field.name: other})
                    break
    return record


def changed(tree: Any) -> Any:
    """A pytree of the same shapes with other numbers: floats are smaller, pictures are
    negatives, whole numbers stay."""
    return jax.tree.map(_changed, tree)


def _changed(leaf: Any) -> Any:
    values = np.asarray(leaf)
    if values.dtype.kind == "f":
        values = values * values.dtype.type(0.9)
    elif values.dtype == np.uint8 and values.ndim:
        values = 255 - values
    return jax.device_put(values) if isinstance(leaf, Array) else values


class Touched(Exception):
    """Somebody read what it may not know; the name of the field."""


class Poison:
    """Stands for a field that nobody may touch: whatever is done to it raises
    `Touched`."""

    _field: str

    def __init__(self, field: str):
        self.__dict__["_field"] = field

    def _touch(self, *_: Any, **__: Any) -> Never:
        raise Touched(self._field)

    __getattr__ = __call__ = __getitem__ = __iter__ = __len__ = __bool__ = _touch
    __array__ = __jax_array__ = __add__ = __radd__ = __mul__ = __rmul__ = _touch
    __sub__ = __rsub__ = __truediv__ = __matmul__ = __rmatmul__ = _touch
    __eq__ = __hash__ = _touch


def _drawn(network: Cut) -> tuple[Params, Params]:
    """Variables of edge and cloud: weights of either sign, statistics above 0."""
    layers, draw = network.edge + network.cloud, np.random.default_rng(3)
    image = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
    shapes = jax.eval_shape(partial(chain.init, layers), keys()[0], image)

    def filled(path: Any, leaf: Any) -> Array:
        fan_in = prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 16
        noise = draw.standard_normal(leaf.shape) * (2 / fan_in) ** 0.5
        if not any(getattr(part, "key", "") == "params" for part in path):
            noise = 0.5 + abs(noise)
        return jax.device_put(noise.astype(leaf.dtype))

    drawn = jax.tree_util.tree_map_with_path(filled, shapes)
    return chain.select(network.edge, drawn), chain.select(network.cloud, drawn)


def _rows(chosen: np.ndarray) -> Rows:
    rows = np.flatnonzero(chosen).astype(np.int32)
    return Rows(np.resize(rows, chosen.shape), len(rows))
