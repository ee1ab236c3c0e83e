"""Data of one's own in experiments: what they share with others, and whole runs."""

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import ghostjax
from ghostjax import cli, config, data, registry
from ghostjax.experiments import attacker, run
from ghostjax.experiments import plan as plans
from ghostjax.experiments.plan import member, plan
from ghostjax.models import zoo
from ghostjax.models.layers import Dense, MaxPool
from ghostjax.report.folder import read_row

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import own_data  # noqa: E402

NAMES = ["across", "down", "rising", "falling"]
TRAIN, TEST = own_data.stripes(60, 0), own_data.stripes(20, 1)
TINY = """
[target]
network = "blurred"
epochs = 1
batch_size = 40
[defense]
name = "plain"
[attack]
name = "none"
"""
BLURRED = zoo.Network(  # compiles in a second
    build=lambda classes: (("pool1", MaxPool(4)), ("fc1", Dense(classes))),
    image_shape=(28, 28, 1),
    classes=10,
)
ATTACKED = {"target": {"network": "lenet5"}, "attack": {"name": "inverse"}}


def stripes(train=TRAIN, test=TEST, name="stripes"):
    return data.from_arrays(name, train, test, NAMES)


def one_pixel():
    images = TRAIN[0].copy()
    images[7, 14, 14] ^= 1
    return stripes((images, TRAIN[1]))


def reversed_labels():
    return stripes((TRAIN[0], TRAIN[1][::-1]))


def inverted():
    """Same counts, same sum of labels: once the same data."""
    return stripes((255 - TRAIN[0], TRAIN[1][::-1]), (255 - TEST[0], TEST[1][::-1]))


def a_test_pixel():
    images = TEST[0].copy()
    images[0, 0, 0] ^= 1
    return stripes(test=(images, TEST[1]))


OTHERS = {f.__name__: f for f in (one_pixel, reversed_labels, inverted, a_test_pixel)}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("defense", ["plain", "ghost", "noise"])
def test_a_part_of_one_data_set_never_serves_another(defense, other):
    chosen = config.build({**ATTACKED, "defense": {"name": defense}})
    here, there = (member(chosen, x) for x in (stripes(), OTHERS[other]()))
    assert here.names.keys() == there.names.keys() >= {"target", "attack", "row"}
    assert not set(here.names.values()) & set(there.names.values())
    assert not {task.group for task in plan([here]) if task.group} & {
        task.group for task in plan([there])
    }
    assert here.folder != there.folder


def test_the_same_images_are_the_same_data_wherever_they_lie():
    """But a row says what its data were called."""
    base = {**ATTACKED, "data": {"name": "stripes"}}
    moved = config.merge(base, {"data": {"folder": "elsewhere", "size": [28, 28]}})
    names = [member(config.build(x), stripes()).names for x in (base, moved)]
    assert names[0] == names[1]
    renamed = member(config.build(base), stripes(name="bars"))
    assert renamed.config.data.name == "bars"
    assert {k for k, v in renamed.names.items() if v != names[0][k]} == {"row"}


def test_an_attackers_data_set_counts_by_its_content(monkeypatch):
    chosen = config.build({**ATTACKED, "attacker": {"public": "other"}})
    rows = dict(registry.DATASETS.items())
    monkeypatch.setattr(registry.DATASETS, "_rows", rows)
    members = []
    for other in (stripes(name="other"), inverted()):
        about = data.Info((28, 28, 1), tuple(NAMES), load=lambda name, x=other: x)
        rows["other"] = about
        members.append(member(chosen, stripes()))
        section, public = chosen.attacker, members[-1].public
        images = attacker.public_images(section, stripes(), 0, public).images
        np.testing.assert_array_equal(images, other.train.images)
    names, others = (one.names for one in members)
    same = {stage for stage, name in names.items() if others[stage] == name}
    assert same == {"target", "judge", "stego", "defense", "measure"}
    # It may be the user's own; then nothing is loaded.
    rows["other"] = None
    own = member(chosen, stripes(name="other"))
    assert own.public is own.dataset


