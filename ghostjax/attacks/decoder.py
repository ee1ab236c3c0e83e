"""A network from features back to a picture, derived from the two shapes alone.

Convolutions and pools made [H, W, C] into [h, w, c]. The decoder goes the way back:
where h fits twice into H it doubles (nearest neighbour, then a convolution and ReLU),
and what valid convolutions took off the borders it grows back by convolutions over
padded maps, a k x k one by at most k - 1. `growths` says how much at which resolution;
on networks of valid convolutions and 2x2 pools it finds their own sizes, backwards.
Dense features first become a map of a quarter of the image's size.

The last layer is linear, without squashing, as He et al.'s; clip outside. They have
hand-made decoders of transposed convolutions for two or three cuts of each network
(reference/he_attacks.md, section 1); with ours every cut has one.
"""

from math import ceil
from typing import Any

from ghostjax.models.chain import Chain, Layers
from ghostjax.models.layers import Beside, Conv, Dense, Pad, Relu, Reshape, Upsample

__all__ = ["decoder", "growths"]

_MOST = 4  # that one convolution grows, 5x5


def decoder(
    feature_shape: tuple[int, ...], image_shape: tuple[int, int, int], width: int
) -> Chain:
    """The layers of a decoder.

    Args:
      feature_shape: [h, w, c] or [values] of one image's features; c does not count.
      image_shape: [H, W, C].
      width: filters of the hidden convolutions.

    Returns:
      A Chain from [B, *feature_shape] to [B, H, W, C]; its last layer is linear.

    Raises:
      ValueError: a feature map larger than the image.
    """
    if len(feature_shape) == 1:
        small = ceil(image_shape[0] / 4), ceil(image_shape[1] / 4), width
        dense: Layers = [
            ("dense", Dense(small[0] * small[1] * width)),
            ("dense_act", Relu()),
            ("map", Reshape(small)),
        ]
        return (*dense, *decoder(small, image_shape, width))
    layers: Layers = []
    levels = growths(feature_shape, image_shape)
    for level, (rows, columns) in enumerate(levels[:-1]):
        layers += _grow(f"{level}", rows, columns, width)
        layers.append((f"double{level}", Upsample()))
    layers += [("beside", Beside(width, 3)), *_grow("", *levels[-1], width)]
    last: Any = layers[-2][1]  # a Conv, whose place the image's takes
    return (*layers[:-2], ("image", Conv(image_shape[-1], last.size, "SAME")))


def growths(
    feature_shape: tuple[int, ...], image_shape: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Rows and columns by which a map grows before each doubling, and after the last.

    h = H at the end: every growth at the features' own resolution counts 2^doublings.
    There are as many doublings as fit into both sides; growths are even and as equal
    at all resolutions as can be, and the last one takes what is left.

    Args:
      feature_shape: [h, w, c].
      image_shape: [H, W, C].

    Returns:
      One (rows, columns) for each resolution, the features' own first.

    Raises:
      ValueError: a feature map larger than the image, or features of other axes.
    """
    if len(feature_shape) != 3:
        raise ValueError(
            f"features {feature_shape} are neither a map [h, w, c] nor [values]: "
            "reshape them in the edge"
        )
    sides = list(zip(feature_shape[:2], image_shape[:2], strict=True))
    if any(small > large for small, large in sides):
        raise ValueError(
            f"features {feature_shape} are larger than the image {image_shape}: no "
            "decoder is derived for an edge that enlarges"
        )
    doublings = min((large // small).bit_length() - 1 for small, large in sides)
    levels = []
    left = [large - (small << doublings) for small, large in sides]
    for ahead in range(doublings, 0, -1):
        now = [rest // ((2 << ahead) - 1) // 2 * 2 for rest in left]
        left = [rest - (g << ahead) for rest, g in zip(left, now, strict=True)]
        levels.append((now[0], now[1]))
    return [*levels, (left[0], left[1])]


def _grow(name: str, rows: int, columns: int, width: int) -> Layers:
    """Convolutions with ReLU that grow the map; one 3x3 where there is nothing to."""
    layers: Layers = []
    for part in range(max(1, ceil(max(rows, columns) / _MOST))):
        now = [min(_MOST, max(0, g - part * _MOST)) for g in (rows, columns)]
        if any(now):
            borders = [(g // 2, g - g // 2) for g in now]
            layers.append((f"pad{name}_{part}", Pad(*borders)))
        size = 2 * ceil(max(2, *now) / 2) + 1
        layers.append((f"grow{name}_{part}", Conv(width, size, "SAME")))
        layers.append((f"grow{name}_{part}_act", Relu()))
    return layers
