"""Solvers of rMLE: one objective, its quadratic model, and who reaches its bottom."""

import dataclasses
from functools import cache
from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from counting import compiled
from oracles import psnr
from small import COUNT, PICTURES, SEARCHES, SHAPE, at, invert, sent

from ghostjax.attacks import search
from ghostjax.attacks.objective import Goal, objective
from ghostjax.attacks.records import Rmle
from ghostjax.attacks.solvers import SOLVERS, Choices, Problem, amsgrad
from ghostjax.models import frozen
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu
from ghostjax.training import loop

EDGE = at("ReLU1").edge
GOALS = [
    Goal(
        distance=distance,
        total_variation=variation,
        tv_beta=beta,
        unfold=unfold,
        known_zeros=zeros,
    )
    for distance, (variation, beta), unfold, zeros in product(
        ("mean", "sum"),
        (("authors", 1.0), ("paper", 1.0), ("paper", 2.0)),
        (False, True),
        (False, True),
    )
]
PLAIN = Goal(
    distance="mean",
    total_variation="paper",
    tv_beta=1.0,
    unfold=False,
    known_zeros=False,
)
WEIGHTS = np.full(COUNT, 0.3, np.float32)
NONE = np.zeros(COUNT, np.float32)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def dot(p, q):
    return (p * q).sum((1, 2, 3))


@pytest.fixture(scope="module")
def sides():
    """(goal -> what its model says and what it should, p, q), in one program.

    The edge is dense, which takes the least time to trace.
    """
    edge = (("fc1", Dense(200)), ("ReLU1", Relu()))
    variables, features = small.variables(edge), noise(6, COUNT, 200)
    features = np.maximum(features, 0)
    z, p, q = noise(3, 3, COUNT, *SHAPE)

    def both(goal, variables, features):
        value, model = objective(edge, goal)
        arguments = variables, features, WEIGHTS

        def total(z):
            values = value(z, *arguments)
            return values.sum(), values

        shown, gradient, matrix = model(z, *arguments)
        slope, wanted = jax.grad(total, has_aux=True)(z)
        products = jax.vmap(matrix)(jnp.stack([p, q]))
        return (shown, wanted), (gradient, slope), products

    def every(variables, features):
        return [both(goal, variables, features) for goal in GOALS]

    results = jax.jit(every)(variables, features)
    return dict(zip(GOALS, results, strict=True)), p, q


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_model_has_the_objectives_value_and_gradient(sides, goal):
    (value, wanted), (gradient, slope), _ = sides[0][goal]
    np.testing.assert_allclose(value, wanted, rtol=1e-4)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_models_matrix_is_symmetric_and_positive(sides, goal):
    results, p, q = sides
    of_p, of_q = np.asarray(results[goal][2])
    square = dot(p, of_p)
    # Products of either sign: what rounding leaves is small beside the squares.
    np.testing.assert_allclose(dot(q, of_p), dot(p, of_q), atol=1e-4 * square.max())
    assert (square > 0).all()


def test_behind_a_linear_edge_the_matrix_is_the_hessian():
    variables, features = sent("conv1")
    tested = objective(EDGE[:-1], PLAIN._replace(total_variation="authors"))
    arguments = variables, features, np.full(COUNT, 2, np.float32)

    @jax.jit
    def sides(z, p):
        slope = jax.grad(lambda z: tested.value(z, *arguments).sum())
        return tested.model(z, *arguments)[2](p), jax.jvp(slope, (z,), (p,))[1]

    shown, wanted = sides(*noise(5, 2, COUNT, *SHAPE))
    np.testing.assert_allclose(shown, wanted, rtol=1e-3, atol=1e-5)


