"""Members of a sweep share their programs: a further one compiles nothing."""

from dataclasses import replace

import numpy as np
import probes
import pytest
from counting import compiled
from rich.console import Console

from ghostjax import config, data, registry
from ghostjax.defenses import generator
from ghostjax.evaluation import answers
from ghostjax.experiments import run
from ghostjax.models import zoo
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu


def network(classes):
    return (
        ("conv1", Conv(4, 3)),
        ("ReLU1", Relu()),
        ("pool1", MaxPool()),
        ("fc1", Dense(classes)),
    )


def bars(seed, count):
    """With a black border: 16 x 16 is the least that GHOST+'s generator takes."""
    images, labels = probes.bars(seed, count)
    return np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))), labels


SHAPE, NAMES = (16, 16, 1), ["left", "right", "top", "bottom"]
DATA = data.from_arrays("bars", bars(0, 192), bars(1, 64), NAMES)
TARGET = {"network": "toy", "epochs": 1, "batch_size": 64}
SECTIONS = {
    "target": TARGET,
    "data": {"gamma": "2:2"},
    "attacker": {"images": 4},
    "judge": {"used": False},
}
STEPS = {"steps": 3, "batch_size": 16}
SEARCH = {"name": "rmle", "steps": 3, "noise": 0.1, "start": "dark"}
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
        "defense": {"name": "noise"},
        "attack": SEARCH,
    },
    "arden": {
        "defense": {"name": "arden", **STEPS, "draws": 2},
        "attack": {"name": "inverse", "epochs": 1, "width": 4, "batch_size": 64},
    },
    "shredder": {
        "defense": {"name": "shredder", **STEPS, "members": 2, "draws": 2},
        "attack": {"name": "none"},
    },
}
CHANGES = {
    "ghost": (
        {
            "seed": 1,
            "data": {"gamma": "1:3"},
            "stego": {"bits": 2},
            "defense": {"learning_rate": 2e-3, "weight": 0.5},
            "attack": {"tv_weight": 1e-5, "learning_rate": 0.1, "tolerance": 1e-2},
        },
        {"target": {"learning_rate": 2e-3, "seed": 1}},
    ),
    "candidates": ({"seed": 1, "data": {"gamma": "1:3"}},),
    "ghost_plus": (
        {
            "seed": 1,
            "data": {"gamma": "1:3"},
            "defense": {"max_perturbation": 0.5, "warm_up": 1},
            "attack": {"tv_weight": 0.1, "epsilon": 1e-4},
        },
    ),
    "noise": (
        {
            "seed": 1,
            "data": {"gamma": "1:3"},
            "defense": {"level": 0.25},
            "attack": {"noise": 0.2},
        },
    ),
    "arden": (
        {
            "seed": 1,
            "data": {"gamma": "1:3"},
            "defense": {"scale": 2.0, "nullified": 0.3, "clean_weight": 0.5},
            "attack": {"learning_rate": 1e-3},
        },
    ),
    "shredder": ({"seed": 1, "defense": {"noise_weight": 0.5, "decay": 0.8}},),
}
"""name -> what members may change, all at once; a target that is trained anew, not
found, is apart."""


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Toys of a network, of GHOST+'s generator and of batches: nearly all of this
    module's time is the compiler's."""
    with pytest.MonkeyPatch.context() as patch:
        toy = zoo.Network(build=network, image_shape=SHAPE, classes=len(NAMES))
        patch.setattr(registry.NETWORKS, "_rows", {**registry.NETWORKS, "toy": toy})
        patch.setattr(generator, "_BLOCKS", 1)
        patch.setattr(answers, "BATCH", 64)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all, which share their target."""
    return tmp_path_factory.mktemp("programs")


def member(name, change=None):
    tree = config.merge({**SECTIONS, **BASES[name]}, change or {})
    return replace(config.build(tree), name=name)


# `testing` tries each part of them, and experiments/test_groups a plan of GHOSTs.
SLOW = "ghost", "candidates", "ghost_plus", "arden"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.science] * (name in SLOW))
        for name in BASES
    ],
)
def test_a_further_member_compiles_nothing(name, folder):
    quiet = Console(quiet=True)
    with compiled() as programs:
        run.run([member(name)], folder, quiet, data=DATA)
    assert len(programs) > 3, "nothing was counted"
    for change in CHANGES[name]:
        with compiled() as programs:
            run.run([member(name, change)], folder, quiet, data=DATA)
        assert programs == [], f"{len(programs)} programs for {change}"
