"""What a dry run and a status print."""

import pytest
import sample

from ghostjax import config
from ghostjax.experiments import state
from ghostjax.experiments.overview import planned, standing
from ghostjax.experiments.plan import member
from ghostjax.training import stacks

GHOST = {
    "target": {"network": "lenet5"},
    "defense": {"name": "ghost"},
    "attack": {"name": "inverse"},
}
NOISE = {"defense": {"name": "noise"}, "attack": {"name": "none"}}
GROUPS = "groups of tasks that run the same programs"
DATASET = sample.module("pictures").load("digits")


def members(*changes, base=GHOST):
    trees = [config.merge(base, change) for change in changes]
    return [member(config.build(tree), DATASET) for tree in trees]


def weights(*values):
    return members(*({"defense": {"weight": value}} for value in values))


def table(lines, head):
    """The rows below a line that has `head`, cut at their columns."""
    place = next(i for i, line in enumerate(lines) if head in line)
    rows = []
    for line in lines[place + 1 :]:
        if not line or line.startswith(("begun:", "and ")):
            break
        rows.append(tuple(cell.strip() for cell in line.split("  ") if cell.strip()))
    return rows


def finish(one, output):
    folder = output / one.folder
    folder.mkdir(parents=True)
    (folder / "row.parquet").touch()


def train(one, stage, output, training="", steps=()):
    """Makes the folder of a part, with the checkpoints of a training."""
    part = output / "parts" / one.names[stage]
    part.mkdir(parents=True)
    for step in steps:
        (part / training / str(step)).mkdir(parents=True)


def train_in_step(some, stage, output, training, steps):
    """Makes the folder of a group, with its stacked checkpoints."""
    names = [f"{one.names[stage]}/{training}" for one in some]
    folder = stacks.place(output / "parts" / "together", names)
    stacks.begin(folder, names)
    for step in steps:
        (folder / str(step)).mkdir()


def test_a_plan_counts_what_is_shared_once(tmp_path):
    lines = planned(weights(0.5, 1.0, 2.0), tmp_path / "none")
    assert lines[0] == (
        "3 members: 1 target, 1 judge, 1 lsb stego, 3 ghost trainings, 1 inverse "
        "training"
    )
    assert lines[1] == f"finished in {tmp_path / 'none'}: 0 members"
    assert table(lines, "stage") == [
        ("target", "lenet5", "1", "0", "0", "1"),
        ("judge", "digits", "1", "0", "0", "1"),
        ("stego", "lsb", "1", "0", "0", "1"),
        ("defense", "ghost", "3", "0", "0", "3"),
        ("measure", "ghost", "3", "0", "0", "3"),
        ("attack", "inverse", "1", "0", "0", "1"),
        ("invert", "inverse", "3", "0", "0", "3"),
        ("row", "3", "0", "0", "3"),
    ]
    assert not list(tmp_path.iterdir())


def test_a_plan_finds_what_is_there(tmp_path):
    """A stage begins when those before it have ended, so a target is finished where a
    defense has begun; a row needs all its parts."""
    sweep = weights(0.5, 1.0, 2.0)
    finish(sweep[0], tmp_path)
    train(sweep[0], "target", tmp_path, "target", (90, 100))
    train(sweep[0], "defense", tmp_path, "ghost", (1000,))
    train(sweep[1], "defense", tmp_path, "ghost", (450, 500))
    train(sweep[2], "defense", tmp_path)
    lines = planned(sweep, tmp_path)
    assert lines[1] == f"finished in {tmp_path}: 1 member"
    assert table(lines, "stage") == [
        ("target", "lenet5", "1", "1", "0", "0"),
        ("judge", "digits", "1", "0", "0", "1"),
        ("stego", "lsb", "1", "0", "0", "1"),
        ("defense", "ghost", "3", "1", "2", "0"),
        ("measure", "ghost", "3", "1", "0", "2"),
        ("attack", "inverse", "1", "0", "0", "1"),
        ("invert", "inverse", "3", "1", "0", "2"),
        ("row", "3", "1", "0", "2"),
    ]
    begun = [line for line in lines if line.startswith("begun")]
    assert begun == [
        f"begun: parts/{sweep[1].names['defense']}  ghost at step 500",
        f"begun: parts/{sweep[2].names['defense']}  no checkpoint yet",
    ]


def test_a_target_with_checkpoints_and_nothing_behind_it_has_begun(tmp_path):
    (one,) = weights(1.0)
    train(one, "target", tmp_path, "target", (90, 100))
    lines = planned([one], tmp_path)
    assert ("target", "lenet5", "1", "0", "1", "0") in table(lines, "stage")
    train(one, "attack", tmp_path)
    assert ("target", "lenet5", "1", "1", "0", "0") in table(
        planned([one], tmp_path), "stage"
    )


def test_a_plan_sees_what_is_trained_in_step(tmp_path):
    sweep = weights(0.5, 1.0, 2.0, 3.0)
    train_in_step(sweep[:3], "defense", tmp_path, "ghost", (1350, 1400))
    train_in_step(sweep[1:3], "defense", tmp_path, "ghost", (1450,))
    train_in_step(sweep[3:], "defense", tmp_path, "ghost", ())
    train(sweep[2], "defense", tmp_path, "ghost", (1450, 1500))
    lines = planned(sweep, tmp_path)
    assert ("defense", "ghost", "4", "0", "3", "1") in table(lines, "stage")
    steps = "1,400 (3 in step)", "1,450 (2 in step)", "1,500"
    assert [line for line in lines if line.startswith("begun")] == [
        f"begun: parts/{one.names['defense']}  ghost at step {step}"
        for one, step in zip(sweep, steps, strict=False)
    ]


