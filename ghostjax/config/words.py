"""Words of a command line over a config: `--section.key value`. Imports no jax.

The keys that the words name are one layer over the config's tree, as those of a file
that extends it are: `--attack.name inverse` starts from that member's defaults, and
`--attack.preset adam` means all of the preset. A value is written as in TOML, strings
without quotes, the values of a list apart (`--data.sensitive-labels 1 2`); true and
false in letters of any size, _ and - alike in keys. Of a key that is stated twice the
last statement counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from ghostjax.config import grid, sections, toml
from ghostjax.fields import Record
from ghostjax.names import shown
from ghostjax.registry import FAMILIES

__all__ = ["HELP", "divided", "keys", "override", "override_all"]

HELP = "--help-keys"
_WHERE = "command line"  # where a statement that cannot be stands
_KEYS = {known.name for known in fields(sections.Config)}


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that state no key, and those that do, values included; each in order.

    A key takes the word after it; one that holds a list of numbers takes all numbers
    after it, another list all words up to the next --.
    """
    others: list[str] = []
    stating: list[str] = []
    takes, taken = "", 0  # what the last key takes of the words after it; how many
    for word in words:
        if word == HELP or word.startswith("--") and _key(word).split(".")[0] in _KEYS:
            stating.append(word)
            takes = "" if word == HELP or "=" in word else _takes(_key(word))
            taken = 0
        elif not word.startswith("--") and _belongs(word, takes, taken):
            stating.append(word)
            taken += 1
        else:
            others.append(word)
            takes = ""
    return others, stating


def keys() -> list[str]:
    """The words that begin a statement, for who has mistyped one."""
    return [HELP, *sorted(f"--{key}" for key in _KEYS)]


def override_all(base: grid.Sweep, words: Sequence[str]) -> grid.Sweep:
    """The sweep with the words laid over every member.

    Raises:
      ValueError: a word for what the sweep itself varies, `seeds` with all that it
        stands for included, or members made equal; what `override` refuses.
    """
    _require_free(words, base)
    if not words:
        return base
    trees = [override(tree, words) for tree in base.trees]
    members = [toml.build(tree, _WHERE) for tree in trees]
    changed = grid.changed(base, members, trees)
    _require_free(words, changed)  # seeds of records that came in are varied too
    return changed


def override(tree: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The tree of a config with words laid over it. `--help-keys` prints the keys there
    are and the values they have, and exits.

    Raises:
      ValueError: a key without its value, or with several where it holds one; with
        `--help-keys`, what `toml.records` refuses.
    """
    stated = _stated(words)
    chosen: dict[str, Any] = {}
    for key, values in stated.items():  # a name decides on the other keys' types
        if key.endswith(".name"):
            chosen = toml.overlay(chosen, toml.nested(key, _value(key, values, str)))
    base = toml.merge(tree, chosen)
    layer: dict[str, Any] = {}
    for key, values in stated.items():
        value = _value(key, values, toml.type_of(key, base))
        layer = toml.overlay(layer, toml.nested(key, value))
    laid = toml.merge(tree, layer)
    if HELP in words:
        _print_keys(toml.records(laid, _WHERE))
    return laid


def _require_free(words: Sequence[str], sweep: grid.Sweep) -> None:
    for key in _stated(words):
        if key in sweep.keys:
            raise ValueError(f"--{key}: the config sweeps over {key}: change it there")


def _stated(words: Sequence[str]) -> dict[str, list[str]]:
    """Key -> the words of its value, as they were stated last."""
    stated: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word == HELP:
            values = []
        elif word.startswith("--"):
            _, equals, value = word.partition("=")
            values = stated[_key(word)] = [value] if equals else []
        else:
            values.append(word)
    return stated


def _key(word: str) -> str:
    return word[2:].partition("=")[0].replace("-", "_")


def _value(key: str, words: Sequence[str], hint: Any) -> Any:
    """The value that words are for a key of this type, as TOML would have it; words
    that are none of the type stay words, which `toml.build` refuses."""
    if get_origin(hint) is tuple:
        return [_typed(word, get_args(hint)[0]) for word in words]
    if not words:
        raise ValueError(f"--{key} needs a value")
    if len(words) > 1:
        raise ValueError(f"--{key} = {shown(' '.join(words))}: give one value")
    return _typed(words[0], hint)


def _typed(word: str, hint: Any) -> Any:
    if hint is bool:
        return {"true": True, "false": False}.get(word.lower(), word)
    for kind in (int, float):
        try:
            if hint in (kind, float):
                return kind(word)
        except ValueError:
            continue
    return word


def _belongs(word: str, takes: str, taken: int) -> bool:
    """Whether a word is a value of the key before it."""
    if takes == "numbers" and taken:
        return not isinstance(_typed(word, float), str)
    return takes == "all" or takes != "" and not taken


@cache
def _takes(key: str) -> str:
    """What a key takes of the words after it, whichever members are chosen: "one",
    "numbers" or "all"."""
    section = key.partition(".")[0]
    names = FAMILIES.get(section, ["any"])
    types = [toml.type_of(key, {section: {"name": name}}) for name in names]
    elements = [get_args(hint)[0] for hint in types if get_origin(hint) is tuple]
    if not elements:
        return "one"
    return "numbers" if {int, float} & {*elements} else "all"


def _print_keys(values: Mapping[str, Any]) -> None:
    """Prints every key with its meaning and its value, and exits."""
    import tyro

    filled = {**vars(sections.Config()), **values}
    for key, record in filled.items():
        if isinstance(record, Record):
            kind: type = type(record)  # mypy takes a `type[...]` for unhashable
            cls = _unchecked(kind, tuple(FAMILIES.get(key, ())))
            stated = {known.name: getattr(record, known.name) for known in fields(cls)}
            filled[key] = cls(**stated)
    form = _unchecked(sections.Config)(**filled)
    tyro.cli(
        type(form),
        prog="ghostjax run CONFIG",
        default=form,
        args=["--help"],
        config=(tyro.conf.FlagConversionOff, tyro.conf.HelptextFromCommentsOff),
    )


@cache
def _unchecked(cls: Any, names: tuple[str, ...] = ()) -> Any:
    """The class of a record that checks nothing, since a form shows what is good; its
    `name` may be any of these."""
    body = {"__doc__": cls.__doc__, "__post_init__": lambda record: None}
    name = [("name", Literal[names], field(default=cls.name))] if names else []
    return make_dataclass(
        cls.__name__, name, bases=(cls,), namespace=body, frozen=True, kw_only=True
    )
