"""Knowing the scheme: stego pairs, a decoder to the secret, a probe for its class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import NETWORK, SHAPE, at, bars

from ghostjax import registry
from ghostjax.attacks import scheme
from ghostjax.attacks.records import Direct
from ghostjax.base import Context, Knowledge, limit
from ghostjax.evaluation import metrics
from ghostjax.fields import traced_half
from ghostjax.models import chain, reader
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive

EDGE, _ = chain.cut(NETWORK, "conv1")
LSB = {"bits": np.uint8(3)}
HIDING = registry.build(Lsb(bits=3), SHAPE, Context())
RECORD = Direct(epochs=1, batch_size=32, width=8, learning_rate=1e-2, probe_rate=5e-3)
HYPER = traced_half(RECORD)
STEPS = 150
DIRECT = registry.build(RECORD, at("conv1"), Context(public_count=32 * STEPS))


def _query(variables, key, images):
    return chain.apply(EDGE, variables, images)


def _encode(variables, key, secrets, covers):
    return chain.apply(EDGE, variables, HIDING.hide(LSB, covers, secrets))


@pytest.fixture(scope="module")
def scene():
    """(what is known, features of stegos, secrets, covers, the secrets' labels)."""
    variables = chain.init(EDGE, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    images, labels = map(jnp.asarray, bars(0, 400))
    query = Partial(_query, variables)
    encode = Partial(_encode, variables)
    known = Knowledge(
        query=query,
        public_images=images,
        public_labels=labels,
        stego_params=LSB,
        encode=encode,
    )
    shown, classes = bars(1, 100)
    secrets = jnp.asarray(shown, jnp.float32) / 255
    covers = jnp.roll(secrets, 7, axis=0)
    features = encode(None, secrets, covers)
    return known, features, secrets, covers, classes


def test_pairs_are_hidden_as_the_user_hides(scene):
    known = scene[0]
    data = scheme.stegos(known, jax.random.key(0))
    batch = scheme.draw(16, jax.random.key(1), 0, *data)
    again, later = (
        scheme.draw(16, jax.random.key(1), index, *data) for index in (0, 1)
    )
    np.testing.assert_array_equal(batch.magnified, again.magnified)
    assert not np.array_equal(batch.secrets, later.secrets)
    pixels = known.public_images.astype(jnp.float32) / 255
    # Each feature map is that of its secret, with its label, in one of the images.
    for place in range(4):
        secret = batch.secrets[place : place + 1]
        (row,) = np.flatnonzero((pixels == secret).all((1, 2, 3)))[:1]
        assert known.public_labels[row] == batch.labels[place]
        hidden = HIDING.hide(LSB, pixels, jnp.broadcast_to(secret, pixels.shape))
        every = reader.magnify(data[1].scales, known.query(None, hidden))
        assert jnp.abs(every - batch.magnified[place][None]).max((1, 2, 3)).min() < 1e-5


def test_an_epoch_has_every_image_as_secret(scene):
    known = scene[0]._replace(public_images=scene[0].public_images[:64])
    data = scheme.stegos(known, jax.random.key(0))
    drawn = [
        scheme.draw(16, jax.random.key(1), index, *data).secrets for index in range(4)
    ]
    sums = np.sort(np.concatenate(drawn).sum((1, 2, 3)))
    pixels = known.public_images.astype(jnp.float32) / 255
    np.testing.assert_allclose(sums, np.sort(pixels.sum((1, 2, 3))), rtol=1e-5)


def test_the_decoder_reads_secrets_and_not_covers(scene):
    known, features, secrets, covers, _ = scene
    seen = limit(known, DIRECT.needs)
    params, history = drive(DIRECT.fit(jax.random.key(2), HYPER, seen))
    shown = DIRECT.invert(params, jax.random.key(3), features, HYPER)
    assert history["direct"]["loss"].shape == (STEPS,) and shown.trace == ()
    assert DIRECT.gives_secrets and shown.secrets is None
    against = [float(metrics.psnr(shown.images, x).mean()) for x in (secrets, covers)]
    mean = jnp.broadcast_to(known.public_images.mean(0)[None] / 255, secrets.shape)
    assert against[0] > against[1] + 3
    assert against[0] > float(metrics.psnr(mean, secrets).mean()) + 3


def _plainly(query, key, secrets, covers):
    return query(key, secrets)


@pytest.mark.parametrize("hides", [True, False])
def test_the_probe_tells_the_secrets_class(scene, hides):
    known, hidden, secrets, _, labels = scene
    features = hidden if hides else known.query(None, secrets)
    if not hides:
        known = known._replace(encode=Partial(_plainly, known.query))
    asked = DIRECT.probe
    seen = limit(known, asked.needs)
    params, history = drive(asked.fit(jax.random.key(2), HYPER, seen))
    right = np.asarray(asked.answer(params, features).argmax(-1)) == labels
    assert right.mean() > 0.85
    assert float(history["probe"]["accuracy"][-20:].mean()) > 0.85


def test_a_perturbation_is_no_riddle_to_a_user(scene):
    """Pixels turned upside down on the way, as by a generator: it has seen it done."""
    known, _, secrets, covers, _ = scene

    def encode(query, key, secrets, covers):
        return query(key, 1 - HIDING.hide(LSB, covers, secrets))

    turned = Partial(encode, known.query)
    reached = []
    for what in (turned, known.encode):  # the user's own edge, and the scheme alone
        seen = limit(known._replace(encode=what), DIRECT.needs)
        params, _ = drive(DIRECT.fit(jax.random.key(2), HYPER, seen))
        features = turned(None, secrets, covers)
        shown = DIRECT.invert(params, None, features, HYPER)
        reached.append(float(metrics.psnr(shown.images, secrets).mean()))
    assert reached[0] > reached[1] + 3
