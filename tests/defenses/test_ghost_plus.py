"""GHOST+: its generator, Eqs. (4) to (7), and what it can and cannot learn.

In the default suite a generator of two dense layers, which compiles fast, learns to
fool a network that reads bars by weights written down by hand; `-m science` has the
same claims of AdvGAN's generator and of a network of convolutions that was trained.
"""

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from probes import SHAPE, bars, for_steps
from scipy.ndimage import correlate
from scipy.special import logsumexp

from ghostjax import registry
from ghostjax.base import Context, Cut, Task, encode
from ghostjax.data import Partition, Split
from ghostjax.defenses import ghost_plus as module
from ghostjax.defenses import plain
from ghostjax.defenses.generator import generator
from ghostjax.defenses.records import GhostPlus
from ghostjax.evaluation import accuracy
from ghostjax.experiments import attacker
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain
from ghostjax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    InstanceNorm,
    Relu,
    Reshape,
)
from ghostjax.stego.records import Lsb
from ghostjax.training import loop
from ghostjax.training.fit import drive, start

PARTITION = Partition((2, 3), (0, 1))
HIDING = registry.build(Lsb(), SHAPE, Context())  # LSB takes images of any shape
BLANK = HIDING._replace(hide=lambda learned, cover, secret: cover)
NETWORK = (("fc1", Dense(4)), ("fc1act", Relu()), ("fc2", Dense(4)))
CUT = probes.at("fc1act", NETWORK)
SMALL = (("perturbation", Conv(1, 3, "SAME")),)  # in the generator's place


def dense(image_shape, inputs, width):
    """A small generator that, like AdvGAN's, does not see what is alike everywhere."""
    return (
        ("norm", InstanceNorm()),
        ("encode", Dense(4 * width)),
        ("encode_act", Relu()),
        ("perturbation", Dense(prod(image_shape), "torch")),
        ("image", Reshape(image_shape)),
    )


class Scene(NamedTuple):
    """Where GHOST+ works."""

    cut: Cut
    task: Task
    generator: object
    steps: int
    times: int = 1  # of the bars' rows and columns


def reader():
    """NETWORK's variables: fc1 sums up where each label's bars lie, which are light."""
    where = np.zeros((4, *SHAPE[:2]), np.float32)
    near, far = slice(1, 4), slice(-5, -2)
    where[0, :, near] = where[1, :, far] = where[2, near] = where[3, far] = 1 / 14
    weights = where.reshape(4, -1).T, 12 * np.eye(4, dtype=np.float32)
    return {
        name: {"params": {"dense": {"kernel": kernel, "bias": np.zeros(4, np.float32)}}}
        for name, kernel in zip(("fc1", "fc2"), weights, strict=True)
    }


def logits_of(images):
    """What the network answers, in float64."""
    first, second = (
        np.float64(reader()[name]["params"]["dense"]["kernel"])
        for name in ("fc1", "fc2")
    )
    return np.maximum(np.reshape(images, (len(images), -1)) @ first, 0) @ second


def pictures(task, count):
    """The task's first images in [0, 1]."""
    return np.asarray(task.images[:count], np.float32) / 255


def task_of(cut, variables, images, labels):
    hiding, _ = drive(HIDING.fit(None, traced_half(Lsb()), None))
    return probes.task(cut, variables, images, labels, PARTITION.sensitive, hiding)


@pytest.fixture(scope="module")
def task():
    return task_of(CUT, reader(), *bars(0, 256))


@pytest.fixture(
    scope="module", params=["small", pytest.param("full", marks=pytest.mark.science)]
)
def scene(request, task):
    if request.param == "small":
        return Scene(CUT, task, dense, 300)
    images, labels = large(*bars(0, 256), 2)
    cut = probes.at("pool1", shape=images.shape[1:])
    learned = probes.target(images, labels, 60)
    return Scene(cut, task_of(cut, learned, images, labels), generator, 150, 2)


def large(images, labels, times):
    return images.repeat(times, 1).repeat(times, 2), labels


def ghost_plus(**changes):
    """A record with few steps of small batches."""
    small = {"steps": 300, "batch_size": 32, "learning_rate": 3e-3}
    return GhostPlus(**{**small, **changes})


def build(record, stego=HIDING, cut=CUT, make=dense):
    return _built(static_half(record), stego, cut, make)


@lru_cache  # not the registry's, which would hand out the small generator elsewhere
def _built(record, stego, cut, make):
    with mock.patch.object(module, "generator", make):
        return module.ghost_plus(cut, record, Context(stego=stego))


