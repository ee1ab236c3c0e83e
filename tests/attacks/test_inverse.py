"""Decoders: shapes for every cut, and pictures back from queries alone."""

from functools import partial

import jax
import numpy as np
import pytest
import small
from jax.tree_util import Partial
from oracles import psnr
from probes import SHAPE, at, bars

from ghostjax import registry
from ghostjax.attacks import readout
from ghostjax.attacks.decoder import decoder, growths
from ghostjax.attacks.inverse import measure_scales, require_shape, standardise
from ghostjax.attacks.records import Inverse
from ghostjax.base import Context, Knowledge, limit
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.convolution import convolve
from ghostjax.models.layers import Conv, Pad, Upsample
from ghostjax.training.fit import drive

STEPS = {"conv1": 5, "pool1": 60}
TRACED = []  # shapes that `sent` was traced for


def sent(layer, held, key, images):
    """Features with noise, whose level is an array: one program with and without."""
    TRACED.append(images.shape)
    variables, level = held
    clean = chain.apply(at(layer).edge, variables, images)
    return clean + level * jax.random.normal(key, clean.shape)


@jax.jit
def send(query, key, images):
    return query(key, images)


QUERIES = {layer: partial(sent, layer) for layer in STEPS}


@pytest.fixture(scope="module")
def scene():
    """(variables of the edge, public images, images under attack)."""
    public, test = bars(0, 400)[0], bars(1, 60)[0]
    variables = small.variables(at("pool1").edge, SHAPE)
    return variables, jax.device_put(public), np.float32(test) / 255


def build(layer):
    """(the attack, which trains for STEPS, its hyper-parameters)."""
    record = Inverse(epochs=1, batch_size=16, width=8, learning_rate=1e-2)
    context = Context(public_count=STEPS[layer] * record.batch_size)
    return registry.build(record, at(layer), context), traced_half(record)


def fit(layer, known, key=1):
    """(params, history)."""
    attacker, hyper = build(layer)
    return drive(attacker.fit(jax.random.key(key), hyper, known))


def attack(scene, layer, level=0.0, images=None):
    """How well pictures come back, in dB."""
    variables, public, test = scene
    query = Partial(QUERIES[layer], (variables, np.float32(level)))
    known = Knowledge(query=query, public_images=public if images is None else images)
    params, history = fit(layer, known)
    attacker, hyper = build(layer)
    features = send(query, jax.random.key(2), test)
    shown = attacker.invert(params, jax.random.key(3), features, hyper)
    assert shown.trace == () and shown.secrets is None
    assert history["inverse"]["loss"].shape == (STEPS[layer],)
    return psnr(shown.images, test).mean()


@pytest.fixture(scope="module")
def clean(scene):
    """Behind a convolution, without noise."""
    return attack(scene, "conv1")


def test_an_invertible_edge_is_inverted_after_a_few_steps(clean):
    """Through one convolution the last layer's exact solution does nearly all."""
    assert clean > 30


def test_pictures_come_back_behind_relu_and_pool(scene):
    mean = np.asarray(scene[1]).mean(0, keepdims=True) / 255
    trivial = psnr(np.broadcast_to(mean, scene[2].shape), scene[2]).mean()
    assert attack(scene, "pool1") > trivial + 5


def test_noise_on_every_query_costs_quality(scene, clean):
    assert 10 < attack(scene, "conv1", level=0.3) < clean - 10


def test_other_public_images_count(scene, clean):
    noise = np.random.default_rng(0).integers(0, 256, scene[1].shape, np.uint8)
    strange = attack(scene, "conv1", images=jax.device_put(noise))
    assert strange < clean - 2


