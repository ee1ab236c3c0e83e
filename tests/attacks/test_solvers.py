"""Solvers of rMLE: one objective, its quadratic model, and who reaches its bottom."""

import dataclasses
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import registry, runtime
from ghostjax.attacks import search
from ghostjax.attacks.objective import Goal, objective
from ghostjax.attacks.records import Rmle
from ghostjax.attacks.solvers import SOLVERS, Choices, Problem, amsgrad
from ghostjax.base import Context, Cut
from ghostjax.evaluation import metrics
from ghostjax.fields import traced_half
from ghostjax.models import chain, frozen, zoo
from ghostjax.models.layers import Conv
from ghostjax.training import loop

SHAPE = (28, 28, 1)
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
WEIGHTS = np.full(4, 0.3, np.float32)
NONE = np.zeros(4, np.float32)


@pytest.fixture(scope="module")
def scene():
    """(edge of lenet5 to ReLU1, its variables, four smooth images, their features)."""
    edge, _ = chain.cut(zoo.lenet5(), "ReLU1")
    noise = jax.random.uniform(jax.random.key(1), (4, 7, 7, 1))
    images = jax.image.resize(noise, (4, *SHAPE), "linear")
    variables = chain.init(edge, jax.random.key(0), images)
    return edge, variables, images, chain.apply(edge, variables, images)


def invert(scene, record, features=None):
    """(images, trace) for the scene's features, or for others."""
    edge, variables, _, scene_features = scene
    features = scene_features if features is None else features
    attack = registry.build(record, Cut(edge, (), SHAPE), Context())
    key = jax.random.key(0)
    inversion = attack.invert(variables, key, features, traced_half(record))
    return inversion.images, inversion.trace


@pytest.mark.parametrize("goal", GOALS, ids=str)
def test_the_model_has_the_objectives_value_and_gradient(scene, goal):
    edge, variables, _, features = scene
    tested = objective(edge, goal)
    z = jax.random.normal(jax.random.key(3), (4, *SHAPE))
    value, gradient, _ = tested.model(z, variables, features, WEIGHTS)
    wanted = tested.value(z, variables, features, WEIGHTS)
    np.testing.assert_allclose(value, wanted, rtol=1e-4)
    slope = jax.grad(lambda z: tested.value(z, variables, features, WEIGHTS).sum())(z)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("goal", GOALS[:6], ids=str)
def test_the_models_matrix_is_symmetric_and_positive(scene, goal):
    edge, variables, _, features = scene
    z, p, q = jax.random.normal(jax.random.key(4), (3, 4, *SHAPE))
    _, _, matrix = objective(edge, goal).model(z, variables, features, WEIGHTS)
    np.testing.assert_allclose(
        (q * matrix(p)).sum((1, 2, 3)), (p * matrix(q)).sum((1, 2, 3)), rtol=1e-3
    )
    assert bool(((p * matrix(p)).sum((1, 2, 3)) > 0).all())


def test_behind_a_linear_edge_the_matrix_is_the_hessian(scene):
    edge = scene[0][:-1]
    features = chain.apply(edge, scene[1], scene[2])
    tested = objective(edge, PLAIN._replace(total_variation="authors"))
    arguments = scene[1], features, np.full(4, 2, np.float32)
    z, p = jax.random.normal(jax.random.key(5), (2, 4, *SHAPE))
    _, _, matrix = tested.model(z, *arguments)
    slope = jax.grad(lambda z: tested.value(z, *arguments).sum())
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
        goal = PLAIN._replace(distance="sum", unfold=unfold, known_zeros=zeros)
        value = objective(edge, goal).value(z, variables, features, NONE[:1])
        np.testing.assert_allclose(value[0], total, rtol=1e-4)


FAST = {
    solver: Rmle(solver=solver, steps=steps, start="dark", tolerance=0.0)
    for solver, steps in {"gd": 400, "lbfgs": 40, "gauss_newton": 15}.items()
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_finds_the_pictures(scene, name):
    images, trace = invert(scene, FAST[name])
    assert images.shape == scene[2].shape and trace.shape[0] == 4
    scores = metrics.psnr(images, scene[2])
    assert float(scores.min()) > 25 and float(scores.mean()) > 32
    assert 0 <= float(images.min()) and float(images.max()) <= 1


def test_amsgrad_is_pytorchs():
    draw = np.random.default_rng(0)
    gradients = draw.normal(size=(50, 6)) * np.linspace(3, 0.1, 50)[:, None]
    optimizer = amsgrad(0.01, 1e-3)
    z, state = jnp.zeros(6), optimizer.init(jnp.zeros(6))
    wanted, first, second, largest = (np.zeros(6) for _ in range(4))
    for count, gradient in enumerate(gradients, 1):
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state)
        z = z + updates
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = np.maximum(largest, second)  # not yet corrected for its bias
        size = np.sqrt(largest) / np.sqrt(1 - 0.999**count) + 1e-3
        wanted -= 0.01 / (1 - 0.9**count) * first / size
    np.testing.assert_allclose(z, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["lbfgs", "gauss_newton"])