def fitted(defense, record, task, run=None):
    """The params, and the metrics of all trainings."""
    fitting = defense.fit(jax.random.key(1), traced_half(record), task)
    return drive(fitting, run)


def untrained(training):
    """A `fit` that leaves everything as it is."""
    return start(training), {}


@pytest.fixture(scope="module")
def trained(task):
    """(defense, params, metrics) of the paper's GHOST+."""
    record = ghost_plus(max_perturbation=0.3)
    defense = build(record)
    return defense, *fitted(defense, record, task, for_steps(30))


@pytest.fixture(scope="module")
def drawn(task):
    """(record, defense, untrained params, compiled perturb) of a record's changes."""

    @lru_cache
    def of(**changes):
        record = ghost_plus(**changes)
        defense = build(record)
        params, _ = fitted(defense, record, task, untrained)
        return defense, params, jax.jit(defense.perturb)

    return of


def shared(task):
    """What a step's draw and loss read of the task."""
    return module._Shared(
        images=task.images,
        labels=task.labels,
        edge=task.edge_variables,
        cloud=task.cloud_variables,
    )


def convolution(*lead):
    """SMALL's variables, with leading axes."""
    kernel = np.random.default_rng(5).normal(size=(*lead, 3, 3, 1, 1)) / 3
    bias = np.full((*lead, 1), 0.1)
    values = {"kernel": np.float32(kernel), "bias": np.float32(bias)}
    return {"perturbation": {"params": values}}


def convolved(params, images):
    """SMALL as it is written, in float64."""
    values = params["perturbation"]["params"]
    kernel = np.float64(values["kernel"])[None, :, :, 0]
    summed = correlate(np.float64(images), kernel, mode="constant")
    return summed + np.float64(values["bias"])


def lesson(stegos, labels, step=0):
    """A step's batch for a generator that sees stegos [B, H, W, C] alone."""
    return module._Batch(module._Pairs(stegos, stegos[..., :0], labels), np.int32(step))


def limits(bound=1.0, warm_up=0):
    """What the loss reads of a record's traced values."""
    return {"max_perturbation": np.float32(bound), "warm_up": np.int32(warm_up)}


def measured(scene, stego=HIDING, **changes):
    """The row of 500 test images, and the params."""
    record = ghost_plus(steps=scene.steps, **changes)
    defense = build(record, stego, scene.cut, scene.generator)
    params, _ = fitted(defense, record, scene.task)
    images, labels = large(*bars(1, 500), scene.times)
    pairs = accuracy.test_pairs(0, images, labels, PARTITION)
    questions = accuracy.Questions(
        images=images, labels=labels, pairs=pairs, partition=PARTITION
    )
    return accuracy.measure(defense, params, jax.random.key(2), questions, 0), params


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_the_generator_keeps_the_images_shape_as_advgans_does(shape):
    rows = {
        row.name: row.shape
        for row in chain.describe(generator(shape, 3, 8), shape[:2] + (3,))
    }
    sides = {28: (26, 12, 5, 11, 23, 28), 32: (30, 14, 6, 13, 27, 32)}[shape[0]]
    names = ("encode1", "encode2", "encode3", "decode1", "decode2", "perturbation")
    assert tuple(rows[name][0] for name in names) == sides
    assert rows["perturbation"] == shape and rows["encode3"][2] == 32


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"makes \(16, 16, 1\) of images \(14, 14, 1\)"
    ):
        generator((14, 14, 1), 1, 8)


def test_eqs_4_to_7_are_the_printed_ones(task):
    stegos = pictures(task, 8)
    labels = (np.asarray(task.labels[:8]) + np.arange(8) % 2) % 4  # half are right
    params, reads = convolution(), shared(task)
    loss = jax.jit(module._loss(CUT, static_half(ghost_plus()), SMALL))
    cold, warm_up = limits(0.02), limits(0.02, 3)
    batch = lesson(stegos, labels, 2)
    value, (_, metrics) = loss(params, {}, None, batch, cold, reads)
    added = 0.02 * np.tanh(convolved(params, stegos))
    logits = logits_of(np.clip(stegos + added, 0, 1))
    wrong = logsumexp(logits, 1) - logits[np.arange(8), labels]
    size = np.sqrt((added**2).sum((1, 2, 3)))
    weight = np.where(size > wrong, 0.5, 2.0)
    assert value == pytest.approx((weight * wrong + size).mean(), rel=1e-4)
    assert metrics["perturbation"] == pytest.approx(size.mean(), rel=1e-4)
    assert set(weight) == {0.5, 2.0}
    end, _ = loss(params, {}, None, batch._replace(step=np.int32(3)), warm_up, reads)
    assert end == value, "the warm-up's steps are 0, 1, 2"
    warm, _ = loss(params, {}, None, batch, warm_up, reads)
    assert warm == pytest.approx((2 * wrong + size).mean(), rel=1e-4)


