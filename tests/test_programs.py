"""Members of a sweep share their programs: a further one compiles nothing."""

from dataclasses import replace

import pytest
from counting import compiled
from rich.console import Console

from ghostjax import config
from ghostjax.experiments import run

TARGET = {"network": "lenet5", "epochs": 1, "batch_size": 96}
STEPS = {"steps": 3, "batch_size": 16}
SEARCH = {"name": "rmle", "steps": 3}
BASES = {
    "ghost": {
        "defense": {"name": "ghost", **STEPS, "covert_filters": 4},
        "attack": SEARCH,
    },
    "candidates": {
        "defense": {"name": "ghost", **STEPS, "cover_candidates": 2},
        "attack": {"name": "none"},
    },
    "ghost_plus": {
        "defense": {"name": "ghost_plus", **STEPS, "width": 4, "sees": "revealed"},
        "attack": {"name": "rmle", "preset": "authors", "steps": 3},
    },
    "noise": {
        "defense": {"name": "noise", "cut": "ReLU2"},
        "attack": {**SEARCH, "noise": 0.1},
    },
    "arden": {
        "defense": {"name": "arden", **STEPS, "cut": "pool2"},
        "attack": {"name": "inverse", "epochs": 1, "width": 4, "batch_size": 500},
    },
    "shredder": {
        "defense": {"name": "shredder", **STEPS, "members": 2, "cut": "pool2"},
        "attack": {"name": "none"},
    },
}
CHANGES = {
    "ghost": (
        {"seed": 1},
        {"data": {"gamma": "3:7"}},
        {"stego": {"bits": 2}},
        {"defense": {"learning_rate": 2e-3, "weight": 0.5}},
        {"attack": {"tv_weight": 1e-5, "learning_rate": 0.1, "tolerance": 1e-2}},
        {"target": {"learning_rate": 2e-3, "seed": 1}},
    ),
    "candidates": ({"seed": 1}, {"data": {"gamma": "4:6"}}),
    "ghost_plus": (
        {"seed": 1, "data": {"gamma": "3:7"}},
        {"defense": {"max_perturbation": 0.5, "warm_up": 1}},
        {"attack": {"tv_weight": 0.1, "epsilon": 1e-4}},
    ),
    "noise": (
        {"seed": 1, "data": {"gamma": "3:7"}},
        {"defense": {"level": 0.25}},
        {"attack": {"noise": 0.2}},
    ),
    "arden": (
        {"seed": 1, "data": {"gamma": "3:7"}},
        {"defense": {"scale": 2.0, "nullified": 0.3, "clean_weight": 0.5}},
        {"attack": {"learning_rate": 1e-3}},
    ),
    "shredder": ({"seed": 1}, {"defense": {"noise_weight": 0.5, "decay": 0.8}}),
}


def member(name, change=None):
    tree = {"target": TARGET, "attacker": {"images": 4}, **BASES[name]}
    return replace(config.build(config.merge(tree, change or {})), name=name)


@pytest.mark.parametrize("name", BASES)
def test_a_further_member_compiles_nothing(name, tmp_path):
    quiet = Console(quiet=True)
    run.run([member(name)], tmp_path, quiet)
    for change in CHANGES[name]:
        with compiled() as programs:
            run.run([member(name, change)], tmp_path, quiet)
        assert programs == [], f"{len(programs)} programs for {change}"
