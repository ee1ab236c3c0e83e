"""rMLE: the stated objective, per-image descent, and pictures that come back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ghostjax import config, registry
from ghostjax.attacks import rmle
from ghostjax.attacks.objective import authors_variation, paper_variation
from ghostjax.attacks.records import Rmle
from ghostjax.base import Context, Cut, Knowledge, limit, per_target
from ghostjax.evaluation import metrics
from ghostjax.fields import static_half, traced_half
from ghostjax.models import chain, zoo
from ghostjax.training.fit import drive

SHAPE = (28, 28, 1)
AUTHORS = dataclasses.replace(rmle.AUTHORS, tv_weight=1e-7, learning_rate=5e-2)
SHARP = dataclasses.replace(
    AUTHORS, steps=400, keep="best", optimizer="adam", epsilon=1e-8
)


@pytest.fixture(scope="module")
def scene():
    """(lenet5, its variables, eight smooth images)."""
    layers = zoo.lenet5()
    variables = chain.init(layers, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    noise = jax.random.uniform(jax.random.key(1), (8, 7, 7, 1))
    return layers, variables, jax.image.resize(noise, (8, *SHAPE), "linear")


@pytest.fixture
def compiled():
    """Names of the programs compiled since the test began; none comes from a disk."""
    names = []

    def listen(event, seconds, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # whether there is one is asked once a process
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


def build(layers, layer, record):
    return registry.build(record, Cut(*chain.cut(layers, layer), SHAPE), Context())


def sent(scene, layer):
    """(variables of the edge, features of the images)."""
    layers, variables, images = scene
    edge, _ = chain.cut(layers, layer)
    edge_variables = chain.select(edge, variables)
    return edge_variables, chain.apply(edge, edge_variables, images)


def attack(scene, layer, record, **values):
    """(images, trace) for features of the edge that ends in a layer."""
    record = dataclasses.replace(record, **values)
    variables, features = sent(scene, layer)
    attacker = build(scene[0], layer, record)
    knowledge = limit(Knowledge(edge_variables=variables), attacker.needs)
    hyper = traced_half(record)
    params, learned = drive(attacker.fit(jax.random.key(2), hyper, knowledge))
    assert learned == {}
    inversion = attacker.invert(params, jax.random.key(3), features, hyper)
    return inversion.images, inversion.trace


def test_pictures_come_back_through_the_first_convolution(scene):
    recovered, trace = attack(scene, "conv1", SHARP, tv_weight=0.0)
    assert recovered.shape == (8, *SHAPE) and trace.shape == (8, 400)
    assert float(metrics.psnr(scene[2], recovered).min()) > 40
    assert bool((trace[:, -1] < 1e-3 * trace[:, 0]).all())


@pytest.mark.parametrize("cut", ["pool1", "ReLU2", "fc2"])
def test_every_cut_descends(scene, cut):
    recovered, trace = attack(scene, cut, SHARP, steps=60, tv_weight=1e-3)
    assert bool((trace[:, -1] < trace[:, 0]).all())
    assert 0 <= float(recovered.min()) and float(recovered.max()) <= 1


ALIKE = {
    "authors": dataclasses.replace(AUTHORS, steps=30),
    "adam": dataclasses.replace(SHARP, steps=30, box=True),
    "lbfgs": Rmle(solver="lbfgs", steps=4, start="dark"),
    "gauss_newton": Rmle(solver="gauss_newton", steps=8, start="dark"),
    "several starts": Rmle(solver="gauss_newton", steps=4),
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_batch_is_its_images_one_by_one(scene, name):
    record = ALIKE[name]
    together, trace = attack(scene, "conv1", record)
    for place in range(2):
        one = scene[0], scene[1], scene[2][place : place + 1]
        alone, alone_trace = attack(one, "conv1", record)
        np.testing.assert_allclose(alone[0], together[place], atol=1e-3)
        np.testing.assert_allclose(alone_trace[0], trace[place], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["authors", "gauss_newton", "several starts"])
def test_vmap_of_one_image_is_the_batch(scene, name):
    variables, features = sent(scene, "conv1")
    record = ALIKE[name]
    attacker, hyper = build(scene[0], "conv1", record), traced_half(record)

    def one(feature):
        key = jax.random.key(0)
        return attacker.invert(variables, key, feature[None], hyper).images[0]

    together = attacker.invert(variables, jax.random.key(0), features, hyper).images
    np.testing.assert_allclose(jax.vmap(one)(features), together, atol=1e-3)


SEVERAL = {  # in the order of targets; every value of a traced field differs
    "tv_weight": np.geomspace(1e-6, 1e-3, 8),
    "noise": np.linspace(0.01, 0.3, 8),
    "learning_rate": np.linspace(0.01, 0.1, 8),
    "epsilon": np.geomspace(1e-8, 1e-2, 8),
    "tolerance": np.geomspace(1e-4, 0.3, 8),
}


@pytest.mark.parametrize(
    "solver,noisy",
    [("gd", False), ("lbfgs", True), ("gauss_newton", False), ("gauss_newton", True)],
)
def test_targets_with_hyper_parameters_of_their_own_are_inverted_as_alone(
    scene, solver, noisy
):
    steps = {"gd": 20, "lbfgs": 12, "gauss_newton": 20}[solver]
    values = {**SEVERAL, "noise": SEVERAL["noise"] * noisy}
    records = [
        Rmle(
            solver=solver,
            steps=steps,
            start="dark",
            **{name: float(column[place]) for name, column in values.items()},
        )
        for place in range(8)
    ]
    hypers = [traced_half(record) for record in records]
    assert len({static_half(record) for record in records}) == 1
    mixed = jax.tree.map(lambda *leaves: np.stack(leaves), *hypers)
    variables, features = sent(scene, "ReLU1")
    attacker, key = build(scene[0], "ReLU1", records[0]), jax.random.key(3)
    together = attacker.invert(variables, key, features, mixed)
    for place in (0, 7):
        # In a batch of the same size, to the bit; by itself, to rounding.
        uniform = attacker.invert(variables, key, features, hypers[place])
        np.testing.assert_array_equal(uniform.images[place], together.images[place])
        np.testing.assert_array_equal(uniform.trace[place], together.trace[place])
        alone = attacker.invert(
            variables, key, features[place : place + 1], hypers[place]
        )
        np.testing.assert_allclose(alone.images[0], together.images[place], atol=5e-3)


@pytest.mark.parametrize("name", SEVERAL)
def test_each_hyper_parameter_of_a_target_counts(scene, name):
    """Of two targets one has another value: it alone changes."""
    solver = "gd" if name in ("learning_rate", "epsilon") else "gauss_newton"
    steps = {"gd": 20, "gauss_newton": 40}[solver]
    record = Rmle(solver=solver, steps=steps, start="dark", noise=0.01)
    variables, features = sent(scene, "ReLU1")
    attacker, hyper = build(scene[0], "ReLU1", record), traced_half(record)
    before = per_target(hyper, 2)
    after = {**before, name: np.float32([hyper[name], SEVERAL[name][-1]])}
    first, second = (
        attacker.invert(variables, jax.random.key(3), features[:2], values).images
        for values in (before, after)
    )
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.allclose(first[1], second[1], atol=1e-4)


def test_the_trace_is_the_stated_objective_at_grey(scene):
    variables, features = sent(scene, "ReLU1")
    edge, _ = chain.cut(scene[0], "ReLU1")
    grey = np.asarray(chain.apply(edge, variables, jnp.full((1, *SHAPE), 0.5)))
    squares = ((np.asarray(features) - grey) ** 2).reshape(8, -1)
    for distance, wanted in (("mean", squares.mean(1)), ("sum", squares.sum(1))):
        changes = {"steps": 1, "distance": distance, "tv_weight": 5.0}
        _, trace = attack(scene, "ReLU1", AUTHORS, **changes)
        np.testing.assert_allclose(trace[:, 0], wanted, rtol=1e-4)


def test_both_total_variations_against_loops():
    z = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    vertical = (z[:, 1:] - z[:, :-1]).astype(np.float64)
    horizontal = (z[:, :, 1:] - z[:, :, :-1]).astype(np.float64)
    authors = [
        (v**2).sum() / v.size + (h**2).sum() / h.size
        for v, h in zip(vertical, horizontal, strict=True)
    ]
    np.testing.assert_allclose(authors_variation(jnp.asarray(z)), authors, rtol=1e-5)
    for beta in (1.0, 2.0):
        paper = np.zeros(2)
        for index in np.ndindex(z.shape):
            b, i, j, c = index
            down = vertical[b, i, j, c] if i < 4 else 0.0
            right = horizontal[b, i, j, c] if j < 3 else 0.0
            paper[b] += (down**2 + right**2 + 1e-6) ** (beta / 2)
        np.testing.assert_allclose(
            paper_variation(jnp.asarray(z), beta), paper, rtol=1e-5
        )


def test_flat_pictures_have_a_finite_gradient():
    flat = jnp.zeros((1, 5, 5, 1))
    gradient = jax.grad(lambda z: paper_variation(z, 1.0).sum())(flat)
    np.testing.assert_array_equal(gradient, 0)


def test_total_variation_smooths(scene):
    rough, _ = attack(scene, "pool2", SHARP, steps=60, tv_weight=0.0)
    smooth, _ = attack(scene, "pool2", SHARP, steps=60, tv_weight=10.0)
    assert float(authors_variation(smooth).mean()) < float(
        authors_variation(rough).mean()
    )


def test_the_box_holds_during_the_search(scene):
    values = {"steps": 40, "learning_rate": 0.5, "tv_weight": 0.0}
    free, _ = attack(scene, "fc1", SHARP, **values)
    boxed, _ = attack(scene, "fc1", SHARP, box=True, **values)
    assert not np.allclose(free, boxed)
    assert 0 <= float(boxed.min()) and float(boxed.max()) <= 1


def test_features_of_another_cut_are_refused(scene):
    attacker, features = build(scene[0], "conv1", SHARP), jnp.zeros((1, 12, 12, 8))
    with pytest.raises(ValueError, match=r"ends in 'conv1' and sends \(24, 24, 8\)"):
        attacker.invert(scene[1], jax.random.key(0), features, traced_half(SHARP))


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


def test_an_inversion_is_few_programs(scene, compiled):
    """Each small array operation outside a program is a program of its own, and a call:
    it took 39, and on a GPU ten times as long as its steps."""
    record = Rmle(solver="gd", steps=3, start="grey", tolerance=0.0)
    variables, features = sent(scene, "conv1")
    attacker, key = build(scene[0], "conv1", record), jax.random.key(0)
    jax.clear_caches()
    before = len(compiled)
    attacker.invert(variables, key, features, traced_half(record))
    assert 3 <= len(compiled) - before <= 12, compiled


@pytest.mark.parametrize("name", ALIKE)
def test_another_record_with_other_traced_values_shares_everything(
    scene, compiled, name
):
    first = dataclasses.replace(ALIKE[name], noise=0.1)
    other = dataclasses.replace(
        first,
        tv_weight=2e-3,
        noise=0.3,
        learning_rate=0.02,
        epsilon=1e-5,
        tolerance=2 * first.tolerance,
    )
    variables, features = sent(scene, "conv1")
    attackers = [build(scene[0], "conv1", record) for record in (first, other)]
    assert attackers[0] is attackers[1]
    key, pictures = jax.random.key(0), []
    for attacker, record in zip(attackers, (first, other), strict=True):
        before = len(compiled)
        shown = attacker.invert(variables, key, features, traced_half(record))
        pictures.append(np.asarray(shown.images))
    assert len(compiled) == before, compiled[before:]
    assert not np.array_equal(*pictures)


def test_a_switch_turned_on_is_another_attack(scene):
    quiet, other = Rmle(), Rmle(noise=0.1)
    assert build(scene[0], "conv1", quiet) is not build(scene[0], "conv1", other)


def test_an_inversion_can_be_traced_again(scene):
    """Nothing that one trace made is left in a cache for the next."""
    variables, features = sent(scene, "conv1")
    record = Rmle(steps=1)
    attacker, hyper = build(scene[0], "conv1", record), traced_half(record)

    def invert(variables, features):
        return attacker.invert(variables, jax.random.key(0), features, hyper).images

    for count in (1, 2):  # of another shape, since what is traced is kept
        pictures = jax.jit(invert)(variables, features[:count])
        assert pictures.shape == (count, *SHAPE)
