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

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.base import Bytes, Context, Images, Key, Params, Stego
from ghostjax.evaluation import metrics
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, Layers, Variables, apply, init
from ghostjax.models.layers import Conv, Relu, Towers
from ghostjax.pixels import as_bytes, as_float, require_pixels
from ghostjax.stego.records import Nns
from ghostjax.training.fit import Draw, Fit, Loss, LossValue, Recipe, Training
from ghostjax.training.sampling import epoch_indices

__all__ = ["NETWORKS", "Networks", "Towered", "nns"]

Towered = tuple[tuple[int, int], ...]  # (filters, kernel size) of towers side by side

_MUZIO: Towered = ((50, 3), (10, 4), (5, 5))
_BALUJA: Towered = ((50, 3), (50, 4), (50, 5))
_STRUCTURE = 2e-2  # weight of 1 - SSIM beside the squared error


class Networks(NamedTuple):
    """The architecture."""

    prep: Chain  # the secret [B, H, W, C] to maps [B, H, W, c]
    hide: Chain  # cover and maps beside each other to [B, H, W, C]
    reveal: Chain  # the stego to the secret
    residual: bool  # the stego is the cover plus what `hide` gives


class _Batch(NamedTuple):
    covers: Array  # [B, H, W, C]
    secrets: Array  # [B, H, W, C]
    early: Array  # from 1 at the first step to 0 from half the training on


