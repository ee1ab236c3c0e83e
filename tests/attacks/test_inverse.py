"""Decoders: shapes for every cut, and pictures back from queries alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import NETWORK, SHAPE, at, bars

from ghostjax import registry
from ghostjax.attacks import readout
from ghostjax.attacks.decoder import decoder, growths
from ghostjax.attacks.inverse import Scales, measure_scales, require_shape, standardise
from ghostjax.attacks.records import Inverse
from ghostjax.base import Context, Knowledge, limit
from ghostjax.evaluation import metrics
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.convolution import convolve
from ghostjax.models.layers import Conv, Pad, Upsample
from ghostjax.training.fit import drive

EDGE, _ = chain.cut(NETWORK, "pool1")
CONV, _ = chain.cut(NETWORK, "conv1")


def encode(variables, key, images):
    return chain.apply(EDGE, variables, images)


def first(variables, key, images):
    return chain.apply(CONV, variables, images)


def noisy(variables, key, images):
    clean = first(variables, key, images)
    return clean + 0.3 * jax.random.normal(key, clean.shape)


@pytest.fixture(scope="module")
def scene():
    """(variables of the edge, public images, images under attack)."""
    variables = chain.init(EDGE, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    public, test = bars(0, 400)[0], bars(1, 60)[0]
    return variables, jnp.asarray(public), jnp.asarray(test, jnp.float32) / 255


def build(layer, steps, **changes):
    """(the attack after `steps` steps of training, its hyper-parameters)."""
    record = Inverse(epochs=1, **changes)
    context = Context(public_count=steps * record.batch_size)
    return registry.build(record, at(layer), context), traced_half(record)


def attack(scene, query, layer, steps, images=None):
    variables, public, test = scene
    attacker, hyper = build(layer, steps, batch_size=32, width=8, learning_rate=1e-2)
    known = Knowledge(
        edge_variables=object(),
        query=Partial(query, variables),
        public_images=public if images is None else images,
    )
    seen = limit(known, attacker.needs)
    params, history = drive(attacker.fit(jax.random.key(1), hyper, seen))
    features = query(variables, jax.random.key(2), test)
    shown = attacker.invert(params, jax.random.key(3), features, hyper)
    assert shown.trace == () and shown.secrets is None
    assert history["inverse"]["loss"].shape == (steps,)
    return shown.images


def quality(shown, images):
    return float(metrics.psnr(shown, images).mean())


def test_an_invertible_edge_is_inverted_after_a_few_steps(scene):
    """Through one convolution the last layer's exact solution does nearly all."""
    shown = attack(scene, first, "conv1", 10)
    assert quality(shown, scene[2]) > 30


def test_pictures_come_back_behind_relu_and_pool(scene):
    shown = attack(scene, encode, "pool1", 80)
    mean = scene[1].mean(0, keepdims=True) / 255
    trivial = quality(jnp.broadcast_to(mean, shown.shape), scene[2])
    assert quality(shown, scene[2]) > trivial + 5


def test_noise_on_every_query_costs_quality(scene):
    clean = attack(scene, first, "conv1", 10)
    shown = attack(scene, noisy, "conv1", 10)
    assert 10 < quality(shown, scene[2]) < quality(clean, scene[2]) - 10


def test_other_public_images_count(scene):
    noise = np.random.default_rng(0).integers(0, 256, scene[1].shape, np.uint8)
    familiar = attack(scene, first, "conv1", 5)
    strange = attack(scene, first, "conv1", 5, images=jnp.asarray(noise))
    assert quality(strange, scene[2]) < quality(familiar, scene[2]) - 2


