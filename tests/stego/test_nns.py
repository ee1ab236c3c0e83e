"""Neural steganography: its networks, its loss, its rounding, and what it learns.

What learns here are networks that look at one pixel at a time: they compile in a
second, and a bar's pixel says one bit.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from probes import SHAPE, bars, for_steps

from ghostjax import registry
from ghostjax.base import Context, Defense
from ghostjax.data import Partition, Split
from ghostjax.evaluation import accuracy, hiding
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Relu
from ghostjax.registry import build
from ghostjax.stego import nns as module
from ghostjax.stego.nns import NETWORKS, Networks
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training import loop
from ghostjax.training.fit import drive

# Parameters of the three networks for colour: GHOST reference sheet, section 2.3.
PARAMETERS = {"n16": 20e3, "n32": 77e3, "muzio65": 486e3, "baluja50": 2.65e6}
PLAIN = Defense("hide", None, None, None, hide=lambda params, cover, secret: cover)
HYPER = {"beta": np.float32(0.3), "beta_start": np.float32(0)}
STEPS, BATCH = 200, 16


def body(name, depth, filters):
    layers = []
    for place in range(depth):
        layers += [(f"{name}{place}", Conv(filters, 1)), (f"{name}{place}_act", Relu())]
    return tuple(layers)


def pixelwise(filters, channels):
    """Networks of 1x1 convolutions."""
    head = (("image", Conv(channels, 1)),)
    hide, reveal = (body(name, 2, filters) + head for name in ("hide", "reveal"))
    return Networks(body("prep", 1, filters), hide, reveal, True)


def nns(image_shape, record, context):
    """The method with small networks in the place of n16 and n32."""
    small = {
        "n16": lambda channels: pixelwise(8, channels),
        "n32": lambda channels: pixelwise(12, channels),
    }
    with mock.patch.dict(NETWORKS, small):
        return module.nns(image_shape, record, context)


def method_of(record, shape=SHAPE):
    """The method that trains for so many steps; not the registry's own."""
    context = Context(train_count=STEPS * BATCH)
    return registry.construct(nns, shape, record, context)


def record_of(**rest):
    settings = {"network": "n16", "learning_rate": 2e-2, "beta": 0.5, **rest}
    return Nns(epochs=1, batch_size=BATCH, **settings)


def trained(run=None, **rest):
    record, images = record_of(**rest), jnp.asarray(bars(0, 256)[0])
    method = method_of(record)
    fitting = method.fit(jax.random.key(0), traced_half(record), images)
    params, history = drive(fitting, run)
    return method, params, history["nns"]


def untrained(record, shape=SHAPE):
    """(method, noise in the place of the variables that its training starts from)."""
    method, draw = method_of(record, shape), np.random.default_rng(3)
    shapes = jax.eval_shape(
        lambda key: begun(method, record, key, shape), jax.random.key(0)
    )
    return method, jax.tree.map(
        lambda leaf: draw.normal(0, 0.5, leaf.shape).astype(leaf.dtype), shapes
    )


def begun(method, record, key, shape=SHAPE):
    """The variables that a training starts from."""
    images = np.zeros((1, *shape), np.uint8)
    return next(method.fit(key, traced_half(record), images)).params


def lsb():
    """(method, params) for three bits."""
    method = build(Lsb(bits=3), SHAPE, Context())
    return method, drive(method.fit(None, traced_half(Lsb(bits=3)), None))[0]


def run(layers, variables, x):
    """A network of 1x1 convolutions as it is written, in float64."""
    for name, layer in layers:
        if isinstance(layer, Relu):
            x = np.maximum(x, 0)
        else:
            weights = variables[name]["params"]
            kernel = np.float64(weights["kernel"])[0, 0]
            x = np.float64(x) @ kernel + np.float64(weights["bias"])
    return x


@pytest.fixture(scope="module")
def learned():
    """(method, params, metrics) after all steps."""
    return trained()


