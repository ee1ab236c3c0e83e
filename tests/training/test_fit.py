"""`drive` advances fits, and K members' trainings can be advanced as one program."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from jax import lax

from ghostjax import registry
from ghostjax import toy as problem
from ghostjax.base import Context
from ghostjax.data import Partition, roles
from ghostjax.defenses.records import Ghost
from ghostjax.fields import static, traced, traced_half
from ghostjax.records import Trained
from ghostjax.stego.records import Lsb
from ghostjax.training import loop
from ghostjax.training.fit import (
    OPTIMIZERS,
    Recipe,
    Training,
    drive,
    fit,
    start,
)
from ghostjax.training.members import members_step
from ghostjax.training.sampling import epoch_indices, stream

fit = partial(fit, scanned=False)


def test_a_fit_that_learns_nothing_returns_what_it_returns():
    def fitting():
        yield from ()
        return "params"

    assert drive(fitting(), None) == ("params", {})


def test_trainings_follow_one_another_and_metrics_are_told_apart_by_part():
    def fitting():
        first = yield toy_training(jax.random.key(0), part="first", steps=3)
        second = yield toy_training(
            jax.random.key(1), part="second", steps=5, params=first.params
        )
        return first.params, second.params

    parts = []

    def run(training):
        parts.append(training.part)
        return fit(training)

    (first, second), metrics = drive(fitting(), run)
    assert parts == list(metrics) == ["first", "second"]
    assert metrics["first"]["loss"].shape == (3,)
    assert metrics["second"]["loss"].shape == (5,)
    alone, _ = fit(toy_training(jax.random.key(0), part="first", steps=3))
    np.testing.assert_array_equal(first["w"], alone.params["w"])
    after, _ = fit(toy_training(jax.random.key(1), steps=5, params=alone.params))
    np.testing.assert_array_equal(second["w"], after.params["w"])


def test_without_a_way_to_train_a_fit_is_trained_at_once():
    def fitting():
        return (yield toy_training(jax.random.key(0), steps=3))

    state, metrics = drive(fitting())
    wanted, _ = fit(toy_training(jax.random.key(0), steps=3))
    np.testing.assert_array_equal(state.params["w"], wanted.params["w"])
    assert list(metrics) == [""]


def toy_training(key, part="", steps=3, params=None, rate=0.1):
    begun, model_state = probes.start()
    return Training(
        key=key,
        params=begun if params is None else params,
        model_state=model_state,
        shared=probes.data(),
        hyper={"learning_rate": np.float32(rate)},
        loss=probes.loss,
        draw=probes.draw,
        recipe=Recipe(steps),
        part=part,
    )


@dataclass(frozen=True, kw_only=True)
class Toy(Trained):
    """A linear map that a frozen one stands before, on some rows of the data."""

    steps: int = static(5, least=1)
    weight: float = traced(1.0, least=0)


def toy(subject, record, context):
    """Its loss draws noise and counts; its draw reads rows that are padded."""

    def loss(params, model_state, key, batch, hyper, shared):
        inputs, targets = batch
        inputs = (inputs + 0.01 * jax.random.normal(key, inputs.shape)) @ shared["edge"]
        error = ((inputs @ params["w"] - targets) ** 2).mean()
        value = error + hyper["weight"] * (params["w"] ** 2).sum()
        return value, ({"seen": model_state["seen"] + 1}, {"error": error})

    def draw(key, index, shared, own):
        rows = own["rows"][epoch_indices(key, index, 16, own["visits"])]
        inputs, targets = shared["data"]
        return inputs[rows], own["scale"] * targets[rows]

    recipe = Recipe(record.steps, record.optimizer, record.schedule)

    def fitting(key, hyper, shared, rows, scale):
        init_key, train_key = jax.random.split(key)
        params = {"w": jax.random.normal(init_key, (4,))}
        state = yield Training(
            key=train_key,
            params=params,
            model_state={"seen": jnp.int32(0)},
            shared=shared,
            own={
                "rows": np.resize(rows, 100),
                "visits": stream(len(rows), 16),
                "scale": np.float32(scale),
            },
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="toy",
        )
        return state.params

    return fitting


def toy_members(**static_values):
    """Trainings of two members that differ in seed, rate, weight and data of their
    own: rows, how many there are, a scale."""
    edge = np.random.default_rng(7).standard_normal((4, 4), np.float32)
    shared = {"data": probes.data(), "edge": edge}
    for seed, rate, weight, rows, scale in (
        (0, 0.1, 0.0, np.arange(37), 1.0),
        (1, 0.02, 0.5, np.arange(20, 100), -2.0),
    ):
        record = Toy(learning_rate=rate, weight=weight, **static_values)
        fitting = registry.construct(toy, None, record, Context())
        hyper = traced_half(record)
        yield next(fitting(jax.random.key(seed), hyper, shared, rows, scale))


def stacked(trainings):
    """(state, keys, hyper, own) of members, with a leading axis [K]."""
    values = [(start(t), t.key, dict(t.hyper), t.own) for t in trainings]
    return _stacked(*values)


@jax.jit  # one program, where each leaf would be one
def _stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def together(trainings):
    """What `fit` gives, of all members in step."""
    (first, *others), steps = trainings, trainings[0].recipe.steps
    assert all(one.static == first.static for one in others)
    state, keys, hyper, own = stacked(trainings)
    step = members_step(first)
    constants = keys, hyper, first.shared, own
    return loop.run(step, state, steps, *constants, scanned=False)


def agrees(trainings, **tolerance):
    """Each member's losses, state and metrics are those that it has alone."""
    state, metrics = jax.device_get(together(trainings))
    for place, training in enumerate(trainings):
        wanted, history = fit(training)
        own_state = jax.tree.map(lambda leaf, k=place: leaf[k], state)
        assert metrics.keys() == history.keys()
        for name in history:
            np.testing.assert_allclose(
                metrics[name][:, place], history[name], err_msg=name, **tolerance
            )
        for one, other in zip(*map(jax.tree.leaves, (own_state, wanted)), strict=True):
            np.testing.assert_allclose(one, other, **tolerance)


