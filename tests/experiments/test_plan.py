"""Plans: which tasks a sweep has, what they share, and what runs the same programs."""

import subprocess
import sys

import pytest
import sample

from ghostjax import config
from ghostjax.experiments.plan import STAGES, groups, member, plan

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


@pytest.mark.parametrize(
    "change, shared",
    [
        ({"seed": 1}, {"target", "stego"}),
        ({"data": {"gamma": "3:7"}}, {"target", "stego", "attack"}),
        ({"stego": {"bits": 2}}, {"target", "attack"}),
        ({"defense": {"weight": 0.5}}, {"target", "stego", "attack"}),
        ({"defense": {"cut": "pool2"}}, {"target", "stego"}),
        ({"attack": {"width": 8}}, {"target", "stego", "defense", "measure"}),
        ({"target": {"seed": 1}}, {"stego"}),
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


def test_a_plan_imports_no_jax():
    """Nor do the records, the registry, configs and sweeps."""
    code = (
        "import sys, ghostjax.experiments.plan, ghostjax.registry;"
        "import ghostjax.config.grid, ghostjax.evaluation.rows, ghostjax.report.folder;"
        "ghostjax.registry.FAMILIES['defense']['ghost'];"
        "assert 'jax' not in sys.modules, 'jax'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
