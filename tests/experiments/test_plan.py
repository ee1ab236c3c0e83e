"""Plans: which tasks a sweep has, what they share, and what runs the same programs."""

import subprocess
import sys

import numpy as np
import pytest
import sample

from ghostjax import config
from ghostjax.data import from_arrays
from ghostjax.experiments import plan as planning
from ghostjax.experiments.plan import STAGES, groups, lay_out, member, plan

BASE = {
    "target": {"network": "lenet5"},
    "defense": {"name": "ghost"},
    "attack": {"name": "inverse"},
}
DATASET = sample.module("pictures").load("digits")


def members(*changes, base=BASE):
    trees = [config.merge(base, change) for change in changes]
    return [member(config.build(tree), DATASET) for tree in trees]


def stages(tasks):
    return {s: sum(task.stage == s for task in tasks) for s in STAGES}


def test_a_member_passes_all_stages_in_order():
    tasks = plan(members({}))
    assert [task.stage for task in tasks] == list(STAGES)
    before = set()
    for task in tasks:
        assert before.issuperset(task.needs)
        before.add(task.name)


def test_stages_that_a_member_has_not_are_left_out():
    plain = {"defense": {"name": "plain"}, "attack": {"name": "none"}}
    tasks = plan(members(plain))
    assert [task.stage for task in tasks] == ["target", "defense", "measure", "row"]
    tasks = plan(members({"judge": {"used": False}}))
    assert [task.stage for task in tasks] == [s for s in STAGES if s != "judge"]


def test_where_a_class_has_too_few_images_there_is_no_judge():
    images, labels = DATASET.train
    rows = np.append(np.flatnonzero(labels != 3), np.flatnonzero(labels == 3)[:9])
    train = images[rows], labels[rows]
    fewer = from_arrays("fewer", train, DATASET.test, DATASET.class_names)
    (one,) = lay_out(configs({}), data=fewer)
    assert "judge" not in one.names and "attack" in one.names


@pytest.mark.parametrize(
    "change, shared",
    [
        ({"seed": 1}, {"target", "judge", "stego"}),
        ({"data": {"gamma": "3:7"}}, {"target", "judge", "stego", "attack"}),
        ({"stego": {"bits": 2}}, {"target", "judge", "attack"}),
        ({"defense": {"weight": 0.5}}, {"target", "judge", "stego", "attack"}),
        ({"defense": {"cut": "pool2"}}, {"target", "judge", "stego"}),
        ({"attack": {"width": 8}}, {"target", "judge", "stego", "defense", "measure"}),
        ({"target": {"seed": 1}}, {"judge", "stego"}),
        ({"judge": {"epochs": 1}}, set(STAGES) - {"judge", "row"}),
        ({"judge": {"candidates": 99}}, set(STAGES) - {"row"}),
        ({"device": {"edge_watts": 3.0}}, set(STAGES)),
    ],
)
def test_what_does_not_depend_on_a_change_is_done_once(change, shared):
    """An attacker that queries a plain edge learns the same whatever is retrained."""
    counts = stages(plan(members({}, change)))
    assert {stage for stage, count in counts.items() if count == 1} == shared


@pytest.mark.parametrize("defense", ["arden", "shredder", "noise", "dropout"])
def test_one_training_of_a_defense_that_knows_no_secrets_serves_all_ratios(defense):
    base = {**BASE, "defense": {"name": defense}}
    tasks = plan(members({}, {"data": {"gamma": "3:7"}}, base=base))
    assert stages(tasks)["defense"] == 1 and stages(tasks)["measure"] == 2


def test_an_attacker_that_hides_secrets_of_its_own_depends_on_the_hiding():
    base = {**BASE, "attack": {"name": "direct"}}
    for change, count in (
        ({"stego": {"bits": 2}}, 2),
        ({"defense": {"weight": 0.5}}, 1),
        ({"defense": {"name": "ghost_plus"}}, 2),
    ):
        tasks = plan(members({}, change, base=base))
        assert stages(tasks)["attack"] == count, change


