"""Records: refuse what they must, split into what is compiled and what is passed."""

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Literal

import numpy as np
import pytest

from ghostjax import fields
from ghostjax.attacks.records import Rmle, Shadow
from ghostjax.fields import (
    ON,
    TRACED,
    Range,
    Record,
    content_hash,
    narrowed,
    static,
    static_half,
    switch,
    traced,
    traced_half,
)


@dataclass(frozen=True, kw_only=True)
class Inner(Record):
    width: int = static(4, least=1)
    rate: float = traced(0.5, above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class Outer(Record):
    name: Literal["outer", "other"] = "outer"
    steps: int = static(10, least=1)
    scale: float = static(1.0, least=0)
    bits: int = traced(3, dtype="uint8", least=1, most=7)
    weight: float = traced(1.0, least=0)
    bound: float = switch(0.0, least=0)
    box: bool = True
    place: str = ""
    inner: Inner = field(default_factory=Inner)


def test_the_static_half_forgets_traced_values_and_keeps_what_a_program_depends_on():
    half = static_half(Outer(bits=5, weight=2.0, bound=0.1, place="cut"))
    assert type(half) is Outer
    assert (half.name, half.steps, half.scale, half.place) == ("outer", 10, 1.0, "cut")
    assert half.bits is TRACED and half.weight is TRACED and half.inner.rate is TRACED
    assert half.inner.width == 4 and half.box is True
    assert half.bound is ON and half.bound, "a switch that is not 0"
    zero = static_half(Outer()).bound
    assert zero == 0 and not zero, "a switch that is 0"
    assert static_half(half) == half


def test_a_traced_value_cannot_be_read_out_of_a_static_half():
    half = static_half(Outer())
    with pytest.raises(TypeError, match="read it from `hyper`"):
        bool(half.weight)
    for read in (float, int, lambda x: x + 1, lambda x: x > 0, lambda x: 2 * x):
        with pytest.raises(TypeError):
            read(half.weight)
    with pytest.raises(TypeError):
        traced_half(half)
    assert repr(half.weight) == "TRACED" and repr(ON) == "ON"


def test_markers_stay_themselves_in_copies_and_in_other_processes():
    half = static_half(Outer(bound=1.0))
    for twin in (copy.deepcopy(half), pickle.loads(pickle.dumps(half))):
        assert twin == half and hash(twin) == hash(half)
        assert twin.weight is TRACED and twin.bound is ON


def test_static_halves_are_equal_and_hash_equal_for_other_traced_values_alone():
    first = Outer(bits=1, weight=0.0, bound=0.5, inner=Inner(rate=0.1))
    second = Outer(bits=7, weight=9.0, bound=2.0, inner=Inner(rate=0.9))
    one, two = static_half(first), static_half(second)
    assert one == two and hash(one) == hash(two) and {one: 1}[two] == 1
    for change in (
        {"steps": 11},
        {"scale": 2.0},
        {"bound": 0.0},
        {"box": False},
        {"place": "cut"},
        {"inner": Inner(width=5)},
    ):
        assert static_half(replace(first, **change)) != one, change


def test_the_traced_half_holds_scalars_of_their_dtypes_and_nests():
    hyper = traced_half(Outer(bits=5, bound=0.25, inner=Inner(rate=0.75)))
    assert hyper == {"bits": 5, "weight": 1, "bound": 0.25, "inner": {"rate": 0.75}}
    assert hyper["bits"].dtype == np.uint8
    assert hyper["weight"].dtype == hyper["inner"]["rate"].dtype == np.float32
    one, two = (traced_half(Outer(steps=steps)) for steps in (1, 2))
    assert one == two, "static values are no arguments"


def test_numbers_are_held_as_their_field_s_type():
    for one in (1, np.int64(1), np.float32(1)):
        record = Outer(weight=one, scale=one)
        assert type(record.weight) is type(record.scale) is float
        assert record == Outer() and content_hash(record) == content_hash(Outer())
        assert static_half(record) == static_half(Outer())
    many = Outer(steps=np.int32(7))
    assert type(many.steps) is int and json.dumps(fields.content(many))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps": 0}, r"steps = 0: must be at least 1$"),
        ({"bits": 8}, r"bits = 8: must be in \[1, 7\]$"),
        ({"weight": -0.5}, r"weight = -0.5: must be 0 or more$"),
        ({"weight": float("nan")}, r"weight = nan: must be 0 or more$"),
        ({"steps": 1.5}, r"steps = 1.5: give a whole number$"),
        ({"steps": True}, r"steps = True: give a whole number$"),
        ({"weight": "1"}, r"weight = '1': give a number$"),
        ({"weight": True}, r"weight = True: give a number$"),
        ({"box": 1}, r"box = 1: give true or false$"),
        ({"place": 3}, r"place = 3: give a string$"),
        ({"name": "outr"}, r"unknown name 'outr': did you mean 'outer'\? known: outer"),
    ],
)
def test_refusals_say_field_value_and_what_it_must_be(values, message):
    with pytest.raises(ValueError, match=message):
        Outer(**values)


