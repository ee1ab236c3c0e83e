"""Many experiments from one config file. Imports no jax.

A file with `[sweep]` or `[[variants]]` stands for every combination of them:

  [sweep]                                   # axes: dotted keys, each with its values
  "defense.level" = [0.0, 0.5, 1.0]
  attack = [{name = "rmle", preset = "authors"}, {name = "inverse"}]
  "*" = [{attack.name = "rmle", denoise.name = "cda"}, …]   # joint values of one axis
  seeds = [0, 1, 2]                         # every seed there is, all at one value
  [[variants]]                              # joint changes; `label` goes into the name
  label = "conv22"
  defense.cut = "conv22"
  attack.tv_weight = 10.0
  sweep."stego.bits" = [2, 3]               # axes of this variant alone, or in place of
                                            # the same axis of all

Variants come outermost, then the axes as stated, the last one changing fastest. Each is
a layer over the rest of the file, as a child is over the file that it extends
(`toml.merge`): a variant below the axes, an axis below those stated after it. Every
member is an ordinary run that its own command could have made.

`seed` varies what a run draws and learns around trainings that it shares with others;
`target.seed` and `stego.seed` vary one of these each. `seeds` sets them all: in every
member `seed` and whatever seeds its records have, whatever is stated below, and also
where a record comes in later, from the command line or a script (`changed`). It is no
key of a config: each member states the seeds that it stands for.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ghostjax.config import toml
from ghostjax.config.sections import Config
from ghostjax.fields import Record, facts
from ghostjax.names import require, shown
from ghostjax.registry import FAMILIES

__all__ = [
    "Sweep",
    "Variant",
    "changed",
    "departures",
    "differing",
    "distinct",
    "load",
    "telling",
    "title",
    "value_of",
]

_JOINT = "*"  # the axis whose values are joint changes
_SEEDS = "seeds"  # what stands for every seed of a member


class Sweep(NamedTuple):
    """The experiments of a config file."""

    name: str
    keys: tuple[str, ...]  # dotted, what the file varies; () for a single experiment
    members: tuple[Config, ...]
    trees: tuple[Mapping[str, Any], ...] = ()  # that a file's members were built from
    seeds: tuple[int | None, ...] = ()  # what `seeds` says of each; (): of none


class Variant(NamedTuple):
    """One of `[[variants]]`."""

    label: str = ""  # joins the name of its members
    patch: Mapping[str, Any] = {}  # the tree of its keys
    axes: Mapping[str, Sequence[Any]] = {}  # dotted key -> values, of this one alone


def load(path: Path) -> Sweep:
    """Reads a config file of one or many experiments, following `extends`.

    Raises:
      ValueError: what `toml.load` refuses; axes or variants that are malformed,
        empty, or name an experiment twice.
    """
    tree, where = toml.read(path), str(path)
    variants, axes = tree.pop("variants", None), tree.pop("sweep", None)
    if variants is None and axes is None:
        single = toml.build(tree, where)
        return Sweep(name=single.name, keys=(), members=(single,), trees=(tree,))
    joint = [Variant()] if variants is None else _variants(variants, where)
    common = {} if axes is None else _axes(axes, where)
    members, trees, seeds = [], [], []
    keys: dict[str, None] = {}
    for variant in joint:
        for stated in _layers(variant, common, where):
            values = [patch[_SEEDS] for patch in stated if _SEEDS in patch]
            value = values[-1] if values else None
            patches = _seeded(tree, stated, value, where) if values else stated
            keys |= {key: None for patch in patches for key, _ in _leaves(patch)}
            member, laid = _member(tree, patches, variant.label, where)
            members.append(member)
            trees.append(laid)
            seeds.append(value)
    return Sweep(
        name=str(tree.get("name", Config.name)),
        keys=tuple(keys),
        members=distinct(members, tuple(keys)),
        trees=tuple(trees),
        seeds=tuple(seeds),
    )


def changed(
    sweep: Sweep, members: Sequence[Config], trees: Sequence[Mapping[str, Any]] = ()
) -> Sweep:
    """The sweep with other members in the place of its own, one for one.

    Where `seeds` is varied, it also sets those seeds that come in with other records.

    Args:
      sweep: of `load`.
      members: in its order.
      trees: what they were built from; (): the sweep's own stay.

    Raises:
      ValueError: a seed that `seeds` stands for is given a value, or two members are
        the same.
    """
    seeded, laid = list(members), list(trees)
    keys = dict.fromkeys(sweep.keys)
    for place, value in enumerate(sweep.seeds):
        for key in _seeds(members[place]) if value is not None else ():
            stated = value_of(members[place], key)
            if stated not in (value, _default(members[place], key)):
                raise ValueError(
                    f"{key} = {stated}: the sweep varies seeds, which stands for {key} "
                    "too; leave one of the two out"
                )
            keys[key] = None
            seeded[place] = _with(seeded[place], key, value)
            if laid:
                laid[place] = toml.overlay(laid[place], toml.nested(key, value))
    return sweep._replace(
        keys=tuple(keys),
        members=distinct(seeded, tuple(keys)),
        trees=tuple(laid) or sweep.trees,
    )


def distinct(members: Sequence[Config], keys: Sequence[str]) -> tuple[Config, ...]:
    """The members themselves.

    Raises:
      ValueError: two of them are the same experiment.
    """
    seen: dict[Config, int] = {}
    for place, member in enumerate(members, 1):
        first = seen.setdefault(replace(member, name=Config.name), place)
        if first != place:
            raise ValueError(
                f"experiments {first} and {place} of the sweep are the same "
                f"({title(member, keys)}): leave one of them out"
            )
    return tuple(members)


def title(member: Config, keys: Sequence[str]) -> str:
    """What tells a member from the others: `defense.level 0.5, attack.name rmle`."""
    shown = ((key, value_of(member, key)) for key in keys)
    return ", ".join(f"{key} {value}" for key, value in shown if value is not None)


def departures(record: Record, above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is not its record's default, whatever has stated
    it; of a member that is not the default one its name too."""
    for field in fields(record):
        value, key = getattr(record, field.name), f"{above}{field.name}"
        makes = field.default_factory
        default = field.default if makes is MISSING else makes()
        if isinstance(value, Record):
            name = getattr(value, "name", "")
            if name != getattr(default, "name", ""):
                yield f"{key}.name", name
            inner = departures(value, f"{key}.")
            yield from ((k, v) for k, v in inner if k != f"{key}.name")
        elif value != default:
            yield key, value


