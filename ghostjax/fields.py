"""Records: the only statement of an algorithm's hyper-parameters. Imports no jax.

A record is a frozen dataclass whose fields say what they are: their default, the range
that is checked when a record is made, and what a compiled program sees of them.

  static    a size, a count, a name, a choice: part of the program (the default)
  traced    a rate, a weight, a level: an argument of the program, with a dtype
  switch    traced, but whether it is zero is part of the program
  key       a seed: the program takes the key that is made of it

  @dataclass(frozen=True, kw_only=True)
  class Noise(Record):
      name: Literal["noise"] = "noise"
      distribution: Literal["gaussian", "laplace"] = "gaussian"
      level: float = traced(1.0, least=0)
      \"\"\"sigma of the Gaussian.\"\"\"

`static_half(record)` is equal for all records that share their programs, and
`traced_half(record)` is what those programs are called with.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

from ghostjax.names import unknown

__all__ = [
    "Facts",
    "Hyper",
    "NO_LIMITS",
    "NUMERICS",
    "ON",
    "Range",
    "Record",
    "TRACED",
    "averaged",
    "check",
    "check_value",
    "content",
    "content_hash",
    "facts",
    "narrowed",
    "neutral",
    "seed",
    "static",
    "static_half",
    "switch",
    "traced",
    "traced_half",
]

NUMERICS = 2
"""Raised when a change makes results other than they were: it is part of every hash, so
that nothing computed before is mixed with what is computed after."""

Hyper = Mapping[str, Any]  # name -> scalar array; what `traced` gives


class Range(NamedTuple):
    """Which numbers a field may hold; None: no limit on that side."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the number is in the range; a NaN is in none."""
        return value == value and not (
            (self.least is not None and value < self.least)
            or (self.above is not None and value <= self.above)
            or (self.most is not None and value > self.most)
            or (self.below is not None and value >= self.below)
        )

    def words(self) -> str:
        """The range as an error message says it: "at least 1", "in [0, 1)"."""
        low = self.least if self.least is not None else self.above
        high = self.most if self.most is not None else self.below
        if low is not None and high is not None:
            opening = "[" if self.least is not None else "("
            closing = "]" if self.most is not None else ")"
            return f"in {opening}{low:g}, {high:g}{closing}"
        if self.above is not None:
            return f"above {self.above:g}"
        if self.least == 0:
            return "0 or more"
        if low is not None:
            return f"at least {low:g}"
        return f"below {high:g}" if self.most is None else f"at most {high:g}"


NO_LIMITS = Range()


class Facts(NamedTuple):
    """What a field is, besides its type and its default."""

    kind: Literal["static", "traced", "switch", "key"] = "static"
    dtype: str = ""  # of a traced value
    range: Range = NO_LIMITS
    averaged: bool = False
    added: Any = MISSING
    neutral: Any = MISSING


_NO_FACTS = Facts()


def static(default: Any, *, added: Any = MISSING, **limits: float) -> Any:
    """A field that is part of the program; fields with no facts are static too.

    Args:
      default: its value where none is given.
      added: for a field that joined the record later: the value that it had, unsaid,
        before. At this value it does not count in the content hash.
      limits: of `Range`.
    """
    return _field(default, Facts("static", range=Range(**limits), added=added))


def traced(
    default: float,
    *,
    dtype: str = "float32",
    averaged: bool = False,
    added: Any = MISSING,
    neutral: Any = MISSING,
    **limits: float,
) -> Any:
    """A field that programs take as an argument.

    Args:
      default: its value where none is given.
      dtype: of the argument.
      averaged: a level of noise that an attacker who averages over queries divides by
        the root of their number.
      added: see `static`.
      neutral: of a defense's strength: the value at which it changes nothing. A defense
        whose strengths are all neutral sends what the plain edge sends, to the bit.
      limits: of `Range`.
    """
    return _field(
        default, Facts("traced", dtype, Range(**limits), averaged, added, neutral)
    )


def switch(
    default: float,
    *,
    dtype: str = "float32",
    averaged: bool = False,
    added: Any = MISSING,
    neutral: Any = MISSING,
    **limits: float,
) -> Any:
    """A traced field of which programs know whether it is zero; see `traced`."""
    return _field(
        default, Facts("switch", dtype, Range(**limits), averaged, added, neutral)
    )


def seed(default: int) -> Any:
    """A field of which a key is made: programs take the key, and know nothing of it."""
    return _field(default, Facts("key"))


def _field(default: Any, facts: Facts) -> Any:
    return dataclasses.field(default=default, metadata={"facts": facts})


def facts(field: dataclasses.Field[Any]) -> Facts:
    """What a field of a dataclass is."""
    return field.metadata.get("facts", _NO_FACTS)


class _Traced:
    """Stands for a traced value in a static record; has no value to read."""

    def __init__(self, word: str, truth: bool | None):
        self._word, self._truth = word, truth

    def __repr__(self) -> str:
        return self._word

    def __reduce__(self) -> str:
        return self._word  # a copy is the marker itself, in another process too

    def __bool__(self) -> bool:
        if self._truth is None:
            raise TypeError("a traced value is not known here: read it from `hyper`")
        return self._truth


