"""Bad input: status 2, one line that says where and what, and nothing is written.

Every key of every section and member with what it cannot hold, in a file and as words;
every command with what is not there, is something else, or cannot be read.
"""

import dataclasses
import datetime
from math import inf, nan
from pathlib import Path
from typing import get_origin, get_type_hints

import numpy as np
import pytest
import tomli_w

import ghostjax
from ghostjax import cli, config, names, own, registry
from ghostjax.config import grid, sections
from ghostjax.fields import LARGEST, LAST_SEED, facts

HUGE = 10**600
TYPES = {  # of TOML, and what it calls so
    "string": "x",
    "whole number": 3,
    "number": 1.5,
    "truth": True,
    "moment": datetime.datetime(2026, 11, 28, 1, 2, 3),
    "day": datetime.date(2026, 11, 28),
    "time": datetime.time(1, 2, 3),
    "list": ["x"],
    "table": {"x": 1},
}
HOLDS = {
    int: ["whole number"],
    float: ["whole number", "number"],
    bool: ["truth"],
    str: ["string"],
}


def tables():
    """(section, its record, the table that chooses it) of all sections and members."""
    yield "", sections.Config, {}
    for field in dataclasses.fields(sections.Config):
        if field.name in registry.FAMILIES:
            for name, row in registry.FAMILIES[field.name].items():
                yield field.name, row.record, {"name": name}
        elif field.default_factory is not dataclasses.MISSING:
            yield field.name, field.default_factory, {}


TABLES = list(tables())
each_table = pytest.mark.parametrize(
    ("section", "record", "table"), TABLES, ids=[x[1].__name__ for x in TABLES]
)


def keys_of(record):
    """(key, type, range) of what is no section."""
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        if not (isinstance(hints[field.name], type) and field.name in SECTIONS):
            yield field.name, hints[field.name], facts(field).range


SECTIONS = {section for section, *_ in TABLES}


def wrong_types(hint):
    right = HOLDS.get(hint, ["string"] if get_origin(hint) is not tuple else [])
    values = {kind: value for kind, value in TYPES.items() if kind not in right}
    if get_origin(hint) not in (tuple, None):  # a choice
        values["choice"] = "x"
    return list(values.values())


def outside(hint, limits):
    """Numbers that a key cannot hold."""
    if hint is float:
        values = [nan, inf, -inf, 2 * LARGEST, HUGE, -HUGE]
    elif hint is int:
        values = [2**63, 2**64, -(2**63), HUGE]
    else:
        return []
    for end, beyond in zip(limits, (-1, 0, 1, 0), strict=True):
        if end is not None:
            values.append(hint(end + beyond))
    if limits.below == 1:
        values.append(1 - 1e-12)  # which is 1 in float32
    return values


def stated(section, table, key, value):
    return {section: {**table, key: value}} if section else {key: value}


@each_table
def test_every_key_refuses_the_nine_types_that_it_is_not(section, record, table):
    accepted = []
    for key, hint, _ in keys_of(record):
        label = f"{section}.{key}" if section else key
        for value in wrong_types(hint):
            tree = stated(section, table, key, value)
            try:
                config.build(tree, "some.toml")
            except ValueError as error:
                said = str(error)
                if label in said and repr(value).strip("[]") in said:
                    continue
                accepted.append((label, value, said))
            else:
                accepted.append((label, value, "accepted"))
    assert accepted == []


@each_table
def test_every_number_is_finite_and_in_its_range(section, record, table):
    accepted = []
    for key, hint, limits in keys_of(record):
        label = f"{section}.{key}" if section else key
        for value in outside(hint, limits):
            with pytest.raises(ValueError) as refusal:
                config.build(stated(section, table, key, value))
            if f"{label} = {names.shown(value)}: must be" not in str(refusal.value):
                accepted.append(str(refusal.value))
            with pytest.raises(ValueError, match=f"{key} = "):
                record(**{key: value})
        closed = limits.of_type(hint)
        if hint in (int, float):
            assert [closed.least, closed.above] != [None, None], key
            assert [closed.most, closed.below] != [None, None], key
    assert accepted == []