@pytest.fixture(scope="module")
def shown():
    """(covers, secrets) [32, H, W, C] that no training saw."""
    return tuple(np.float32(bars(s, 32)[0]) / 255 for s in (1, 2))


@pytest.fixture(scope="module")
def receiver(learned):
    """(hide, reveal), compiled."""
    return jax.jit(learned[0].hide), jax.jit(learned[0].reveal)


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
    values = np.float32([-0.2, 0.1, 0.5019, 0.99, 1.3]).reshape(1, 1, -1, 1)
    wanted = np.round(255 * np.clip(values, 0, 1)).astype(np.float32) / 255
    rounded, passed = jax.jit(lambda x: jax.vjp(module._straight_through, x))(values)
    np.testing.assert_allclose(rounded, wanted, atol=1e-7)
    (slope,) = jax.jit(lambda: passed(np.full_like(values, 3)))()
    np.testing.assert_array_equal(slope.ravel(), [0, 3, 3, 3, 0])


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_the_loss_is_the_printed_sum_of_two_distances(learned, shown, distance):
    _, params, _ = learned
    covers, secrets = shown
    networks = pixelwise(8, 1)
    loss = jax.jit(module._loss(networks, distance))
    batch = module._Batch(covers, secrets, np.float32(0.5))
    value, (_, errors) = loss(params, {}, None, batch, HYPER, ())
    prepared = run(networks.prep, params["prep"], secrets)
    beside = np.concatenate([covers, prepared], -1)
    raw = covers + run(networks.hide, params["hide"], beside)
    stego = np.round(255 * np.clip(raw, 0, 1)) / 255
    revealed = run(networks.reveal, params["reveal"], stego)
    power = {"squared": 2, "absolute": 1}[distance]
    cover_error = (np.abs(raw - covers) ** power).mean()
    secret_error = (np.abs(revealed - secrets) ** power).mean()
    of_cover, of_secret = (float(errors[f"{x}_error"]) for x in ("cover", "secret"))
    assert of_cover == pytest.approx(cover_error, rel=1e-4)
    assert of_secret == pytest.approx(secret_error, rel=2e-2)  # a level may be rounded
    assert float(value) == pytest.approx(of_cover + 0.3 * of_secret, rel=1e-5)


@pytest.mark.parametrize("shape", [(14, 14, 1), (16, 12, 3)])
def test_ssim_of_the_loss_is_the_metric_s_of_what_is_clipped(shape):
    draw = np.random.default_rng(0)
    wanted = draw.uniform(size=(3, *shape)).astype(np.float32)
    raw = (wanted + draw.normal(0, 0.3, wanted.shape)).astype(np.float32)
    alike = [
        np.pad(x, ((0,) * 2, (5, 5), (5, 5), (0,) * 2), "edge")
        for x in (np.clip(raw, 0, 1), wanted)
    ]
    squared = ((raw - wanted) ** 2).mean()
    loss = squared + 0.02 * (1 - oracles.ssim_gaussian(*alike).mean())
    distance = jax.jit(module._squared_and_ssim)
    assert float(distance(raw, wanted)) == pytest.approx(loss, rel=1e-5)
    bright = np.full((3, *shape), 1.2, np.float32)
    error = float(distance(bright, np.ones_like(bright)))
    assert error == pytest.approx(0.04, rel=1e-3), "clipped, it is the cover"


def test_the_covers_error_does_not_reach_the_reveal_network(learned, shown):
    _, params, _ = learned
    loss = module._loss(pixelwise(8, 1), "squared")

    @jax.jit
    def slopes(params, covers, secrets):
        batch = module._Batch(covers, secrets, np.float32(0))

        def of(params):
            value, (_, errors) = loss(params, {}, None, batch, HYPER, ())
            return errors["cover_error"], value

        return jax.jacrev(of)(params)

    alone, both = (
        {
            name: max(abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(part))
            for name, part in grown.items()
        }
        for grown in slopes(params, *shown)
    )
    assert alone["reveal"] == 0 and alone["hide"] > 0
    assert min(both.values()) > 0, "the secret's error must reach all three"


