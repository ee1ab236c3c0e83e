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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from math import inf
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

from ghostjax.names import shown, unknown

__all__ = [
    "Facts",
    "Hyper",
    "LARGEST",
    "LAST_SEED",
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


LARGEST = float(np.finfo(np.float32).max)
"""What any float field may hold at most: programs compute in float32."""
LAST_SEED = 2**32 - 1
"""jax makes keys of 32 bits of a seed: beyond them lie the same keys once more."""


class Range(NamedTuple):
    """Which numbers a field may hold; None: no limit on that side but its type's, which
    is finite too (`of_type`)."""

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
            return f"in {opening}{_digits(low)}, {_digits(high)}{closing}"
        if self.above is not None:
            return f"above {_digits(self.above)}"
        if self.least == 0:
            return "0 or more"
        if low is not None:
            return f"at least {_digits(low)}"
        bound = "below" if self.most is None else "at most"
        return f"{bound} {_digits(high)}" if high is not None else "a number"

    def ends(self) -> tuple[float, float]:
        """The ends of a range that is closed by its type, which it may hold or not."""
        low = self.least if self.least is not None else self.above
        high = self.most if self.most is not None else self.below
        return -inf if low is None else low, inf if high is None else high

    def of_type(self, hint: Any) -> "Range":
        """The range closed on both sides, by what a field of the type can hold."""
        widest = _WIDEST.get(hint, self)
        low = self.least is None and self.above is None
        high = self.most is None and self.below is None
        return self._replace(
            least=widest.least if low else self.least,
            most=widest.most if high else self.most,
        )


def _digits(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


_WIDEST = {
    int: Range(least=-(2**31), most=2**31 - 1),
    float: Range(least=-LARGEST, most=LARGEST),
}
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
      limits: of `Range`; of a tuple those of its values.
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
    return _field(default, Facts("key", range=Range(least=0, most=LAST_SEED)))


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
        for name, hint, *_ in _typed_fields(self):
            if hint is int or hint is float:
                value = getattr(self, name)
                if type(value) is not hint and not isinstance(value, _Traced):
                    object.__setattr__(self, name, hint(value))


def check(record: Any) -> None:
    """Refuses values that are not what their fields say.

    Raises:
      ValueError: names the field, its value, and what it must be.
    """
    for name, hint, limits, plain in _typed_fields(record):
        value = getattr(record, name)
        if not (plain(value) or isinstance(value, _Traced)):
            check_value(name, value, hint, limits)


def check_value(label: str, value: Any, hint: Any, limits: Range = NO_LIMITS) -> None:
    """Refuses a value that is not what a field's type and range say.

    Args:
      label: the field's name, for the message.
      value: what it is to hold.
      hint: its type; what is neither a number, word, truth, choice, record nor tuple of
        these is not looked at.
      limits: its range, of the values where it is a tuple. Numbers are also finite, and
        in range as the float32 or int32 that programs are given.

    Raises:
      ValueError: gives the label, the value, and what it must be.
    """
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise ValueError(unknown(label, value, get_args(hint)))
    elif get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{label} = {shown(value)}: give a list")
        for place, element in enumerate(value):
            check_value(f"{label}[{place}]", element, get_args(hint)[0], limits)
    elif not _is(value, hint):
        raise ValueError(f"{label} = {shown(value)}: give {_words(hint)}")
    elif hint in _WIDEST:
        _check_number(label, value, hint, limits)


def _check_number(label: str, value: Any, hint: Any, limits: Range) -> None:
    if not limits.holds(value):
        raise ValueError(f"{label} = {shown(value)}: must be {limits.words()}")
    closed = limits.of_type(hint)
    if not closed.holds(value):
        words = closed.words() if hint is int else "finite, in float32 too"
        raise ValueError(f"{label} = {shown(value)}: must be {words}")
    if hint is float and not limits.holds(rounded := float(np.float32(value))):
        raise ValueError(
            f"{label} = {shown(value)}: must be {limits.words()} in float32 too, where "
            f"it is {rounded:g}"
        )


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
}


def _words(hint: Any) -> str:
    return _WORDS.get(hint) or f"a record, a {hint.__name__}"


def _is(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float | np.number) and not _is(value, bool)
    if hint is int:
        return isinstance(value, int | np.integer) and not _is(value, bool)
    known = isinstance(hint, type) and (hint in _WORDS or issubclass(hint, Record))
    return not known or isinstance(value, hint)


_Typed = tuple[str, Any, Range, Callable[[Any], bool]]


def _typed_fields(record: Any) -> list[_Typed]:
    kind: type = type(record)  # mypy takes a `type[...]` for unhashable
    return _typed_fields_of(kind)


@cache  # resolving the hints takes longer than all checks
def _typed_fields_of(cls: type) -> list[_Typed]:
    """Name, type, range, and what is true of good values as nearly all are."""
    hints = get_type_hints(cls)
    ranges = {field.name: facts(field).range for field in dataclasses.fields(cls)}
    return [
        (name, hints[name], limits, _plain(hints[name], limits))
        for name, limits in ranges.items()
    ]


def _plain(hint: Any, limits: Range) -> Callable[[Any], bool]:
    if get_origin(hint) is Literal:
        choices = frozenset(get_args(hint))
        return lambda value: type(value) is str and value in choices
    if hint not in _WIDEST:
        return lambda value: type(value) is hint and hint in _WORDS
    low, high = limits.of_type(hint).ends()
    if hint is float:  # between the float32 next to the ends all is rounded inside
        low = float(np.nextafter(np.float32(low), np.float32(high)))
        high = float(np.nextafter(np.float32(high), np.float32(low)))
    return lambda value: type(value) is hint and low < value < high


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
