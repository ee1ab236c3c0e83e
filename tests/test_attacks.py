"""The contract that every attack of the table keeps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from probes import NETWORK, SHAPE, bars

from ghostjax import chain, sections, train
from ghostjax.attacker import part_name
from ghostjax.attacks import build_attack, denoise, direct, inverse, pairs, shadow
from ghostjax.attacks.extract import extract
from ghostjax.attacks.rmle import AUTHORS, Settings, rmle
from ghostjax.base import Knowledge, limit
from ghostjax.defenses.hide import hide
from ghostjax.defenses.noise import noise
from ghostjax.defenses.plain import plain
from ghostjax.stego import lsb
from ghostjax.train import Recipe

EDGE, CLOUD = chain.cut(NETWORK, "pool1")
FEATURES = (6, 6, 8)
HIDING = lsb.lsb(3)
BRIEF = pairs.Settings(Recipe(6), 16, 8)
NEWTON = rmle(EDGE, SHAPE, Settings("gauss_newton", 3, "dark"))
MADE = {
    "gd": rmle(EDGE, SHAPE, AUTHORS._replace(steps=5)),
    "lbfgs": rmle(EDGE, SHAPE, Settings("lbfgs", 2, "dark")),
    "gauss_newton": NEWTON,
    "inverse": inverse.inverse(FEATURES, SHAPE, BRIEF),
    "direct": direct.direct(FEATURES, SHAPE, BRIEF),
    "shadow": shadow.shadow(EDGE, CLOUD, SHAPE, NEWTON, shadow.Settings(Recipe(6), 16)),
    "denoise": denoise.denoise(
        NEWTON, SHAPE, denoise.Settings(Recipe(6), 16, images=48)
    ),
    "extract": extract(NEWTON, HIDING),
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
    edge, cloud = (chain.select(half, variables) for half in (EDGE, CLOUD))
    query = Partial(_query, edge)
    encode = Partial(_encode, edge)
    known = Knowledge(
        edge, cloud, query, jnp.asarray(images), jnp.asarray(labels), None, (), encode
    )
    shown = jnp.asarray(bars(1, 5)[0], jnp.float32) / 255
    return known, chain.apply(EDGE, edge, shown)


def _query(variables, key, images):
    return chain.apply(EDGE, variables, images)


def _encode(variables, key, secrets, covers):
    return chain.apply(EDGE, variables, HIDING.hide((), covers, secrets))


@pytest.fixture(scope="module")
def fitted(scene):
    """name -> (params, metrics), each fitted once."""
    return {name: fit(MADE[name], scene[0]) for name in MADE}


def fit(attack, known, key=1):
    own = limit(known, attack.needs)
    return attack.fit(jax.random.key(key), own, partial(train.fit, scanned=False))


@pytest.mark.parametrize("name", MADE)
def test_it_declares_what_it_needs_and_works_with_that_alone(scene, fitted, name):
    attack = MADE[name]
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
    params, _ = fit(attack, scene[0]._replace(**lies))
    jax.tree.map(np.testing.assert_array_equal, params, fitted[name][0])


@pytest.mark.parametrize("name", MADE)
def test_images_have_shape_type_and_range(scene, fitted, name):
    found, trace = MADE[name].invert(fitted[name][0], jax.random.key(2), scene[1])
    assert found.shape == (5, *SHAPE) and found.dtype == jnp.float32
    assert bool(jnp.isfinite(found).all())
    assert 0 <= float(found.min()) and float(found.max()) <= 1
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(trace))


@pytest.mark.parametrize("name", MADE)
def test_a_batch_is_its_images_one_by_one(scene, fitted, name):
    params, key = fitted[name][0], jax.random.key(2)
    together, _ = MADE[name].invert(params, key, scene[1])
    for place in (0, 3):
        alone, _ = MADE[name].invert(params, key, scene[1][place : place + 1])
        # LSB extraction turns a rounding difference into a whole bit.
        if name != "extract":
            np.testing.assert_allclose(alone[0], together[place], atol=2e-3)
    again, _ = MADE[name].invert(params, key, scene[1])
    np.testing.assert_array_equal(again, together)


@pytest.mark.parametrize("name", MADE)
def test_one_program_serves_other_features(scene, fitted, name):
    invert = jax.jit(MADE[name].invert)
    for scale in (1.0, 0.5):
        invert(fitted[name][0], jax.random.key(2), scale * scene[1])
    assert invert._cache_size() == 1


@pytest.mark.parametrize("name", LEARNED)
def test_what_it_learns_depends_on_its_key_alone(scene, fitted, name):
    same, metrics = fit(MADE[name], scene[0])
    jax.tree.map(np.testing.assert_array_equal, same, fitted[name][0])
    assert metrics and all("loss" in history for history in metrics.values())
    other, _ = fit(MADE[name], scene[0], key=9)
    pairs_ = zip(jax.tree.leaves(other), jax.tree.leaves(same), strict=True)
    assert not all(np.array_equal(a, b) for a, b in pairs_)


@pytest.mark.parametrize("name", MADE)
def test_features_of_another_shape_are_refused(fitted, name):
    with pytest.raises(ValueError, match="features of shape"):
        MADE[name].invert(fitted[name][0], jax.random.key(0), jnp.zeros((2, 3, 3, 8)))


@pytest.mark.parametrize("member", sections.ATTACKS)
def test_the_table_builds_every_member(member):
    config = sections.Config(attack=sections.ATTACKS[member]())
    built = build_attack(config, EDGE, CLOUD, SHAPE, 64)
    assert (built is None) == (member == "none")
    if built is not None and member != "direct":
        wrapped = sections.Config(attack=config.attack, denoise=sections.Denoise())
        attack = build_attack(wrapped, EDGE, CLOUD, SHAPE, 64)
        assert attack.name == f"denoise({built.name})"


def named(defense, attack, **own):
    """What the attacker's training is called, against a defense of its own name."""
    known = {"target": "target-1", "defended": f"{defense.name}-2", **own}
    config = sections.Config(attack=sections.Inverse())
    return part_name(config, defense, NEEDS[attack], **known)


def test_defenses_that_send_public_images_plainly_share_what_attackers_learn():
    bare = [plain(EDGE, CLOUD), hide(EDGE, CLOUD, HIDING)]
    noisy = noise(EDGE, CLOUD, level=1.0)
    for attack in ("inverse", "shadow", "denoise"):
        assert named(bare[0], attack) == named(bare[1], attack)
        assert named(noisy, attack) != named(bare[0], attack)
        assert named(noisy, attack, defended="noise-3") != named(noisy, attack)
        other = named(bare[0], attack, target="target-3")
        assert other != named(bare[0], attack)


def test_what_attackers_learn_of_secrets_is_shared_where_they_are_hidden_alike():
    hidden = hide(EDGE, CLOUD, HIDING)
    direct_ = [named(hidden, "direct", defended=name) for name in ("hide-2", "ghost-3")]
    assert direct_[0] == direct_[1]
    assert direct_[0] != named(plain(EDGE, CLOUD), "direct")
    perturbing = hidden._replace(perturb=lambda *own: None)
    own = [named(perturbing, "direct", defended=name) for name in ("plus-2", "plus-3")]
    assert len({direct_[0], *own}) == 3, "generators differ"
    config = sections.Config(attack=sections.Inverse(), stego=sections.Lsb(bits=2))
    fewer = part_name(config, hidden, NEEDS["direct"], "target-1", "hide-2")
    assert fewer != direct_[0]
