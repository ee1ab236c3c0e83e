"""What is asked of every member: its record, its fit, and what it is fitted for."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import tomli_w
from jax import Array

from ghostjax import config, fields, registry, toy
from ghostjax.base import Images, Key, Params
from ghostjax.fields import Hyper, static_half, traced_half
from ghostjax.records import Member
from ghostjax.testing.judge import Judge, compiled, equal, host, require_equal
from ghostjax.training import fit as training_fit
from ghostjax.training.fit import Fit, Later, Training, TrainState

__all__ = [
    "Factory",
    "Fits",
    "Turn",
    "Use",
    "built",
    "check_array",
    "check_file",
    "check_images",
    "check_others",
    "check_traces",
    "fitted",
    "runs",
    "turns_of",
    "used",
]

Factory = str | Callable[..., Any]
"""Of a member, or the "module:function" where it is."""
Use = Callable[[Params, "Turn"], Any]
Fits = Callable[[Key, Hyper, Any], Fit]


def built(
    judge: Judge, record: Member, factory: Factory | None, subject: Any, context: Any
) -> Any:
    """The member, as the registry builds it: of its static half alone."""
    with judge.keeping("static record", "the factory", ValueError):
        if factory is None:
            return registry.build(record, subject, context)
        return registry.construct(factory, subject, record, context)


def check_file(judge: Judge, record: Member) -> None:
    """The record is the same read from a config file."""
    contract = "file and script"
    with judge.keeping(contract, "writing the record as TOML"):
        text = tomli_w.dumps(dataclasses.asdict(record))
    with judge.keeping(contract, "reading the record from TOML"):
        read = config.record(type(record), tomllib.loads(text), judge.family)
    judge.require(read == record, contract, f"{read} of a file, {record} of a script")
    for words, of in (
        ("content hash", fields.content_hash),
        ("static half", static_half),
        ("traced half", traced_half),
    ):
        one, two = of(read), of(record)
        agree = equal(one, two) if of is traced_half else one == two
        judge.require(agree, contract, f"{words} {one} of a file, {two} of a script")


class Turn(NamedTuple):
    """What a member is fitted with, and used on."""

    key: Key  # of the fit
    hyper: Hyper
    data: Any  # images, a task or knowledge
    inputs: tuple[Any, ...] = ()  # of its use, besides params


def turns_of(record: Member, data: Any) -> tuple[Turn, Turn]:
    """The record on the data; and other values, with another key, on other data."""
    one, two = toy.keys()[:2]
    other = Turn(two, traced_half(toy.moved(record)), toy.changed(data))
    return Turn(one, traced_half(record), data), other


def runs(
    judge: Judge, fit: Fits, use: Use, turn: Turn, other: Turn
) -> tuple[Params, Any]:
    """Fits and uses the member four times: as it is, with another key, with other
    values and data, and as it is again.

    Returns:
      (params, what `use` gives), of the first time.
    """
    before = host(turn)
    params, trained = fitted(judge, fit, turn)
    params_before = host(params)
    result = used(judge, use, params, turn)
    result_before = host(result)
    with compiled() as programs:
        rekeyed, trained_apart = fitted(judge, fit, turn._replace(key=other.key))
        used(judge, use, rekeyed, turn)
    _require_none(judge, programs, "another key")
    with compiled() as programs:
        changed, trained_otherwise = fitted(judge, fit, other)
        used(judge, use, changed, other)
    _check_programs(judge, trained, trained_otherwise)
    _require_none(judge, programs, "other traced values and data of equal shapes")
    again, _ = fitted(judge, fit, turn)
    once_more = used(judge, use, again, turn)
    for words, first, second in (
        ("it changes what it is called with", before, turn),
        ("it changes its params", params_before, params),
        ("the same key and data are fitted otherwise", params_before, again),
        ("the same arguments give other results", result_before, once_more),
    ):
        require_equal(judge, "purity", words, first, second)
    for one, two in zip(trained, trained_apart, strict=True):
        words = f"the training {one.part!r} has the same key for two keys of the fit"
        judge.require(not equal(one.key, two.key), "key", words)
    if trained and judge.steps:
        learns = not equal(rekeyed, params)
        judge.require(learns, "key", "what it learns is the same for two keys")
    return params, result


def fitted(judge: Judge, fit: Fits, turn: Turn) -> tuple[Params, list[Training]]:
    """(params, what was trained), each training cut to the judge's steps."""
    trainings: list[Training] = []

    def train(training: Training) -> tuple[TrainState, Mapping[str, Array]]:
        yielded = isinstance(training, Training)
        judge.require(yielded, "shape", f"fit yields {training!r}, not a Training")
        parts, part = [one.part for one in trainings], training.part
        judge.require(part not in parts, "shape", f"two trainings are called {part!r}")
        if isinstance(training.own, Later):
            training = training._replace(own=training.own.make())
        trainings.append(training)
        _shapes((training.shared, training.own))  # what steps read is touched
        if not judge.steps:
            return training_fit.start(training), {}
        few = training.recipe._replace(steps=judge.steps)
        state, metrics = training_fit.fit(training._replace(recipe=few))
        losses = np.asarray(metrics["loss"])
        finite = bool(np.isfinite(losses).all())
        judge.require(finite, "range", f"the losses of {part!r} are {losses}")
        return state, metrics

    with judge.keeping("shape", "its fit", ValueError, toy.Touched):
        params, _ = training_fit.drive(fit(turn.key, turn.hyper, turn.data), train)
    return params, trainings


