"""White-box feature inversion: regularised maximum likelihood (rMLE).

Finds pixels x with edge(x) near the features v by minimising, per image,
distance(edge(x), v) + tv_weight * TV(x) with Adam or AMSGrad from mid-grey. Many
targets are inverted at once: the batch's loss is the sum of per-image losses and the
optimizer is elementwise, so each image descends exactly as it would alone.

The search runs in normalised pixels z, pixels = mean + std z, with the constants of the
edge's `Normalize` layer where it starts with one and 0.5, 0.5 otherwise; z starts at 0.

Source: He, Zhang, Lee, "Attacking and Protecting Data Privacy in Edge-Cloud
Collaborative Inference Systems", IoT-J 2020, Section IV, and their code. The two
disagree: the paper sums squared feature differences and takes TV with exponent beta,
the code averages both (`distance`, `total_variation` name them).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ghostjax import loop
from ghostjax.base import Attack, Knowledge
from ghostjax.chain import Chain, apply
from ghostjax.layers import Normalize


class Settings(NamedTuple):
    """Static choices of the search; the defaults are the authors'."""

    steps: int = 500
    optimizer: str = "amsgrad"  # or "adam"
    epsilon: float = 1e-3
    distance: str = "mean"  # over features; or "sum"
    total_variation: str = "authors"  # or "paper"
    tv_beta: float = 1.0  # of the paper's form
    box: bool = False  # project z on pixels [0, 1] after every step


def rmle(
    edge: Chain,
    image_shape: tuple[int, int, int],
    settings: Settings,
    *,
    learning_rate: Array | float = 1e-2,
    tv_weight: Array | float = 1.0,
) -> Attack:
    """The attack on features of `edge`.

    Args:
      edge: the layers on the device, up to the cut.
      image_shape: [H, W, C] of the images looked for.
      settings: static choices.
      learning_rate: Adam's rate in normalised pixels; traced.
      tv_weight: lambda of the total variation; traced.

    Returns:
      An Attack that needs `edge_variables`. `invert(params, key, features [B, ...])`
      gives images [B, H, W, C] in [0, 1] (the last iterate, clipped) and the trace, the
      objective of each image before each step [steps, B]. The key is not used.
    """
    mean, std = _pixel_scale(edge)

    def fit(key: Array, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        return knowledge.edge_variables, {}

    def invert(params: Any, key: Array, features: Array) -> tuple[Array, Array]:
        _require_features(edge, image_shape, params, features)
        z = jnp.zeros((features.shape[0], *image_shape))
        carry = (z, _optimizer(settings, 0.0).init(z))
        rates = jnp.float32(learning_rate), jnp.float32(tv_weight)
        step = _make_step(edge, settings)
        (z, _), trace = loop.run(step, carry, settings.steps, params, features, *rates)
        return jnp.clip(mean + std * z, 0.0, 1.0), trace.T

    return Attack("rmle", ("edge_variables",), fit, invert)


def authors_variation(z: Array) -> Array:
    """Mean squared vertical plus mean squared horizontal difference, [B]."""
    vertical, horizontal = jnp.diff(z, axis=1), jnp.diff(z, axis=2)
    return (vertical**2).mean((1, 2, 3)) + (horizontal**2).mean((1, 2, 3))


def paper_variation(z: Array, beta: float) -> Array:
    """Sum over pixels of (vertical^2 + horizontal^2)^(beta / 2), [B].

    A pixel without a lower or right neighbour has difference 0 there. 1e-12 inside the
    power keeps the gradient finite on flat areas (beta < 2).
    """
    vertical = jnp.pad(jnp.diff(z, axis=1), ((0, 0), (0, 1), (0, 0), (0, 0)))
    horizontal = jnp.pad(jnp.diff(z, axis=2), ((0, 0), (0, 0), (0, 1), (0, 0)))
    return ((vertical**2 + horizontal**2 + 1e-12) ** (beta / 2)).sum((1, 2, 3))


@lru_cache(maxsize=64)
def _make_step(edge: Chain, settings: Settings) -> loop.Step:
    mean, std = _pixel_scale(edge)

    def objective(z, variables, features, tv_weight):
        difference = apply(edge, variables, mean + std * z) - features
        squares = (difference**2).reshape(z.shape[0], -1)
        distance = squares.mean(1) if settings.distance == "mean" else squares.sum(1)
        if settings.total_variation == "authors":
            variation = authors_variation(z)
        else:
            variation = paper_variation(z, settings.tv_beta)
        each = distance + tv_weight * variation
        return each.sum(), each

    def step(carry, index, variables, features, learning_rate, tv_weight):
        z, state = carry
        gradient, each = jax.grad(objective, has_aux=True)(
            z, variables, features, tv_weight
        )
        updates, state = _optimizer(settings, learning_rate).update(gradient, state)
        z = z + updates
        if settings.box:
            z = jnp.clip(z, -mean / std, (1 - mean) / std)
        return (z, state), each

    return step


def _optimizer(settings: Settings, rate: Any) -> optax.GradientTransformation:
    make = {"adam": optax.adam, "amsgrad": optax.amsgrad}[settings.optimizer]
    return make(rate, eps=settings.epsilon)


def _pixel_scale(edge: Chain) -> tuple[Array, Array]:
    first = edge[0][1]
    if isinstance(first, Normalize):
        scale = jnp.asarray(first.mean), jnp.asarray(first.std)
    else:
        scale = jnp.asarray((0.5,)), jnp.asarray((0.5,))
    return tuple(part.reshape(1, 1, 1, -1) for part in scale)


def _require_features(
    edge: Chain, image_shape: tuple[int, ...], variables: Any, features: Array
) -> None:
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    own = jax.eval_shape(lambda v, x: apply(edge, v, x), variables, image).shape[1:]
    if features.shape[1:] != own:
        raise ValueError(
            f"features of shape {features.shape[1:]} cannot have left an edge that "
            f"ends in {edge[-1][0]!r} and sends {own}: attack the edge that sent them"
        )
