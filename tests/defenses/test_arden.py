"""ARDEN: its two epsilons, its law of noise, its limits and its noisy training."""

from fractions import Fraction
from functools import partial
from math import ceil, exp, log, prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import SHAPE, at, bars, target
from probes import task as task_of
from scipy import stats
from scipy.special import log_softmax, softmax

from ghostjax import registry
from ghostjax.base import Context, Cut
from ghostjax.defenses import arden as module
from ghostjax.defenses.arden import (
    bounded,
    epsilon_l1_vector,
    epsilon_published,
    nullify,
)
from ghostjax.defenses.records import Arden, Plain
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import BatchNorm, Dense, Relu
from ghostjax.training.fit import drive, fit, start

CUT = at("ReLU1")
NONE = float("inf")


@pytest.fixture(scope="module")
def learned():
    """(variables of the target, images, labels)."""
    images, labels = bars(0, 512)
    return target(images, labels, 80), images, labels


@pytest.fixture(scope="module")
def task(learned):
    return task_of(CUT, *learned, (2, 3))


def defend(steps=1, cut=CUT, **changes):
    """(record, its defense)."""
    choices = {"batch_size": 64, "schedule": "constant", **changes}
    record = Arden(steps=steps, **choices)
    return record, registry.build(record, cut, Context())


def fitted(task, steps=0, cut=CUT, **changes):
    """(defense, params, its columns by name); 0 steps leave the target's cloud."""
    record, defense = defend(max(steps, 1), cut, **changes)
    hyper, run = traced_half(record), fit if steps else untrained
    params, _ = drive(defense.fit(jax.random.key(0), hyper, task), run)
    columns = defense.columns(params, hyper)
    return defense, params, {column.name: column.value for column in columns}


def untrained(training):
    """A `train` that leaves everything as it is."""
    return start(training), {}


@pytest.mark.parametrize(
    ("nullified", "scale", "bound", "printed"),
    [(0.10, 5, 1.89, 0.7), (0.05, 2, 3.75, 3.7), (0.05, 2, 3.55, 3.5)],
)
def test_the_published_epsilons_of_the_implied_constants(
    nullified, scale, bound, printed
):
    epsilon = epsilon_published(nullified, scale, bound)
    assert round(epsilon, 1) == printed
    direct = log((1 - nullified) * exp(2 * bound / scale) + nullified)
    assert epsilon == pytest.approx(direct, rel=1e-12)


def test_epsilon_is_stable_and_the_vector_pays_for_each_value():
    assert epsilon_published(0.1, 1e-3, 2.0) == pytest.approx(4000 + log(0.9))
    assert epsilon_published(0.0, 5.0, 2.0) == pytest.approx(0.8)
    assert epsilon_published(0.1, 5.0, 2.0, 4.0) < epsilon_published(0.1, 5.0, 2.0)
    # Their SVHN tensor: 16 x 16 x 64 values at 2 sigma = 3.75.
    assert epsilon_l1_vector(2.0, 3.75, 16 * 16 * 64) == pytest.approx(61_440)
    assert epsilon_published(0.1, 0.0, 1.0) == epsilon_l1_vector(0.0, 1.0, 9) == NONE


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: epsilon_published(1.0, 5.0, 1.0), "nullified = 1.0"),
        (lambda: epsilon_published(0.1, -1.0, 1.0), "scale = -1.0"),
        (lambda: epsilon_published(0.1, 5.0, 0.0), "bound = 0.0"),
        (lambda: epsilon_published(0.1, 5.0, 1.0, 0.0), "gradient = 0.0"),
        (lambda: epsilon_l1_vector(5.0, 1.0, 0), "values = 0"),
        (
            lambda: defend(noise_layer="fc1"),
            "'fc1', which is not on the edge: .* ReLU1",
        ),
        (lambda: Arden(nullified=-0.1), "nullified = -0.1"),
        (lambda: Arden(scale=-1.0), "scale = -1.0"),
        (lambda: Arden(bound=-1.0), "bound = -1.0"),
        (lambda: Arden(clean_weight=1.5), "clean_weight = 1.5"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_without_nullification_noise_and_bound_it_is_plain_to_the_bit(task):
    images = task.images[:32].astype(jnp.float32) / 255
    undefended = registry.build(Plain(), CUT, Context())
    halves, _ = drive(undefended.fit(jax.random.key(0), {}, task))
    features, logits = sent_and_answered(undefended, halves, images)
    for layer in ("", "conv1"):
        defense, params, _ = fitted(
            task, noise_layer=layer, nullified=0.0, scale=0.0, bound=NONE
        )
        sent, answers = sent_and_answered(defense, params, images)
        np.testing.assert_array_equal(sent, features)
        np.testing.assert_array_equal(answers, logits)


@partial(jax.jit, static_argnums=0)
def sent_and_answered(defense, params, images):
    features = defense.send(params, jax.random.key(1), images)
    return features, defense.answer(params, features)


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


@pytest.mark.parametrize("count", [0, 1, 20, 196])
def test_what_is_nullified_are_the_lowest_draws(count):
    """As many of each image as asked for; the count is an argument of one program."""
    key, images = jax.random.key(0), jax.random.uniform(jax.random.key(9), (6, *SHAPE))
    order = np.argsort(jax.random.uniform(key, (6, 196)), -1, kind="stable")
    wanted = np.array(images).reshape(6, -1)
    np.put_along_axis(wanted, order[:, :count], 0.0, -1)
    shown = jax.jit(nullify)(key, images, jnp.int32(count))
    np.testing.assert_array_equal(np.asarray(shown).reshape(6, -1), wanted)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (10, 10, 1), (5, 4, 1)])
