"""Sweeps: which experiments a file stands for, in which order; running and resuming."""

import csv
import errno
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import sample
from rich.console import Console

from ghostjax import config, fields, files, registry, runtime
from ghostjax.attacks.records import Inverse, Rmle
from ghostjax.config import grid
from ghostjax.defenses.records import Plain
from ghostjax.evaluation import accuracy, columns
from ghostjax.experiments import comparison, run
from ghostjax.fields import content_hash
from ghostjax.records import DefenseRecord
from ghostjax.report import page
from ghostjax.report.folder import faults, read_row

TESTS = Path(__file__).parents[1]
BASE = """
name = "grid"
[data]
name = "digits"
[target]
network = "lenet5"
epochs = 1
batch_size = 64
[defense]
name = "noise"
place = "input"
cut = "conv1"
[attacker]
images = 4
[attack]
name = "rmle"
preset = "authors"
steps = 5
"""


def load(tmp_path, text, base=BASE):
    path = tmp_path / "grid.toml"
    path.write_text(base + text)
    return grid.load(path)


def test_axes_come_in_stated_order_and_variants_outermost(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        "defense.level" = [1.0, 0.5]
        seed = [0, 1]
        [[variants]]
        label = "shallow"
        defense.cut = "conv1"
        attack.tv_weight = 0.0
        [[variants]]
        label = "deep"
        defense.cut = "ReLU2"
        attack.tv_weight = 10.0
        """,
    )
    assert sweep.keys == ("defense.cut", "attack.tv_weight", "defense.level", "seed")
    members = [
        (m.name, m.defense.cut, m.attack.tv_weight, m.defense.level, m.seed)
        for m in sweep.members
    ]
    assert members == [
        (f"grid-{name}", cut, weight, level, seed)
        for name, cut, weight in (("shallow", "conv1", 0.0), ("deep", "ReLU2", 10.0))
        for level in (1.0, 0.5)
        for seed in (0, 1)
    ]
    assert sweep.name == "grid"
    assert grid.title(sweep.members[0], sweep.keys) == (
        "defense.cut conv1, attack.tv_weight 0.0, defense.level 1.0, seed 0"
    )


def test_a_table_is_laid_over_its_section(tmp_path):
    sweep = load(
        tmp_path,
        '[sweep]\nattack = [{name = "rmle", tv_weight = 3.0}, {name = "inverse"}]',
    )
    rmle, inverse = (member.attack for member in sweep.members)
    assert (rmle.preset, rmle.steps, rmle.tv_weight) == ("authors", 5, 3.0)
    assert inverse == Inverse()
    assert grid.value_of(sweep.members[1], "attack.tv_weight") is None


def test_a_preset_can_be_swept(tmp_path):
    sweep = load(tmp_path, '[sweep]\nattack.preset = ["authors", "adam"]')
    assert [m.attack.epsilon for m in sweep.members] == [1e-3, 1e-8]
    assert [m.attack.steps for m in sweep.members] == [500, 2000], "all of a preset"


def test_a_preset_takes_away_what_lies_below_it(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        "attack.preset" = ["adam"]
        "attack.tv_weight" = [0.5, 0.25]
        [[variants]]
        attack = {preset = "authors", steps = 7}
        sweep."attack.keep" = ["last"]
        """,
    )
    assert [m.attack for m in sweep.members] == [
        Rmle(preset="adam", solver="gd", steps=2000, tolerance=0.0, tv_weight=weight)
        for weight in (0.5, 0.25)
    ]


def test_another_member_in_a_variant_keeps_the_cut_alone(tmp_path):
    sweep = load(tmp_path, '[[variants]]\ndefense.name = "plain"\nlabel = "open"')
    assert sweep.members[0].defense == Plain(cut="conv1")


def test_members_come_with_the_trees_they_are_built_from(tmp_path):
    text = """
        [sweep]
        seed = [0, 1]
        [[variants]]
        label = "strong"
        defense.level = 2.0
        [[variants]]
        defense.name = "plain"
        """
    for found in (load(tmp_path, ""), load(tmp_path, text)):
        assert tuple(map(config.build, found.trees)) == found.members
    assert found.trees[1]["defense"]["level"] == 2.0
    assert found.trees[1]["name"] == "grid-strong"