def test_unfolding_and_ignoring_zeros_against_loops():
    variables, _ = sent("ReLU1")
    z = noise(0, 1, *SHAPE)
    features = np.maximum(noise(1, 1, 10, 10, 8), 0)
    y = np.asarray(small.apply(EDGE[:-1], variables, 0.5 + 0.5 * z))
    choices = list(product((False, True), (False, True)))

    @jax.jit
    def values(z):
        goals = (
            PLAIN._replace(distance="sum", unfold=unfold, known_zeros=zeros)
            for unfold, zeros in choices
        )
        arguments = z, variables, features, NONE[:1]
        return [objective(EDGE, goal).value(*arguments) for goal in goals]

    for (unfold, zeros), value in zip(choices, values(z), strict=True):
        total = 0.0
        for before, sent_value in zip(y.ravel(), features.ravel(), strict=True):
            if zeros and sent_value == 0:
                continue
            after = before if unfold and sent_value > 0 else max(before, 0.0)
            total += (float(after) - float(sent_value)) ** 2
        np.testing.assert_allclose(value[0], total, rtol=1e-4)


NEWTON = SEARCHES["gauss_newton"]


@cache
def found(record):
    """(images, trace) behind ReLU1."""
    return invert("ReLU1", record)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_finds_the_pictures(name):
    record = SEARCHES[name]
    with compiled() as programs:
        images, trace = found(record)
    assert programs.count("jit(_one)") <= 1, "a step gives a state of other types"
    assert images.shape == PICTURES.shape and trace.shape == (COUNT, record.steps)
    scores = psnr(images, PICTURES)
    assert scores.min() > 32 and scores.mean() > 36
    assert 0 <= images.min() and images.max() <= 1