def test_members_that_differ_in_traced_values_are_a_group():
    changes = [{"seed": s, "defense": {"weight": w}} for s in (0, 1) for w in (0.5, 2)]
    changes += [{"stego": {"bits": 2}}, {"data": {"gamma": "3:7"}}]
    grouped = groups(plan(members(*changes)))
    (defenses,) = [tasks for (stage, _), tasks in grouped.items() if stage == "defense"]
    assert len(defenses) == 6
    assert [task.member for task in defenses] == list(range(6))


@pytest.mark.parametrize(
    "change",
    [
        {"defense": {"steps": 7}},
        {"defense": {"cut": "pool2"}},
        {"defense": {"name": "ghost_plus"}},
        {"stego": {"name": "nns"}},
        {"target": {"seed": 1}},
    ],
)
def test_members_that_differ_in_static_values_or_share_another_target_are_not(change):
    grouped = groups(plan(members({}, change)))
    assert sum(stage == "defense" for stage, _ in grouped) == 2


def configs(*changes):
    return [config.build(config.merge(BASE, change)) for change in changes]


def test_a_sweep_is_laid_out_with_each_data_set_loaded_once(monkeypatch):
    loaded = []

    def load(name, **keys):
        loaded.append(name)
        return DATASET

    monkeypatch.setattr(planning, "load", load)
    changes = [{"seed": seed, "attacker": {"public": "mnist"}} for seed in (0, 1)]
    laid = lay_out(configs(*changes))
    assert loaded == ["digits", "mnist"]
    assert laid == [
        member(one, DATASET, lambda name: DATASET) for one in configs(*changes)
    ]
    assert lay_out(configs({}), data=DATASET) == members({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"gamma": "1:99"}}, "leaves no sensitive label"),
        ({"attacker": {"select": "all"}}, "for defenses that hide nothing"),
        (
            {"defense": {"name": "plain"}, "attacker": {"rows": [0, 400, 10_000]}},
            "attacker.rows names image",
        ),
        ({"data": {"name": "digitz"}}, "did you mean 'digits'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_members_title(change, message):
    data = None if "name" in change.get("data", ()) else DATASET
    with pytest.raises(ValueError, match=message) as caught:
        lay_out(configs({}, change), lambda config: f"seed {config.seed}", data)
    assert str(caught.value).startswith("seed 0: ")


def test_a_plan_without_members_is_refused():
    with pytest.raises(ValueError, match="no members"):
        lay_out([])


def test_members_that_would_share_a_folder_by_chance_are_refused(monkeypatch):
    two = configs({}, {"seed": 1})
    monkeypatch.setattr(planning.Member, "folder", "digits-01234567")
    with pytest.raises(ValueError, match="have one folder, digits-01234567"):
        lay_out(two, data=DATASET)
    assert len(lay_out([two[0], two[0]], data=DATASET)) == 2  # one experiment


def test_a_large_plan_does_once_what_its_members_share(monkeypatch):
    """40 members of 4 seeds and 10 weights: 4 draws of labels, and a static half for
    each record that differs."""
    halves, draws = [], []
    half, generator = planning.static_half, np.random.default_rng
    monkeypatch.setattr(planning, "static_half", lambda x: halves.append(x) or half(x))
    monkeypatch.setattr(
        np.random, "default_rng", lambda s: draws.append(s) or generator(s)
    )
    seeds = range(70_000, 70_004)
    changes = [{"seed": s, "defense": {"weight": w}} for s in seeds for w in range(10)]
    laid = lay_out(configs(*changes), data=DATASET)
    assert draws == list(seeds)
    tasks = plan(laid)
    assert stages(tasks)["row"] == 40
    others = "target", "judge", "stego", "attack", "denoise", "attacker"
    assert len(halves) == 10 + len(others)


def test_a_plan_imports_no_jax():
    """Nor do the records, the registry, configs and sweeps."""
    code = (
        "import sys, ghostjax.experiments.plan, ghostjax.registry;"
        "import ghostjax.experiments.overview, ghostjax.experiments.state;"
        "import ghostjax.config.grid, ghostjax.evaluation.rows, ghostjax.report.folder;"
        "ghostjax.registry.FAMILIES['defense']['ghost'];"
        "assert 'jax' not in sys.modules, 'jax'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
