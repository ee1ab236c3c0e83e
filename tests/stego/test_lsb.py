import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ghostjax.base import Context, Rows
from ghostjax.fields import traced_half
from ghostjax.pixels import as_bytes, as_float
from ghostjax.registry import build
from ghostjax.stego.lsb import guess_bits, hide_bits, low_bits, reveal_bits
from ghostjax.stego.pairs import draw_pairs, pool
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.fit import drive

EVERY_BITS = range(1, 8)
CLOSED_FORM = {1: 51.14, 2: 44.15, 3: 37.92, 4: 31.85}
WORST_CASE = {1: 48.1, 2: 38.6, 3: 31.2, 4: 24.6}


def all_pairs():
    """Every (cover, secret) byte pair, two uint8 [65536]."""
    bytes_ = jnp.arange(256, dtype=jnp.uint8)
    return jnp.repeat(bytes_, 256), jnp.tile(bytes_, 256)


def lsb(bits):
    """(method, params) for so many bits."""
    record = Lsb(bits=bits)
    method = build(record, (), Context())  # it works on every shape
    params, _ = drive(method.fit(None, traced_half(record), None))
    return method, params


def random_images(seed, shape=(8, 32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def floats(images):
    """float32 in [0, 1], to the last bit but one."""
    return np.float32(images) / 255


@pytest.mark.parametrize("bits", EVERY_BITS)
def test_exact_on_every_byte_pair(bits):
    covers, secrets = all_pairs()
    stego = hide_bits(covers, secrets, bits)
    pairs = list(zip(covers.tolist(), secrets.tolist(), strict=True))
    assert stego.dtype == jnp.uint8
    assert stego.tolist() == [oracles.lsb_hide(c, s, bits) for c, s in pairs]
    top = [s // 2 ** (8 - bits) * 2 ** (8 - bits) for _, s in pairs]
    assert reveal_bits(stego, bits).tolist() == top
    assert top == [oracles.lsb_reveal(s, bits) for s in stego.tolist()]
    assert low_bits(stego, bits).tolist() == [s // 2 ** (8 - bits) for _, s in pairs]


@pytest.mark.parametrize("bits", EVERY_BITS)
def test_information_is_the_top_bits_of_the_secret(bits):
    covers, secrets = all_pairs()
    stego = hide_bits(covers, secrets, bits)
    assert oracles.mutual_information(secrets, stego) == pytest.approx(bits)


@pytest.mark.parametrize("bits", CLOSED_FORM)
def test_psnr_of_random_low_bits_has_its_closed_form(bits):
    cover, secret = (random_images(seed, (2, 128, 128, 3)) for seed in (0, 1))
    stego = np.asarray(hide_bits(cover, secret, bits))
    ratio = oracles.psnr(cover / 255, stego / 255)
    exact = 10 * np.log10(255**2 / ((4**bits - 1) / 6))
    assert exact == pytest.approx(CLOSED_FORM[bits], abs=0.01)
    np.testing.assert_allclose(ratio, exact, atol=0.1)  # of 49,152 values


@pytest.mark.parametrize("bits", WORST_CASE)
def test_psnr_never_falls_below_its_limit(bits):
    covers, secrets = all_pairs()
    stego = np.asarray(hide_bits(covers, secrets, bits), int)
    farthest = abs(stego - np.asarray(covers, int)).max() / 255
    (ratio,) = oracles.psnr([[0.0]], [[farthest]])  # of a picture of one pixel
    assert ratio >= WORST_CASE[bits] - 0.05  # which is rounded
    limit = 20 * np.log10(255 / (2**bits - 1))
    assert ratio == pytest.approx(limit, abs=1e-3)


def test_midpoint_is_the_better_guess_of_a_uniform_secret():
    secret = random_images(2)
    stego = hide_bits(random_images(3), secret, 3)
    top, middle = (
        np.asarray(reveal_bits(stego, 3, midpoint=midpoint))
        for midpoint in (False, True)
    )
    np.testing.assert_array_equal(middle, top + 16)
    for shown, wanted in ((top, 23.0), (middle, 28.8)):  # each of 8 of 3,072 values
        ratio = oracles.psnr(secret / 255, shown / 255)
        np.testing.assert_allclose(ratio, wanted, atol=0.3)
    last = reveal_bits(np.uint8(127), 7, midpoint=True)
    assert int(last) == 255


@pytest.mark.parametrize("bits", EVERY_BITS)
def test_float_interface_is_exact(bits):
    covers, secrets = all_pairs()
    method, params = lsb(bits)
    stego = method.hide(params, covers / 255, secrets / 255)
    assert params == {"bits": bits} and params["bits"].dtype == np.uint8
    assert stego.dtype == jnp.float32
    wanted = hide_bits(covers, secrets, bits)
    assert jnp.array_equal(stego, wanted / 255)
    shown = method.reveal(params, stego)
    assert jnp.array_equal(shown, reveal_bits(wanted, bits) / 255)


def test_all_numbers_of_bits_share_one_program():
    cover, secret = random_images(6), random_images(7)
    methods, params = zip(*map(lsb, EVERY_BITS), strict=True)
    assert len(set(methods)) == 1
    for call in (hide_bits, lambda c, s, b: reveal_bits(c, b, midpoint=True)):
        traced = jax.jit(call)
        for bits in EVERY_BITS:
            wanted = call(cover, secret, bits)
            assert jnp.array_equal(traced(cover, secret, jnp.uint8(bits)), wanted)
        assert traced._cache_size() == 1
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    hide = jax.jit(jax.vmap(methods[0].hide, (0, None, None)))
    together = np.asarray(hide(stacked, floats(cover), floats(secret)))
    for bits, stego in zip(EVERY_BITS, together, strict=True):
        wanted = hide_bits(cover, secret, bits)
        np.testing.assert_allclose(255 * stego, wanted, atol=1e-4)


def test_what_another_method_learned_is_refused_in_one_line():
    image, (method, params) = np.zeros((1, 4, 4, 1), np.float32), lsb(3)
    for learned in ({"hide": np.zeros(3)}, (), {**params, "hide": np.zeros(3)}):
        for call in (
            lambda p: method.hide(p, image, image),
            lambda p: method.reveal(p, image),
        ):
            with pytest.raises(ValueError, match="another method's params") as error:
                call(learned)
            assert "\n" not in str(error.value)


def test_floats_are_rounded_to_the_nearest_level():
    levels, (method, params) = np.arange(256), lsb(7)
    for shift in (-0.4, 0.4):
        near = floats(levels + shift)
        shown = jax.jit(method.reveal)(params, near)
        np.testing.assert_allclose(shown, levels % 128 * 2 / 255, rtol=1e-6)


def test_floats_beyond_the_range_are_clipped():
    method, params = lsb(2)
    shown = jax.jit(method.reveal)(params, np.float32([-0.5, 0.0, 1.0, 1.5]))
    np.testing.assert_allclose(shown, np.array([0, 0, 192, 192]) / 255, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (28, 28, 1), (2, 3, 8, 8, 3)])
def test_jit_and_vmap_on_any_shape(shape):
    cover, secret = random_images(4, (6, *shape)), random_images(5, (6, *shape))
    wanted = cover & 0xF8 | secret >> 5
    method, params = lsb(3)

    @jax.jit
    def everything(params, cover, secret):
        each = jax.vmap(lambda c, s: hide_bits(c, s, 3))(cover, secret)
        pixels = as_float(cover), as_float(secret)
        both = jax.vmap(method.hide, (None, 0, 0))(params, *pixels)
        shown = jax.vmap(method.reveal, (None, 0))(params, both)
        return hide_bits(cover, secret, 3), each, as_bytes(both), as_bytes(shown)

    whole, each, both, shown = everything(params, cover, secret)
    for stego in (whole, each, both):
        np.testing.assert_array_equal(stego, wanted)
    np.testing.assert_array_equal(shown, secret & 0xE0)


@pytest.mark.parametrize("bits", [0, 8, 9, -1, 3.0, "3", None, True])
def test_impossible_bits_are_refused(bits):
    image = np.zeros((1, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="bits = .*(in .1, 7.|a whole number)"):
        Lsb(bits=bits)
    for call in (
        lambda: hide_bits(image, image, bits),
        lambda: reveal_bits(image, bits),
        lambda: low_bits(image, bits),
    ):
        with pytest.raises(ValueError, match="1 to 7 bits"):
            call()


@pytest.mark.parametrize("other", [(2, 28, 28, 3), (2, 32, 32, 1), (1, 28, 28, 1)])
def test_cover_and_secret_must_have_one_shape(other):
    grey, secret = np.zeros((2, 28, 28, 1), np.float32), np.zeros(other, np.float32)
    both = rf"\(2, 28, 28, 1\) and secret \({', '.join(map(str, other))}\)"
    method, params = lsb(3)
    with pytest.raises(ValueError, match=both):
        method.hide(params, grey, secret)
    with pytest.raises(ValueError, match=both):
        hide_bits(grey.astype(np.uint8), secret.astype(np.uint8), 3)


def test_the_wrong_number_type_is_refused():
    whole, (method, params) = np.zeros((4, 4, 1), np.uint8), lsb(3)
    with pytest.raises(ValueError, match="float32, expected uint8"):
        hide_bits(whole, floats(whole), 3)
    with pytest.raises(ValueError, match="float32, expected uint8"):
        reveal_bits(floats(whole), 3)
    with pytest.raises(ValueError, match="uint8, expected floats"):
        method.hide(params, whole, whole)


# All draws are of a batch of 8 out of 40 places, so that they share programs.
COVERS = Rows(np.arange(100, 140, dtype=np.int32), 40)
SECRETS = Rows(np.resize(np.arange(8, dtype=np.int32) * 3, 40), 8)
BATCH = 8
DRAW = jax.jit(draw_pairs, static_argnums=(2, 4))


def draw_many(key, steps, times=1):
    """(covers, secrets) of so many steps; times = 0: of the full product."""
    data = pool(COVERS, SECRETS, BATCH, times)
    pairs = [DRAW(key, step, BATCH, data, times) for step in range(steps)]
    return [np.concatenate([np.asarray(p[i]) for p in pairs]) for i in range(2)]


@pytest.mark.parametrize("times", [1, 4])
def test_an_epoch_visits_every_secret_so_often(times):
    covers, secrets = draw_many(jax.random.key(1), 5 * times, times)
    epochs = secrets.reshape(5, -1)
    for epoch in epochs:
        values, counts = np.unique(epoch, return_counts=True)
        assert values.tolist() == SECRETS.rows[:8].tolist() and set(counts) == {times}
    assert set(covers) <= set(COVERS.rows.tolist())
    assert epochs[0].tolist() != epochs[1].tolist()


def test_covers_are_uniform_and_fresh_at_every_visit():
    covers, secrets = draw_many(jax.random.key(2), 1000)
    assert oracles.uniform_p(covers - 100, 40) > 1e-3
    # Each secret, too, meets all covers alike: no dependence between the two.
    cells = (secrets // 3) * 40 + covers - 100
    assert oracles.uniform_p(cells, 320) > 1e-3


def test_the_full_product_visits_every_pair_once():
    covers, secrets = draw_many(jax.random.key(3), 80, times=0)
    pairs = np.stack([covers, secrets], axis=1).reshape(2, 320, 2)
    for epoch in pairs:
        assert np.unique(epoch, axis=0).shape == (320, 2)
    assert not np.array_equal(*pairs)


def test_pairs_depend_on_key_and_step_alone():
    key, other = jax.random.split(jax.random.key(4))
    whole = draw_many(key, 10)
    # Nothing needs to be drawn before it.
    later = DRAW(key, 9, BATCH, pool(COVERS, SECRETS, BATCH, 1), 1)
    assert [w[72:].tolist() for w in whole] == [part.tolist() for part in later]
    differing = draw_many(other, 10)
    assert all((a != b).any() for a, b in zip(whole, differing, strict=True))


@pytest.mark.parametrize("times", [0, 1, 4])
def test_how_many_covers_and_secrets_there_are_is_no_shape(times):
    key, most = jax.random.key(6), 64
    draw = jax.jit(lambda step, data: draw_pairs(key, step, BATCH, data, times))
    for covers, secrets in ((COVERS, SECRETS), (SECRETS, COVERS)):
        padded = [
            Rows(np.resize(r.rows[: r.count], most), r.count) for r in (covers, secrets)
        ]
        for step in range(3):
            wanted = DRAW(key, step, BATCH, pool(covers, secrets, BATCH, times), times)
            pairs = draw(step, pool(*padded, BATCH, times))
            for rows, wanted_rows in zip(pairs, wanted, strict=True):
                np.testing.assert_array_equal(rows, wanted_rows)
    assert draw._cache_size() == 1


def smooth_secrets():
    """uint8 [8, 24, 24, 1], and covers; waves of some ten pixels."""
    rows, columns = np.mgrid[:24, :24] / 24
    shifts = np.linspace(0, 3, 8).reshape(-1, 1, 1)
    waves = np.sin(9 * rows + shifts) * np.cos(7 * columns - 2 * shifts)
    secrets = np.uint8(np.rint(127.5 + 120 * waves))[..., None]
    return secrets, random_images(9, secrets.shape)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_guess_reads_a_stego_with_errors_better_than_the_receiver(bits):
    secrets, covers = smooth_secrets()
    errors = np.random.default_rng(5).normal(0, 1, secrets.shape)
    stego = np.asarray(hide_bits(covers, secrets, bits)) + np.float32(errors)
    method, params = lsb(bits)
    rebuilt, truth = np.clip(stego / 255, 0, 1), floats(secrets)
    read = {"reveal": method.reveal(params, rebuilt)}
    read |= {name: guess(params, rebuilt) for name, guess in method.guesses}
    quality = {k: oracles.psnr(np.asarray(x), truth).mean() for k, x in read.items()}
    assert list(quality) == ["reveal", "midpoint", "prior"]
    assert quality["prior"] > quality["reveal"] + 5, quality  # 7 to 10
    assert method.reader("prior") is dict(method.guesses)["prior"]


def test_a_guess_is_a_loops_posterior_and_of_a_flat_exact_stego_the_midpoint():
    secrets, covers = smooth_secrets()
    stego = np.asarray(hide_bits(covers, secrets, 3))[:1] / 255
    stego = np.float32(np.clip(stego + 0.004, 0, 1))
    near = np.mod(255.0 * stego[0, :, :, 0] + 0.5, 8) - 0.5
    low = np.clip(near, 0, 7)
    rough = (0.2 * 8) ** 2
    for _ in range(10):
        wide, before = np.pad(low, 1, mode="edge"), low.copy()
        for i, j in np.ndindex(low.shape):
            window = wide[i : i + 3, j : j + 3]
            beside = (window.sum() - before[i, j]) / 8
            seen = near[i, j] + np.array([-8, 0, 8])
            weights = np.exp(-((seen - beside) ** 2) / (2 * (1 + rough)))
            means = (seen * rough + beside) / (1 + rough)
            low[i, j] = (weights / weights.sum() * np.clip(means, 0, 7)).sum()
    guessed = np.asarray(guess_bits(stego, 3))[0, :, :, 0]
    np.testing.assert_allclose(guessed, (low + 0.5) / 8, atol=2e-4)
    flat = hide_bits(covers, np.full_like(covers, 0b01011111), 3)
    guessed = np.asarray(guess_bits(flat / np.float32(255), jnp.uint8(3)))
    middle = np.asarray(reveal_bits(flat, 3, midpoint=True))
    np.testing.assert_allclose(255 * guessed, middle, atol=0.6)  # of 256 / 8 levels


@pytest.mark.parametrize("bits", [1, 3])
def test_clues_hold_the_low_bits_and_do_not_jump_where_they_do(bits):
    method, params = lsb(bits)
    levels = np.linspace(40, 60, 401, dtype=np.float32)
    stego = (levels / 255).reshape(1, 401, 1, 1)
    clues = np.asarray(method.clues(params, stego))
    assert clues.shape == (1, 401, 1, method.clue_channels)
    assert clues.min() >= -1e-6 and clues.max() <= 1 + 1e-6
    shown, read, *circle = np.moveaxis(clues[0, :, 0], -1, 0)
    np.testing.assert_array_equal(shown, stego.ravel())
    np.testing.assert_array_equal(
        read, np.asarray(method.reveal(params, stego)).ravel()
    )
    cosine, sine = (2 * np.stack(circle) - 1).astype(np.float64)
    angle = np.mod(np.arctan2(sine, cosine), 2 * np.pi)
    wanted = np.mod(levels, 2**bits)
    error = np.abs(angle / (2 * np.pi) * 2**bits - wanted)
    assert np.minimum(error, 2**bits - error).max() < 1e-2
    steps = np.abs(np.diff(np.stack(circle), axis=1)).max()
    assert steps < 0.1 and np.abs(np.diff(read)).max() >= 0.5


def test_a_reading_that_a_method_has_not_is_one_line():
    method = build(Nns(network="n16"), (8, 8, 1), Context())
    with pytest.raises(ValueError, match="'prior': stego method 'nns' has no") as error:
        method.reader("prior")
    assert "\n" not in str(error.value) and method.reader("reveal") is method.reveal


def test_impossible_pairs_are_refused():
    with pytest.raises(ValueError, match="no pair can be drawn from"):
        pool(COVERS, SECRETS._replace(count=0), 4, 1)
    with pytest.raises(ValueError, match="covers_per_secret is -1"):
        pool(COVERS, SECRETS, 4, -1)
