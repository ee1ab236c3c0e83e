"""Learning problems whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.layers import Conv, Dense, MaxPool, Relu
from ghostjax.train import Recipe

ANSWER = jnp.arange(4.0)


def data():
    """Noise-free linear data: targets are inputs times ANSWER."""
    inputs = jax.random.normal(jax.random.key(0), (100, 4))
    return inputs, inputs @ ANSWER


def loss(params, model_state, key, batch):
    """Squared error, with a count of the steps as model state."""
    inputs, targets = batch
    value = ((inputs @ params["w"] - targets) ** 2).mean()
    return value, ({"seen": model_state["seen"] + 1}, {"error": value})


def draw(key, index, data):
    """A random batch of 16, folded from the step."""
    chosen = jax.random.randint(jax.random.fold_in(key, index), (16,), 0, len(data[0]))
    return data[0][chosen], data[1][chosen]


def start():
    """(params, model_state)."""
    return {"w": jnp.zeros(4)}, {"seen": jnp.int32(0)}


SHAPE = (14, 14, 1)
NETWORK = (
    ("conv1", Conv(8, 3)),
    ("ReLU1", Relu()),
    ("pool1", MaxPool()),
    ("fc1", Dense(32)),
    ("fc1act", Relu()),
    ("fc2", Dense(4)),
)


def bars(seed, count):
    """Pictures with one bright bar: left, right, top or bottom; label 0 to 3."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, count).astype(np.int32)
    images = np.zeros((count, *SHAPE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        place, ink = draw.integers(1, 4), draw.integers(200, 256)
        lines = image if label >= 2 else image.swapaxes(0, 1)
        lines[place if label % 2 == 0 else -place - 2] = ink
    return images, labels


def target(images, labels, steps):
    """NETWORK's variables, trained for so many steps on images [N, H, W, C]."""
    variables, _ = fit_classifier(
        jax.random.key(0),
        NETWORK,
        LabelledImages(jnp.asarray(images), jnp.asarray(labels)),
        recipe=Recipe(steps),
        batch_size=64,
        learning_rate=3e-3,
    )
    return variables