def words_of(value, hint):
    """A value as a command line has it; (): there it is none, or a good one."""
    if isinstance(value, dict | datetime.date | datetime.time) or hint is str:
        return ()
    if get_origin(hint) is tuple and isinstance(value, int):
        return ()
    return list(map(str, value)) if isinstance(value, list) else [str(value)]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    def run(*_, **__):
        raise AssertionError("it was taken for a good one")

    monkeypatch.setattr("ghostjax.experiments.run.run", run)


def refused(arguments, capsys):
    """What the command says in a line, whose status is 2."""
    status = cli.main(list(map(str, arguments)))
    out, errors = capsys.readouterr()
    assert (status, out) == (2, ""), (arguments, out)
    assert errors.startswith("ghostjax: ") and errors.count("\n") == 1, errors
    assert "Traceback" not in errors
    return errors


@each_table
def test_bad_values_in_a_file_and_in_words_are_a_line(
    section, record, table, tmp_path, capsys
):
    output, silent, count = ["--output", tmp_path / "o"], [], 0
    base, path = tmp_path / "base.toml", tmp_path / "bad.toml"
    base.write_text(tomli_w.dumps({section: table} if section else {}))
    for key, hint, limits in keys_of(record):
        label = f"{section}.{key}" if section else key
        for value in [*wrong_types(hint)[:2], *outside(hint, limits)[-3:]]:
            path.write_text(tomli_w.dumps(stated(section, table, key, value)))
            roads = [["run", path, *output]]
            if words := words_of(value, hint):
                roads.append(["run", base, *output, f"--{label}", *words])
            for arguments in roads:
                count += 1
                said, text = refused(arguments, capsys), repr(value).strip("[]'")
                if label not in said or text[:20] not in said:
                    silent.append((arguments, said))
    assert silent == [] and count > 0
    assert {x.name for x in tmp_path.iterdir()} <= {"base.toml", "bad.toml"}


def test_of_bad_inputs_there_are_200_and_more():
    keys = [key for _, record, _ in TABLES for key in keys_of(record)]
    tried = [len(wrong_types(hint)[:2] + outside(*rest)[-3:]) for _, hint, *rest in
             [(name, hint, hint, limits) for name, hint, limits in keys]]  # fmt: skip
    assert len(keys) > 100 and sum(tried) > 400


