"""Members that fail, processes that are killed, two processes on one folder."""

import io
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import jax
import numpy as np
import plans
import probes
import pytest
import sample
from plans import GHOST, SEARCH, member, sweep
from rich.console import Console

from ghostjax import cli, own
from ghostjax.defenses.hide import hide
from ghostjax.experiments import parts, state
from ghostjax.experiments.ways import Failed
from ghostjax.training.fit import Recipe, Training

STRATEGIES, DATA = ["one_by_one", "vmap"], probes.data()


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with plans.registered(), sample.registered(), sample.without_curves():
        yield


def heartless(cut, record, context):
    """A defense that is built and cannot be fitted."""

    def fit(key, hyper, task):
        raise RuntimeError("it has no heart")
        yield

    return hide(cut, record, context)._replace(name="heartless", fit=fit)


def printed(members, output, **ways):
    """(what the run has ended in, what it has printed)."""
    console = Console(record=True, width=200, file=io.StringIO())
    return sweep(members, output, console, devices=1, **ways), console.export_text()


def errors(members, output):
    """The notes of those that have failed."""
    folders = [output / one.folder for one in plans.laid_out(members)]
    return [note for note in map(state.read_error, folders) if note]


def words(members, output):
    """Where each run stands."""
    laid = plans.laid_out(members)
    return [state.state_of(output / one.folder).word for one in laid]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_member_that_fails_is_noted_and_the_others_have_rows(strategy, tmp_path):
    unfit = own.defense("heartless", heartless, traits=("hides",), cut="pool1")
    members = [
        member(GHOST, SEARCH),
        member({**GHOST, "learning_rate": 1e38}, SEARCH),
        replace(member(GHOST), defense=unfit),
        member(GHOST, SEARCH, seed=1),
    ]
    ended, _ = printed(members, tmp_path, strategy=strategy)
    assert ended.places == [0, 3] and len(ended.folders) == 2
    assert [one.title for one in ended.failures] == ["member 1", "member 2"]
    assert "lower defense.learning_rate, which is 1e+38" in ended.failures[0].line
    assert words(members, tmp_path) == ["done", "failed", "failed", "done"]
    notes = errors(members, tmp_path)
    assert [note.stage for note in notes] == ["defense"] * 2
    assert [note.kind for note in notes] == ["NonFiniteLoss", "RuntimeError"]
    listed = "2 of 4 members have failed:\n  member 1: loss .*\n  member 2: it has no"
    with pytest.raises(Failed, match=listed):
        ended.require_all()

    again, text = printed(members, tmp_path, strategy=strategy)
    assert again.places == [0, 3] and text.count("already finished") == 2
    assert all("--retry-failed runs it" in one.line for one in again.failures)
    assert len(text.splitlines()) == 2, "something was run"
    assert errors(members, tmp_path) == notes

    again, text = printed(members, tmp_path, strategy=strategy, retry_failed=True)
    assert "member 1" in text and "member 2" in text and again.places == [0, 3]
    assert again.failures == ended.failures


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_share_what_fails_have_failed(strategy, tmp_path):
    hot = {"learning_rate": 1e30}
    members = [
        member(GHOST, target=hot),
        member(GHOST, target=hot, seed=1),
        member({"name": "noise"}, SEARCH),
    ]
    ended, _ = printed(members, tmp_path, strategy=strategy)
    assert ended.places == [2]
    assert words(members, tmp_path) == ["failed", "failed", "done"]
    again, text = printed(members, tmp_path, strategy=strategy)
    assert len(again.failures) == 2 and "target" not in text


PLAN = f"""
name = "plan"
{sample.TARGET}
[defense]
name = "ghost"
cut = "pool1"
steps = 60
batch_size = 32
public_batch_size = 32
[attacker]
images = 8
[attack]
name = "rmle"
preset = "authors"
steps = 10
[judge]
used = false
[sweep]
"""
SEEDS = "seeds = [0, 1, 2]"


