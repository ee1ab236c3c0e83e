"""No defense: the features of the image itself cross the cut.

The baseline every defense is measured against. Covers are ignored.
"""

from functools import lru_cache
from typing import Any

from ghostjax.base import Defense
from ghostjax.chain import Chain, apply


def plain(edge: Chain, cloud: Chain) -> Defense:
    """The target network as it is, cut in two.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.

    Returns:
      A Defense whose params are the target's own variables.
    """

    encode, encode_public, answer = _functions(edge, cloud)

    def fit(key, task, train):
        return {"edge": task.edge_variables, "cloud": task.cloud_variables}, {}

    return Defense("plain", fit, encode, encode_public, answer)


@lru_cache(maxsize=64)  # the same functions again share compiled programs
def _functions(edge: Chain, cloud: Chain) -> Any:
    def encode_public(params, key, images):
        return apply(edge, params["edge"], images)

    def encode(params, key, images, covers):
        return encode_public(params, key, images)

    def answer(params, features):
        return apply(cloud, params["cloud"], features)

    return encode, encode_public, answer