NAMES = ["", ".", "..", "...", "a/b", "../../escape", "/root", "a b", "a\nb"] + [
    "a\0b", "é", "[/b]", "$x$", "a+b", "a\\b", "*", "~", "x" * 81, "2²", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_one_rule_for_names_wherever_they_enter(name, tmp_path, capsys):
    path, output = tmp_path / "bad.toml", tmp_path / "o"
    files = {
        "name": {"name": name},
        "label": {"variants": [{"label": name}]},
        "a name with its label": {"name": "a", "variants": [{"label": f"-{name}"}]},
    }
    if name == "":
        files = {"name": files["name"]}
    elif not name.strip("."):
        files.pop("a name with its label")  # a-.. is no path
    for what, tree in files.items():
        path.write_text(tomli_w.dumps(tree), encoding="utf-8")
        for command in ("run", "status"):
            said = refused([command, path, "--output", output], capsys)
            assert "a name is letters, digits and ._-" in said, what
    if "\0" not in name:
        words = ["--output", output, f"--name={name}"]
        assert "name = " in refused(["run", "digits", *words], capsys)
    rule = "a name is letters, digits"
    for make in (
        lambda: sections.Config(name=name),
        lambda: ghostjax.sweep(grid.Sweep(name, (), (sections.Config(),)), output),
        lambda: own.attack(name, print, needs=("query",)),
        lambda: own.defense(name, print),
        lambda: own.stego(name, print),
        lambda: own.denoiser(name, print),
        lambda: own.network(name, None, None, image_shape=(8, 8, 1)),
        lambda: registry.NETWORKS.add(name, None),
        lambda: registry.DATASETS.add(name, None),
        lambda: registry.FAMILIES["attack"].add(name, None),
    ):
        with pytest.raises(ValueError, match=rule):
            make()
    assert [x.name for x in tmp_path.iterdir()] == ["bad.toml"]


def test_names_that_are_names():
    for name in ("a", "A.b_c-9", "..a", "x" * 80, "-"):
        assert names.require("name", name) == name == sections.Config(name=name).name
    for name in (3, None, ["x"], True):
        with pytest.raises(ValueError, match="name = "):
            names.require("name", name)


def test_a_name_and_its_label_are_together_at_most_80(tmp_path, capsys):
    path = tmp_path / "bad.toml"
    tree = {"name": "n" * 50, "variants": [{"label": "b" * 29}, {"seed": 2}]}
    path.write_text(tomli_w.dumps(tree))
    assert len(grid.load(path).members[0].name) == 80
    tree["variants"][0]["label"] += "b"
    path.write_text(tomli_w.dumps(tree))
    said = refused(["run", path, "--output", tmp_path / "o"], capsys)
    assert "name, with its label" in said and "these are 81" in said


FOREIGN = {
    "picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "UTF-16": "seed = 1".encode("utf-16"),
    "latin-1": 'name = "\xe9"'.encode("latin-1"),
    "JSON": b'{"seed": 1}',
    "deep": b"seed = " + b"[" * 100_000,
    "digits": b"seed = " + b"9" * 5000,
    "NUL": b"seed = 1\0",
    "twice": b"seed = 1\nseed = 2\n",
    "extends a number": b"extends = 3",
    "extends a truth": b"extends = true",
    "extends a list": b"extends = [1]",
    "extends a table": b"extends = {x = 1}",
    "extends nothing": b'extends = ""',
    "extends a NUL": b'extends = "a\\u0000b"',
    "extends what is not there": b'extends = "gone.toml"',
    "extends itself": b'extends = "bad.toml"',
    "extends in a circle": b'extends = "circle.toml"',
}
CONFIG_COMMANDS = ["run", "run --dry-run", "status", "partition"]


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "private", *FOREIGN])
def test_every_command_names_a_config_that_is_none(kind, tmp_path, monkeypatch, capsys):
    path, output = tmp_path / "bad.toml", tmp_path / "o"
    (tmp_path / "circle.toml").write_text('extends = "bad.toml"')
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path)
    elif kind in FOREIGN:
        path.write_bytes(FOREIGN[kind])
    elif kind == "private":

        def read(self):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "read_bytes", read)
    before = sorted(tmp_path.iterdir())
    for words in CONFIG_COMMANDS:
        command, *options = words.split()
        said = refused([command, path, *options, "--output", output], capsys)
        assert "bad.toml" in said or "gone.toml" in said or "circle.toml" in said
        assert len(said) < 500 + 2 * len(str(path))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("line", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_a_config_of_another_editor_is_read(line, mark, tmp_path):
    text = line.join(["# of elsewhere", 'name = "a"', "[attack]", "steps = 3", ""])
    path = tmp_path / "a.toml"
    path.write_bytes(mark + text.encode())
    loaded = grid.load(path).members[0]
    assert loaded.name == "a" and loaded.attack.steps == 3
    path.write_bytes(mark)
    assert grid.load(path).members == (sections.Config(),)
    (tmp_path / "b.toml").write_bytes(mark + b'extends = "a.toml"')
    assert grid.load(tmp_path / "b.toml").members == (sections.Config(),)


COMMANDS = {
    "run gone": "gone",
    "run digits CONFIG": "CONFIG",
    "run digits --seed": "--seed",
    "run digits --seed 1 2": "2",
    "run digits --attack.steps x": "attack.steps = 'x'",
    "run digits --sed 3": "--sed",
    "run digits --attack.stesp 3": "stesp",
    "run digits --attack 3": "attack = '3'",
    "run digits --attack.preset nope": "unknown attack.preset 'nope'",
    "run digits --attack.preset author": "did you mean 'authors'",
    "run digits --outptu x": "did you mean '--output'",
    "run digits --devices 0": "'0'",
    "run digits --members-at-once -3": "'-3'",
    "run digits --strategy fast": "'fast'",
    "run": "config",
    "partition digits --max-ssim nan": "'nan'",
    "partition digits --max-ssim -3": "'-3' must be in [-1, 1]",
    "partition digits --max-recognised 101": "'101' must be in [0, 100]",
    "partition digits --max-kilobytes -1": "'-1' must be 0 or more",
    "partition digits --max-psnr inf": "'inf'",
    "partition digits --min-accuracy 1e400": "'1e400'",
    "partition digits --max-ssim x": "'x'",
    "report gone": "gone",
    "report empty": "empty",
    "report text": "text",
    "report damaged": "damaged",
    "report damaged empty": "damaged",
    "configs gone": "gone",
    "configs text": "text",
    "networks gone": "gone",
    "networks cnn2 lenet5": "lenet5",
    "data prepare gone": "gone",
    "data prepare digits": "digits",
    "data prepare mnist --source gone": "gone",
    "data lsit": "lsit",
    "completion fihs": "fihs",
    "doctor me": "me",
    "nothing": "nothing",
    "--nothing": "required: COMMAND",
    "": "required: COMMAND",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_names_what_it_cannot_take(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "row.parquet").write_bytes(b"PAR1 no more")
    before = sorted(tmp_path.rglob("*"))
    assert COMMANDS[words] in refused(words.split(), capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_configs_goes_on_past_files_of_something_else(tmp_path, capsys):
    (tmp_path / "a.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "b.toml").write_bytes(FOREIGN["picture"])
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf# command: this one\nseed = 1\n")
    assert cli.main(["configs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "unknown key 'project'" in printed and "not valid TOML" in printed
    assert "c.toml\n  command: this one" in printed


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--seed 3 smoke", 3),
        ("--seed=3 smoke", 3),
        ("smoke --seed 3", 3),
        ("--output o --seed 3 smoke --dry-run", 3),
        ("--attack.tv-weight 1e-3 --seed 3 smoke --attack.box FALSE", 3),
        ("--data.sensitive-labels 1 2 smoke --seed 3", 3),
        ("--attack.box true --seed 4 --seed 3 smoke", 3),
    ],
)
def test_options_stand_before_and_after_the_config(words, value, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "_laid_out", lambda sweep: seen.append(sweep) or ([], []))
    cli.main(["status", *words.replace(" --dry-run", "").split()])
    (member,) = seen[0].members
    assert member.seed == value
    assert member.data.sensitive_labels in ((), (1, 2))


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_truths_are_words_in_letters_of_any_size(word):
    for form in (["--attack.box", word], [f"--attack.box={word}"]):
        built = config.build(config.override({}, form))
        assert built.attack.box is (word.lower() == "true")


def test_seeds_are_those_that_are_keys_of_their_own():
    assert sections.Config(seed=LAST_SEED).seed == LAST_SEED
    assert sections.Config(seed=np.uint32(7)).seed == 7
    for seed in (-1, LAST_SEED + 1, 2**63, 2**64, HUGE):
        for name in ("seed", "target.seed", "judge.draw"):
            with pytest.raises(ValueError, match=f"{name} = .*must be in"):
                config.build(config.nested(name, seed))


def test_records_that_stand_for_one_another_are_refused():
    for values in ({"attack": 3}, {"stego": sections.Data()}, {"data": {}}):
        with pytest.raises(ValueError, match="give a record"):
            sections.Config(**values)
    with pytest.raises(ValueError, match=r"rows = \[1\]: give a list"):
        sections.Attacker(rows=[1])
