"""Data, networks and trainings that the sections measure. Nothing is downloaded.

Pictures are drawn here: seven-segment digits, moved, thickened and tinted at random, of
MNIST's or CIFAR's shape. They count for nothing but speed, agreement, and how sure a
small network is of them.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax import registry
from ghostjax.base import Context, Cut, Defense, Rows, Task
from ghostjax.config.sections import Target
from ghostjax.defenses.records import Ghost, GhostPlus
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.chain import Chain, Variables
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu
from ghostjax.pixels import as_bytes
from ghostjax.records import DefenseRecord
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import (
    Fit,
    Recipe,
    Step,
    Training,
    TrainState,
    drive,
    start,
    step_of,
)

NETWORKS = "lenet5", "cnn2", "cnn4_bn", "cnn6", "cnn6_gtsrb"
GREY = 28, 28, 1  # MNIST's shape
SENSITIVE = 6, 7, 8, 9  # labels of the drawn digits that are secrets
_COUNT = 4096  # pictures of a data set

TOY = "toy"
"""A network for `--small`, of a few operations and with few pictures."""
_TOY_COUNT = 256

# Segments as (top, bottom, left, right) shares of a digit's box; which are lit.
_SEGMENTS = {
    "a": (0.0, 0.12, 0.0, 1.0),
    "b": (0.0, 0.5, 0.85, 1.0),
    "c": (0.5, 1.0, 0.85, 1.0),
    "d": (0.88, 1.0, 0.0, 1.0),
    "e": (0.5, 1.0, 0.0, 0.15),
    "f": (0.0, 0.5, 0.0, 0.15),
    "g": (0.44, 0.56, 0.0, 1.0),
}
_DIGITS = "abcdef bc abdeg abcdg bcfg acdfg acdefg abc abcdefg abcdfg".split()


def draw_pictures(
    shape: tuple[int, int, int], classes: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [count, H, W, C] and labels int32 [count].

    A label's last digit is drawn, its tens tint a colour picture.
    """
    height, width, channels = shape
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count).astype(np.int32)
    images = np.zeros((count, height, width), np.float32)
    for image, label in zip(images, labels, strict=True):
        tall, wide = draw.integers(17, 22), draw.integers(9, 14)
        top, left = draw.integers(2, 6), draw.integers(4, width - wide - 4)
        for segment in _DIGITS[label % 10]:
            up, down, start, end = _SEGMENTS[segment]
            rows = slice(top + int(up * tall), top + max(int(down * tall), 1) + 1)
            columns = slice(left + int(start * wide), left + int(end * wide) + 1)
            image[rows, columns] = draw.uniform(0.7, 1.0)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    windows = [padded[:, i : i + height, j : j + width] for i, j in np.ndindex(3, 3)]
    images = np.mean(windows, 0)[..., None] * 1.5
    if channels > 1:
        tint = 0.4 + 0.6 * np.random.default_rng(0).random((10, channels))
        images = images * tint[labels // 10][:, None, None]
        images = images + draw.uniform(0, 0.3, (count, 1, 1, channels))
    return np.asarray(as_bytes(np.clip(images, 0, 1))), labels


def toy(classes: int) -> Chain:
    """A convolution and a dense layer."""
    return (
        ("conv1", Conv(4, 3)),
        ("ReLU1", Relu()),
        ("pool1", MaxPool(4, 4)),
        ("fc1", Dense(classes)),
    )


registry.NETWORKS.add(TOY, zoo.Network(build=toy, image_shape=GREY, classes=10))


@cache
def pictures(network: str) -> LabelledImages:
    """The data of a network by name, on the device."""
    entry, count = zoo.network(network), _TOY_COUNT if network == TOY else _COUNT
    images, labels = draw_pictures(entry.image_shape, entry.classes, count, 0)
    return LabelledImages(jnp.asarray(images), jnp.asarray(labels))


@cache
def layers(network: str) -> Chain:
    entry = zoo.network(network)
    return entry.build(entry.classes)


@cache
def variables(network: str) -> Variables:
    """As initialised."""
    image = jnp.zeros((1, *zoo.network(network).image_shape))
    return jax.jit(partial(chain.init, layers(network)))(jax.random.key(0), image)


@cache
def trained(network: str, steps: int) -> Variables:
    """Trained for some seconds on the drawn pictures."""
    record = Target(epochs=1, batch_size=128, learning_rate=2e-3, schedule="one_cycle")
    context = Context(train_count=128 * steps)
    fit = classifier(layers(network), static_half(record), context)
    hyper = traced_half(record)
    return drive(fit(jax.random.key(0), hyper, pictures(network)))[0]


RECIPE = Recipe(1000)  # its number of steps changes no program


class Learning(NamedTuple):
    """A training, and what its step is called with."""

    training: Training
    batch: int  # images a step

    @property
    def step(self) -> Step:
        """`step(state, index, key, hyper, shared, own) -> (state, metrics)`."""
        return step_of(self.training)

    @property
    def state(self) -> TrainState:
        """Before the first step."""
        return start(self.training)

    @property
    def constants(self) -> tuple[Any, ...]:
        """(key, hyper, shared, own), as arrays."""
        one = self.training
        hyper = jax.tree.map(jnp.asarray, dict(one.hyper))
        return one.key, hyper, one.shared, one.own


def learning(fit: Fit, batch: int, recipe: Recipe) -> Learning:
    """The first training of a fit, by another recipe; nothing is trained."""
    return Learning(next(fit)._replace(recipe=recipe), batch)


def network(name: str, batch: int, recipe: Recipe = RECIPE) -> Learning:
    """The target network's training."""
    record, data = Target(batch_size=batch, learning_rate=1e-3), pictures(name)
    context = Context(train_count=len(data.labels))
    fit = classifier(layers(name), static_half(record), context)
    fitting = fit(jax.random.key(1), traced_half(record), data)
    return learning(fitting, batch, recipe)


def stego_network(batch: int, recipe: Recipe = RECIPE) -> Learning:
    """Neural steganography, `n32`, on pictures of MNIST's shape."""
    record, images = Nns(batch_size=batch), pictures("cnn2").images
    method = registry.build(record, GREY, Context(train_count=len(images)))
    fitting = method.fit(jax.random.key(1), traced_half(record), images)
    return learning(fitting, batch, recipe)


def cut(name: str, layer: str) -> Cut:
    """A network cut after a layer."""
    return Cut(*chain.cut(layers(name), layer), zoo.network(name).image_shape)


def task(halves: Cut, data: LabelledImages, weights: Variables) -> Task:
    """The task of a defense over LSB: the drawn digits 6 to 9 are secrets."""
    sensitive = np.isin(np.arange(halves.classes), SENSITIVE)
    secret = sensitive[np.asarray(data.labels)]
    covers, secrets = (
        Rows(np.resize(rows, len(secret)).astype(np.int32), len(rows))
        for rows in (np.flatnonzero(~secret), np.flatnonzero(secret))
    )
    return Task(
        edge_variables=chain.select(halves.edge, weights),
        cloud_variables=chain.select(halves.cloud, weights),
        images=data.images,
        labels=data.labels,
        covers=covers,
        secrets=secrets,
        sensitive=sensitive,
        stego=traced_half(Lsb()),
    )


def defended(record: DefenseRecord) -> tuple[Defense, Cut]:
    """A defense over LSB at `pool1` of cnn2."""
    halves = cut("cnn2", "pool1")
    stego = registry.build(Lsb(), GREY, Context())
    return registry.build(record, halves, Context(stego=stego)), halves


def covert_branch(batch: int, recipe: Recipe = RECIPE) -> Learning:
    """GHOST's covert retraining: half of a batch are stegos."""
    half = batch // 2
    record = Ghost(batch_size=half, public_batch_size=half, covert_filters=16)
    return _defending(record, 2, batch, recipe)


def generator(batch: int, recipe: Recipe = RECIPE) -> Learning:
    """GHOST+'s generator, which sees what is hidden."""
    return _defending(GhostPlus(batch_size=batch, sees="revealed"), 3, batch, recipe)


def _defending(
    record: DefenseRecord, seed: int, batch: int, recipe: Recipe
) -> Learning:
    defense, halves = defended(record)
    problem = task(halves, pictures("cnn2"), variables("cnn2"))
    fitting = defense.fit(jax.random.key(seed), traced_half(record), problem)
    return learning(fitting, batch, recipe)


TRAININGS: dict[str, Callable[..., Learning]] = {
    **{name: partial(network, name) for name in NETWORKS},
    "stego network n32": stego_network,
    "covert branch": covert_branch,
    "generator": generator,
    TOY: partial(network, TOY),
}
"""name -> (batch, recipe) to the training."""
