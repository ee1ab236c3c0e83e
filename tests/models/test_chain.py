"""Chains: cutting is lossless, shapes and counts are what a hand works out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trainers

from ghostjax import runtime
from ghostjax.models import chain, zoo
from ghostjax.models.convolution import convolve, forwards_only
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


def noise(seed, *shape):
    """Standard normal values, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def shapes(layers, image_shape):
    """(the shapes of a chain's variables, that of two images)."""
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    return jax.eval_shape(
        partial(chain.init, layers), jax.random.key(0), images
    ), images


def positive(layers, image_shape):
    """Variables above 0.5, since variances are among them."""
    return jax.tree.map(
        lambda leaf: 0.5 + abs(noise(0, *leaf.shape)), shapes(layers, image_shape)[0]
    )


@pytest.fixture(scope="module", params=zoo.NETWORKS)
def network(request):
    """(name, chain, shapes of its variables, shape of two images)."""
    entry = zoo.network(request.param)
    layers = entry.build(entry.classes)
    return request.param, layers, *shapes(layers, entry.image_shape)


def test_counts_and_shapes_by_hand(network):
    name, layers, variables, images = network
    rows = {row.name: row for row in chain.describe(layers, images.shape[1:])}
    parameters, by_hand = BY_HAND[name]
    assert sum(row.parameters for row in rows.values()) == parameters
    params, _ = chain.split(variables)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    assert {layer: rows[layer].shape for layer in by_hand} == by_hand
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


class Once:
    """A layer that jax traces once, and compiles once, however often it is applied."""

    def __init__(self, layer):
        self.apply = jax.jit(layer.apply)


def calls(function, *arguments):
    """(program, numbers of the values that it reads) of every layer, in order."""
    traced, numbers = jax.make_jaxpr(function)(*arguments), {}
    for value in traced.jaxpr.invars:
        numbers[value] = len(numbers)
    applied = []
    for equation in traced.eqns:
        reads = [numbers[value] for value in equation.invars]
        applied.append((equation.params["jaxpr"], reads))
        for value in equation.outvars:
            numbers[value] = len(numbers)
    return applied


def halves(layers, name, variables, images):
    """Edge then cloud, each on its own slice of the variables."""
    edge, cloud = chain.cut(layers, name)
    mine, theirs = chain.select(edge, variables), chain.select(cloud, variables)
    assert set(mine) | set(theirs) == set(variables)
    assert not set(mine) & set(theirs)
    return chain.apply(cloud, theirs, chain.apply(edge, mine, images))


def test_edge_then_cloud_is_the_network_at_every_cut(network):
    """The same layers' programs, on the same variables, in the same order."""
    _, layers, variables, images = network
    once = tuple((name, Once(layer)) for name, layer in layers)
    whole = calls(partial(chain.apply, once), variables, images)
    assert len(whole) == len(layers)
    for name, _ in layers[:-1]:
        assert calls(partial(halves, once, name), variables, images) == whole, name
    swapped = (*once[:-2], once[-1], once[-2])
    assert calls(partial(chain.apply, swapped), variables, images) != whole


def test_edge_then_cloud_gives_the_networks_numbers_at_every_cut():
    layers, (images, _) = trainers.LAYERS, trainers.images()
    images = np.asarray(images[:2], np.float32) / 255
    variables = positive(layers, trainers.SHAPE)
    once = tuple((name, Once(layer)) for name, layer in layers)
    whole = chain.apply(once, variables, images)
    for name, _ in layers[:-1]:
        cut = halves(once, name, variables, images)
        np.testing.assert_array_equal(cut, whole, err_msg=name)
    jitted = jax.jit(chain.apply, static_argnums=0)
    edge, cloud = chain.cut(layers, "pool1")
    features = jitted(edge, chain.select(edge, variables), images)
    fast = jitted(cloud, chain.select(cloud, variables), features)
    np.testing.assert_allclose(fast, whole, rtol=1e-5, atol=1e-5)


def test_equal_networks_are_one_static_argument(network):
    name, layers, _, _ = network
    again = zoo.network(name).build(zoo.network(name).classes)
    assert layers == again and hash(layers) == hash(again)


def test_training_mode_moves_statistics_and_drops():
    layers, images = trainers.LAYERS, noise(0, 4, *trainers.SHAPE)
    variables = jax.tree.map(  # small, since its sigmoid saturates
        lambda leaf: leaf / 10, positive(layers, trainers.SHAPE)
    )
    train = jax.jit(partial(chain.apply_train, layers))
    first, moved = train(variables, images, jax.random.key(2))
    second, _ = train(variables, images, jax.random.key(3))
    assert not np.allclose(first, second), "dropout must depend on the key"
    before, after = variables["bn1"]["batch_stats"], moved["bn1"]["batch_stats"]
    assert not np.allclose(before["norm"]["mean"], after["norm"]["mean"])
    params, state = chain.split(variables)
    assert set(state) == {"bn1"}
    assert jax.tree.structure(chain.join(params, state)) == jax.tree.structure(
        variables
    )