def test_second_order_needs_few_steps(scene, name):
    steps = FAST[name].steps
    slow, _ = invert(scene, dataclasses.replace(FAST["gd"], steps=steps))
    fast, _ = invert(scene, FAST[name])
    gain = metrics.psnr(fast, scene[2]).mean() - metrics.psnr(slow, scene[2]).mean()
    assert float(gain) > 10


def test_gauss_newton_never_climbs(scene):
    record = Rmle(solver="gauss_newton", steps=12, start="grey", tolerance=0.0)
    _, trace = invert(scene, record)
    assert bool((jnp.diff(trace, axis=1) <= 0).all())


def test_a_converged_image_stays_and_the_search_ends(scene):
    loose = Rmle(solver="gauss_newton", steps=200, start="dark", tolerance=0.5)
    images, trace = invert(scene, loose)
    assert bool((trace[:, -1] == trace[:, 60]).all()), "nobody stopped"
    longer, _ = invert(scene, dataclasses.replace(loose, steps=400))
    np.testing.assert_array_equal(images, longer)


def test_a_smaller_batch_changes_nobodys_numbers():
    """Counters that finish at their own time; the batch shrinks from 64 to 8."""
    ends = jnp.arange(64) % 32 + jnp.where(jnp.arange(64) < 3, 60, 1)

    def step(state, index):
        value = jnp.maximum(ends_of(state) - state.solver_state, 0.0) + 1
        tolerance = jnp.full(len(value), 1e-3)
        following = state.solver_state + 1
        return search.advance(state, value, state.z + 1, following, tolerance, 2), value

    def ends_of(state):
        return state.targets[:, 0]

    def begin():
        z = jnp.zeros((64, 1, 1, 1))
        return search.begin(z, jnp.zeros(64), ends[:, None].astype(jnp.float32))

    state, trace = search.run(step, begin(), 70)
    whole = jax.jit(lambda state: search.run(step, state, 70)[0])(begin())
    for name in ("best_z", "best"):
        np.testing.assert_array_equal(getattr(state, name), getattr(whole, name))
    np.testing.assert_array_equal(state.best, 1.0)
    np.testing.assert_array_equal(state.best_z.ravel(), ends)
    np.testing.assert_array_equal(trace[:, -1], 1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shrinking_batch_has_few_sizes(seed):
    """Counters that finish one after another; each trace of the step is a program."""
    sizes = []

    def step(state, index):
        sizes.append(len(state.z))
        value = jnp.maximum(state.targets - state.solver_state, 0.0) + 1
        following = state.solver_state + 1
        tolerance = jnp.full(len(value), 1e-3)
        return search.advance(state, value, state.z, following, tolerance, 2), value

    ends = np.random.default_rng(seed).exponential(20, 256).round().astype(np.float32)
    for count in (256, 100):
        z = jnp.zeros((count, 1, 1, 1))
        state = search.begin(z, jnp.zeros(count), jnp.asarray(ends[:count]))
        search.run(step, state, 200)
    assert sizes == [256, 32, 8, 100]


def test_the_best_of_several_starts_goes_on(scene):
    values = {}
    for start in ("grey", "dark", "best"):
        record = Rmle(solver="gauss_newton", steps=6, start=start, tolerance=0.0)
        values[start] = invert(scene, record)[1]
    explored = values["best"][:, 0]
    single = jnp.minimum(values["grey"][:, 4], values["dark"][:, 4])
    assert bool((explored <= single * 1.01).all())


def test_the_noisy_attacker_smooths_more(scene):
    _, _, images, features = scene
    noisy = features + 0.5 * jax.random.normal(jax.random.key(9), features.shape)
    scores = []
    for sigma in (0.0, 0.5):
        record = Rmle(steps=15, start="grey", unfold=False, noise=sigma)
        rebuilt, _ = invert(scene, record, noisy)
        scores.append(float(metrics.psnr(rebuilt, images).mean()))
    assert scores[1] > scores[0] + 1


def test_known_zeros_undo_dropout(scene):
    _, _, images, features = scene
    left = features * jax.random.bernoulli(jax.random.key(8), 0.4, features.shape)
    scores = []
    for zeros in (False, True):
        record = Rmle(steps=15, start="dark", known_zeros=zeros)
        rebuilt, _ = invert(scene, record, left)
        scores.append(float(metrics.psnr(rebuilt, images).mean()))
    assert scores[1] > scores[0] + 5


def test_a_box_is_never_left_and_gradients_at_it_are_projected(scene):
    edge, variables, _, features = scene
    rates = {"learning_rate": 0.05, "epsilon": 1e-8}
    problem = Problem(
        objective=objective(edge, PLAIN),
        variables=variables,
        features=features,
        hyper={"tv_weight": NONE, **{k: jnp.full(4, x) for k, x in rates.items()}},
        low=jnp.full((1, 1, 1, 1), -1.0),
        high=jnp.full((1, 1, 1, 1), 1.0),
    )
    choices = Choices(optimizer="adam", cg_steps=10, unroll=False)
    z = jnp.clip(4 * jax.random.normal(jax.random.key(2), (4, *SHAPE)), -1, 1)
    for solver in (SOLVERS["gd"], SOLVERS["gauss_newton"]):
        state = solver.init(choices, z)
        value, after, _ = solver.step(choices, problem, z, state)
        assert float(after.min()) >= -1 and float(after.max()) <= 1
        assert value.shape == (4,)


@pytest.mark.parametrize("cut", ["conv1", "pool1", "ReLU2", "fc2"])
def test_frozen_chains_are_the_same_function(cut):
    for network in (zoo.NETWORKS["lenet5"], zoo.NETWORKS["cnn2"]):
        edge, _ = chain.cut(network.build(10), cut if cut != "fc2" else "fc1")
        images = jax.random.uniform(jax.random.key(1), (3, *network.image_shape))
        variables = chain.init(edge, jax.random.key(0), images)
        quick, held = frozen.freeze(edge, variables, network.image_shape)
        assert {name for name, _ in quick} == {name for name, _ in edge}
        np.testing.assert_allclose(
            chain.apply(quick, held, images),
            chain.apply(edge, variables, images),
            atol=2e-5,
        )


def test_pools_are_looked_behind_as_relus_are(scene):
    """relu(max(x)) for max(relu(x)): a dead unit behind a pool has a gradient too."""
    edge, _ = chain.cut(zoo.lenet5(), "pool1")
    features = chain.apply(edge, scene[1], scene[2])
    params = scene[1]["conv1"]["params"]
    dead = {"conv1": {"params": {**params, "bias": params["bias"] - 100}}}
    quick, held = frozen.freeze(edge, dead, SHAPE)
    assert quick[-1][0] == "ReLU1"
    sizes = []
    for unfold in (False, True):
        model = objective(quick, PLAIN._replace(unfold=unfold)).model
        gradient = model(jnp.zeros((4, *SHAPE)), held, features, NONE)[1]
        sizes.append(float(jnp.abs(gradient).max()))
    assert sizes[0] == 0 and sizes[1] > 1e-3


def test_damping_falls_fast_where_the_model_is_right(scene):
    """Behind one convolution 4 steps give 44 dB; 31 if damping only fell by 4."""
    edge, variables, images, _ = scene
    features = chain.apply(edge[:-1], variables, images)
    record = Rmle(solver="gauss_newton", steps=4, start="dark", tolerance=0.0)
    rebuilt, _ = invert((edge[:-1], variables, images, features), record)
    assert float(metrics.psnr(rebuilt, images).mean()) > 38


@pytest.mark.parametrize(
    "channels,features,side", [(1, 8, 13), (3, 64, 8), (40, 16, 9)]
)
def test_same_padding_freezes_too(channels, features, side):
    layers = (("conv", Conv(features, 3, "SAME")), ("again", Conv(4, 5, "SAME")))
    images = jax.random.uniform(jax.random.key(1), (2, side, side, channels))
    variables = chain.init(layers, jax.random.key(0), images)
    quick, held = frozen.freeze(layers, variables, images.shape[1:])
    np.testing.assert_allclose(
        chain.apply(quick, held, images),
        chain.apply(layers, variables, images),
        atol=1e-4,
    )


def test_unknown_solver_and_start_are_named():
    with pytest.raises(ValueError, match="did you mean 'gauss_newton'"):
        Rmle(solver="gaus_newton")
    with pytest.raises(ValueError, match="did you mean 'grey'"):
        Rmle(start="gray")


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["exact", "noisy"])
def test_one_program_serves_all_rates(scene, noise):
    record = Rmle(steps=3, start="dark", tolerance=0.0, noise=noise)
    jax.clear_caches()
    compiled = []
    for values in ({}, {"tv_weight": 1e-3, "noise": 2 * noise, "learning_rate": 1.0}):
        invert(scene, dataclasses.replace(record, **values))
        compiled.append(loop._stepped._cache_size())
    assert compiled == [1, 1]


def test_exploring_is_no_program_of_its_own(scene):
    """On accelerators, where each number of steps is a program."""
    with runtime.written_for("gpu"):
        invert(scene, Rmle(steps=10, tolerance=0.5))
        assert loop._scanned._cache_size() == 1
