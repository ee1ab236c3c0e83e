"""Knowing the scheme: stego pairs, a decoder to the secret, a probe for its class."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax.tree_util import Partial
from oracles import psnr
from probes import SHAPE, at, bars

from ghostjax import registry
from ghostjax.attacks import scheme
from ghostjax.attacks.records import Direct
from ghostjax.base import Context, Knowledge, limit
from ghostjax.fields import traced_half
from ghostjax.models import chain, reader
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive

EDGE = at("conv1").edge
LSB = {"bits": np.uint8(3)}
HIDING = registry.build(Lsb(bits=3), SHAPE, Context())
RECORD = Direct(epochs=1, batch_size=16, width=8, learning_rate=1e-2, probe_rate=1e-2)
HYPER = traced_half(RECORD)
STEPS = {"direct": 40, "probe": 120}  # a decoder's last layer is solved
DIRECT, _ASKING = (
    registry.build(RECORD, at("conv1"), Context(public_count=16 * steps))
    for steps in STEPS.values()
)
PROBE = _ASKING.probe
draw = jax.jit(partial(scheme.draw, 16))


def _query(variables, key, images):
    return chain.apply(EDGE, variables, images)


def _encode(held, key, secrets, covers):
    """What is done to secrets is said by arrays, so that one program does it all."""
    variables, hides, turned = held
    images = jnp.where(hides, HIDING.hide(LSB, covers, secrets), secrets)
    return chain.apply(EDGE, variables, jnp.where(turned, 1 - images, images))


def encoder(variables, hides=True, turned=False):
    return Partial(_encode, (variables, np.bool_(hides), np.bool_(turned)))


@jax.jit
def send(encode, *images):
    """Features of any encoder or query, which are pytrees."""
    return encode(None, *images)


class Scene(NamedTuple):
    """What is known, and secrets that are sent."""

    variables: chain.Variables
    known: Knowledge
    features: jax.Array  # of stegos
    secrets: np.ndarray
    covers: np.ndarray
    labels: np.ndarray  # of the secrets


@pytest.fixture(scope="module")
def scene():
    variables = small.variables(EDGE, SHAPE)
    images, labels = map(jax.device_put, bars(0, 400))
    known = Knowledge(
        query=Partial(_query, variables),
        public_images=images,
        public_labels=labels,
        stego_params=LSB,
        encode=encoder(variables),
    )
    shown, classes = bars(1, 100)
    secrets = np.float32(shown) / 255
    covers = np.roll(secrets, 7, axis=0)
    features = send(known.encode, secrets, covers)
    return Scene(variables, known, features, secrets, covers, classes)


@pytest.fixture(scope="module")
def stegos(scene):
    return scheme.stegos(scene.known, jax.random.key(0))


@pytest.fixture(scope="module")
def learned(scene):
    """(params, history) of the decoder."""
    return fit(DIRECT, scene.known)


def fit(learner, known):
    seen = limit(known, learner.needs)
    return drive(learner.fit(jax.random.key(2), HYPER, seen))


def quality(params, features, images):
    """Of what the attack shows, in dB."""
    shown = DIRECT.invert(params, jax.random.key(3), features, HYPER)
    assert shown.trace == () and shown.secrets is None
    return psnr(shown.images, images).mean()


def test_pairs_are_hidden_as_the_user_hides(scene, stegos):
    known = scene.known
    batch, again, later = (draw(jax.random.key(1), i, *stegos) for i in (0, 0, 1))
    np.testing.assert_array_equal(batch.magnified, again.magnified)
    assert not np.array_equal(batch.secrets, later.secrets)
    pixels = np.float32(known.public_images) / 255
    secrets = np.asarray(batch.secrets)

    @jax.jit
    def hidden_in_every(secret):
        hidden = HIDING.hide(LSB, pixels, np.zeros_like(pixels) + secret)
        return reader.magnify(stegos[1].scales, known.query(None, hidden))

    # Each feature map is that of its secret, with its label, in one of the images.
    for place in range(4):
        secret = secrets[place : place + 1]
        (row,) = np.flatnonzero(np.isclose(pixels, secret).all((1, 2, 3)))[:1]
        assert known.public_labels[row] == batch.labels[place]
        every = np.asarray(hidden_in_every(secret))
        apart = abs(every - np.asarray(batch.magnified)[place]).max((1, 2, 3))
        assert apart.min() < 1e-5


def test_an_epoch_has_every_image_as_secret(scene, stegos):
    batches = [draw(jax.random.key(1), index, *stegos) for index in range(25)]
    drawn = np.concatenate([batch.secrets for batch in batches])
    pixels = np.float32(scene.known.public_images) / 255
    sums = (np.sort(images.sum((1, 2, 3))) for images in (drawn, pixels))
    np.testing.assert_allclose(*sums, rtol=1e-5)


def test_the_decoder_reads_secrets_and_not_covers(scene, learned):
    params, history = learned
    assert (
        history["direct"]["loss"].shape == (STEPS["direct"],) and DIRECT.gives_secrets
    )
    against = [
        quality(params, scene.features, images)
        for images in (scene.secrets, scene.covers)
    ]
    mean = np.asarray(scene.known.public_images).mean(0)[None] / 255
    trivial = psnr(np.broadcast_to(mean, scene.secrets.shape), scene.secrets).mean()
    assert against[0] > max(against[1], trivial) + 3


@pytest.mark.parametrize("hides", [True, False])
def test_the_probe_tells_the_secrets_class(scene, hides):
    known = scene.known._replace(encode=encoder(scene.variables, hides))
    features = send(known.encode, scene.secrets, scene.covers)
    params, history = fit(PROBE, known)
    answers = np.asarray(PROBE.answer(params, features)).argmax(-1)
    right = (answers == scene.labels).mean()
    assert right > 0.85, f"{right} of {len(answers)}, bound 0.85"
    assert np.asarray(history["probe"]["accuracy"])[-20:].mean() > 0.85


def test_a_perturbation_is_no_riddle_to_a_user(scene, learned):
    """Pixels turned upside down on the way, as by a generator: it has seen it done."""
    turned = encoder(scene.variables, turned=True)
    features = send(turned, scene.secrets, scene.covers)
    of_own_edge, _ = fit(DIRECT, scene.known._replace(encode=turned))
    reached = [
        quality(params, features, scene.secrets)
        for params in (of_own_edge, learned[0])  # the second knows the scheme alone
    ]
    assert reached[0] > reached[1] + 3