def test_the_count_is_that_of_the_share_as_it_is_written(shape):
    """float32 has 0.1 slightly above 0.1: of 100 values that would be 11."""
    size = prod(shape)
    edge, cloud = (("ReLU0", Relu()),), (("fc", Dense(2)),)
    cut, pictures = Cut(edge, cloud, shape), np.zeros((2, *shape), np.uint8)
    task = task_of(cut, {}, pictures, [0, 1], (1,))
    hundredths = [Fraction(n, 100) for n in range(100)]
    others = [Fraction(*of) for of in ((1, 8), (1, 3), (1, 200), (999, 1000))]
    for share in hundredths + others:
        record = Arden(nullified=float(share), bound=1.0)
        defense = registry.build(record, cut, Context())
        training = next(defense.fit(jax.random.key(0), traced_half(record), task))
        assert training.own["count"] == ceil(share * size), share
        assert training.own["count"].dtype == np.int32
        if size % 5:  # where no decimal share makes a whole count, rounded or not
            assert ceil(share * size) == ceil(float(share) * size)


def test_every_place_is_nullified_equally_often():
    shown = np.asarray(nullify(jax.random.key(1), jnp.ones((2000, *SHAPE)), 20))
    counts = (shown == 0).sum(0).ravel()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_defense_nullifies_the_stated_share_of_what_it_sends():
    edge, cloud = (("ReLU0", Relu()),), (("fc", Dense(2)),)  # what is sent is the image
    images, cut = np.full((4, *SHAPE), 200, np.uint8), Cut(edge, cloud, SHAPE)
    task = task_of(cut, {}, images, [0, 0, 1, 1], (1,))
    defense, params, _ = fitted(task, cut=cut, nullified=0.1, scale=0.0, bound=NONE)
    sent = np.asarray(defense.send(params, jax.random.key(1), task.images / 255))
    assert set((sent.reshape(4, -1) == 0).sum(1)) == {ceil(0.1 * 14 * 14)}