def test_members_of_one_record_have_equal_static_halves_and_share_what_is_shared():
    one, two = toy_members()
    assert one.static == two.static and one.shared is two.shared
    assert hash(one.static) == hash(two.static)
    assert members_step(one) == members_step(two)
    assert one.hyper != two.hyper and one.own["scale"] != two.own["scale"]
    assert jax.tree.map(jnp.shape, one.own) == jax.tree.map(jnp.shape, two.own)
    longer, _ = toy_members(steps=6)
    assert longer.static != one.static


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(name, marks=[pytest.mark.science] * (name not in ("adam", "sgd")))
        for name in OPTIMIZERS
    ],
)
def test_members_in_step_learn_what_they_learn_alone(optimizer):
    recipe = Recipe(5, optimizer, "one_cycle")
    members = [toy_training(jax.random.key(k), rate=0.1 / (k + 1)) for k in range(2)]
    members = [one._replace(recipe=recipe, shared=members[0].shared) for one in members]
    agrees(members, rtol=1e-5, atol=1e-6)


def test_members_with_data_of_their_own_learn_what_they_learn_alone():
    agrees(list(toy_members()), rtol=1e-5, atol=1e-6)


def test_members_in_step_are_scanned_as_they_are_stepped():
    members = list(toy_members())
    stepped, _ = together(members)
    state, keys, hyper, own = stacked(members)
    step, shared = members_step(members[0]), members[0].shared
    scanned, _ = loop.run(step, state, 5, keys, hyper, shared, own, scanned=True)
    for one, other in zip(*map(jax.tree.leaves, (stepped, scanned)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_other_members_of_the_group_compile_nothing():
    members = list(toy_members())
    together(members)
    before = loop._stepped._cache_size()
    together(members[::-1])
    assert loop._stepped._cache_size() == before


def test_a_members_nan_is_its_own():
    one, two = toy_members()
    broken = two._replace(hyper=two.hyper | {"weight": np.float32(np.nan)})
    state, metrics = together([one, broken])
    assert np.isnan(metrics["loss"][:, 1]).all()
    assert np.isnan(state.params["w"][1]).all()
    alone, history = fit(one)
    np.testing.assert_allclose(state.params["w"][0], alone.params["w"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"][:, 0], history["loss"], rtol=1e-5)


def test_frozen_convolutions_have_no_groups_and_gradients_group_batches():
    """XLA hands cuDNN a gradient that groups batches, not one that groups features."""
    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout
        )

    def loss(params, model_state, key, batch, hyper, shared):
        features = jax.nn.relu(convolve(batch, shared["kernel"]))
        value = (convolve(features, params["kernel"]) ** 2).mean()
        return value, (model_state, {})

    def draw(key, index, shared, own):
        return jax.random.normal(key, (8, 6, 6, 1))

    kernels = np.random.default_rng(0).standard_normal((2, 3, 3, 2, 5), np.float32)
    training = Training(
        key=jax.random.key(1),
        params={"kernel": kernels[0]},
        shared={"kernel": np.ones((3, 3, 1, 2), np.float32)},
        hyper={"learning_rate": np.float32(0.1)},
        loss=loss,
        draw=draw,
        recipe=Recipe(1),
    )
    members = [training, training._replace(params={"kernel": kernels[1]})]
    state, keys, hyper, own = stacked(members)
    lowered = jax.jit(members_step(training).__call__).lower(
        state, 0, keys, hyper, training.shared, own
    )
    lines = lowered.as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    groups = sorted(
        ("batch_group_count = 2" in line, "feature_group_count = 2" in line)
        for line in convolutions
    )
    # The frozen one, the trained one, and the gradient of its kernel.
    assert groups == [(False, False), (False, True), (True, False)]
    agrees(members, rtol=1e-4, atol=1e-5)


def test_ghosts_that_differ_in_all_that_is_traced_learn_in_step():
    """Seed, sensitive labels (hence covers and secrets), rate, weight and bits."""
    cut = problem.cut()
    # Members of a group have one upload of the data and one target.
    task = problem.task(cut)
    labels = np.asarray(task.labels)
    tasks = []
    for sensitive, public in (((3,), (0, 1, 2)), ((0, 1), (2, 3))):
        role = roles(labels, Partition(sensitive, public))
        tasks.append(
            task._replace(
                covers=probes.padded(role.covers, len(labels)),
                secrets=probes.padded(role.secrets, len(labels)),
                sensitive=np.isin(range(cut.classes), sensitive),
            )
        )
    trainings = []
    for seed, (rate, weight, bits) in enumerate(((1e-3, 1.0, 3), (3e-3, 0.2, 2))):
        record = Ghost(
            learning_rate=rate,
            weight=weight,
            steps=3,
            batch_size=8,
            public_batch_size=8,
            cover_candidates=2,
        )
        hiding = registry.build(Lsb(), cut.image_shape, Context())
        learned = drive(hiding.fit(None, traced_half(Lsb(bits=bits)), None))[0]
        defense = registry.build(record, cut, Context(stego=hiding))
        task = tasks[seed]._replace(stego=learned)
        fitting = defense.fit(jax.random.key(seed), traced_half(record), task)
        trainings.append(next(fitting))
    agrees(trainings, rtol=1e-4, atol=1e-5)
