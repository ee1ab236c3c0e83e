"""From a reconstruction of the stego to the secret in it: who knows the method.

The cloud rebuilds what entered the edge, the stego, and then does what the receiver of
a hidden message does: takes the low bits, or runs the reveal network. With LSB an error
of one grey level in the reconstruction already flips the lowest bit, so this
understates what the features show; `direct` is the attacker who learns to read them.

Source: GHOST Fig. 10, row 6 (the low 3 bits of an inversion).
"""

from typing import Any

from jax import Array

from ghostjax.base import Attack, Key, Knowledge, Stego


def extract(inner: Attack, stego: Stego) -> Attack:
    """`inner`, then the stego method's `reveal`.

    Args:
      inner: rebuilds the stego from the features.
      stego: the method the secrets were hidden with.

    Returns:
      An Attack that needs what `inner` needs and `stego_params`. `invert` gives the
      secrets, and as trace {"images": what the inner attack rebuilt [B, H, W, C],
      "trace": its trace}.
    """

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        learned, metrics = inner.fit(key, knowledge, train)
        return {"inner": learned, "stego": knowledge.stego_params}, metrics

    def invert(params: Any, key: Key, features: Array) -> tuple[Array, Any]:
        images, trace = inner.invert(params["inner"], key, features)
        secrets = stego.reveal(params["stego"], images)
        return secrets, {"images": images, "trace": trace}

    needs = (*inner.needs, "stego_params")
    return Attack(f"extract({inner.name})", needs, fit, invert)
