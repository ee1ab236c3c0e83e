"""rMLE: the stated objective, per-image descent, and pictures that come back."""

import dataclasses

import jax
import numpy as np
import pytest
import small
from counting import compiled
from oracles import psnr
from small import COUNT, PICTURES, SEARCHES, SHAPE, at, invert, sent

from ghostjax import config, registry
from ghostjax.attacks import rmle
from ghostjax.attacks.objective import authors_variation, paper_variation
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context, Knowledge, limit, per_target
from ghostjax.fields import static_half, traced_half
from ghostjax.training import parallel
from ghostjax.training.fit import drive

DESCENT = dataclasses.replace(SEARCHES["gd"], steps=60)


def build(layer, record):
    return registry.build(record, at(layer), Context())


def test_pictures_come_back_through_the_first_convolution():
    record = dataclasses.replace(DESCENT, steps=400, start="grey", tv_weight=0.0)
    recovered, trace = invert("conv1", record)
    assert recovered.shape == PICTURES.shape and trace.shape == (COUNT, 400)
    assert psnr(PICTURES, recovered).min() > 40
    assert (trace[:, -1] < 1e-3 * trace[:, 0]).all()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_searches_that_end_further_than_they_began_have_diverged(keep):
    record = dataclasses.replace(DESCENT, steps=5, box=False, keep=keep)
    attack, (edge, features) = build("conv1", record), sent("conv1")
    rates = np.float32([record.learning_rate, 1e30, record.learning_rate, 30.0])
    hyper = {**traced_half(record), "learning_rate": rates}
    hyper = per_target(hyper, COUNT)
    inverted = attack.invert(edge, jax.random.key(0), features, hyper)
    assert inverted.diverged.tolist() == [False, True, False, True]


def test_an_attack_learns_nothing():
    """Its params are what it knows, the edge's variables."""
    attack, variables = build("conv1", DESCENT), sent("conv1")[0]
    knowledge = limit(Knowledge(edge_variables=variables), attack.needs)
    fit = attack.fit(jax.random.key(2), traced_half(DESCENT), knowledge)
    params, learned = drive(fit)
    assert learned == {} and params is variables


@pytest.mark.parametrize("cut", ["pool1", "ReLU2", "fc1"])
def test_every_cut_descends(cut):
    recovered, trace = invert(cut, dataclasses.replace(DESCENT, tv_weight=1e-3))
    assert (trace[:, -1] < trace[:, 0]).all()
    assert 0 <= recovered.min() and recovered.max() <= 1


ALIKE = {
    "authors": dataclasses.replace(
        rmle.AUTHORS, steps=30, tv_weight=1e-7, learning_rate=5e-2
    ),
    "adam": dataclasses.replace(DESCENT, steps=30),
    "lbfgs": dataclasses.replace(SEARCHES["lbfgs"], steps=12),
    "gauss_newton": dataclasses.replace(SEARCHES["gauss_newton"], steps=20),
    "several starts": Rmle(solver="gauss_newton", steps=4),
}


SLOW = pytest.param("lbfgs", marks=pytest.mark.science)  # see the hyper-parameters'


@pytest.mark.parametrize("name", [*(x for x in ALIKE if x != "lbfgs"), SLOW])
def test_a_batch_is_its_images_one_by_one(name):
    record = ALIKE[name]
    features = sent("ReLU1")[1]
    together, trace = invert("ReLU1", record)
    for place in range(2):
        alone, alone_trace = invert("ReLU1", record, features[place : place + 1])
        np.testing.assert_allclose(alone[0], together[place], atol=1e-3)
        np.testing.assert_allclose(alone_trace[0], trace[place], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["authors", "gauss_newton", "several starts"])
def test_vmap_of_one_image_is_the_batch(name):
    record = ALIKE[name]
    variables, features = sent("ReLU1")
    attack, hyper = build("ReLU1", record), traced_half(record)

    def one(feature):
        key = jax.random.key(0)
        return attack.invert(variables, key, feature[None], hyper).images[0]

    together, _ = invert("ReLU1", record)
    np.testing.assert_allclose(jax.vmap(one)(features), together, atol=1e-3)


@pytest.mark.parametrize("name", ["authors", "gauss_newton"])
def test_targets_on_several_devices_are_as_on_one(name):
    record = ALIKE[name]
    wanted, trace = invert("ReLU1", record)
    with parallel.on_devices(parallel.require(None)):
        spread, spread_trace = invert("ReLU1", record)
    np.testing.assert_allclose(spread, wanted, atol=1e-4)
    np.testing.assert_allclose(spread_trace[:, 0], trace[:, 0], rtol=1e-5)


