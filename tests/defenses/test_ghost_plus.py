"""GHOST+: its generator, Eqs. (4) to (7), and what it can and cannot learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from probes import NETWORK, bars
from scipy.special import logsumexp

from ghostjax import registry
from ghostjax.base import Context, Cut, encode
from ghostjax.data import Partition, Split
from ghostjax.defenses import ghost_plus as module
from ghostjax.defenses.generator import generator
from ghostjax.defenses.records import GhostPlus
from ghostjax.evaluation import accuracy
from ghostjax.experiments import attacker
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain
from ghostjax.models.layers import BatchNorm, Conv, Dropout
from ghostjax.pixels import as_float
from ghostjax.stego.records import Lsb
from ghostjax.training import loop
from ghostjax.training.fit import drive, start

SHAPE = (28, 28, 1)
PARTITION = Partition((2, 3), (0, 1))
CUT = probes.at("pool1", shape=SHAPE)
HIDING = registry.build(Lsb(), SHAPE, Context())
SMALL = (("perturbation", Conv(1, 3, "SAME")),)  # in the generator's place


def large_bars(seed, count):
    images, labels = bars(seed, count)
    return images.repeat(2, 1).repeat(2, 2), labels


@pytest.fixture(scope="module")
def task():
    images, labels = large_bars(0, 256)
    learned = probes.target(images, labels, 60)
    hiding, _ = drive(HIDING.fit(None, traced_half(Lsb()), None))
    return probes.task(CUT, learned, images, labels, PARTITION.sensitive, hiding)


def ghost_plus(**changes):
    """A record with few steps of small batches."""
    small = {"steps": 3, "batch_size": 32, "learning_rate": 1e-3}
    return GhostPlus(**{**small, **changes})


def build(record, stego=HIDING, cut=CUT):
    return registry.build(record, cut, Context(stego=stego))


def fitted(defense, record, task, run=None):
    """The params, and the metrics of all trainings."""
    fitting = defense.fit(jax.random.key(1), traced_half(record), task)
    return drive(fitting, run)


def untrained(training):
    """A `fit` that leaves everything as it is."""
    return start(training), {}


def shared(task):
    """What a step's draw and loss read of the task."""
    return module._Shared(
        images=task.images,
        labels=task.labels,
        edge=task.edge_variables,
        cloud=task.cloud_variables,
    )


def lesson(stegos, labels, step=0):
    """A step's batch for a generator that sees stegos [B, H, W, C] alone."""
    return module._Batch(module._Pairs(stegos, stegos[..., :0], labels), step)


def limits(bound=1.0, warm_up=0):
    """What the loss reads of a record's traced values."""
    return {"max_perturbation": jnp.float32(bound), "warm_up": jnp.int32(warm_up)}


def measured(record, task, stego=HIDING):
    """The row of 200 test images, and the params."""
    defense = build(record, stego)
    params, _ = fitted(defense, record, task)
    images, labels = large_bars(1, 200)
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
    layers = SMALL
    stegos = as_float(task.images[:8])
    labels = (task.labels[:8] + jnp.arange(8) % 2) % 4  # every other one is right
    params = chain.init(layers, jax.random.key(0), stegos)
    loss = jax.jit(module._loss(CUT, static_half(ghost_plus()), layers))
    cold, warm_up = limits(0.02), limits(0.02, 3)
    batch, reads = lesson(stegos, labels, 2), shared(task)
    value, (_, metrics) = loss(params, {}, None, batch, cold, reads)
    added = 0.02 * np.tanh(np.asarray(chain.apply(layers, params, stegos), np.float64))
    shown = np.clip(stegos + added, 0, 1).astype(np.float32)
    both = {**task.edge_variables, **task.cloud_variables}
    logits = np.asarray(chain.apply(NETWORK, both, shown), np.float64)
    wrong = logsumexp(logits, 1) - logits[np.arange(8), np.asarray(labels)]
    size = np.sqrt((added**2).sum((1, 2, 3)))
    weight = np.where(size > wrong, 0.5, 2.0)
    assert value == pytest.approx((weight * wrong + size).mean(), rel=1e-4)
    assert metrics["perturbation"] == pytest.approx(size.mean(), rel=1e-4)
    assert set(weight) == {0.5, 2.0}
    end, _ = loss(params, {}, None, batch._replace(step=3), warm_up, reads)
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
    layers = SMALL
    stegos = as_float(task.images[:4])
    params = jax.tree.map(jnp.zeros_like, chain.init(layers, jax.random.key(0), stegos))
    loss = module._loss(CUT, static_half(ghost_plus()), layers)
    rest = {}, None, lesson(stegos, task.labels[:4]), limits(), shared(task)
    slopes = jax.jit(jax.grad(lambda p: loss(p, *rest)[0]))(params)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(slopes))


