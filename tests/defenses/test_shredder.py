"""SHREDDER: its loss, that the noise grows, its bank and what is drawn from it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import at, bars, for_steps
from probes import task as task_of
from scipy import stats
from scipy.special import log_softmax

from ghostjax import registry
from ghostjax.base import Context
from ghostjax.defenses import shredder as module
from ghostjax.defenses.records import Shredder
from ghostjax.defenses.shredder import sample
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Dense
from ghostjax.training.fit import Recipe, Training, drive, fit

CUT = at("pool1")
SHAPE = (6, 6, 8)  # of its features
APPLY = jax.jit(chain.apply, static_argnums=0)
SAMPLE = jax.jit(sample, static_argnums=(2, 3))


@pytest.fixture(scope="module")
def task(learned):
    return task_of(CUT, *learned, (2, 3))


def defend(members=3, **changes):
    """(record, its defense)."""
    record = Shredder(members=members, schedule="constant", **changes)
    return record, registry.build(record, CUT, Context())


def started(task, **changes):
    """The training that a defense begins with."""
    record, defense = defend(**changes)
    return next(defense.fit(jax.random.key(0), traced_half(record), task))


def fitted(task, steps, **changes):
    """(defense, params, its columns by name)."""
    record, defense = defend(**changes)
    hyper = traced_half(record)
    fitting = defense.fit(jax.random.key(0), hyper, task)
    params, _ = drive(fitting, for_steps(steps))
    columns = defense.columns(params, hyper)
    return defense, params, {column.name: column.value for column in columns}


@partial(jax.jit, static_argnums=0)
def sent(defense, params, key, images):
    return defense.send(params, key, images)


def test_the_loss_is_shredder_s_of_a_linear_cloud_and_lambda_decays_of_the_loud():
    draw = np.random.default_rng(0)
    cloud = (("fc", Dense(3)),)
    kernel = draw.normal(size=(5, 3)).astype(np.float32)
    values = {"kernel": kernel, "bias": np.zeros(3, np.float32)}
    variables = {"fc": {"params": {"dense": values}}}
    features = draw.normal(size=(4, 5)).astype(np.float32)
    noise = draw.normal(size=(2, 5)).astype(np.float32) * [[1.0], [0.1]]
    weights, labels = np.array([0.7, 0.2]), np.array([0, 2, 1, 2])
    wanted = 0.0
    for tensor, weight in zip(noise, weights, strict=True):
        logits = (features + tensor) @ kernel
        wanted -= log_softmax(logits, -1)[np.arange(4), labels].mean()
        wanted -= weight * np.abs(tensor).mean()
    ratios = noise.var(1) / 0.5
    value, (after, metrics) = jax.jit(module._loss(cloud))(
        np.float32(noise),
        np.float32(weights),
        jax.random.key(0),
        module._Batch(features, labels),
        {"inverse_snr": ratios.mean(), "decay": 0.9},
        module._Shared(
            images=None, labels=None, edge=None, cloud=variables, signal=0.5
        ),
    )
    assert float(value) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(after, [0.63, 0.2], rtol=1e-6)  # the first is loud
    assert float(metrics["inverse_snr"]) == pytest.approx(ratios.mean(), rel=1e-5)


def test_noise_grows_tenfold_and_the_network_still_answers(task):
    loud = {"noise_weight": 1.0, "inverse_snr": 0.3, "learning_rate": 3e-2}
    defense, params, columns = fitted(task, 200, **loud)
    assert columns["inverse_snr"] > 10 * columns["inverse_snr_start"], columns
    shown, labels = bars(1, 1024)
    images = np.float32(shown) / 255
    features = sent(defense, params, jax.random.key(5), images)
    clean = APPLY(CUT.edge, task.edge_variables, images)
    answer = jax.jit(defense.answer)
    right, undisturbed = (
        (np.asarray(answer(params, x)).argmax(-1) == labels).mean()
        for x in (features, clean)
    )
    assert right > undisturbed - 0.02, f"{right} and {undisturbed} of 1024"
    for half in ("edge", "cloud"):
        before = getattr(task, f"{half}_variables")
        jax.tree.map(np.testing.assert_array_equal, params[half], before)


def test_noise_grows_for_lambda_and_for_nothing_else(task):
    grown = {}
    for weight in (0.0, 1.0):
        _, _, columns = fitted(
            task, 40, noise_weight=weight, inverse_snr=1e9, learning_rate=2.5e-2
        )
        grown[weight] = columns["inverse_snr"] / columns["inverse_snr_start"]
    assert grown[1.0] > 5 * grown[0.0], grown


def test_a_bank_of_one_is_the_first_of_three(task):
    one, three = (fitted(task, 20, members=m)[1]["noise"] for m in (1, 3))
    assert one.shape == (1, *SHAPE) and three.shape == (3, *SHAPE)
    np.testing.assert_allclose(one[0], three[0], atol=2e-5)
    assert not np.allclose(three[0], three[1], atol=1e-2)


def test_a_bank_starts_from_the_stated_draws_however_large_it_is(task):
    """Equal to the bit: each tensor's key is folded with its place in the bank."""
    one, three = (started(task, members=m) for m in (1, 3))
    np.testing.assert_array_equal(one.params[0], three.params[0])
    start_key, _ = jax.random.split(jax.random.key(0))
    laplace = jax.jit(jax.random.laplace, static_argnums=1)
    draws = [laplace(jax.random.fold_in(start_key, i), SHAPE) for i in range(3)]
    np.testing.assert_array_equal(three.params, np.float32(0.1) * np.stack(draws))
    drawn = np.asarray(three.params).ravel()
    assert stats.kstest(drawn, stats.laplace(scale=0.1).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(three.model_state, np.ones(3, np.float32))


def test_a_bank_of_one_is_a_single_tensor_s_own_training(task):
    """No bank, no vmap: one tensor and the loss as it is written."""
    weight = 0.5
    fixed = {"noise_weight": weight, "inverse_snr": 1e9}  # lambda stays
    _, params, _ = fitted(task, 20, members=1, **fixed)
    _, train_key = jax.random.split(jax.random.key(0))
    bank = started(task, members=1, **fixed)
    start = np.asarray(bank.params[0])

    def loss(noise, model_state, key, batch, hyper, shared):
        shown = batch.features + noise[None]
        logits = chain.apply(CUT.cloud, shared.cloud, shown)
        ways = jax.nn.log_softmax(logits)[jnp.arange(32), batch.labels]
        return -ways.mean() - weight * jnp.abs(noise).mean(), (model_state, {})

    state, _ = fit(
        Training(
            key=train_key,
            params=start,
            shared=bank.shared,
            hyper={"learning_rate": 5e-2},
            loss=loss,
            draw=bank.draw,
            recipe=Recipe(20),
        )
    )
    assert np.abs(np.asarray(state.params) - start).max() > 0.5, "it has learned"
    np.testing.assert_allclose(params["noise"][0], state.params, atol=2e-5)


def test_each_image_gets_one_of_the_bank_all_alike_often():
    bank = np.repeat(np.arange(8, dtype=np.float32)[:, None], 3, 1)
    drawn = np.asarray(SAMPLE(jax.random.key(0), bank, 4000, "member"))
    assert (drawn == drawn[:, :1]).all()
    counts = np.bincount(drawn[:, 0].astype(int), minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-3
    other = np.asarray(SAMPLE(jax.random.key(1), bank, 4000, "member"))
    assert not np.array_equal(drawn, other)


def test_fitted_noise_is_laplace_with_the_bank_s_mean_and_deviation():
    draw = np.random.default_rng(0)
    bank = np.float32(draw.normal([1.0, -2.0], [0.5, 3.0], (30, 2)))
    drawn = np.asarray(SAMPLE(jax.random.key(0), bank, 40_000, "fitted"))
    mean, deviation = bank.mean(0), bank.std(0)
    for place in range(2):
        values, b = drawn[:, place], deviation[place] / 2**0.5
        law = stats.laplace(mean[place], b)
        assert stats.kstest(values, law.cdf).pvalue > 1e-3
        wrong = stats.laplace(mean[place], 1.1 * b)
        assert stats.kstest(values, wrong.cdf).pvalue < 1e-3
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03


@pytest.mark.parametrize("sampling", ["member", "fitted"])
def test_what_is_sent_has_the_1_over_snr_of_the_row(task, sampling):
    defense, params, columns = fitted(task, 5, sampling=sampling, initial_scale=0.3)
    images = np.tile(np.float32(task.images) / 255, (2, 1, 1, 1))
    clean = np.asarray(APPLY(CUT.edge, task.edge_variables, images))
    features = np.asarray(sent(defense, params, jax.random.key(1), images))
    measured = (features - clean).var() / (clean**2).mean()
    assert columns["inverse_snr"] == pytest.approx(measured, rel=0.03)
    assert set(columns) == {"inverse_snr", "inverse_snr_start"}
    assert defense.draws >= 10


def test_features_of_zero_have_no_ratio(task):
    dark = task._replace(
        edge_variables=jax.tree.map(np.zeros_like, task.edge_variables)
    )
    with pytest.raises(ValueError, match="the features at the cut are all 0") as error:
        fitted(dark, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": 0}, "members = 0"),
        ({"sampling": "mean"}, "unknown sampling 'mean': .*member, fitted"),
        ({"initial_scale": 0.0}, "initial_scale = 0.0"),
        ({"noise_weight": -1.0}, "noise_weight = -1.0"),
        ({"inverse_snr": 0.0}, "inverse_snr = 0.0"),
        ({"decay": 1.5}, "decay = 1.5"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words):
    with pytest.raises(ValueError, match=words) as error:
        Shredder(**changes)
    assert "\n" not in str(error.value)


def test_levels_share_one_defense():
    levels = {
        "inverse_snr": 3.0,
        "noise_weight": 0.2,
        "decay": 0.5,
        "initial_scale": 0.3,
        "learning_rate": 1e-2,
    }
    assert defend()[1] is defend(**levels)[1]
