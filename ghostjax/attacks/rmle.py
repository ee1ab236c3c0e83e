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

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ghostjax.attacks import observe, search
from ghostjax.attacks.objective import Goal, Objective, objective, pixel_scale
from ghostjax.attacks.records import PRESETS, Rmle
from ghostjax.attacks.solvers import SOLVERS, Choices, Problem
from ghostjax.base import (
    Attack,
    Context,
    Cut,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    average,
)
from ghostjax.fields import Hyper
from ghostjax.models import frozen
from ghostjax.models.chain import Chain
from ghostjax.training import loop
from ghostjax.training.fit import Fit

__all__ = ["AUTHORS", "STARTS", "Step", "rmle"]

STARTS = {"grey": (0.5,), "dark": (0.1,), "best": (0.1, 0.5)}
"""Grey levels a search may start from; of several the lowest objective goes on."""
AUTHORS = Rmle(preset="authors", **PRESETS["authors"])
_EXPLORE = search.ROUND  # steps from each of several starts; the search's own program
_GRADIENT = 0.2  # typical |gradient| of an image in normalised pixels; see `Rmle.noise`


def rmle(cut: Cut, record: Rmle, context: Context) -> Attack:
    """The attack on features of the cut's edge.

    The most probable image under Gaussian noise of deviation `noise` and a prior
    exp(-|gradient| / 0.2) over pixels has 2 noise^2 / 0.2 of TV beside the summed
    distance: so much is added to `tv_weight`.

    Args:
      cut: the network.
      record: rates, weights, the noise and the tolerance are traced, a value a target.
      context: not used.

    Returns:
      An Attack that needs `edge_variables`. `invert(params, key, features [B, ...],
      hyper)` gives images [B, H, W, C] in [0, 1], the trace, the objective of each
      image before each step [B, steps], and which have `diverged`: those whose last
      objective is larger than their first, or not finite. The key is not used.

    Raises:
      ValueError: when called, features of another shape.
    """
    mode = _Mode(cut, record)

    def fit(key: Key, hyper: Hyper, knowledge: Knowledge) -> Fit:
        yield from ()
        return knowledge.edge_variables

    def invert(params: Any, key: Key, features: Features, hyper: Hyper) -> Inversion:
        _require_features(cut, features)
        layers, variables = frozen.freeze(cut.edge, params, cut.image_shape)
        states = _begin(mode, features, hyper)
        step = Step(layers, mode)
        if len(states) > 1:
            ends = [loop.run(step, s, _EXPLORE, variables)[0] for s in states]
            states = [_choose(mode, ends)]
        stops = bool(record.tolerance)
        state, trace = search.run(step, states[0], record.steps, variables, stops=stops)
        images, diverged = _finish(step, state, variables, trace)
        return Inversion(images=images, trace=trace, diverged=diverged)

    return Attack(
        name="rmle",
        needs=Rmle.needs,
        fit=fit,
        invert=invert,
        combine=observe.average_known_zeros if record.known_zeros else average,
        keyless=True,
        bitwise=SOLVERS[record.solver].bitwise,
    )


class _Targets(NamedTuple):
    """What each search looks for, and how."""

    features: Features  # [B, ...]
    hyper: dict[str, Array]  # leaves [B]


class _Mode(NamedTuple):
    """The static choices of a search; equal ones share their programs."""

    cut: Cut
    record: Rmle

    @property
    def goal(self) -> Goal:
        """What is minimised."""
        record = self.record
        return Goal(
            distance=record.distance,
            total_variation=record.total_variation,
            tv_beta=record.tv_beta,
            unfold=record.unfold and not record.noise,
            known_zeros=record.known_zeros,
        )

    def choices(self, layers: Chain) -> Choices:
        """How it is minimised on these layers."""
        record = self.record
        return Choices(record.optimizer, record.cg_steps, frozen.slow_in_loops(layers))