def test_a_plan_that_is_done_has_nothing_to_do(tmp_path):
    sweep = weights(0.5, 1.0)
    for one in sweep:
        finish(one, tmp_path)
    rows = table(planned(sweep, tmp_path), "stage")
    assert all(row[-2:] == ("0", "0") for row in rows)


def test_groups_say_what_varies_in_them_and_what_tells_them_apart():
    changes = [
        {"seed": seed, "defense": {"steps": steps, "weight": weight}}
        for seed in (0, 1)
        for steps in (5, 7)
        for weight in (0.5, 2)
    ]
    lines = planned(members(*changes), sample.PACKAGE)
    rows = [row for row in table(lines, GROUPS) if row[0] == "defense"]
    varies = "seed 0 1, defense.weight 0.5 2, sensitive labels (2 draws)"
    assert rows == [
        ("defense", "ghost", f"lenet5, pool1, defense.steps {steps}", "4", varies)
        for steps in (5, 7)
    ]


def test_groups_of_other_targets_and_defenses_are_told_apart_by_these():
    changes = [{}, {"target": {"seed": 1}}, {"defense": {"name": "ghost_plus"}}]
    rows = table(planned(members(*changes), sample.PACKAGE), GROUPS)
    attacks = [row[2] for row in rows if row[0] == "invert"]
    assert attacks == [
        "lenet5, pool1, target.seed 0, defense.name ghost",
        "lenet5, pool1, target.seed 1, defense.name ghost",
        "lenet5, pool1, target.seed 0, defense.name ghost_plus",
    ]


def test_of_many_values_the_range_is_shown():
    changes = [{"defense": {"level": i / 8}} for i in range(1, 9)]
    lines = planned(members(*changes, base=NOISE), sample.PACKAGE)
    (row,) = [row for row in table(lines, GROUPS) if row[0] == "defense"]
    assert row[-1] == "defense.level 0.125 to 1 (8 values)"


@pytest.fixture
def sweep(tmp_path):
    """Of a few: one done, one failed, one running, one missing."""
    some = weights(0.5, 1.0, 2.0, 3.0)
    finish(some[0], tmp_path)
    for one in some[1:3]:
        (tmp_path / one.folder).mkdir()
    state.write_error(tmp_path / some[1].folder, "attack", ValueError("it is nan\nso"))
    return some


def test_few_members_are_listed_with_their_states(sweep, tmp_path, monkeypatch):
    look = state.state_of
    running = state.State("running", since="2026-11-05T10:00:00+00:00")
    busy = tmp_path / sweep[2].folder
    monkeypatch.setattr(
        state, "state_of", lambda folder: running if folder == busy else look(folder)
    )
    titles = [f"defense.weight {one.config.defense.weight}" for one in sweep]
    assert standing(sweep, titles, tmp_path) == [
        f"4 members in {tmp_path}: 1 done, 1 running, 0 begun, 1 failed, 1 missing",
        f"done     {sweep[0].folder}  defense.weight 0.5",
        f"running  {sweep[2].folder}  defense.weight 2.0"
        "  since 2026-11-05T10:00:00+00:00",
        f"failed   {sweep[1].folder}  defense.weight 1.0"
        "  attack: ValueError: it is nan",
        f"missing  {sweep[3].folder}  defense.weight 3.0",
    ]


def test_members_with_a_checkpoint_have_begun(sweep, tmp_path):
    """In step or alone, behind a lock or not; what has failed has not begun."""
    train(sweep[0], "target", tmp_path, "target", (100,))
    train_in_step(sweep[1:3], "defense", tmp_path, "ghost", (1400,))
    train(sweep[3], "defense", tmp_path, "ghost", (450, 500))
    lines = standing(sweep, [""] * 4, tmp_path)
    assert lines[0].endswith(": 1 done, 0 running, 2 begun, 1 failed, 0 missing")
    assert lines[2:4] == [
        f"begun    {sweep[2].folder}  ghost at step 1,400 (2 in step)",
        f"begun    {sweep[3].folder}  ghost at step 500",
    ]
    (one,) = members({"target": {"seed": 1}, "seed": 1})
    train_in_step([one], "target", tmp_path, "target", (20,))
    assert standing([one], [""], tmp_path)[1:] == [
        f"begun    {one.folder}  target at step 20 (1 in step)"
    ]


def test_of_many_members_those_not_done_are_listed_at_most_so_many(tmp_path):
    many = members(*({"seed": seed} for seed in range(40)), base=NOISE)
    for one in many[:10]:
        finish(one, tmp_path)
    lines = standing(many, [""] * 40, tmp_path)
    assert lines[0].endswith(": 10 done, 0 running, 0 begun, 0 failed, 30 missing")
    assert len(lines) == 22 and lines[-1] == "and 10 more missing"
    assert not any(line.startswith("done") for line in lines)
    assert lines[1] == f"missing  {many[10].folder}"