TRACED = _Traced("TRACED", None)
ON = _Traced("ON", True)
"""What a static record holds for a traced value, and for a switch that is not 0."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The base of all records.

    Numbers are held as their fields' types: 1 for a float is 1.0, in hashes too, and
    NumPy's scalars are Python's.

    Raises:
      ValueError: when made: a value of a wrong type, unknown or out of its range.
    """

    def __post_init__(self) -> None:
        check(self)
        for name, hint, _ in _typed_fields(self):
            if hint is int or hint is float:
                value = getattr(self, name)
                if type(value) is not hint and not isinstance(value, _Traced):
                    object.__setattr__(self, name, hint(value))


def check(record: Any) -> None:
    """Refuses values that are not what their fields say.

    Raises:
      ValueError: names the field, its value, and what it must be.
    """
    for name, hint, limits in _typed_fields(record):
        value = getattr(record, name)
        if type(value) is hint and (limits is NO_LIMITS or limits.holds(value)):
            continue  # most fields of most records
        if value is TRACED or value is ON or isinstance(value, Record):
            continue
        check_value(name, value, hint, limits)


def check_value(label: str, value: Any, hint: Any, limits: Range = NO_LIMITS) -> None:
    """Refuses a value that is not what a field's type and range say.

    Raises:
      ValueError: gives the label, the value, and what it must be.
    """
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(unknown(label, value, get_args(hint)))
    elif hint in (int, float, bool, str) and not _is(value, hint):
        raise ValueError(f"{label} = {value!r}: give {_WORDS[hint]}")
    if limits != NO_LIMITS and not limits.holds(value):
        raise ValueError(f"{label} = {value!r}: must be {limits.words()}")


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
}


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float | np.number) and not _is(value, bool)
    if kind is int:
        return isinstance(value, int | np.integer) and not _is(value, bool)
    return isinstance(value, kind)


def _typed_fields(record: Any) -> list[tuple[str, Any, Range]]:
    kind: type = type(record)  # mypy takes a `type[...]` for unhashable
    return _typed_fields_of(kind)


@cache  # resolving the hints takes longer than all checks
def _typed_fields_of(cls: type) -> list[tuple[str, Any, Range]]:
    hints = get_type_hints(cls)
    ranges = {field.name: facts(field).range for field in dataclasses.fields(cls)}
    return [
        (name, hints[name], NO_LIMITS if limits == NO_LIMITS else limits)
        for name, limits in ranges.items()
    ]


def static_half(record: Record) -> Any:
    """The record with its traced values forgotten: a hashable key of its programs.

    Returns:
      A record of the same class. A traced field holds `TRACED`, which has no value; a
      switch holds `ON`, or its zero.
    """
    values = {}
    for field in dataclasses.fields(record):
        value, kind = getattr(record, field.name), facts(field).kind
        if isinstance(value, Record):
            value = static_half(value)
        elif kind in ("traced", "key"):
            value = TRACED
        elif kind == "switch" and value is not ON:
            value = ON if value else type(value)(0)
        values[field.name] = value
    return type(record)(**values)


def traced_half(record: Record) -> dict[str, Any]:
    """The record's traced values and switches, as NumPy scalars of their dtypes.

    Returns:
      name -> scalar; a nested record's values stand under its field's name.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value, known = getattr(record, field.name), facts(field)
        if isinstance(value, Record):
            values[field.name] = traced_half(value)
        elif known.kind in ("traced", "switch"):
            values[field.name] = np.dtype(known.dtype).type(value)
    return values


def averaged(record: Any, queries: int) -> Any:
    """The record of an attacker who averages over so many queries: what it says of
    noise falls with the root of their number."""
    falling = [f.name for f in dataclasses.fields(record) if facts(f).averaged]
    return dataclasses.replace(
        record, **{name: getattr(record, name) / queries**0.5 for name in falling}
    )


def neutral(record: Any) -> Any:
    """The record with all its strengths neutral; None where no field is a strength."""
    values = {f.name: facts(f).neutral for f in dataclasses.fields(record)}
    values = {name: value for name, value in values.items() if value is not MISSING}
    return dataclasses.replace(record, **values) if values else None


def narrowed(record: Record, cls: type) -> Any:
    """A record of `cls` with those values of `record` whose fields `cls` has."""
    names = [f.name for f in dataclasses.fields(cls) if f.name != "name"]
    return cls(**{name: getattr(record, name) for name in names})


def content(record: Any) -> dict[str, Any]:
    """The record's values as they count in a hash: name -> plain value."""
    return dict(_content(record))


def _content(record: Any) -> Iterator[tuple[str, Any]]:
    kind: type = type(record)  # mypy takes a `type[...]` for unhashable
    for name, added in _counted_fields_of(kind):
        value = getattr(record, name)
        if type(value) not in _WORDS and dataclasses.is_dataclass(value):
            yield name, content(value)
        elif added is MISSING or value != added:
            yield name, value


@cache  # a plan hashes each record several times
def _counted_fields_of(cls: type) -> list[tuple[str, Any]]:
    """Name and the value at which it does not count, of each field."""
    return [(field.name, facts(field).added) for field in dataclasses.fields(cls)]


_ENCODER = json.JSONEncoder(sort_keys=True)


def content_hash(*parts: Any) -> str:
    """16 hex digits of the content of records, numbers, strings, lists, and of
    `NUMERICS`."""
    plain = [content(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = _ENCODER.encode([NUMERICS, *plain])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
