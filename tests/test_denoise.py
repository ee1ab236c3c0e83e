"""The autoencoder repairs what its inner attack gets wrong, and is ARDEN's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import SHAPE, bars

from ghostjax import chain, metrics, train
from ghostjax.attacks.denoise import Settings, autoencoder, denoise
from ghostjax.base import Attack, Knowledge, limit
from ghostjax.layers import Conv
from ghostjax.train import Recipe


def _fit(key, knowledge, train):
    return jnp.float32(0.5), {}


def _invert(params, key, features):
    """What was sent, at half its brightness."""
    return params * features, jnp.zeros(len(features))


def _query(level, key, images):
    noise = jax.random.normal(key, images.shape)
    return jnp.clip(images + level * noise, 0.0, 1.0)


INNER = Attack("half", ("query",), _fit, _invert)


@pytest.fixture(scope="module")
def scene():
    """(what is known, noisy features, their images)."""
    query = Partial(_query, jnp.float32(0.3))
    known = Knowledge(query=query, public_images=jnp.asarray(bars(0, 400)[0]))
    shown = jnp.asarray(bars(1, 50)[0], jnp.float32) / 255
    return known, query(jax.random.key(5), shown), shown


def attack(scene, knowledge=None, steps=120, **changes):
    settings = Settings(Recipe(steps), 50, images=300)._replace(**changes)
    attacker = denoise(INNER, SHAPE, settings, learning_rate=3e-3)
    known = limit(knowledge or scene[0], attacker.needs)
    params, history = attacker.fit(jax.random.key(1), known, train.fit)
    return params, history, *attacker.invert(params, jax.random.key(2), scene[1])


def quality(found, images):
    return float(metrics.psnr(found, images).mean())


def test_it_beats_its_inner_attack(scene):
    params, history, found, trace = attack(scene)
    inner, own = _invert(params["inner"], None, scene[1])
    np.testing.assert_array_equal(trace["images"], inner)
    np.testing.assert_array_equal(trace["trace"], own)
    assert history["cda"]["loss"].shape == (120,)
    assert quality(found, scene[2]) > quality(inner, scene[2]) + 3
    mean = scene[0].public_images.mean(0, keepdims=True) / 255
    trivial = quality(jnp.broadcast_to(mean, found.shape), scene[2])
    assert quality(found, scene[2]) > trivial + 3


def test_a_generators_pairs_serve_instead_of_queries(scene):
    after, before = (jnp.asarray(bars(0, 40)[0]) // part for part in (2, 1))
    known = Knowledge(query=scene[0].query, perturbed_pairs=(after, before))
    params, _, found, _ = attack(scene, known, 5, pairs="generator")
    assert found.shape == scene[2].shape
    swapped = known._replace(perturbed_pairs=(before, after))
    other = attack(scene, swapped, 5, pairs="generator")[0]
    leaves = zip(*map(jax.tree.leaves, (params, other)), strict=True)
    assert not all(np.array_equal(a, b) for a, b in leaves)


def test_what_it_needs():
    for pairs, needs in (
        ("own", ("query", "public_images")),
        ("generator", ("query", "perturbed_pairs")),
    ):
        assert denoise(INNER, SHAPE, Settings(Recipe(1), pairs=pairs)).needs == needs
    with pytest.raises(ValueError, match="choose 'own' or 'generator'"):
        denoise(INNER, SHAPE, Settings(Recipe(1), pairs="others"))


@pytest.mark.parametrize(
    "shape, sizes", [((28, 28, 1), [28, 14, 7, 4]), ((32, 32, 3), [32, 16, 8, 4])]
)
def test_the_autoencoder_is_ardens(shape, sizes):
    rows = chain.describe(autoencoder(shape), shape)
    assert rows[-1].shape == shape
    pooled = [row.shape[0] for row in rows if row.name.startswith("pool")]
    assert [shape[0], *pooled] == sizes
    seen = [layer for _, layer in autoencoder(shape) if isinstance(layer, Conv)]
    assert [layer.features for layer in seen] == [32, 32, 16, 16, 32, 32, shape[2]]
    resized = [row.shape[0] for row in rows if row.name.startswith("up")][::2]
    assert resized == sizes[-2::-1]
