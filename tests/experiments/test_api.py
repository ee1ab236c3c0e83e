"""`ghostjax.run` and `ghostjax.sweep` with what is the user's own, by the examples."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ghostjax
from ghostjax import base, config, data, own
from ghostjax.attacks.records import NoAttack, NoDenoise, Rmle
from ghostjax.config import grid
from ghostjax.defenses import noise
from ghostjax.defenses.records import Ghost, Noise, Plain
from ghostjax.evaluation import answers
from ghostjax.evaluation.records import Judge
from ghostjax.experiments import partitioning
from ghostjax.experiments.plan import member
from ghostjax.report.folder import read_row

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))
import attack  # noqa: E402
import defense  # noqa: E402
import edge  # noqa: E402

SEARCH = Rmle(solver="gd", steps=2, start="grey", tolerance=0.0)
ATTACKER = replace(config.Config().attacker, images=2)
LITTLE = replace(config.Config(), name="own", attacker=ATTACKER, attack=SEARCH)
LITTLE = replace(LITTLE, judge=Judge(used=False))
GHOST = Ghost(steps=2, batch_size=8, public_batch_size=8)


@pytest.fixture(scope="module", autouse=True)
def _small_batches():
    """The test images: one batch of them all, and not more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "BATCH", 360)
        yield


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def of_edge(output):
    """The folder of the first example's run, which GHOST defends."""
    seen, folder = edge.main(replace(LITTLE, defense=GHOST), output)
    assert seen.shape == (2, 28, 28, 1)
    return folder


@pytest.fixture(scope="module")
def little(of_edge):
    """A config whose target is the first example's network: nothing is trained."""
    target = config.load(of_edge / "config.toml").target
    return replace(LITTLE, target=target, defense=Plain(cut="edge"))


def test_examples_have_at_most_25_lines():
    lines = {p.name: len(p.read_text().splitlines()) for p in EXAMPLES.glob("*.py")}
    assert len(lines) > 3 and max(lines.values()) <= 25, lines


def test_a_network_of_ones_own_is_the_target_of_a_whole_run(of_edge, little, output):
    row = read_row(of_edge)
    assert (row["network"], row["cut"], row["defense"]) == ("mine", "edge", "ghost")
    assert row["target.digest"] == little.target.digest and row["edge_layers"] == 1
    assert "target.epochs" not in row and row["seconds_target"] == 0
    assert row["control_constant_answer"] and row["control_cover_only"] is not None
    assert row["psnr_reconstruction_secret_n"] == 2
    assert "mine" in (of_edge / "report.html").read_text()
    assert not list((output / "parts").glob("target-*"))
    read = config.load(of_edge / "config.toml")
    assert read == replace(little, defense=replace(GHOST, cut="edge"))
    finished = (of_edge / "row.parquet").stat().st_mtime_ns
    assert edge.main(replace(LITTLE, defense=GHOST), output)[1] == of_edge
    assert (of_edge / "row.parquet").stat().st_mtime_ns == finished


def test_a_defense_of_ones_own_has_its_name_in_the_row(little, output):
    folder = defense.main(little, output)
    row = read_row(folder)
    assert (row["defense"], row["defense.version"]) == ("quantise", "1")
    assert row["accuracy_secret"] is not None and row["target_accuracy_all_n"] == 360
    assert row["control_shuffled_secret"] is not None
    assert "quantise" in (folder / "report.html").read_text()
    finished = (folder / "row.parquet").stat().st_mtime_ns
    assert defense.main(little, output) == folder
    assert (folder / "row.parquet").stat().st_mtime_ns == finished
    quiet = replace(little, attack=NoAttack())
    others = [defense.main(quiet, output, *change) for change in ((2.0,), (3.0,))]
    others.append(defense.main(quiet, output, version="2"))
    assert len({folder, *others}) == 4
    assert all((other / "report.html").exists() for other in others)


def test_an_attack_of_ones_own_has_its_name_in_the_row(little, output):
    folder = attack.main(little, output)
    row = read_row(folder)
    assert (row["attack"], row["defense"]) == ("nearest", "plain")
    assert row["psnr_reconstruction_secret_mean"] > row["psnr_grey_secret_mean"]
    assert "nearest" in (folder / "report.html").read_text()
    assert attack.main(little, output) == folder