def test_the_bound_is_the_median_norm_and_nobody_exceeds_it(task):
    _, params, columns = fitted(task, nullified=0.0)
    assert columns["bound"] == float(params["bound"])
    images = task.images.astype(jnp.float32) / 255
    features = np.asarray(chain.apply(CUT.edge, task.edge_variables, images))
    norms = np.abs(features).max((1, 2, 3))
    share = (norms <= float(params["bound"]) + 1e-6).mean()
    assert 0.4 < share < 0.6
    held = np.asarray(bounded(jnp.asarray(features), params["bound"]))
    assert np.abs(held).max() <= float(params["bound"]) * (1 + 1e-6)
    small = norms <= float(params["bound"])
    np.testing.assert_array_equal(held[small], features[small])
    half = float(params["bound"]) / 2
    defense, params, columns = fitted(task, nullified=0.0, scale=0.0, bound=half)
    assert columns["bound"] == half
    sent = defense.send(params, jax.random.key(1), images)
    np.testing.assert_allclose(sent, bounded(jnp.asarray(features), half), atol=1e-5)
    assert float(sent.max()) <= half * (1 + 1e-6)


def test_features_of_zero_have_no_median_to_be_bounded_by(task):
    dark = task._replace(
        edge_variables=jax.tree.map(jnp.zeros_like, task.edge_variables)
    )
    with pytest.raises(ValueError, match="0 for half of the training images: give a"):
        fitted(dark)
    fitted(dark, bound=1.0)


def test_noise_comes_in_behind_the_chosen_layer(learned):
    cut = at("pool1")
    task = task_of(cut, *learned, (2, 3))
    images = task.images[:8].astype(jnp.float32) / 255
    least, spent = {}, {}
    for layer in ("conv1", ""):
        defense, params, columns = fitted(task, cut=cut, noise_layer=layer, scale=2.0)
        sent = defense.send(params, jax.random.key(1), images)
        least[layer] = float(sent.min())
        spent[layer] = columns["epsilon_l1_vector"] / columns["bound"]
    assert least["conv1"] == 0, "a ReLU comes behind the noise"
    assert least[""] < -2, "the noise comes last"
    assert spent["conv1"] == pytest.approx(12 * 12 * 8)  # 2 d / b
    assert spent[""] == pytest.approx(6 * 6 * 8)


def test_every_step_of_training_draws_noise_of_its_own(task):
    one = task._replace(images=task.images[:1], labels=task.labels[:1])
    record, defense = defend(bound=1.0, batch_size=1)
    training = next(defense.fit(jax.random.key(0), traced_half(record), one))
    first, second, again = (
        training.draw(jax.random.key(1), step, training.shared, training.own)
        for step in (0, 1, 0)
    )
    np.testing.assert_array_equal(first.clean, second.clean)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    assert not np.isclose(first.noisy, second.noisy).any()


def test_noise_has_the_stated_law_and_scale(task):
    images = jnp.repeat(task.images[:1], 40, 0).astype(jnp.float32) / 255
    sent = []
    for scale in (0.5, 0.0):
        defense, params, _ = fitted(task, nullified=0.0, bound=1.0, scale=scale)
        sent.append(defense.send(params, jax.random.key(3), images))
    drawn = np.asarray(sent[0] - sent[1])
    assert not np.array_equal(drawn[0], drawn[1]), "two images share their noise"
    drawn = drawn.ravel()  # 46,080 values
    assert stats.kstest(drawn, stats.laplace(scale=0.5).cdf).pvalue > 1e-3
    assert stats.kstest(drawn, stats.laplace(scale=0.525).cdf).pvalue < 1e-3


@pytest.mark.parametrize("factor", [8.0, 2.0])
def test_the_same_network_with_larger_features_bears_larger_noise(task, factor):
    """b means nothing without the features' size: 5 on features 8 times as large is
    0.625, and costs the same epsilon. A power of 2 leaves no rounding."""

    def scaled(variables, name, times):
        return {**variables, name: jax.tree.map(lambda x: times * x, variables[name])}

    cloud = scaled(task.cloud_variables, "fc1", 1 / factor)
    bias = task.cloud_variables["fc1"]["params"]["dense"]["bias"]
    cloud["fc1"]["params"]["dense"]["bias"] = bias
    larger = task._replace(
        edge_variables=scaled(task.edge_variables, "conv1", factor),
        cloud_variables=cloud,
    )
    images = task.images[:32].astype(jnp.float32) / 255

    def noisy(task, scale):
        defense, params, columns = fitted(task, scale=scale)
        features = defense.send(params, jax.random.key(1), images)
        epsilon = columns["epsilon_published"]
        return features, defense.answer(params, features), epsilon

    small, large = noisy(task, 5 / factor), noisy(larger, 5.0)
    np.testing.assert_array_equal(large[0], factor * small[0])
    np.testing.assert_array_equal(large[1], small[1])
    assert large[2] == small[2]
    assert not np.array_equal(noisy(task, 5.0)[1], small[1])


