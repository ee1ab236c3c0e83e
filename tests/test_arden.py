"""ARDEN: its two epsilons, its law of noise, its limits and its noisy training."""

from math import ceil, exp, log

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import NETWORK, SHAPE, bars, target
from scipy import stats
from scipy.special import log_softmax, softmax

from ghostjax import chain, train
from ghostjax.base import Task
from ghostjax.defenses import arden as module
from ghostjax.defenses.arden import (
    Settings,
    arden,
    bounded,
    epsilon_l1_vector,
    epsilon_published,
    nullify,
)
from ghostjax.defenses.plain import plain
from ghostjax.layers import BatchNorm, Dense, Relu
from ghostjax.train import Recipe

EDGE, CLOUD = chain.cut(NETWORK, "ReLU1")
NONE = float("inf")


@pytest.fixture(scope="module")
def task():
    images, labels = map(jnp.asarray, bars(0, 512))
    learned = target(images, labels, 80)
    halves = chain.select(EDGE, learned), chain.select(CLOUD, learned)
    nothing = jnp.zeros(1, jnp.int32)
    return Task(*halves, images, labels, nothing, nothing)


def defend(steps=0, edge=EDGE, cloud=CLOUD, layer="", **changes):
    return arden(edge, cloud, SHAPE, Settings(Recipe(steps), 64, layer), **changes)


def untrained(key, params, model_state, data, rate, *, recipe, **rest):
    """A `train` that leaves everything as it is."""
    return train.start(params, model_state, recipe), {}


@pytest.mark.parametrize(
    ("nullified", "scale", "bound", "printed"),
    [(0.10, 5, 1.89, 0.7), (0.05, 2, 3.75, 3.7), (0.05, 2, 3.55, 3.5)],
)
def test_the_published_epsilons_of_the_implied_constants(
    nullified, scale, bound, printed
):
    found = epsilon_published(nullified, scale, bound)
    assert round(found, 1) == printed
    direct = log((1 - nullified) * exp(2 * bound / scale) + nullified)
    assert found == pytest.approx(direct, rel=1e-12)


