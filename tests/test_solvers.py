"""Solvers of rMLE: one objective, its quadratic model, and who reaches its bottom."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import chain, frozen, loop, metrics, zoo
from ghostjax.attacks import search
from ghostjax.attacks.objective import Goal, objective
from ghostjax.attacks.rmle import AUTHORS, Settings, _make_step, rmle
from ghostjax.attacks.solvers import SOLVERS, Choices, Problem, amsgrad
from ghostjax.layers import Conv

SHAPE = (28, 28, 1)
GOALS = [
    Goal(distance, variation, beta, unfold, zeros)
    for distance, (variation, beta), unfold, zeros in product(
        ("mean", "sum"),
        (("authors", 1.0), ("paper", 1.0), ("paper", 2.0)),
        (False, True),
        (False, True),
    )
]


@pytest.fixture(scope="module")
def scene():
    """(edge of lenet5 to ReLU1, its variables, four smooth images, their features)."""
    edge, _ = chain.cut(zoo.lenet5(), "ReLU1")
    noise = jax.random.uniform(jax.random.key(1), (4, 7, 7, 1))
    images = jax.image.resize(noise, (4, *SHAPE), "linear")
    variables = chain.init(edge, jax.random.key(0), images)
    return edge, variables, images, chain.apply(edge, variables, images)


def invert(scene, settings, **rates):
    edge, variables, _, features = scene
    attack = rmle(edge, SHAPE, settings, **rates)
    return attack.invert(variables, jax.random.key(0), features)


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_model_has_the_objectives_value_and_gradient(scene, goal):
    edge, variables, _, features = scene
    own = objective(edge, goal)
    z = jax.random.normal(jax.random.key(3), (4, *SHAPE))
    value, gradient, _ = own.model(z, variables, features, 0.3)
    wanted = own.value(z, variables, features, 0.3)
    np.testing.assert_allclose(value, wanted, rtol=1e-4)
    slope = jax.grad(lambda z: own.value(z, variables, features, 0.3).sum())(z)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("goal", GOALS[:6], ids=str)
def test_the_models_matrix_is_symmetric_and_positive(scene, goal):
    edge, variables, _, features = scene
    z, p, q = jax.random.normal(jax.random.key(4), (3, 4, *SHAPE))
    _, _, matrix = objective(edge, goal).model(z, variables, features, 0.3)
    np.testing.assert_allclose(
        (q * matrix(p)).sum((1, 2, 3)), (p * matrix(q)).sum((1, 2, 3)), rtol=1e-3
    )
    assert bool(((p * matrix(p)).sum((1, 2, 3)) > 0).all())


def test_behind_a_linear_edge_the_matrix_is_the_hessian(scene):
    edge = scene[0][:-1]
    features = chain.apply(edge, scene[1], scene[2])
    own = objective(edge, Goal(total_variation="authors"))
    z, p = jax.random.normal(jax.random.key(5), (2, 4, *SHAPE))
    _, _, matrix = own.model(z, scene[1], features, 2.0)
    slope = jax.grad(lambda z: own.value(z, scene[1], features, 2.0).sum())
    _, wanted = jax.jvp(slope, (z,), (p,))
    np.testing.assert_allclose(matrix(p), wanted, rtol=1e-3, atol=1e-5)


def test_unfolding_and_ignoring_zeros_against_loops(scene):
    edge, variables, _, _ = scene
    draw = np.random.default_rng(0)
    z = draw.normal(size=(1, *SHAPE)).astype(np.float32)
    features = np.maximum(draw.normal(size=(1, 24, 24, 8)), 0).astype(np.float32)
    y = np.asarray(chain.apply(edge[:-1], variables, 0.5 + 0.5 * z))
    for unfold, zeros in product((False, True), (False, True)):
        total = 0.0
        for before, value in zip(y.ravel(), features.ravel(), strict=True):
            after = before if unfold and value > 0 else max(before, 0.0)
            total += 0.0 if zeros and value == 0 else (float(after) - float(value)) ** 2
        goal = Goal("sum", unfold=unfold, known_zeros=zeros)
        found = objective(edge, goal).value(z, variables, features, 0.0)
        np.testing.assert_allclose(found[0], total, rtol=1e-4)


FAST = {
    "gd": Settings("gd", 400, "dark", 0.0),
    "lbfgs": Settings("lbfgs", 40, "dark", 0.0),
    "gauss_newton": Settings("gauss_newton", 15, "dark", 0.0),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_finds_the_pictures(scene, name):
    found, trace = invert(scene, FAST[name])
    assert found.shape == scene[2].shape and trace.shape[0] == 4
    scores = metrics.psnr(found, scene[2])
    assert float(scores.min()) > 25 and float(scores.mean()) > 32
    assert 0 <= float(found.min()) and float(found.max()) <= 1


def test_amsgrad_is_pytorchs():
    draw = np.random.default_rng(0)
    gradients = draw.normal(size=(50, 6)) * np.linspace(3, 0.1, 50)[:, None]
    optimizer = amsgrad(0.01, 1e-3)
    z, state = jnp.zeros(6), optimizer.init(jnp.zeros(6))
    own, first, second, largest = (np.zeros(6) for _ in range(4))
    for count, gradient in enumerate(gradients, 1):
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state)
        z = z + updates
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = np.maximum(largest, second)  # not yet corrected for its bias
        size = np.sqrt(largest) / np.sqrt(1 - 0.999**count) + 1e-3
        own -= 0.01 / (1 - 0.9**count) * first / size
    np.testing.assert_allclose(z, own, rtol=1e-4)


@pytest.mark.parametrize("name", ["lbfgs", "gauss_newton"])
def test_second_order_needs_few_steps(scene, name):
    steps = FAST[name].steps
    slow, _ = invert(scene, FAST["gd"]._replace(steps=steps))
    fast, _ = invert(scene, FAST[name])
    gain = metrics.psnr(fast, scene[2]).mean() - metrics.psnr(slow, scene[2]).mean()
    assert float(gain) > 10


def test_gauss_newton_never_climbs(scene):
    _, trace = invert(scene, Settings("gauss_newton", 12, "grey", 0.0))
    assert bool((jnp.diff(trace, axis=1) <= 0).all())


def test_a_converged_image_stays_and_the_search_ends(scene):
    loose = Settings("gauss_newton", 200, "dark", 0.5)
    found, trace = invert(scene, loose)
    assert bool((trace[:, -1] == trace[:, 60]).all()), "nobody stopped"
    longer, _ = invert(scene, loose._replace(steps=400))
    np.testing.assert_array_equal(found, longer)


def test_a_smaller_batch_changes_nobodys_numbers():
    """Counters that finish at their own time; the batch shrinks from 64 to 8."""
    ends = jnp.arange(64) % 32 + jnp.where(jnp.arange(64) < 3, 60, 1)

    def step(state, index):
        value = jnp.maximum(ends_of(state) - state.solver_state, 0.0) + 1
        z = state.z + 1
        state_next = search.advance(state, value, z, state.solver_state + 1, 1e-3, 2)
        return state_next, value

    def ends_of(state):
        return state.features[:, 0]

    def begin():
        z = jnp.zeros((64, 1, 1, 1))
        return search.begin(z, jnp.zeros(64), ends[:, None].astype(jnp.float32))

    state, trace = search.run(step, begin(), 120)
    whole = jax.jit(lambda state: search.run(step, state, 120)[0])(begin())
    for own, wanted in zip(state[3:5], whole[3:5], strict=True):
        np.testing.assert_array_equal(own, wanted)
    np.testing.assert_array_equal(state.best, 1.0)
    np.testing.assert_array_equal(state.best_z.ravel(), ends)
    np.testing.assert_array_equal(trace[:, -1], 1.0)


def test_the_best_of_several_starts_goes_on(scene):
    goal = Settings("gauss_newton", 1, "grey", 0.0)
    values = {}
    for start in ("grey", "dark", "best"):
        values[start] = invert(scene, goal._replace(start=start, steps=6))[1]
    explored = values["best"][:, 0]
    single = jnp.minimum(values["grey"][:, 4], values["dark"][:, 4])
    assert bool((explored <= single * 1.01).all())


def test_the_noisy_attacker_smooths_more(scene):
    edge, variables, images, features = scene
    noisy = features + 0.5 * jax.random.normal(jax.random.key(9), features.shape)
    goal = Goal(total_variation="paper")
    settings = Settings("gauss_newton", 15, "grey", goal=goal)
    scores = []
    for sigma in (0.0, 0.5):
        attack = rmle(edge, SHAPE, settings, noise=sigma)
        found, _ = attack.invert(variables, jax.random.key(0), noisy)
        scores.append(float(metrics.psnr(found, images).mean()))
    assert scores[1] > scores[0] + 1


def test_known_zeros_undo_dropout(scene):
    edge, variables, images, features = scene
    kept = jax.random.bernoulli(jax.random.key(8), 0.4, features.shape)
    scores = []
    for zeros in (False, True):
        goal = Goal(total_variation="paper", unfold=True, known_zeros=zeros)
        attack = rmle(edge, SHAPE, Settings("gauss_newton", 15, "dark", goal=goal))
        found, _ = attack.invert(variables, jax.random.key(0), features * kept)
        scores.append(float(metrics.psnr(found, images).mean()))
    assert scores[1] > scores[0] + 5


def test_a_box_is_never_left_and_gradients_at_it_are_projected(scene):
    edge, variables, images, features = scene
    own = objective(edge, Goal())
    low, high = jnp.full((1, 1, 1, 1), -1.0), jnp.full((1, 1, 1, 1), 1.0)
    problem = Problem(own, (variables, features, 0.0), low, high, 0.05)
    z = jnp.clip(4 * jax.random.normal(jax.random.key(2), (4, *SHAPE)), -1, 1)
    for solver in (SOLVERS["gd"], SOLVERS["gauss_newton"]):
        state = solver.init(Choices("adam", 1e-8), z)
        value, after, _ = solver.step(Choices("adam", 1e-8), problem, z, state)
        assert float(after.min()) >= -1 and float(after.max()) <= 1
        assert value.shape == (4,)


@pytest.mark.parametrize("cut", ["conv1", "pool1", "ReLU2", "fc2"])
def test_frozen_chains_are_the_same_function(cut):
    for network in (zoo.NETWORKS["lenet5"], zoo.NETWORKS["cnn2"]):
        edge, _ = chain.cut(network.build(10), cut if cut != "fc2" else "fc1")
        images = jax.random.uniform(jax.random.key(1), (3, *network.image_shape))
        variables = chain.init(edge, jax.random.key(0), images)
        same, own = frozen.freeze(edge, variables, network.image_shape)
        assert {name for name, _ in same} == {name for name, _ in edge}
        np.testing.assert_allclose(
            chain.apply(same, own, images),
            chain.apply(edge, variables, images),
            atol=2e-5,
        )


def test_pools_are_looked_behind_as_relus_are(scene):
    """relu(max(x)) for max(relu(x)): a dead unit behind a pool has a gradient too."""
    edge, _ = chain.cut(zoo.lenet5(), "pool1")
    features = chain.apply(edge, scene[1], scene[2])
    params = scene[1]["conv1"]["params"]
    dead = {"conv1": {"params": {**params, "bias": params["bias"] - 100}}}
    same, own = frozen.freeze(edge, dead, SHAPE)
    assert same[-1][0] == "ReLU1"
    sizes = []
    for unfold in (False, True):
        model = objective(same, Goal(unfold=unfold)).model
        gradient = model(jnp.zeros((4, *SHAPE)), own, features, 0.0)[1]
        sizes.append(float(jnp.abs(gradient).max()))
    assert sizes[0] == 0 and sizes[1] > 1e-3


def test_damping_falls_fast_where_the_model_is_right(scene):
    """Behind one convolution 4 steps give 44 dB; 31 if damping only fell by 4."""
    edge, variables, images, _ = scene
    features = chain.apply(edge[:-1], variables, images)
    attack = rmle(edge[:-1], SHAPE, Settings("gauss_newton", 4, "dark", 0.0))
    found, _ = attack.invert(variables, jax.random.key(0), features)
    assert float(metrics.psnr(found, images).mean()) > 38


@pytest.mark.parametrize(
    "channels,features,side", [(1, 8, 13), (3, 64, 8), (40, 16, 9)]
)
def test_same_padding_freezes_too(channels, features, side):
    layers = (("conv", Conv(features, 3, "SAME")), ("again", Conv(4, 5, "SAME")))
    images = jax.random.uniform(jax.random.key(1), (2, side, side, channels))
    variables = chain.init(layers, jax.random.key(0), images)
    same, own = frozen.freeze(layers, variables, images.shape[1:])
    np.testing.assert_allclose(
        chain.apply(same, own, images),
        chain.apply(layers, variables, images),
        atol=1e-4,
    )


def test_unknown_solver_and_start_are_named(scene):
    with pytest.raises(ValueError, match="did you mean 'gauss_newton'"):
        rmle(scene[0], SHAPE, Settings("gaus_newton"))
    with pytest.raises(ValueError, match="did you mean 'grey'"):
        rmle(scene[0], SHAPE, AUTHORS._replace(start="gray"))


def test_one_program_serves_all_rates(scene):
    edge, variables, _, features = scene
    settings = Settings("gauss_newton", 3, "dark", 0.0)
    compiled = []
    for rates in ({}, {"tv_weight": 1e-3, "noise": 0.1, "learning_rate": 1.0}):
        rmle(edge, SHAPE, settings, **rates).invert(
            variables, jax.random.key(0), features
        )
        step = _make_step(frozen.freeze(edge, variables, SHAPE)[0], settings)
        compiled.append(loop._stepped(step, True)._cache_size())
    assert compiled == [1, 1]
