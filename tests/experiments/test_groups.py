"""Members that are run together have the rows that they have alone."""

import json
from contextlib import contextmanager

import jax
import numpy as np
import plans
import pytest
from counting import compiled
from plans import GHOST, SEARCH, member, sweep

from ghostjax.evaluation import leakage
from ghostjax.training import members as in_step
from ghostjax.training import parallel


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with plans.registered():
        yield


def ratios(record, gammas, seeds=(0, 1), bits=(2, 3)):
    """A plan as `gamma_lsb_mnist`: ratios of labels, seeds and hidden bits."""
    return [
        member(record, data={"gamma": gamma}, seed=seed, stego={"bits": low})
        for gamma in gammas
        for seed in seeds
        for low in bits
    ]


def test_a_plan_compiles_what_its_first_members_do(tmp_path):
    jax.clear_caches()
    plan = ratios(GHOST, ["2:2"], bits=(2,)) + ratios(GHOST, ["1:3"], seeds=(1,))
    plan += ratios({**GHOST, "steps": 19}, ["2:2"], bits=(3,))
    with compiled() as programs:
        for first in (plan[0], plan[-1]):
            sweep([first], tmp_path / "first", devices=1)
    assert len(programs) > 10, "nothing was counted"
    with compiled() as programs:
        ended = sweep(plan, tmp_path / "all", devices=1, strategy="one_by_one")
    assert len(ended.folders) == 6 and programs == []


def noises(**search):
    """Noise of several levels: nothing is trained, all targets are of one edge."""
    searched = {**SEARCH, "noise": 0.1, **search}
    changes = (
        {},
        {"seed": 1, "data": {"gamma": "1:3"}},
        {"attack": {"tv_weight": 1e-3, "noise": 0.5, "learning_rate": 0.2}},
        {"attacker": {"images": 9}},
    )
    return [
        member({"name": "noise", "level": level}, searched, **change)
        for level, change in zip((0.1, 0.3, 0.2, 0.0), changes, strict=True)
    ]


def ghosts():
    """GHOST, varied in all that may vary within a group, the target's seed too."""
    return [
        member(GHOST, SEARCH),
        member(
            {**GHOST, "learning_rate": 2e-3, "weight": 0.5},
            SEARCH,
            seed=1,
            data={"gamma": "1:3"},
            stego={"bits": 2},
        ),
        member(GHOST, SEARCH, seed=2, stego={"bits": 1}),
        member(GHOST, SEARCH, target={"seed": 1}),
    ]


@pytest.fixture(scope="module")
def ghosts_alone(tmp_path_factory):
    """(rows, losses)."""
    output = tmp_path_factory.mktemp("alone")
    return plans.alone(ghosts(), output), losses(output, ghosts())


def losses(output, members):
    """Of every step of each member's retraining."""
    found = []
    for folder in [sweep([one], output).folders[0] for one in members]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line)["loss"] for line in lines])
    return found


def is_of_answers(name, row):
    answered = "accuracy", "control", "covers_called", "target_accuracy"
    return name.startswith(answered) and f"{name}_n" in row


def close(ended, wanted):
    """Numbers to 1e-5; answers within one image of those that were asked."""
    for mine, theirs in zip(ended, wanted, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            if is_of_answers(name, theirs):
                image = 100 / theirs[f"{name}_n"]
                assert abs(mine[name] - value) <= image + 1e-9, name
            elif isinstance(value, float):
                np.testing.assert_allclose(mine[name], value, 1e-5, 1e-6, err_msg=name)
            else:
                assert mine[name] == value, name


@contextmanager
def counted_calls():
    """Inside, the list says how many members each inversion was of."""
    calls, inner = [], leakage._inverted

    def inverted(begun, say):
        calls.append(len(begun))
        return inner(begun, say)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "_inverted", inverted)
        yield calls


@pytest.fixture(scope="module")
def noises_alone(tmp_path_factory):
    return plans.alone(noises(), tmp_path_factory.mktemp("alone"))


def test_targets_of_many_are_inverted_as_they_are_alone(noises_alone, tmp_path):
    with counted_calls() as calls:
        ended = sweep(noises(), tmp_path, devices=1)
    assert calls == [4]
    np.testing.assert_equal(plans.rows(ended.folders), noises_alone)


@pytest.mark.science
def test_four_devices_find_what_one_finds(noises_alone, tmp_path):
    used, inner = [], parallel.spread

    def spread(tree, devices):
        used.append(len(devices))
        return inner(tree, devices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "spread", spread)
        ended = sweep(noises(), tmp_path, devices=4)
    assert set(used) == {4}
    close(plans.rows(ended.folders), noises_alone)


@pytest.mark.science
@pytest.mark.parametrize("solver", ["gauss_newton", "lbfgs"])
def test_searches_that_sum_over_pixels_are_inverted_apart_on_a_cpu(solver, tmp_path):
    # XLA's order of such a sum depends on how many targets there are.
    some = noises(solver=solver)
    alone = plans.alone(some, tmp_path / "alone")
    with counted_calls() as calls:
        ended = sweep(some, tmp_path / "together", devices=1)
    assert calls == [1] * 4
    np.testing.assert_equal(plans.rows(ended.folders), alone)


def test_retrainings_one_by_one_are_those_of_single_runs(ghosts_alone, tmp_path):
    ended = sweep(ghosts(), tmp_path, devices=1, strategy="one_by_one")
    np.testing.assert_equal(plans.rows(ended.folders), ghosts_alone[0])
    assert losses(tmp_path, ghosts()) == ghosts_alone[1]


@pytest.mark.parametrize(
    ("strategy", "devices"),
    [
        ("vmap", 1),
        pytest.param("vmap", 4, marks=pytest.mark.science),
        pytest.param("map", 1, marks=pytest.mark.science),
        pytest.param("map", 4, marks=pytest.mark.science),
    ],
)
def test_retrainings_in_step_are_close_to_single_runs(
    strategy, devices, ghosts_alone, tmp_path
):
    groups = []
    inner = in_step.fit_members

    def counted(trainings, places, how):
        groups.append((trainings[0].part, len(trainings), how.strategy))
        return inner(trainings, places, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ghostjax.experiments.parts.fit_members", counted)
        ended = sweep(ghosts(), tmp_path, devices=devices, strategy=strategy)
    assert groups == [("target", 2, strategy), ("ghost", 3, strategy)]
    close(plans.rows(ended.folders), ghosts_alone[0])
    for mine, theirs in zip(losses(tmp_path, ghosts()), ghosts_alone[1], strict=True):
        np.testing.assert_allclose(mine, theirs, 1e-5)


def test_a_further_plan_of_members_in_step_compiles_nothing(tmp_path):
    def three(rate, *gammas):
        record = {**GHOST, "learning_rate": rate}
        return ratios(record, gammas, seeds=(0,), bits=(2,))

    way = {"devices": 1, "strategy": "vmap"}
    sweep(three(1e-3, "2:2", "1:3", "3:1"), tmp_path / "one", **way)
    with compiled() as programs:
        ended = sweep(three(2e-3, "3:1", "1:3", "2:2"), tmp_path / "other", **way)
    assert len(ended.folders) == 3 and programs == []