def test_what_is_not_declared_is_not_seen_and_the_key_decides(scene):
    variables, public, _ = scene
    attacker, _ = build("conv1")
    assert attacker.needs == ("query", "public_images")
    query = Partial(QUERIES["conv1"], (variables, np.float32(0)))
    known = Knowledge(variables, variables, query, public)
    fits = [
        fit("conv1", seen, key)[0]
        for key, seen in ((0, known), (0, limit(known, attacker.needs)), (1, known))
    ]
    leaves = [jax.tree.leaves(params) for params in fits]
    for one, other in zip(*leaves[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(leaves[0][0], leaves[2][0])


def test_a_partial_query_compiles_once_for_all_its_arrays(scene, clean):
    before = len(TRACED)
    scaled = jax.tree.map(lambda leaf: np.float32(2) * leaf, scene[0])
    query = Partial(QUERIES["conv1"], (scaled, np.float32(0.1)))
    fit("conv1", Knowledge(query=query, public_images=scene[1]))
    # Only shapes are asked anew (eval_shape), programs are not.
    assert TRACED.count((16, *SHAPE)) > 1
    assert len(TRACED) - before <= 1


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
        require_shape(np.zeros((2, 5, 5, 8)), (6, 6, 8))


def test_scales_whiten_about_what_the_border_colour_gives(scene):
    variables, public, _ = scene
    query = Partial(QUERIES["pool1"], (variables, np.float32(0)))
    scales = measure_scales(query, public, jax.random.key(0))
    rim = np.ones(SHAPE[:2], bool)
    rim[1:-1, 1:-1] = False
    pixels = np.float32(public) / 255
    colour = np.full_like(pixels, pixels[:, rim].mean())
    shown = jax.jit(partial(query, jax.random.key(0)))
    np.testing.assert_allclose(scales.origin, shown(colour)[0], 1e-4)
    values = np.reshape(jax.jit(standardise)(scales, shown(pixels)), (-1, 8))
    moments = values.T @ values / len(values)
    # The smallest variance, of a dead filter, is not blown up to 1.
    np.testing.assert_allclose(moments[1:, 1:], np.eye(7), atol=0.05)
    np.testing.assert_allclose(moments[0, 1:], 0, atol=0.05)
    assert 0 <= float(moments[0, 0]) < 0.95


def test_the_last_layer_is_the_least_squares_solution():
    """Against NumPy on the same pairs; the other layers are untouched."""
    layers = (("hidden", Conv(3, 3, "SAME")), ("image", Conv(1, 3, "SAME")))
    drawn = np.random.default_rng(0).standard_normal((2, 64, 8, 8, 2), np.float32)
    inputs, images = drawn[0], drawn[1, ..., :1]
    variables = small.variables(layers, inputs.shape[1:])

    def draw(key, index, shared, own):
        return shared

    solve = readout.solve_last(layers, draw)
    solved = solve(jax.random.key(1), variables, (inputs, images), ())
    np.testing.assert_array_equal(
        solved["hidden"]["params"]["kernel"], variables["hidden"]["params"]["kernel"]
    )
    hidden = np.float64(small.apply(layers[:1], variables, inputs))
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
    x = np.arange(6.0, dtype=np.float32).reshape(1, 2, 3, 1)
    layers = Upsample(), Pad((1, 0), (-1, 2))
    doubled, padded = jax.jit(lambda x: [layer.apply({}, x) for layer in layers])(x)
    np.testing.assert_array_equal(
        doubled[0, :, :, 0], np.kron(x[0, :, :, 0], np.ones((2, 2)))
    )
    np.testing.assert_array_equal(
        padded[0, :, :, 0], [[0, 0, 0, 0], [1, 2, 0, 0], [4, 5, 0, 0]]
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolutions_to_few_features_agree_with_xla(padding):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 9, 8, 12), np.float32)
    kernel = draw.standard_normal((5, 3, 12, 2), np.float32)

    @jax.jit
    def both(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        of_xla = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=layout
        )
        return convolve(x, kernel, padding), of_xla

    np.testing.assert_allclose(*both(x, kernel), atol=1e-4)