def test_a_name_a_path_and_records_are_a_run(little, output, tmp_path):
    path = tmp_path / "little.toml"
    path.write_text(config.to_toml(little))
    members = {"attack": NoAttack(), "quiet": True}
    folders = {ghostjax.run(from_, output, **members) for from_ in (path, str(path))}
    folders.add(ghostjax.run(replace(little, attack=NoAttack()), output))
    assert len(folders) == 1
    levels = ghostjax.run(path, output, defense=Noise(cut="edge", level=0.5), **members)
    assert read_row(levels)["defense.level"] == 0.5
    network = little.target
    named = ghostjax.run("smoke", output, network=network, defense=Plain(), **members)
    assert (read_row(named)["name"], read_row(named)["cut"]) == ("smoke", "edge")


def test_a_sweep_runs_every_member_with_them(little, output, tmp_path):
    path, quiet = tmp_path / "sweep.toml", replace(little, attack=NoAttack())
    changes = '[sweep]\n"seed" = [0, 1]\n'
    path.write_text(config.to_toml(quiet) + changes)
    rows = ghostjax.sweep(path, output, quiet=True, defense=quiet.defense)
    page = Path(rows.schema.metadata[b"page"].decode())
    assert page.exists() and page.parent.name.startswith("own-sweep-")
    assert rows["seed"].to_pylist() == [0, 1]
    for row, folder in zip(rows.to_pylist(), rows["folder"].to_pylist(), strict=True):
        assert {"folder": folder, **read_row(Path(folder))}.items() <= row.items()
    with pytest.raises(ValueError, match="holds 2 experiments: ghostjax.sweep runs"):
        ghostjax.run(path, output)
    same = grid.Sweep("own", ("attack.name",), (little, quiet), ())
    with pytest.raises(ValueError, match="experiments 1 and 2 of the sweep"):
        ghostjax.sweep(same, output, attack=NoAttack())


def lying(cut, record, context):
    """Adds noise, whatever its record says."""
    return noise.noise(cut, Noise(), context)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"defence": Plain()}, "unknown keyword 'defence': did you mean 'defense'"),
        ({"defense": "noise"}, "defense = 'noise': give the record of a registered"),
        ({"attack": NoDenoise()}, "give the record of a registered attack"),
        ({"network": "lenet5"}, "give what ghostjax.own.network gives"),
        ({"defense": Noise(cut="conv1")}, "unknown layer 'conv1'"),
    ],
)
def test_what_cannot_be_run_is_refused(little, output, members, message):
    with pytest.raises(ValueError, match=message):
        ghostjax.run(little, output, **members)


@pytest.mark.parametrize("trait", ["hides", "perturbs", "sends_plain"])
def test_a_defense_is_what_its_record_says(little, output, trait):
    record = own.defense("lying", lying, version=trait, traits=(trait,))
    with pytest.raises(ValueError, match=f"'lying' has {trait} = False and its record"):
        ghostjax.run(little, output, defense=record)


def test_an_attack_knows_what_its_record_says(little, output):
    def factory(cut, record, context):
        return base.Attack("asks", ("query", "public_images"), None, None)

    record = own.attack("asks", factory, needs=("query",))
    with pytest.raises(ValueError, match="needs 'public_images' and its record does n"):
        ghostjax.run(little, output, attack=record)


def test_a_target_of_ones_own_is_named_by_what_it_is(little):
    dataset = data.load("digits")
    targets = [
        little.target,
        replace(little.target, network="other"),
        replace(little.target, version="2"),
        replace(little.target, digest="0" * 16),
    ]
    plans = [member(replace(little, target=one), dataset) for one in targets]
    for stage in ("target", "defense", "measure", "attack", "invert", "row"):
        assert len({plan.names[stage] for plan in plans}) == len(plans)


def test_a_network_of_ones_own_has_no_cuts_to_walk(little):
    with pytest.raises(ValueError, match="'mine' is of the user's own, and its layers"):
        partitioning.cuts(little)
