"""Chains: cutting is lossless, shapes and counts are what a hand works out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax.models import chain, zoo
from ghostjax.models.convolution import convolve
from ghostjax.models.layers import ConvTranspose, MaxPool

# (parameters, output shapes of some layers), worked out by hand from the papers.
BY_HAND = {
    "lenet5": (
        (5 * 5 * 1 * 8 + 8)
        + (5 * 5 * 8 * 16 + 16)
        + (4 * 4 * 16 * 120 + 120)
        + (120 * 84 + 84)
        + (84 * 10 + 10),
        {
            "conv1": (24, 24, 8),
            "pool1": (12, 12, 8),
            "ReLU2": (8, 8, 16),
            "fc1": (120,),
        },
    ),
    "cnn2": (
        (3 * 3 * 32 + 32)
        + (3 * 3 * 32 * 64 + 64)
        + (5 * 5 * 64 * 128 + 128)
        + (128 * 10 + 10),
        {"conv1": (26, 26, 32), "pool1": (13, 13, 32), "pool2": (5, 5, 64)},
    ),
    "cnn4_bn": (
        (27 * 64 + 64)
        + (576 * 64 + 64)
        + (576 * 128 + 128)
        + (1152 * 128 + 128)
        + 2 * (64 + 64 + 128 + 128)
        + (8 * 8 * 128 * 256 + 256)
        + (256 * 128 + 128)
        + (128 * 10 + 10),
        {"conv12": (32, 32, 64), "pool1": (16, 16, 64), "pool2": (8, 8, 128)},
    ),
    "cnn4_bn_32": (
        (27 * 32 + 32)
        + (288 * 32 + 32)
        + (288 * 64 + 64)
        + (576 * 64 + 64)
        + 2 * (32 + 32 + 64 + 64)
        + (8 * 8 * 64 * 256 + 256)
        + (256 * 128 + 128)
        + (128 * 10 + 10),
        {"conv12": (32, 32, 32), "pool1": (16, 16, 32), "pool2": (8, 8, 64)},
    ),
    "cnn6": (1_609_546, {"conv12": (32, 32, 64), "ReLU22": (16, 16, 128)}),
    "cnn6_gtsrb": (
        (27 * 32 + 32)
        + (288 * 32 + 32)
        + (288 * 64 + 64)
        + (576 * 64 + 64)
        + (576 * 128 + 128)
        + (1152 * 128 + 128)
        + (2 * 2 * 128 * 512 + 512)
        + (512 * 43 + 43),
        {"conv12": (30, 30, 32), "pool1": (15, 15, 32), "pool3": (2, 2, 128)},
    ),
    "alexnet_svhn": (
        4_864 + 307_392 + 663_936 + 884_992 + 590_080 + 2_360_320 + 1_049_600 + 10_250,
        {"pool1": (15, 15, 64), "pool2": (7, 7, 192), "pool5": (3, 3, 256)},
    ),
}


@pytest.fixture(scope="module", params=zoo.NETWORKS)
def network(request):
    """(name, chain, variables, two images)."""
    entry = zoo.network(request.param)
    layers = entry.build(entry.classes)
    images = jax.random.uniform(jax.random.key(1), (2, *entry.image_shape))
    drawn = jax.jit(chain.init, static_argnums=0)(layers, jax.random.key(0), images)
    return request.param, layers, drawn, images


def test_counts_and_shapes_by_hand(network):
    name, layers, variables, images = network
    rows = {row.name: row for row in chain.describe(layers, images.shape[1:])}
    parameters, shapes = BY_HAND[name]
    assert sum(row.parameters for row in rows.values()) == parameters
    params, _ = chain.split(variables)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert {layer: rows[layer].shape for layer in shapes} == shapes
    assert len(rows) == len(layers), "a layer name is used twice"


def test_flops_by_hand():
    rows = {r.name: r for r in chain.describe(zoo.lenet5(), (28, 28, 1))}
    assert rows["conv1"].flops == 2 * 25 * 1 * 8 * 24 * 24
    assert rows["conv2"].flops == 2 * 25 * 8 * 16 * 8 * 8
    assert rows["fc1"].flops == 2 * 256 * 120
    assert rows["pool1"].bytes == 4 * 12 * 12 * 8


def test_k_names_are_layers_and_count_conv_relu_pool(network):
    name, layers, _, _ = network
    names = [n for n, _ in layers if not n.startswith(("normalize", "bn", "drop"))]
    ks = zoo.NETWORKS[name].k
    assert {k: names[k - 1] for k in ks} == dict(ks)


def test_edge_then_cloud_is_the_network_at_every_cut(network):
    _, layers, variables, images = network
    whole, jitted = (
        chain.apply(layers, variables, images),
        jax.jit(chain.apply, static_argnums=0),
    )
    for name, _ in layers[:-1]:
        edge, cloud = chain.cut(layers, name)
        halves = chain.select(edge, variables), chain.select(cloud, variables)
        assert set(halves[0]) | set(halves[1]) == set(variables)
        assert not set(halves[0]) & set(halves[1])
        features = chain.apply(edge, halves[0], images)
        np.testing.assert_array_equal(
            chain.apply(cloud, halves[1], features), whole, err_msg=name
        )
        if name in (layers[1][0], layers[len(layers) // 2][0]):  # compiling is slow
            fast = jitted(cloud, halves[1], jitted(edge, halves[0], images))
            np.testing.assert_allclose(fast, whole, rtol=1e-5, atol=1e-5, err_msg=name)


def test_equal_networks_are_one_static_argument(network):
    name, layers, _, _ = network
    again = zoo.network(name).build(zoo.network(name).classes)
    assert layers == again and hash(layers) == hash(again)


def test_training_mode_moves_statistics_and_drops():
    layers = zoo.cnn4_bn()
    images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    variables = chain.init(layers, jax.random.key(1), images)
    first, moved = chain.apply_train(layers, variables, images, jax.random.key(2))
    second, _ = chain.apply_train(layers, variables, images, jax.random.key(3))
    assert not np.allclose(first, second), "dropout must depend on the key"
    before, after = variables["bn11"]["batch_stats"], moved["bn11"]["batch_stats"]
    assert not np.allclose(before["norm"]["mean"], after["norm"]["mean"])
    params, state = chain.split(variables)
    assert set(state) == {"bn11", "bn12", "bn21", "bn22"}
    assert jax.tree.structure(chain.join(params, state)) == jax.tree.structure(
        variables
    )


def test_torch_initialisation_is_uniform_within_its_bound():
    variables = chain.init(zoo.lenet5(), jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for name, fan_in in (("conv2", 5 * 5 * 8), ("fc1", 256)):
        for leaf in jax.tree.leaves(variables[name]["params"]):
            bound = fan_in**-0.5
            assert float(jnp.abs(leaf).max()) <= bound
            if leaf.size > 100:  # U(-b, b) has standard deviation b / sqrt(3)
                assert np.isclose(leaf.std(), bound / 3**0.5, rtol=0.1)


def test_overlapping_and_window_pools_agree_with_slow_ones():
    x = jax.random.normal(jax.random.key(0), (1, 7, 7, 2))
    for window, stride in ((2, 2), (3, 2)):
        y = MaxPool(window, stride).apply({}, x)
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                area = x[0, i * stride :, j * stride :][:window, :window]
                np.testing.assert_array_equal(y[0, i, j], area.max((0, 1)))


def test_a_pools_gradient_goes_to_the_first_of_equal_values():
    x = jnp.asarray([[0.0, 3.0], [3.0, 1.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: MaxPool().apply({}, x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])
    flat = jax.grad(lambda x: MaxPool().apply({}, x).sum())(jnp.zeros((1, 4, 4, 1)))
    assert flat[0, ::2, ::2].sum() == 4 and flat.sum() == 4


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("channels", [3, 64])
def test_convolution_is_xlas(padding, size, channels):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 4))
    layout = ("NHWC", "HWIO", "NHWC")
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=layout
    )
    convolved = convolve(x, kernel, padding)
    np.testing.assert_allclose(convolved, wanted, rtol=1e-5, atol=1e-4)


def test_unknown_names_give_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'pool1'.*conv1"):
        chain.cut(zoo.lenet5(), "pol1")
    with pytest.raises(ValueError, match="last layer"):
        chain.cut(zoo.lenet5(), "fc3")
    with pytest.raises(ValueError, match="did you mean 'lenet5'"):
        zoo.network("lenet")


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_and_transposed_convolutions_are_xlas(stride):
    x = jax.random.normal(jax.random.key(0), (2, 11, 13, 9))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 9, 4))
    layout = ("NHWC", "HWIO", "NHWC")
    forth = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=layout
    )
    np.testing.assert_allclose(convolve(x, kernel, "VALID", stride), forth, atol=1e-4)
    layer = ConvTranspose(4, 3, stride)
    variables = layer.init(jax.random.key(2), x)
    weights = variables["params"]["conv"]["kernel"]
    back = jax.lax.conv_transpose(
        x, weights, (stride, stride), "VALID", dimension_numbers=layout
    )
    wanted = back[:, : 10 * stride + 3, : 12 * stride + 3]
    np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=1e-4)


def test_variables_fit_the_chain_and_the_images_that_they_were_made_for():
    network = zoo.network("cnn2").build(10)
    variables = chain.init(network, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert chain.fits(network, (28, 28, 1), variables)
    assert not chain.fits(network, (32, 32, 1), variables), "another dense layer"
    assert not chain.fits(network[:-1], (28, 28, 1), variables)
