"""An attacker that is itself a user: a decoder from features straight to the secret.

The attacker has the user's edge, hiding and all (the app is public). It sends secrets
of its own through it and trains a decoder to give them back (scheme.py). Unlike
`extract` it need not rebuild the stego to the last bit first, and a generator's
perturbation is no riddle to it. Where nothing is hidden it is `inverse`, with features
at two scales. Beside it the probe (probe.py) asks for the secret's label.

Our addition; GHOST's attackers do not know that anything is hidden.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.attacks import scheme
from ghostjax.attacks.decoder import decoder
from ghostjax.attacks.inverse import require_shape
from ghostjax.attacks.pairs import decoder_learner, recipe_of
from ghostjax.attacks.probe import probe
from ghostjax.attacks.records import Direct
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    limit,
)
from ghostjax.fields import Hyper
from ghostjax.models import reader
from ghostjax.models.chain import apply
from ghostjax.training.fit import Draw, Fit

__all__ = ["direct"]


def direct(cut: Cut, record: Direct, context: Context) -> Attack:
    """The attack on features of stego images.

    Args:
      cut: only its shapes and the number of classes count.
      record: the learning rates are traced.
      context: `public_count`, the images of an epoch.

    Returns:
      An Attack that needs `query`, `public_images` and `encode`, with a probe. `invert`
      gives the secrets, clipped to [0, 1], and ignores its key. Params are {"decoder",
      "scales"}; its training is "direct".

    Raises:
      ValueError: features larger than the image; when called, of another shape.
    """
    feature_shape = cut.feature_shape
    network = decoder(feature_shape, cut.image_shape, record.width)
    learner = decoder_learner(
        network,
        scheme.magnified_shape(feature_shape),
        draw=_draw(record.batch_size),
        recipe=recipe_of(record, context.public_count),
        part="direct",
    )

    @jax.jit
    def show(params: Any, features: Features) -> Images:
        magnified = reader.magnify(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], magnified), 0.0, 1.0)

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        scale_key, train_key = jax.random.split(key)
        known = limit(knowledge, record.needs)  # labels are the probe's alone
        public, sending = scheme.stegos(known, scale_key)
        rate = {"learning_rate": hyper["learning_rate"]}
        learned = yield from learner.fit(train_key, rate, public, sending)
        return {"decoder": learned, "scales": sending.scales}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        require_shape(features, feature_shape)
        return Inversion(show(params, features))

    return Attack(
        "direct",
        record.needs,
        fit,
        invert,
        gives_secrets=True,
        probe=probe(cut, record, context),
        keyless=True,
    )


def _draw(batch_size: int) -> Draw:
    def draw(
        key: Key, index: Array, shared: scheme.Public, own: scheme.Sending
    ) -> tuple[Array, Images]:
        batch = scheme.draw(batch_size, key, index, shared, own)
        return batch.magnified, batch.secrets

    return draw
