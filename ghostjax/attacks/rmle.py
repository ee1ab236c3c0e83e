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

from collections.abc import Callable
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

    def fit(key: Key, knowledge: Knowledge, train: Any) -> tuple[Any, Any]:
        return knowledge.edge_variables, {}

    def invert(params: Any, key: Key, features: Array) -> tuple[Array, Array]:
        _require_features(edge, image_shape, features)
        layers, variables = frozen.freeze(edge, params, image_shape)
        step = _make_step(layers, settings)
        begin, choose, finish = _make_ends(layers, image_shape, settings)
        states, *weights = begin(features, tv_weight, noise, learning_rate)
        constants = variables, *weights
        if len(states) > 1:
            ends = [loop.run(step, s, _EXPLORE, *constants)[0] for s in states]
            states = [choose(ends, features)]
        stops = settings.tolerance > 0
        state, trace = search.run(
            step, states[0], settings.steps, *constants, stops=stops
        )
        return finish(state, *constants), trace

    return Attack("rmle", ("edge_variables",), fit, invert)


class _Ends(NamedTuple):
    """What comes before and after the steps; compiled, one program each."""

    begin: Callable[..., tuple[list[search.Search], Array, Array]]
    """`begin(features, tv_weight, noise, rate) -> (a state for each start, the weight
    of the total variation with what the noise adds, rate)`."""
    choose: Callable[[list[search.Search], Array], search.Search]
    """`choose(ends, features)`: a state at the best z of several explored starts."""
    finish: Callable[..., Array]
    """`finish(state, variables, smooth, rate) -> images [B, H, W, C]`."""


@lru_cache(maxsize=64)
def _make_ends(
    edge: Chain, image_shape: tuple[int, int, int], settings: Settings
) -> _Ends:
    mean, std = pixel_scale(edge)
    init = SOLVERS[settings.solver].init
    value = objective(edge, settings.goal).value

    def begin_at(z: Array, features: Array) -> search.Search:
        return search.begin(z, init(settings.choices, z), features)

    def begin(features, tv_weight, noise, rate):
        values = features[0].size if settings.goal.distance == "mean" else 1
        smooth = tv_weight + 2 * jnp.square(noise) / (_GRADIENT * values)
        shape = features.shape[0], *image_shape
        levels = STARTS[settings.start]
        starts = [jnp.broadcast_to((level - mean) / std, shape) for level in levels]
        states = [begin_at(z, features) for z in starts]
        return states, jnp.float32(smooth), jnp.float32(rate)

    def choose(ends, features):
        z, best = (
            jnp.stack([getattr(end, name) for end in ends])
            for name in ("best_z", "best")
        )
        return begin_at(z[best.argmin(0), jnp.arange(len(features))], features)

    def finish(state, variables, smooth, rate):
        z = state.z
        if settings.keep == "best":
            last = value(z, variables, state.features, smooth)
            better = (last < state.best).reshape(-1, 1, 1, 1)
            z = jnp.where(better, z, state.best_z)
        return jnp.clip(mean + std * z, 0.0, 1.0)

    return _Ends(*map(jax.jit, (begin, choose, finish)))


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


def _require_features(
    edge: Chain, image_shape: tuple[int, ...], features: Array
) -> None:
    own = describe(edge, image_shape)[-1].shape
    if features.shape[1:] != own:
        raise ValueError(
            f"features of shape {features.shape[1:]} cannot have left an edge that "
            f"ends in {edge[-1][0]!r} and sends {own}: attack the edge that sent them"
        )
