"""The target network's training: it learns, and whole sweeps of it are one vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import bars

from ghostjax import registry
from ghostjax.base import Context
from ghostjax.config.sections import Target
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import BatchNorm, Conv, Dense, Dropout, MaxPool, Relu
from ghostjax.training import loop
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import Recipe, drive, fit

NETWORK = (
    ("conv1", Conv(8, 3)),
    ("ReLU1", Relu()),
    ("pool1", MaxPool()),
    ("fc1", Dense(4)),
)
FRAGILE = (*NETWORK[:3], ("bn1", BatchNorm()), ("drop1", Dropout(0.1)), NETWORK[3])
RECORD = Target(epochs=1, batch_size=64, learning_rate=1e-2)


def data(seed):
    return LabelledImages(*map(jnp.asarray, bars(seed, 300)))


def fitted(key, rate=None, layers=NETWORK, steps=40, scanned=False):
    """(variables, metrics) after so many steps."""
    context = Context(train_count=64 * steps)
    fitting = registry.construct(classifier, layers, RECORD, context)
    hyper = traced_half(RECORD) | ({} if rate is None else {"learning_rate": rate})
    run = partial(fit, scanned=scanned)
    variables, metrics = drive(fitting(key, hyper, data(0)), run)
    return variables, metrics["target"]


@pytest.mark.parametrize("layers", [NETWORK, FRAGILE], ids=["plain", "norm, dropout"])
def test_it_learns_bars(layers):
    variables, metrics = fitted(jax.random.key(0), layers=layers)
    images, labels = data(1)
    images = np.float32(images / 255)
    logits = jax.jit(chain.apply, static_argnums=0)(layers, variables, images)
    right, n = (np.asarray(logits).argmax(-1) == labels).mean(), len(labels)
    assert right > 0.9, f"{right:.3f} of {n} right"
    assert metrics["accuracy"].shape == (40,)
    assert metrics["loss"][-1] < 0.3 * metrics["loss"][0]


def test_a_sweep_over_seeds_and_rates_is_one_vmap():
    keys, rates = jax.random.split(jax.random.key(1), 5), np.linspace(1e-3, 5e-3, 5)
    rates = rates.astype(np.float32)
    short = partial(fitted, layers=NETWORK[2:], steps=3)
    together, _ = jax.vmap(short)(keys, rates)
    together = jax.device_get(together)
    for place in (0, 4):
        alone, _ = short(keys[place], rates[place])
        for one, several in zip(*map(jax.tree.leaves, (alone, together)), strict=True):
            np.testing.assert_allclose(several[place], one, rtol=1e-3, atol=1e-5)


def test_an_epoch_sees_each_image_once_and_the_last_is_not_cut_short():
    context = Context(train_count=300)
    record = Target(epochs=3, batch_size=64)
    fitting = registry.construct(classifier, NETWORK, record, context)
    training = next(fitting(jax.random.key(0), traced_half(record), data(0)))
    assert training.recipe == Recipe(15, "adam", "constant")  # 900 / 64 = 14.1
    batch, _ = training.draw(jax.random.key(1), 0, training.shared, training.own)
    assert batch.shape == (64, 14, 14, 1) and float(batch.max()) <= 1


def test_a_network_of_another_seed_and_rate_compiles_nothing():
    fitted(jax.random.key(2), layers=NETWORK[2:], steps=3)
    before = loop._stepped._cache_size()
    fitted(jax.random.key(3), np.float32(1e-3), layers=NETWORK[2:], steps=3)
    assert loop._stepped._cache_size() == before
