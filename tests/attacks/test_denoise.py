"""The autoencoder repairs what its inner attack gets wrong, and is ARDEN's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import at, bars

from ghostjax import registry
from ghostjax.attacks.denoise import autoencoder
from ghostjax.attacks.records import Denoise, NoDenoise
from ghostjax.base import Attack, Context, Inversion, Knowledge, Probe, average, limit
from ghostjax.evaluation import metrics
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv
from ghostjax.training.fit import drive

BATCHES = 6  # of 50 in 300 images
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


def _ask(key, hyper, knowledge):
    yield from ()
    return hyper["gain"]


INNER = Attack("half", ("query",), _fit, _invert)


@pytest.fixture(scope="module")
def scene():
    """(what is known, noisy features, their images)."""
    query = Partial(_query, jnp.float32(0.3))
    known = Knowledge(query=query, public_images=jnp.asarray(bars(0, 400)[0]))
    shown = jnp.asarray(bars(1, 50)[0], jnp.float32) / 255
    return known, query(jax.random.key(5), shown), shown


def build(record, inner=INNER):
    """(the attack under a denoiser, its hyper-parameters)."""
    hyper = {"attack": HALF, "denoise": traced_half(record)}
    context = Context(inner=inner, public_count=400)
    return registry.build(record, at("pool1"), context), hyper


def attack(scene, knowledge=None, epochs=20, **changes):
    record = Denoise(
        epochs=epochs,
        batch_size=50,
        images=300,
        learning_rate=3e-3,
        schedule="constant",
        **changes,
    )
    attacker, hyper = build(record)
    seen = limit(knowledge or scene[0], attacker.needs)
    params, history = drive(attacker.fit(jax.random.key(1), hyper, seen))
    shown = attacker.invert(params, jax.random.key(2), scene[1], hyper)
    return params, history, shown


def quality(shown, images):
    return float(metrics.psnr(shown, images).mean())


def test_it_beats_its_inner_attack(scene):
    params, history, shown = attack(scene)
    inner = _invert(params["inner"], None, scene[1], HALF)
    np.testing.assert_array_equal(shown.before_denoising, inner.images)
    np.testing.assert_array_equal(shown.trace, inner.trace)
    assert history["cda"]["loss"].shape == (20 * BATCHES,)
    assert quality(shown.images, scene[2]) > quality(inner.images, scene[2]) + 3
    mean = scene[0].public_images.mean(0, keepdims=True) / 255
    trivial = quality(jnp.broadcast_to(mean, shown.images.shape), scene[2])
    assert quality(shown.images, scene[2]) > trivial + 3


def test_a_generators_pairs_serve_instead_of_queries(scene):
    after, before = (jnp.asarray(bars(0, 40)[0]) // part for part in (2, 1))
    known = Knowledge(query=scene[0].query, perturbed_pairs=(after, before))
    params, _, shown = attack(scene, known, 1, pairs="generator")
    assert shown.images.shape == scene[2].shape
    swapped = known._replace(perturbed_pairs=(before, after))
    other = attack(scene, swapped, 1, pairs="generator")[0]
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

    attacker, hyper = build(Denoise(epochs=1, batch_size=50, images=300))
    seen = []
    for seed, scale in enumerate((0.3, 0.6)):
        query = Partial(counted, jnp.float32(scale))
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
