"""Who knows the scheme: a decoder from features straight to the secret.

The attacker knows that images are hidden and how. He hides his own images in each
other, queries them, and trains a decoder to give the secrets (scheme.py). Unlike
`extract` he need not rebuild the stego to the last bit first.

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
from ghostjax.base import Attack, Features, Key, Knowledge, Stego
from ghostjax.chain import apply
from ghostjax.defenses import covert
from ghostjax.train import Draw


def direct(
    feature_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    stego: Stego | None,
    settings: Settings,
    *,
    learning_rate: Array | float = 4e-3,
) -> Attack:
    """The attack on features of stego images.

    Args:
      feature_shape: of one image, [h, w, c] or [values].
      image_shape: [H, W, C].
      stego: the method the secrets are hidden with.
      settings: static choices.
      learning_rate: peak rate; traced.

    Returns:
      An Attack that needs `query`, `public_images` and `stego_params`. `invert` gives
      the secrets, clipped to [0, 1], ignores its key and gives no trace. Params are
      {"decoder", "scales"}, metrics {"direct": ...}.

    Raises:
      ValueError: `stego` is None; features larger than the image; when called, of
        another shape.
    """
    if stego is None:
        raise ValueError(
            "nothing is hidden here: use the attack 'inverse', not 'direct'"
        )
    network = decoder(feature_shape, image_shape, settings.width)

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        scale_key, train_key = jax.random.split(key)
        data = scheme.stegos(knowledge, stego, scale_key)
        learned, metrics = fit_decoder(
            train_key,
            network,
            data,
            learning_rate,
            settings=settings,
            draw=_draw(stego, settings.batch_size),
            train=train,
            part="direct",
        )
        return {"decoder": learned, "scales": data.scales}, metrics

    def invert(params: Any, key: Key, features: Features) -> tuple[Array, tuple[()]]:
        require_shape(features, feature_shape)
        magnified = covert.magnify(params["scales"], features)
        return jnp.clip(apply(network, params["decoder"], magnified), 0.0, 1.0), ()

    needs = ("query", "public_images", "stego_params")
    return Attack("direct", needs, fit, invert)


@lru_cache(maxsize=16)
def _draw(stego: Stego, batch_size: int) -> Draw:
    def draw(key, index, data):
        batch = scheme.draw(stego, batch_size, key, index, data)
        return batch.magnified, batch.secrets

    return draw