def test_a_single_experiment_is_a_sweep_of_one(tmp_path):
    sweep = load(tmp_path, "")
    assert sweep.keys == ()
    assert sweep.members == (config.load(tmp_path / "grid.toml"),)


def test_a_childs_axes_take_the_place_of_its_parents(tmp_path):
    load(tmp_path, '[sweep]\n"defense.level" = [1.0, 2.0]\nseed = [0, 1]')
    child = tmp_path / "child.toml"
    child.write_text('extends = "grid.toml"\n[sweep]\nseed = [5, 6, 7]')
    assert [member.seed for member in grid.load(child).members] == [5, 6, 7]
    child.write_text('extends = "grid.toml"\n[attacker]\nimages = 9')
    assert [m.attacker.images for m in grid.load(child).members] == [9] * 4


def test_an_axis_of_joint_changes(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        seed = [0, 1]
        "*" = [
          {attack.steps = 6},
          {attack = {name = "inverse"}, denoise.name = "cda"},
        ]
        """,
    )
    members = [(m.seed, m.attack.name, m.denoise.name) for m in sweep.members]
    assert members == [
        (seed, *names)
        for seed in (0, 1)
        for names in (("rmle", "none"), ("inverse", "cda"))
    ]
    assert sweep.members[0].attack.steps == 6
    assert sweep.keys == ("seed", "attack.steps", "attack.name", "denoise.name")


def test_a_variant_has_axes_of_its_own_outside_those_of_all(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        seed = [0, 1]
        "attacker.images" = [3, 4]
        [[variants]]
        label = "strong"
        sweep = {"defense.level" = [2.0, 9.0], "attacker.images" = [7]}
        [[variants]]
        label = "weak"
        defense.level = 0.1
        """,
    )
    members = [
        (m.name, m.defense.level, m.seed, m.attacker.images) for m in sweep.members
    ]
    assert members == [
        *(("grid-strong", level, seed, 7) for level in (2.0, 9.0) for seed in (0, 1)),
        *(("grid-weak", 0.1, seed, images) for seed in (0, 1) for images in (3, 4)),
    ]


def test_keys_that_follow_from_another_tell_nothing(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        seed = [0, 1]
        [[variants]]
        defense = {name = "arden", cut = "conv1", steps = 3}
        sweep."defense.scale" = [1.0, 2.0]
        [[variants]]
        defense.level = 2.0
        """,
    )
    keys = grid.telling(sweep)
    assert keys == ("defense.name", "defense.scale", "seed")
    assert grid.title(sweep.members[0], keys) == (
        "defense.name arden, defense.scale 1.0, seed 0"
    )
    assert grid.title(sweep.members[-1], keys) == "defense.name noise, seed 1"


def test_steps_that_follow_from_another_axis_tell_nothing(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        "*" = [
          {seed = 0, attack.steps = 3},
          {seed = 1, attack.steps = 4},
        ]
        "attack.tv_weight" = [0.1, 0.2]
        """,
    )
    assert grid.telling(sweep) == ("seed", "attack.tv_weight")


def seeds_of(sweep):
    return [
        tuple(grid.value_of(m, key) for key in ("seed", "target.seed", "stego.seed"))
        for m in sweep.members
    ]


NNS = '[stego]\nname = "nns"\n'


def test_seeds_are_all_seeds_that_a_member_has(tmp_path):
    sweep = load(
        tmp_path,
        """
        [sweep]
        seeds = [4, 5]
        stego = [{name = "nns", epochs = 1}, {name = "lsb"}]
        """,
    )
    assert seeds_of(sweep) == [(4, 4, 4), (4, 4, 0), (5, 5, 5), (5, 5, 0)]
    assert grid.telling(sweep) == ("seed", "stego.name")  # the others follow
    assert tuple(map(config.build, sweep.trees)) == sweep.members
    assert "stego.seed" in sweep.keys and "seeds" not in sweep.keys


def test_seeds_add_no_key_to_a_member(tmp_path):
    (member,) = load(tmp_path, NNS + "[sweep]\nseeds = [0]").members
    plain = load(tmp_path, NNS).members[0]
    assert member == plain and content_hash(member) == content_hash(plain)


def test_a_seed_varies_one_thing_each(tmp_path):
    for key, place in {"seed": 0, "target.seed": 1, "stego.seed": 2}.items():
        sweep = load(tmp_path, NNS + f'[sweep]\n"{key}" = [0, 1]')
        varied = [0, 0, 0]
        varied[place] = 1
        assert seeds_of(sweep) == [(0, 0, 0), tuple(varied)]
        assert grid.telling(sweep) == (key,)


