"""Halves of the user's own: what is known of them, and what is trained of them."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ghostjax.models import chain
from ghostjax.models.opaque import digest, opaque

SHAPE = (6, 6, 1)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(3)(x.reshape(len(x), -1))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.BatchNorm(use_running_average=not train)(x)


class NormedNnx(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(36, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.drop(self.dense(x.reshape(len(x), -1))))


def linen():
    """(apply, variables, train) of a network with dropout and batch norm."""
    module = Normed()

    def train(variables, x, key):
        y, moved = module.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return y, {**variables, **moved}

    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return module.apply, variables, train


def nnx_():
    """The same of NNX: its state holds parameters, statistics, a key and a count."""
    model = NormedNnx(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)

    def train(state, x, key):
        model = nnx.merge(graph, state)
        model.train()
        nnx.reseed(model, dropout=key)
        y = model(x)
        model.eval()
        return y, nnx.state(model)

    return lambda state, x: nnx.merge(graph, state)(x), state, train


def plain():
    """A function of a list: a matrix, a count that is no float, and a shift."""
    draw = np.random.default_rng(0)
    variables = [draw.random((36, 3), np.float32), np.int32(2), np.zeros(3, np.float32)]

    def apply(variables, x):
        matrix, count, shift = variables
        return count * x.reshape(len(x), -1) @ matrix + shift[None]

    return apply, variables, lambda v, x, key: (apply(v, x), [v[0], v[1] + 1, v[2]])


KINDS = {"linen": (linen, 4), "nnx": (nnx_, 4), "plain": (plain, 2)}
"""Name -> the functions, and how many leaves an optimizer may move."""


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_parameters_and_carries_the_rest(kind):
    (apply, variables, train), count = KINDS[kind][0](), KINDS[kind][1]
    layer = opaque(apply, variables, SHAPE, train)
    half, key = (("cloud", layer),), jax.random.key(1)
    x = jax.random.uniform(key, (8, *SHAPE))
    params, state = chain.split(variables, half)
    assert len(jax.tree.leaves(params)) == count
    joined = chain.join(params, state, half)
    assert digest(joined) == digest(variables)
    y, moved = jax.jit(partial(chain.apply_train, half))(variables, x, key)
    assert y.shape == (8, 3)
    after = chain.split(moved, half)
    assert all(map(np.array_equal, jax.tree.leaves(params), jax.tree.leaves(after[0])))
    assert digest(after[1]) != digest(state)  # statistics, or the count


def test_what_is_known_of_a_half():
    apply, variables, _ = linen()
    layer = opaque(apply, variables, SHAPE, None)
    (row,) = chain.describe((("edge", layer),), SHAPE)
    assert (row.name, row.shape, row.bytes, row.flops) == ("edge", (3,), 12, 0)
    assert row.parameters == 37 * 3 + 2 * 3  # running statistics are no parameters
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), variables)
    assert layer == opaque(apply, shapes, SHAPE, None)
    half = (("edge", layer),)
    assert chain.fits(half, SHAPE, variables)
    assert not chain.fits(half, (6, 6, 3), variables)
    assert not chain.fits(half, SHAPE, {**variables, "more": jnp.zeros(2)})
    wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf], -1), variables)
    assert not chain.fits(half, SHAPE, wide)
    assert chain.select(half, {"edge": variables, "cloud": ()}) is variables


def test_what_cannot_be_done_with_a_half():
    apply, variables, _ = linen()
    half = (("edge", opaque(apply, variables, SHAPE, None)),)
    with pytest.raises(ValueError, match=r"takes \(6, 6, 1\) and is given \(5, 5, 1\)"):
        chain.describe(half, (5, 5, 1))
    with pytest.raises(ValueError, match="comes with its variables"):
        chain.init(half, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    with pytest.raises(ValueError, match="no training mode: give own.Half"):
        chain.apply_train(half, variables, jnp.zeros((1, *SHAPE)), jax.random.key(0))
    with pytest.raises(ValueError, match="of another structure than own.Half"):
        chain.split({**variables, "more": jnp.zeros(2)}, half)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda v, x: x @ v, "cannot be called with these variables on inputs"),
        (lambda v, x: (x, x), "gives a tuple, and one array is wanted"),
        (lambda v, x: x.sum(0), r"gives float32 \(6, 6, 1\), and a batch of floats"),
        (lambda v, x: x.mean(), r"gives float32 \(\), and a batch"),
        (lambda v, x: x.argmax(1), "gives int32"),
    ],
)
def test_a_function_that_is_no_half_is_refused(apply, message):
    with pytest.raises(ValueError, match=message):
        opaque(apply, jnp.zeros((5, 5)), SHAPE, None)


def test_a_digest_is_of_places_types_shapes_and_bytes():
    tree = {"a": np.zeros((2, 3), np.float32), "b": [np.int32(1)]}
    others = [
        {"c": tree["a"], "b": tree["b"]},
        {"a": tree["a"].reshape(3, 2), "b": tree["b"]},
        {"a": tree["a"].astype(np.int32), "b": tree["b"]},
        {"a": tree["a"] - 0.0, "b": [np.int32(2)]},
    ]
    assert digest(tree) == digest(jax.device_put(tree))
    assert len({digest(tree), *map(digest, others)}) == 5
    keys = [digest({"key": jax.random.key(seed)}) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(ValueError, match=r"variables\['a'\] = 'text'"):
        digest({"a": "text"})
