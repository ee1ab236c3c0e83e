"""K members in step learn what they learn alone; a group that is stopped goes on."""

import jax
import numpy as np
import probes
import pytest

from ghostjax.training import checkpoint, parallel
from ghostjax.training.fit import NonFiniteLoss, Recipe, Training, drive, fit
from ghostjax.training.members import (
    Places,
    Together,
    alike,
    drive_members,
    fit_members,
    most,
)
from ghostjax.training.strategies import STRATEGIES

DATA = probes.data()
RATES = (0.1, 0.02, 0.05)


def training(seed, rate=0.1, part="", steps=6, data=DATA):
    params, model_state = probes.start()
    return Training(
        key=jax.random.key(seed),
        params=params,
        model_state=model_state,
        shared=data,
        hyper={"learning_rate": np.float32(rate)},
        loss=probes.loss,
        draw=probes.draw,
        recipe=Recipe(steps),
        part=part,
    )


def several():
    return [training(seed, rate) for seed, rate in enumerate(RATES)]


def places(folder, count=3):
    folders = [folder / f"part-{k}" / "learned" for k in range(count)]
    return Places(folders, folder / "together")


def how(strategy="vmap", chunk=2, **rest):
    return Together(strategy, chunk, **rest)


def equal(ended, trainings, **tolerance):
    for (state, history), one in zip(ended, trainings, strict=True):
        wanted, metrics = fit(one)
        assert history.keys() == metrics.keys()
        pairs = zip(
            *map(jax.tree.leaves, ((state, history), (wanted, dict(metrics)))),
            strict=True,
        )
        for mine, theirs in pairs:
            np.testing.assert_allclose(mine, theirs, **tolerance)


CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
@pytest.mark.parametrize("devices", [1, 2])
def test_members_learn_what_they_learn_alone(strategy, devices, tmp_path):
    with parallel.on_devices(parallel.require(devices)):
        ended = fit_members(several(), places(tmp_path), how(strategy))
    equal(ended, several(), **CLOSE)
    # Each has its last state where a training of its own would have put it.
    assert [checkpoint.latest(x) for x in places(tmp_path).folders] == [6, 6, 6]
    assert not list(tmp_path.glob("together/*"))


class Stopped(Exception):
    pass


def stop_at(step):
    def on_chunk(done, metrics):
        if done == step:
            raise Stopped

    return on_chunk


@pytest.mark.parametrize("shares", [[slice(None)], [slice(1, None), slice(1)]])
def test_a_stopped_group_goes_on_and_so_do_some_of_its_members(shares, tmp_path):
    with pytest.raises(Stopped):
        fit_members(several(), places(tmp_path), how(on_chunk=stop_at(4)))
    heard = []
    kept = places(tmp_path)
    listen = how(on_chunk=lambda step, metrics: heard.append(step))
    for some in shares:
        assert len(list(kept.together.iterdir())) == 1
        fewer = kept._replace(folders=kept.folders[some])
        ended = fit_members(several()[some], fewer, listen)
        equal(ended, several()[some], **CLOSE)
    assert heard == [6] * len(shares), "it began anew"
    assert not list(kept.together.iterdir())


def test_a_member_that_diverges_is_named_and_stays_where_it_was(tmp_path):
    rates = 0.1, 1e30, 0.05
    trainings = [training(seed, rate) for seed, rate in enumerate(rates)]
    kept = places(tmp_path)
    first, second, third = fit_members(trainings, kept, how(chunk=1))
    equal([first, third], [trainings[0], trainings[2]], **CLOSE)
    assert isinstance(second, NonFiniteLoss) and "part-1" in str(second)
    good = checkpoint.latest(kept.folders[1])
    assert f"checkpoint is step {good}" in str(second) and 0 < good < 6


def test_a_member_that_has_diverged_has_after_a_stop_too(tmp_path):
    rates = 0.1, 1e30, 0.05
    trainings = [training(seed, rate) for seed, rate in enumerate(rates)]
    with pytest.raises(Stopped):
        fit_members(trainings, places(tmp_path), how(chunk=1, on_chunk=stop_at(5)))
    ended = fit_members(trainings, places(tmp_path), how(chunk=1))
    assert [isinstance(one, NonFiniteLoss) for one in ended] == [False, True, False]
    good = checkpoint.latest(places(tmp_path).folders[1])
    assert f"checkpoint is step {good}" in str(ended[1])


def fitting(seed, steps=3, refused=False):
    first = yield training(seed, part="first", steps=steps)
    if refused:
        raise ValueError("no")
    second = yield training(seed + 10, part="second", steps=2)
    return first.params, second.params


def test_fits_advance_together_and_each_to_its_own_end():
    calls = []

    def train(places, trainings):
        calls.append((places, trainings[0].part))
        return [fit(one) for one in trainings]

    fits = [fitting(0), fitting(1, refused=True), fitting(2), fitting(3, steps=4)]
    first, second, third, fourth = drive_members(fits, train)
    assert isinstance(second, ValueError)
    assert ([0, 1, 2], "first") in calls and ([3], "first") in calls
    assert ([0, 2, 3], "second") in calls or ([0, 2], "second") in calls
    for seed, ended, steps in ((0, first, 3), (2, third, 3), (3, fourth, 4)):
        params, history = drive(fitting(seed, steps))
        assert list(ended[1]) == list(history) == ["first", "second"]
        jax.tree.map(np.testing.assert_array_equal, ended[0], params)


def test_as_many_members_fit_as_memory_says():
    one = training(0)
    few, many = (most(one, "vmap", limit) for limit in (8_000, 10**9))
    assert 1 < few < many == 64


def test_only_equal_programs_with_equal_shared_arrays_are_advanced_in_step():
    one = training(0)
    assert alike(one, training(1, 0.5))
    assert not alike(one, training(0, steps=7))
    assert not alike(one, training(0, part="other"))
    copied = jax.tree.map(np.array, DATA)
    assert alike(one, training(0, data=copied))
    assert not alike(one, training(0, data=jax.tree.map(lambda x: x + 1, DATA)))
    wider = one._replace(own=np.zeros(3))
    assert not alike(one, wider)
