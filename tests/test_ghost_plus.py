"""GHOST+: its generator, Eqs. (4) to (7), and what it can and cannot learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import NETWORK, bars, target
from scipy.special import logsumexp

from ghostjax import attacker, chain, train, utility
from ghostjax.base import Task
from ghostjax.data import Partition, Split, roles
from ghostjax.defenses import ghost_plus as module
from ghostjax.defenses.generator import generator
from ghostjax.defenses.ghost_plus import Settings, ghost_plus
from ghostjax.layers import BatchNorm, Conv, Dropout
from ghostjax.stego.lsb import lsb
from ghostjax.train import Recipe

SHAPE = (28, 28, 1)
PARTITION = Partition((2, 3), (0, 1))
EDGE, CLOUD = chain.cut(NETWORK, "pool1")
HIDING = lsb(3)
SMALL = (("perturbation", Conv(1, 3, "SAME")),)  # in the generator's place


def large_bars(seed, count):
    images, labels = bars(seed, count)
    return images.repeat(2, 1).repeat(2, 2), labels


@pytest.fixture(scope="module")
def task():
    images, labels = map(jnp.asarray, large_bars(0, 256))
    learned = target(images, labels, 60)
    role = roles(np.asarray(labels), PARTITION)
    halves = chain.select(EDGE, learned), chain.select(CLOUD, learned)
    covers, secrets = jnp.asarray(role.covers), jnp.asarray(role.secrets)
    return Task(*halves, images, labels, covers, secrets)


def defend(steps=3, bound=1.0, rate=1e-3, **changes):
    settings = Settings(Recipe(steps), 32, **changes)
    return ghost_plus(
        EDGE, CLOUD, SHAPE, HIDING, settings, learning_rate=rate, max_perturbation=bound
    )


def untrained(key, params, model_state, data, rate, *, recipe, **rest):
    """A `train` that leaves everything as it is."""
    return train.start(params, model_state, recipe), {}


def measured(defense, task):
    params, metrics = defense.fit(jax.random.key(1), task, train.fit)
    images, labels = large_bars(1, 200)
    pairs = utility.test_pairs(0, images, labels, PARTITION)
    row = utility.measure(
        defense, params, jax.random.key(2), images, labels, pairs, PARTITION, 0
    )
    return row, params, metrics


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_the_generator_keeps_the_images_shape_as_advgans_does(shape):
    rows = {
        row.name: row.shape
        for row in chain.describe(generator(shape, 3), shape[:2] + (3,))
    }
    sides = {28: (26, 12, 5, 11, 23, 28), 32: (30, 14, 6, 13, 27, 32)}[shape[0]]
    names = ("encode1", "encode2", "encode3", "decode1", "decode2", "perturbation")
    assert tuple(rows[name][0] for name in names) == sides
    assert rows["perturbation"] == shape and rows["encode3"][2] == 32


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"makes \(16, 16, 1\) of images \(14, 14, 1\)"
    ):
        generator((14, 14, 1), 1)


def test_eqs_4_to_7_are_the_printed_ones(task):
    layers = SMALL
    stegos = task.images[:8] / 255
    params = chain.init(layers, jax.random.key(0), stegos)
    settings = Settings(Recipe(1), 8)
    bound = jnp.float32(0.02)

    def batch(warm):
        halves = task.edge_variables, task.cloud_variables
        labels = (task.labels[:8] + 1) % 4
        return module._Batch(
            stegos, stegos[..., :0], labels, *halves, bound, jnp.asarray(warm)
        )

    loss = module._loss(EDGE, CLOUD, layers, settings)
    loss = jax.jit(loss)
    value, (_, metrics) = loss(params, {}, None, batch(False))
    added = 0.02 * np.tanh(np.asarray(chain.apply(layers, params, stegos), np.float64))
    shown = np.clip(stegos + added, 0, 1).astype(np.float32)
    both = {**task.edge_variables, **task.cloud_variables}
    logits = np.asarray(chain.apply(NETWORK, both, shown), np.float64)
    wrong = logsumexp(logits, 1) - logits[np.arange(8), np.asarray(batch(False).labels)]
    size = np.sqrt((added**2).sum((1, 2, 3)))
    weight = np.where(size > wrong, 0.5, 2.0)
    assert value == pytest.approx((weight * wrong + size).mean(), rel=1e-4)
    assert metrics["perturbation"] == pytest.approx(size.mean(), rel=1e-4)
    warm, _ = loss(params, {}, None, batch(True))
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
    stegos = task.images[:4] / 255
    params = jax.tree.map(jnp.zeros_like, chain.init(layers, jax.random.key(0), stegos))
    halves = task.edge_variables, task.cloud_variables
    one, cold = jnp.float32(1), jnp.asarray(False)
    beside, labels = stegos[..., :0], task.labels[:4]
    batch = module._Batch(stegos, beside, labels, *halves, one, cold)
    loss = module._loss(EDGE, CLOUD, layers, Settings(Recipe(1), 4))
    slopes = jax.jit(jax.grad(lambda p: loss(p, {}, None, batch)[0]))(params)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(slopes))


def test_the_network_is_bit_identical_and_public_images_are_left_alone(task):
    before = jax.tree.map(np.asarray, task)
    defense = defend()
    params, metrics = defense.fit(jax.random.key(1), task, train.fit)
    for name, own in (
        ("edge", before.edge_variables),
        ("cloud", before.cloud_variables),
    ):
        same = jax.tree.map(np.array_equal, params[name], own)
        assert all(jax.tree.leaves(same))
    images = task.images[:8] / 255
    both = {**task.edge_variables, **task.cloud_variables}
    np.testing.assert_array_equal(
        defense.answer(params, defense.encode_public(params, None, images)),
        chain.apply(NETWORK, both, images),
    )
    assert metrics["loss"].shape == (3,)


def test_no_pixel_moves_by_more_than_the_bound(task):
    defense = defend(bound=0.03)
    params, _ = defense.fit(jax.random.key(1), task, train.fit)
    stegos = task.images[:8] / 255
    shown = defense.perturb(params, stegos, stegos)
    assert 0 < float(jnp.abs(shown - stegos).max()) <= 0.03 + 1e-6
    assert float(shown.min()) >= 0 and float(shown.max()) <= 1


def test_one_generator_a_label_answers_with_the_secrets_label(task):
    row, params, _ = measured(defend(100, rate=3e-3, generators="label"), task)
    leaves = jax.tree.leaves(params["generator"])
    assert {leaf.shape[0] for leaf in leaves} == {2}, "a leading axis for two labels"
    assert row["accuracy_secret"] > 65  # 83 measured
    assert row["control_shuffled_secret"] < 60 and row["control_cover_only"] < 30
    assert row["uses_secret"]
    assert row["accuracy_public"] > 95


def test_one_generator_for_all_labels_reads_what_the_stego_reveals(task):
    row, params, _ = measured(defend(150, rate=3e-3, sees="revealed"), task)
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20
    assert row["uses_secret"]


def test_a_generator_that_is_told_the_label_answers_with_it(task):
    """Nothing is hidden here, so that the label cannot be read from the stego."""
    blank = HIDING._replace(hide=lambda learned, cover, secret: cover)
    settings = Settings(Recipe(150), 32, sees="label")
    defense = ghost_plus(EDGE, CLOUD, SHAPE, blank, settings, learning_rate=3e-3)
    row, _, _ = measured(defense, task)
    assert row["accuracy_secret"] > 65
    assert row["accuracy_secret"] > row["control_shuffled_secret"] + 20


def test_a_generator_whose_answer_is_one_label_uses_no_secret(task):
    """Universal: the stego method hides nothing, so nothing can be read."""
    blank = HIDING._replace(hide=lambda learned, cover, secret: cover)
    settings = Settings(Recipe(150), 32)  # to 46 % of 104, 4 standard errors above 25
    defense = ghost_plus(EDGE, CLOUD, SHAPE, blank, settings, learning_rate=3e-3)
    row, _, _ = measured(defense, task)
    assert row["accuracy_secret"] > 25, "it does answer with sensitive labels"
    assert abs(row["accuracy_secret"] - row["control_shuffled_secret"]) < 20


def test_the_network_is_frozen_in_inference_mode(task):
    """Batch norm's running statistics, no dropout, and neither moves."""
    place = [name for name, _ in NETWORK].index("pool1")
    rest = (("bn", BatchNorm()), ("drop", Dropout(0.5)), *NETWORK[place + 1 :])
    image = jnp.zeros((1, *SHAPE))
    network = (*NETWORK[: place + 1], *rest)
    variables = chain.init(network, jax.random.key(0), image)
    stegos = task.images[:8] / 255
    params = chain.init(SMALL, jax.random.key(1), stegos)
    halves = chain.select(EDGE, variables), chain.select(rest, variables)
    one, cold = jnp.float32(1), jnp.asarray(False)
    batch = module._Batch(stegos, stegos[..., :0], task.labels[:8], *halves, one, cold)
    loss = module._loss(EDGE, rest, SMALL, Settings(Recipe(1), 8))
    _, (state, found) = loss(params, {}, jax.random.key(2), batch)
    added = jnp.tanh(chain.apply(SMALL, params, stegos))
    shown = jnp.clip(stegos + added, 0, 1)
    logits = np.asarray(chain.apply(network, variables, shown), np.float64)
    wrong = logsumexp(logits, 1) - logits[np.arange(8), np.asarray(task.labels[:8])]
    assert found["adversarial"] == pytest.approx(wrong.mean(), rel=1e-4)
    assert state == {}