def test_the_network_is_bit_identical_and_public_images_are_left_alone(task):
    before = jax.tree.map(np.asarray, task)
    record = ghost_plus()
    defense = build(record)
    params, metrics = fitted(defense, record, task)
    for name, variables in (
        ("edge", before.edge_variables),
        ("cloud", before.cloud_variables),
    ):
        equal = jax.tree.map(np.array_equal, params[name], variables)
        assert all(jax.tree.leaves(equal))
    images = as_float(task.images[:8])
    both = {**task.edge_variables, **task.cloud_variables}
    np.testing.assert_array_equal(
        defense.answer(params, defense.send(params, None, images)),
        chain.apply(NETWORK, both, images),
    )
    assert metrics["ghost_plus"]["loss"].shape == (3,)


def test_no_pixel_moves_by_more_than_the_bound(task):
    record = ghost_plus(max_perturbation=0.03)
    defense = build(record)
    params, _ = fitted(defense, record, task)
    stegos = as_float(task.images[:8])
    shown = defense.perturb(params, stegos, stegos)
    assert 0 < float(jnp.abs(shown - stegos).max()) <= 0.03 + 1e-6
    assert float(shown.min()) >= 0 and float(shown.max()) <= 1


def test_one_generator_a_label_answers_with_the_secrets_label(task):
    record = ghost_plus(steps=100, learning_rate=3e-3, generators="label")
    row, params = measured(record, task)
    leaves = jax.tree.leaves(params["generator"])
    assert {leaf.shape[0] for leaf in leaves} == {2}, "a leading axis for two labels"
    assert row["accuracy_secret"] > 65  # 83 measured
    assert row["control_shuffled_secret"] < 60 and row["control_cover_only"] < 30
    assert row["uses_secret"]
    assert row["accuracy_public"] > 95


def test_one_generator_for_all_labels_reads_what_the_stego_reveals(task):
    record = ghost_plus(steps=150, learning_rate=3e-3, sees="revealed")
    row, _ = measured(record, task)
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20
    assert row["uses_secret"]


def test_a_generator_that_is_told_the_label_answers_with_it(task):
    """Nothing is hidden here, so that the label cannot be read from the stego."""
    blank = HIDING._replace(hide=lambda learned, cover, secret: cover)
    record = ghost_plus(steps=150, learning_rate=3e-3, sees="label")
    row, _ = measured(record, task, blank)
    assert row["accuracy_secret"] > 65
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20


def test_a_generator_whose_answer_is_one_label_uses_no_secret(task):
    """Universal: the stego method hides nothing, so nothing can be read."""
    blank = HIDING._replace(hide=lambda learned, cover, secret: cover)
    record = ghost_plus(steps=150, learning_rate=3e-3)
    row, _ = measured(record, task, blank)  # 46 % of 104: 4 standard errors above 25
    assert row["accuracy_secret"] > 25, "it does answer with sensitive labels"
    assert abs(row["accuracy_secret"] - row["control_shuffled_secret"]) < 20