def nns(image_shape: tuple[int, int, int], record: Nns, context: Context) -> Stego:
    """Hiding by networks that `fit` trains.

    Args:
      image_shape: [H, W, C] of covers, secrets and stegos.
      record: its learning rate and both betas are traced. `beta_start` falls to `beta`
        geometrically over the first half of the steps: with a small beta from the start
        nothing is hidden for long, and a good cover wants a small one. Its seed is that
        of the key that `fit` is given.
      context: `train_count`, of which an epoch visits each image once as a cover and
        once as a secret.

    Returns:
      A Stego with params {"prep", "hide", "reveal"}. The metrics of its training are
      cover_error and secret_error, the two distances of each step.

    Raises:
      ValueError: when called, images of another shape, or params of another network.
    """
    networks = NETWORKS[record.network](image_shape[-1])
    draw_variables = jax.jit(partial(_init, networks, image_shape))
    any_key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = _shapes(draw_variables.eval_shape(any_key))
    loss = _loss(networks, record.distance)
    steps = -(-record.epochs * context.train_count // record.batch_size)
    draw = _draw(record.batch_size, steps)
    recipe = Recipe(steps, record.optimizer, record.schedule)

    def fit(key: Key, hyper: Hyper, images: Bytes) -> Fit:
        _require_shapes(image_shape, images, images)
        init_key, train_key = jax.random.split(key)
        state = yield Training(
            key=train_key,
            params=draw_variables(init_key),
            shared=images,
            hyper=hyper,
            loss=loss,
            draw=draw,
            recipe=recipe,
            part="nns",
        )
        return state.params

    def hide(params: Any, cover: Images, secret: Images) -> Images:
        require_pixels(cover, "cover")
        require_pixels(secret, "secret")
        _require_shapes(image_shape, cover, secret)
        _require_params(shapes, record.network, image_shape, params)
        return _grey(_hidden(networks, params, cover, secret))

    def reveal(params: Any, stego: Images) -> Images:
        require_pixels(stego, "stego")
        _require_shapes(image_shape, stego, stego)
        _require_params(shapes, record.network, image_shape, params)
        return jnp.clip(apply(networks.reveal, params["reveal"], stego), 0.0, 1.0)

    def clues(params: Any, stego: Images) -> Images:
        return jnp.concatenate([stego, reveal(params, stego)], axis=-1)

    return Stego("nns", fit, hide, reveal, clues=clues, clue_channels=2)


def _narrow(filters: int, channels: int) -> Networks:
    """3x3 convolutions, 2, 4 and 4 of them, 1x1 heads, a residual hider."""

    def body(name: str, depth: int) -> Chain:
        layers: Layers = []
        for place in range(1, depth + 1):
            layers.append((f"{name}{place}", Conv(filters, 3, "SAME")))
            layers.append((f"{name}{place}_act", Relu()))
        return tuple(layers)

    head = (("image", Conv(channels, 1)),)
    hide, reveal = (*body("hide", 4), *head), (*body("reveal", 4), *head)
    return Networks(body("prep", 2), hide, reveal, True)


def _muzio(channels: int) -> Networks:
    """Every layer of 65 filters of three sizes: 2, 5 and 5 layers."""

    def body(name: str, depth: int) -> Chain:
        return tuple((f"{name}{i}", Towers(_MUZIO, 1)) for i in range(1, depth + 1))

    head = (("image", Conv(channels, 3, "SAME")),)
    hide, reveal = (*body("hide", 5), *head), (*body("reveal", 5), *head)
    return Networks(body("prep", 2), hide, reveal, False)


def _baluja(channels: int) -> Networks:
    """Three towers of four layers of 50 filters, joined by one more of each size."""

    def body(name: str) -> Chain:
        towers = (f"{name}_towers", Towers(_BALUJA, 4))
        return (towers, (f"{name}_join", Towers(_BALUJA, 1)))

    head = (("image", Conv(channels, 1)),)
    return Networks(
        body("prep"), (*body("hide"), *head), (*body("reveal"), *head), False
    )


NETWORKS: dict[str, Callable[[int], Networks]] = {
    "n16": partial(_narrow, 16),
    "n32": partial(_narrow, 32),
    "muzio65": _muzio,
    "baluja50": _baluja,
}
"""name -> the networks for images of so many channels. Source: reference sheet 2.3 for
n16 and n32 (ours); alexandremuzio/deep-steg; harveyslash/Deep-Steganography, the
architecture of Baluja's paper."""


def _squared(images: Array, wanted: Array) -> Array:
    return ((images - wanted) ** 2).mean()


def _absolute(images: Array, wanted: Array) -> Array:
    return jnp.abs(images - wanted).mean()


def _squared_and_ssim(images: Array, wanted: Array) -> Array:
    """Squared error, and 1 - SSIM of what is clipped."""
    alike = metrics.ssim_map(jnp.clip(images, 0.0, 1.0), wanted).mean()
    return _squared(images, wanted) + _STRUCTURE * (1 - alike)


_DISTANCES: dict[str, tuple[Callable[[Array, Array], Array], ...]] = {
    "squared": (_squared, _squared),
    "absolute": (_absolute, _absolute),
    "ssim": (_squared_and_ssim, _squared),
}
"""name -> (of the stego from the cover, of the revealed secret from the secret)."""


def _init(
    networks: Networks, image_shape: tuple[int, int, int], key: Key
) -> dict[str, Variables]:
    prep_key, hide_key, reveal_key = jax.random.split(key, 3)
    image = jnp.zeros((1, *image_shape))
    prep = init(networks.prep, prep_key, image)
    beside = jnp.concatenate([image, apply(networks.prep, prep, image)], -1)
    return {
        "prep": prep,
        "hide": init(networks.hide, hide_key, beside),
        "reveal": init(networks.reveal, reveal_key, image),
    }


def _hidden(networks: Networks, params: Any, cover: Array, secret: Array) -> Array:
    """The stego before it is clipped and rounded."""
    prepared = apply(networks.prep, params["prep"], secret)
    beside = jnp.concatenate([cover, prepared], -1)
    image = apply(networks.hide, params["hide"], beside)
    return cover + image if networks.residual else image


def _grey(stego: Array) -> Array:
    """k / 255 in [0, 1]."""
    return as_float(as_bytes(jnp.clip(stego, 0, 1)))


def _straight_through(stego: Array) -> Array:
    """`_grey` to the bit, with the gradient of the clipping alone."""
    inside = jnp.clip(stego, 0, 1)
    return _grey(stego) + (inside - jax.lax.stop_gradient(inside))


def _loss(networks: Networks, distance: str) -> Loss:
    of_cover, of_secret = _DISTANCES[distance]

    def loss(
        params: Params,
        model_state: Params,
        key: Key,
        batch: _Batch,
        hyper: Hyper,
        shared: Bytes,
    ) -> LossValue:
        stego = _hidden(networks, params, batch.covers, batch.secrets)
        revealed = apply(networks.reveal, params["reveal"], _straight_through(stego))
        cover_error = of_cover(stego, batch.covers)
        secret_error = of_secret(revealed, batch.secrets)
        errors = {"cover_error": cover_error, "secret_error": secret_error}
        weight = _weight(hyper, batch.early)
        return cover_error + weight * secret_error, (model_state, errors)

    return loss


def _weight(hyper: Hyper, early: Array) -> Array:
    """Beta of a step: at early = 1 beta_start, if there is one."""
    beta, beta_start = hyper["beta"], hyper["beta_start"]
    first = jnp.where(beta_start > 0, beta_start, beta)
    return beta * (first / beta) ** early


def _draw(batch_size: int, steps: int) -> Draw:
    def draw(key: Key, index: Array, shared: Bytes, own: Any) -> _Batch:
        covers, secrets = (
            as_float(shared[epoch_indices(order_key, index, batch_size, len(shared))])
            for order_key in jax.random.split(key)
        )
        return _Batch(covers, secrets, jnp.maximum(0.0, 1 - 2 * index / steps))

    return draw


def _require_shapes(wanted: tuple[int, ...], cover: Array, secret: Array) -> None:
    for name, images in (("cover", cover), ("secret", secret)):
        if images.shape[1:] != tuple(wanted):
            raise ValueError(
                f"{name} has shape {images.shape[1:]} and the stego network takes "
                f"{tuple(wanted)}: use the data set that it was trained on"
            )


def _shapes(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, params)


def _require_params(
    shapes: Any, network: str, image_shape: tuple[int, ...], params: Any
) -> None:
    """Refuses what another network or method has learned."""
    if _shapes(params) != shapes:
        raise ValueError(
            f"the stego's params are not those of network {network!r} for images "
            f"{tuple(image_shape)}: hand it what its own fit has learned"
        )