def test_it_learns_to_hide_and_to_reveal_what_eight_bits_keep(learned, shown, receiver):
    _, params, history = learned
    covers, secrets = shown
    stego = np.asarray(receiver[0](params, covers, secrets))
    levels = 255 * stego
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert stego.min() >= 0 and stego.max() <= 1
    error = ((stego - covers) ** 2).mean()
    revealed = np.asarray(receiver[1](params, stego))
    missed = ((revealed - secrets) ** 2).mean()
    constant = ((secrets.mean(0, keepdims=True) - secrets) ** 2).mean()
    assert error < 6e-3, f"the stego of 32 images is {error} from the cover"  # 0.003
    assert missed < constant / 8, f"{missed}, the mean of 32 images {constant}"  # 1/24
    wrong = ((revealed - secrets[::-1]) ** 2).mean()
    assert missed < wrong / 8, "what is revealed is the image's own secret"
    assert history["loss"].shape == (STEPS,)


def test_beta_falls_over_the_first_half_from_a_start_of_its_own():
    images, draw = jnp.asarray(bars(0, 40)[0]), module._draw(8, 100)

    @jax.jit
    def weight(index, beta_start):
        hyper = {"beta": np.float32(0.2), "beta_start": beta_start}
        early = draw(jax.random.key(0), index, images, ()).early
        return module._weight(hyper, early)

    def betas(beta_start):
        return [
            float(weight(np.int32(i), np.float32(beta_start))) for i in (0, 25, 50, 99)
        ]

    np.testing.assert_allclose(betas(0.8), [0.8, 0.4, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(betas(0.0), [0.2] * 4, rtol=1e-6)


def test_an_epoch_sees_every_image_once_as_cover_and_once_as_secret():
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    draw, key = jax.jit(module._draw(5, 8)), jax.random.key(1)
    batches = [draw(key, np.int32(index), images, ()) for index in range(8)]
    for part in ("covers", "secrets"):
        drawn = np.concatenate([np.ravel(getattr(batch, part)) for batch in batches])
        for epoch in drawn.reshape(2, 20):
            np.testing.assert_allclose(255 * np.sort(epoch), np.arange(20), atol=1e-4)
    record = Nns(network="n16", epochs=3, batch_size=8)
    method = registry.construct(nns, SHAPE, record, Context(train_count=20))
    fitting = method.fit(
        jax.random.key(0), traced_half(record), np.zeros((20, *SHAPE), np.uint8)
    )
    assert next(fitting).recipe.steps == 8, "3 epochs of 20 images, rounded up"


def test_hiding_is_measured(learned):
    images, labels = bars(3, 250)
    split, partition = Split(images, labels), Partition((2, 3), (0, 1))
    pairs = accuracy.test_pairs(0, images, labels, partition)
    method, params, _ = learned
    hider = hiding.Hider(stego=method, learned=params, defense=PLAIN, params=())
    row = hiding.measure(hider, split, pairs, split).row
    assert row["psnr_cover_stego_n"] == len(pairs.secrets)
    assert row["psnr_cover_stego_min"] <= row["psnr_cover_stego_mean"]
    assert row["psnr_cover_stego_mean"] <= row["psnr_cover_stego_max"]
    better = row["psnr_revealed_secret_mean"] - row["psnr_mean_image_secret_mean"]
    assert better > 5, f"{better} dB of {len(pairs.secrets)} secrets"
    hiding.require_hidden(method, params, split)
    hiding.require_hidden(*lsb(), split)


def test_a_revealed_secret_that_is_exact_does_not_let_a_blank_network_pass(learned):
    _, params, _ = learned
    blank = lsb()[0]._replace(
        hide=lambda learned, cover, secret: cover,
        reveal=lambda learned, stego: jnp.zeros_like(stego),
    )
    images, labels = bars(3, 250)
    images[0] = 0  # what is revealed of it is infinitely near
    with pytest.raises(ValueError, match="hides nothing"):
        hiding.require_hidden(blank, params, Split(images, labels))


@pytest.mark.parametrize("how", [{"beta": 1e-6}, {"distance": "absolute"}])
def test_networks_that_hide_nothing_are_refused(how):
    blank, unread, _ = trained(for_steps(20 if "beta" in how else 60), **how)
    with pytest.raises(ValueError, match="hides nothing: what it reveals is") as error:
        hiding.require_hidden(blank, unread, Split(*bars(3, 250)))
    assert "\n" not in str(error.value)


def test_beta_is_traced_and_its_start_too():
    images, three = jnp.asarray(bars(0, 256)[0]), for_steps(3)
    betas = [(0.25, 0.0), (1.0, 0.0), (0.25, 2.0), (1.0, 2.0)]
    records = [record_of(beta=beta, beta_start=first) for beta, first in betas]
    assert len({build(r, SHAPE, Context(train_count=48)) for r in records}) == 1
    method = method_of(records[0])

    def losses(hyper):
        fitting = method.fit(jax.random.key(0), hyper, images)
        return np.asarray(drive(fitting, three)[1]["nns"]["loss"])

    few = losses(traced_half(records[0]))
    programs = loop._stepped._cache_size()
    much, falling, both = (losses(traced_half(record)) for record in records[1:])
    assert loop._stepped._cache_size() == programs
    assert (much[1:] > few[1:] + 1e-3).all()
    assert (both[1:] > falling[1:] + 1e-3).all()
    assert falling[0] > few[0] + 1e-3


def test_every_channel_of_a_colour_secret_counts():
    method, params = untrained(record_of(), (12, 12, 3))
    draw = np.random.default_rng(0)
    cover, secret = draw.uniform(size=(2, 2, 12, 12, 3)).astype(np.float32)
    hide = jax.jit(method.hide)
    stego = np.asarray(hide(params, cover, secret))
    revealed = jax.eval_shape(method.reveal, params, stego)
    assert revealed.shape == stego.shape == cover.shape
    for channel in range(3):
        other = secret.copy()
        other[..., channel] = 1 - other[..., channel]
        assert not np.array_equal(hide(params, cover, other), stego)


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
        method.hide(params, shown[0], np.zeros((32, 28, 28, 1), np.float32))
    images = np.zeros((4, 28, 28, 1), np.uint8)
    with pytest.raises(ValueError, match=r"cover has shape \(28, 28, 1\)"):
        drive(method.fit(jax.random.key(0), traced_half(Nns()), images))
    with pytest.raises(ValueError, match="unknown network 'n33'.*n32"):
        Nns(network="n33")
    with pytest.raises(ValueError, match="unknown distance"):
        Nns(distance="L3")


def test_what_another_network_learned_is_refused_in_one_line():
    image = np.zeros((1, *SHAPE), np.float32)
    (narrow, _), (wide, params) = (
        untrained(record_of(network=n)) for n in ("n16", "n32")
    )
    for learned in (params, (), {**params, "reveal": {}}, lsb()[1]):
        for call in (
            lambda p: narrow.hide(p, image, image),
            lambda p: narrow.reveal(p, image),
        ):
            with pytest.raises(ValueError, match="not those of network 'n16'") as error:
                call(learned)
            assert "\n" not in str(error.value)
    assert jax.eval_shape(wide.hide, params, image, image).shape == image.shape


def test_the_networks_are_traced_once_for_their_variables(monkeypatch):
    calls, init = [], module._init
    monkeypatch.setattr(module, "_init", lambda *a: calls.append(a) or init(*a))
    record, image = Nns(network="n16"), np.zeros((1, *SHAPE), np.float32)
    method = nns(SHAPE, static_half(record), Context(train_count=1))
    for _ in range(3):
        params = jax.eval_shape(
            lambda key: begun(method, record, key), jax.random.key(0)
        )
        stego = jax.eval_shape(method.hide, params, image, image)
        jax.eval_shape(method.reveal, params, stego)
    assert len(calls) == 1
