"""Hide only: secrets are hidden in covers and nothing is retrained.

The network answers for what it sees, the cover. What it says of the secret is what
GHOST's retraining and GHOST+'s perturbation start from, and their control.
"""

from typing import Any

from ghostjax.base import Defense, Stego
from ghostjax.chain import Chain, apply


def hide(edge: Chain, cloud: Chain, stego: Stego) -> Defense:
    """The target network as it is, shown stegos.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.
      stego: how secrets are hidden; what it learned is the task's.

    Returns:
      A Defense with params {"edge", "cloud", "stego"}.
    """

    def fit(key, task, train):
        halves = {"edge": task.edge_variables, "cloud": task.cloud_variables}
        return {**halves, "stego": task.stego}, {}

    def encode_public(params: Any, key, images):
        return apply(edge, params["edge"], images)

    def encode(params: Any, key, images, covers):
        hidden = stego.hide(params["stego"], covers, images)
        return apply(edge, params["edge"], hidden)

    def answer(params: Any, features):
        return apply(cloud, params["cloud"], features)

    return Defense("hide", fit, encode, encode_public, answer, hides=True, bare=True)
