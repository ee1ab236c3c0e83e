"""The loop and the training: right, pure, resumable, mappable over runs and devices."""

import shutil
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

from ghostjax.training import checkpoint, loop
from ghostjax.training.fit import (
    OPTIMIZERS,
    SCHEDULES,
    Later,
    NonFiniteLoss,
    Recipe,
    Training,
    fit,
    fit_resumable,
)

RECIPE = Recipe(60, schedule="cosine")


def training(key, rate=0.3, **changes):
    params, model_state = probes.start()
    whole = Training(
        key=key,
        params=params,
        model_state=model_state,
        shared=probes.data(),
        hyper={"learning_rate": rate},
        loss=probes.loss,
        draw=probes.draw,
        recipe=RECIPE,
    )
    return whole._replace(**changes)


def fitted(key, rate=0.3, scanned=False, **changes):
    return fit(training(key, rate, **changes), scanned=scanned)


def resumable(folder, on_chunk=lambda step, metrics: None, **changes):
    return fit_resumable(
        training(jax.random.key(3), **changes), folder, chunk=20, on_chunk=on_chunk
    )


def test_a_step_takes_its_state_s_buffers_and_run_leaves_the_caller_s(monkeypatch):
    def step(carry, index):
        return carry + 1, carry.sum()

    begun = jnp.zeros(1000)
    donating, calls = loop._stepped, []

    def spy(*arguments):
        calls.append(arguments[2])
        return donating(*arguments)

    monkeypatch.setattr(loop, "_stepped", spy)
    last, _ = loop.run(step, begun, 3, scanned=False)
    assert calls == [0, 1, 2] and float(begun.sum()) == 0 and float(last[0]) == 3
    donating(loop._Held(step), begun, 0, ())
    assert begun.is_deleted(), "the old state's memory is the new one's"


@pytest.mark.parametrize(
    "schedule, optimizer",
    [
        pytest.param(schedule, optimizer, marks=[pytest.mark.science] * both)
        for schedule, optimizer in product(SCHEDULES, OPTIMIZERS)
        for both in [schedule != "constant" and optimizer != "adam"]
    ],
)
def test_finds_the_known_answer(optimizer, schedule):
    rate = 0.05 if optimizer == "sgd" else 0.3
    state, metrics = fitted(
        jax.random.key(0), rate, recipe=Recipe(300, optimizer, schedule)
    )
    np.testing.assert_allclose(state.params["w"], probes.ANSWER, atol=0.05)
    assert state.model_state["seen"] == 300
    assert metrics["loss"].shape == (300,)
    np.testing.assert_array_equal(metrics["loss"], metrics["error"])


def test_cosine_ends_at_rate_zero_and_rate_zero_moves_nothing():
    assert SCHEDULES["cosine"](jnp.float32(10), 10) == pytest.approx(0, abs=1e-7)
    state, _ = fitted(jax.random.key(0), rate=0.0)
    np.testing.assert_array_equal(state.params["w"], 0)