def test_the_ends_of_ranges_are_in_or_out_as_they_say():
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"rate = {rate}: must be in \(0, 1\)"):
            Inner(rate=rate)
    for bits in (1, 7):
        assert Outer(bits=bits).bits == bits
    assert Outer(weight=0.0).weight == 0


@pytest.mark.parametrize(
    "limits, words, inside, outside",
    [
        (Range(least=0), "0 or more", [0, 1e9], [-1e-9]),
        (Range(least=2), "at least 2", [2], [1.9]),
        (Range(above=0), "above 0", [1e-9], [0, -1]),
        (Range(most=3), "at most 3", [3, -9], [3.1]),
        (Range(below=3), "below 3", [2.9], [3]),
        (Range(least=0, below=1), "in [0, 1)", [0, 0.9], [1, -0.1]),
        (Range(above=0, most=1), "in (0, 1]", [0.1, 1], [0, 1.1]),
    ],
)
def test_ranges_hold_and_say_what_they_hold(limits, words, inside, outside):
    assert limits.words() == words
    assert all(map(limits.holds, inside)) and not any(map(limits.holds, outside))
    assert not limits.holds(float("nan"))


def test_records_are_frozen_and_take_keywords_alone():
    with pytest.raises(FrozenInstanceError):
        Outer().steps = 3
    with pytest.raises(TypeError):
        Outer("outer")
    with pytest.raises(TypeError, match="stepz"):
        Outer(stepz=3)


@dataclass(frozen=True, kw_only=True)
class Before(Record):
    steps: int = static(10, least=1)


@dataclass(frozen=True, kw_only=True)
class After(Record):
    steps: int = static(10, least=1)
    draws: int = static(10, least=1, added=10)
    level: float = traced(2.0, least=0, added=0.0)


def test_a_field_that_was_added_counts_unless_it_has_its_old_value():
    old = content_hash(Before())
    assert content_hash(After(level=0)) == old, "what was computed before still serves"
    assert content_hash(After(level=0.0, draws=11)) != old
    assert content_hash(After()) != old, "the default is not the old value"
    nested = content_hash(Outer(inner=Inner(width=5)))
    assert nested != content_hash(Outer())


def test_a_hash_changes_with_every_value_and_with_the_numerics(monkeypatch):
    before = content_hash(Outer())
    assert before == content_hash(Outer()) and len(before) == 16
    assert int(before, 16) >= 0
    changed = [
        Outer(name="other"),
        Outer(steps=11),
        Outer(bits=4),
        Outer(weight=1.5),
        Outer(bound=1e-9),
        Outer(inner=Inner(rate=0.25)),
    ]
    hashes = {before, *map(content_hash, changed), content_hash(Outer(), "edge")}
    assert len(hashes) == len(changed) + 2
    monkeypatch.setattr(fields, "NUMERICS", fields.NUMERICS + 1)
    assert content_hash(Outer()) != before


def test_a_hash_is_the_same_in_another_process():
    program = (
        "from ghostjax.attacks.records import Shadow\n"
        "from ghostjax.fields import content_hash\n"
        "print(content_hash(Shadow(steps=3), 'part', 1, [2, 'x']))\n"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, check=True, text=True)
    assert printed.stdout.strip() == content_hash(Shadow(steps=3), "part", 1, [2, "x"])


def test_a_narrowed_record_takes_the_values_it_has_fields_for():
    shadow = Shadow(steps=7, tv_weight=0.25, noise=0.5, epochs=9, decoder=True)
    rmle = narrowed(shadow, Rmle)
    assert rmle == Rmle(steps=7, tv_weight=0.25, noise=0.5)
    assert rmle.name == "rmle"
    assert narrowed(static_half(shadow), Rmle) == static_half(rmle)
    assert static_half(rmle) == static_half(Rmle(steps=7, noise=2.0))


def test_records_and_sections_import_no_jax():
    program = (
        "import sys\nimport ghostjax.registry, ghostjax.config.sections\n"
        "assert 'jax' not in sys.modules, 'jax is imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
