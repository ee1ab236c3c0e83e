"""The target network's training: it learns, and whole sweeps of it are one vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import NETWORK, bars

from ghostjax import chain, parallel
from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.layers import BatchNorm, Dropout
from ghostjax.train import Recipe

FRAGILE = (*NETWORK[:3], ("bn1", BatchNorm()), ("drop1", Dropout(0.1)), *NETWORK[3:])


def data(seed):
    return LabelledImages(*map(jnp.asarray, bars(seed, 300)))


def fit(key, rate=3e-3, layers=NETWORK, steps=80, scanned=False):
    from ghostjax import train

    return fit_classifier(
        key,
        layers,
        data(0),
        recipe=Recipe(steps),
        batch_size=64,
        learning_rate=rate,
        train=partial(train.fit, scanned=scanned),
    )


@pytest.mark.parametrize("layers", [NETWORK, FRAGILE], ids=["plain", "norm, dropout"])
def test_it_learns_bars(layers):
    variables, metrics = fit(jax.random.key(0), layers=layers)
    images, labels = data(1)
    answers = chain.apply(layers, variables, images / 255).argmax(-1)
    assert float((answers == labels).mean()) > 0.97
    assert metrics["accuracy"].shape == (80,)
    assert metrics["loss"][-1] < 0.3 * metrics["loss"][0]


def test_a_sweep_over_seeds_and_rates_is_one_vmap_and_fits_on_devices():
    keys, rates = jax.random.split(jax.random.key(1), 5), jnp.linspace(1e-3, 5e-3, 5)
    together, _ = jax.vmap(partial(fit, steps=10))(keys, rates)
    spread, _ = parallel.over_runs(
        lambda run: fit(*run, steps=10, scanned=True), (keys, rates)
    )
    for place in (0, 4):
        alone, _ = fit(keys[place], rates[place], steps=10)
        for one, several, placed in zip(
            *map(jax.tree.leaves, (alone, together, spread)), strict=True
        ):
            np.testing.assert_allclose(several[place], one, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(placed[place], one, rtol=1e-3, atol=1e-5)
