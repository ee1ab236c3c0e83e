"""rMLE: the stated objective, per-image descent, and pictures that come back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import chain, metrics, zoo
from ghostjax.attacks.objective import Goal, authors_variation, paper_variation
from ghostjax.attacks.rmle import AUTHORS, Settings, rmle
from ghostjax.attacks.solvers import Choices
from ghostjax.base import Knowledge, limit

SHAPE = (28, 28, 1)
SHARP = AUTHORS._replace(steps=400, keep="best", choices=Choices("adam", 1e-8))


@pytest.fixture(scope="module")
def scene():
    """(lenet5, its variables, eight smooth images)."""
    layers = zoo.lenet5()
    variables = chain.init(layers, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    noise = jax.random.uniform(jax.random.key(1), (8, 7, 7, 1))
    return layers, variables, jax.image.resize(noise, (8, *SHAPE), "linear")


def attack(scene, cut, settings, count=8, **rates):
    layers, variables, images = scene
    edge, _ = chain.cut(layers, cut)
    own = chain.select(edge, variables)
    features = chain.apply(edge, own, images[:count])
    attacker = rmle(edge, SHAPE, settings, **rates)
    knowledge = limit(Knowledge(edge_variables=own), attacker.needs)
    params, _ = attacker.fit(jax.random.key(2), knowledge, None)
    return attacker.invert(params, jax.random.key(3), features)


def test_pictures_come_back_through_the_first_convolution(scene):
    recovered, trace = attack(scene, "conv1", SHARP, learning_rate=0.05, tv_weight=0.0)
    assert recovered.shape == (8, *SHAPE) and trace.shape == (8, 400)
    assert float(metrics.psnr(scene[2], recovered).min()) > 40
    assert bool((trace[:, -1] < 1e-3 * trace[:, 0]).all())


@pytest.mark.parametrize("cut", ["pool1", "ReLU2", "fc2"])
def test_every_cut_descends(scene, cut):
    settings = SHARP._replace(steps=60)
    recovered, trace = attack(scene, cut, settings, learning_rate=0.05, tv_weight=1e-3)
    assert bool((trace[:, -1] < trace[:, 0]).all())
    assert 0 <= float(recovered.min()) and float(recovered.max()) <= 1


ALIKE = {
    "authors": AUTHORS._replace(steps=30),
    "adam": SHARP._replace(steps=30, box=True),
    "lbfgs": Settings("lbfgs", 4, "dark"),
    "gauss_newton": Settings("gauss_newton", 8, "dark"),
    "several starts": Settings("gauss_newton", 4),
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_batch_is_its_images_one_by_one(scene, name):
    settings = ALIKE[name]
    together, trace = attack(scene, "conv1", settings)
    for place in range(2):
        one = scene[0], scene[1], scene[2][place : place + 1]
        alone, own = attack(one, "conv1", settings, 1)
        np.testing.assert_allclose(alone[0], together[place], atol=1e-3)
        np.testing.assert_allclose(own[0], trace[place], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["authors", "gauss_newton", "several starts"])
def test_vmap_of_one_image_is_the_batch(scene, name):
    layers, variables, images = scene
    edge, _ = chain.cut(layers, "conv1")
    features = chain.apply(edge, chain.select(edge, variables), images)
    attacker = rmle(edge, SHAPE, ALIKE[name])

    def one(feature):
        return attacker.invert(variables, jax.random.key(0), feature[None])[0][0]

    together, _ = attacker.invert(variables, jax.random.key(0), features)
    np.testing.assert_allclose(jax.vmap(one)(features), together, atol=1e-3)


def test_the_trace_is_the_stated_objective_at_grey(scene):
    layers, variables, images = scene
    edge, _ = chain.cut(layers, "ReLU1")
    own = chain.select(edge, variables)
    features = np.asarray(chain.apply(edge, own, images))
    grey = np.asarray(chain.apply(edge, own, jnp.full((1, *SHAPE), 0.5)))
    squares = ((features - grey) ** 2).reshape(8, -1)
    for distance, wanted in (("mean", squares.mean(1)), ("sum", squares.sum(1))):
        settings = AUTHORS._replace(steps=1, goal=Goal(distance))
        _, trace = attack(scene, "ReLU1", settings, tv_weight=5.0)
        np.testing.assert_allclose(trace[:, 0], wanted, rtol=1e-4)


def test_both_total_variations_against_loops():
    z = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    vertical = (z[:, 1:] - z[:, :-1]).astype(np.float64)
    horizontal = (z[:, :, 1:] - z[:, :, :-1]).astype(np.float64)
    authors = [
        (v**2).sum() / v.size + (h**2).sum() / h.size
        for v, h in zip(vertical, horizontal, strict=True)
    ]
    np.testing.assert_allclose(authors_variation(jnp.asarray(z)), authors, rtol=1e-5)
    for beta in (1.0, 2.0):
        paper = np.zeros(2)
        for index in np.ndindex(z.shape):
            b, i, j, c = index
            down = vertical[b, i, j, c] if i < 4 else 0.0
            right = horizontal[b, i, j, c] if j < 3 else 0.0
            paper[b] += (down**2 + right**2 + 1e-6) ** (beta / 2)
        np.testing.assert_allclose(
            paper_variation(jnp.asarray(z), beta), paper, rtol=1e-5
        )


def test_flat_pictures_have_a_finite_gradient():
    flat = jnp.zeros((1, 5, 5, 1))
    gradient = jax.grad(lambda z: paper_variation(z, 1.0).sum())(flat)
    np.testing.assert_array_equal(gradient, 0)


def test_total_variation_smooths(scene):
    rough, _ = attack(scene, "pool2", SHARP._replace(steps=60), tv_weight=0.0)
    smooth, _ = attack(scene, "pool2", SHARP._replace(steps=60), tv_weight=10.0)
    assert float(authors_variation(smooth).mean()) < float(
        authors_variation(rough).mean()
    )


def test_the_box_holds_during_the_search(scene):
    settings = SHARP._replace(steps=40)
    free, _ = attack(scene, "fc1", settings, learning_rate=0.5, tv_weight=0.0)
    boxed, _ = attack(
        scene, "fc1", settings._replace(box=True), learning_rate=0.5, tv_weight=0.0
    )
    assert not np.allclose(free, boxed)
    assert 0 <= float(boxed.min()) and float(boxed.max()) <= 1


def test_features_of_another_cut_are_refused(scene):
    edge, _ = chain.cut(scene[0], "conv1")
    with pytest.raises(ValueError, match=r"ends in 'conv1' and sends \(24, 24, 8\)"):
        rmle(edge, SHAPE, SHARP).invert(
            scene[1], jax.random.key(0), jnp.zeros((1, 12, 12, 8))
        )


def test_knowledge_is_limited_to_what_is_declared():
    everything = Knowledge(*(object() for _ in Knowledge._fields))
    seen = limit(everything, ("edge_variables",))
    assert seen.edge_variables is everything.edge_variables
    assert all(x is None for n, x in seen._asdict().items() if n != "edge_variables")
    with pytest.raises(ValueError, match="needs 'query'"):
        limit(Knowledge(), ("query",))
    with pytest.raises(ValueError, match="did you mean 'query'"):
        limit(Knowledge(), ("qury",))


def test_an_inversion_is_few_programs(caplog):
    """Each small array operation outside a program is a program of its own, and a call:
    it took 39, and on a GPU ten times as long as its steps."""
    edge, _ = chain.cut(zoo.lenet5(), "conv1")
    images = jnp.zeros((7, 28, 28, 1))
    variables = chain.init(edge, jax.random.key(0), images)
    features = chain.apply(edge, variables, images)
    settings = Settings("gd", 3, "grey", 0.0)
    invert = rmle(edge, (28, 28, 1), settings).invert
    jax.clear_caches()
    with jax.log_compiles():
        invert(variables, jax.random.key(0), features)
    lines = [r.getMessage() for r in caplog.records]
    compiled = [line for line in lines if line.startswith("Finished XLA compilation")]
    assert 3 <= len(compiled) <= 12, compiled


def test_an_inversion_can_be_traced_again():
    """Nothing that one trace made is left in a cache for the next."""
    edge, _ = chain.cut(zoo.lenet5(), "conv1")
    images = jnp.zeros((2, 28, 28, 1))
    variables = chain.init(edge, jax.random.key(0), images)
    features = chain.apply(edge, variables, images)
    invert = rmle(edge, (28, 28, 1), Settings(steps=1)).invert
    for count in (1, 2):  # of another shape, since what is traced is kept
        program = jax.jit(lambda v, f: invert(v, jax.random.key(0), f)[0])
        pictures = program(variables, features[:count])
        assert pictures.shape == (count, 28, 28, 1)
