"""GHOST: Algorithm 1 and Eq. (3) as written, and it learns what can be learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import NETWORK, SHAPE, bars, target
from scipy.special import logsumexp

from ghostjax import chain, train, utility
from ghostjax.base import Task
from ghostjax.data import Partition, roles
from ghostjax.defenses import covert
from ghostjax.defenses import ghost as module
from ghostjax.defenses.ghost import Settings, ghost
from ghostjax.defenses.hide import hide
from ghostjax.defenses.plain import plain
from ghostjax.stego.lsb import lsb
from ghostjax.train import Recipe

EDGE, CLOUD = chain.cut(NETWORK, "pool1")
PARTITION = Partition(sensitive=(2, 3), public=(0, 1))


@pytest.fixture(scope="module")
def task():
    images, labels = map(jnp.asarray, bars(0, 400))
    learned = target(images, labels, 80)
    role = roles(np.asarray(labels), PARTITION)
    halves = chain.select(EDGE, learned), chain.select(CLOUD, learned)
    covers, secrets = jnp.asarray(role.covers), jnp.asarray(role.secrets)
    return Task(*halves, images, labels, covers, secrets)


def defend(steps=10, filters=0, weight=1.0, rate=3e-3, **changes):
    settings = Settings(Recipe(steps), 32, 32, covert_filters=filters)
    settings = settings._replace(**changes)
    stego = lsb(3)
    return ghost(EDGE, CLOUD, SHAPE, stego, settings, learning_rate=rate, weight=weight)


def same(one, other):
    leaves = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("filters", [0, 4])
def test_the_edge_is_bit_identical_and_only_what_should_learn_moves(task, filters):
    before = jax.tree.map(np.asarray, task)
    params, _ = defend(filters=filters).fit(jax.random.key(1), task, train.fit)
    assert same(task, before), "the task's own arrays changed"
    assert same(params["edge"], before.edge_variables)
    assert same(params["cloud"], before.cloud_variables) == bool(filters)
    assert bool(params["branch"]) == bool(filters)


def test_eq_3_is_the_printed_sum(task):
    draw = np.random.default_rng(0)
    features = draw.normal(size=(6, 6, 6, 8)).astype(np.float32)
    labels = np.array([2, 3, 2, 0, 1, 3])
    batch = module._Batch(jnp.asarray(features), jnp.asarray(labels), jnp.float32(0.7))
    params, state = chain.split(task.cloud_variables)
    loss = module._loss(CLOUD, None, Settings(Recipe(1), 2, 4))
    value, (_, metrics) = loss(params, state, jax.random.key(0), batch)
    logits = np.asarray(chain.apply(CLOUD, task.cloud_variables, features), np.float64)
    losses = logsumexp(logits, 1) - logits[np.arange(6), labels]
    assert value == pytest.approx(losses[2:].mean() + 0.7 * losses[:2].mean(), rel=1e-5)
    right = logits.argmax(1) == labels
    assert metrics["accuracy_secret"] == pytest.approx(right[:2].mean())
    assert metrics["accuracy_public"] == pytest.approx(right[2:].mean())


def test_a_step_pairs_secrets_with_covers_and_draws_public_images_of_all_labels(task):
    settings = Settings(Recipe(1), 16, 64)
    stego = lsb(3)
    draw = module._draw(EDGE, CLOUD, None, stego, settings)
    data = module._Data(task, jnp.float32(1), ())
    batch = draw(jax.random.key(0), 0, data)
    again, later = (draw(jax.random.key(0), i, data) for i in (0, 1))
    np.testing.assert_array_equal(batch.features, again.features)
    assert not np.array_equal(batch.features, later.features)
    assert set(np.asarray(batch.labels[:16])) <= {2, 3}
    assert set(np.asarray(batch.labels[16:])) == {0, 1, 2, 3}
    # The first stego's features are those of a secret of its label in some cover.
    images = task.images / 255
    covers, secrets = images[task.covers], np.asarray(task.secrets)
    own = secrets[np.asarray(task.labels)[secrets] == int(batch.labels[0])]

    def encode(secret):
        pairs = stego.hide((), covers, jnp.broadcast_to(images[secret], covers.shape))
        return chain.apply(EDGE, task.edge_variables, pairs)

    wanted = batch.features[:1]
    assert any(
        jnp.abs(encode(secret) - wanted).max((1, 2, 3)).min() < 1e-6 for secret in own
    )


def test_the_weight_of_eq_3_counts(task):
    weights = (0.0, 1.0)
    moved = [
        defend(weight=w).fit(jax.random.key(1), task, train.fit)[0]["cloud"]
        for w in weights
    ]
    assert not same(*moved)


def test_the_covert_branch_starts_from_the_targets_own_answers(task):
    params, _ = defend(1, 4, rate=0.0).fit(jax.random.key(1), task, train.fit)
    images = task.images[:8] / 255
    features = chain.apply(EDGE, task.edge_variables, images)
    np.testing.assert_array_equal(
        defend(1, 4).answer(params, features),
        chain.apply(CLOUD, task.cloud_variables, features),
    )


def test_scales_are_per_channel_deviations():
    draw = np.random.default_rng(0)
    covers = draw.normal(size=(50, 3, 3, 2)).astype(np.float32)
    stegos = covers + draw.normal(size=covers.shape).astype(np.float32) * [0.1, 0.0]
    scales = covert.measure_scales(
        jnp.zeros((3, 3, 2)), *map(jnp.asarray, (covers, stegos))
    )
    hidden = np.sqrt(((stegos - covers) ** 2).mean((0, 1, 2)))
    np.testing.assert_allclose(scales.hidden, [hidden[0], 1e-3], rtol=1e-4)
    np.testing.assert_allclose(scales.spread, covers.std((0, 1, 2)), rtol=1e-4)
    magnified = covert.magnify(scales, jnp.asarray(covers))
    assert magnified.shape == (50, 3, 3, 4)
    np.testing.assert_allclose(
        magnified[..., 0], np.tanh(0.5 * covers[..., 0] / hidden[0]), rtol=1e-4
    )


@pytest.mark.parametrize(
    "shape", [(13, 13, 32), (32, 32, 64), (5, 5, 4), (6, 6, 8), (120,)]
)
def test_the_branch_fits_any_features(shape):
    layers = covert.branch(shape, 8, 7, 3)
    magnified = jnp.zeros((2, *shape[:-1], 2 * shape[-1]))
    variables = covert.init_branch(jax.random.key(0), layers, magnified)
    logits, shown = covert.look(layers, variables, magnified)
    assert logits.shape == (2, 7)
    assert shown is None if len(shape) == 1 else shown.shape == (2, *shape[:2], 3)


@pytest.mark.parametrize("size, cells, border", [(28, 13, 1), (32, 30, 1), (32, 32, 0)])
def test_coarse_averages_what_a_cell_sees(size, cells, border):
    images = np.random.default_rng(0).random((2, size, size, 3)).astype(np.float32)
    coarse = covert.coarse(jnp.asarray(images), (cells, cells, 5))
    stride = size // cells
    for i, j in ((0, 0), (3, 7), (cells - 1, cells - 1)):
        rows, columns = (
            slice(border + k * stride, border + (k + 1) * stride) for k in (i, j)
        )
        wanted = images[:, rows, columns].mean((1, 2))
        np.testing.assert_allclose(coarse[:, i, j], wanted, rtol=1e-5)


def test_the_reader_learns_to_show_the_secret_and_nothing_else(task):
    """A step's targets: the secrets, coarsely, then empty pictures."""
    settings = Settings(Recipe(1), 16, 8, covert_filters=4, cover_candidates=3)
    stego, branch = lsb(3), covert.branch((6, 6, 8), 4, 4, 1)
    scales, _ = module._scales(EDGE, stego, jax.random.key(0), task)
    draw = module._draw(EDGE, CLOUD, branch, stego, settings)
    batch = draw(jax.random.key(1), 0, module._Data(task, jnp.float32(1), scales))
    assert batch.secrets.shape == (24, 6, 6, 1)
    assert bool((batch.secrets[:16].max((1, 2, 3)) > 0.3).all())
    np.testing.assert_array_equal(batch.secrets[16:], 0)
    # Bars: a secret's label 2 or 3 is a bright row, in the upper or lower half.
    upper = batch.secrets[:16, :3].sum((1, 2, 3)) > batch.secrets[:16, 3:].sum(
        (1, 2, 3)
    )
    np.testing.assert_array_equal(upper, batch.labels[:16] == 2)


