"""GHOST: Algorithm 1 and Eq. (3) as written, and it learns what can be learnt."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from probes import SHAPE, bars, for_steps
from scipy.special import logsumexp

from ghostjax import registry, testing
from ghostjax.base import Context
from ghostjax.data import Partition
from ghostjax.defenses import ghost as module
from ghostjax.defenses.records import Ghost
from ghostjax.evaluation import accuracy
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain, reader
from ghostjax.pixels import as_float
from ghostjax.stego.pairs import pool
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive, start

CUT = probes.at("pool1")
PARTITION = Partition(sensitive=(2, 3), public=(0, 1))
STEGO = registry.build(Lsb(), SHAPE, Context())
CONTEXT = Context(stego=STEGO)
APPLY = jax.jit(chain.apply, static_argnums=0)


@pytest.fixture(scope="module", autouse=True)
def _few_scale_pairs():
    """The covert branch measures its scales on fewer pairs."""
    with mock.patch.object(module, "_SCALE_PAIRS", 256):
        yield


@pytest.fixture(scope="module")
def task(learned):
    hiding, _ = drive(STEGO.fit(None, traced_half(Lsb()), None))
    return probes.task(CUT, *learned, PARTITION.sensitive, hiding)


def pictures(task, rows=slice(None)):
    """The task's images in [0, 1]."""
    return np.float32(task.images[rows]) / 255


def ghost(**changes):
    """A record with few steps of small batches; `for_steps` trains for longer."""
    small = {"steps": 10, "batch_size": 16, "public_batch_size": 16}
    return Ghost(**{**small, "learning_rate": 5e-3, **changes})


def fitted(record, task, run=None):
    """The defense, its params and the metrics of all its trainings."""
    defense = registry.build(record, CUT, CONTEXT)
    fit = defense.fit(jax.random.key(1), traced_half(record), task)
    return defense, *drive(fit, run)


def untrained(training):
    """A `fit` that leaves everything as it is."""
    return start(training), {}


def equal(one, other):
    leaves = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def reading(task, batch_size, covers_per_secret=1, scales=()):
    """What a step's draw and loss read: (shared, own)."""
    shared = module._Shared(
        images=task.images,
        labels=task.labels,
        edge=task.edge_variables,
        cloud=task.cloud_variables,
    )
    pairs = pool(task.covers, task.secrets, batch_size, covers_per_secret)
    return shared, module._Own(pool=pairs, stego=task.stego, scales=scales)


def measured(defense, params, count):
    """The row of so many test images."""
    images, labels = bars(1, count)
    pairs = accuracy.test_pairs(0, images, labels, PARTITION)
    questions = accuracy.Questions(
        images=images, labels=labels, pairs=pairs, partition=PARTITION
    )
    return accuracy.measure(defense, params, jax.random.key(2), questions, 0)


@pytest.mark.parametrize("filters", [0, 4])
def test_the_edge_is_bit_identical_and_only_what_should_learn_moves(task, filters):
    before = jax.tree.map(np.asarray, task)
    _, params, _ = fitted(ghost(covert_filters=filters), task)
    assert equal(task, before), "the task's own arrays changed"
    assert equal(params["edge"], before.edge_variables)
    assert equal(params["cloud"], before.cloud_variables) == bool(filters)
    assert bool(params["branch"]) == bool(filters)


def test_eq_3_is_the_printed_sum(task):
    draw = np.random.default_rng(0)
    features = draw.normal(size=(6, 6, 6, 8)).astype(np.float32)
    labels = np.array([2, 3, 2, 0, 1, 3])
    batch = module._Batch(features=features, labels=labels)
    params, state = chain.split(task.cloud_variables)
    loss, hyper = jax.jit(module._loss(CUT, None, 2)), {"weight": np.float32(0.7)}
    shared, _ = reading(task, 2)
    key = jax.random.key(0)
    value, (_, metrics) = loss(params, state, key, batch, hyper, shared)
    logits = APPLY(CUT.cloud, task.cloud_variables, features)
    logits = np.asarray(logits, np.float64)
    losses = logsumexp(logits, 1) - logits[np.arange(6), labels]
    assert value == pytest.approx(losses[2:].mean() + 0.7 * losses[:2].mean(), rel=1e-5)
    right = logits.argmax(1) == labels
    assert metrics["accuracy_secret"] == pytest.approx(right[:2].mean())
    assert metrics["accuracy_public"] == pytest.approx(right[2:].mean())


def test_a_step_pairs_secrets_with_covers_and_draws_public_images_of_all_labels(task):
    record = static_half(ghost(batch_size=16, public_batch_size=64))
    draw, data = jax.jit(module._draw(CUT, None, STEGO, record)), reading(task, 16)
    batch, again, later = (
        draw(jax.random.key(0), np.int32(i), *data) for i in (0, 0, 1)
    )
    np.testing.assert_array_equal(batch.features, again.features)
    assert not np.array_equal(batch.features, later.features)
    assert set(np.asarray(batch.labels[:16])) <= {2, 3}
    assert set(np.asarray(batch.labels[16:])) == {0, 1, 2, 3}
    # The first stego's features are those of a secret of its label in some cover.
    images, labels = np.asarray(task.images), np.asarray(task.labels)
    covers = images[task.covers.rows[: task.covers.count]]
    secrets = task.secrets.rows[: task.secrets.count]
    alike = images[secrets[labels[secrets] == int(batch.labels[0])]]

    @jax.jit
    def nearest(secret):
        stegos = as_float(covers & 0xF8 | secret[None] >> 5)
        features = chain.apply(CUT.edge, task.edge_variables, stegos)
        return jnp.abs(features - batch.features[:1]).max((1, 2, 3)).min()

    assert any(nearest(secret) < 1e-6 for secret in alike)