def test_amsgrad_is_pytorchs():
    gradients = noise(0, 50, 6) * np.linspace(3, 0.1, 50, dtype=np.float32)[:, None]

    @jax.jit
    def descend(gradients):
        optimizer = amsgrad(0.01, 1e-3)

        def step(carry, gradient):
            z, state = carry
            updates, state = optimizer.update(gradient, state)
            return (z + updates, state), None

        begin = jnp.zeros(6), optimizer.init(jnp.zeros(6))
        return jax.lax.scan(step, begin, gradients)[0][0]

    wanted, first, second, largest = (np.zeros(6) for _ in range(4))
    for count, gradient in enumerate(gradients.astype(np.float64), 1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = np.maximum(largest, second)  # not yet corrected for its bias
        size = np.sqrt(largest) / np.sqrt(1 - 0.999**count) + 1e-3
        wanted -= 0.01 / (1 - 0.9**count) * first / size
    np.testing.assert_allclose(descend(gradients), wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["lbfgs", "gauss_newton"])
def test_second_order_needs_few_steps(name):
    """After as many steps the objective of gradient descent is ten times as large."""
    _, fast = found(SEARCHES[name])
    _, slow = found(SEARCHES["gd"])
    last = SEARCHES[name].steps - 1
    assert (slow[:, last] > 10 * fast[:, last]).all()


def test_gauss_newton_never_climbs():
    for start in ("grey", "dark"):
        _, trace = found(dataclasses.replace(NEWTON, start=start))
        assert (np.diff(trace, axis=1) <= 0).all()


def test_a_converged_image_stays_and_the_search_ends():
    loose = Rmle(solver="gauss_newton", steps=60, start="dark", tolerance=0.5)
    images, trace = found(loose)
    assert (trace[:, -1] == trace[:, 30]).all(), "nobody stopped"
    longer, _ = found(dataclasses.replace(loose, steps=90))
    np.testing.assert_array_equal(images, longer)


def counter(ends_of):
    """A search that lowers a count by 1 a step until it meets its own end."""

    def step(state, index):
        value = jnp.maximum(ends_of(state) - state.solver_state, 0.0) + 1
        tolerance = jnp.full(len(value), 1e-3)
        following = state.solver_state + 1
        return search.advance(state, value, state.z + 1, following, tolerance, 2), value

    return step


begin = jax.jit(search.begin)


def test_a_smaller_batch_changes_nobodys_numbers():
    """Counters that finish at their own time; the batch shrinks from 64 to 8."""
    ends = np.arange(64) % 8 + np.where(np.arange(64) < 3, 9, 1).astype(np.float32)
    step = counter(lambda state: state.targets[:, 0])
    first = begin(np.zeros((64, 1, 1, 1), np.float32), NONE.repeat(16), ends[:, None])
    state, trace = search.run(step, first, 18)
    whole = jax.jit(lambda state: search.run(step, state, 18)[0])(first)
    for name in ("best_z", "best"):
        np.testing.assert_array_equal(getattr(state, name), getattr(whole, name))
    np.testing.assert_array_equal(state.best, 1.0)
    np.testing.assert_array_equal(np.ravel(state.best_z), ends)
    np.testing.assert_array_equal(np.asarray(trace)[:, -1], 1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shrinking_batch_has_few_sizes(seed):
    """Counters that finish one after another; each trace of the step is a program."""
    sizes = []
    count_down = counter(lambda state: state.targets)

    def step(state, index):
        sizes.append(len(state.z))
        return count_down(state, index)

    ends = np.random.default_rng(seed).exponential(20, 256).round().astype(np.float32)
    for count in (256, 100):
        z = np.zeros((count, 1, 1, 1), np.float32)
        state = begin(z, np.zeros(count, np.float32), ends[:count])
        search.run(step, state, 200)
    assert sizes == [256, 32, 8, 100]


def test_the_best_of_several_starts_goes_on():
    traces = {
        start: found(dataclasses.replace(NEWTON, start=start))[1]
        for start in ("grey", "dark", "best")
    }
    explored = traces["best"][:, 0]
    single = np.minimum(traces["grey"][:, 4], traces["dark"][:, 4])
    assert (explored <= single * 1.01).all()


def test_the_noisy_attacker_smooths_more():
    _, features = sent("ReLU1")
    noisy = features + 0.5 * noise(9, *features.shape)
    scores = []
    for sigma in (0.0, 0.5):
        record = dataclasses.replace(NEWTON, unfold=False, noise=sigma)
        scores.append(psnr(invert("ReLU1", record, noisy)[0], PICTURES).mean())
    assert scores[1] > scores[0] + 1


def test_known_zeros_undo_dropout():
    _, features = sent("ReLU1")
    left = np.where(np.random.default_rng(8).random(features.shape) < 0.4, features, 0)
    scores = []
    for zeros in (False, True):
        record = dataclasses.replace(NEWTON, known_zeros=zeros)
        scores.append(psnr(invert("ReLU1", record, left)[0], PICTURES).mean())
    assert scores[1] > scores[0] + 5


def test_a_box_is_never_left_and_gradients_at_it_are_projected():
    variables, features = sent("ReLU1")
    rates = {"learning_rate": 0.05, "epsilon": 1e-8}
    problem = Problem(
        objective=objective(EDGE, PLAIN),
        variables=variables,
        features=features,
        hyper={"tv_weight": NONE, **{k: WEIGHTS * 0 + x for k, x in rates.items()}},
        low=np.full((1, 1, 1, 1), -1.0, np.float32),
        high=np.full((1, 1, 1, 1), 1.0, np.float32),
    )
    choices = Choices(optimizer="adam", cg_steps=10, unroll=False)

    @jax.jit
    def steps(z):
        solvers = SOLVERS["gd"], SOLVERS["gauss_newton"]
        return [s.step(choices, problem, z, s.init(choices, z))[:2] for s in solvers]

    for value, after in steps(np.clip(4 * noise(2, COUNT, *SHAPE), -1, 1)):
        assert -1 <= float(after.min()) and float(after.max()) <= 1
        assert value.shape == (COUNT,)


def same_when_frozen(layers, images, tolerance):
    """Asserts it of any layers; gives the frozen ones."""
    drawn = small.variables(layers, images.shape[1:])
    quick, held = frozen.freeze(layers, drawn, images.shape[1:])
    assert {name for name, _ in quick} == {name for name, _ in layers}
    both = jax.jit(
        lambda variables: [
            small.chain.apply(chain, some, images)
            for chain, some in zip((quick, layers), variables, strict=True)
        ]
    )
    np.testing.assert_allclose(*both((held, drawn)), atol=tolerance)
    return dict(quick)


WIDE = (
    ("conv1", Conv(32, 3)),
    ("ReLU1", Relu()),
    ("pool1", MaxPool()),
    ("conv2", Conv(16, 3)),
    ("ReLU2", Relu()),
    ("fc1", Dense(24)),
)


@pytest.mark.parametrize("cut", ["conv1", "pool1", "ReLU2", "fc1"])
def test_frozen_chains_are_the_same_function(cut):
    """Narrow ones, of banded products alone, and wide ones with XLA's convolutions."""
    images = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    for network, tile in ((small.NETWORK, 1), (WIDE, 0)):
        edge, _ = small.chain.cut((*network, ("end", Relu())), cut)
        quick = same_when_frozen(edge, images, 2e-5)
        assert quick["conv1"].tile > 1
        assert "conv2" not in quick or bool(quick["conv2"].tile) == bool(tile)


def test_pools_are_looked_behind_as_relus_are():
    """relu(max(x)) for max(relu(x)): a dead unit behind a pool has a gradient too."""
    variables, features = sent("pool1")
    params = variables["conv1"]["params"]
    dead = {"conv1": {"params": {**params, "bias": params["bias"] - 100}}}
    quick, held = frozen.freeze(at("pool1").edge, dead, SHAPE)
    assert quick[-1][0] == "ReLU1"

    @jax.jit
    def gradients(z):
        goals = (PLAIN._replace(unfold=unfold) for unfold in (False, True))
        arguments = held, features, NONE
        return [objective(quick, goal).model(z, *arguments)[1] for goal in goals]

    shown = gradients(np.zeros((COUNT, *SHAPE), np.float32))
    sizes = [abs(np.asarray(gradient)).max() for gradient in shown]
    assert sizes[0] == 0 and sizes[1] > 1e-3


def test_damping_falls_fast_where_the_model_is_right():
    """Behind one convolution 3 steps give 60 dB; 32 if damping only fell by 4."""
    rebuilt, _ = invert("conv1", dataclasses.replace(NEWTON, steps=3))
    assert psnr(rebuilt, PICTURES).mean() > 46


@pytest.mark.parametrize(
    "channels,features,side", [(1, 8, 13), (3, 64, 8), (40, 16, 9)]
)
def test_same_padding_freezes_too(channels, features, side):
    layers = (("conv", Conv(features, 3, "SAME")), ("again", Conv(4, 5, "SAME")))
    shape = 2, side, side, channels
    images = np.random.default_rng(1).random(shape, np.float32)
    same_when_frozen(layers, images, 1e-4)


def test_unknown_solver_and_start_are_named():
    with pytest.raises(ValueError, match="did you mean 'gauss_newton'"):
        Rmle(solver="gaus_newton")
    with pytest.raises(ValueError, match="did you mean 'grey'"):
        Rmle(start="gray")


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["exact", "noisy"])
def test_one_program_serves_all_rates(noise):
    tolerance = 1e-3 if noise else 0.0
    record = Rmle(steps=3, start="dark", tolerance=tolerance, noise=noise)
    others = {"tv_weight": 1e-3, "noise": 2 * noise, "learning_rate": 1.0}
    with compiled() as programs:
        invert("ReLU1", record)
        first = len(programs)
        invert("ReLU1", dataclasses.replace(record, **others))
    assert 0 < first == len(programs), programs[first:]


def test_exploring_is_no_program_of_its_own(monkeypatch):
    """Where steps are looped as on accelerators, each number of steps is a program."""
    monkeypatch.setattr(loop, "runtime", SimpleNamespace(on_cpu=lambda: False))
    loop._scanned.clear_cache()
    invert("ReLU1", Rmle(solver="gd", steps=10, tolerance=0.5))
    assert loop._scanned._cache_size() == 1