def test_what_is_not_declared_is_not_seen_and_the_key_decides(scene):
    variables, public, _ = scene
    attacker, hyper = build("pool1", 3, batch_size=16, width=4, schedule="constant")
    assert attacker.needs == ("query", "public_images")
    known = Knowledge(variables, variables, Partial(encode, variables), public)
    fits = [
        drive(attacker.fit(jax.random.key(seed), hyper, seen))[0]
        for seed, seen in ((0, known), (0, limit(known, attacker.needs)), (1, known))
    ]
    leaves = [jax.tree.leaves(params) for params in fits]
    for one, other in zip(*leaves[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(leaves[0][0], leaves[2][0])


def test_a_partial_query_compiles_once_for_all_its_arrays(scene):
    traced = []

    def counted(variables, key, images):
        traced.append(images.shape)
        return chain.apply(EDGE, variables, images)

    attacker, hyper = build("pool1", 2, batch_size=16, width=4, schedule="constant")
    seen = []
    for scale in (1.0, 2.0):
        scaled = jax.tree.map(lambda leaf, s=scale: s * leaf, scene[0])
        known = Knowledge(query=Partial(counted, scaled), public_images=scene[1])
        hyper = {"learning_rate": np.float32(1e-3 * scale)}
        drive(attacker.fit(jax.random.key(0), hyper, known))
        seen.append((traced.count((16, *SHAPE)), len(traced)))
    # Only shapes are asked anew (eval_shape), programs are not.
    assert seen[1][0] - seen[0][0] <= 1 < seen[0][0]
    assert seen[1][1] - seen[0][1] <= 1


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_cut_of_every_network_has_a_decoder(name):
    network = zoo.network(name)
    shapes = {
        layer.shape
        for layer in chain.describe(network.build(network.classes), network.image_shape)
    }
    for shape in shapes:
        layers = decoder(shape, network.image_shape, 4)
        assert chain.describe(layers, shape)[-1].shape == network.image_shape
        assert isinstance(layers[-1][1], Conv), "the output is linear"


@pytest.mark.parametrize(
    "features, image, wanted",
    [
        ((24, 24, 8), (28, 28, 1), [(4, 4)]),
        ((12, 12, 8), (28, 28, 1), [(0, 0), (4, 4)]),
        ((8, 8, 16), (28, 28, 1), [(4, 4), (4, 4)]),
        ((4, 4, 16), (28, 28, 1), [(0, 0), (4, 4), (4, 4)]),
        ((8, 8, 128), (32, 32, 3), [(0, 0)] * 3),
        ((7, 20, 3), (17, 40, 3), [(0, 0), (3, 0)]),
    ],
)
def test_growths_walk_the_network_backwards(features, image, wanted):
    assert growths(features, image) == wanted
    out = chain.describe(decoder(features, image, 2), features)[-1].shape
    assert out == image


def test_larger_features_and_features_of_another_cut_are_refused():
    with pytest.raises(ValueError, match="larger than the image"):
        decoder((30, 30, 1), (28, 28, 1), 4)
    with pytest.raises(ValueError, match=r"\(5, 5, 8\) are not those"):
        require_shape(jnp.zeros((2, 5, 5, 8)), (6, 6, 8))


def test_scales_whiten_about_what_the_border_colour_gives(scene):
    variables, public, _ = scene
    query = Partial(encode, variables)
    scales = measure_scales(query, public, jax.random.key(0))
    rim = np.ones(SHAPE[:2], bool)
    rim[1:-1, 1:-1] = False
    colour = jnp.full((1, *SHAPE), np.asarray(public)[:, rim].mean() / 255)
    np.testing.assert_allclose(scales.origin, encode(variables, None, colour)[0], 1e-4)
    features = encode(variables, None, public.astype(jnp.float32) / 255)
    values = standardise(Scales(*scales), features).reshape(-1, 8)
    moments = values.T @ values / len(values)
    # The smallest variance lies below the floor and is not blown up to 1.
    np.testing.assert_allclose(moments[1:, 1:], np.eye(7), atol=0.05)
    np.testing.assert_allclose(moments[0, 1:], 0, atol=0.05)
    assert 0 < float(moments[0, 0]) < 1.05


def test_the_last_layer_is_the_least_squares_solution():
    """Against NumPy on the same pairs; the other layers are untouched."""
    layers = (("hidden", Conv(3, 3, "SAME")), ("image", Conv(1, 3, "SAME")))
    draw_inputs = np.random.default_rng(0).normal(size=(2, 64, 8, 8, 2))
    inputs = jnp.asarray(draw_inputs[0], jnp.float32)
    images = jnp.asarray(draw_inputs[1, ..., :1], jnp.float32)
    variables = chain.init(layers, jax.random.key(0), inputs[:1])

    def draw(key, index, shared, own):
        return shared

    solve = readout.solve_last(layers, draw)
    solved = solve(jax.random.key(1), variables, (inputs, images), ())
    np.testing.assert_array_equal(
        solved["hidden"]["params"]["kernel"], variables["hidden"]["params"]["kernel"]
    )
    hidden = np.asarray(chain.apply(layers[:1], variables, inputs), np.float64)
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = np.stack(
        [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], 3
    ).reshape(64 * 64, 27)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
    wanted = np.linalg.lstsq(rows, np.asarray(images).reshape(-1), rcond=None)[0]
    last = solved["image"]["params"]
    np.testing.assert_allclose(last["kernel"].reshape(-1), wanted[:-1], atol=1e-4)
    np.testing.assert_allclose(last["bias"], wanted[-1:], atol=1e-4)


def test_new_layers():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    doubled = Upsample().apply({}, x)
    np.testing.assert_array_equal(
        doubled[0, :, :, 0], np.kron(x[0, :, :, 0], np.ones((2, 2)))
    )
    padded = Pad((1, 0), (-1, 2)).apply({}, x)
    np.testing.assert_array_equal(
        padded[0, :, :, 0], [[0, 0, 0, 0], [1, 2, 0, 0], [4, 5, 0, 0]]
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolutions_to_few_features_agree_with_xla(padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 12))
    kernel = jax.random.normal(jax.random.key(1), (5, 3, 12, 2))
    of_xla = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(convolve(x, kernel, padding), of_xla, atol=1e-4)