def value_of(member: Config, key: str) -> Any:
    """The value of a dotted key; None where the member's section has no such key."""
    value: Any = member
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def telling(sweep: Sweep) -> tuple[str, ...]:
    """Those keys of a sweep that tell members apart and do not follow from others:
    ARDEN's steps beside GHOST's follow from the defense, others from the ratio, the
    target's seed from `seeds`."""
    inner = [
        key
        for key in sweep.keys
        if key.endswith(".seed")
        or (key.split(".")[0] in FAMILIES and not key.endswith(".name"))
    ]
    rows = [{key: value_of(m, key) for key in sweep.keys} for m in sweep.members]
    return tuple(differing(rows, sweep.keys, inner))


def _axes(axes: Any, where: str) -> dict[str, list[Any]]:
    """Dotted key -> its values; unquoted dotted keys came as nested tables."""
    if not isinstance(axes, Mapping) or not axes:
        raise ValueError(
            f"{where}: sweep = {shown(axes)}: write a table of keys and lists"
        )
    leaves = dict(_leaves(axes))
    for key, values in leaves.items():
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{where}: sweep: {key} = {shown(values)}: give a list of its values"
            )
        for place, value in enumerate(values):
            if value in values[:place]:
                raise ValueError(f"{where}: sweep: {key} names {shown(value)} twice")
    return leaves


def _variants(variants: Any, where: str) -> list[Variant]:
    are_tables = isinstance(variants, list) and all(
        isinstance(variant, dict) for variant in variants
    )
    if not are_tables or not variants:
        raise ValueError(
            f"{where}: variants = {shown(variants)}: write [[variants]] tables"
        )
    read = []
    for variant in variants:
        label = variant.get("label", "")
        if label != "":
            require(f"{where}: variants: label", label)
        axes = _axes(variant["sweep"], where) if "sweep" in variant else {}
        patch = {k: v for k, v in variant.items() if k not in ("label", "sweep")}
        read.append(Variant(label, patch, axes))
    return read