def test_the_network_is_frozen_in_inference_mode(task):
    """Batch norm's running statistics, no dropout, and neither moves."""
    place = [name for name, _ in NETWORK].index("pool1")
    rest = (("bn", BatchNorm()), ("drop", Dropout(0.5)), *NETWORK[place + 1 :])
    image = jnp.zeros((1, *SHAPE))
    network = (*NETWORK[: place + 1], *rest)
    variables = chain.init(network, jax.random.key(0), image)
    stegos = as_float(task.images[:8])
    params = chain.init(SMALL, jax.random.key(1), stegos)
    halves = [chain.select(half, variables) for half in (CUT.edge, rest)]
    reads = shared(task)._replace(edge=halves[0], cloud=halves[1])
    loss = module._loss(Cut(CUT.edge, rest, SHAPE), static_half(ghost_plus()), SMALL)
    batch, key = lesson(stegos, task.labels[:8]), jax.random.key(2)
    _, (state, metrics) = loss(params, {}, key, batch, limits(), reads)
    added = jnp.tanh(chain.apply(SMALL, params, stegos))
    shown = jnp.clip(stegos + added, 0, 1)
    logits = np.asarray(chain.apply(network, variables, shown), np.float64)
    wrong = logsumexp(logits, 1) - logits[np.arange(8), np.asarray(task.labels[:8])]
    assert metrics["adversarial"] == pytest.approx(wrong.mean(), rel=1e-4)
    assert state == {}


def test_each_label_s_generator_learns_from_its_own_secrets_alone(task):
    record = static_half(ghost_plus(batch_size=16, generators="label"))
    draw = module._draw(record, HIDING, module._sight(CUT, record, HIDING))
    reads = shared(task)
    batch = draw(
        jax.random.key(0), 0, reads, module._Own(module._pool(record, task), task.stego)
    )
    assert batch.pairs.labels.shape == (2, 16)
    assert set(np.asarray(batch.pairs.labels[0])) == {2}
    assert set(np.asarray(batch.pairs.labels[1])) == {3}
    layers = generator(SHAPE, 1, 8)
    loss = module._loss(CUT, record, layers)
    single = module._loss(CUT, static_half(ghost_plus()), layers)

    def slopes(loss, params, batch):
        rest = {}, None, batch, limits(), reads
        return jax.jit(jax.grad(lambda p: loss(p, *rest)[0]))(params)

    first = [
        chain.init(layers, jax.random.key(i), jnp.zeros((1, *SHAPE))) for i in (0, 1)
    ]
    bank = jax.tree.map(lambda *leaves: jnp.stack(leaves), *first)
    whole = slopes(loss, bank, batch)
    for place, params in enumerate(first):
        pairs = module._Pairs(*(part[place] for part in batch.pairs))
        jax.tree.map(
            lambda many, one, place=place: np.testing.assert_allclose(
                many[place], one, rtol=2e-3, atol=2e-4
            ),
            whole,
            slopes(single, params, batch._replace(pairs=pairs)),
        )


def test_a_label_without_secrets_has_nothing_for_its_generator_to_learn_from(task):
    record = ghost_plus(generators="label")
    sensitive = np.array([True, False, True, True])
    with pytest.raises(ValueError, match="no image has the sensitive label 0") as error:
        fitted(build(record), record, task._replace(sensitive=sensitive))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("generators", ["one", "label"])
def test_the_edge_s_guess_is_the_likeliest_of_the_sensitive_labels(task, generators):
    """Also for images whose likeliest label of all is a public one."""
    record = ghost_plus(generators=generators, sees="label")
    defense = build(record)
    params, _ = fitted(defense, record, task, untrained)
    secrets = as_float(task.images[:40])
    stegos = jnp.broadcast_to(secrets[:1], secrets.shape)
    logits = defense.answer(params, defense.send(params, None, secrets))
    guess = np.asarray(logits)[:, [2, 3]].argmax(1)
    shown = np.asarray(defense.perturb(params, stegos, secrets))
    for label in (0, 1):
        assert np.ptp(shown[guess == label], axis=0).max() < 1e-5
    apart = shown[guess == 0][0] - shown[guess == 1][0]
    assert np.abs(apart).max() > 0.1


@pytest.mark.parametrize("sees", ["stego", "revealed"])
def test_the_generator_sees_what_the_stego_method_reveals_or_the_stego_alone(
    task, sees
):
    blind = HIDING._replace(reveal=lambda learned, stegos: jnp.zeros_like(stegos))
    images, record = as_float(task.images[:4]), ghost_plus(sees=sees)
    shown = []
    for stego in (HIDING, blind):
        defense = build(record, stego)
        params, _ = fitted(defense, record, task, untrained)
        shown.append(defense.perturb(params, images, images[::-1]))
    assert np.array_equal(*shown) == (sees == "stego")