def test_stepped_equals_scanned():
    stepped, scanned = (fitted(jax.random.key(1), scanned=way) for way in (False, True))
    for one, other in zip(*map(jax.tree.leaves, (stepped, scanned)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_same_key_same_run_other_key_other_run():
    first, again, other = (fitted(jax.random.key(k))[0].params["w"] for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_caller_keeps_its_arrays():
    params = {"w": jnp.ones(4)}
    step = lambda carry, index: ({"w": carry["w"] + index}, index)  # noqa: E731
    moved, out = loop.run(step, params, 3, start=5, scanned=False)
    np.testing.assert_array_equal(params["w"], 1)
    np.testing.assert_array_equal(moved["w"], 1 + 5 + 6 + 7)
    np.testing.assert_array_equal(out, [5, 6, 7])


def test_vmap_over_keys_and_rates_is_separate_fits():
    keys, rates = jax.random.split(jax.random.key(4), 3), np.float32([0.1, 0.2, 0.3])
    together, _ = jax.vmap(fitted)(keys, rates)
    several = np.asarray(together.params["w"])
    for key, rate, one in zip(keys, rates, several, strict=True):
        alone, _ = fitted(key, rate)
        np.testing.assert_allclose(one, alone.params["w"], rtol=1e-5, atol=1e-6)


def test_a_second_fit_compiles_nothing():
    loop._stepped.clear_cache()
    fitted(jax.random.key(0), 0.1)
    fitted(jax.random.key(1), np.float32(0.2))
    assert loop._stepped._cache_size() == 1


def test_chunks_give_the_bits_of_one_fit(tmp_path):
    whole, metrics = fitted(jax.random.key(3))
    chunked, history = resumable(tmp_path / "part")
    np.testing.assert_array_equal(whole.params["w"], chunked.params["w"])
    np.testing.assert_array_equal(metrics["loss"], history["loss"])
    seen = []
    again, _ = resumable(tmp_path / "part", on_chunk=lambda step, m: seen.append(step))
    assert seen == [], "a finished training must not train again"
    np.testing.assert_array_equal(whole.params["w"], again.params["w"])


def test_later_data_are_made_once_and_not_for_a_finished_training(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return probes.data()

    def draw(key, index, shared, own):
        return probes.draw(key, index, own, ())

    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), probes.data()
    )
    later = dict(shared=(), own=Later(shapes, make), draw=draw)
    whole, _ = fitted(jax.random.key(3))
    for _ in range(2):
        state, history = resumable(tmp_path / "part", **later)
        np.testing.assert_array_equal(whole.params["w"], state.params["w"])
        assert history["loss"].shape == (60,)
    assert calls == [1]
    at_once, _ = fitted(jax.random.key(3), **later)
    np.testing.assert_array_equal(whole.params["w"], at_once.params["w"])


@pytest.mark.parametrize("stop", [20, 40])
def test_resumes_behind_the_last_whole_chunk(tmp_path, stop):
    whole, history = resumable(tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step, metrics):
        if step == stop:
            raise Killed

    with pytest.raises(Killed):
        resumable(tmp_path / "part", on_chunk=kill)
    # What a kill in the middle of a save leaves behind must not count.
    (tmp_path / "part" / f"{stop + 20}.writing").mkdir()
    seen = []
    state, metrics = resumable(tmp_path / "part", on_chunk=lambda s, m: seen.append(s))
    assert seen == list(range(stop + 20, 61, 20))
    np.testing.assert_array_equal(whole.params["w"], state.params["w"])
    np.testing.assert_array_equal(history["loss"], metrics["loss"])


def test_a_nan_loss_stops_names_the_step_and_keeps_the_last_checkpoint(tmp_path):
    def poisoned(params, model_state, key, batch, hyper, shared):
        value, rest = probes.loss(params, model_state, key, batch, hyper, shared)
        return jnp.where(model_state["seen"] == 33, jnp.nan, value), rest

    with pytest.raises(NonFiniteLoss, match="nan at step 33 .*checkpoint is step 20"):
        resumable(tmp_path / "part", loss=poisoned)
    assert checkpoint.latest(tmp_path / "part") == 20


def test_corrupted_checkpoints_are_named_and_never_used(tmp_path):
    resumable(tmp_path / "part")
    folder = tmp_path / "part" / "60"
    digest = (folder / "digest").read_text()
    (folder / "digest").write_text("0" * 64)
    with pytest.raises(
        checkpoint.Corrupted, match="60 is not what was written: delete"
    ):
        resumable(tmp_path / "part")
    (folder / "digest").write_text(digest)
    for path in (folder / "tree").rglob("*"):
        if path.is_file() and path.stat().st_size > 50:
            path.write_bytes(b"broken")
    with pytest.raises(checkpoint.Corrupted, match="60 cannot be read"):
        resumable(tmp_path / "part")


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    checkpoint.save(tmp_path / "1", {"w": jnp.zeros(3)})
    with pytest.raises(checkpoint.Corrupted, match=str(tmp_path / "1")):
        checkpoint.restore(tmp_path / "1", {"w": jnp.zeros(4)})
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(checkpoint.Corrupted, match="cannot be read"):
        checkpoint.restore(tmp_path / "1", {"w": jnp.zeros(4)})


def test_a_long_runs_outputs_compile_no_program_of_its_length(monkeypatch):
    def refuse(*leaves):
        raise AssertionError("stacked by XLA")

    monkeypatch.setattr(loop, "_traced_stack", refuse)
    last, seen = loop.run(
        lambda carry, index: (carry + 1, {"carry": carry, "index": index}),
        jnp.zeros(()),
        500,
        start=7,
        scanned=False,
    )
    assert float(last) == 500 and seen["index"].dtype == jnp.int32
    np.testing.assert_array_equal(seen["carry"], np.arange(500))
    np.testing.assert_array_equal(seen["index"], np.arange(7, 507))