def test_the_weight_of_eq_3_counts(task):
    moved = [fitted(ghost(weight=w), task)[1]["cloud"] for w in (0.0, 1.0)]
    assert not equal(*moved)


def test_the_covert_branch_starts_from_the_targets_own_answers(task):
    defense, params, _ = fitted(ghost(covert_filters=4), task, untrained)
    features = APPLY(CUT.edge, task.edge_variables, pictures(task, slice(8)))
    np.testing.assert_array_equal(
        jax.jit(defense.answer)(params, features),
        APPLY(CUT.cloud, task.cloud_variables, features),
    )


def test_scales_are_per_channel_deviations():
    draw = np.random.default_rng(0)
    covers = draw.normal(size=(50, 3, 3, 2)).astype(np.float32)
    stegos = covers + draw.normal(size=covers.shape).astype(np.float32) * [0.1, 0.0]
    origin = np.zeros((3, 3, 2), np.float32)
    scales = jax.jit(reader.measure_scales)(origin, covers, np.float32(stegos))
    hidden = np.sqrt(((stegos - covers) ** 2).mean((0, 1, 2)))
    np.testing.assert_allclose(scales.hidden, [hidden[0], 1e-3], rtol=1e-4)
    np.testing.assert_allclose(scales.spread, covers.std((0, 1, 2)), rtol=1e-4)
    magnified = jax.jit(reader.magnify)(scales, covers)
    assert magnified.shape == (50, 3, 3, 4)
    np.testing.assert_allclose(
        magnified[..., 0], np.tanh(0.5 * covers[..., 0] / hidden[0]), rtol=1e-4
    )


@pytest.mark.parametrize(
    "shape", [(13, 13, 32), (32, 32, 64), (5, 5, 4), (6, 6, 8), (120,)]
)
def test_the_branch_fits_any_features(shape):
    layers = reader.branch(shape, 8, 7, 3)

    def shown(key):
        magnified = jnp.zeros((2, *shape[:-1], 2 * shape[-1]))
        variables = reader.init_branch(key, layers, magnified)
        return reader.look(layers, variables, magnified)

    logits, picture = jax.eval_shape(shown, jax.random.key(0))
    assert logits.shape == (2, 7)
    assert picture is None if len(shape) == 1 else picture.shape == (2, *shape[:2], 3)


@pytest.mark.parametrize("size, cells, border", [(28, 13, 1), (32, 30, 1), (32, 32, 0)])
def test_coarse_averages_what_a_cell_sees(size, cells, border):
    images = np.random.default_rng(0).random((2, size, size, 3)).astype(np.float32)
    coarse = np.asarray(
        jax.jit(reader.coarse, static_argnums=1)(images, (cells, cells, 5))
    )
    stride = size // cells
    for i, j in ((0, 0), (3, 7), (cells - 1, cells - 1)):
        rows, columns = (
            slice(border + k * stride, border + (k + 1) * stride) for k in (i, j)
        )
        wanted = images[:, rows, columns].mean((1, 2))
        np.testing.assert_allclose(coarse[:, i, j], wanted, rtol=1e-5)


def test_the_reader_learns_to_show_the_secret_and_nothing_else(task):
    """A step's targets: the secrets, coarsely, then empty pictures."""
    record = ghost(batch_size=16, public_batch_size=8, cover_candidates=3)
    branch = reader.branch((6, 6, 8), 4, 4, 1)
    shared, reads = reading(task, 16)
    scales = fitted(ghost(covert_filters=4), task, untrained)[1]["scales"]
    draw = jax.jit(module._draw(CUT, branch, STEGO, static_half(record)))
    data = shared, reads._replace(scales=scales)
    batch = jax.tree.map(np.asarray, draw(jax.random.key(1), np.int32(0), *data))
    assert batch.secrets.shape == (24, 6, 6, 1)
    assert (batch.secrets[:16].max((1, 2, 3)) > 0.3).all()
    np.testing.assert_array_equal(batch.secrets[16:], 0)
    # Bars: a secret's label 2 or 3 is a bright row, in the upper or lower half.
    upper = batch.secrets[:16, :3].sum((1, 2, 3)) > batch.secrets[:16, 3:].sum(
        (1, 2, 3)
    )
    np.testing.assert_array_equal(upper, batch.labels[:16] == 2)


@pytest.mark.parametrize("covers_per_secret", [0, 1, 3])
def test_it_learns_what_is_hidden(task, covers_per_secret):
    record = ghost(covert_filters=4, covers_per_secret=covers_per_secret)
    defense, params, metrics = fitted(record, task, for_steps(100))
    row = measured(defense, params, 500)
    assert row["accuracy_secret"] > 90, row  # 98 to 100 % of 259
    assert 35 < row["control_shuffled_secret"] < 65, row
    assert row["control_cover_only"] < 3, row
    assert row["accuracy_public"] > 95, row
    assert metrics["ghost"]["loss"].shape == (100,)


def test_without_training_no_secret_is_answered(task):
    defense, params, _ = fitted(ghost(covert_filters=4), task, untrained)
    row = measured(defense, params, 500)
    assert row["accuracy_secret"] < 5, row
    assert row["accuracy_public"] > 95, row


def test_the_covert_branch_keeps_the_contracts_of_a_defense(task):
    """Those of GHOST without it, and of all other defenses, are in test_testing.py."""
    record = ghost(covert_filters=4)  # and steps: as above, with the same programs
    testing.check_defense(record, cut=CUT, task=task, steps=record.steps)