def test_a_sweep_loads_a_data_set_once(monkeypatch):
    loads = []

    def load(name, **where):
        loads.append((name, where["folder"]))
        return stripes(name=name)

    monkeypatch.setattr(plans, "load", load)
    tree = {"data": {"name": "mine", "folder": "pets"}, "attacker": {"public": "yours"}}
    trees = [{**ATTACKED, **tree, "seed": seed} for seed in range(3)]
    members = plans.lay_out([*map(config.build, trees)])
    assert loads == [("mine", "pets"), ("yours", "")]
    assert len({id(one.dataset) for one in members}) == 1
    assert members[0].public is members[2].public is not None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(the path of a config, a folder of runs, the run of the example in it)."""
    path = tmp_path_factory.mktemp("own_data") / "tiny.toml"
    path.write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        rows = {**registry.NETWORKS, "blurred": BLURRED}
        patch.setattr(registry.NETWORKS, "_rows", rows)
        yield path, path.parent / "runs", own_data.main(path, path.parent / "runs")


def targets(output):
    return {path.name for path in (output / "parts").glob("target-*")}


def test_the_example_reaches_a_report(tiny):
    folder, row = tiny[2], read_row(tiny[2])
    mine = stripes(own_data.stripes(400, 0), own_data.stripes(100, 1))
    assert (row["data"], row["accuracy_all_n"]) == ("stripes", 100)
    assert config.load(folder / "config.toml").data.name == "stripes"
    about = json.loads((folder / "environment.json").read_text())
    assert (about["data"], about["fingerprint"]) == ("arrays", mine.fingerprint)
    assert "stripes" in (folder / "report.html").read_text()
    assert len(Path(own_data.__file__).read_text().splitlines()) <= 25


def test_another_pixel_is_another_run_and_the_same_is_the_same(tiny):
    path, output, folder = tiny
    before = targets(output)
    images, labels = own_data.stripes(400, 0)
    again, other = images, images.copy()
    other[0, 0, 0] ^= 1
    test = own_data.stripes(100, 1)
    for pixels, fresh in ((again, 0), (other, 1)):
        mine = stripes((pixels, labels), test)
        done = ghostjax.run(path, output, quiet=True, data=mine)
        assert (done == folder) == (not fresh)
        assert len(targets(output) - before) == fresh
    with pytest.raises(ValueError, match="data is a tuple: give what .*from_arr"):
        ghostjax.run(path, output, data=(images, labels))


def test_folders_of_one_name_are_told_apart_in_a_sweep(tiny, tmp_path, monkeypatch):
    train, test = own_data.stripes(400, 0), own_data.stripes(100, 1)
    turned = (255 - train[0], train[1][::-1])
    parts = {"a": stripes(train, test), "b": stripes(turned, test)}
    monkeypatch.setattr(plans, "load", lambda name, folder, size: parts[folder])
    tree = tomllib.loads(TINY)
    configs = [
        config.build({**tree, "data": {"name": "stripes", "folder": folder}})
        for folder in parts
    ]
    losses = [
        [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        for folder in run.run(configs, tmp_path, Console(quiet=True)).folders
        for path in [folder / "metrics.jsonl"]
    ]
    assert losses[0] != losses[1]


def test_a_folder_in_a_config_file(tiny, tmp_path, capsys):
    for split, seed, count in (("train", 0, 400), ("test", 1, 100)):
        images, labels = own_data.stripes(count, seed)
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = tmp_path / "pets" / split / NAMES[label] / f"{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
    file = tmp_path / "pets.toml"
    file.write_text(f'{TINY}\n[data]\nname = "pets"\nfolder = "{tmp_path / "pets"}"\n')
    assert cli.main(["run", str(file), "--output", str(tmp_path / "runs")]) == 0
    (folder,) = (tmp_path / "runs").glob("digits-*")
    row = read_row(folder)
    assert (row["data"], row["data.size"]) == ("pets", "")
    assert row["data.folder"] == str(tmp_path / "pets")
    # The same images elsewhere: nothing is run again.
    (tmp_path / "pets").rename(tmp_path / "moved")
    capsys.readouterr()
    words = ["--data.folder", str(tmp_path / "moved"), "--data.size", "28", "28"]
    assert cli.main(["run", str(file), "--output", str(tmp_path / "runs"), *words]) == 0
    assert "already finished" in capsys.readouterr().out
    assert cli.main(["run", str(file), "--output", str(tmp_path / "runs")]) == 2
    assert "pets is not there: give a folder" in capsys.readouterr().err
