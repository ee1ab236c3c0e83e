"""Every algorithm, network and data set by name, and the one cache of what they build.

A row is all that a new member of a family needs besides its own file: a record and
where its factory is. A package adds one by an entry point of the family's group,

  [project.entry-points."ghostjax.defenses"]
  quantise = "my_package.records:QUANTISE"   # a registry.Row

and a script by `registry.add("defense", Quantise, quantise)`. A network is a
`zoo.Network` of the group "ghostjax.networks", a data set a `data.catalog.Info` of
"ghostjax.data"; the name of the entry point is theirs, and a script says
`registry.NETWORKS.add("mine", network)`. Imports no jax; what a row names by
"module:attribute" is imported when it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from ghostjax.attacks import records as attacks
from ghostjax.defenses import records as defenses
from ghostjax.fields import Record, static_half
from ghostjax.names import require, unknown
from ghostjax.records import AttackRecord, DefenseRecord, Member, StegoRecord
from ghostjax.stego import records as stegos

if TYPE_CHECKING:  # what `build` gives; nothing here imports jax
    from ghostjax.base import Attack, Context, Cut, Defense, Stego

__all__ = [
    "DATASETS",
    "FAMILIES",
    "Family",
    "NETWORKS",
    "Row",
    "Table",
    "add",
    "build",
    "construct",
    "located",
    "name_of",
]


class Row(NamedTuple):
    """A member of a family."""

    record: type[Member]
    factory: str | Callable[..., Any]
    """`factory(cut, record, context)`, or "module:function" where it is found."""


class Table(Mapping[str, Any]):
    """name -> value: those of ghostjax, of installed packages, and of this process."""

    def __init__(self, kind: str, group: str, rows: Mapping[str, Any] | str):
        """`rows` are ghostjax's own, or the "module:attribute" where they are."""
        self.kind, self.group = kind, group
        self._key = kind  # of a config, where its names stand
        self._builtin: Mapping[str, Any] | str = rows
        self._rows: dict[str, Any] = {}
        self._complete = False

    def add(self, name: str, value: Any) -> None:
        """Adds a value, or the "module:attribute" where it is found.

        Raises:
          ValueError: another value has the name, or it is none (`names.require`).
        """
        require(f"{self.kind} name", name)
        rows = self._known()
        if rows.get(name, value) != value:
            raise ValueError(
                f"there is a {self.kind} {name!r} already: choose another name"
            )
        rows[name] = value

    def find(self, name: Any) -> Any:
        """The value of a name.

        Raises:
          ValueError: there is none of that name (the nearest and the list are given).
        """
        if name not in self._known():
            raise ValueError(unknown(self._key, name, self))
        return self[name]

    def _known(self) -> dict[str, Any]:
        if not self._complete:
            self._complete = True
            self._rows = dict(located(self._builtin))
            for entry in entry_points(group=self.group):
                self._enter(entry)
        return self._rows

    def _enter(self, entry: EntryPoint) -> None:
        """Adds what a package names; its module is not imported."""
        self.add(entry.name, f"{entry.module}:{entry.attr}")

    def __getitem__(self, name: str) -> Any:
        return located(self._known()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())


def located(value: Any) -> Any:
    """What "module:attribute" names; any other value itself."""
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)


class Family(Table):
    """name -> `Row`."""

    def __init__(self, kind: str, group: str, rows: Mapping[type[Member], str]):
        members = {name_of(cls): Row(cls, place) for cls, place in rows.items()}
        super().__init__(kind, group, members)
        self._key = f"{kind}.name"

    def record(self, name: Any) -> type[Member]:
        """The record of a name.

        Raises:
          ValueError: no member of that name (the nearest and the list are given).
        """
        return self.find(name).record

    def _enter(self, entry: EntryPoint) -> None:
        row = entry.load()
        if not isinstance(row, Row):
            raise ValueError(
                f"entry point {entry.name} of {self.group} is {row!r}: name a "
                "registry.Row"
            )
        self.add(name_of(row.record), row)


def name_of(record: type[Member]) -> str:
    """The name that a record's class stands for."""
    name: Any = record.__dataclass_fields__["name"].default
    return name


