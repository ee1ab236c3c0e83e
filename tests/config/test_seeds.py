"""`seeds` varies every seed, whatever brings the record that has it."""

from dataclasses import replace

import pytest

from ghostjax import cli, config
from ghostjax.config import grid
from ghostjax.stego.records import Lsb, Nns

PLAN = """
[target]
seed = 9
[defense]
name = "ghost"
[sweep]
"""
KEYS = "seed", "target.seed", "stego.seed"
ROADS = {
    "the plan": ('seeds = [4, 5]\n[stego]\nname = "nns"', []),
    "an axis": ('seeds = [4, 5]\nstego.name = ["nns"]', []),
    "a variant": ('seeds = [4, 5]\n[[variants]]\nstego.name = "nns"', []),
    "its axis": (
        'seeds = [4, 5]\n[[variants]]\nsweep = {"stego.name" = ["nns"]}',
        [],
    ),
    "words": ("seeds = [4, 5]", ["--stego.name", "nns"]),
    "words over another": (
        'seeds = [4, 5]\n[stego]\nname = "nns"\nseed = 3',
        ["--stego.name=nns", "--stego.epochs", "1"],
    ),
    "words over variants": (
        "[[variants]]\nseeds = 4\n[[variants]]\nseeds = 5",
        ["--stego.name", "nns"],
    ),
}


def load(tmp_path, axes):
    path = tmp_path / "plan.toml"
    text = PLAN.replace("[sweep]", "") if axes.startswith("[") else PLAN
    path.write_text(text + axes)
    return grid.load(path)


def seeds_of(sweep):
    return [tuple(grid.value_of(m, key) for key in KEYS) for m in sweep.members]


@pytest.mark.parametrize("road", ROADS)
def test_every_seed_follows(road, tmp_path):
    axes, words = ROADS[road]
    sweep = config.override_all(load(tmp_path, axes), words)
    assert seeds_of(sweep) == [(4, 4, 4), (5, 5, 5)]
    assert {*KEYS} <= {*sweep.keys} and grid.telling(sweep) == ("seed",)
    assert tuple(map(config.build, sweep.trees)) == sweep.members


def test_members_without_the_axis_keep_their_seeds(tmp_path):
    sweep = load(tmp_path, '[[variants]]\nseeds = 4\n[[variants]]\nlabel = "b"')
    sweep = config.override_all(sweep, ["--stego.name", "nns"])
    assert seeds_of(sweep) == [(4, 4, 4), (0, 9, 0)]
    sweep = load(tmp_path, "seed = [4, 5]")
    sweep = config.override_all(sweep, ["--stego.name", "nns", "--stego.seed=7"])
    assert seeds_of(sweep) == [(4, 9, 7), (5, 9, 7)]


def test_a_record_in_the_place_of_the_plans_follows_too(tmp_path):
    sweep = load(tmp_path, "seeds = [4, 5]")
    hiding = [replace(member, stego=Nns(epochs=1)) for member in sweep.members]
    swept = grid.changed(sweep, hiding)
    assert seeds_of(swept) == [(4, 4, 4), (5, 5, 5)]
    back = [replace(member, stego=Lsb()) for member in swept.members]
    assert grid.changed(swept, back).members == sweep.members
    hiding = [replace(member, stego=Nns(seed=3)) for member in sweep.members]
    with pytest.raises(ValueError, match=r"stego\.seed = 3: the sweep varies seeds"):
        grid.changed(sweep, hiding)


@pytest.mark.parametrize("value", ["0", "3", "4"])
def test_a_seed_beside_seeds_is_refused_in_a_line(value, tmp_path, capsys):
    load(tmp_path, "seeds = [4, 5]")
    words = ["--stego.name", "nns", "--stego.seed", value]
    plan = str(tmp_path / "plan.toml")
    assert cli.main(["status", plan, "--output", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert "stego.seed" in error and len(error.splitlines()) == 1
