"""Chunks, extraction, baselines: small things around every attack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import baselines
from ghostjax.attacks.chunks import in_chunks
from ghostjax.attacks.extract import extract
from ghostjax.base import Attack, Knowledge, limit
from ghostjax.stego import lsb


def identity(limit_at=10**9):
    """An attack on the identity; more than `limit_at` targets exhaust the memory."""
    sizes = []

    def invert(params, key, features):
        sizes.append(len(features))
        if len(features) > limit_at:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return features, {"steps": jnp.zeros((len(features), 3))}

    return Attack("identity", (), lambda *_: ((), {}), invert), sizes


def test_chunks_cover_every_target_once():
    attack, sizes = identity()
    features = jax.random.uniform(jax.random.key(0), (11, 4, 4, 1))
    found, trace = in_chunks(attack, 4).invert((), jax.random.key(1), features)
    np.testing.assert_array_equal(found, features)
    assert sizes == [4, 4, 3] and trace["steps"].shape == (11, 3)


def test_a_chunk_larger_than_the_memory_is_halved_and_the_search_goes_on():
    attack, sizes = identity(limit_at=3)
    said = []
    features = jnp.arange(10.0).reshape(10, 1)
    found, _ = in_chunks(attack, 8, said.append).invert((), jax.random.key(1), features)
    np.testing.assert_array_equal(found, features)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert said == [
        "identity: out of memory; going on with 4 targets at once",
        "identity: out of memory; going on with 2 targets at once",
    ]
    never, _ = identity(limit_at=0)
    with pytest.raises(ValueError, match="one target of features"):
        in_chunks(never, 2, said.append).invert((), jax.random.key(1), features)


def test_other_failures_are_not_swallowed():
    def invert(params, key, features):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    attack = Attack("broken", (), lambda *_: ((), {}), invert)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        in_chunks(attack).invert((), jax.random.key(0), jnp.zeros((2, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    features = jnp.zeros((4, 3)).at[2, 1].set(bad)
    attack, _ = identity()
    with pytest.raises(ValueError, match="features of target 2 are not finite"):
        in_chunks(attack).invert((), jax.random.key(0), features)


def test_extract_reads_the_secret_out_of_a_perfect_reconstruction():
    draw = np.random.default_rng(0)
    cover, secret = draw.integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
    stego = lsb.hide_bits(jnp.asarray(cover), jnp.asarray(secret), 3) / 255
    attack = extract(identity()[0], lsb.lsb(3))
    assert attack.needs == ("stego_params",) and attack.name == "extract(identity)"
    params, _ = attack.fit(
        jax.random.key(0), limit(Knowledge(stego_params=()), attack.needs), None
    )
    found, trace = attack.invert(params, jax.random.key(1), stego)
    np.testing.assert_array_equal(jnp.round(255 * found), secret >> 5 << 5)
    np.testing.assert_array_equal(trace["images"], stego)


def test_baselines_are_what_they_say():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (30, 12, 12, 1)).astype(np.uint8)
    labels = np.arange(30, dtype=np.int32) % 3
    secrets = jnp.asarray(images[:4] / 255, jnp.float32)
    found = baselines.pictures(images, labels, secrets, labels[:4])
    assert tuple(found) == baselines.BASELINES
    assert all(x.shape == secrets.shape for x in found.values())
    np.testing.assert_array_equal(found["black"], 0)
    np.testing.assert_array_equal(found["grey"], 0.5)
    for i in range(4):
        own = images[labels == labels[i]].mean(0) / 255
        np.testing.assert_allclose(found["class_mean"][i], own, rtol=1e-5)
        np.testing.assert_allclose(found["train_mean"][i], images.mean(0) / 255, 1e-5)
        # No constant is nearer than the mean.
        errors = [((secrets[i] - c) ** 2).mean() for c in np.linspace(0, 1, 101)]
        best = ((secrets[i] - found["constant"][i]) ** 2).mean()
        assert float(best) <= min(map(float, errors)) + 1e-7
