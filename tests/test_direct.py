"""Who knows the scheme: stego pairs, a decoder to the secret, a probe for its class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import NETWORK, SHAPE, bars

from ghostjax import chain, metrics, train
from ghostjax.attacks import scheme
from ghostjax.attacks.direct import direct
from ghostjax.attacks.pairs import Settings
from ghostjax.attacks.probe import probe
from ghostjax.base import Knowledge, limit
from ghostjax.defenses import covert
from ghostjax.stego import lsb
from ghostjax.train import Recipe

EDGE, _ = chain.cut(NETWORK, "conv1")
FEATURES = (12, 12, 8)
HIDING = lsb.lsb(3)
SETTINGS = Settings(Recipe(150, "adam", "one_cycle"), 32, 8)


def _query(variables, key, images):
    return chain.apply(EDGE, variables, images)


def _encode(variables, key, secrets, covers):
    return chain.apply(EDGE, variables, HIDING.hide((), covers, secrets))


@pytest.fixture(scope="module")
def scene():
    """(what is known, features of stegos, secrets, covers, the secrets' labels)."""
    variables = chain.init(EDGE, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    images, labels = map(jnp.asarray, bars(0, 400))
    query = Partial(_query, variables)
    encode = Partial(_encode, variables)
    known = Knowledge(None, None, query, images, labels, None, (), encode)
    shown, classes = bars(1, 100)
    secrets = jnp.asarray(shown, jnp.float32) / 255
    covers = jnp.roll(secrets, 7, axis=0)
    features = encode(None, secrets, covers)
    return known, features, secrets, covers, classes


def test_pairs_are_hidden_as_the_user_hides(scene):
    known = scene[0]
    data = scheme.stegos(known, jax.random.key(0))
    batch = scheme.draw(16, jax.random.key(1), 0, data)
    again, later = (scheme.draw(16, jax.random.key(1), index, data) for index in (0, 1))
    np.testing.assert_array_equal(batch.magnified, again.magnified)
    assert not np.array_equal(batch.secrets, later.secrets)
    pixels = known.public_images.astype(jnp.float32) / 255
    # Each feature map is that of its secret, with its label, in one of the images.
    for place in range(4):
        secret = batch.secrets[place : place + 1]
        (own,) = np.flatnonzero((pixels == secret).all((1, 2, 3)))[:1]
        assert known.public_labels[own] == batch.labels[place]
        hidden = HIDING.hide((), pixels, jnp.broadcast_to(secret, pixels.shape))
        every = covert.magnify(data.scales, known.query(None, hidden))
        assert jnp.abs(every - batch.magnified[place][None]).max((1, 2, 3)).min() < 1e-5


def test_an_epoch_has_every_image_as_secret(scene):
    known = scene[0]._replace(public_images=scene[0].public_images[:64])
    data = scheme.stegos(known, jax.random.key(0))
    drawn = [
        scheme.draw(16, jax.random.key(1), index, data).secrets for index in range(4)
    ]
    found = np.sort(np.concatenate(drawn).sum((1, 2, 3)))
    pixels = known.public_images.astype(jnp.float32) / 255
    np.testing.assert_allclose(found, np.sort(pixels.sum((1, 2, 3))), rtol=1e-5)


def test_the_decoder_reads_secrets_and_not_covers(scene):
    known, features, secrets, covers, _ = scene
    attacker = direct(FEATURES, SHAPE, SETTINGS, learning_rate=1e-2)
    seen = limit(known, attacker.needs)
    params, history = attacker.fit(jax.random.key(2), seen, train.fit)
    found, trace = attacker.invert(params, jax.random.key(3), features)
    assert history["direct"]["loss"].shape == (150,) and trace == ()
    against = [float(metrics.psnr(found, x).mean()) for x in (secrets, covers)]
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
    asked = probe(FEATURES, SHAPE, 4, SETTINGS, learning_rate=5e-3)
    seen = limit(known, asked.needs)
    params, history = asked.fit(jax.random.key(2), seen, train.fit)
    right = np.asarray(asked.answer(params, features).argmax(-1)) == labels
    assert right.mean() > 0.85
    assert float(history["probe"]["accuracy"][-20:].mean()) > 0.85


def test_a_perturbation_is_no_riddle_to_a_user(scene):
    """Pixels turned upside down on the way, as by a generator: he has seen it done."""
    known, _, secrets, covers, _ = scene

    def encode(query, key, secrets, covers):
        return query(key, 1 - HIDING.hide((), covers, secrets))

    own = Partial(encode, known.query)
    attacker = direct(FEATURES, SHAPE, SETTINGS, learning_rate=1e-2)
    reached = []
    for what in (own, known.encode):  # the user's own edge, and the scheme alone
        seen = limit(known._replace(encode=what), attacker.needs)
        params, _ = attacker.fit(jax.random.key(2), seen, train.fit)
        found, _ = attacker.invert(params, None, own(None, secrets, covers))
        reached.append(float(metrics.psnr(found, secrets).mean()))
    assert reached[0] > reached[1] + 3