def test_epsilon_is_stable_and_the_vector_pays_for_each_value():
    assert epsilon_published(0.1, 1e-3, 2.0) == pytest.approx(4000 + log(0.9))
    assert epsilon_published(0.0, 5.0, 2.0) == pytest.approx(0.8)
    assert epsilon_published(0.1, 5.0, 2.0, 4.0) < epsilon_published(0.1, 5.0, 2.0)
    # Their SVHN tensor: 16 x 16 x 64 values at 2 sigma = 3.75.
    assert epsilon_l1_vector(2.0, 3.75, 16 * 16 * 64) == pytest.approx(61_440)
    assert epsilon_published(0.1, 0.0, 1.0) == epsilon_l1_vector(0.0, 1.0, 9) == NONE


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: epsilon_published(1.0, 5.0, 1.0), "nullified = 1.0"),
        (lambda: epsilon_published(0.1, -1.0, 1.0), "scale = -1.0"),
        (lambda: epsilon_published(0.1, 5.0, 0.0), "bound = 0.0"),
        (lambda: epsilon_published(0.1, 5.0, 1.0, 0.0), "gradient = 0.0"),
        (lambda: epsilon_l1_vector(5.0, 1.0, 0), "values = 0"),
        (lambda: defend(layer="fc1"), "'fc1', which is not on the edge: .* ReLU1"),
        (lambda: defend(nullified=-0.1), "nullified = -0.1"),
        (lambda: defend(scale=-1.0), "scale = -1.0"),
        (lambda: defend(bound=-1.0), "bound = -1.0"),
        (lambda: defend(clean_weight=1.5), "clean_weight = 1.5"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(made, words):
    with pytest.raises(ValueError, match=words) as error:
        made()
    assert "\n" not in str(error.value)


def test_without_nullification_noise_and_bound_it_is_plain_to_the_bit(task):
    images = task.images[:32].astype(jnp.float32) / 255
    wanted = plain(EDGE, CLOUD)
    own, _ = wanted.fit(jax.random.key(0), task, None)
    features = jax.jit(wanted.encode)(own, jax.random.key(1), images, images)
    for layer in ("", "conv1"):
        defense = defend(layer=layer, nullified=0.0, scale=0.0, bound=NONE)
        params, _ = defense.fit(jax.random.key(0), task, untrained)
        found = jax.jit(defense.encode)(params, jax.random.key(1), images, images)
        np.testing.assert_array_equal(found, features)
        logits = jax.jit(defense.answer)(params, found)
        np.testing.assert_array_equal(logits, jax.jit(wanted.answer)(own, features))


def test_nullification_takes_the_stated_count_afresh_for_each_image():
    images = jnp.ones((6, *SHAPE))
    shown = np.asarray(nullify(jax.random.key(0), images, 20))
    gone = shown.reshape(6, -1) == 0
    assert (gone.sum(1) == 20).all()
    assert len({tuple(row) for row in gone}) == 6


def test_ties_of_the_draw_take_no_more_than_the_stated_count(monkeypatch):
    draw = jax.random.uniform
    coarse = lambda key, shape: jnp.round(5 * draw(key, shape))  # noqa: E731
    monkeypatch.setattr(jax.random, "uniform", coarse)
    shown = np.asarray(nullify(jax.random.key(0), jnp.ones((9, *SHAPE)), 20))
    assert set((shown.reshape(9, -1) == 0).sum(1)) == {20}


def test_every_place_is_nullified_equally_often():
    shown = np.asarray(nullify(jax.random.key(1), jnp.ones((2000, *SHAPE)), 20))
    counts = (shown == 0).sum(0).ravel()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_defense_nullifies_the_stated_share_of_what_it_sends():
    edge, cloud = (("ReLU0", Relu()),), (("fc", Dense(2)),)  # what is sent is the image
    images = jnp.full((4, *SHAPE), 200, jnp.uint8)
    nothing = jnp.zeros(1, jnp.int32)
    task = Task({}, {}, images, jnp.zeros(4, jnp.int32), nothing, nothing)
    defense = defend(edge=edge, cloud=cloud, nullified=0.1, scale=0.0, bound=NONE)
    params, _ = defense.fit(jax.random.key(0), task, untrained)
    sent = np.asarray(defense.encode_public(params, jax.random.key(1), images / 255))
    assert set((sent.reshape(4, -1) == 0).sum(1)) == {ceil(0.1 * 14 * 14)}


def test_the_bound_is_the_median_norm_and_nobody_exceeds_it(task):
    defense = defend(nullified=0.0)
    params, _ = defense.fit(jax.random.key(0), task, untrained)
    images = task.images.astype(jnp.float32) / 255
    features = np.asarray(chain.apply(EDGE, task.edge_variables, images))
    norms = np.abs(features).max((1, 2, 3))
    share = (norms <= float(params["bound"]) + 1e-6).mean()
    assert 0.4 < share < 0.6
    held = np.asarray(bounded(jnp.asarray(features), params["bound"]))
    assert np.abs(held).max() <= float(params["bound"]) * (1 + 1e-6)
    small = norms <= float(params["bound"])
    np.testing.assert_array_equal(held[small], features[small])
    half = float(params["bound"]) / 2
    own = defend(nullified=0.0, scale=0.0, bound=half)
    params, _ = own.fit(jax.random.key(0), task, untrained)
    sent = own.encode_public(params, jax.random.key(1), images)
    np.testing.assert_allclose(sent, bounded(jnp.asarray(features), half), atol=1e-5)
    assert float(sent.max()) <= half * (1 + 1e-6)


def test_noise_comes_in_behind_the_chosen_layer(task):
    edge, cloud = chain.cut(NETWORK, "pool1")
    learned = {**task.edge_variables, **task.cloud_variables}
    task = task._replace(cloud_variables=chain.select(cloud, learned))
    images = task.images[:8].astype(jnp.float32) / 255
    least, spent = {}, {}
    for layer in ("conv1", ""):
        defense = defend(edge=edge, cloud=cloud, layer=layer, scale=2.0)
        params, _ = defense.fit(jax.random.key(0), task, untrained)
        sent = defense.encode_public(params, jax.random.key(1), images)
        least[layer] = float(sent.min())
        columns = defense.columns(params)
        spent[layer] = columns["epsilon_l1_vector"] / columns["bound"]
    assert least["conv1"] == 0, "a ReLU comes behind the noise"
    assert least[""] < -2, "the noise comes last"
    assert spent["conv1"] == pytest.approx(12 * 12 * 8)  # 2 d / b
    assert spent[""] == pytest.approx(6 * 6 * 8)


def test_every_step_of_training_draws_noise_of_its_own(task):
    one = task._replace(images=task.images[:1], labels=task.labels[:1])
    defense = defend(bound=1.0)
    params, _ = defense.fit(jax.random.key(0), one, untrained)
    draw = module._draw(EDGE, defense.encode_public, 1)
    data = module._Data(one, params, jnp.float32(0.2), jnp.float32(0.5))
    first, second, again = (draw(jax.random.key(1), i, data) for i in (0, 1, 0))
    np.testing.assert_array_equal(first.clean, second.clean)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    assert not np.isclose(first.noisy, second.noisy).any()


def test_noise_has_the_stated_law_and_scale(task):
    images = jnp.repeat(task.images[:1], 40, 0).astype(jnp.float32) / 255
    own = {"nullified": 0.0, "bound": 1.0}
    loud, still = (defend(scale=b, **own) for b in (0.5, 0.0))
    key = jax.random.key(3)
    found = [
        d.encode_public(d.fit(key, task, untrained)[0], key, images)
        for d in (loud, still)
    ]
    drawn = np.asarray(found[0] - found[1])
    assert not np.array_equal(drawn[0], drawn[1]), "two images share their noise"
    drawn = drawn.ravel()  # 46,080 values
    assert stats.kstest(drawn, stats.laplace(scale=0.5).cdf).pvalue > 1e-3
    assert stats.kstest(drawn, stats.laplace(scale=0.525).cdf).pvalue < 1e-3


@pytest.mark.parametrize("factor", [8.0, 2.0])
def test_the_same_network_with_larger_features_bears_larger_noise(task, factor):
    """b means nothing without the features' size: 5 on features 8 times as large is
    0.625, and costs the same epsilon. A power of 2 leaves no rounding."""

    def scaled(variables, name, times):
        own = jax.tree.map(lambda x: times * x, variables[name])
        return {**variables, name: own}

    cloud = scaled(task.cloud_variables, "fc1", 1 / factor)
    bias = task.cloud_variables["fc1"]["params"]["dense"]["bias"]
    cloud["fc1"]["params"]["dense"]["bias"] = bias
    larger = task._replace(
        edge_variables=scaled(task.edge_variables, "conv1", factor),
        cloud_variables=cloud,
    )
    images = task.images[:32].astype(jnp.float32) / 255

    def noisy(task, scale):
        defense = defend(scale=scale)
        params, _ = defense.fit(jax.random.key(0), task, untrained)
        features = defense.encode_public(params, jax.random.key(1), images)
        epsilon = defense.columns(params)["epsilon_published"]
        return features, defense.answer(params, features), epsilon

    small, large = noisy(task, 5 / factor), noisy(larger, 5.0)
    np.testing.assert_array_equal(large[0], factor * small[0])
    np.testing.assert_array_equal(large[1], small[1])
    assert large[2] == small[2]
    assert not np.array_equal(noisy(task, 5.0)[1], small[1])


def test_weight_1_trains_on_clean_features_alone(task):
    def cloud(scale, weight):
        defense = defend(8, scale=scale, clean_weight=weight, bound=1.0)
        return defense.fit(jax.random.key(0), task, train.fit)[0]["cloud"]

    jax.tree.map(np.testing.assert_array_equal, cloud(5.0, 1.0), cloud(0.1, 1.0))
    one, other = (jax.tree.leaves(cloud(s, 0.5)) for s in (5.0, 0.1))
    assert not np.array_equal(one[0], other[0])


def test_the_loss_is_arden_s_of_a_linear_cloud():
    draw = np.random.default_rng(0)
    cloud = (("fc", Dense(3)),)
    kernel = draw.normal(size=(5, 3)).astype(np.float32)
    variables = chain.init(cloud, jax.random.key(0), jnp.zeros((1, 5)))
    variables = jax.tree.map(
        lambda x: jnp.asarray(kernel) if x.ndim == 2 else jnp.zeros_like(x), variables
    )
    clean, noisy = draw.normal(size=(2, 4, 5)).astype(np.float32)
    labels, weight, eta = np.array([0, 2, 1, 2]), 0.3, 5.0

    def cross_entropy(features):
        return -log_softmax(features @ kernel, -1)[np.arange(4), labels].mean()

    gradient = (softmax(noisy @ kernel, -1) - np.eye(3)[labels]) @ kernel.T
    moved = noisy + eta * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    assert cross_entropy(moved) > cross_entropy(noisy)
    hard = cross_entropy(noisy) + cross_entropy(moved)
    wanted = weight * cross_entropy(clean) + (1 - weight) * hard
    batch = module._Batch(*map(jnp.asarray, (clean, noisy, labels, weight, eta)))
    loss = module._loss(cloud)
    params, state = chain.split(variables)
    found, _ = loss(params, state, jax.random.key(0), batch)
    assert float(found) == pytest.approx(wanted, rel=1e-5)

    def slope(features):
        return features.T @ (softmax(features @ kernel, -1) - np.eye(3)[labels]) / 4

    fixed = weight * slope(clean) + (1 - weight) * (slope(noisy) + slope(moved))
    grown = jax.grad(lambda p: loss(p, state, jax.random.key(0), batch)[0])(params)
    (own,) = (x for x in jax.tree.leaves(grown) if x.ndim == 2)
    np.testing.assert_allclose(own, fixed, rtol=1e-4, atol=1e-5)  # r has no slope


@pytest.mark.parametrize("weight", [0.2, 1.0])
def test_running_statistics_are_those_of_what_is_sent(weight):
    """Not a mixture of clean and noisy features, which fits neither."""
    cloud = (("norm", BatchNorm()), ("fc", Dense(3)))
    draw = np.random.default_rng(0)
    clean = draw.normal(size=(8, 5)).astype(np.float32)
    noisy = clean + 4 * draw.normal(size=(8, 5)).astype(np.float32) + 2
    params, state = chain.split(chain.init(cloud, jax.random.key(0), clean))
    batch = module._Batch(clean, noisy, np.zeros(8, int), weight, 0.5)
    _, (moved, _) = module._loss(cloud)(params, state, jax.random.key(1), batch)
    seen = clean if weight == 1 else noisy
    mean, variance = jax.tree.leaves(moved)
    np.testing.assert_allclose(mean, 0.1 * seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * seen.var(0), rtol=1e-4)


def test_noisy_training_bears_noise_that_the_plain_cloud_does_not(task):
    shown, labels = bars(1, 400)
    images = jnp.asarray(shown, jnp.float32) / 255
    own = {"scale": 1.0, "nullified": 0.1, "adversarial_step": 0.5}
    right = {}
    for name, weight in (("noisy", 0.2), ("clean", 1.0)):
        defense = defend(300, clean_weight=weight, learning_rate=3e-3, **own)
        params, _ = defense.fit(jax.random.key(0), task, train.fit)
        features = defense.encode_public(params, jax.random.key(5), images)
        answers = np.asarray(defense.answer(params, features).argmax(-1))
        right[name] = (answers == labels).mean()
        jax.tree.map(np.testing.assert_array_equal, params["edge"], task.edge_variables)
    assert defense.draws >= 10
    assert set(defense.columns(params)) == {
        "bound",
        "epsilon_published",
        "epsilon_l1_vector",
    }
    assert right["noisy"] > right["clean"] + 0.08  # measured: 0.825 and 0.668