@pytest.mark.parametrize("covers_per_secret", [0, 1, 3])
def test_it_learns_what_is_hidden(task, covers_per_secret):
    images, labels = bars(1, 400)
    defense = defend(250, 8, covers_per_secret=covers_per_secret)
    params, metrics = defense.fit(jax.random.key(1), task, train.fit)
    pairs = utility.test_pairs(0, images, labels, PARTITION)
    row = utility.measure(
        defense, params, jax.random.key(2), images, labels, pairs, PARTITION, 0
    )
    assert row["accuracy_secret"] > 95
    assert 35 < row["control_shuffled_secret"] < 65
    assert row["control_cover_only"] < 3
    assert row["accuracy_public"] > 95
    assert metrics["loss"].shape == (250,)


def test_without_training_no_secret_is_answered(task):
    images, labels = bars(1, 200)
    pairs = utility.test_pairs(0, images, labels, PARTITION)
    params, _ = defend(1, 8, rate=0.0).fit(jax.random.key(1), task, train.fit)
    row = utility.measure(
        defend(1, 8), params, jax.random.key(2), images, labels, pairs, PARTITION, 0
    )
    assert row["accuracy_secret"] < 5
    assert row["accuracy_public"] > 95


DEFENSES = {
    "plain": lambda: plain(EDGE, CLOUD),
    "ghost": lambda: defend(2),
    "ghost, covert branch": lambda: defend(2, 4),
    "hide": lambda: hide(EDGE, CLOUD, lsb(3)),
}


@pytest.mark.parametrize("name", DEFENSES)
def test_contract_of_every_defense(task, name):
    defense = DEFENSES[name]()
    params, _ = defense.fit(jax.random.key(0), task, train.fit)
    secret, cover = task.images[:5] / 255, task.images[5:10] / 255
    encode, answer = jax.jit(defense.encode), jax.jit(defense.answer)
    features = encode(params, jax.random.key(1), secret, cover)
    assert features.shape == (5, 6, 6, 8) and features.dtype == jnp.float32
    np.testing.assert_array_equal(
        features, encode(params, jax.random.key(1), secret, cover)
    )
    public = defense.encode_public(params, jax.random.key(1), secret)
    assert public.shape == features.shape
    plainly = chain.apply(EDGE, task.edge_variables, secret)
    assert defense.bare and np.array_equal(public, plainly)
    logits = answer(params, features)
    assert logits.shape == (5, 4) and bool(jnp.isfinite(logits).all())
    assert encode._cache_size() == answer._cache_size() == 1
    hidden = not np.array_equal(
        features, encode(params, jax.random.key(1), secret, secret[::-1])
    )
    assert hidden == defense.hides, "covers must count if and only if it hides"