def planned(folder, axes=SEEDS):
    """The file of a plan."""
    file = folder / "plan.toml"
    file.write_text(PLAN + axes)
    return file


def ghostjax(*said):
    """(exit status, standard output, standard error) of the command line."""
    with (
        redirect_stdout(io.StringIO()) as output,
        redirect_stderr(io.StringIO()) as told,
    ):
        status = cli.main([*map(str, said)])
    return status, output.getvalue(), told.getvalue()


def begun(*said):
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "ghostjax", *map(str, said)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    speaking = {"PYTHONFAULTHANDLER": "1"}  # a process that aborts says where
    return subprocess.Popen(command, env=sample.environment() | speaking, **pipes)


def table(output):
    """Folder -> row."""
    folders = sorted(output.glob("plan-????????"))
    return dict(zip([x.name for x in folders], plans.rows(folders), strict=True))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Strategy -> the table of a sweep that nobody disturbed."""
    tables = {}

    def ended(strategy):
        if strategy not in tables:
            output = tmp_path_factory.mktemp("undisturbed")
            said = "run", planned(output), "--strategy", strategy, "--output", output
            status, _, told = ghostjax(*said)
            assert status == 0, told
            tables[strategy] = table(output)
            assert len(tables[strategy]) == 3
        return tables[strategy]

    return ended


def test_the_command_line_lists_what_has_failed(tmp_path):
    path = planned(tmp_path, '"defense.learning_rate" = [1e-3, 1e38]')
    said = path, "--attack.name=none", "--output", tmp_path / "runs"
    status, output, told = ghostjax("run", *said)
    assert status == 1 and "report: " not in output
    head, line = told.splitlines()
    assert head == "ghostjax: 1 of 2 members have failed:"
    assert line.startswith("  defense.learning_rate 1e+38: loss is ")
    assert len(list((tmp_path / "runs").glob("plan-sweep-*/report.html"))) == 1
    status, output, _ = ghostjax("status", *said)
    assert status == 0 and "1 done, 0 running, 0 begun, 1 failed, 0 missing" in output
    assert "defense: NonFiniteLoss: loss is" in output
    status, output, told = ghostjax("run", *said)
    assert status == 1 and "--retry-failed runs it again" in told
    assert "continues at step" not in output
    assert ghostjax("run", *said, "--retry-failed")[2].splitlines() == [head, line]


def test_one_member_that_cannot_be_refuses_the_plan(tmp_path):
    path = planned(tmp_path, '"data.gamma" = ["2:8", "10:0"]')
    status, _, told = ghostjax("run", path, "--output", tmp_path / "runs")
    assert status == 2 and len(told.splitlines()) == 1
    assert told.startswith("ghostjax: data.gamma 10:0: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.science
def test_a_group_that_was_killed_ends_with_the_same_table(undisturbed, tmp_path):
    said = planned(tmp_path), "--strategy", "vmap", "--output", tmp_path
    process = begun("run", *said)
    deadline = time.monotonic() + 240
    try:
        while not list((tmp_path / "parts" / "together").glob("*/10")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.glob("plan-*/row.parquet"))
    status, _, told = ghostjax("run", *said)
    assert status == 0, told
    assert table(tmp_path) == undisturbed("vmap")


@pytest.mark.science
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_five_times_at_random(strategy, undisturbed, tmp_path):
    said = planned(tmp_path), "--strategy", strategy, "--output"
    began = time.monotonic()
    output, _ = begun("run", *said, tmp_path / "whole").communicate()
    whole = time.monotonic() - began
    assert "report: " in output, output
    draw, outcomes = random.Random(20), Counter()
    for moment in [draw.uniform(0, whole) for _ in range(5)]:
        process = begun("run", *said, tmp_path / "killed")
        time.sleep(moment)
        process.kill()
        said_last, _ = process.communicate()
        outcomes[process.returncode] += 1
        assert process.returncode in (0, -signal.SIGKILL), said_last
    assert outcomes[-signal.SIGKILL] >= 1, "none was killed"
    status, _, told = ghostjax("run", *said, tmp_path / "killed")
    assert status == 0, told
    assert table(tmp_path / "whole") == undisturbed(strategy)
    assert table(tmp_path / "killed") == undisturbed(strategy)


@pytest.mark.science
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_share_a_plan(strategy, undisturbed, tmp_path):
    said = "run", planned(tmp_path), "--strategy", strategy, "--output", tmp_path
    process = begun(*said)
    first = process.stdout.readline()
    status, mine, told = ghostjax(*said)
    theirs, _ = process.communicate()
    assert status == 0 and process.returncode == 0, told + first + theirs
    assert table(tmp_path) == undisturbed(strategy)
    lines = (first + theirs + mine).splitlines()
    worked, trained = Counter(), Counter()
    for line in lines:
        if found := re.match(r"\[(\d)(?:-(\d))?/3\]", line):
            begin, end = found.group(1), found.group(2) or found.group(1)
            worked.update(range(int(begin), int(end) + 1))
        if found := re.match(r"(\w+)(?:, (\d) members?)?  (\d+)/(\d+) ", line):
            part, members, done, steps = found.groups()
            trained[part] += int(members or 1) * (done == steps)
    assert worked == Counter([1, 2, 3]), lines
    assert trained == {"target": 3, "ghost": 3}, lines


def trainings_of(count, steps=20):
    """Trainings that can be advanced in step."""
    params, model_state = probes.start()
    return [
        Training(
            key=jax.random.key(seed),
            params=params,
            model_state=model_state,
            shared=DATA,
            hyper={"learning_rate": np.float32(0.1)},
            loss=probes.loss,
            draw=probes.draw,
            recipe=Recipe(steps),
        )
        for seed in range(count)
    ]


def test_what_another_process_trains_meanwhile_is_not_trained_again(tmp_path):
    folders = [tmp_path / f"part-{seed}" for seed in range(3)]
    trainings = trainings_of(3)
    quiet, way = Console(quiet=True), parts.Way("vmap", 3)
    counts, waited, lock, inner = [], [], parts.lock, parts.fit_members

    def train(number):
        train_some = parts.together(folders[:number], "toy", quiet, way)
        return train_some(range(number), trainings[:number])

    def late(folder, **rest):
        if not waited:  # for another process, which trains two of the three
            waited.append(train)
            waited.append(train(2))
        return lock(folder, **rest)

    def counted(trainings, places, how):
        counts.append(len(trainings))
        return inner(trainings, places, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "lock", late)
        patch.setattr(parts, "fit_members", counted)
        ended = train(3)
    assert counts == [2] and len(ended) == 3
    for (mine, _), (theirs, _) in zip(ended, waited[1], strict=False):
        np.testing.assert_array_equal(mine.params["w"], theirs.params["w"])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_last_of_a_stopped_group_leaves_nothing_of_it(strategy, tmp_path):
    folders = [tmp_path / f"part-{seed}" for seed in range(2)]
    quiet, counts = Console(quiet=True), []

    def train(strategy, *places):
        way = parts.Way(strategy, None)
        train_some = parts.together(folders, "toy", quiet, way)
        return train_some(places, [trainings_of(2)[place] for place in places])

    def stopped(trainings, places, how):
        def stop(step, metrics):
            counts.append(step)
            if len(trainings) == 2:
                raise Stopped

        return inner(trainings, places, how._replace(on_chunk=stop))

    inner = parts.fit_members
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "fit_members", stopped)
        with pytest.raises(Stopped):
            train("vmap", 0, 1)
        for place in range(2):
            assert len(list((tmp_path / "together").iterdir())) == 1
            train(strategy, place)
    assert counts == ([10, 20, 20] if strategy == "vmap" else [10])
    assert not list((tmp_path / "together").iterdir())
