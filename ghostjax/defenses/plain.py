"""No defense: the features of the image itself cross the cut.

The baseline every defense is measured against. Covers are ignored.
"""

from functools import lru_cache
from typing import Any

from ghostjax.base import Defense
from ghostjax.chain import Chain, apply
from ghostjax.defenses.uncovered import uncovered


def plain(edge: Chain, cloud: Chain) -> Defense:
    """The target network as it is, cut in two.

    Args:
      edge: layers on the device.
      cloud: the layers behind the cut.

    Returns:
      A Defense whose params are the target's own variables.
    """

    def fit(key, task, train):
        return {"edge": task.edge_variables, "cloud": task.cloud_variables}, {}

    return Defense("plain", fit, *uncovered(_encode(edge), cloud), bare=True)


@lru_cache(maxsize=64)
def _encode(edge: Chain) -> Any:
    def encode_public(params, key, images):
        return apply(edge, params["edge"], images)

    return encode_public
