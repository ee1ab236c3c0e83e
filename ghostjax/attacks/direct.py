"""Who is a user himself: a decoder from features straight to the secret.

The attacker has the user's edge, hiding and all (the app is public). He sends secrets
of his own through it and trains a decoder to give them back (scheme.py). Unlike
`extract` he need not rebuild the stego to the last bit first, and a generator's
perturbation is no riddle to him. Where nothing is hidden he is `inverse`, with features
at two scales.

Our addition; GHOST's attackers do not know that anything is hidden.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.attacks import scheme
from ghostjax.attacks.decoder import decoder
from ghostjax.attacks.inverse import require_shape
from ghostjax.attacks.pairs import Settings, fit_decoder
from ghostjax.base import Attack, Features, Key, Knowledge
from ghostjax.chain import apply
from ghostjax.defenses import covert
from ghostjax.train import Draw


def direct(
    feature_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    learning_rate: Array | float = 4e-3,
) -> Attack:
    """The attack on features of stego images.

    Args:
      feature_shape: of one image, [h, w, c] or [values].
      image_shape: [H, W, C].
      settings: static choices.
      learning_rate: peak rate; traced.

    Returns:
      An Attack that needs `query`, `public_images` and `encode`. `invert` gives the
      secrets, clipped to [0, 1], ignores its key and gives no trace. Params are
      {"decoder", "scales"}, metrics {"direct": ...}.

    Raises:
      ValueError: features larger than the image; when called, of another shape.
    """
    network = decoder(feature_shape, image_shape, settings.width)

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        scale_key, train_key = jax.random.split(key)
        data = scheme.stegos(knowledge, scale_key)
        learned, metrics = fit_decoder(
            train_key,
            network,
            data,
            learning_rate,
            settings=settings,
            draw=_draw(settings.batch_size),
            train=train,
            part="direct",
        )
        return {"decoder": learned, "scales": data.scales}, metrics

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, tuple[()]]:
        require_shape(features, feature_shape)
        magnified = covert.magnify(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], magnified), 0.0, 1.0), ()

    needs = ("query", "public_images", "encode")
    return Attack("direct", needs, fit, invert)


@lru_cache(maxsize=16)
def _draw(batch_size: int) -> Draw:
    def draw(key, index, data):
        batch = scheme.draw(batch_size, key, index, data)
        return batch.magnified, batch.secrets

    return draw
