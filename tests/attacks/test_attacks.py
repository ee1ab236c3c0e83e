"""What holds of every attack of the table, beside its contracts (test_testing.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import SHAPE, at

from ghostjax import registry
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
from ghostjax.base import Context
from ghostjax.config import sections
from ghostjax.data import load
from ghostjax.defenses.records import Ghost, GhostPlus, Hide, Noise, Plain
from ghostjax.experiments import plan
from ghostjax.fields import traced_half
from ghostjax.stego.records import Lsb

CUT = at("pool1")
NEWTON = Rmle(solver="gauss_newton", steps=3, start="dark")
RECORDS = {
    "gd": Rmle(solver="gd", steps=5),
    "lbfgs": Rmle(solver="lbfgs", steps=2, start="dark"),
    "gauss_newton": NEWTON,
    "inverse": Inverse(),
    "direct": Direct(),
    "shadow": Shadow(architecture="same"),
}


def build(record, **rest):
    return registry.build(record, CUT, Context(public_count=96)._replace(**rest))


ATTACKS = {name: build(record) for name, record in RECORDS.items()} | {
    "denoise": build(Denoise(images=48), inner=build(NEWTON)),
    "extract": extract(
        build(NEWTON), registry.build(Lsb(), SHAPE, Context()), "reveal"
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_features_of_another_shape_are_refused(name):
    """Before anything that was learned is looked at."""
    hyper = traced_half(RECORDS.get(name, NEWTON))
    if name == "denoise":
        hyper = {"attack": hyper, "denoise": traced_half(Denoise())}
    params = {"inner": None, "stego": {"bits": np.uint8(3)}}
    with pytest.raises(ValueError, match="features of shape"):
        ATTACKS[name].invert(params, jax.random.key(2), jnp.zeros((2, 3, 3, 8)), hyper)


def test_the_secret_itself_is_what_direct_alone_gives():
    assert {n for n, attack in ATTACKS.items() if attack.gives_secrets} == {"direct"}


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
    [(Inverse(), NoDenoise()), (NEWTON, Denoise())],
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


@pytest.mark.parametrize("attack", [NEWTON, Shadow()])
def test_what_needs_the_targets_weights_alone_is_learned_once(attack):
    defenses = Plain(), Hide(), Noise(), Noise(level=2.0), Ghost(), Ghost(cut="pool2")
    names = [named(defense, attack) for defense in defenses]
    assert len({*names[:5]}) == 1 and names[5] != names[0]
    assert named(Plain(), attack, target=sections.Target(seed=1)) != names[0]


def test_what_attackers_learn_of_secrets_is_shared_where_they_are_hidden_alike():
    names = [named(defense, Direct()) for defense in (Hide(), Ghost(), Ghost(steps=5))]
    assert len({*names}) == 1
    generators = [named(GhostPlus(steps=n), Direct()) for n in (2, 3)]
    fewer = named(Hide(), Direct(), stego=Lsb(bits=2))
    assert len({names[0], named(Plain(), Direct()), fewer, *generators}) == 5