def _layers(
    variant: Variant, common: Mapping[str, Sequence[Any]], where: str
) -> Iterator[list[Mapping[str, Any]]]:
    """For each member of a variant what is laid over the file, the lowest first.

    Axes of the variant alone come outside those of all; one that both have stays where
    all have it, with the variant's values.
    """
    alone = {k: v for k, v in variant.axes.items() if k not in common}
    axes = {**alone, **common, **variant.axes}
    for values in itertools.product(*axes.values()):
        steps = zip(axes, values, strict=True)
        yield [variant.patch, *(_nested(key, value, where) for key, value in steps)]


def _seeded(
    tree: Mapping[str, Any],
    patches: Sequence[Mapping[str, Any]],
    value: Any,
    where: str,
) -> list[Mapping[str, Any]]:
    """The patches with all seeds of the member where one says `seeds`, and once more
    at the end: what is laid over them may bring seeds of its own."""
    others = [{k: v for k, v in patch.items() if k != _SEEDS} for patch in patches]
    for patch in others:
        tree = toml.merge(tree, patch)
    keys = _seeds(toml.build(tree, where))
    varied = {key for patch in others for key, _ in _leaves(patch)}
    if twice := [key for key in keys if key in varied]:
        raise ValueError(
            f"{where}: seeds and {', '.join(twice)} are both varied: seeds stands for "
            f"{', '.join(keys)}; leave one of the two out"
        )
    seeds: dict[str, Any] = {}
    for key in keys:
        seeds = toml.overlay(seeds, toml.nested(key, value))
    placed = [
        toml.overlay(other, seeds) if _SEEDS in stated else other
        for other, stated in zip(others, patches, strict=True)
    ]
    return [*placed, seeds]


def _seeds(record: Record, above: str = "") -> list[str]:
    """The dotted keys of all seeds of a config, its own first."""
    keys = [] if above else ["seed"]
    for field in fields(record):
        value, key = getattr(record, field.name), f"{above}{field.name}"
        if isinstance(value, Record):
            keys += _seeds(value, f"{key}.")
        elif facts(field).kind == "key":
            keys.append(key)
    return keys


def _default(record: Any, key: str) -> Any:
    """What a dotted key is where nobody states it."""
    name, _, rest = key.partition(".")
    if rest:
        return _default(getattr(record, name), rest)
    return {field.name: field.default for field in fields(record)}[name]


def _with(record: Any, key: str, value: Any) -> Any:
    """The record with another value of a dotted key."""
    name, _, rest = key.partition(".")
    if rest:
        value = _with(getattr(record, name), rest, value)
    return replace(record, **{name: value})


def _member(
    tree: Mapping[str, Any],
    patches: Sequence[Mapping[str, Any]],
    label: str,
    where: str,
) -> tuple[Config, Mapping[str, Any]]:
    """A member and the tree that it is built from."""
    for patch in patches:
        tree = toml.merge(tree, patch)
    leaves = dict(leaf for patch in patches for leaf in _leaves(patch))
    changes = ", ".join(f"{key} = {shown(value)}" for key, value in leaves.items())
    built = toml.build(tree, f"{where} ({changes})")
    if not label:
        return built, tree
    name = require(f"{where}: name, with its label", f"{built.name}-{label}")
    return replace(built, name=name), {**tree, "name": name}


def _nested(key: str, value: Any, where: str) -> dict[str, Any]:
    """The tree of an axis's value; that of "*" is such a tree itself."""
    if key == _JOINT:
        if not isinstance(value, dict) or not value:
            raise ValueError(
                f"{where}: sweep: '*' has {shown(value)}: write tables of keys"
            )
        return value
    return toml.nested(key, value)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that is not itself a table."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def differing(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], inner: Collection[str]
) -> list[str]:
    """Those keys that tell rows apart and do not follow from others.

    Args:
      rows: a mapping for each experiment; a key that is missing has no value.
      keys: what may vary.
      inner: those of them that may follow from the others. Such a key counts only
        where it differs among rows that are alike in all others: the steps of two
        trainings of one defense tell runs apart, those of two defenses do not.
    """
    outer = [key for key in keys if key not in inner]
    kinds = [tuple(str(row.get(key)) for key in outer) for row in rows]

    def differs(key: str) -> bool:
        values = [str(row.get(key)) for row in rows]
        if key in inner:
            return len(set(zip(kinds, values, strict=True))) > len(set(kinds))
        return len(set(values)) > 1

    return [key for key in keys if differs(key)]
