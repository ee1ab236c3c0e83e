"""White-box feature inversion: regularised maximum likelihood (rMLE).

Finds pixels x in [0, 1] whose features edge(x) are near the features v that were sent,
and which are smooth (`objective.py`), with one of several solvers (`solvers.py`). Many
targets are inverted at once, each exactly as it would be alone.

The search runs in normalised pixels z, pixels = mean + std z, with the constants of the
edge's `Normalize` layer where it starts with one and 0.5, 0.5 otherwise.

`AUTHORS` are the settings of the authors' scripts, kept to compare with their tables:
500 steps of AMSGrad at 1e-2 with eps 1e-3 on an averaged distance, which is far from
converged (eps soon exceeds the second moment), the last iterate, no box. The defaults
converge.

Source: He, Zhang, Lee, "Attacking and Protecting Data Privacy in Edge-Cloud
Collaborative Inference Systems", IoT-J 2020, Section IV, and their code. The two
disagree: the paper sums squared feature differences and takes TV with exponent beta,
the code averages both (`distance`, `total_variation` name them). Solvers other than
gradient descent, the box, `unfold`, `known_zeros`, `noise` and several starts are ours.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax import frozen, loop
from ghostjax.attacks import search
from ghostjax.attacks.objective import Goal, objective, pixel_scale
from ghostjax.attacks.solvers import SOLVERS, Choices, Problem
from ghostjax.base import Attack, Key, Knowledge
from ghostjax.chain import Chain, describe
from ghostjax.names import unknown

STARTS = {"grey": (0.5,), "dark": (0.1,), "best": (0.1, 0.5)}
"""Grey levels a search may start from; of several the lowest objective goes on."""
_EXPLORE = 5  # steps from each of several starts
_GRADIENT = 0.2  # typical |gradient| of an image in normalised pixels; see `noise`


class Settings(NamedTuple):
    """Static choices of the search; the defaults converge."""

    solver: str = "gauss_newton"  # a name in SOLVERS
    steps: int = 40  # at most, after exploring several starts
    start: str = "best"  # a name in STARTS
    tolerance: float = 1e-3  # converged: no step lowers E by this share; 0: never stop
    keep: str = "best"  # iterate that is returned; or "last"
    box: bool = True  # keep pixels in [0, 1] during the search
    goal: Goal = Goal(total_variation="paper", unfold=True)
    choices: Choices = Choices("adam", 1e-8)


AUTHORS = Settings(
    "gd", 500, "grey", 0.0, "last", False, Goal(), Choices("amsgrad", 1e-3)
)


def rmle(
    edge: Chain,
    image_shape: tuple[int, int, int],
    settings: Settings = Settings(),  # noqa: B008 (a tuple of constants)
    *,
    learning_rate: Array | float = 5e-2,
    tv_weight: Array | float = 1e-7,
    noise: Array | float = 0.0,
) -> Attack:
    """The attack on features of `edge`.

    Args:
      edge: the layers on the device, up to the cut.
      image_shape: [H, W, C] of the images looked for.
      settings: static choices.
      learning_rate: of gd, in normalised pixels; traced.
      tv_weight: lambda of the total variation; traced. The authors' 1 belongs to their
        form of it.
      noise: standard deviation of the noise that the attacker knows to be on the
        features; traced. The most probable image under Gaussian noise and a prior
        exp(-|gradient| / 0.2) over pixels has 2 noise^2 / 0.2 of TV beside the summed
        distance: so much is added to `tv_weight`. Switch `unfold` off with it.

    Returns:
      An Attack that needs `edge_variables`. `invert(params, key, features [B, ...])`
      gives images [B, H, W, C] in [0, 1] and the trace, the objective of each image
      before each step [B, steps]. The key is not used.

    Raises:
      ValueError: an unknown solver or start; when called, features of another shape.
    """
    for kind, name, known in (
        ("solver", settings.solver, SOLVERS),
        ("start", settings.start, STARTS),
    ):
        if name not in known:
            raise ValueError(unknown(kind, name, known))
    mean, std = pixel_scale(edge)

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        return knowledge.edge_variables, {}

    def invert(params: Any, key: Key, features: Array) -> tuple[Array, Array]:
        _require_features(edge, image_shape, features)
        layers, variables = frozen.freeze(edge, params, image_shape)
        step = _make_step(layers, settings)
        values = features[0].size if settings.goal.distance == "mean" else 1
        smooth = tv_weight + 2 * jnp.square(noise) / (_GRADIENT * values)
        constants = variables, jnp.float32(smooth), jnp.float32(learning_rate)
        z = _start(step, layers, image_shape, settings, features, *constants)
        state = _begin(settings, z, features)
        state, trace = search.run(step, state, settings.steps, *constants)
        if settings.keep == "best":
            last = _value(layers, settings.goal)(state.z, variables, features, smooth)
            better = (last < state.best).reshape(-1, 1, 1, 1)
            state = state._replace(z=jnp.where(better, state.z, state.best_z))
        return jnp.clip(mean + std * state.z, 0.0, 1.0), trace

    return Attack("rmle", ("edge_variables",), fit, invert)


def _start(step, edge, image_shape, settings, features, *constants) -> Array:
    """z to start from [B, H, W, C]: the best after a few steps from each level."""
    mean, std = pixel_scale(edge)
    shape = features.shape[0], *image_shape
    levels = STARTS[settings.start]
    starts = [jnp.broadcast_to((level - mean) / std, shape) for level in levels]
    if len(starts) == 1:
        return starts[0]
    ends = []
    for z in starts:
        state = _begin(settings, z, features)
        state, _ = loop.run(step, state, _EXPLORE, *constants)
        ends.append((state.best_z, state.best))
    z, best = (jnp.stack(part) for part in zip(*ends, strict=True))
    return z[best.argmin(0), jnp.arange(shape[0])]


def _begin(settings: Settings, z: Array, features: Array) -> search.Search:
    init = SOLVERS[settings.solver].init
    return search.begin(z, init(settings.choices, z), features)


@lru_cache(maxsize=64)
def _make_step(edge: Chain, settings: Settings) -> loop.Step:
    mean, std = pixel_scale(edge)
    solver = SOLVERS[settings.solver]
    goal = objective(edge, settings.goal)
    choices = settings.choices._replace(unroll=frozen.slow_in_loops(edge))
    low, high = (-mean / std, (1 - mean) / std) if settings.box else (None, None)

    def step(state, index, variables, tv_weight, rate):
        arguments = variables, state.features, tv_weight
        problem = Problem(goal, arguments, low, high, rate)
        value, z, solver_state = solver.step(
            choices, problem, state.z, state.solver_state
        )
        state = search.advance(
            state, value, z, solver_state, settings.tolerance, solver.patience
        )
        return state, value

    return step


@lru_cache(maxsize=64)
def _value(edge: Chain, goal: Goal) -> Any:
    return jax.jit(objective(edge, goal).value)


def _require_features(
    edge: Chain, image_shape: tuple[int, ...], features: Array
) -> None:
    own = describe(edge, image_shape)[-1].shape
    if features.shape[1:] != own:
        raise ValueError(
            f"features of shape {features.shape[1:]} cannot have left an edge that "
            f"ends in {edge[-1][0]!r} and sends {own}: attack the edge that sent them"
        )