def test_each_label_s_generator_learns_from_its_own_secrets_alone(task):
    settings = Settings(Recipe(2), 16, generators="label")
    draw = module._draw(HIDING, settings, 4)
    data = module._Data(task, jnp.float32(1), jnp.asarray([2, 3]))
    batch = draw(jax.random.key(0), 0, data)
    assert batch.labels.shape == (2, 16)
    assert set(np.asarray(batch.labels[0])) == {2}
    assert set(np.asarray(batch.labels[1])) == {3}
    layers = generator(SHAPE, 1, 8)
    loss = module._loss(EDGE, CLOUD, layers, settings)
    single = module._loss(EDGE, CLOUD, layers, settings._replace(generators="one"))
    first = [
        chain.init(layers, jax.random.key(i), jnp.zeros((1, *SHAPE))) for i in (0, 1)
    ]
    bank = jax.tree.map(lambda *leaves: jnp.stack(leaves), *first)
    whole = jax.jit(jax.grad(lambda p: loss(p, {}, None, batch)[0]))(bank)
    for place, params in enumerate(first):
        own = batch._replace(
            stegos=batch.stegos[place],
            beside=batch.beside[place],
            labels=batch.labels[place],
        )
        alone = jax.jit(jax.grad(lambda p, own=own: single(p, {}, None, own)[0]))(
            params
        )
        jax.tree.map(
            lambda many, one, place=place: np.testing.assert_allclose(
                many[place], one, rtol=2e-3, atol=2e-4
            ),
            whole,
            alone,
        )


