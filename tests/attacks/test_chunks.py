"""Chunks, extraction, baselines: small things around every attack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import registry
from ghostjax.attacks import chunks
from ghostjax.attacks.chunks import in_chunks, most
from ghostjax.attacks.extract import extract
from ghostjax.base import Attack, Context, Inversion, Knowledge, limit
from ghostjax.evaluation import baselines
from ghostjax.stego import lsb
from ghostjax.stego.records import Lsb
from ghostjax.training import parallel
from ghostjax.training.fit import drive


def identity(limit_at=10**9):
    """An attack on the identity; more than `limit_at` targets exhaust the memory."""
    sizes = []

    def invert(params, key, features, hyper):
        sizes.append(len(features))
        if len(features) > limit_at:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        trace = {"steps": jnp.zeros((len(features), 3)), **hyper}
        return Inversion(features, trace=trace)

    return Attack("identity", (), learn_nothing, invert), sizes


def learn_nothing(key, hyper, knowledge):
    yield from ()
    return ()


def test_chunks_cover_every_target_once():
    attack, sizes = identity()
    features = jax.random.uniform(jax.random.key(0), (11, 4, 4, 1))
    whole = in_chunks(attack, 4).invert((), jax.random.key(1), features, {})
    np.testing.assert_array_equal(whole.images, features)
    assert sizes == [4, 4, 3] and whole.trace["steps"].shape == (11, 3)
    assert whole.secrets is None and whole.before_denoising is None


@pytest.mark.parametrize("size", [3, 100])
def test_each_target_keeps_its_own_hyper_parameters(size):
    attack, _ = identity()
    features = jnp.zeros((8, 4))
    hyper = {"noise": np.arange(8, dtype=np.float32), "rate": np.float32(0.5)}
    whole = in_chunks(attack, size).invert((), jax.random.key(1), features, hyper)
    np.testing.assert_array_equal(whole.trace["noise"], np.arange(8))
    np.testing.assert_array_equal(whole.trace["rate"], np.full(8, 0.5))


def bare(invert=lambda features: features):
    """An attack of which a target needs its features and its image; and the sizes."""
    sizes = []

    def whole(params, key, features, hyper):
        sizes.append(len(features))
        return Inversion(invert(features))

    return Attack("bare", (), learn_nothing, whole), sizes


FEATURES = np.zeros((5000, 64), np.float32)  # a target and its image hold 512 bytes


@pytest.mark.parametrize("limit", [10**6, 3 * 10**6, 5 * 10**6])
def test_as_many_targets_are_inverted_at_once_as_fit_the_memory(limit):
    fit = most(bare()[0], (), jax.random.key(0), FEATURES, {}, limit)
    assert fit & fit - 1 == 0 and 512 * fit <= 0.85 * limit < 2 * 512 * fit


@pytest.mark.parametrize(("limit", "fit"), [(1, 64), (10**12, 16384)])
def test_targets_at_once_have_a_least_and_a_greatest_number(limit, fit):
    attack, sizes = bare()
    for features in (FEATURES, FEATURES[1:]):  # the second time it is known
        hyper = {"rate": features[:, 0]}
        assert most(attack, (), jax.random.key(0), features, hyper, limit) == fit
    assert sizes == [64, 128]


@pytest.mark.parametrize(
    ("on_cpu", "limit", "devices", "sizes"),
    [
        (True, 10**6, 1, [256] * 19 + [136]),
        (False, 10**6, 1, [64, 128, *[1024] * 4, 904]),
        (False, 10**6, 2, [64, 128, 2048, 2048, 904]),
        (False, 10**6, 3, [5000]),
        (False, None, 1, [2048, 2048, 904]),
    ],
)
def test_chunks_are_as_the_backend_and_its_memory_have_them(
    on_cpu, limit, devices, sizes, monkeypatch
):
    monkeypatch.setattr(chunks.runtime, "on_cpu", lambda: on_cpu)
    monkeypatch.setattr(chunks.parallel, "memory", lambda: limit)
    attack, seen = bare()
    with parallel.on_devices(parallel.require(devices)):
        whole = in_chunks(attack).invert((), jax.random.key(0), FEATURES, {})
    assert seen == sizes and len(whole.images) == len(FEATURES)


def test_an_attack_that_cannot_be_compiled_whole_has_a_usual_chunk():
    attack, _ = bare(lambda features: jnp.asarray(np.asarray(features)))
    assert most(attack, (), jax.random.key(0), FEATURES, {}, 10**6) == 2048
    assert most(bare()[0], "words", jax.random.key(0), FEATURES, {}, 10**6) == 2048


def test_a_chunk_larger_than_the_memory_is_halved_and_the_search_goes_on():
    attack, sizes = identity(limit_at=3)
    said = []
    features = jnp.arange(10.0).reshape(10, 1)
    chunked = in_chunks(attack, 8, said.append)
    whole = chunked.invert((), jax.random.key(1), features, {})
    np.testing.assert_array_equal(whole.images, features)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert said == [
        "identity: out of memory; going on with 4 targets at once",
        "identity: out of memory; going on with 2 targets at once",
    ]
    never, _ = identity(limit_at=0)
    with pytest.raises(ValueError, match="one target of features"):
        in_chunks(never, 2, said.append).invert((), jax.random.key(1), features, {})


def test_other_failures_are_not_swallowed():
    def invert(params, key, features, hyper):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    attack = Attack("broken", (), learn_nothing, invert)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        in_chunks(attack).invert((), jax.random.key(0), jnp.zeros((2, 3)), {})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    features = jnp.zeros((4, 3)).at[2, 1].set(bad)
    attack, _ = identity()
    with pytest.raises(ValueError, match="features of target 2 are not finite"):
        in_chunks(attack).invert((), jax.random.key(0), features, {})


def test_extract_reads_the_secret_out_of_a_perfect_reconstruction():
    draw = np.random.default_rng(0)
    cover, secret = draw.integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
    stego = lsb.hide_bits(jnp.asarray(cover), jnp.asarray(secret), 3) / 255
    method = registry.build(Lsb(bits=3), (8, 8, 1), Context())
    attack = extract(identity()[0], method, "reveal")
    assert attack.needs == ("stego_params",) and attack.name == "extract(identity)"
    known = Knowledge(stego_params={"bits": np.uint8(3)})
    fitting = attack.fit(jax.random.key(0), {}, limit(known, attack.needs))
    params, _ = drive(fitting)
    shown = attack.invert(params, jax.random.key(1), stego, {})
    np.testing.assert_array_equal(jnp.round(255 * shown.secrets), secret >> 5 << 5)
    np.testing.assert_array_equal(shown.images, stego)


def test_baselines_are_what_they_say():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (30, 12, 12, 1)).astype(np.uint8)
    labels = np.arange(30, dtype=np.int32) % 3
    secrets = jnp.asarray(images[:4] / 255, jnp.float32)
    pictures = baselines.pictures(images, labels, secrets, labels[:4])
    assert tuple(pictures) == baselines.BASELINES
    assert all(x.shape == secrets.shape for x in pictures.values())
    np.testing.assert_array_equal(pictures["black"], 0)
    np.testing.assert_array_equal(pictures["grey"], 0.5)
    mean = images.mean(0) / 255
    for i in range(4):
        of_class = images[labels == labels[i]].mean(0) / 255
        np.testing.assert_allclose(pictures["class_mean"][i], of_class, rtol=1e-5)
        np.testing.assert_allclose(pictures["train_mean"][i], mean, 1e-5)
        # No constant is nearer than the mean.
        errors = [((secrets[i] - c) ** 2).mean() for c in np.linspace(0, 1, 101)]
        best = ((secrets[i] - pictures["constant"][i]) ** 2).mean()
        assert float(best) <= min(map(float, errors)) + 1e-7
