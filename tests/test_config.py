"""Configs: strict, inherited, hashed; every shipped one loads."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ghostjax import config, sections, sweep, zoo
from ghostjax.chain import cut
from ghostjax.config import Config, content_hash

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load_name_real_layers_and_have_a_header(path):
    loaded = sweep.load(path)
    assert loaded.name == path.stem
    for member in loaded.members:
        network = zoo.network(member.target.network)
        cut(network.build(network.classes), member.defense.cut)
    header = [x for x in path.read_text().splitlines() if x.startswith("#")]
    (command,) = [x for x in header if x.startswith("# command: ")]
    assert re.match(
        rf"# command: ghostjax (run|partition) configs/{path.name}", command
    )
    for field in ("reproduces", "expects", "cost"):
        assert any(line.startswith(f"# {field}: ") for line in header), field


def test_toml_round_trip():
    base = Config()
    changed = replace(base, data=replace(base.data, sensitive_labels=(3, 1)))
    for one in (base, changed):
        assert config.build(tomllib.loads(config.to_toml(one))) == one


REFUSED = {
    "unknown key": ({"sed": 1}, "did you mean 'seed'"),
    "unknown section key": ({"target": {"epoch": 1}}, "did you mean 'epochs'"),
    "unknown member": ({"attack": {"name": "rmel"}}, "did you mean 'rmle'"),
    "key of another member": (
        {"defense": {"name": "plain", "steps": 3}},
        r"unknown \[defense\] key 'steps'",
    ),
    "wrong type": ({"target": {"epochs": 1.5}}, "epochs = 1.5: give a whole number"),
    "bool is no number": ({"seed": True}, "seed = True: give a whole number"),
    "wrong choice": ({"target": {"optimizer": "adm"}}, "did you mean 'adam'"),
    "no table": ({"data": 3}, r"write a table, \[data\]"),
    "bad list": ({"data": {"sensitive_labels": [1.5]}}, "list of whole numbers"),
    "no steps": ({"defense": {"steps": 0}}, "defense.steps = 0: must be at least 1"),
    "rate of the uplink": (
        {"device": {"uplink_mbps": 0.0}},
        "device.uplink_mbps = 0.0: must be above 0",
    ),
    "generator's pairs": (
        {"denoise": {"name": "cda", "pairs": "generator"}},
        "denoise.pairs = 'generator': must be 'own': only the defense ghost_plus has",
    ),
    "zeta": ({"stego": {"bits": 8}}, "stego.bits = 8: must be between 1 and 7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    tree, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        config.build(tree)


def test_extends_overrides_key_by_key(tmp_path):
    (tmp_path / "base.toml").write_text(
        'seed = 4\n[target]\nepochs = 7\nnetwork = "lenet5"\n[defense]\nsteps = 9\n'
    )
    (tmp_path / "child.toml").write_text(
        'extends = "base.toml"\n[target]\nepochs = 8\n[defense]\nname = "plain"\n'
    )
    child = config.load(tmp_path / "child.toml")
    assert child.seed == 4
    assert child.target.epochs == 8 and child.target.network == "lenet5"
    assert child.defense == sections.Plain()


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match="cannot read config .*gone.toml"):
        config.load(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("seed = \n")
    with pytest.raises(ValueError, match="bad.toml: not valid TOML"):
        config.load(tmp_path / "bad.toml")
    (tmp_path / "loop.toml").write_text('extends = "loop.toml"\n')
    with pytest.raises(ValueError, match="extends itself"):
        config.load(tmp_path / "loop.toml")


def test_the_hash_follows_the_content():
    base = Config()
    assert content_hash(base) == content_hash(Config())
    assert content_hash(base) != content_hash(replace(base, seed=1))
    assert len(content_hash(base)) == 16


def test_configs_of_one_family_share_one_target():
    for parent, pattern in {
        "lenet5_mnist": "{noise,dropout,layers,shadow_layers,partition,rmle}_mnist*",
        "cnn6_cifar10": "{noise,dropout,layers}_cifar10*",
    }.items():
        names = re.findall(r"\w+", re.search(r"{(.*)}", pattern).group(1))
        rest = pattern.split("}")[1]
        folder = CONFIGS[0].parent
        target = config.load(folder / f"{parent}.toml").target
        paths = [path for name in names for path in folder.glob(f"{name}{rest}.toml")]
        assert len(paths) >= len(names)
        for path in paths:
            assert all(x.target == target for x in sweep.load(path).members), path
