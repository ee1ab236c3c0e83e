"""What every solver of rMLE minimises, per image.

  E(z) = mean or sum over features of r^2 + tv_weight TV(z),  r = edge(mean + std z) - v

z are normalised pixels; pixels = mean + std z. TV has two forms: the authors' mean
squared differences, and the paper's sum over pixels of

  (vertical^2 + horizontal^2 + 1e-6)^(beta / 2)

whose constant makes it smooth: differences far below 1e-3 count by their square. As a
residual for Gauss-Newton a pixel's part is sqrt(w) (vertical, horizontal) with

  w = (vertical^2 + horizontal^2 + 1e-6)^(beta / 2 - 1)

held fixed within a step; it has the gradient of TV (times 2 / beta) and bounds its
curvature from above. So all solvers have one objective.

Two options change r. `unfold`: the edge ends in ReLU and v has no noise, so what
entered the ReLU is known where v > 0 and known to be at most 0 elsewhere; r is
y - v and max(y, 0) of the layer before. It has the same zeros as the plain distance
but a gradient where a unit is dead. `known_zeros`: features that are exactly 0 count
for nothing, because dropout may have made them so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ghostjax.base import Features, Params
from ghostjax.models.chain import Chain, apply
from ghostjax.models.layers import Normalize, Relu

__all__ = [
    "Goal",
    "Linear",
    "Objective",
    "SMOOTH",
    "authors_variation",
    "each",
    "objective",
    "paper_variation",
    "pixel_scale",
    "unfolds",
]

SMOOTH = 1e-6  # see the module
Linear = Callable[[Array], Array]  # a matrix, known by its products


class Goal(NamedTuple):
    """The static choices of the objective; see the record of a search."""

    distance: str  # over features: "mean" or "sum"
    total_variation: str  # "authors" or "paper"
    tv_beta: float  # of the paper's form
    unfold: bool
    known_zeros: bool


class Objective(NamedTuple):
    """E and its quadratic model; all take (z, variables, features, tv_weight [B])."""

    value: Callable[..., Array]
    """E [B]."""
    model: Callable[..., tuple[Array, Array, Linear]]
    """(E [B], its gradient [B, H, W, C], p -> Gauss-Newton matrix times p)."""


def objective(edge: Chain, goal: Goal) -> Objective:
    """E for features of `edge`; see the module."""
    mean, std = pixel_scale(edge)
    unfolded = unfolds(edge, goal)
    inner = edge[:-1] if unfolded else edge
    variation, variation_model = _variation(goal)

    def run(z: Array, variables: Params) -> Features:
        return apply(inner, variables, mean + std * z)

    def residual(y: Features, features: Features) -> tuple[Array, Array]:
        """r, and its slope in y: 1, or 0 where the feature counts for nothing."""
        slope = jnp.ones(y.shape, bool)
        if unfolded:
            slope = (features > 0) | (y > 0)
            features = jnp.maximum(features, 0)
        if goal.known_zeros:
            slope &= features != 0
        return jnp.where(slope, y - features, 0), slope

    def summed(r: Array, features: Features) -> Array:
        count = features[0].size if goal.distance == "mean" else 1
        return (r**2).reshape(r.shape[0], -1).sum(1) / count

    def value(
        z: Array, variables: Params, features: Features, tv_weight: Array
    ) -> Array:
        r, _ = residual(run(z, variables), features)
        return summed(r, features) + tv_weight * variation(z)

    def model(
        z: Array, variables: Params, features: Features, tv_weight: Array
    ) -> tuple[Array, Array, Linear]:
        y, forward = jax.linearize(lambda z: run(z, variables), z)
        backward = jax.linear_transpose(forward, z)
        r, slope = residual(y, features)
        double = 2 * slope / (features[0].size if goal.distance == "mean" else 1)
        smooth, incline, bend = variation_model(z)

        def product(p: Array) -> Array:
            return backward(double * forward(p))[0] + each(tv_weight) * bend(p)

        gradient = backward(double * r)[0] + each(tv_weight) * incline
        return summed(r, features) + tv_weight * smooth, gradient, product

    return Objective(value, model)


def each(values: Array) -> Array:
    """[B] to [B, 1, 1, 1], a value for every pixel of each image."""
    return values.reshape(-1, 1, 1, 1)


def unfolds(edge: Chain, goal: Goal) -> bool:
    """Whether the objective looks behind the edge's last ReLU."""
    return goal.unfold and len(edge) > 1 and isinstance(edge[-1][1], Relu)


def authors_variation(z: Array) -> Array:
    """Mean squared vertical plus mean squared horizontal difference, [B]."""
    vertical, horizontal = jnp.diff(z, axis=1), jnp.diff(z, axis=2)
    return (vertical**2).mean((1, 2, 3)) + (horizontal**2).mean((1, 2, 3))


def paper_variation(z: Array, beta: float) -> Array:
    """Sum over pixels of (vertical^2 + horizontal^2 + 1e-6)^(beta / 2), [B].

    A pixel without a lower or right neighbour has difference 0 there.
    """
    vertical, horizontal = _differences(z)
    return ((vertical**2 + horizontal**2 + SMOOTH) ** (beta / 2)).sum((1, 2, 3))


def pixel_scale(edge: Chain) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) float32 [1, 1, 1, C or 1]: of the edge's `Normalize`, or 0.5 and 0.5.

    NumPy's, since cached objectives hold them: an array of jax that is made while an
    attack is traced would belong to that trace.
    """
    first = edge[0][1]
    if isinstance(first, Normalize):
        return _constant(first.mean), _constant(first.std)
    return _constant((0.5,)), _constant((0.5,))


def _constant(channels: tuple[float, ...]) -> np.ndarray:
    return np.asarray(channels, np.float32).reshape(1, 1, 1, -1)


def _variation(goal: Goal) -> tuple[Callable[..., Array], Callable[..., Any]]:
    """TV, and z -> (TV, its gradient, p -> a bound of its curvature times p)."""
    if goal.total_variation == "authors":

        def authors_model(z: Array) -> tuple[Array, Array, Linear]:
            total, gradient = jax.value_and_grad(_summed(authors_variation))(z)
            bend = jax.linearize(jax.grad(_summed(authors_variation)), z)[1]
            return authors_variation(z), gradient, bend

        return authors_variation, authors_model

    def variation(z: Array) -> Array:
        return paper_variation(z, goal.tv_beta)

    def model(z: Array) -> tuple[Array, Array, Linear]:
        vertical, horizontal = _differences(z)
        square = vertical**2 + horizontal**2 + SMOOTH
        weight = goal.tv_beta * square ** (goal.tv_beta / 2 - 1)
        transposed = jax.linear_transpose(_differences, z)

        def bend(p: Array) -> Array:
            down, right = _differences(p)
            return transposed((weight * down, weight * right))[0]

        return (square ** (goal.tv_beta / 2)).sum((1, 2, 3)), bend(z), bend

    return variation, model


def _summed(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda z: function(z).sum()


def _differences(z: Array) -> tuple[Array, Array]:
    vertical = jnp.pad(jnp.diff(z, axis=1), ((0, 0), (0, 1), (0, 0), (0, 0)))
    horizontal = jnp.pad(jnp.diff(z, axis=2), ((0, 0), (0, 0), (0, 1), (0, 0)))
    return vertical, horizontal