def used(judge: Judge, use: Use, params: Params, turn: Turn) -> Any:
    with judge.keeping("purity", "its use, under jit,", toy.Touched):
        return use(params, turn)


def _check_programs(
    judge: Judge, trained: list[Training], otherwise: list[Training]
) -> None:
    """Trainings with other values are of equal static halves, and equal shapes."""
    for one, two in zip(trained, otherwise, strict=True):
        for field, first, second in zip(
            ("loss", "draw", "recipe", "part"), one.static, two.static, strict=True
        ):
            words = f"other traced values give {one.part!r} another {field}"
            judge.require(first == second, "one program", words)
        for field in ("params", "model_state", "shared", "own", "hyper"):
            first, second = (_shapes(getattr(x, field)) for x in (one, two))
            words = f"other traced values give {one.part!r} {field} of other shapes"
            judge.require(first == second, "one program", words)


def _shapes(tree: Any) -> tuple[Any, list[Any]]:
    """What a program is compiled for."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(x), getattr(x, "dtype", type(x))) for x in leaves]


def _require_none(judge: Judge, programs: list[str], why: str) -> None:
    names = ", ".join(sorted(set(programs)))
    words = f"it compiles {len(programs)} more for {why}: {names}"
    judge.require(not programs, "one program", words)


def check_traces(
    judge: Judge, show: Callable[..., Any], params: Params, inputs: tuple[Any, ...]
) -> None:
    """Traced again it is the same program, and its params are as they were."""
    before, traces = host(params), []
    for _ in range(2):
        with judge.keeping("purity", "tracing it again"):
            trace = jax.make_jaxpr(lambda *inputs: show(params, *inputs))(*inputs)
        text = re.sub(r"0x[0-9a-f]+", "", str(trace.jaxpr))
        traces.append((text, host(list(trace.consts))))
        require_equal(judge, "purity", "it changes its params", before, params)
    if traces[0][0] != traces[1][0] or not equal(traces[0][1], traces[1][1]):
        results = [jax.jit(lambda *x: show(params, *x))(*inputs) for _ in range(2)]
        words = "it keeps a state: traced again it gives other results"
        require_equal(judge, "purity", words, *results)


def check_others(
    judge: Judge, show: Callable[..., Any], batches: tuple[Images, ...]
) -> None:
    """The first image's results stay, to the bit, where the others are replaced."""
    replaced = [np.array(images) for images in batches]
    for images in replaced:
        images[1:] = 1 - images[1:]
    first, second = (
        [leaf[0] for leaf in jax.tree.leaves(host(show(*x)))]
        for x in (batches, map(jax.device_put, replaced))
    )
    words = "an image's results change with the others of its batch"
    require_equal(judge, "independence", words, first, second)


def check_images(judge: Judge, name: str, images: Any, shape: tuple[int, ...]) -> None:
    check_array(judge, name, images, shape)
    low, high = (float(f(np.asarray(images))) for f in (np.min, np.max))
    words = f"{name} gives values from {low:g} to {high:g}, not in [0, 1]"
    judge.require(low >= 0 and high <= 1, "range", words)


def check_array(judge: Judge, name: str, array: Any, shape: tuple[int, ...]) -> None:
    """A finite float32 array of a shape."""
    is_array = hasattr(array, "shape") and hasattr(array, "dtype")
    judge.require(is_array, "shape", f"{name} gives {type(array).__name__}")
    words = f"{name} gives {array.dtype} {tuple(array.shape)}, not float32 {shape}"
    good = tuple(array.shape) == tuple(shape) and array.dtype == np.float32
    judge.require(good, "shape", words)
    bad = int((~np.isfinite(np.asarray(array))).sum())
    words = f"{bad} of {array.size} values that {name} gives are not finite"
    judge.require(not bad, "range", words)
