"""The generator of GHOST+: from a stego picture to a perturbation of its size.

AdvGAN's encoder, residual blocks and decoder, as its public code has them for MNIST
and CIFAR-10: 28 -> 26 -> 12 -> 5 -> 11 -> 23 -> 28, and 32 -> 30 -> 14 -> 6 -> 13 -> 27
-> 32. InstanceNorm everywhere, where they have BatchNorm in the residual blocks: no
running statistics, and no image's perturbation depends on the others of its batch.

Source: Xiao et al., IJCAI 2018; mathcbc/advGAN_pytorch (reference sheet 3.1).
"""

import jax.numpy as jnp
from jax import Array

from ghostjax.models.chain import Chain, Layers, Variables, apply, describe
from ghostjax.models.layers import Conv, ConvTranspose, InstanceNorm, Relu, Residual

__all__ = ["generator", "perturbation"]

_BLOCKS = 4


def generator(image_shape: tuple[int, int, int], inputs: int, width: int) -> Chain:
    """The layers; the last is linear, a tanh belongs behind it.

    Args:
      image_shape: [H, W, C] of the perturbation.
      inputs: channels of what the generator sees.
      width: filters of the first layer; the next have 2 and 4 times as many.

    Returns:
      A Chain from [B, H, W, inputs] to [B, H, W, C].

    Raises:
      ValueError: a size whose encoder and decoder do not meet again.
    """
    layers: Layers = []
    for place, (factor, stride) in enumerate(((1, 1), (2, 2), (4, 2)), 1):
        layers += [
            (f"encode{place}", Conv(factor * width, 3, stride=stride)),
            (f"encode{place}_norm", InstanceNorm()),
            (f"encode{place}_act", Relu()),
        ]
    layers += [(f"block{place}", Residual()) for place in range(1, _BLOCKS + 1)]
    for place, factor in enumerate((2, 1), 1):
        layers += [
            (f"decode{place}", ConvTranspose(factor * width, 3, 2)),
            (f"decode{place}_norm", InstanceNorm()),
            (f"decode{place}_act", Relu()),
        ]
    layers.append(("perturbation", ConvTranspose(image_shape[-1], 6, 1)))
    shape = describe(tuple(layers), (*image_shape[:2], inputs))[-1].shape
    if shape != tuple(image_shape):
        raise ValueError(
            f"the generator makes {shape} of images {tuple(image_shape)}: it fits "
            "sides of 4 n, such as 28 and 32"
        )
    return tuple(layers)


def perturbation(
    layers: Chain, variables: Variables, bound: Array, seen: Array
) -> Array:
    """G: [B, H, W, inputs] to a change of pixels [B, H, W, C] in [-bound, bound]."""
    return bound * jnp.tanh(apply(layers, variables, seen))
