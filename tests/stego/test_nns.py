"""Neural steganography: its networks, its loss, its rounding, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import SHAPE, bars

from ghostjax.base import Context, Defense
from ghostjax.data import Partition, Split
from ghostjax.evaluation import accuracy, hiding, metrics
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain
from ghostjax.registry import build
from ghostjax.stego import nns as module
from ghostjax.stego.nns import NETWORKS
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.fit import drive

# Parameters of the three networks for colour: GHOST reference sheet, section 2.3.
PARAMETERS = {"n16": 20e3, "n32": 77e3, "muzio65": 486e3, "baluja50": 2.65e6}
PLAIN = Defense("hide", None, None, None, hide=lambda params, cover, secret: cover)
HYPER = {"beta": jnp.float32(0.3), "beta_start": jnp.float32(0)}


def method_of(record, steps):
    """The method that trains for so many steps, for images of SHAPE."""
    count = steps * record.batch_size // record.epochs
    return build(record, SHAPE, Context(train_count=count))


def trained(steps, **rest):
    settings = {"network": "n16", "learning_rate": 3e-3, "beta": 0.5, **rest}
    record = Nns(epochs=1, batch_size=32, **settings)
    method, images = method_of(record, steps), jnp.asarray(bars(0, 256)[0])
    fitting = method.fit(jax.random.key(0), traced_half(record), images)
    params, history = drive(fitting)
    return method, params, history["nns"]


def untrained(record, shape=SHAPE):
    """(method, the variables that its training starts from)."""
    method = build(record, shape, Context(train_count=1))
    images = jnp.zeros((1, *shape), jnp.uint8)
    fitting = method.fit(jax.random.key(0), traced_half(record), images)
    return method, next(fitting).params


def lsb():
    """(method, params) for three bits."""
    method = build(Lsb(bits=3), SHAPE, Context())
    return method, drive(method.fit(None, traced_half(Lsb(bits=3)), None))[0]


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
    (tower,) = chain.describe((("towers", layer),), (8, 8, 1))
    weights = sum(
        50 * size**2 * (1 + 3 * 50) for size in (3, 4, 5)
    )  # three towers of four layers, without biases
    assert tower.shape == (8, 8, 150)
    assert tower.parameters == weights + 3 * 4 * 50
    assert tower.flops == 64 * (2 * weights + 3 * 4 * 50)


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
    batch = module._Batch(covers, secrets, jnp.float32(0.5))
    value, (_, errors) = loss(params, {}, jax.random.key(0), batch, HYPER, ())
    raw = np.asarray(module._hidden(networks, params, covers, secrets), np.float64)
    revealed = chain.apply(
        networks.reveal, params["reveal"], method.hide(params, covers, secrets)
    )
    power = {"squared": 2, "absolute": 1}[distance]
    cover_error = (np.abs(raw - covers) ** power).mean()
    secret_error = (np.abs(np.asarray(revealed) - secrets) ** power).mean()
    assert errors["cover_error"] == pytest.approx(cover_error, rel=1e-4)
    assert value == pytest.approx(cover_error + 0.3 * secret_error, rel=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 20, 3)])
def test_ssim_of_the_loss_is_the_metric_s_of_what_is_clipped(shape):
    draw = np.random.default_rng(0)
    wanted = draw.uniform(size=(3, *shape)).astype(np.float32)
    raw = (wanted + draw.normal(0, 0.3, wanted.shape)).astype(np.float32)
    alike = [
        np.pad(x, ((0,) * 2, (5, 5), (5, 5), (0,) * 2), "edge")
        for x in (np.clip(raw, 0, 1), wanted)
    ]
    squared = ((raw - wanted) ** 2).mean()
    loss = squared + 0.02 * (1 - np.asarray(metrics.ssim(*alike)).mean())
    distance = float(module._squared_and_ssim(jnp.asarray(raw), jnp.asarray(wanted)))
    assert distance == pytest.approx(loss, rel=1e-5)
    bright = jnp.full((1, *shape), 1.2)
    distance = float(module._squared_and_ssim(bright, jnp.ones((1, *shape))))
    assert distance == pytest.approx(0.04, rel=1e-3), "clipped, it is the cover"


def test_the_covers_error_does_not_reach_the_reveal_network(learned, shown):
    _, params, _ = learned
    loss = module._loss(NETWORKS["n16"](1), "squared")

    def slopes(of):
        batch = module._Batch(*shown, jnp.float32(0))
        grown = jax.grad(lambda p: of(loss(p, {}, None, batch, HYPER, ())))(params)
        return {
            k: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(v))
            for k, v in grown.items()
        }

    alone = slopes(lambda value: value[1][1]["cover_error"])
    both = slopes(lambda value: value[0])
    assert alone["reveal"] == 0 and alone["hide"] > 0
    assert min(both.values()) > 0, "the secret's error must reach all three"


def test_it_learns_to_hide_and_to_reveal_what_eight_bits_keep(learned, shown):
    method, params, history = learned
    covers, secrets = shown
    stego = method.hide(params, covers, secrets)
    levels = 255 * np.asarray(stego)
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert float(stego.min()) >= 0 and float(stego.max()) <= 1
    error = float(((stego - covers) ** 2).mean())
    revealed = method.reveal(params, stego)
    missed = float(((revealed - secrets) ** 2).mean())
    constant = float(((secrets.mean(0, keepdims=True) - secrets) ** 2).mean())
    assert error < 4e-3, f"the stego is {error} from the cover"
    assert missed < constant / 8, f"{missed}, the mean image {constant}"
    wrong = float(((revealed - secrets[::-1]) ** 2).mean())
    assert missed < wrong / 8, "what is revealed is the image's own secret"
    assert history["loss"].shape == (300,)


def test_it_is_pure_compiles_once_and_treats_images_one_by_one(learned, shown):
    method, params, _ = learned
    covers, secrets = shown
    hide = jax.jit(method.hide)
    whole = hide(params, covers, secrets)
    np.testing.assert_array_equal(whole, hide(params, covers, secrets))
    assert hide._cache_size() == 1
    each = jax.vmap(lambda c, s: method.hide(params, c[None], s[None])[0])
    np.testing.assert_allclose(each(covers, secrets), whole, atol=1.01 / 255)


def test_beta_falls_over_the_first_half_from_a_start_of_its_own():
    images, draw = jnp.asarray(bars(0, 40)[0]), module._draw(8, 100)

    def betas(beta_start):
        hyper = {"beta": jnp.float32(0.2), "beta_start": jnp.float32(beta_start)}
        batches = [draw(jax.random.key(0), i, images, ()) for i in (0, 25, 50, 99)]
        return [float(module._weight(hyper, batch.early)) for batch in batches]

    np.testing.assert_allclose(betas(0.8), [0.8, 0.4, 0.2, 0.2], rtol=1e-5)
    assert betas(0.0) == [np.float32(0.2)] * 4


def test_an_epoch_sees_every_image_once_as_cover_and_once_as_secret():
    images = jnp.arange(20, dtype=jnp.uint8).reshape(20, 1, 1, 1)
    draw, key = module._draw(5, 8), jax.random.key(1)
    batches = [draw(key, index, images, ()) for index in range(8)]
    for part in ("covers", "secrets"):
        drawn = np.concatenate([np.ravel(getattr(batch, part)) for batch in batches])
        for epoch in drawn.reshape(2, 20):
            np.testing.assert_allclose(255 * np.sort(epoch), np.arange(20), atol=1e-4)
    record = Nns(network="n16", epochs=3, batch_size=8)
    method = build(record, SHAPE, Context(train_count=20))
    fitting = method.fit(
        jax.random.key(0), traced_half(record), jnp.zeros((20, *SHAPE), jnp.uint8)
    )
    assert next(fitting).recipe.steps == 8, "3 epochs of 20 images, rounded up"


def test_hiding_is_measured(learned):
    images, labels = bars(3, 120)
    split, partition = Split(images, labels), Partition((2, 3), (0, 1))
    pairs = accuracy.test_pairs(0, images, labels, partition)
    method, params, _ = learned
    hider = hiding.Hider(stego=method, learned=params, defense=PLAIN, params=())
    row = hiding.measure(hider, split, pairs, split).row
    assert row["psnr_cover_stego_n"] == len(pairs.secrets)
    assert row["psnr_cover_stego_min"] <= row["psnr_cover_stego_mean"]
    assert row["psnr_cover_stego_mean"] <= row["psnr_cover_stego_max"]
    assert row["psnr_revealed_secret_mean"] > row["psnr_mean_image_secret_mean"] + 5
    hiding.require_hidden(method, params, split)
    hiding.require_hidden(*lsb(), split)


def test_a_revealed_secret_that_is_exact_does_not_let_a_blank_network_pass(learned):
    _, params, _ = learned
    blank = lsb()[0]._replace(
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


def test_beta_is_traced_and_its_start_too():
    images = jnp.asarray(bars(0, 32)[0])

    def fit(beta, beta_start=0.0):
        record = Nns(network="n16", epochs=1, batch_size=8, beta=beta)
        method, hyper = method_of(record, 3), traced_half(record)
        return method, {**hyper, "beta_start": np.float32(beta_start)}

    def losses(method, hyper):
        fitting = method.fit(jax.random.key(0), hyper, images)
        return drive(fitting)[1]["nns"]["loss"]

    for beta_start in (0.0, 2.0):
        (method, few), (other, much) = (fit(b, beta_start) for b in (0.25, 1.0))
        assert method is other, "it is built once for all betas"
        hyper = jax.tree.map(lambda *leaves: jnp.stack(leaves), few, much)
        together = jax.vmap(lambda hyper, method=method: losses(method, hyper))(hyper)
        alone = jnp.stack([losses(method, few), losses(method, much)])
        np.testing.assert_allclose(together, alone, rtol=1e-4)
        assert (together[1, 1:] > together[0, 1:] + 1e-3).all()
    assert losses(*fit(0.25, 2.0))[0] > losses(*fit(0.25))[0] + 1e-3


def test_every_channel_of_a_colour_secret_counts():
    method, params = untrained(Nns(network="n16"), (12, 12, 3))
    draw = np.random.default_rng(0)
    cover, secret = (
        jnp.asarray(draw.uniform(size=(2, 12, 12, 3)), jnp.float32) for _ in range(2)
    )
    stego = method.hide(params, cover, secret)
    assert method.reveal(params, stego).shape == stego.shape == cover.shape
    for channel in range(3):
        other = secret.at[..., channel].set(1 - secret[..., channel])
        assert not np.array_equal(method.hide(params, cover, other), stego)


def test_lsb_hides_as_its_closed_form_says():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (400, 14, 14, 1)).astype(np.uint8)
    labels = np.arange(400) % 4
    pairs = accuracy.test_pairs(0, images, labels, Partition((2, 3), (0, 1)))
    split = Split(images, labels.astype(np.int32))
    method, params = lsb()
    hider = hiding.Hider(stego=method, learned=params, defense=PLAIN, params=())
    measured = hiding.measure(hider, split, pairs, split)
    assert measured.row["psnr_cover_stego_mean"] == pytest.approx(37.92, abs=0.1)
    assert measured.arrays["bits"] == 3
    np.testing.assert_array_equal(
        measured.arrays["stego"],
        measured.arrays["cover"] & 0xF8 | measured.arrays["secret"] >> 5,
    )


def test_bad_input_is_named(learned, shown):
    method, params, _ = learned
    with pytest.raises(ValueError, match=r"secret has shape \(28, 28, 1\)"):
        method.hide(params, shown[0], jnp.zeros((32, 28, 28, 1)))
    images = jnp.zeros((4, 28, 28, 1), jnp.uint8)
    with pytest.raises(ValueError, match=r"cover has shape \(28, 28, 1\)"):
        drive(method.fit(jax.random.key(0), traced_half(Nns()), images))
    with pytest.raises(ValueError, match="unknown network 'n33'.*n32"):
        Nns(network="n33")
    with pytest.raises(ValueError, match="unknown distance"):
        Nns(distance="L3")


def test_what_another_network_learned_is_refused_in_one_line():
    image = jnp.zeros((1, *SHAPE))
    (narrow, _), (wide, params) = (untrained(Nns(network=n)) for n in ("n16", "n32"))
    for learned in (params, (), {**params, "reveal": {}}, lsb()[1]):
        for call in (
            lambda p: narrow.hide(p, image, image),
            lambda p: narrow.reveal(p, image),
        ):
            with pytest.raises(ValueError, match="not those of network 'n16'") as error:
                call(learned)
            assert "\n" not in str(error.value)
    assert wide.hide(params, image, image).shape == image.shape


def test_the_networks_are_traced_once_for_their_variables(monkeypatch):
    calls, init = [], module._init
    monkeypatch.setattr(module, "_init", lambda *a: calls.append(a) or init(*a))
    record, image = Nns(network="n16"), jnp.zeros((1, *SHAPE))
    method = module.nns(SHAPE, static_half(record), Context(train_count=1))
    images = jnp.zeros((1, *SHAPE), jnp.uint8)
    for seed in range(3):
        fitting = method.fit(jax.random.key(seed), traced_half(record), images)
        params = next(fitting).params
        method.reveal(params, method.hide(params, image, image))
    assert len(calls) == 1
