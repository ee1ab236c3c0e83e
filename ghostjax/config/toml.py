"""One experiment as data: layers of TOML and words, laid over each other, then built.

Until it is built a config is a *tree*: nested mappings of the keys that were stated.
Parents (`extends = "other.toml"`, beside the file), the file itself, a variant, the
axes of a sweep and the words of a command line are layers of one tree, each laid over
those below it by `merge`; `build` makes the records of what comes out. So a statement
means the same wherever it stands, and what nobody states is its record's default.

`stego`, `defense`, `attack` and `denoise` are tables whose `name` picks a member of the
family (`registry.FAMILIES`), and with it the keys allowed. Unknown keys, wrong types
and impossible values raise ValueError with the value and the nearest name. Imports no
jax.
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ghostjax import fields
from ghostjax.attacks.records import PRESETS, Search
from ghostjax.config.sections import Config, OwnTarget, Target, TargetRecord
from ghostjax.fields import NO_LIMITS, Range, Record
from ghostjax.names import shown, unknown
from ghostjax.registry import FAMILIES

__all__ = [
    "SWEEP_KEYS",
    "build",
    "load",
    "merge",
    "nested",
    "overlay",
    "read",
    "record",
    "records",
    "text",
    "to_toml",
    "type_of",
]

SWEEP_KEYS = ("sweep", "variants")

_DEFAULTS = Config()
_DEEPEST, _FEWER = 50, "state what they say in fewer files"
_BASES = get_type_hints(Config)  # of a family: the record that all its members extend


def load(path: Path) -> Config:
    """Reads the config file of one experiment, following `extends`.

    Raises:
      ValueError: no such file, malformed TOML, unknown key, wrong type, bad value; or
        a sweep, which is many experiments (`grid.load`).
    """
    tree = read(path)
    for key in SWEEP_KEYS:
        if key in tree:
            raise ValueError(
                f"{path}: holds many experiments ({key}): `ghostjax run` runs them all"
            )
    return build(tree, str(path))


def read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tree of a config file, laid over those that it extends."""
    by = f", which {seen[-1]} extends" if seen else ""
    try:
        path = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        raise ValueError(
            f"cannot read config {shown(str(path))}{by}: {error}"
        ) from error
    if path in seen:
        raise ValueError(f"{path}: extends itself through {seen[-1]}")
    if len(seen) > _DEEPEST:
        raise ValueError(f"{path}: {len(seen)} configs extend one another: {_FEWER}")
    try:
        tree = tomllib.loads(text(path))
    except OSError as error:
        raise ValueError(f"cannot read config {path}{by}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not valid TOML: it nests too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str) or not parent:
        raise ValueError(f"{path}: extends = {shown(parent)}: give the name of a file")
    return merge(read(path.parent / parent, (*seen, path)), tree)


def text(path: Path) -> str:
    """The text of a config file: UTF-8, with or without a byte order mark.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no UTF-8.
    """
    return path.read_bytes().decode("utf-8-sig")


def merge(lower: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer laid over a tree, key by key; a sweep replaces the one it meets.

    In the table of a family, a layer that names another member than the tree (its
    `name`, or the default member where it has none) leaves of the tree's table only the
    keys that every member has: `cut` of a defense. A layer that names a `preset` takes
    away those keys that presets fill, so that a preset always means all of it; keys
    beside it and in later layers change it.

    Returns:
      The new tree; both arguments stay as they are.
    """
    merged = dict(lower)
    for key, value in layer.items():
        below = lower.get(key, {})
        tables = isinstance(below, Mapping) and isinstance(value, Mapping)
        if not tables or key in SWEEP_KEYS:
            merged[key] = value
        elif key in FAMILIES:
            merged[key] = overlay(_lasting(key, below, value), value)
        else:
            merged[key] = overlay(below, value)
    return merged


def overlay(below: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """A table over a table, key by key at every depth; knows nothing of families."""
    merged = dict(below)
    for key, value in table.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = overlay(old, value)
        else:
            merged[key] = value
    return merged


def nested(key: str, value: Any) -> dict[str, Any]:
    """The tree of a dotted key: {"a": {"b": value}} of "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def type_of(key: str, tree: Mapping[str, Any]) -> Any:
    """The type of a dotted key where the tree has chosen the members; None: there is no
    such key."""
    section, _, name = key.partition(".")
    cls = _hints(Config).get(section)
    if not name:
        return cls
    stated = tree.get(section)
    table = stated if isinstance(stated, Mapping) else {}
    if section in FAMILIES:
        cls = _member(section, table.get("name", getattr(_DEFAULTS, section).name))
    elif cls is TargetRecord:
        cls = _section(cls, table)
    known = isinstance(cls, type) and issubclass(cls, Record)
    return _hints(cls).get(name) if known else None


def build(tree: Mapping[str, Any], where: str = "config") -> Config:
    """The Config of a tree.

    Args:
      tree: nested mappings as TOML has them; integers serve as floats, lists as tuples.
      where: opens the message of an error.

    Raises:
      ValueError: an unknown key or member, a wrong type, an impossible value.
    """
    with _at(where):
        return Config(**_values(Config, tree))


def records(tree: Mapping[str, Any], where: str = "config") -> dict[str, Any]:
    """What `build` hands to Config: the records of the sections that the tree states,
    and its values outside sections."""
    with _at(where):
        return _values(Config, tree)


def record(cls: type[Record], table: Mapping[str, Any], section: str) -> Record:
    """The record of a table: what it states, over its preset, over the defaults.

    Args:
      cls: of the record.
      table: key -> value, as TOML has them.
      section: the table's name, which opens the message of an error.

    Raises:
      ValueError: an unknown key, a wrong type, an impossible value.
    """
    values = _values(cls, table, section)
    if issubclass(cls, Search):
        values = {**PRESETS.get(values.get("preset", cls.preset), {}), **values}
    with _at(f"[{section}]"):  # what is wrong with values that are good by themselves
        return cls(**values)


def to_toml(config: Config) -> str:
    """The whole config as TOML that `load` reads back to an equal one."""
    import tomli_w  # here, since benchmarks that only read records have jax alone

    return tomli_w.dumps(dataclasses.asdict(config))


def _lasting(
    family: str, below: Mapping[str, Any], table: Mapping[str, Any]
) -> dict[str, Any]:
    """What is left of a family's table when `table` is laid over it; see `merge`."""
    before = below.get("name", getattr(_DEFAULTS, family).name)
    name = table.get("name", before)
    left = dict(below)
    if name != before:
        shared = {field.name for field in dataclasses.fields(_BASES[family])}
        left = {key: value for key, value in left.items() if key in shared}
    if "preset" in table:
        filled = _presets(_member(family, name)).values()
        left = {k: v for k, v in left.items() if not any(k in keys for keys in filled)}
    return left


def _member(family: str, name: Any) -> type[Record] | None:
    row = FAMILIES[family].get(name) if isinstance(name, str) else None
    return row.record if row else None


def _presets(cls: type[Record] | None) -> Mapping[str, Mapping[str, Any]]:
    """Name -> values, of the presets that a record has."""
    return PRESETS if cls is not None and issubclass(cls, Search) else {}


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return get_type_hints(cls)


def _values(
    cls: type[Record], tree: Mapping[str, Any], section: str = ""
) -> dict[str, Any]:
    """Field -> value, of those fields of a record that a table states."""
    form: Any = cls  # mypy takes a `type[...]` for unhashable
    hints = _hints(form)
    known = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            kind = f"[{section}] key" if section else "key"
            raise ValueError(unknown(kind, key, known))
        label, hint = f"{section}.{key}" if section else key, hints[key]
        if not (isinstance(hint, type) and issubclass(hint, Record)):
            values[key] = _typed(value, hint, label, fields.facts(known[key]).range)
        elif not isinstance(value, Mapping):
            raise ValueError(f"{label} = {shown(value)}: write a table, [{label}]")
        elif key in FAMILIES and cls is Config:
            values[key] = record(_chosen(key, value), value, label)
        else:
            values[key] = record(_section(hint, value), value, label)
    return values


def _section(hint: type[Record], table: Mapping[str, Any]) -> type[Record]:
    """The record of a section; a target with a digest is a network of one's own."""
    if hint is TargetRecord:
        return OwnTarget if "digest" in table else Target
    return hint


def _chosen(family: str, table: Mapping[str, Any]) -> type[Record]:
    """The record of the member that a family's table names, or of the default one."""
    name = table.get("name", getattr(_DEFAULTS, family).name)
    fields.check_value(f"{family}.name", name, str)
    if "digest" in table and name not in FAMILIES[family]:
        raise ValueError(
            f"{family}.name = {name!r} is somebody's own and not registered in this "
            "process: register it in Python (ghostjax.own) before the config is read"
        )
    return FAMILIES[family].record(name)


def _typed(value: Any, hint: Any, label: str, limits: Range = NO_LIMITS) -> Any:
    """A value of TOML as a field holds it."""
    if get_origin(hint) is tuple and isinstance(value, list):
        value = tuple(value)
    fields.check_value(label, value, hint, limits)
    if get_origin(hint) is tuple and get_args(hint)[0] is float:
        return tuple(map(float, value))
    return float(value) if hint is float else value


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Says first where it is that something is wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