FAMILIES: dict[str, Family] = {
    "stego": Family(
        "stego",
        "ghostjax.stegos",
        {
            stegos.Lsb: "ghostjax.stego.lsb:lsb",
            stegos.Nns: "ghostjax.stego.nns:nns",
        },
    ),
    "defense": Family(
        "defense",
        "ghostjax.defenses",
        {
            defenses.Plain: "ghostjax.defenses.plain:plain",
            defenses.Hide: "ghostjax.defenses.hide:hide",
            defenses.Noise: "ghostjax.defenses.noise:noise",
            defenses.Dropout: "ghostjax.defenses.dropout:dropout",
            defenses.Ghost: "ghostjax.defenses.ghost:ghost",
            defenses.GhostPlus: "ghostjax.defenses.ghost_plus:ghost_plus",
            defenses.Arden: "ghostjax.defenses.arden:arden",
            defenses.Shredder: "ghostjax.defenses.shredder:shredder",
        },
    ),
    "attack": Family(
        "attack",
        "ghostjax.attacks",
        {
            attacks.NoAttack: "ghostjax.attacks.nothing:no_attack",
            attacks.Rmle: "ghostjax.attacks.rmle:rmle",
            attacks.Inverse: "ghostjax.attacks.inverse:inverse",
            attacks.Shadow: "ghostjax.attacks.shadow:shadow",
            attacks.Direct: "ghostjax.attacks.direct:direct",
        },
    ),
    "denoise": Family(
        "denoise",
        "ghostjax.denoisers",
        {
            attacks.NoDenoise: "ghostjax.attacks.nothing:no_denoiser",
            attacks.Denoise: "ghostjax.attacks.denoise:denoise",
        },
    ),
}
"""Key of the config -> the family whose member stands there."""
NETWORKS = Table("network", "ghostjax.networks", "ghostjax.models.zoo:NETWORKS")
"""name -> `zoo.Network`."""
DATASETS = Table("data set", "ghostjax.data", "ghostjax.data.catalog:DATASETS")
"""name -> `data.catalog.Info`."""


def add(family: str, record: type[Member], factory: str | Callable[..., Any]) -> None:
    """Adds a member to a family of this process.

    Args:
      family: a key of `FAMILIES`.
      record: its record; the default of `name` is its name.
      factory: `factory(cut, record, context)`, or "module:function".

    Raises:
      ValueError: another member has its name.
    """
    FAMILIES[family].add(name_of(record), Row(record, factory))


_Shape = tuple[int, int, int]  # H, W, C
_Tries = attacks.Rmle | attacks.Inverse | attacks.Shadow | attacks.Direct


@overload
def build(record: StegoRecord, subject: _Shape, context: "Context") -> "Stego": ...
@overload
def build(record: DefenseRecord, subject: "Cut", context: "Context") -> "Defense": ...
@overload
def build(record: _Tries, subject: "Cut", context: "Context") -> "Attack": ...
@overload
def build(
    record: AttackRecord, subject: "Cut", context: "Context"
) -> "Attack | None": ...
@overload
def build(record: Member, subject: Any, context: "Context") -> Any: ...
def build(record: Member, subject: Any, context: Any) -> Any:
    """The value that a record's factory makes: the same one for the same static half.

    Args:
      record: of a member of a family.
      subject: a `base.Cut`; for a stego method the images' shape [H, W, C].
      context: a `base.Context`.

    Returns:
      A `base.Stego`, `Defense` or `Attack`. All members of a sweep whose records differ
      in traced values alone share it, and with it every compiled program.

    Raises:
      ValueError: the record is none of a family's, or what the factory refuses.
    """
    return construct(_factory(record), subject, record, context)


def construct(
    factory: str | Callable[..., Any], subject: Any, record: Record, context: Any
) -> Any:
    """`factory(subject, static half of record, context)`, called once for each."""
    return _construct(factory, subject, static_half(record), context)


def _factory(record: Member) -> str | Callable[..., Any]:
    for family in FAMILIES.values():
        row = family.get(record.name)
        if row is not None and row.record is type(record):
            return row.factory
    raise ValueError(
        f"{type(record).__name__} is no registered record: registry.add it first"
    )


@lru_cache(maxsize=256)
def _construct(
    factory: str | Callable[..., Any], subject: Any, record: Record, context: Any
) -> Any:
    return located(factory)(subject, record, context)
