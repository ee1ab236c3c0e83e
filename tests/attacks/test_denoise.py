"""The autoencoder repairs what its inner attack gets wrong, and is ARDEN's."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from oracles import psnr

from ghostjax import registry
from ghostjax.attacks.denoise import autoencoder
from ghostjax.attacks.records import Denoise, NoDenoise
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Inversion,
    Knowledge,
    Probe,
    average,
    limit,
)
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Dense
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive

SHAPE = (8, 8, 1)
CUT = Cut((("conv1", Conv(2, 3)),), (("fc1", Dense(2)),), SHAPE)  # shapes alone count
COUNT, BATCH = 150, 10
LSB = registry.build(Lsb(bits=3), SHAPE, Context())
BITS = {"bits": np.uint8(3)}
HALF = {"gain": np.float32(0.5)}


def _fit(key, hyper, knowledge):
    yield from ()
    return hyper["gain"]


def _invert(params, key, features, hyper):
    """What was sent, at half its brightness."""
    return Inversion(params * features, trace=jnp.zeros(len(features)))


def _query(level, key, images):
    noise = jax.random.normal(key, images.shape)
    return jnp.clip(images + level * noise, 0.0, 1.0)


def bars(seed, count):
    """uint8 pictures with one bright row or column."""
    draw = np.random.default_rng(seed)
    images = np.zeros((count, *SHAPE), np.uint8)
    places, inks = draw.integers(0, 8, count), draw.integers(200, 256, count)
    images[np.arange(count), places] = inks[:, None, None]
    images[::2] = images[::2].swapaxes(1, 2)
    return images


def _ask(key, hyper, knowledge):
    yield from ()
    return hyper["gain"]


INNER = Attack("half", ("query",), _fit, _invert)


@pytest.fixture(scope="module")
def scene():
    """(what is known, noisy features, their images)."""
    query = Partial(_query, np.float32(0.3))
    known = Knowledge(query=query, public_images=jax.device_put(bars(0, COUNT)))
    shown = np.float32(bars(1, 50)) / 255
    return known, jax.jit(_query)(0.3, jax.random.key(5), shown), shown


def build(record, inner=INNER):
    """(the attack under a denoiser, its hyper-parameters)."""
    hyper = {"attack": HALF, "denoise": traced_half(record)}
    return registry.build(record, CUT, Context(inner=inner, public_count=COUNT)), hyper


def training(**changes):
    """A record; of one epoch if nothing is said."""
    record = Denoise(
        epochs=1,
        batch_size=BATCH,
        images=COUNT,
        learning_rate=3e-3,
        schedule="constant",
    )
    return replace(record, **changes)


def attack(scene, record, knowledge=None):
    attacker, hyper = build(record)
    seen = limit(knowledge or scene[0], attacker.needs)
    params, history = drive(attacker.fit(jax.random.key(1), hyper, seen))
    shown = attacker.invert(params, jax.random.key(2), scene[1], hyper)
    return params, history, shown


def quality(shown, images):
    return psnr(shown, images).mean()


def test_it_beats_its_inner_attack(scene):
    params, history, shown = attack(scene, training(epochs=8))
    inner = _invert(params["inner"], None, scene[1], HALF)
    np.testing.assert_array_equal(shown.before_denoising, inner.images)
    np.testing.assert_array_equal(shown.trace, inner.trace)
    assert history["cda"]["loss"].shape == (8 * COUNT // BATCH,)
    assert quality(shown.images, scene[2]) > quality(inner.images, scene[2]) + 3
    mean = np.asarray(scene[0].public_images).mean(0, keepdims=True) / 255
    trivial = quality(np.broadcast_to(mean, scene[2].shape), scene[2])
    assert quality(shown.images, scene[2]) > trivial + 3


def _sends(level, key, secrets, covers):
    """Stegos of 3 bits as they enter, up to some grey levels."""
    stegos = LSB.hide({"bits": np.uint8(3)}, covers, secrets)
    return stegos + level * jax.random.normal(key, stegos.shape) / 255


def test_it_repairs_what_it_reads_out_of_stegos_of_its_own(scene):
    images = jax.device_put(bars(0, COUNT))
    encode = Partial(_sends, np.float32(0.8))
    known = Knowledge(encode=encode, public_images=images, stego_params=BITS)
    record = training(pairs="extracted", epochs=8)
    context = Context(inner=INNER._replace(needs=()), public_count=COUNT, stego=LSB)
    attacker = registry.build(record, CUT, context)
    assert attacker.extracts and set(attacker.needs) == set(record.needs)
    hyper = {"attack": {"gain": np.float32(1)}, "denoise": traced_half(record)}
    params, _ = drive(attacker.fit(jax.random.key(1), hyper, known))
    secrets, covers = scene[2], np.float32(bars(2, 50)) / 255
    features = jax.jit(_sends)(0.8, jax.random.key(7), secrets, covers)
    shown = attacker.invert(params, jax.random.key(2), features, hyper)
    np.testing.assert_array_equal(shown.images, features)
    np.testing.assert_array_equal(
        shown.secrets_before, LSB.reveal(BITS, np.clip(features, 0, 1))
    )
    assert shown.before_denoising is None
    first = params["cda"]["down0"]["params"]["kernel"]
    assert first.shape[2] == LSB.clue_channels
    mean = np.broadcast_to(np.asarray(images).mean(0) / 255, secrets.shape)
    rivals = quality(shown.secrets_before, secrets), quality(mean, secrets)
    assert quality(shown.secrets, secrets) > max(rivals) + 2, rivals


def test_extracted_pairs_of_nothing_hidden_are_refused():
    record = training(pairs="extracted")
    with pytest.raises(ValueError, match="gives the secrets itself"):
        build(record, INNER._replace(gives_secrets=True))
    with pytest.raises(ValueError, match="stego"):
        build(record)


def test_a_generators_pairs_serve_instead_of_queries(scene):
    after, before = (jax.device_put(bars(0, COUNT) // part) for part in (2, 1))
    known = Knowledge(query=scene[0].query, perturbed_pairs=(after, before))
    record = training(pairs="generator")
    params, _, shown = attack(scene, record, known)
    assert shown.images.shape == scene[2].shape
    swapped = known._replace(perturbed_pairs=(before, after))
    other = attack(scene, record, swapped)[0]
    leaves = zip(*map(jax.tree.leaves, (params, other)), strict=True)
    assert not all(np.array_equal(a, b) for a, b in leaves)


def test_what_it_needs():
    for pairs, needs in (
        ("own", ("query", "public_images")),
        ("generator", ("query", "perturbed_pairs")),
    ):
        assert build(Denoise(pairs=pairs))[0].needs == needs
    with pytest.raises(ValueError, match="pairs"):
        Denoise(pairs="others")


@pytest.mark.parametrize("record", [Denoise(epochs=1), NoDenoise()])
def test_what_is_said_of_the_inner_attack_stays(record):
    """A denoiser, or none, around an attack that gives secrets and has a probe."""
    probe = Probe(("query",), _ask, lambda params, features: params * features)
    wanted = {"gives_secrets": True, "combine": lambda samples: samples[0]}
    inner = INNER._replace(probe=probe, **wanted)
    attacker, hyper = build(record, inner)
    assert {name: getattr(attacker, name) for name in wanted} == wanted
    assert build(record)[0].combine is average and build(record)[0].probe is None
    learned, _ = drive(attacker.probe.fit(None, hyper, Knowledge()))
    assert learned == HALF["gain"] and attacker.probe.needs == ("query",)
    assert attacker.probe.answer is probe.answer


def test_no_denoiser_is_the_inner_attack(scene):
    attacker, hyper = build(NoDenoise())
    params, _ = drive(attacker.fit(jax.random.key(1), hyper, scene[0]))
    shown = attacker.invert(params, None, scene[1], hyper)
    inner = _invert(params, None, scene[1], HALF)
    np.testing.assert_array_equal(shown.images, inner.images)
    assert shown.before_denoising is None and attacker.name == "half"
    assert attacker.needs == INNER.needs


@pytest.mark.parametrize("record", [Denoise(), NoDenoise()])
def test_without_an_attack_nothing_is_denoised(record):
    assert build(record, None)[0] is None


def test_members_that_differ_in_rates_and_queries_share_programs(scene):
    """Another level of noise, another rate and another seed compile nothing."""
    traced = []

    def counted(level, key, images):
        traced.append(images.shape)
        return _query(level, key, images)

    attacker, hyper = build(training())
    seen = []
    for seed, scale in enumerate((0.3, 0.6)):
        query = Partial(counted, np.float32(scale))
        known = scene[0]._replace(query=query)
        rates = {"learning_rate": np.float32(scale)}
        arguments = {"attack": {"gain": np.float32(scale)}, "denoise": rates}
        drive(attacker.fit(jax.random.key(seed), arguments, known))
        seen.append(len(traced))
    assert 0 < seen[0] == seen[1]


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