def test_lambda_is_chosen_for_each_sample_or_for_the_batch():
    wrong, size = jnp.asarray([1.0, 3.0, 0.2]), jnp.asarray([2.0, 0.1, 0.2])
    np.testing.assert_array_equal(module.balance(wrong, size, "sample"), [0.5, 2, 2])
    assert module.balance(wrong, size, "batch") == 2.0
    slope = jax.grad(lambda w: module.balance(w, size, "sample").sum())(wrong)
    assert not slope.any()


def test_the_margin_is_carlini_and_wagners():
    logits = jnp.asarray([[1.0, 4.0, 2.0], [5.0, 1.0, 0.0]])
    np.testing.assert_allclose(module._margin(logits, jnp.asarray([2, 0])), [2.0, 0.0])


def test_a_gradient_exists_where_the_perturbation_is_nothing(task):
    stegos, labels = pictures(task, 4), np.asarray(task.labels[:4])
    params = jax.tree.map(np.zeros_like, convolution())
    loss = module._loss(CUT, static_half(ghost_plus()), SMALL)
    rest = {}, None, lesson(stegos, labels), limits(), shared(task)
    slopes = jax.jit(jax.grad(lambda p: loss(p, *rest)[0]))(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


def test_the_network_is_bit_identical_and_public_images_are_left_alone(task, trained):
    defense, params, metrics = trained
    before, images = reader(), pictures(task, 8)
    halves = {**params["edge"], **params["cloud"]}
    jax.tree.map(np.testing.assert_array_equal, halves, before)
    assert defense.send == plain.Send(CUT.edge)
    assert defense.answer == plain.Answer(CUT.cloud)
    answers = defense.answer(params, defense.send(params, None, images))
    np.testing.assert_allclose(answers, logits_of(images), rtol=1e-5, atol=1e-5)
    assert metrics["ghost_plus"]["loss"].shape == (30,)


def test_no_pixel_moves_by_more_than_the_bound(task, trained):
    defense, params, _ = trained
    stegos = pictures(task, 40)
    shown = np.asarray(jax.jit(defense.perturb)(params, stegos, stegos))
    assert 0.2 < np.abs(shown - stegos).max() <= 0.3 + 1e-6
    assert shown.min() >= 0 and shown.max() <= 1


def test_one_generator_a_label_answers_with_the_secrets_label(scene):
    row, params = measured(scene, generators="label")
    leaves = jax.tree.leaves(params["generator"])
    assert {leaf.shape[0] for leaf in leaves} == {2}, "a leading axis for two labels"
    assert row["accuracy_secret"] > 65, row
    assert row["control_shuffled_secret"] < 65, row
    assert row["control_cover_only"] < row["accuracy_secret"] - 20, row
    assert row["uses_secret"], row
    assert row["accuracy_public"] > 95, row


def test_one_generator_for_all_labels_reads_what_the_stego_reveals(scene):
    row, _ = measured(scene, sees="revealed")
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20, row
    assert row["uses_secret"], row


def test_a_generator_that_is_told_the_label_answers_with_it(scene):
    """Nothing is hidden here, so that the label cannot be read from the stego."""
    row, _ = measured(scene, BLANK, sees="label")
    assert row["accuracy_secret"] > 65, row
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20, row


def test_a_generator_whose_answer_is_one_label_uses_no_secret(scene):
    """Universal: the stego method hides nothing, so nothing can be read."""
    row, _ = measured(scene, BLANK)  # small: 27 % of 259, full: 46 % of 104
    assert row["accuracy_secret"] > 15, ("it answers with sensitive labels", row)
    assert abs(row["accuracy_secret"] - row["control_shuffled_secret"]) < 20, row


def test_the_network_is_frozen_in_inference_mode(task):
    """Batch norm's running statistics, no dropout, and neither moves."""
    draw = np.random.default_rng(4)
    rest = (("bn", BatchNorm()), ("drop", Dropout(0.5)), ("fc2", Dense(4)))
    norms = {
        "params": {
            "norm": {"scale": draw.uniform(size=4), "bias": draw.normal(size=4)}
        },
        "batch_stats": {
            "norm": {"mean": draw.normal(size=4), "var": draw.uniform(size=4)}
        },
    }
    norms = jax.tree.map(np.float32, norms)
    cloud = {"bn": norms, "fc2": task.cloud_variables["fc2"]}
    stegos, labels = pictures(task, 8), np.asarray(task.labels[:8])
    params, reads = convolution(), shared(task)._replace(cloud=cloud)
    record = static_half(ghost_plus())
    loss = jax.jit(module._loss(Cut(CUT.edge, rest, SHAPE), record, SMALL))
    batch, key = lesson(stegos, labels), jax.random.key(2)
    _, (state, metrics) = loss(params, {}, key, batch, limits(), reads)
    shown = np.clip(stegos + np.tanh(convolved(params, stegos)), 0, 1)
    features = logits_of(shown) / 12  # fc2 is 12 times the identity
    weight, running = norms["params"]["norm"], norms["batch_stats"]["norm"]
    deviations = (features - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    logits = 12 * (deviations * weight["scale"] + weight["bias"])
    wrong = logsumexp(logits, 1) - logits[np.arange(8), labels]
    assert metrics["adversarial"] == pytest.approx(wrong.mean(), rel=1e-4)
    assert state == {}


def test_each_label_s_generator_learns_from_its_own_secrets_alone(task):
    record = static_half(ghost_plus(batch_size=16, generators="label"))
    draw = module._draw(record, HIDING, module._sight(CUT, record, HIDING))
    own = module._Own(module._pool(record, task), task.stego)
    reads = shared(task)
    batch = jax.jit(draw)(jax.random.key(0), np.int32(0), reads, own)
    assert batch.pairs.labels.shape == (2, 16)
    assert set(np.asarray(batch.pairs.labels[0])) == {2}
    assert set(np.asarray(batch.pairs.labels[1])) == {3}
    loss = module._loss(CUT, record, SMALL)
    single = module._loss(CUT, static_half(ghost_plus()), SMALL)

    def slopes(loss):
        def value(params, batch):
            return loss(params, {}, None, batch, limits(), reads)[0]

        return jax.jit(jax.grad(value))

    bank, batch = convolution(2), jax.tree.map(np.asarray, batch)
    whole, alone = slopes(loss)(bank, batch), slopes(single)
    for place in range(2):
        params, pairs = jax.tree.map(lambda x, i=place: x[i], (bank, batch.pairs))
        jax.tree.map(
            lambda many, one, i=place: np.testing.assert_allclose(
                many[i], one, rtol=2e-3, atol=2e-4
            ),
            whole,
            alone(params, batch._replace(pairs=pairs)),
        )


def test_a_label_without_secrets_has_nothing_for_its_generator_to_learn_from(task):
    record = ghost_plus(generators="label")
    sensitive = np.array([True, False, True, True])
    with pytest.raises(ValueError, match="no image has the sensitive label 0") as error:
        fitted(build(record), record, task._replace(sensitive=sensitive))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("generators", ["one", "label"])
def test_the_edge_s_guess_is_the_likeliest_of_the_sensitive_labels(
    task, drawn, generators
):
    """Also for images whose likeliest label of all is a public one."""
    sees = "label" if generators == "one" else "stego"
    _, params, perturb = drawn(generators=generators, sees=sees)
    secrets = pictures(task, 40)
    stegos = np.broadcast_to(secrets[:1], secrets.shape)
    guess = logits_of(secrets)[:, [2, 3]].argmax(1)
    shown = np.asarray(perturb(params, stegos, secrets))
    for label in (0, 1):
        assert np.ptp(shown[guess == label], axis=0).max() < 1e-5
    apart = shown[guess == 0][0] - shown[guess == 1][0]
    assert np.abs(apart).max() > 0.1


@pytest.mark.parametrize("sees", ["stego", "revealed"])
def test_the_generator_sees_what_the_stego_method_reveals_or_the_stego_alone(
    task, drawn, sees
):
    blind = HIDING._replace(reveal=lambda learned, stegos: jnp.zeros_like(stegos))
    images = pictures(task, 40)
    _, params, perturb = drawn(sees=sees)
    other = jax.jit(build(ghost_plus(sees=sees), blind).perturb)
    shown = [np.asarray(by(params, images, images[::-1])) for by in (perturb, other)]
    assert np.array_equal(*shown) == (sees == "stego")


@pytest.mark.parametrize("sees", ["stego", "revealed", "secret", "label"])
def test_the_generator_sees_what_it_is_said_to_see(task, drawn, sees):
    _, params, perturb = drawn(sees=sees)
    images, labels = pictures(task, 256), np.asarray(task.labels)
    one, other = (images[labels == label][:40] for label in (2, 3))
    stegos = images[task.covers.rows[:40]]
    first, second = (np.asarray(perturb(params, stegos, s)) for s in (one, other))
    apart = np.abs(first - second).max()
    if sees in ("stego", "revealed"):
        assert apart == 0
    else:  # a label's map that is the same everywhere: 1e-5, for instance norm drops it
        assert apart > 0.1


def test_images_of_another_shape_are_refused_in_one_line(task, drawn):
    defense, params, perturb = drawn(sees="stego")
    large = np.zeros((2, 28, 28, 1), np.float32)
    words = r"takes images \(14, 14, 1\) and was given \(28, 28, 1\)"
    with pytest.raises(ValueError, match=words) as error:
        perturb(params, large, large)
    assert "\n" not in str(error.value)
    other = task._replace(images=np.zeros((2, 28, 28, 1), np.uint8))
    with pytest.raises(ValueError, match=words):
        fitted(defense, ghost_plus(), other, untrained)
    wide = build(ghost_plus(), cut=probes.at("fc1act", NETWORK, (32, 32, 1)))
    other = task._replace(images=np.zeros((4, 32, 32, 1), np.uint8))
    with pytest.raises(ValueError, match="network is not for the generator's") as error:
        fitted(wide, ghost_plus(), other, untrained)
    assert "\n" not in str(error.value)


def test_an_attacker_gets_a_generators_pairs_only_where_it_needs_them(task, trained):
    defense, params, _ = trained
    public = Split(*bars(4, 30))
    known = partial(attacker.knowledge, task, HIDING, defense, params, public)
    assert known(("query",)).perturbed_pairs is None
    after, before = known(("perturbed_pairs",)).perturbed_pairs
    assert after.dtype == before.dtype == jnp.uint8
    covers, secrets = public.images, np.roll(public.images, 1, 0)
    np.testing.assert_array_equal(before, covers & 0xF8 | secrets >> 5)
    change = np.abs(np.asarray(after, int) - before)
    assert 0 < change.max() <= 77  # 0.3 of 255, rounded
    shown = [np.asarray(x[:3], np.float32) / 255 for x in (secrets, covers)]
    whole = jax.jit(partial(encode, defense))
    sent = jax.jit(known(("encode",)).encode)(None, *shown)
    np.testing.assert_array_equal(sent, whole(params, None, *shown))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial": "hinge"}, "unknown adversarial 'hinge'"),
        ({"balance": "epoch"}, "unknown balance 'epoch'"),
        ({"sees": "covers"}, "unknown sees 'covers'"),
        ({"generators": "two"}, "unknown generators 'two'"),
    ],
)
def test_unknown_choices_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ghost_plus(**changes)