SEVERAL = {  # in the order of targets; every value of a traced field differs
    "tv_weight": np.geomspace(1e-7, 1e-5, COUNT),
    "noise": np.linspace(0.01, 0.3, COUNT),
    "learning_rate": np.linspace(0.01, 0.1, COUNT),
    "epsilon": np.geomspace(1e-8, 1e-2, COUNT),
    "tolerance": np.geomspace(1e-4, 0.3, COUNT),
}


@pytest.mark.parametrize(
    "solver,noisy",
    [("gd", False), ("lbfgs", False), ("gauss_newton", False), ("gauss_newton", True)],
)
def test_targets_with_hyper_parameters_of_their_own_are_inverted_as_alone(
    solver, noisy
):
    steps = {"gd": 30, "lbfgs": 12, "gauss_newton": 20}[solver]
    values = {**SEVERAL, "noise": SEVERAL["noise"] * noisy}
    records = [
        Rmle(
            solver=solver,
            steps=steps,
            start="dark",
            **{name: float(column[place]) for name, column in values.items()},
        )
        for place in range(COUNT)
    ]
    hypers = [traced_half(record) for record in records]
    assert len({static_half(record) for record in records}) == 1
    mixed = jax.tree.map(lambda *leaves: np.stack(leaves), *hypers)
    features = sent("ReLU1")[1]
    together, traces = invert("ReLU1", records[0], hyper=mixed)
    for place in (0, COUNT - 1):
        # In a batch of the same size, to the bit; by itself, to rounding, which steps
        # of Gauss-Newton enlarge where few features tell of a pixel.
        uniform, trace = invert("ReLU1", records[place])
        np.testing.assert_array_equal(uniform[place], together[place])
        np.testing.assert_array_equal(trace[place], traces[place])
        alone, _ = invert("ReLU1", records[place], features[place : place + 1])
        apart = abs(alone[0] - together[place]).mean()
        assert apart < 5e-3, f"{apart} of a grey level, of {steps} steps"


@pytest.mark.parametrize("name", SEVERAL)
def test_each_hyper_parameter_of_a_target_counts(name):
    """Of four targets one has another value: it alone changes."""
    solver = "gd" if name in ("learning_rate", "epsilon") else "gauss_newton"
    steps = {"gd": 30, "gauss_newton": 20}[solver]
    noise = 0.01 if name == "noise" else 0.0
    record = Rmle(solver=solver, steps=steps, start="dark", noise=noise)
    before = per_target(traced_half(record), COUNT)
    after = {**before, name: np.array(before[name])}
    after[name][1] = SEVERAL[name][-1]
    first, second = (
        invert("ReLU1", record, hyper=values)[0] for values in (before, after)
    )
    others = [0, 2, 3]
    np.testing.assert_array_equal(first[others], second[others])
    assert not np.allclose(first[1], second[1], atol=1e-4)


def test_the_trace_is_the_stated_objective_at_grey():
    variables, features = sent("ReLU1")
    grey = small.apply(at("ReLU1").edge, variables, np.full((1, *SHAPE), 0.5, "f4"))
    squares = ((features - np.asarray(grey)) ** 2).reshape(COUNT, -1)
    record = dataclasses.replace(ALIKE["authors"], steps=1, tv_weight=5.0)
    for distance, wanted in (("mean", squares.mean(1)), ("sum", squares.sum(1))):
        _, trace = invert("ReLU1", dataclasses.replace(record, distance=distance))
        np.testing.assert_allclose(trace[:, 0], wanted, rtol=1e-4)


def test_both_total_variations_against_loops():
    z = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    vertical = (z[:, 1:] - z[:, :-1]).astype(np.float64)
    horizontal = (z[:, :, 1:] - z[:, :, :-1]).astype(np.float64)
    authors = [
        (v**2).sum() / v.size + (h**2).sum() / h.size
        for v, h in zip(vertical, horizontal, strict=True)
    ]
    shown = jax.jit(
        lambda z: [authors_variation(z), *(paper_variation(z, b) for b in (1.0, 2.0))]
    )(z)
    np.testing.assert_allclose(shown[0], authors, rtol=1e-5)
    for place, beta in ((1, 1.0), (2, 2.0)):
        paper = np.zeros(2)
        for index in np.ndindex(z.shape):
            b, i, j, c = index
            down = vertical[b, i, j, c] if i < 4 else 0.0
            right = horizontal[b, i, j, c] if j < 3 else 0.0
            paper[b] += (down**2 + right**2 + 1e-6) ** (beta / 2)
        np.testing.assert_allclose(shown[place], paper, rtol=1e-5)