@pytest.mark.parametrize("sees", ["stego", "revealed"])
def test_the_generator_sees_what_the_stego_method_reveals_or_the_stego_alone(
    task, sees
):
    blind = HIDING._replace(reveal=lambda learned, stegos: jnp.zeros_like(stegos))
    images = task.images[:4] / 255
    shown = []
    for stego in (HIDING, blind):
        defense = ghost_plus(EDGE, CLOUD, SHAPE, stego, Settings(Recipe(1), sees=sees))
        params, _ = defense.fit(jax.random.key(1), task, untrained)
        shown.append(defense.perturb(params, images, images[::-1]))
    assert np.array_equal(*shown) == (sees == "stego")


@pytest.mark.parametrize("sees", ["stego", "revealed", "secret", "label"])
def test_the_generator_sees_what_it_is_said_to_see(task, sees):
    defense = defend(1, sees=sees)
    params, _ = defense.fit(jax.random.key(1), task, untrained)
    images = task.images / 255
    one, other = (images[task.labels == label][:4] for label in (2, 3))
    stegos = images[task.covers[:4]]
    first, second = (defense.perturb(params, stegos, s) for s in (one, other))
    apart = float(jnp.abs(first - second).max())
    if sees in ("stego", "revealed"):
        assert apart == 0
    else:  # a label's map that is the same everywhere: 1e-5, for instance norm drops it
        assert apart > 0.1


def test_images_of_another_shape_are_refused_in_one_line(task):
    defense = defend(1)
    params, _ = defense.fit(jax.random.key(1), task, untrained)
    small = jnp.zeros((2, 14, 14, 1))
    words = r"takes images \(28, 28, 1\) and was given \(14, 14, 1\)"
    with pytest.raises(ValueError, match=words) as error:
        defense.perturb(params, small, small)
    assert "\n" not in str(error.value)
    other = task._replace(images=task.images[:, ::2, ::2])
    with pytest.raises(ValueError, match=words):
        defense.fit(jax.random.key(1), other, untrained)
    wide = ghost_plus(EDGE, CLOUD, (32, 32, 1), HIDING, Settings(Recipe(1)))
    other = task._replace(images=jnp.zeros((4, 32, 32, 1), jnp.uint8))
    with pytest.raises(ValueError, match="network is not for the generator's") as error:
        wide.fit(jax.random.key(1), other, untrained)
    assert "\n" not in str(error.value)


def test_an_attacker_gets_a_generators_pairs_only_where_he_needs_them(task):
    defense = defend(1, bound=0.1)
    params, _ = defense.fit(jax.random.key(1), task, untrained)
    public = Split(*large_bars(4, 30))
    own = task, HIDING, defense, params, public
    assert attacker.knowledge(*own, ("query",)).perturbed_pairs is None
    after, before = attacker.knowledge(*own, ("perturbed_pairs",)).perturbed_pairs
    assert after.dtype == before.dtype == jnp.uint8
    covers, secrets = public.images, np.roll(public.images, 1, 0)
    np.testing.assert_array_equal(before, covers & 0xF8 | secrets >> 5)
    change = np.abs(np.asarray(after, int) - before)
    assert 0 < change.max() <= 26  # 0.1 of 255, rounded
    shown = [jnp.float32(x[:3]) / 255 for x in (secrets, covers)]
    sent = attacker.knowledge(*own, ("encode",)).encode(None, *shown)
    np.testing.assert_array_equal(sent, defense.encode(params, None, *shown))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial": "hinge"}, "adversarial is 'hinge'"),
        ({"balance": "epoch"}, "balance is 'epoch'"),
    ],
)
def test_unknown_choices_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        defend(**changes)
