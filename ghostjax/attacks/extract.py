"""From a reconstruction of the stego to the secret in it, where the method is known.

The cloud rebuilds what entered the edge, the stego, and then does what the receiver of
a hidden message does: takes the low bits, or runs the reveal network. With LSB an error
of one grey level in the reconstruction already flips the lowest bit, so this
understates what the features show: a guess (`stego.lsb.guess_bits`) reckons with it, a
denoiser learns to repair what is read (`denoise.pairs = "extracted"`), and `direct` is
the attacker that learns to read the features.

Source: GHOST Fig. 10, row 6 (the low 3 bits of an inversion).
"""

from collections.abc import Callable
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


def extract(inner: Attack, stego: Stego, reading: str) -> Attack:
    """`inner`, then the stego method's `reveal` or another reading of it.

    Args:
      inner: rebuilds the stego from the features.
      stego: the method the secrets were hidden with.
      reading: how: see `Stego.reader`.

    Returns:
      An Attack that needs what `inner` needs and `stego_params`. Its inversions are the
      inner attack's, with `secrets` and, where a denoiser has smoothed the low bits
      away, with those from before. Params are {"inner", "stego"}; `hyper` is the inner
      attack's.

    Raises:
      ValueError: the method has no such reading.
    """
    read = stego.reader(reading)

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        known = limit(knowledge, inner.needs)
        learned = yield from inner.fit(key, hyper, known)
        return {"inner": learned, "stego": knowledge.stego_params}

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        rebuilt = inner.invert(params["inner"], key, features, hyper)
        before = rebuilt.before_denoising
        if before is not None:
            before = _read(read, params["stego"], before)
        secrets = _read(read, params["stego"], rebuilt.images)
        return rebuilt._replace(secrets=secrets, secrets_before=before)

    return inner._replace(
        name=f"extract({inner.name})",
        needs=tuple(dict.fromkeys((*inner.needs, "stego_params"))),
        fit=fit,
        invert=invert,
        extracts=True,
    )


@partial(jax.jit, static_argnums=0)
def _read(
    read: Callable[[Params, Images], Images], params: Params, images: Images
) -> Images:
    return read(params, images)