def test_flat_pictures_have_a_finite_gradient():
    flat = np.zeros((1, 5, 5, 1), np.float32)
    slope = jax.jit(jax.grad(lambda z: paper_variation(z, 1.0).sum()))
    np.testing.assert_array_equal(slope(flat), 0)


def test_total_variation_smooths():
    rough, smooth = (
        invert("ReLU2", dataclasses.replace(DESCENT, tv_weight=weight))[0]
        for weight in (0.0, 10.0)
    )

    def variation(images):
        steps = (np.diff(images, axis=axis) ** 2 for axis in (1, 2))
        return sum(step.mean() for step in steps)

    assert variation(smooth) < variation(rough) / 2


def test_the_box_holds_during_the_search():
    record = dataclasses.replace(DESCENT, learning_rate=0.5, tv_weight=0.0)
    boxed, _ = invert("fc1", record)
    free, _ = invert("fc1", dataclasses.replace(record, box=False))
    assert not np.allclose(free, boxed)
    assert 0 <= boxed.min() and boxed.max() <= 1


def test_no_features_are_one_line():
    edge, features = sent("conv1")
    attack = build("conv1", DESCENT)
    with pytest.raises(ValueError, match="give one target at least"):
        attack.invert(edge, jax.random.key(0), features[:0], traced_half(DESCENT))


def test_features_of_another_cut_are_refused():
    features = np.zeros((1, 5, 5, 8), np.float32)
    with pytest.raises(ValueError, match=r"ends in 'conv1' and sends \(10, 10, 8\)"):
        invert("conv1", DESCENT, features)


def test_the_authors_settings_are_their_preset():
    tree = {"attack": {"name": "rmle", "preset": "authors"}}
    assert config.build(tree).attack == rmle.AUTHORS


def test_knowledge_is_limited_to_what_is_declared():
    everything = Knowledge(*(object() for _ in Knowledge._fields))
    seen = limit(everything, ("edge_variables",))
    assert seen.edge_variables is everything.edge_variables
    assert all(x is None for n, x in seen._asdict().items() if n != "edge_variables")
    with pytest.raises(ValueError, match="needs 'query'"):
        limit(Knowledge(), ("query",))
    with pytest.raises(ValueError, match="did you mean 'query'"):
        limit(Knowledge(), ("qury",))


@pytest.mark.parametrize("name", ALIKE)
def test_another_record_with_other_traced_values_shares_everything(name):
    first = ALIKE[name]
    if first.solver == "gauss_newton":
        first = dataclasses.replace(first, noise=0.1)
    other = dataclasses.replace(
        first,
        tv_weight=2e-3,
        noise=3 * first.noise,
        learning_rate=0.02,
        epsilon=1e-5,
        tolerance=2 * first.tolerance,
    )
    assert build("ReLU1", first) is build("ReLU1", other)
    shown, _ = invert("ReLU1", first)
    with compiled() as programs:
        another, _ = invert("ReLU1", other)
    assert programs == []
    assert not np.array_equal(shown, another)


def test_a_switch_turned_on_is_another_attack():
    assert build("conv1", Rmle()) is not build("conv1", Rmle(noise=0.1))


def test_an_inversion_can_be_traced_again():
    """Nothing that one trace made is left in a cache for the next."""
    variables, features = sent("conv1")
    record = Rmle(steps=1)
    attack, hyper = build("conv1", record), traced_half(record)

    def invert(variables, features):
        return attack.invert(variables, jax.random.key(0), features, hyper).images

    for count in (1, 2):  # of another shape, since what is traced is kept
        pictures = jax.eval_shape(invert, variables, features[:count])
        assert pictures.shape == (count, *SHAPE)


def test_an_inversion_is_few_programs():
    """Each small array operation outside a program is a program of its own, and a call:
    it took 39, and on a GPU ten times as long as its steps."""
    record = Rmle(solver="gd", steps=3, start="grey", tolerance=0.0)
    sent("conv1")
    jax.clear_caches()
    with compiled() as programs:
        invert("conv1", record)
    assert 3 <= len(programs) <= 12, programs
