"""The functions of a defense that hides nothing: no covers, the cloud half answers.

Sensitive and public images leave the edge alike: the edge does not know which is which.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from jax import Array

from ghostjax.base import Features, Images, Key, Logits, Params
from ghostjax.chain import Chain, apply


class Functions(NamedTuple):
    """Fields of `base.Defense`, in its order."""

    encode: Callable[[Params, Key, Images, Images], Features]
    encode_public: Callable[[Params, Key, Images], Features]
    answer: Callable[[Params, Features], Logits]


@lru_cache(maxsize=64)  # the same functions again share compiled programs
def uncovered(
    encode_public: Callable[[Params, Key, Images], Features], cloud: Chain
) -> Functions:
    """The three functions around what the edge does to any image.

    Args:
      encode_public: as in `base.Defense`; pass the same object again to share programs.
      cloud: the layers behind the cut; their variables are `params["cloud"]`.
    """

    def encode(params: Params, key: Key, images: Images, covers: Images) -> Features:
        return encode_public(params, key, images)

    def answer(params: Params, features: Array) -> Logits:
        return apply(cloud, params["cloud"], features)

    return Functions(encode, encode_public, answer)
