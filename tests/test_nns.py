"""Neural steganography: its networks, its loss, its rounding, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import SHAPE, bars

from ghostjax import chain, hiding, metrics, train, utility
from ghostjax.base import Defense
from ghostjax.data import Partition, Split
from ghostjax.stego import nns as module
from ghostjax.stego.lsb import lsb
from ghostjax.stego.nns import NETWORKS, Settings, nns
from ghostjax.train import Recipe

# Parameters of the three networks for colour: GHOST reference sheet, section 2.3.
PARAMETERS = {"n16": 20e3, "n32": 77e3, "muzio65": 486e3, "baluja50": 2.65e6}
PLAIN = Defense("hide", None, None, None, None, hides=True)


def trained(steps, network="n16", distance="squared", **rest):
    recipe = Recipe(steps, "adam", "cosine")
    settings = Settings(recipe, network, distance, batch_size=32)
    rates = {"learning_rate": 3e-3, "beta": 0.5, **rest}
    method = nns(SHAPE, settings, **rates)
    images = jnp.asarray(bars(0, 256)[0])
    return method, *method.fit(jax.random.key(0), images, train.fit)


@pytest.fixture(scope="module")
def learned():
    """(method, params, metrics) after 300 steps."""
    return trained(300)


@pytest.fixture(scope="module")
def shown():
    """(covers, secrets) [32, H, W, C] that no training saw."""
    return tuple(jnp.asarray(bars(s, 32)[0], jnp.float32) / 255 for s in (1, 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_published_sizes_and_keep_the_images_shape(name):
    networks, image = NETWORKS[name](3), (32, 32, 3)
    prep = chain.describe(networks.prep, image)
    beside = (32, 32, 3 + prep[-1].shape[-1])
    hide = chain.describe(networks.hide, beside)
    reveal = chain.describe(networks.reveal, image)
    count = sum(layer.parameters for part in (prep, hide, reveal) for layer in part)
    assert count == pytest.approx(PARAMETERS[name], rel=0.03)
    assert hide[-1].shape == reveal[-1].shape == image


def test_towers_stand_beside_each_other_and_count_their_work():
    layer = NETWORKS["baluja50"](1).prep[0][1]
    (own,) = chain.describe((("towers", layer),), (8, 8, 1))
    weights = sum(
        50 * size**2 * (1 + 3 * 50) for size in (3, 4, 5)
    )  # three towers of four layers, without biases
    assert own.shape == (8, 8, 150)
    assert own.parameters == weights + 3 * 4 * 50
    assert own.flops == 64 * (2 * weights + 3 * 4 * 50)


def test_rounding_is_to_grey_levels_and_passes_the_gradient_that_clipping_does_not():
    values = jnp.asarray([-0.2, 0.1, 0.5019, 0.99, 1.3]).reshape(1, 1, -1, 1)
    wanted = np.round(255 * np.clip(values, 0, 1)).astype(np.float32) / 255
    np.testing.assert_allclose(module._straight_through(values), wanted, atol=1e-7)
    slope = jax.grad(lambda x: (3 * module._straight_through(x)).sum())(values)
    np.testing.assert_array_equal(slope.ravel(), [0, 3, 3, 3, 0])


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_the_loss_is_the_printed_sum_of_two_distances(learned, shown, distance):
    method, params, _ = learned
    covers, secrets = shown
    networks = NETWORKS["n16"](1)
    loss = module._loss(networks, distance)
    batch = module._Batch(covers, secrets, jnp.float32(0.3))
    value, (_, metrics) = loss(params, {}, jax.random.key(0), batch)
    raw = np.asarray(module._hidden(networks, params, covers, secrets), np.float64)
    told = chain.apply(
        networks.reveal, params["reveal"], method.hide(params, covers, secrets)
    )
    power = {"squared": 2, "absolute": 1}[distance]
    cover_error = (np.abs(raw - covers) ** power).mean()
    secret_error = (np.abs(np.asarray(told) - secrets) ** power).mean()
    assert metrics["cover_error"] == pytest.approx(cover_error, rel=1e-4)
    assert value == pytest.approx(cover_error + 0.3 * secret_error, rel=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 20, 3)])
def test_ssim_of_the_loss_is_the_metric_s_where_windows_are_whole(shape):
    draw = np.random.default_rng(0)
    wanted = draw.uniform(size=(3, *shape)).astype(np.float32)
    made = np.clip(wanted + draw.normal(0, 0.1, wanted.shape), 0, 1).astype(np.float32)
    found = np.asarray(module._ssim(jnp.asarray(made), jnp.asarray(wanted)))
    inner = found[:, 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(inner, metrics.ssim(made, wanted), atol=1e-5)
    padded = [
        np.pad(x, ((0,) * 2, (5, 5), (5, 5), (0,) * 2), "edge") for x in (made, wanted)
    ]
    whole = found.mean((1, 2, 3))
    np.testing.assert_allclose(whole, metrics.ssim(*padded), atol=1e-5)
    made = np.full(shape, 1.2, np.float32)[None]
    own = float(module._squared_and_ssim(jnp.asarray(made), jnp.ones((1, *shape))))
    assert own == pytest.approx(0.04, rel=1e-3), "clipped, it is the cover"


def test_the_covers_error_does_not_reach_the_reveal_network(learned, shown):
    _, params, _ = learned
    loss = module._loss(NETWORKS["n16"](1), "squared")

    def slopes(beta):
        batch = module._Batch(*shown, jnp.float32(beta))
        grown = jax.grad(lambda p: loss(p, {}, None, batch)[0])(params)
        return {
            k: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(v))
            for k, v in grown.items()
        }

    alone, both = slopes(0.0), slopes(1.0)
    assert alone["reveal"] == 0 and alone["hide"] > 0
    assert min(both.values()) > 0, "the secret's error must reach all three"


def test_it_learns_to_hide_and_to_reveal_what_eight_bits_keep(learned, shown):
    method, params, metrics = learned
    covers, secrets = shown
    stego = method.hide(params, covers, secrets)
    levels = 255 * np.asarray(stego)
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert float(stego.min()) >= 0 and float(stego.max()) <= 1
    error = float(((stego - covers) ** 2).mean())
    told = method.reveal(params, stego)
    missed = float(((told - secrets) ** 2).mean())
    constant = float(((secrets.mean(0, keepdims=True) - secrets) ** 2).mean())
    assert error < 4e-3, f"the stego is {error} from the cover"
    assert missed < constant / 8, f"{missed}, the mean image {constant}"
    wrong = float(((told - secrets[::-1]) ** 2).mean())
    assert missed < wrong / 8, "what is revealed is the image's own secret"
    assert metrics["loss"].shape == (300,)


def test_it_is_pure_compiles_once_and_treats_images_one_by_one(learned, shown):
    method, params, _ = learned
    covers, secrets = shown
    hide = jax.jit(method.hide)
    whole = hide(params, covers, secrets)
    np.testing.assert_array_equal(whole, hide(params, covers, secrets))
    assert hide._cache_size() == 1
    each = jax.vmap(lambda c, s: method.hide(params, c[None], s[None])[0])
    np.testing.assert_allclose(each(covers, secrets), whole, atol=1.01 / 255)


def test_beta_falls_over_the_first_half():
    images = jnp.asarray(bars(0, 40)[0])
    data = module._Data(images, jnp.float32(0.8), jnp.float32(0.2))
    draw = module._draw(8, 100)
    betas = [float(draw(jax.random.key(0), i, data).beta) for i in (0, 25, 50, 99)]
    np.testing.assert_allclose(betas, [0.8, 0.4, 0.2, 0.2], rtol=1e-5)


def test_hiding_is_measured(learned):
    images, labels = bars(3, 120)
    split, partition = Split(images, labels), Partition((2, 3), (0, 1))
    pairs = utility.test_pairs(0, images, labels, partition)
    own = PLAIN, (), split, pairs, split
    method, params, _ = learned
    row = hiding.measure(method, params, *own).row
    assert row["psnr_cover_stego_n"] == len(pairs.secrets)
    assert row["psnr_cover_stego_min"] <= row["psnr_cover_stego_mean"]
    assert row["psnr_cover_stego_mean"] <= row["psnr_cover_stego_max"]
    assert row["psnr_revealed_secret_mean"] > row["psnr_mean_image_secret_mean"] + 5
    hiding.require_hidden(method, params, split)
    hiding.require_hidden(lsb(3), (), split)


def test_a_revealed_secret_that_is_exact_does_not_let_a_blank_network_pass(learned):
    _, params, _ = learned
    blank = lsb(3)._replace(
        hide=lambda learned, cover, secret: cover,
        reveal=lambda learned, stego: jnp.zeros_like(stego),
    )
    images, labels = bars(3, 120)
    images[0] = 0  # what is revealed of it is infinitely near
    with pytest.raises(ValueError, match="hides nothing"):
        hiding.require_hidden(blank, params, Split(images, labels))


@pytest.mark.parametrize("how", [{"beta": 1e-6}, {"distance": "absolute"}])
def test_networks_that_hide_nothing_are_refused(how):
    blank, unread, _ = trained(5 if "beta" in how else 300, **how)
    with pytest.raises(ValueError, match="hides nothing: what it reveals is") as error:
        hiding.require_hidden(blank, unread, Split(*bars(3, 120)))
    assert "\n" not in str(error.value)


def test_beta_is_traced_and_a_start_of_its_own_is_kept():
    settings = Settings(Recipe(3), "n16", batch_size=8)
    images = jnp.asarray(bars(0, 32)[0])

    def losses(beta, first=None):
        method = nns(SHAPE, settings, beta=beta, beta_start=first)
        return method.fit(jax.random.key(0), images, train.fit)[1]["loss"]

    betas = jnp.asarray([0.25, 1.0])
    for first in (None, jnp.float32(2.0)):
        together = jax.vmap(lambda beta, first=first: losses(beta, first))(betas)
        alone = jnp.stack([losses(float(beta), first) for beta in betas])
        np.testing.assert_allclose(together, alone, rtol=1e-4)
        assert (together[1, 1:] > together[0, 1:] + 1e-3).all()
    assert losses(0.25, 2.0)[0] > losses(0.25)[0] + 1e-3


def test_every_channel_of_a_colour_secret_counts():
    method = nns((12, 12, 3), Settings(Recipe(1), "n16"))
    draw = np.random.default_rng(0)
    cover, secret = (
        jnp.asarray(draw.uniform(size=(2, 12, 12, 3)), jnp.float32) for _ in range(2)
    )
    params = method.init(jax.random.key(0), cover, secret)
    stego = method.hide(params, cover, secret)
    assert method.reveal(params, stego).shape == stego.shape == cover.shape
    for channel in range(3):
        other = secret.at[..., channel].set(1 - secret[..., channel])
        assert not np.array_equal(method.hide(params, cover, other), stego)


def test_lsb_hides_as_its_closed_form_says():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (400, 14, 14, 1)).astype(np.uint8)
    labels = np.arange(400) % 4
    pairs = utility.test_pairs(0, images, labels, Partition((2, 3), (0, 1)))
    split = Split(images, labels.astype(np.int32))
    found = hiding.measure(lsb(3), (), PLAIN, (), split, pairs, split, 3)
    assert found.row["psnr_cover_stego_mean"] == pytest.approx(37.92, abs=0.1)
    assert found.arrays["bits"] == 3
    np.testing.assert_array_equal(
        found.arrays["stego"],
        found.arrays["cover"] & 0xF8 | found.arrays["secret"] >> 5,
    )


def test_bad_input_is_named(learned, shown):
    method, params, _ = learned
    with pytest.raises(ValueError, match=r"secret has shape \(28, 28, 1\)"):
        method.hide(params, shown[0], jnp.zeros((32, 28, 28, 1)))
    with pytest.raises(ValueError, match="unknown stego network 'n33'.*n32"):
        nns(SHAPE, Settings(Recipe(1), "n33"))
    with pytest.raises(ValueError, match="unknown distance"):
        nns(SHAPE, Settings(Recipe(1), distance="L3"))


def test_what_another_network_learned_is_refused_in_one_line():
    image = jnp.zeros((1, *SHAPE))
    own, other = (nns(SHAPE, Settings(Recipe(1), name)) for name in ("n16", "n32"))
    learned = other.init(jax.random.key(0), image, image)
    for params in (learned, (), {**learned, "reveal": {}}):
        for call in (
            lambda p: own.hide(p, image, image),
            lambda p: own.reveal(p, image),
        ):
            with pytest.raises(ValueError, match="not those of network 'n16'") as error:
                call(params)
            assert "\n" not in str(error.value)
    assert other.hide(learned, image, image).shape == image.shape