def test_seeds_stand_where_any_key_does(tmp_path):
    text = '[sweep]\n"*" = [{seeds = 1, attack.steps = 6}, {seeds = 2}]'
    assert seeds_of(load(tmp_path, text)) == [(1, 1, 0), (2, 2, 0)]
    text = '[[variants]]\nseeds = 3\nlabel = "all"\n[[variants]]\nlabel = "none"'
    assert seeds_of(load(tmp_path, text)) == [(3, 3, 0), (0, 0, 0)]
    text = f'{NNS}[[variants]]\nlabel = "own"\nsweep.seeds = [7, 8]'
    assert seeds_of(load(tmp_path, text)) == [(7, 7, 7), (8, 8, 8)]


def test_the_seeds_of_a_users_own_record_follow_too(tmp_path, monkeypatch):
    family = registry.FAMILIES["defense"]
    monkeypatch.setattr(family, "_rows", {name: family[name] for name in family})
    registry.add("defense", Seeded, "nowhere:seeded")
    sweep = load(tmp_path, '[sweep]\nseeds = [3]\ndefense.name = ["seeded"]')
    assert sweep.members[0].defense == Seeded(cut="conv1", draw=3)


@dataclass(frozen=True, kw_only=True)
class Seeded(DefenseRecord):
    name: Literal["seeded"] = "seeded"
    draw: int = fields.seed(0)


