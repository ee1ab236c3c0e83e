"""Configs: strict, inherited, hashed; a statement means the same wherever it stands."""

import dataclasses
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import tomli_w

from ghostjax import cli, config, registry
from ghostjax.attacks.records import Denoise, Inverse, Rmle
from ghostjax.config import grid
from ghostjax.config.sections import Config
from ghostjax.defenses.records import GhostPlus, Plain
from ghostjax.fields import content_hash, traced
from ghostjax.models import zoo
from ghostjax.models.chain import cut
from ghostjax.records import DefenseRecord

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load_name_real_layers_and_have_a_header(path):
    loaded = grid.load(path)
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
    "unknown member": (
        {"attack": {"name": "rmel"}},
        "unknown attack.name 'rmel': did you mean 'rmle'",
    ),
    "no name": ({"attack": {"name": [1]}}, r"attack.name = \[1\]: give a string"),
    "unknown preset": (
        {"attack": {"preset": "author"}},
        "unknown attack.preset 'author': did you mean 'authors'",
    ),
    "key of another member": (
        {"defense": {"name": "plain", "steps": 3}},
        r"unknown \[defense\] key 'steps'",
    ),
    "wrong type": ({"target": {"epochs": 1.5}}, "epochs = 1.5: give a whole number"),
    "bool is no number": ({"seed": True}, "seed = True: give a whole number"),
    "bool is no rate": (
        {"target": {"learning_rate": True}},
        "target.learning_rate = True: give a number",
    ),
    "wrong choice": (
        {"target": {"optimizer": "adm"}},
        "unknown target.optimizer 'adm': did you mean 'adam'",
    ),
    "no table": ({"data": 3}, r"write a table, \[data\]"),
    "no list": (
        {"data": {"sensitive_labels": 1}},
        "data.sensitive_labels = 1: give a list",
    ),
    "bad list": (
        {"data": {"sensitive_labels": [1, 1.5]}},
        r"data.sensitive_labels\[1\] = 1.5: give a whole number",
    ),
    "no steps": ({"defense": {"steps": 0}}, "defense.steps = 0: must be at least 1"),
    "rate of the uplink": (
        {"device": {"uplink_mbps": 0.0}},
        "device.uplink_mbps = 0.0: must be above 0",
    ),
    "generator's pairs": (
        {"denoise": {"name": "cda", "pairs": "generator"}},
        "denoise.pairs = 'generator': must be 'own' with the defense ghost, which has "
        "no generator: ghost_plus has one",
    ),
    "zeta": ({"stego": {"bits": 8}}, r"stego.bits = 8: must be in \[1, 7\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    tree, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"^some.toml: .*{message}"):
        config.build(tree, "some.toml")


def test_sections_that_do_not_agree_are_refused_wherever_they_meet():
    pairs = Denoise(pairs="generator")
    Config(defense=GhostPlus(), denoise=pairs)
    with pytest.raises(ValueError, match="which has no generator"):
        Config(defense=Plain(), denoise=pairs)
    with pytest.raises(ValueError, match="the defense plain hides no secrets"):
        Config(defense=Plain(), denoise=Denoise(pairs="extracted"))


def test_whole_numbers_serve_as_rates():
    built = config.build({"attack": {"learning_rate": 1}})
    assert type(built.attack.learning_rate) is float
    assert content_hash(built) == content_hash(
        config.build({"attack": {"learning_rate": 1.0}})
    )


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
    assert child.defense == Plain()


def test_a_child_that_names_the_default_member_keeps_its_parents_keys(tmp_path):
    (tmp_path / "base.toml").write_text("[defense]\nsteps = 9\n")
    (tmp_path / "child.toml").write_text(
        'extends = "base.toml"\n[defense]\nname = "ghost"\nweight = 2.0\n'
    )
    child = config.load(tmp_path / "child.toml")
    assert (child.defense.steps, child.defense.weight) == (9, 2.0)


def test_what_every_member_has_outlives_a_change_of_member():
    parent = {"defense": {"name": "noise", "cut": "conv2", "level": 3.0}}
    child = config.build(config.merge(parent, {"defense": {"name": "plain"}}))
    assert child.defense == Plain(cut="conv2")
    back = config.merge(parent, {"defense": {"name": "plain"}})
    back = config.merge(back, {"defense": {"name": "noise"}})
    assert config.build(back).defense.level == 1.0


def test_a_preset_means_all_of_it_and_gives_way_to_keys_beside_it():
    parent = {"attack": {"steps": 5, "cg_steps": 3, "tv_weight": 0.5}}
    layer = {"attack": {"preset": "adam", "tv_weight": 0.25}}
    built = config.build(config.merge(parent, layer))
    assert built.attack == Rmle(
        preset="adam",
        solver="gd",
        steps=2000,
        tolerance=0.0,
        tv_weight=0.25,
        cg_steps=3,
    )
    later = config.merge(config.merge(parent, layer), {"attack": {"steps": 7}})
    assert config.build(later).attack == replace(built.attack, steps=7)
    file = config.build(layer | {"seed": 0})
    assert file.attack == replace(built.attack, cg_steps=10)


def test_merging_changes_neither_layer():
    parent, layer = {"attack": {"steps": 5}}, {"attack": {"name": "inverse"}}
    config.merge(parent, layer)
    assert parent == {"attack": {"steps": 5}}
    assert layer == {"attack": {"name": "inverse"}}


MEMBERS = [
    (family, name) for family, members in registry.FAMILIES.items() for name in members
]


def others(cls):
    """For every key of a record a value that is not its default."""
    hints, values = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        hint, default = hints[field.name], field.default
        if field.name == "name":
            continue
        if get_origin(hint) is Literal:
            values[field.name] = next(x for x in get_args(hint) if x != default)
        elif hint is bool:
            values[field.name] = not default
        elif hint is str:
            values[field.name] = "conv2"
        else:
            values[field.name] = default + 1 if hint is int else (default or 1.0) * 0.75
    return values


def by_file(parent, statement, folder):
    family = next(iter(statement))
    tree = {**parent, family: statement[family]}
    (folder / "file.toml").write_text(tomli_w.dumps(tree))
    return config.load(folder / "file.toml")


def by_child(parent, statement, folder):
    (folder / "parent.toml").write_text(tomli_w.dumps(parent))
    child = tomli_w.dumps({"extends": "parent.toml", **statement})
    (folder / "child.toml").write_text(child)
    return config.load(folder / "child.toml")


def by_variant(parent, statement, folder):
    (folder / "grid.toml").write_text(
        tomli_w.dumps({**parent, "variants": [statement]})
    )
    (member,) = grid.load(folder / "grid.toml").members
    return member


def by_axis(parent, statement, folder):
    axes = {family: [table] for family, table in statement.items()}
    (folder / "grid.toml").write_text(tomli_w.dumps({**parent, "sweep": axes}))
    (member,) = grid.load(folder / "grid.toml").members
    return member


def by_words(parent, statement, folder):
    (folder / "parent.toml").write_text(tomli_w.dumps(parent))
    words = [
        word
        for family, table in statement.items()
        for key, value in table.items()
        for word in (f"--{family}.{key.replace('_', '-')}", str(value))
    ]
    (member,) = config.override_all(grid.load(folder / "parent.toml"), words).members
    return member


@pytest.mark.parametrize("stated", ["name", "name and preset", "every key"])
@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_statement_means_the_same_wherever_it_stands(family, name, stated, tmp_path):
    members = registry.FAMILIES[family]
    parent = {"defense": {"name": "ghost_plus"}}  # which can be repaired by a generator
    before = next(other for other in reversed(list(members)) if other != name)
    below = others(members.record(before))
    below.pop("cut", None)
    parent[family] = {"name": before, **below}
    table = others(members.record(name))
    if stated == "name and preset":
        table = {k: v for k, v in table.items() if k == "preset"}
    statement = {family: {"name": name, **(table if stated != "name" else {})}}
    wanted = by_file(parent, statement, tmp_path)
    if stated == "every key":
        for key, value in table.items():
            assert getattr(getattr(wanted, family), key) == value
    if stated == "name":
        assert getattr(wanted, family) == members.record(name)()
    for road in (by_child, by_variant, by_axis, by_words):
        assert road(parent, statement, tmp_path) == wanted, road.__name__


@pytest.mark.parametrize("road", ["child", "variant", "axis", "words"])
@pytest.mark.parametrize("family", registry.FAMILIES)
def test_naming_the_member_that_is_meant_changes_nothing(family, road, tmp_path):
    default = getattr(Config(), family)
    below = others(type(default))
    below.pop("pairs", None)
    statement = {family: {"name": default.name}}
    roads = {"child": by_child, "variant": by_variant, "axis": by_axis}
    for parent in ({family: below}, {family: {"name": default.name, **below}}):
        wanted = config.build(parent)
        laid = roads.get(road, by_words)(parent, statement, tmp_path)
        assert laid == wanted
        for key, value in below.items():
            assert getattr(getattr(laid, family), key) == value
    for key in list(below)[-1:]:  # in any order beside another key
        statement = {family: {key: below[key], "name": default.name}}
        assert config.build(config.merge(parent, statement)) == wanted


@pytest.mark.parametrize("member", ["rmle", "shadow"])
def test_of_words_that_are_stated_twice_the_last_count(member):
    first, last = ["--attack.preset", "authors"], ["--attack.preset=adam"]
    name = [f"--attack.name={member}"]
    wanted = config.build({"attack": {"name": member, "preset": "adam"}})
    for words in (
        [*name, *first, *last],
        [*first, *name, *last],
        [*first, *last, *name],
    ):
        assert config.build(config.override({}, words)) == wanted
    twice = ["--attack.name", "direct", *name, *last]
    assert config.build(config.override({}, twice)) == wanted


def test_another_attack_starts_from_its_own_defaults(tmp_path):
    parent, statement = {"attack": {"name": "rmle"}}, {"attack": {"name": "inverse"}}
    for road in (by_file, by_child, by_variant, by_axis, by_words):
        attack = road(parent, statement, tmp_path).attack
        assert attack == Inverse() and attack.learning_rate == 2e-3, road.__name__


@pytest.mark.parametrize("preset", ["authors", "adam", "gauss_newton"])
@pytest.mark.parametrize("member", ["rmle", "shadow"])
def test_a_preset_is_the_same_wherever_it_stands(member, preset, tmp_path):
    parent = {"attack": {"name": member, "preset": "authors", "steps": 3}}
    statement = {"attack": {"preset": preset}}
    roads = (by_child, by_variant, by_axis, by_words)
    first, *rest = (road(parent, statement, tmp_path) for road in roads)
    assert all(built == first for built in rest)
    alone = {"attack": {"name": member, "preset": preset}}
    assert first == by_file({}, alone, tmp_path)


@dataclass(frozen=True, kw_only=True)
class Quantise(DefenseRecord):
    """Features in few steps."""

    name: Literal["quantise"] = "quantise"
    step: float = traced(0.5, above=0)
    """Of the features' values."""
    offsets: tuple[float, ...] = (0.0,)


@pytest.fixture
def quantise(monkeypatch):
    """A defense that a user registered."""
    family = registry.FAMILIES["defense"]
    monkeypatch.setattr(family, "_rows", {name: family[name] for name in family})
    registry.add("defense", Quantise, "nowhere:quantise")


@pytest.mark.usefixtures("quantise")
def test_a_registered_member_loads_dumps_and_has_keys(tmp_path, capsys):
    path = tmp_path / "own.toml"
    path.write_text(
        '[defense]\nname = "quantise"\ncut = "conv1"\nstep = 2\noffsets = [1, 0.5]\n'
    )
    loaded = config.load(path)
    assert loaded.defense == Quantise(cut="conv1", step=2.0, offsets=(1.0, 0.5))
    assert config.build(tomllib.loads(config.to_toml(loaded))) == loaded
    tree = config.override(config.read(path), ["--defense.step", "4"])
    assert config.build(tree).defense == replace(loaded.defense, step=4.0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", str(path), "--help-keys"])
    printed = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "--defense.step FLOAT" in printed and "Of the features' values" in printed
    assert "quantise}" in printed, "beside the others' names"
    with pytest.raises(ValueError, match="defense.step = 0: must be above 0"):
        config.build({"defense": {"name": "quantise", "step": 0}})


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match="cannot read config .*gone.toml"):
        config.load(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("seed = \n")
    with pytest.raises(ValueError, match="bad.toml: not valid TOML"):
        config.load(tmp_path / "bad.toml")
    (tmp_path / "loop.toml").write_text('extends = "loop.toml"\n')
    with pytest.raises(ValueError, match="extends itself"):
        config.load(tmp_path / "loop.toml")
    (tmp_path / "two.toml").write_text('extends = ["a.toml", "b.toml"]\n')
    with pytest.raises(ValueError, match="extends = .*: give the name of a file"):
        config.load(tmp_path / "two.toml")


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
            assert all(x.target == target for x in grid.load(path).members), path
