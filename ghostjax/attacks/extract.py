"""From a reconstruction of the stego to the secret in it, where the method is known.

The cloud rebuilds what entered the edge, the stego, and then does what the receiver of
a hidden message does: takes the low bits, or runs the reveal network. With LSB an error
of one grey level in the reconstruction already flips the lowest bit, so this
understates what the features show; `direct` is the attacker that learns to read them.

Source: GHOST Fig. 10, row 6 (the low 3 bits of an inversion).
"""

from functools import partial
from typing import Any

import jax

from ghostjax.base import (
    Attack,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    Params,
    Stego,
    limit,
)
from ghostjax.fields import Hyper
from ghostjax.training.fit import Fit

__all__ = ["extract"]


def extract(inner: Attack, stego: Stego) -> Attack:
    """`inner`, then the stego method's `reveal`.

    Args:
      inner: rebuilds the stego from the features.
      stego: the method the secrets were hidden with.

    Returns:
      An Attack that needs what `inner` needs and `stego_params`. Its inversions are the
      inner attack's, with `secrets`. Params are {"inner", "stego"}; `hyper` is the
      inner attack's.
    """

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        known = limit(knowledge, inner.needs)
        learned = yield from inner.fit(key, hyper, known)
        return {"inner": learned, "stego": knowledge.stego_params}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        rebuilt = inner.invert(params["inner"], key, features, hyper)
        secrets = _reveal(stego, params["stego"], rebuilt.images)
        return rebuilt._replace(secrets=secrets)

    return inner._replace(
        name=f"extract({inner.name})",
        needs=(*inner.needs, "stego_params"),
        fit=fit,
        invert=invert,
    )


@partial(jax.jit, static_argnums=0)
def _reveal(stego: Stego, params: Params, images: Images) -> Images:
    return stego.reveal(params, images)