def test_weight_1_trains_on_clean_features_alone(task):
    def cloud(scale, weight):
        changes = {"scale": scale, "clean_weight": weight, "bound": 1.0}
        return fitted(task, 8, **changes)[1]["cloud"]

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
    batch = module._Batch(*map(jnp.asarray, (clean, noisy, labels)))
    hyper = {"clean_weight": weight, "adversarial_step": eta}
    loss, (params, state) = module._loss(cloud), chain.split(variables)
    value, _ = loss(params, state, jax.random.key(0), batch, hyper, ())
    assert float(value) == pytest.approx(wanted, rel=1e-5)

    def slope(features):
        return features.T @ (softmax(features @ kernel, -1) - np.eye(3)[labels]) / 4

    fixed = weight * slope(clean) + (1 - weight) * (slope(noisy) + slope(moved))
    grown = jax.grad(lambda p: loss(p, state, jax.random.key(0), batch, hyper, ())[0])(
        params
    )
    (of_kernel,) = (x for x in jax.tree.leaves(grown) if x.ndim == 2)
    np.testing.assert_allclose(of_kernel, fixed, rtol=1e-4, atol=1e-5)  # r has none


@pytest.mark.parametrize("weight", [0.2, 1.0])
def test_running_statistics_are_those_of_what_is_sent(weight):
    """Not a mixture of clean and noisy features, which fits neither."""
    cloud = (("norm", BatchNorm()), ("fc", Dense(3)))
    draw = np.random.default_rng(0)
    clean = draw.normal(size=(8, 5)).astype(np.float32)
    noisy = clean + 4 * draw.normal(size=(8, 5)).astype(np.float32) + 2
    params, state = chain.split(chain.init(cloud, jax.random.key(0), clean))
    batch = module._Batch(clean, noisy, np.zeros(8, int))
    hyper = {"clean_weight": weight, "adversarial_step": 0.5}
    key = jax.random.key(1)
    _, (moved, _) = module._loss(cloud)(params, state, key, batch, hyper, ())
    seen = clean if weight == 1 else noisy
    mean, variance = jax.tree.leaves(moved)
    np.testing.assert_allclose(mean, 0.1 * seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * seen.var(0), rtol=1e-4)


def test_noisy_training_bears_noise_that_the_plain_cloud_does_not(task):
    shown, labels = bars(1, 400)
    images = jnp.asarray(shown, jnp.float32) / 255
    noise = {"scale": 1.0, "nullified": 0.1, "adversarial_step": 0.5}
    right = {}
    for name, weight in (("noisy", 0.2), ("clean", 1.0)):
        defense, params, columns = fitted(
            task, 300, clean_weight=weight, learning_rate=3e-3, **noise
        )
        features = defense.send(params, jax.random.key(5), images)
        answers = np.asarray(defense.answer(params, features).argmax(-1))
        right[name] = (answers == labels).mean()
        jax.tree.map(np.testing.assert_array_equal, params["edge"], task.edge_variables)
    assert defense.draws >= 10
    assert set(columns) == {"bound", "epsilon_published", "epsilon_l1_vector"}
    assert right["noisy"] > right["clean"] + 0.08  # measured: 0.825 and 0.668


def test_levels_share_one_defense_and_a_bound_measured_or_stated_is_a_choice():
    levels = {
        "nullified": 0.3,
        "scale": 1.0,
        "clean_weight": 0.5,
        "adversarial_step": 1.0,
        "learning_rate": 1e-2,
    }
    measured, other = defend()[1], defend(**levels)[1]
    stated, larger = defend(bound=1.0)[1], defend(bound=2.0, **levels)[1]
    assert measured is other and stated is larger and measured is not stated