@dataclass(frozen=True)
class Step:
    """`step(state, index, variables) -> (state, objective [B])`; equal ones share a
    compiled program."""

    layers: Chain  # the edge in the form that suits the backend
    mode: _Mode

    @property
    def objective(self) -> Objective:
        """What the step lowers."""
        return objective(self.layers, self.mode.goal)

    def __call__(
        self, state: search.Search, index: Any, variables: Any
    ) -> tuple[search.Search, Array]:
        record = self.mode.record
        mean, std = pixel_scale(self.layers)
        solver, targets = SOLVERS[record.solver], state.targets
        problem = Problem(
            objective=self.objective,
            variables=variables,
            features=targets.features,
            hyper=targets.hyper,
            low=-mean / std if record.box else None,
            high=(1 - mean) / std if record.box else None,
        )
        choices = self.mode.choices(self.layers)
        value, z, solver_state = solver.step(
            choices, problem, state.z, state.solver_state
        )
        tolerance = targets.hyper["tolerance"] if record.tolerance else None
        state = search.advance(
            state, value, z, solver_state, tolerance, solver.patience
        )
        return state, value


@partial(jax.jit, static_argnums=0)
def _begin(mode: _Mode, features: Features, hyper: Hyper) -> list[search.Search]:
    """A state for each start; `tv_weight` with what the noise adds."""
    count = features.shape[0]
    hyper = {k: jnp.broadcast_to(jnp.asarray(x), (count,)) for k, x in hyper.items()}
    values = features[0].size if mode.record.distance == "mean" else 1
    noise = 2 * jnp.square(hyper["noise"]) / (_GRADIENT * values)
    targets = _Targets(features, {**hyper, "tv_weight": hyper["tv_weight"] + noise})
    mean, std = pixel_scale(mode.cut.edge)
    shape = count, *mode.cut.image_shape
    levels = STARTS[mode.record.start]
    starts = [jnp.broadcast_to((level - mean) / std, shape) for level in levels]
    return [_begin_at(mode, z, targets) for z in starts]


@partial(jax.jit, static_argnums=0)
def _choose(mode: _Mode, ends: list[search.Search]) -> search.Search:
    """A state at the best z of several explored starts."""
    targets = ends[0].targets
    z, best = (
        jnp.stack([getattr(end, name) for end in ends]) for name in ("best_z", "best")
    )
    images = jnp.arange(best.shape[1])
    return _begin_at(mode, z[best.argmin(0), images], targets)


def _begin_at(mode: _Mode, z: Array, targets: _Targets) -> search.Search:
    solver = SOLVERS[mode.record.solver]
    return search.begin(z, solver.init(mode.choices(mode.cut.edge), z), targets)


@partial(jax.jit, static_argnums=0)
def _finish(
    step: Step, state: search.Search, variables: Any, trace: Array
) -> tuple[Images, Array]:
    """Images [B, H, W, C] of the iterate that is returned, and which searches [B] have
    diverged: they ended further from the features than they began, or nowhere."""
    mean, std = pixel_scale(step.layers)
    z = state.z
    if step.mode.record.keep == "best":
        targets = state.targets
        arguments = variables, targets.features, targets.hyper["tv_weight"]
        better = step.objective.value(z, *arguments) < state.best
        z = jnp.where(better.reshape(-1, 1, 1, 1), z, state.best_z)
    nearer = trace[:, -1] <= trace[:, 0]  # a NaN is not
    somewhere = jnp.isfinite(state.z).all((1, 2, 3))
    return jnp.clip(mean + std * z, 0.0, 1.0), ~(nearer & somewhere)


def _require_features(cut: Cut, features: Features) -> None:
    if not features.shape[0]:
        raise ValueError(
            f"features have shape {features.shape}: give one target at least"
        )
    if features.shape[1:] != cut.feature_shape:
        raise ValueError(
            f"features of shape {features.shape[1:]} cannot have left an edge that "
            f"ends in {cut.edge[-1][0]!r} and sends {cut.feature_shape}: attack the "
            "edge that sent them"
        )