@pytest.mark.parametrize("sees, stego", [("stego", HIDING), ("label", BLANK)])
def test_members_that_differ_in_numbers_alone_share_one_program(task, sees, stego):
    """Rates, bounds, bits and which labels are sensitive recompile nothing."""
    changes = {"learning_rate": 1e-4, "max_perturbation": 0.5, "warm_up": 2}
    first, second = (ghost_plus(sees=sees, **c) for c in ({}, changes))
    cut = probes.at("fc1act", NETWORK, (16, 16, 1))  # the registry's generator fits it
    context = Context(stego=stego)
    same = [registry.build(record, cut, context) for record in (first, second)]
    assert same[0] is same[1]
    defense, images = build(first, stego), pictures(task, 40)
    perturb, few = jax.jit(defense.perturb), for_steps(2)
    perturb(fitted(defense, first, task, few)[0], images, images)
    programs = loop._stepped._cache_size(), perturb._cache_size()
    labels = np.asarray(task.labels)
    other = task._replace(
        covers=probes.padded(np.flatnonzero(labels != 3), len(labels)),
        secrets=probes.padded(np.flatnonzero(labels == 3), len(labels)),
        sensitive=np.arange(4) == 3,
        stego={"bits": np.uint8(2)},
    )
    perturb(fitted(defense, second, other, few)[0], images, images)
    assert (loop._stepped._cache_size(), perturb._cache_size()) == programs


@pytest.mark.parametrize(
    "choices, warns",
    [
        ({"sees": "stego"}, False),
        ({"sees": "revealed"}, False),
        ({"sees": "secret"}, True),
        ({"sees": "label"}, True),
        ({"generators": "label"}, True),
    ],
)
def test_a_generator_that_knows_more_than_the_stego_shows_says_so(choices, warns):
    assert bool(build(GhostPlus(**choices)).caution) == warns
