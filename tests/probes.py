"""Learning problems whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np

from ghostjax.base import Context, Cut, Rows, Task
from ghostjax.config.sections import Target
from ghostjax.data import Partition, roles
from ghostjax.fields import static_half, traced_half
from ghostjax.models.chain import cut, select
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu
from ghostjax.training import loop
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import drive, step_of
from ghostjax.training.fit import start as start_of

ANSWER = jnp.arange(4.0)


def data():
    """Noise-free linear data: targets are inputs times ANSWER."""
    inputs = jax.random.normal(jax.random.key(0), (100, 4))
    return inputs, inputs @ ANSWER


def loss(params, model_state, key, batch, hyper, shared):
    """Squared error, with a count of the steps as model state."""
    inputs, targets = batch
    value = ((inputs @ params["w"] - targets) ** 2).mean()
    return value, ({"seen": model_state["seen"] + 1}, {"error": value})


def draw(key, index, shared, own):
    """A random batch of 16, folded from the step."""
    size = len(shared[0])
    chosen = jax.random.randint(jax.random.fold_in(key, index), (16,), 0, size)
    return shared[0][chosen], shared[1][chosen]


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
    record = Target(epochs=1, batch_size=64, learning_rate=3e-3)
    data = LabelledImages(jnp.asarray(images), jnp.asarray(labels))
    context = Context(train_count=64 * steps)
    fit = classifier(NETWORK, static_half(record), context)
    return drive(fit(jax.random.key(0), traced_half(record), data))[0]


def for_steps(count):
    """A `fit` of so many steps, whatever the record says, for records of a constant
    rate: a step's program is the same."""

    def run(training):
        read = training.key, dict(training.hyper), training.shared, training.own
        begin = start_of(training)
        return loop.run(step_of(training), begin, count, *jax.device_put(read))

    return run


def at(layer, network=NETWORK, shape=SHAPE):
    """The network cut after a layer."""
    return Cut(*cut(network, layer), shape)


def task(cut_, variables, images, labels, sensitive, stego=()):
    """The task of a defense on images whose `sensitive` labels are secret."""
    labels = np.asarray(labels)
    classes = range(cut_.classes)
    public = tuple(label for label in classes if label not in sensitive)
    role = roles(labels, Partition(tuple(sensitive), public))
    return Task(
        edge_variables=select(cut_.edge, variables),
        cloud_variables=select(cut_.cloud, variables),
        images=jnp.asarray(images),
        labels=jnp.asarray(labels),
        covers=padded(role.covers, len(labels)),
        secrets=padded(role.secrets, len(labels)),
        sensitive=np.isin(classes, sensitive),
        stego=stego,
    )


def padded(rows, size):
    """Rows of a data set of `size` images, as a task has them."""
    return Rows(np.resize(rows, size).astype(np.int32), len(rows))
