"""The contract that every attack of the table keeps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compiled
from jax.tree_util import Partial
from probes import NETWORK, SHAPE, at, bars

from ghostjax import registry
from ghostjax.attacks import rmle
from ghostjax.attacks.extract import extract
from ghostjax.attacks.records import (
    Denoise,
    Direct,
    Inverse,
    NoAttack,
    NoDenoise,
    Rmle,
    Shadow,
)
from ghostjax.base import Context, Knowledge, limit, per_target
from ghostjax.config import sections
from ghostjax.data import load
from ghostjax.defenses.records import Ghost, GhostPlus, Hide, Noise, Plain
from ghostjax.experiments import plan
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive

CUT = at("pool1")
LSB = {"bits": np.uint8(3)}
HIDING = registry.build(Lsb(bits=3), SHAPE, Context())
CONTEXT = Context(public_count=96)
BRIEF = {"epochs": 1, "batch_size": 16, "width": 8, "schedule": "constant"}
NEWTON = Rmle(solver="gauss_newton", steps=3, start="dark")
RECORDS = {
    "gd": dataclasses.replace(rmle.AUTHORS, steps=5),
    "lbfgs": Rmle(solver="lbfgs", steps=2, start="dark"),
    "gauss_newton": NEWTON,
    "inverse": Inverse(**BRIEF),
    "direct": Direct(**BRIEF),
    "shadow": Shadow(
        architecture="same",
        steps=3,
        start="dark",
        epochs=1,
        batch_size=16,
        train_optimizer="adam",
    ),
}
REPAIR = Denoise(epochs=2, batch_size=16, images=48, schedule="constant")


def build(record, **rest):
    return registry.build(record, CUT, CONTEXT._replace(**rest))


ATTACKS = {name: build(record) for name, record in RECORDS.items()} | {
    "denoise": build(REPAIR, inner=build(NEWTON)),
    "extract": extract(build(NEWTON), HIDING),
}
HYPER = {name: traced_half(record) for name, record in RECORDS.items()} | {
    "denoise": {"attack": traced_half(NEWTON), "denoise": traced_half(REPAIR)},
    "extract": traced_half(NEWTON),
}
NEEDS = {
    "gd": {"edge_variables"},
    "lbfgs": {"edge_variables"},
    "gauss_newton": {"edge_variables"},
    "inverse": {"query", "public_images"},
    "direct": {"query", "public_images", "encode"},
    "shadow": {"cloud_variables", "public_images", "public_labels"},
    "denoise": {"edge_variables", "query", "public_images"},
    "extract": {"edge_variables", "stego_params"},
}
LEARNED = ("inverse", "direct", "shadow", "denoise")


@pytest.fixture(scope="module")
def scene():
    """(everything that can be known, features of five images)."""
    images, labels = bars(0, 64)
    variables = chain.init(NETWORK, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    edge, cloud = (chain.select(half, variables) for half in (CUT.edge, CUT.cloud))
    known = Knowledge(
        edge_variables=edge,
        cloud_variables=cloud,
        query=Partial(_query, edge),
        public_images=jnp.asarray(images),
        public_labels=jnp.asarray(labels),
        stego_params=LSB,
        encode=Partial(_encode, edge),
    )
    shown = jnp.asarray(bars(1, 5)[0], jnp.float32) / 255
    return known, chain.apply(CUT.edge, edge, shown)


def _query(variables, key, images):
    return chain.apply(CUT.edge, variables, images)


def _encode(variables, key, secrets, covers):
    return chain.apply(CUT.edge, variables, HIDING.hide(LSB, covers, secrets))


@pytest.fixture(scope="module")
def fitted(scene):
    """name -> (params, metrics), each fitted once."""
    return {name: fit(name, scene[0]) for name in ATTACKS}


def fit(name, known, key=1, hyper=None):
    attack = ATTACKS[name]
    seen = limit(known, attack.needs)
    return drive(attack.fit(jax.random.key(key), hyper or HYPER[name], seen))


def invert(name, params, features, hyper=None):
    arguments = jax.random.key(2), features, hyper or HYPER[name]
    return ATTACKS[name].invert(params, *arguments)


def pictures(name, *arguments):
    """What the attack is after."""
    shown = invert(name, *arguments)
    return shown.images if shown.secrets is None else shown.secrets


@pytest.mark.parametrize("name", ATTACKS)
def test_it_declares_what_it_needs_and_works_with_that_alone(scene, fitted, name):
    attack = ATTACKS[name]
    assert set(attack.needs) == NEEDS[name]
    for field in NEEDS[name]:
        with pytest.raises(ValueError, match=f"needs '{field}'"):
            limit(scene[0]._replace(**{field: None}), attack.needs)
    # Other values of what it may not know change nothing.
    lies = {
        field: jax.tree.map(lambda x: x + 1, getattr(scene[0], field))
        for field in ("edge_variables", "cloud_variables", "public_labels")
        if field not in NEEDS[name]
    }
    params, _ = fit(name, scene[0]._replace(**lies))
    jax.tree.map(np.testing.assert_array_equal, params, fitted[name][0])


@pytest.mark.parametrize("name", ATTACKS)
def test_images_have_shape_type_and_range(scene, fitted, name):
    shown = invert(name, fitted[name][0], scene[1])
    for images in jax.tree.leaves(shown._replace(trace=())):
        assert images.shape == (5, *SHAPE) and images.dtype == jnp.float32
        assert bool(jnp.isfinite(images).all())
        assert 0 <= float(images.min()) and float(images.max()) <= 1
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(shown.trace))
    assert (shown.secrets is not None) == (name == "extract")
    assert (shown.before_denoising is not None) == (name == "denoise")
    assert ATTACKS[name].gives_secrets == (name == "direct")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_batch_is_its_images_one_by_one(scene, fitted, name):
    params = fitted[name][0]
    together = pictures(name, params, scene[1])
    for place in (0, 3):
        alone = pictures(name, params, scene[1][place : place + 1])
        # LSB extraction turns a rounding difference into a whole bit.
        if name != "extract":
            np.testing.assert_allclose(alone[0], together[place], atol=2e-3)
    again = pictures(name, params, scene[1])
    np.testing.assert_array_equal(again, together)


@pytest.mark.parametrize("name", ATTACKS)
def test_hyper_parameters_may_be_each_targets_own(scene, fitted, name):
    params, hyper = fitted[name][0], HYPER[name]
    shared = invert(name, params, scene[1])
    each = invert(name, params, scene[1], per_target(hyper, 5))
    jax.tree.map(np.testing.assert_array_equal, each, shared)


@pytest.mark.parametrize("name", ATTACKS)
def test_one_program_serves_other_features(scene, fitted, name):
    jitted = jax.jit(ATTACKS[name].invert)
    for scale in (1.0, 0.5):
        arguments = jax.random.key(2), scale * scene[1], HYPER[name]
        jitted(fitted[name][0], *arguments)
    assert jitted._cache_size() == 1


@pytest.mark.parametrize("name", ATTACKS)
def test_another_member_compiles_nothing(scene, fitted, name):
    """Another seed, other rates and weights, other variables of the target."""
    invert(name, fitted[name][0], scene[1])
    hyper = jax.tree.map(lambda x: np.multiply(x, 2, dtype=x.dtype), HYPER[name])
    known = jax.tree.map(lambda x: x + 0, scene[0])
    features = scene[1] + 0
    with compiled() as programs:
        params, _ = fit(name, known, 5, hyper)
        invert(name, params, features, hyper)
    assert programs == []


@pytest.mark.parametrize("name", LEARNED)
def test_what_it_learns_depends_on_its_key_alone(scene, fitted, name):
    again, metrics = fit(name, scene[0])
    jax.tree.map(np.testing.assert_array_equal, again, fitted[name][0])
    assert metrics and all("loss" in history for history in metrics.values())
    other, _ = fit(name, scene[0], key=9)
    pairs_ = zip(jax.tree.leaves(other), jax.tree.leaves(again), strict=True)
    assert not all(np.array_equal(a, b) for a, b in pairs_)


@pytest.mark.parametrize("name", ATTACKS)
def test_features_of_another_shape_are_refused(fitted, name):
    with pytest.raises(ValueError, match="features of shape"):
        invert(name, fitted[name][0], jnp.zeros((2, 3, 3, 8)))


@pytest.mark.parametrize("member", registry.FAMILIES["attack"])
def test_the_table_builds_every_member(member):
    record = registry.FAMILIES["attack"].record(member)()
    attack = build(record)
    assert (attack is None) == isinstance(record, NoAttack)
    for denoiser, name in ((Denoise(), "denoise({})"), (NoDenoise(), "{}")):
        wrapped = build(denoiser, inner=attack)
        if attack is None:
            assert wrapped is None
        else:
            assert wrapped.name == name.format(attack.name)
            assert wrapped is build(denoiser, inner=attack), "built once"


def named(defense, attack, **changes):
    """What the attacker's training is called, against a defense."""
    config = sections.Config(defense=defense, attack=attack, **changes)
    return plan.member(config, load("digits")).names["attack"]


@pytest.mark.parametrize(
    "attack, denoiser",
    [(Inverse(), NoDenoise()), (Shadow(), NoDenoise()), (NEWTON, Denoise())],
)
def test_defenses_that_send_public_images_plainly_share_what_attackers_learn(
    attack, denoiser
):
    names = [
        named(defense, attack, denoise=denoiser, **changes)
        for defense, changes in (
            (Plain(), {}),
            (Hide(), {}),
            (Noise(), {}),
            (Noise(level=2.0), {}),
            (Plain(), {"target": sections.Target(seed=1)}),
        )
    ]
    assert names[0] == names[1]
    assert len({*names[1:]}) == 4


def test_what_attackers_learn_of_secrets_is_shared_where_they_are_hidden_alike():
    names = [named(defense, Direct()) for defense in (Hide(), Ghost(), Ghost(steps=5))]
    assert len({*names}) == 1
    generators = [named(GhostPlus(steps=n), Direct()) for n in (2, 3)]
    fewer = named(Hide(), Direct(), stego=Lsb(bits=2))
    assert len({names[0], named(Plain(), Direct()), fewer, *generators}) == 5