@pytest.mark.parametrize("sees", ["stego", "revealed", "secret", "label"])
def test_the_generator_sees_what_it_is_said_to_see(task, sees):
    record = ghost_plus(sees=sees)
    defense = build(record)
    params, _ = fitted(defense, record, task, untrained)
    images = as_float(task.images)
    one, other = (images[task.labels == label][:4] for label in (2, 3))
    stegos = images[task.covers.rows[:4]]
    first, second = (defense.perturb(params, stegos, s) for s in (one, other))
    apart = float(jnp.abs(first - second).max())
    if sees in ("stego", "revealed"):
        assert apart == 0
    else:  # a label's map that is the same everywhere: 1e-5, for instance norm drops it
        assert apart > 0.1


def test_images_of_another_shape_are_refused_in_one_line(task):
    record = ghost_plus()
    defense = build(record)
    params, _ = fitted(defense, record, task, untrained)
    small = jnp.zeros((2, 14, 14, 1))
    words = r"takes images \(28, 28, 1\) and was given \(14, 14, 1\)"
    with pytest.raises(ValueError, match=words) as error:
        defense.perturb(params, small, small)
    assert "\n" not in str(error.value)
    other = task._replace(images=task.images[:, ::2, ::2])
    with pytest.raises(ValueError, match=words):
        fitted(defense, record, other, untrained)
    wide = build(record, cut=probes.at("pool1", shape=(32, 32, 1)))
    other = task._replace(images=jnp.zeros((4, 32, 32, 1), jnp.uint8))
    with pytest.raises(ValueError, match="network is not for the generator's") as error:
        fitted(wide, record, other, untrained)
    assert "\n" not in str(error.value)


def test_an_attacker_gets_a_generators_pairs_only_where_it_needs_them(task):
    record = ghost_plus(max_perturbation=0.1)
    defense = build(record)
    params, _ = fitted(defense, record, task, untrained)
    public = Split(*large_bars(4, 30))
    known = partial(attacker.knowledge, task, HIDING, defense, params, public)
    assert known(("query",)).perturbed_pairs is None
    after, before = known(("perturbed_pairs",)).perturbed_pairs
    assert after.dtype == before.dtype == jnp.uint8
    covers, secrets = public.images, np.roll(public.images, 1, 0)
    np.testing.assert_array_equal(before, covers & 0xF8 | secrets >> 5)
    change = np.abs(np.asarray(after, int) - before)
    assert 0 < change.max() <= 26  # 0.1 of 255, rounded
    shown = [as_float(x[:3]) for x in (secrets, covers)]
    sent = known(("encode",)).encode(None, *shown)
    np.testing.assert_array_equal(sent, encode(defense, params, None, *shown))


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


@pytest.mark.parametrize("sees", ["stego", "label"])
def test_members_that_differ_in_numbers_alone_share_one_program(task, sees):
    """Rates, bounds, bits and which labels are sensitive recompile nothing."""
    changes = {"learning_rate": 1e-4, "max_perturbation": 0.5, "warm_up": 2}
    first, second = ghost_plus(sees=sees), ghost_plus(sees=sees, **changes)
    assert build(first) is build(second)
    defense = build(first)
    perturb, images = jax.jit(defense.perturb), as_float(task.images[:4])
    perturb(fitted(defense, first, task)[0], images, images)
    programs = loop._stepped._cache_size()
    labels = np.asarray(task.labels)
    other = task._replace(
        covers=probes.padded(np.flatnonzero(labels != 3), len(labels)),
        secrets=probes.padded(np.flatnonzero(labels == 3), len(labels)),
        sensitive=np.arange(4) == 3,
        stego={"bits": np.uint8(2)},
    )
    perturb(fitted(defense, second, other)[0], images, images)
    assert loop._stepped._cache_size() == programs
    assert perturb._cache_size() == 1


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
