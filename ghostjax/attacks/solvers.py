"""Ways down the objective of rMLE: `SOLVERS` maps a name to a Solver.

All treat the images of a batch independently of each other and choose steps per image,
so a batch gives what its images give one by one.

gd            Adam or AMSGrad (optax), as the authors.
lbfgs         L-BFGS with optax's zoom line search, one search per image.
gauss_newton  Levenberg-Marquardt: (M + damping) s = -gradient, solved by conjugate
              gradients; M is the Gauss-Newton matrix, known only by its products
              (`jax.linearize` and `linear_transpose`). Damping starts at M's curvature
              along the gradient, falls by 4 after a step that lowers the objective (by
              30 where the quadratic model was right to 2 %, as behind a convolution)
              and rises by 5 after one that does not and is taken back. With a box,
              pixels at a bound that the gradient pushes against stay out of the solve
              (Bertsekas' two-metric projection), the rest is clipped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from ghostjax.attacks.objective import Objective, each

__all__ = ["Choices", "Problem", "SOLVERS", "Solver", "amsgrad"]

_EASIER, _MUCH_EASIER, _HARDER = 4.0, 30.0, 5.0  # damping, see the module
_EXACT = 0.02  # largest error of the quadratic model, of what it promised
_LEAST = 1e-12  # damping
_LINE_SEARCH_STEPS = 8  # of lbfgs, at most


class Choices(NamedTuple):
    """Static choices of the solvers."""

    optimizer: str  # of gd: "amsgrad" or "adam"
    cg_steps: int  # of gauss_newton
    unroll: bool  # write the inner loop of gauss_newton out


class Problem(NamedTuple):
    """What a step reads."""

    objective: Objective
    variables: Any  # of the edge
    features: Array  # [B, ...]
    hyper: Any  # leaves [B]: "tv_weight"; "learning_rate" and "epsilon" of gd
    low: Array | None  # bounds of z, broadcastable; None without a box
    high: Array | None

    @property
    def arguments(self) -> tuple[Any, Array, Array]:
        """What the objective takes besides z."""
        return self.variables, self.features, self.hyper["tv_weight"]


class Solver(NamedTuple):
    """One way of lowering the objective."""

    init: Callable[[Choices, Array], Any]
    """`init(choices, z) -> state`, every leaf [B, ...]."""
    step: Callable[[Choices, Problem, Array, Any], tuple[Array, Array, Any]]
    """`step(choices, problem, z, state) -> (E at z [B], next z, next state)`."""
    patience: int
    """Steps without progress after which an image has converged."""
    bitwise: bool = False
    """Whether on a CPU an image's bits are the same in every batch of 8 and more: sums
    over pixels are not."""


def _gd_init(choices: Choices, z: Array) -> Any:
    return jax.vmap(_DESCENTS[choices.optimizer](0.0, 1.0).init)(z)


def _gd_step(
    choices: Choices, problem: Problem, z: Array, state: Any
) -> tuple[Array, Array, Any]:
    def total(z: Array) -> tuple[Array, Array]:
        values = problem.objective.value(z, *problem.arguments)
        return values.sum(), values

    def update(
        gradient: Array, state: Any, rate: Array, epsilon: Array
    ) -> tuple[Array, Any]:
        return _DESCENTS[choices.optimizer](rate, epsilon).update(gradient, state)

    gradient, values = jax.grad(total, has_aux=True)(z)
    rates, epsilons = (problem.hyper[name] for name in ("learning_rate", "epsilon"))
    updates, state = jax.vmap(update)(gradient, state, rates, epsilons)
    return values, _inside(problem, z + updates), state


def _adam(rate: Any, eps: Any) -> optax.GradientTransformation:
    return optax.adam(rate, eps=eps)


def amsgrad(rate: Any, eps: Any) -> optax.GradientTransformation:
    """AMSGrad as PyTorch computes it, betas 0.9 and 0.999.

    The largest second moment is taken before its bias is corrected; `optax.amsgrad`
    takes it after, which keeps the first gradients' size for ever and descends slower.
    """

    def init(z: Array) -> Any:
        nothing, whole = jnp.zeros_like(z), jnp.ones(())
        return (whole, whole), nothing, nothing, nothing

    def update(gradient: Array, state: Any, _: Any = None) -> tuple[Array, Any]:
        (decay, slow_decay), first, second, largest = state
        decay, slow_decay = 0.9 * decay, 0.999 * slow_decay  # powers, which cost more
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = jnp.maximum(largest, second)
        size = jnp.sqrt(largest) * jax.lax.rsqrt(1 - slow_decay) + eps
        step = -rate / (1 - decay) * first / size
        return step, ((decay, slow_decay), first, second, largest)

    return optax.GradientTransformation(init, update)


_DESCENTS = {"adam": _adam, "amsgrad": amsgrad}


def _lbfgs_init(choices: Choices, z: Array) -> Any:
    state = jax.vmap(_lbfgs().init)(z)
    # Of the types that a step gives, not optax's weak ones: else the first step is
    # traced and compiled by itself.
    return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype), state)


def _lbfgs_step(
    choices: Choices, problem: Problem, z: Array, state: Any
) -> tuple[Array, Array, Any]:
    optimizer = _lbfgs()

    def one(
        z: Array, state: Any, features: Array, tv_weight: Array
    ) -> tuple[Array, Array, Any]:
        def value(z: Array) -> Array:
            arguments = problem.variables, features[None], tv_weight[None]
            return problem.objective.value(z[None], *arguments)[0]

        current, gradient = jax.value_and_grad(value)(z)
        updates, state = optimizer.update(
            gradient, state, z, value=current, grad=gradient, value_fn=value
        )
        return current, z + updates, state

    targets = problem.features, problem.hyper["tv_weight"]
    current, z, state = jax.vmap(one)(z, state, *targets)
    return current, _inside(problem, z), state


def _lbfgs() -> optax.GradientTransformationExtraArgs:
    search = optax.scale_by_zoom_linesearch(_LINE_SEARCH_STEPS)
    return optax.lbfgs(linesearch=search)


def _newton_init(choices: Choices, z: Array) -> Array:
    return jnp.zeros(z.shape[0])  # damping [B]; 0: not chosen yet


def _newton_step(
    choices: Choices, problem: Problem, z: Array, damping: Array
) -> tuple[Array, Array, Array]:
    now, gradient, product = problem.objective.model(z, *problem.arguments)
    free = jnp.ones_like(z, bool)
    if problem.low is not None and problem.high is not None:
        stuck = (z <= problem.low) & (gradient > 0)
        free = ~(stuck | (z >= problem.high) & (gradient < 0))
    downhill = jnp.where(free, -gradient, 0)
    curvature = _dot(downhill, product(downhill)) / (_dot(downhill, downhill) + 1e-30)
    damping = jnp.where(damping > 0, damping, jnp.maximum(curvature, _LEAST))

    def damped(p: Array) -> Array:
        return jnp.where(free, product(p) + each(damping) * p, 0)

    step, rest = _conjugate_gradients(damped, downhill, choices)
    tried = _inside(problem, z + step)
    gain = now - problem.objective.value(tried, *problem.arguments)
    hoped = (_dot(step, downhill + rest) + damping * _dot(step, step)) / 2
    right = jnp.abs(gain - hoped) < _EXACT * hoped
    easier = jnp.where(right, _MUCH_EASIER, _EASIER)
    easier = jnp.maximum(damping / easier, _LEAST)
    damping = jnp.where(gain > 0, easier, damping * _HARDER)
    return now, jnp.where(each(gain > 0), tried, z), damping


_Descent = tuple[Array, Array, Array, Array]  # x, rest, direction, square of rest


def _conjugate_gradients(
    product: Callable[[Array], Array], wanted: Array, choices: Choices
) -> tuple[Array, Array]:
    """x with product(x) near `wanted`, per image, from x = 0; and what is missing."""

    def body(_: Any, carry: _Descent) -> _Descent:
        x, rest, direction, square = carry
        image = product(direction)
        length = square / (_dot(direction, image) + 1e-30)
        x = x + each(length) * direction
        rest = rest - each(length) * image
        next_square = _dot(rest, rest)
        direction = rest + each(next_square / (square + 1e-30)) * direction
        return x, rest, direction, next_square

    carry = jnp.zeros_like(wanted), wanted, wanted, _dot(wanted, wanted)
    steps, unroll = choices.cg_steps, choices.unroll
    return lax.fori_loop(0, steps, body, carry, unroll=unroll)[:2]


def _inside(problem: Problem, z: Array) -> Array:
    return z if problem.low is None else jnp.clip(z, problem.low, problem.high)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum((1, 2, 3))


SOLVERS: dict[str, Solver] = {
    "gd": Solver(_gd_init, _gd_step, 100, bitwise=True),
    "lbfgs": Solver(_lbfgs_init, _lbfgs_step, 5),
    "gauss_newton": Solver(_newton_init, _newton_step, 5),
}
