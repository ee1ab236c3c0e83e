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

from ghostjax import chain, train, zoo
from ghostjax.base import Stego, Task
from ghostjax.chain import Chain, Variables
from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.defenses import ghost, ghost_plus
from ghostjax.stego import lsb, nns
from ghostjax.train import Recipe

NETWORKS = "lenet5", "cnn2", "cnn4_bn", "cnn6", "cnn6_gtsrb"
SENSITIVE = 6, 7, 8, 9  # labels of the drawn digits that are secrets
_COUNT = 4096  # pictures of a data set

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
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8), labels


@cache
def pictures(network: str) -> LabelledImages:
    """The data of a network of `zoo.NETWORKS`, on the device."""
    entry = zoo.network(network)
    images, labels = draw_pictures(entry.image_shape, entry.classes, _COUNT, 0)
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
    return fit_classifier(
        jax.random.key(0),
        layers(network),
        pictures(network),
        recipe=Recipe(steps, "adam", "one_cycle"),
        batch_size=128,
        learning_rate=2e-3,
    )[0]


class Training(NamedTuple):
    """What a `fit` handed to `train`."""

    key: jax.Array
    params: Any
    model_state: Any
    data: Any
    learning_rate: jax.Array
    loss: train.Loss
    draw: train.Draw
    recipe: Recipe
    batch: int  # images a step

    @property
    def step(self) -> Callable[..., Any]:
        """`step(state, index, key, learning_rate, data) -> (state, metrics)`."""
        return train.make_step(self.loss, self.draw, self.recipe)

    @property
    def state(self) -> train.TrainState:
        return train.start(self.params, self.model_state, self.recipe)

    @property
    def constants(self) -> tuple[Any, ...]:
        return self.key, self.learning_rate, self.data


def capture(fit: Callable[..., Any], batch: int) -> Training:
    """The first training of `fit(train=...)`; nothing is trained."""
    captured = []

    def record(
        key, params, model_state, data, learning_rate, *, loss, draw, recipe, part=""
    ):
        rate = jnp.float32(learning_rate)
        captured.append(
            Training(
                key, params, model_state, data, rate, loss, draw, recipe, batch=batch
            )
        )
        return train.start(params, model_state, recipe), {}

    fit(train=record)
    return captured[0]


RECIPE = Recipe(1000)  # its number of steps changes no program


def classifier(network: str, batch: int, recipe: Recipe = RECIPE) -> Training:
    """The target network's training."""
    fit = partial(
        fit_classifier,
        jax.random.key(1),
        layers(network),
        pictures(network),
        recipe=recipe,
        batch_size=batch,
        learning_rate=1e-3,
    )
    return capture(fit, batch)


def stego_network(batch: int, recipe: Recipe = RECIPE) -> Training:
    """Neural steganography, `n32`, on pictures of MNIST's shape."""
    settings = nns.Settings(recipe, "n32", batch_size=batch)
    method = nns.nns((28, 28, 1), settings)
    images = pictures("cnn2").images
    return capture(partial(method.fit, jax.random.key(1), images), batch)


def task(network: str, cut: str, weights: Variables, stego: Any = ()) -> Task:
    """The task of a defense: the drawn digits 6 to 9 are secrets."""
    data = pictures(network)
    sensitive = np.isin(np.asarray(data.labels), SENSITIVE)
    halves = chain.cut(layers(network), cut)
    edge, cloud = (chain.select(half, weights) for half in halves)
    covers, secrets = (jnp.asarray(np.flatnonzero(x)) for x in (~sensitive, sensitive))
    return Task(edge, cloud, *data, covers, secrets, stego)


def covert_branch(
    batch: int, recipe: Recipe = RECIPE, weights: Variables | None = None
) -> Training:
    """GHOST's covert retraining over LSB at `pool1` of cnn2: half of it stegos."""
    settings = ghost.Settings(recipe, batch // 2, batch // 2, covert_filters=16)
    edge, cloud = chain.cut(layers("cnn2"), "pool1")
    defense = ghost.ghost(edge, cloud, (28, 28, 1), lsb.lsb(3), settings)
    problem = task("cnn2", "pool1", weights or variables("cnn2"))
    return capture(partial(defense.fit, jax.random.key(2), problem), batch)


def generator(batch: int, recipe: Recipe = RECIPE) -> Training:
    """GHOST+'s generator over LSB at `pool1` of cnn2."""
    settings = ghost_plus.Settings(recipe, batch, sees="revealed")
    edge, cloud = chain.cut(layers("cnn2"), "pool1")
    method: Stego = lsb.lsb(3)
    defense = ghost_plus.ghost_plus(edge, cloud, (28, 28, 1), method, settings)
    problem = task("cnn2", "pool1", variables("cnn2"))
    return capture(partial(defense.fit, jax.random.key(3), problem), batch)


TRAININGS: dict[str, Callable[..., Training]] = {
    **{name: partial(classifier, name) for name in NETWORKS},
    "stego network n32": stego_network,
    "covert branch": covert_branch,
    "generator": generator,
}
"""name -> (batch, recipe) to the training."""
