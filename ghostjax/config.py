"""One experiment as data: frozen dataclasses, read from strict TOML. Imports no jax.

A file may say `extends = "other.toml"` (beside it) and then gives only what differs.
`stego`, `defense`, `attack` and `denoise` are tables whose `name` picks the dataclass
(see `sections.py`), and with it the keys allowed. Unknown keys, wrong types and
impossible values raise ValueError with the value and the nearest name. `content_hash`
names runs and cached parts.
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, Literal, get_args, get_origin

import tomli_w

from ghostjax.attack_sections import PRESETS
from ghostjax.names import unknown
from ghostjax.sections import TABLES, Config

_COUNTS = {
    "epochs",
    "batch_size",
    "public_batch_size",
    "steps",
    "images",
    "cover_candidates",
    "queries",
    "width",
    "cg_steps",
}
_RATES = {
    "learning_rate",
    "train_rate",
    "probe_rate",
    "epsilon",
    "beta",
    "tv_beta",
    "max_perturbation",
    "edge_gflops",
    "uplink_mbps",
    "cloud_gflops",
}
_WEIGHTS = {
    "weight",
    "warm_up",
    "beta_start",
    "tv_weight",
    "covert_filters",
    "covers_per_secret",
    "level",
    "scale",
    "bound",
    "adversarial_step",
    "clean_weight",
    "noise",
    "tolerance",
    "edge_watts",
    "radio_watts",
    "radio_watts_per_mbps",
    "round_trip_ms",
}
SWEEP_KEYS = ("sweep", "variants")


def check(config: Config) -> Config:
    """The config itself, if its numbers can be what they say.

    Raises:
      ValueError: names the key, its value and what it must be.
    """
    sections = "target", "stego", "defense", "attacker", "attack", "denoise", "device"
    for section in sections:
        for key, value in dataclasses.asdict(getattr(config, section)).items():
            if key in _COUNTS:
                _require(value >= 1, f"{section}.{key}", value, "at least 1")
            if key in _RATES:
                _require(value > 0, f"{section}.{key}", value, "above 0")
            if key in _WEIGHTS:
                _require(value >= 0, f"{section}.{key}", value, "0 or more")
            if key == "bits":
                _require(1 <= value <= 7, f"{section}.{key}", value, "between 1 and 7")
            if key in ("rate", "nullified"):
                _require(0 <= value < 1, f"{section}.{key}", value, "in [0, 1)")
    if config.defense.name != "ghost_plus":
        pairs, wanted = getattr(config.denoise, "pairs", "own"), "'own'"
        wanted += ": only the defense ghost_plus has a generator"
        _require(pairs == "own", "denoise.pairs", pairs, wanted)
    return config


def load(path: Path) -> Config:
    """Reads the config file of one experiment, following `extends`.

    Raises:
      ValueError: no such file, malformed TOML, unknown key, wrong type, bad value; or
        a sweep, which is many experiments (`sweep.load`).
    """
    tree = read(path)
    for key in SWEEP_KEYS:
        if key in tree:
            raise ValueError(
                f"{path}: holds many experiments ({key}): `ghostjax run` runs them all"
            )
    return build(tree, str(path))


def read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The nested mappings of a config file, laid over those that it extends."""
    path = path.resolve()
    if path in seen:
        raise ValueError(f"{path}: extends itself through {seen[-1]}")
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    return merge(read(path.parent / parent, (*seen, path)), tree)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key; a sweep replaces the one it meets."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if not (isinstance(old, Mapping) and isinstance(value, Mapping)):
            merged[key] = value
        elif key in SWEEP_KEYS:
            merged[key] = value
        elif "name" in value and key in TABLES and value["name"] != old.get("name"):
            merged[key] = value  # another member of the table has other keys
        else:
            merged[key] = merge(old, value)
    return merged


def build(tree: Mapping[str, Any], where: str = "config") -> Config:
    """A Config from nested mappings as TOML gives them."""
    known = {f.name: f for f in dataclasses.fields(Config)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        _require_known(key, known, where)
        if not dataclasses.is_dataclass(_first(known[key].type)):
            values[key] = _typed(value, known[key].type, key, where)
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: {key} = {value!r}: write a table, [{key}]")
        cls = section_class(key, value.get("name"), where)
        values[key] = _section(cls, value, key, where)
    return check(Config(**values))


def section_class(section: str, name: str | None, where: str = "config") -> type:
    """The dataclass of a section; for stego, defense and attack picked by `name`."""
    if section in TABLES and name is not None:
        _require_known(name, TABLES[section], where, f"{section}.name")
        return TABLES[section][name]
    return _first({f.name: f.type for f in dataclasses.fields(Config)}[section])


def to_toml(config: Config) -> str:
    """The whole config as TOML that `load` reads back to an equal one."""
    return tomli_w.dumps(dataclasses.asdict(config))


def content_hash(*parts: Any) -> str:
    """16 hex digits of the content of dataclasses, numbers, strings, lists."""
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _section(cls: type, tree: Mapping[str, Any], section: str, where: str) -> Any:
    known = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    if "preset" in known:
        preset = tree.get("preset", known["preset"].default)
        values |= PRESETS.get(preset, {})
    for key, value in tree.items():
        _require_known(key, known, where, f"[{section}] key")
        values[key] = _typed(value, known[key].type, f"{section}.{key}", where)
    return cls(**values)


def _typed(value: Any, kind: Any, key: str, where: str) -> Any:
    if get_origin(kind) is Literal:
        _require_known(value, get_args(kind), where, key)
        return value
    if isinstance(kind, GenericAlias):  # tuple[int, ...]
        if isinstance(value, list) and all(type(v) is int for v in value):
            return tuple(value)
        raise ValueError(f"{where}: {key} = {value!r}: give a list of whole numbers")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", str: "a string"}
        wanted = words.get(kind, "true or false")
        raise ValueError(f"{where}: {key} = {value!r}: give {wanted}")
    return value


def _require_known(key: Any, known: Any, where: str, kind: str = "key") -> None:
    if key not in known:
        raise ValueError(f"{where}: {unknown(kind, key, known)}")


def _require(good: bool, key: str, value: Any, wanted: str) -> None:
    if not good:
        raise ValueError(f"{key} = {value!r}: must be {wanted}")


def _first(kind: Any) -> Any:
    return get_args(kind)[0] if isinstance(kind, UnionType) else kind
