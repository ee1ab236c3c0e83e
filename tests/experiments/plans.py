"""Plans of many small members: a network with a convolution, on pictures of bars."""

from contextlib import contextmanager
from dataclasses import replace

import probes
import pytest
from rich.console import Console

from ghostjax import config, data, registry
from ghostjax.evaluation import answers
from ghostjax.experiments import plan, run
from ghostjax.experiments.run import Telling
from ghostjax.experiments.ways import Ways
from ghostjax.models import zoo
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu
from ghostjax.report.folder import read_row

NAMES = ["left", "right", "top", "bottom"]
DATA = data.from_arrays("bars", probes.bars(0, 192), probes.bars(1, 64), NAMES)
SECTIONS = {
    "target": {"network": "toy", "epochs": 1, "batch_size": 64},
    "data": {"name": "bars", "gamma": "2:2"},
    "attacker": {"images": 8},
    "judge": {"used": False},
}
GHOST = {"name": "ghost", "steps": 20, "batch_size": 16, "public_batch_size": 16}
SEARCH = {"name": "rmle", "solver": "gd", "steps": 3, "start": "dark"}
NOTHING = {"name": "none"}


def network(classes):
    return (
        ("conv1", Conv(4, 3)),
        ("ReLU1", Relu()),
        ("pool1", MaxPool()),
        ("fc1", Dense(classes)),
    )


@contextmanager
def registered():
    """Inside, configs may name the network `toy`, and batches are small."""
    toy = zoo.Network(build=network, image_shape=probes.SHAPE, classes=len(NAMES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.NETWORKS, "_rows", {**registry.NETWORKS, "toy": toy})
        patch.setattr(answers, "BATCH", 64)
        yield


def member(defense, attack=NOTHING, /, **changes):
    """An experiment; `changes` are laid over its sections."""
    tree = {**SECTIONS, "defense": defense, "attack": attack}
    return replace(config.build(config.merge(tree, changes)), name="toy")


def sweep(members, output, console=None, finished=lambda folder: None, **ways):
    """What `run.run` gives for members that tell their place."""
    titles = {one: f"member {place}" for place, one in enumerate(members)}
    telling = Telling(titles.__getitem__, finished)
    quiet = console or Console(quiet=True)
    return run.run(members, output, quiet, telling, DATA, Ways(**ways))


def alone(members, output):
    """The rows of members of which each runs by itself, shared parts aside."""
    return rows([sweep([one], output, devices=1).folders[0] for one in members])


def rows(folders):
    """Without what a clock wrote."""
    return [
        {k: v for k, v in read_row(folder).items() if not k.startswith("seconds")}
        for folder in folders
    ]


def laid_out(members):
    """As `run.run` lays them out."""
    return plan.lay_out(members, data=DATA)