REFUSED = {
    "seeds and a seed": (
        '[sweep]\nseeds = [0, 1]\n"target.seed" = [5, 6]',
        "seeds and target.seed are both varied: seeds stands for seed, target.seed;",
    ),
    "half a seed": ("[sweep]\nseeds = [0.5]", "seed = 0.5: give a whole number"),
    "seeds without a sweep": ("seeds = 3", "unknown key 'seeds': did you mean 'seed'"),
    "variant's axis": (
        "[[variants]]\nsweep.seed = 3",
        "seed = 3: give a list of its values",
    ),
    "joint changes": ('[sweep]\n"*" = [1]', "'\\*' has 1: write tables of keys"),
    "empty list": ("[sweep]\nseed = []", "seed = .*: give a list of its values"),
    "no list": ("[sweep]\nseed = 3", "seed = 3: give a list of its values"),
    "no table": ("sweep = 3", "sweep = 3: write a table"),
    "value twice": ("[sweep]\nseed = [1, 2, 1]", "seed names 1 twice"),
    "unknown key": (
        '[sweep]\n"defense.levl" = [1.0]',
        r"\(defense.levl = 1.0\): unknown \[defense\] key 'levl': did you mean 'level'",
    ),
    "unknown section": ('[sweep]\n"defens.level" = [1.0]', "did you mean 'defense'"),
    "impossible value": (
        '[sweep]\n"defense.level" = [1.0, -1.0]',
        "defense.level = -1.0: must be 0 or more",
    ),
    "wrong type": ('[sweep]\n"attack.steps" = [1.5]', "steps = 1.5: give a whole"),
    "no variants": ("variants = []", "write .*variants"),
    "variants in one table": ("[variants]\nseed = 1", "write .*variants"),
    "unknown variant key": ("[[variants]]\nsed = 1", "did you mean 'seed'"),
    "label": ('[[variants]]\nlabel = "a/b"', "label = 'a/b': a name is letters"),
    "same experiment": (
        '[[variants]]\nlabel = "a"\n[[variants]]\nlabel = "b"\nseed = 0',
        "experiments 1 and 2 of the sweep are the same",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    text, message = REFUSED[case]
    top, rest = (text + "\n", "") if not text.startswith("[") else ("", text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, rest, top + BASE)


def test_config_load_names_the_way_to_run_a_sweep(tmp_path):
    load(tmp_path, "[sweep]\nseed = [1, 2]")
    with pytest.raises(ValueError, match="many experiments .sweep.: `ghostjax run`"):
        config.load(tmp_path / "grid.toml")


def run_one(member, output):
    (folder,) = run.run([member], output, Console(quiet=True)).folders
    return folder


SMALL = f"""
name = "grid"
{sample.TARGET}
[defense]
name = "noise"
place = "input"
cut = "pool1"
[attacker]
images = 4
[attack]
name = "rmle"
preset = "authors"
steps = 5
[judge]
used = false
"""
GRID = '[sweep]\n"defense.level" = [0.0, 4.0]\nseed = [0, 1]'


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(sweep, output, what was printed) of a sweep that ran undisturbed."""
    output = tmp_path_factory.mktemp("sweep")
    found = load(output, GRID, SMALL)
    console = Console(record=True, width=200)
    runtime.configure()
    with sample.registered(), sample.without_curves():
        page = comparison.compare(found, output, console)
        assert page.is_file()
        yield found, output, console.export_text()


def folders(output):
    return sorted(output.glob("grid-????????"))


def result(folder):
    row = read_row(folder)
    return {key: value for key, value in row.items() if not key.startswith("seconds")}


def test_a_sweep_compares_its_members_in_order(ran):
    found, output, printed = ran
    assert len(folders(output)) == 4
    (comparison,) = output.glob("grid-sweep-*/comparison.csv")
    rows = list(csv.DictReader(comparison.read_text().splitlines()))
    told = [(float(row["defense.level"]), int(row["seed"])) for row in rows]
    assert told == [(m.defense.level, m.seed) for m in found.members]
    *_, head, quiet, loud, said = (x for x in printed.splitlines() if x)
    assert head.split()[:3] == ["defense.level", "seeds", "(n)"]
    assert [line.split()[:2] for line in (quiet, loud)] == [["0", "2"], ["4", "2"]]
    accuracies = [float(row["accuracy_all"]) for row in rows[2:]]
    assert loud.split()[2:4] == [f"{np.mean(accuracies):.2f}", "±"]
    assert "n = 2 runs that differ only in the seed" in said
    assert "target.seed did not vary with it: all have the same trained target" in said


def test_every_column_of_a_row_is_documented_and_no_other(ran):
    _, output, _ = ran
    golden = json.loads((TESTS / "golden" / "rows.json").read_text())
    seen = {"folder": None}
    for row in (*golden.values(), *map(read_row, folders(output))):
        seen |= row if "data" in row else {}  # not those of a partition's walk
    assert [name for name in seen if columns.find(name) is None] == []
    used = {columns.find(name) for name in seen}
    assert [line.name for line in columns.COLUMNS if line not in used] == []


def test_results_show_secrets_and_what_is_read_out_where_there_are_any(tmp_path):
    found = load(tmp_path, "[sweep]\nseed = [0, 1]")
    clean = {"accuracy_all": 99.0, "ssim_reconstruction_secret_mean": 0.05}
    hidden = {"accuracy_secret": 97.5, "control_constant_answer": 50.5}
    hidden |= {"ssim_extracted_secret_mean": 0.66, "stego": "lsb"}
    shown = comparison.results(found, [clean, {**clean, **hidden}])
    assert shown.head == [
        "seed", "secrets", "constant answer", "accuracy", "SSIM", "SSIM, read out"
    ]  # fmt: skip
    assert shown.lines == [
        ["0", "–", "–", "99.00 %", "0.050", "–"],
        ["1", "97.50 %", "50.50 %", "99.00 %", "0.050", "0.660"],
    ]
    told = {**clean, "accuracy_secret": 98.0, "stego": ""}  # an undefended network
    shown = comparison.results(found, [told, told])
    assert shown.head == ["seed", "accuracy", "SSIM"]


def test_a_sweep_that_no_file_stated_is_compared_too(ran):
    found, output, _ = ran
    made = grid.Sweep(found.name, found.keys, found.members)
    with sample.without_curves():
        page = comparison.compare(made, output, Console(quiet=True))
    assert page.parent in set(output.glob("grid-sweep-*"))


def test_members_that_share_equal_the_same_runs_alone(ran, tmp_path):
    found, output, _ = ran
    alone = run_one(found.members[3], tmp_path)
    assert result(alone) == result(output / alone.name)


def test_accuracies_are_measured_once_for_what_shares_them(ran, monkeypatch):
    _, output, _ = ran
    axes = '"data.gamma" = ["2:8", "3:7"]\n"attack.tv_weight" = [2.0, 3.0]'
    found = load(output, f"[sweep]\n{axes}", SMALL)
    called = []

    def counted(name):
        original = getattr(accuracy, name)

        def call(defense, *rest):
            called.append((name, defense.name))
            return original(defense, *rest)

        monkeypatch.setattr(accuracy, name, call)

    counted("measure")
    counted("clean_answers")
    folders_ = run.run(found.members, output, Console(quiet=True)).folders
    both = ("plain", "noise")
    assert [c for c in called if c[0] == "measure"] == [
        ("measure", n) for n in both * 2
    ]
    assert len(called) == 6, "clean images once for all partitions"
    alone = replace(found.members[3], name="alone")  # nothing shared but trained parts
    folders_.append(run_one(alone, output))
    rows = [read_row(folder) for folder in folders_]
    accuracies = [key for key in rows[0] if "accuracy" in key or "control" in key]
    assert len(accuracies) > 8
    for key in accuracies:
        assert rows[0][key] == rows[1][key] and rows[3][key] == rows[4][key]
    assert rows[0]["accuracy_secret_n"] != rows[2]["accuracy_secret_n"]
    for folder in folders_:
        shutil.rmtree(folder)


def test_a_sweep_continues_with_what_is_missing(ran):
    found, output, _ = ran
    before = {f.name: (f / "row.parquet").stat().st_mtime_ns for f in folders(output)}
    gone = folders(output)[1]
    row = result(gone)
    (gone / "row.parquet").unlink()
    console = Console(record=True, width=200)
    comparison.compare(found, output, console)
    assert console.export_text().count("already finished") == 3
    for folder in folders(output):
        same = (folder / "row.parquet").stat().st_mtime_ns == before[folder.name]
        assert same == (folder != gone)
    assert result(gone) == row


def test_a_sweep_makes_again_what_is_damaged(ran):
    """A flipped bit, what is missing, and a page cut short, one in each member."""
    plan, output, _ = ran
    rows = [result(folder) for folder in folders(output)]
    spoilt = [
        folder / name
        for folder, name in zip(
            folders(output),
            ("row.parquet", "metrics.jsonl", "arrays.npz", "report.html"),
            strict=True,
        )
    ]
    for path in (spoilt[0], spoilt[2]):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
    spoilt[1].unlink()
    spoilt[3].write_bytes(spoilt[3].read_bytes()[:-100])
    console = Console(record=True, width=400)
    comparison.compare(plan, output, console)
    text = console.export_text()
    for path in spoilt[:3]:
        assert f"made again: {path}" in text
    assert f"already finished: {spoilt[3].parent}" in text
    assert [result(folder) for folder in folders(output)] == rows
    for folder in folders(output):
        assert not faults(folder) and page.is_whole(folder / "report.html")


def test_a_full_disk_is_nobodys_failure(ran, monkeypatch):
    """The same call continues."""
    plan, output, _ = ran
    gone = folders(output)[2]
    row = result(gone)
    (gone / "row.parquet").unlink()

    def full(*_):
        raise files.unwritable(gone, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_sealed", full)
        with pytest.raises(files.Unwritable, match=gone.name):
            comparison.compare(plan, output, Console(quiet=True))
    assert not (gone / "error.json").exists() and not (gone / "row.parquet").exists()
    comparison.compare(plan, output, Console(quiet=True))
    assert result(gone) == row


def test_what_is_finished_can_be_read_where_nobody_may_write(ran, monkeypatch):
    code = errno.EROFS
    plan, output, printed = ran
    (folders(output)[0] / "report.html").unlink()

    opened = files.Path.open

    def refused(path, mode="r", *arguments, **words):
        if mode[0] == "r":
            return opened(path, mode, *arguments, **words)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "open", refused)
        console = Console(record=True, width=400)
        comparison.compare(plan, output, console)
    text = console.export_text()
    assert text.count(f"cannot be written: {os.strerror(code)}") == 2
    assert text.count("already finished") == 4
    assert text.splitlines()[-3:] == printed.splitlines()[-3:]
    comparison.compare(plan, output, Console(quiet=True))
    assert page.is_whole(folders(output)[0] / "report.html")


def test_all_is_checked_before_anything_runs(ran, tmp_path):
    found = load(tmp_path, '[sweep]\n"defense.cut" = ["fc1", "pol1"]', SMALL)
    with pytest.raises(ValueError, match="defense.cut pol1: .*did you mean 'pool1'"):
        comparison.compare(found, tmp_path / "runs", Console(record=True))
    assert not (tmp_path / "runs").exists()
