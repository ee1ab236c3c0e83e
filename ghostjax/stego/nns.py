"""Neural steganography (NNS): three networks trained together hide one picture whole.

The prep network looks at the secret, the hiding network at the cover and what prep
makes of the secret, the reveal network at the stego alone:

  L = distance(stego, cover) + beta * distance(revealed, secret)

The first term cannot reach the reveal network, the second reaches all three. Training
pairs are drawn on the device, any image with any other.

Stegos are pictures of 8 bits: `hide` clips and rounds to k / 255. In training the
reveal network sees exactly such stegos, and the gradient passes the rounding as if it
were not there (straight-through), but not the clipping: passed there too, it pushes the
stego ever farther out of [0, 1] without effect (measured: cover_error 0.04 to 3 within
20 steps). The first term compares what the hiding network says before clipping.

Source: GHOST Section III.B (learning rate 1e-3, batch 32; 20 epochs for MNIST and 200
for the others; no architecture, no beta); Baluja, NeurIPS 2017, TPAMI 2020. We deviate
in the distance: the printed |C - C'| is L1, with which a network that hides nothing is
a stable answer; squared error is the default, L1 the option "absolute"
(`hiding.require_hidden` refuses networks that hid nothing). "ssim" adds 1 - SSIM to the
cover's squared error: SSIM minds a shift of one grey level in a dark area, which is all
that squared error leaves there, and forgives far more along strokes.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.base import Key, Stego
from ghostjax.chain import Chain, Variables, apply, init
from ghostjax.layers import Conv, Relu, Towers
from ghostjax.names import unknown
from ghostjax.sampling import epoch_indices
from ghostjax.train import Draw, Loss, Recipe

Towered = tuple[tuple[int, int], ...]  # (filters, kernel size) of towers side by side

_MUZIO: Towered = ((50, 3), (10, 4), (5, 5))
_BALUJA: Towered = ((50, 3), (50, 4), (50, 5))


class Networks(NamedTuple):
    """The architecture."""

    prep: Chain  # the secret [B, H, W, C] to maps [B, H, W, c]
    hide: Chain  # cover and maps beside each other to [B, H, W, C]
    reveal: Chain  # the stego to the secret
    residual: bool  # the stego is the cover plus what `hide` gives


class Settings(NamedTuple):
    """Static choices of the training."""

    recipe: Recipe
    network: str = "n32"  # a name in NETWORKS
    distance: str = "squared"  # a name in _DISTANCES
    batch_size: int = 32


class _Data(NamedTuple):
    """What a step reads; on the device."""

    images: Array  # uint8 [N, H, W, C]
    beta_start: Array
    beta: Array


class _Batch(NamedTuple):
    covers: Array  # [B, H, W, C]
    secrets: Array  # [B, H, W, C]
    beta: Array


def nns(
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-3,
    beta: Array | float = 0.75,
    beta_start: Array | float | None = None,
) -> Stego:
    """Hiding by networks that `fit` trains.

    Args:
      image_shape: [H, W, C] of covers, secrets and stegos.
      settings: static choices.
      learning_rate: peak rate; traced.
      beta: weight of the secret's error; traced.
      beta_start: its weight at first, above 0, from which it falls to `beta`
        geometrically over the first half of the steps; traced. None: `beta` throughout.
        With a small beta from the start nothing is hidden for long, and a good cover
        wants a small one.

    Returns:
      A Stego with params {"prep", "hide", "reveal"}. Its metrics are cover_error and
      secret_error, the two distances of each step.

    Raises:
      ValueError: an unknown network or distance; when called, images of another shape,
        or params of another network.
    """
    for kind, name, known in (
        ("stego network", settings.network, NETWORKS),
        ("distance", settings.distance, _DISTANCES),
    ):
        if name not in known:
            raise ValueError(unknown(kind, name, known))
    networks = NETWORKS[settings.network](image_shape[-1])

    def start(key: Key, cover: Array, secret: Array) -> dict[str, Variables]:
        _require_shapes(image_shape, cover, secret)
        return _init(networks, key, cover, secret)

    def fit(key: Key, images: Array, train: Any) -> tuple[dict[str, Variables], Any]:
        init_key, train_key = jax.random.split(key)
        image = images[:1].astype(jnp.float32) / 255
        first = beta if beta_start is None else beta_start
        state, metrics = train(
            train_key,
            start(init_key, image, image),
            {},
            _Data(images, *(jnp.float32(x) for x in (first, beta))),
            learning_rate,
            loss=_loss(networks, settings.distance),
            draw=_draw(settings.batch_size, settings.recipe.steps),
            recipe=settings.recipe,
        )
        return state.params, metrics

    def hide(params: Any, cover: Array, secret: Array) -> Array:
        _require_shapes(image_shape, cover, secret)
        _require_own(networks, settings.network, image_shape, params)
        return _grey(_hidden(networks, params, cover, secret))

    def reveal(params: Any, stego: Array) -> Array:
        _require_shapes(image_shape, stego, stego)
        _require_own(networks, settings.network, image_shape, params)
        return jnp.clip(apply(networks.reveal, params["reveal"], stego), 0.0, 1.0)

    return Stego("nns", start, fit, hide, reveal)


@lru_cache(maxsize=16)
def _narrow(filters: int, channels: int) -> Networks:
    """3x3 convolutions, 2, 4 and 4 of them, 1x1 heads, a residual hider."""

    def body(name: str, depth: int) -> Chain:
        layers = []
        for place in range(1, depth + 1):
            layers.append((f"{name}{place}", Conv(filters, 3, "SAME")))
            layers.append((f"{name}{place}_act", Relu()))
        return tuple(layers)

    head = (("image", Conv(channels, 1)),)
    hide, reveal = (*body("hide", 4), *head), (*body("reveal", 4), *head)
    return Networks(body("prep", 2), hide, reveal, True)


@lru_cache(maxsize=16)
def _muzio(channels: int) -> Networks:
    """Every layer of 65 filters of three sizes: 2, 5 and 5 layers."""

    def body(name: str, depth: int) -> Chain:
        return tuple((f"{name}{i}", Towers(_MUZIO, 1)) for i in range(1, depth + 1))

    head = (("image", Conv(channels, 3, "SAME")),)
    hide, reveal = (*body("hide", 5), *head), (*body("reveal", 5), *head)
    return Networks(body("prep", 2), hide, reveal, False)


@lru_cache(maxsize=16)
def _baluja(channels: int) -> Networks:
    """Three towers of four layers of 50 filters, joined by one more of each size."""

    def body(name: str) -> Chain:
        towers = (f"{name}_towers", Towers(_BALUJA, 4))
        return (towers, (f"{name}_join", Towers(_BALUJA, 1)))

    head = (("image", Conv(channels, 1)),)
    return Networks(
        body("prep"), (*body("hide"), *head), (*body("reveal"), *head), False
    )


NETWORKS = {
    "n16": lambda channels: _narrow(16, channels),
    "n32": lambda channels: _narrow(32, channels),
    "muzio65": _muzio,
    "baluja50": _baluja,
}
"""name -> the networks for images of so many channels. Source: reference sheet 2.3 for
n16 and n32 (ours); alexandremuzio/deep-steg; harveyslash/Deep-Steganography, the
architecture of Baluja's paper."""