def test_running_statistics_are_those_of_the_networks_normalisations():
    _, state = chain.split(shapes(zoo.cnn4_bn(), (32, 32, 3))[0])
    assert set(state) == {"bn11", "bn12", "bn21", "bn22"}


def test_torch_initialisation_is_uniform_within_its_bound():
    names, layers = ("conv2", "ReLU2", "pool2", "fc1"), dict(zoo.lenet5())
    layers = tuple((name, layers[name]) for name in names)
    variables = chain.init(layers, jax.random.key(0), np.zeros((1, 12, 12, 8)))
    for name, fan_in in (("conv2", 5 * 5 * 8), ("fc1", 256)):
        for leaf in map(np.asarray, jax.tree.leaves(variables[name]["params"])):
            bound = fan_in**-0.5
            assert abs(leaf).max() <= bound
            ratio, n = leaf.std() / (bound / 3**0.5), leaf.size
            error = (0.2 / n) ** 0.5  # of U(-b, b)'s standard deviation, relative
            assert abs(ratio - 1) < 5 * error, (name, ratio, 5 * error, n)


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2)])
def test_overlapping_and_window_pools_agree_with_slow_ones(window, stride):
    x = noise(0, 1, 7, 7, 2)
    y = np.asarray(jax.jit(partial(MaxPool(window, stride).apply, {}))(x))
    assert y.shape == (1, 3, 3, 2)
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            area = x[0, i * stride :, j * stride :][:window, :window]
            np.testing.assert_array_equal(y[0, i, j], area.max((0, 1)))


def test_a_pools_gradient_goes_to_the_first_of_equal_values():
    slope = jax.jit(jax.grad(lambda x: MaxPool().apply({}, x).sum()))
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, :2, :2, 0] = [[0, 3], [3, 1]]
    gradient = np.asarray(slope(x))[0, :, :, 0]
    np.testing.assert_array_equal(gradient[:2, :2], [[0, 1], [0, 0]])
    flat = np.asarray(slope(np.zeros_like(x)))
    assert flat[0, ::2, ::2].sum() == 4 and flat.sum() == 4


LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("channels", [3, 64])
def test_convolution_is_xlas(padding, size, channels):
    x, kernel = noise(0, 2, 9, 8, channels), noise(1, size, size, channels, 4)

    @jax.jit
    def all_forms(x, kernel):
        with forwards_only(True):
            forwards = convolve(x, kernel, padding)
        xlas = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=LAYOUT
        )
        return convolve(x, kernel, padding), forwards, xlas

    convolved, forwards, wanted = all_forms(x, kernel)
    np.testing.assert_allclose(convolved, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(forwards, wanted, rtol=1e-5, atol=1e-4)


def test_forwards_only_is_another_program_and_not_another_result_on_accelerators(
    monkeypatch,
):
    x, kernel = noise(0, 2, 9, 8, 3), noise(1, 3, 3, 3, 4)

    def written():
        convolved = jax.jit(partial(convolve), static_argnums=2)  # traced anew
        plain = convolved.lower(x, kernel, "VALID").as_text()
        with forwards_only(True):
            return plain, convolved.lower(x, kernel, "VALID").as_text()

    plain, forwards = written()
    assert plain != forwards
    monkeypatch.setattr(runtime, "on_cpu", lambda: False)
    plain, forwards = written()
    assert plain == forwards and "stablehlo.convolution" in plain


def test_unknown_names_give_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'pool1'.*conv1"):
        chain.cut(zoo.lenet5(), "pol1")
    with pytest.raises(ValueError, match="last layer"):
        chain.cut(zoo.lenet5(), "fc3")
    with pytest.raises(ValueError, match="did you mean 'lenet5'"):
        zoo.network("lenet")


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_and_transposed_convolutions_are_xlas(stride):
    x, kernel = noise(0, 2, 11, 13, 9), noise(1, 3, 3, 9, 4)
    layer, bias = ConvTranspose(4, 3, stride), np.zeros(4, np.float32)
    variables = {"params": {"conv": {"kernel": kernel, "bias": bias}}}

    @jax.jit
    def both(x, kernel, variables):
        numbers = (stride, stride), "VALID"
        forth = jax.lax.conv_general_dilated(
            x, kernel, *numbers, dimension_numbers=LAYOUT
        )
        back = jax.lax.conv_transpose(x, kernel, *numbers, dimension_numbers=LAYOUT)
        wanted = back[:, : 10 * stride + 3, : 12 * stride + 3]
        ours = convolve(x, kernel, "VALID", stride), layer.apply(variables, x)
        return ours, (forth, wanted)

    for one, wanted in zip(*both(x, kernel, variables), strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-4)
    drawn = jax.eval_shape(layer.init, jax.random.key(2), x)
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(np.shape, variables)


def test_variables_fit_the_chain_and_the_images_that_they_were_made_for():
    network = zoo.network("cnn2").build(10)
    variables, _ = shapes(network, (28, 28, 1))
    assert chain.fits(network, (28, 28, 1), variables)
    assert not chain.fits(network, (32, 32, 1), variables), "another dense layer"
    assert not chain.fits(network[:-1], (28, 28, 1), variables)
