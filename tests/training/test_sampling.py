import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ghostjax.training import sampling
from ghostjax.training.sampling import epoch_indices, stream


def first_steps(key, steps, batch, n):
    """The first steps * batch indices."""
    drawn = [epoch_indices(key, step, batch, n) for step in range(steps)]
    return np.concatenate([np.asarray(part) for part in drawn])


@pytest.mark.parametrize(
    "batch, n", [(7, 1000), (7, 10), (7, 7), (25, 10), (7, 1), (7, 2)]
)
def test_each_epoch_is_a_permutation(batch, n):
    epochs = 3
    steps = -(-epochs * n // batch)
    drawn = first_steps(jax.random.key(0), steps, batch, n)[: epochs * n]
    assert drawn.dtype == np.int32
    for epoch in drawn.reshape(epochs, n):
        assert np.sort(epoch).tolist() == list(range(n))


def test_epochs_and_keys_differ():
    first, second = jax.random.split(jax.random.key(1))
    drawn = first_steps(first, 8, 256, 1000)[:2000].reshape(2, 1000)
    # Two random orders agree in 1 of 1000 places.
    assert (drawn[0] == drawn[1]).sum() < 8
    assert (drawn[0] == first_steps(second, 4, 256, 1000)[:1000]).sum() < 8


def test_draws_depend_on_key_and_step_alone():
    key = jax.random.key(2)
    whole = first_steps(key, 9, 7, 10)
    with jax.debug_key_reuse(True):
        again = [epoch_indices(key, step, 7, 10) for step in (6, 7)]
    assert whole[6 * 7 : 8 * 7].tolist() == np.concatenate(again).tolist()
    scan = jax.lax.scan(
        lambda _, step: (None, epoch_indices(key, step, 7, 10)), None, jnp.arange(9)
    )
    assert scan[1].ravel().tolist() == whole.tolist()


def test_one_compilation_serves_all_steps_and_keys():
    before = sampling._epoch_indices._cache_size()
    for seed, step in [(0, 0), (1, 5), (2, 9)]:
        epoch_indices(jax.random.key(seed), jnp.int32(step), 7, 11)
    assert sampling._epoch_indices._cache_size() == before + 1


def padded(data, touched):
    """The stream with room for so many epochs in a batch."""
    assert touched >= len(data.touched)
    return data._replace(touched=np.arange(touched, dtype=np.uint32))


@pytest.mark.parametrize("batch", [1, 37, 256])
def test_a_size_that_is_an_argument_gives_the_bits_of_a_static_one(batch):
    key, sizes = jax.random.key(8), (1, 37, 59_999)
    steps = np.uint32([0, 1, 1000, 2**31 + 7])

    def drawn(n):
        return jax.vmap(lambda step: epoch_indices(key, step, batch, n))(steps)

    static = jax.jit(lambda: [drawn(n) for n in sizes])()
    argument = jax.jit(drawn)
    for n, wanted in zip(sizes, static, strict=True):
        data = stream(n, batch)
        np.testing.assert_array_equal(argument(data), wanted)
        wide = padded(data, batch + 1)  # what n = 1 touches, the most of all
        np.testing.assert_array_equal(argument(wide), wanted)


def test_streams_of_other_sizes_share_one_program_and_one_vmap():
    key = jax.random.key(9)
    draw = jax.jit(lambda data: epoch_indices(key, 3, 32, data))
    sizes = (33, 100, 360, 1437)  # a batch of 32 touches 2 epochs of each
    alone = [draw(stream(n, 32)) for n in sizes]
    assert draw._cache_size() == 1
    for n in (1, 5, 100):
        draw(padded(stream(n, 32), 33))
    assert draw._cache_size() == 2
    streams = jax.tree.map(lambda *x: np.stack(x), *(stream(n, 32) for n in sizes))
    np.testing.assert_array_equal(jax.vmap(draw)(streams), np.stack(alone))


def test_vmap_over_keys_equals_a_loop():
    keys = jax.random.split(jax.random.key(3), 3)
    together = jax.vmap(lambda key: epoch_indices(key, 5, 7, 10))(keys)
    alone = np.stack([epoch_indices(key, 5, 7, 10) for key in keys])
    assert np.array_equal(together, alone)


def draw_two(key, data):
    return epoch_indices(key, 0, 2, data)


KEYS = 20_000  # as many would show a shuffle of 6 rounds in the place of 32
many = jax.jit(jax.vmap(draw_two, (0, None)))


def first_two(n, draw=many):
    """What positions 0 and 1 of epoch 0 hold under many keys, [KEYS, 2]."""
    keys = jax.random.split(jax.random.key(4), KEYS)
    return np.asarray(draw(keys, stream(n, 2)))


def looks_random(pairs, n):
    """Each of the n (n - 1) ordered pairs equally often."""
    a, b = pairs[:, 0], pairs[:, 1]
    if (a == b).any():
        return False
    return oracles.uniform_p(a * (n - 1) + b - (b > a), n * (n - 1)) > 1e-3


@pytest.mark.parametrize("n", [3, 10])
def test_pairs_of_positions_are_uniform_over_keys(n):
    assert looks_random(first_two(n), n)


def test_the_uniformity_test_sees_a_wrong_shuffle(monkeypatch):
    identity = np.tile([0, 1], (KEYS, 1))
    rotation = (identity + np.random.default_rng(0).integers(0, 10, (KEYS, 1))) % 10
    assert not looks_random(identity, 10)
    assert not looks_random(rotation, 10)  # each position uniform, the pair is not
    monkeypatch.setattr(sampling, "ROUNDS", 3)
    monkeypatch.setattr(sampling, "_epoch_indices", sampling._epoch_indices.__wrapped__)
    anew = jax.jit(jax.vmap(lambda *inputs: draw_two(*inputs), (0, None)))
    assert not looks_random(first_two(10, anew), 10)


def test_a_large_epoch_shows_no_order():
    n = 60_000
    order = np.asarray(epoch_indices(jax.random.key(5), 0, n, n))
    assert (order == np.arange(n)).sum() < 8  # fixed points: Poisson of mean 1
    for lag in (1, 2, 256):
        correlation = np.corrcoef(order[:-lag], order[lag:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / np.sqrt(n)
    neighbours = np.abs(np.diff(order)) == 1  # mean 2
    assert neighbours.sum() < 12


positions_of = jax.jit(sampling._positions, static_argnums=1)


@pytest.mark.parametrize("step", [0, 1, 235, 2**24 + 1, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize(
    "batch, n", [(256, 60_000), (100, 7), (64, 48_000), (5, 604_388)]
)
def test_positions_are_exact_beyond_32_bits(step, batch, n):
    data = stream(n, batch)
    found = positions_of(np.uint32(step), batch, data)
    epochs, offsets, places = map(np.asarray, found)
    positions = zip(epochs[offsets].tolist(), places.tolist(), strict=True)
    wanted = oracles.stream_positions(step, batch, n)
    assert list(positions) == [(epoch % 2**32, place) for epoch, place in wanted]


@pytest.mark.parametrize("batch, n", [(0, 5), (5, 0), (-1, 5)])
def test_empty_draws_are_refused(batch, n):
    with pytest.raises(ValueError, match=f"{batch} of {n}"):
        epoch_indices(jax.random.key(6), 0, batch, n)
    with pytest.raises(ValueError, match=f"{batch} of {n}"):
        stream(n, batch)


def test_sizes_beyond_32_bits_are_refused():
    with pytest.raises(ValueError, match="passes 2"):
        epoch_indices(jax.random.key(7), 0, 4096, 2_000_003)