def _squared(made: Array, wanted: Array) -> Array:
    return ((made - wanted) ** 2).mean()


def _absolute(made: Array, wanted: Array) -> Array:
    return jnp.abs(made - wanted).mean()


def _squared_and_ssim(made: Array, wanted: Array) -> Array:
    """Squared error, and 1 - SSIM of what is clipped."""
    alike = _ssim(jnp.clip(made, 0.0, 1.0), wanted).mean()
    return _squared(made, wanted) + _STRUCTURE * (1 - alike)


def _ssim(a: Array, b: Array) -> Array:
    """`metrics.ssim` for every pixel, the image's edge going on outside.

    Blurred by matrices: XLA's depthwise convolutions take most of a step on CPU.
    """
    rows, columns = (_blurring(side) for side in a.shape[1:3])

    def blur(images):
        return jnp.einsum("hH,wW,bHWc->bhwc", rows, columns, images)

    mean_a, mean_b, squares, product = map(blur, (a, b, a**2 + b**2, a * b))
    means, both = mean_a * mean_b, mean_a**2 + mean_b**2
    likeness = (2 * means + _C1) * (2 * (product - means) + _C2)
    return likeness / ((both + _C1) * (squares - both + _C2))


def _blurring(side: int) -> np.ndarray:
    """[side, side], the matrix of SSIM's Gaussian window along one axis."""
    place = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (place / 1.5) ** 2)
    made = np.zeros((side, side), np.float32)
    for row in range(side):
        np.add.at(made[row], np.clip(row + place, 0, side - 1), weights)
    return made / weights.sum()


_STRUCTURE = 2e-2  # weight of 1 - SSIM beside the squared error
_RADIUS = 5  # of SSIM's window of 11, its deviation 1.5
_C1, _C2 = 0.01**2, 0.03**2

_DISTANCES = {
    "squared": (_squared, _squared),
    "absolute": (_absolute, _absolute),
    "ssim": (_squared_and_ssim, _squared),
}
"""name -> (of the stego from the cover, of the revealed secret from the secret)."""


def _init(
    networks: Networks, key: Key, cover: Array, secret: Array
) -> dict[str, Variables]:
    prep_key, hide_key, reveal_key = jax.random.split(key, 3)
    prep = init(networks.prep, prep_key, secret)
    prepared = apply(networks.prep, prep, secret)
    beside = jnp.concatenate([cover, prepared], -1)
    return {
        "prep": prep,
        "hide": init(networks.hide, hide_key, beside),
        "reveal": init(networks.reveal, reveal_key, cover),
    }


def _hidden(networks: Networks, params: Any, cover: Array, secret: Array) -> Array:
    """The stego before it is clipped and rounded."""
    prepared = apply(networks.prep, params["prep"], secret)
    beside = jnp.concatenate([cover, prepared], -1)
    made = apply(networks.hide, params["hide"], beside)
    return cover + made if networks.residual else made


def _grey(stego: Array) -> Array:
    """k / 255 in [0, 1]."""
    return jnp.round(255 * jnp.clip(stego, 0, 1)) / 255


def _straight_through(stego: Array) -> Array:
    """`_grey` to the bit, with the gradient of the clipping alone."""
    inside = jnp.clip(stego, 0, 1)
    return _grey(stego) + (inside - jax.lax.stop_gradient(inside))


@lru_cache(maxsize=16)
def _loss(networks: Networks, distance: str) -> Loss:
    of_cover, of_secret = _DISTANCES[distance]

    def loss(params, model_state, key, batch):
        stego = _hidden(networks, params, batch.covers, batch.secrets)
        revealed = apply(networks.reveal, params["reveal"], _straight_through(stego))
        cover_error = of_cover(stego, batch.covers)
        secret_error = of_secret(revealed, batch.secrets)
        metrics = {"cover_error": cover_error, "secret_error": secret_error}
        return cover_error + batch.beta * secret_error, (model_state, metrics)

    return loss


@lru_cache(maxsize=16)
def _draw(batch_size: int, steps: int) -> Draw:
    def draw(key, index, data):
        chosen = [
            epoch_indices(own, index, batch_size, len(data.images))
            for own in jax.random.split(key)
        ]
        covers, secrets = (data.images[i].astype(jnp.float32) / 255 for i in chosen)
        early = jnp.maximum(0.0, 1 - 2 * index / steps)
        beta = data.beta * (data.beta_start / data.beta) ** early
        return _Batch(covers, secrets, beta)

    return draw


def _require_shapes(wanted: tuple[int, ...], cover: Array, secret: Array) -> None:
    for name, images in (("cover", cover), ("secret", secret)):
        if images.shape[1:] != tuple(wanted):
            raise ValueError(
                f"{name} has shape {images.shape[1:]} and the stego network takes "
                f"{tuple(wanted)}: use the data set that it was trained on"
            )


def _require_own(
    networks: Networks, name: str, image_shape: tuple[int, ...], params: Any
) -> None:
    """Refuses what another network or method has learned."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    own = jax.eval_shape(partial(_init, networks), jax.random.key(0), image, image)
    wanted, found = (jax.tree.map(lambda x: x.shape, t) for t in (own, params))
    if wanted != found:
        raise ValueError(
            f"the stego's params are not those of network {name!r} for images "
            f"{tuple(image_shape)}: hand it what its own fit has learned"
        )
