"""Doors for what is the user's own: a network, a defense, an attack.

A network's halves are functions with their variables, of any library:

  edge = own.Half(encoder.apply, encoder_variables)       # Flax Linen
  cloud = own.Half(classify, cloud_variables, train)      # NNX, plain jax: see `Half`

By hand: `own.cut(edge, image_shape=(28, 28, 1))` is what attacks and defenses are built
on; the half's variables go where theirs would.

  record = Rmle(steps=20)                          # ghostjax.attacks.records
  cut = own.cut(edge, image_shape=(28, 28, 1))
  attack = registry.build(record, cut, base.Context())
  found = attack.invert(edge.variables, key, features, fields.traced_half(record))
  found.images                                     # [B, 28, 28, 1] in [0, 1]

As an experiment, with its controls, row and report:

  net = own.network("mine", edge, cloud, image_shape=(28, 28, 1))
  folder = ghostjax.run("digits", network=net)
  folder = ghostjax.run("digits", defense=own.defense("rounding", rounding))
  mine = own.attack("mean", mean, needs=("public_images",))
  folder = ghostjax.run("digits", attack=mine)

`network`, `defense`, `attack`, `stego` and `denoiser` give records. A result is named
by what it depends on, and of a function that is its name, its version and a digest of
the variables that it carries: **raise the version when the code changes**, or a run
that is finished counts as finished. Within a process another function under the same
three is refused. A name that ghostjax or a package uses is refused too.

A half of one's own has no layers that ghostjax knows: rMLE cannot look behind its last
ReLU and takes 0.5, 0.5 for the pixels' scale, `ghostjax partition` has no cuts to walk,
and a shadow has an architecture of its own.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import jax
import numpy as np

from ghostjax.base import Attack, Context, Cut, Defense, Key, Knowledge, Stego
from ghostjax.config.sections import OwnTarget
from ghostjax.fields import Hyper, Record
from ghostjax.models.chain import Chain
from ghostjax.models.opaque import Apply, ApplyTrain, Opaque, digest, opaque
from ghostjax.models.zoo import Network
from ghostjax.names import require, unknown
from ghostjax.records import AttackRecord, DefenseRecord, Member, StegoRecord
from ghostjax.registry import FAMILIES, NETWORKS, Row
from ghostjax.training.fit import Fit

__all__ = [
    "EDGE",
    "Factory",
    "Half",
    "OwnAttack",
    "OwnDefense",
    "OwnDenoiser",
    "OwnStego",
    "Trait",
    "attack",
    "comes_trained",
    "cut",
    "defense",
    "denoiser",
    "network",
    "network_of",
    "stego",
]

EDGE, _CLOUD = "edge", "cloud"
"""The names of the two layers of a network of one's own; it is cut after the first."""


class Half(NamedTuple):
    """One half of a network of one's own; make its functions once, not at each use.

    Flax Linen: `Half(module.apply, variables)`. NNX: `graph, state = nnx.split(model)`,
    then `Half(lambda state, x: nnx.merge(graph, state)(x), state)`, of a model in
    inference mode. Plain jax: any function.

    What is trained of a cloud's variables: of a mapping with the key "params" what
    stands there, of an `nnx.State` its `nnx.Param`s, of any other pytree all floats.
    """

    apply: Apply
    """`apply(variables, x [B, ...]) -> y [B, ...]`: pure, float32, and each row of y of
    its own row of x alone. x of an edge is images [B, H, W, C] in [0, 1], y of a cloud
    logits [B, classes]."""
    variables: Any
    """A pytree of arrays, trained; `jax.ShapeDtypeStruct`s where shapes are enough."""
    train: ApplyTrain | None = None
    """`train(variables, features, key) -> (logits, variables)`: training mode of a
    cloud, which GHOST and ARDEN retrain; all variables in the containers they came in,
    running statistics moved. A cloud without dropout and batch norm has
    `lambda variables, x, key: (apply(variables, x), variables)`."""


def cut(
    edge: Half,
    cloud: Half | None = None,
    *,
    image_shape: tuple[int, int, int],
    classes: int = 0,
) -> Cut:
    """A network of one's own, cut in two, for `registry.build(record, cut, context)`.

    Args:
      edge: from images to features, [h, w, c] or [values] an image.
      cloud: from features to logits. Attacks on the edge alone need none.
      image_shape: [H, W, C].
      classes: how many labels there are, where no cloud says it; the attack `direct`
        asks for it.

    Raises:
      ValueError: halves that do not fit each other or the images.
    """
    front = opaque(edge.apply, edge.variables, tuple(image_shape), edge.train)
    if cloud is None:
        back = Opaque(
            function=None,
            train=None,
            inside=front.outside,
            outside=(classes,) if classes else (),
            structure=None,
            parameters=0,
        )
    else:
        back = opaque(cloud.apply, cloud.variables, front.outside, cloud.train)
        _require_logits(back.outside, classes)
    return Cut(((EDGE, front),), ((_CLOUD, back),), (*image_shape,))


def _require_logits(outside: tuple[int, ...], classes: int) -> None:
    if len(outside) != 1 or classes not in (0, *outside):
        wanted = f"({classes},)" if classes else "(classes,)"
        raise ValueError(
            f"the cloud gives {outside} for an image: logits {wanted} are wanted"
        )


@dataclass(frozen=True, kw_only=True)
class OwnDefense(DefenseRecord):
    """A defense of one's own; see `defense`."""

    family: ClassVar[str] = "defense"

    name: str = ""
    cut: str = ""
    """The layer after which the network is cut; empty: as the config has it."""
    version: str = "1"
    digest: str = ""
    """Of the variables that it carries."""
    hides: bool = False  # type: ignore[misc]
    sends_plain: bool = False  # type: ignore[misc]
    perturbs: bool = False  # type: ignore[misc]
    random: bool = False  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class OwnStego(StegoRecord):
    """A stego method of one's own; see `stego`."""

    family: ClassVar[str] = "stego"

    name: str = ""
    version: str = "1"
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class OwnAttack(AttackRecord):
    """An attack of one's own; see `attack`."""

    family: ClassVar[str] = "attack"

    name: str = ""
    version: str = "1"
    digest: str = ""
    needs: tuple[str, ...] = ()
    random: bool = False  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class OwnDenoiser(OwnAttack):
    """A denoiser of one's own; see `denoiser`."""

    family: ClassVar[str] = "denoise"


_Own = TypeVar("_Own", OwnDefense, OwnStego, OwnAttack, OwnDenoiser)
Factory = Callable[[Any, Any, Context], Any]
Trait = Literal["hides", "sends_plain", "perturbs", "random"]


def network(
    name: str,
    edge: Half,
    cloud: Half,
    *,
    image_shape: tuple[int, int, int],
    version: str = "1",
) -> OwnTarget:
    """A trained network of one's own, for `ghostjax.run(config, network=...)`.

    The run trains no target; the target's accuracies in the row are this network's. It
    is cut between the halves: the row's `cut` is "edge". Keys of the config's defense
    that name other layers have no meaning for it.

    Args:
      name: in the row's `network`.
      edge, cloud: with their trained variables.
      image_shape: [H, W, C], those of the config's data.
      version: raised when the functions change; the variables are digested.

    Raises:
      ValueError: a name in use, halves that do not fit each other, or functions other
        than those that this process knows under this name, version and digest.
    """
    require("network", name)
    if name in NETWORKS:
        raise ValueError(f"there is a network {name!r} already: choose another name")
    divided = cut(edge, cloud, image_shape=image_shape)
    variables = {EDGE: edge.variables, _CLOUD: cloud.variables}
    record = OwnTarget(network=name, version=version, digest=digest(variables))
    functions = edge.apply, cloud.apply, cloud.train, divided.image_shape
    before = _TARGETS.setdefault(record, _Target(divided, variables, functions))
    if not _alike(before.functions, functions):
        raise ValueError(_other("network", name, version))
    return record


def defense(
    name: str,
    factory: Callable[[Cut, OwnDefense, Context], Defense],
    *,
    version: str = "1",
    variables: Any = None,
    cut: str = "",
    traits: Collection[Trait] = (),
) -> OwnDefense:
    """A defense of one's own, for `ghostjax.run(config, defense=...)`.

      def rounding(cut, record, context):
          def send(params, key, images):
              features = chain.apply(cut.edge, params["edge"], images)
              return jnp.round(features, 1)

          answer = plain.Answer(cut.cloud)
          return base.Defense("rounding", plain.keep, send, answer)

    `plain.keep` is a `fit` that trains nothing: its params are the network's own halves
    under "edge" and "cloud". See `base.Defense` for what else a defense may do.

    Args:
      name: in the row's `defense`.
      factory: `factory(cut, record, context)`; see `base`.
      version: raised when the code changes.
      variables: a pytree of all arrays that the factory carries; digested.
      cut: the layer after which the network is cut; empty: as the config has it.
      traits: what a plan must know before it builds the Defense. "hides": it has a
        `hide`, of secrets in covers, for which `context.stego` is there; "perturbs": it
        has a `perturb`; "sends_plain": its `send` is `plain.Send(cut.edge)`, so that
        attackers who learn from plain queries are shared with other such defenses;
        "random": what it sends depends on the key.

    Raises:
      ValueError: a name in use, an unknown trait, or another factory than this process
        knows under the same name, version and digest.
    """
    for trait in traits:
        if trait not in get_args(Trait):
            raise ValueError(unknown("trait", trait, get_args(Trait)))
    record = OwnDefense(
        name=name,
        version=version,
        digest=_digest(variables),
        cut=cut,
        **dict.fromkeys(traits, True),
    )
    return _registered(record, factory)


def attack(
    name: str,
    factory: Callable[[Cut, OwnAttack, Context], Attack],
    *,
    needs: tuple[str, ...],
    version: str = "1",
    variables: Any = None,
    random: bool = False,
) -> OwnAttack:
    """An attack of one's own, for `ghostjax.run(config, attack=...)`.

      def mean(cut, record, context):
          def fit(key, hyper, knowledge):
              yield from ()  # nothing is trained
              return pixels.as_float(knowledge.public_images).mean(0)

          def invert(params, key, features, hyper):
              shape = len(features), *cut.image_shape
              return base.Inversion(jnp.broadcast_to(params[None], shape))

          return base.Attack("mean", record.needs, fit, invert)

      own.attack("mean", mean, needs=("public_images",))

    Args:
      name: in the row's `attack`.
      factory: `factory(cut, record, context)`; see `base`.
      needs: what it knows, names of fields of `base.Knowledge`, at least one; `fit` is
        given these alone.
      version: raised when the code changes.
      variables: a pytree of all arrays that the factory carries; digested.
      random: whether what it makes of features depends on the key of `invert`.

    Raises:
      ValueError: a name in use, unknown or no needs, or another factory than this
        process knows under the same name, version and digest.
    """
    if not needs:
        raise ValueError(
            f"attack {name!r} needs nothing: name what it knows, one or more of "
            f"{', '.join(Knowledge._fields)}"
        )
    record = OwnAttack(
        name=name,
        version=version,
        digest=_digest(variables),
        needs=_known(needs),
        random=random,
    )
    return _registered(record, factory)


def stego(
    name: str,
    factory: Callable[[tuple[int, int, int], OwnStego, Context], Stego],
    *,
    version: str = "1",
    variables: Any = None,
) -> OwnStego:
    """A stego method of one's own, for `ghostjax.run(config, stego=...)`.

    Args:
      name, version, variables: as for `defense`.
      factory: `factory(image_shape, record, context) -> base.Stego`.

    Raises:
      ValueError: as for `defense`.
    """
    record = OwnStego(name=name, version=version, digest=_digest(variables))
    return _registered(record, factory)


def denoiser(
    name: str,
    factory: Callable[[Cut, OwnDenoiser, Context], Attack],
    *,
    needs: tuple[str, ...] = (),
    version: str = "1",
    variables: Any = None,
) -> OwnDenoiser:
    """A denoiser of one's own, for `ghostjax.run(config, denoise=...)`.

    Args:
      name, version, variables: as for `attack`.
      factory: `factory(cut, record, context) -> base.Attack`, around the attack
        `context.inner`, which is there; its `hyper` is {"attack": that of the inner
        one, "denoise": {}}.
      needs: what it knows besides what the inner attack does.

    Raises:
      ValueError: as for `attack`.
    """
    record = OwnDenoiser(
        name=name, version=version, digest=_digest(variables), needs=_known(needs)
    )
    return _registered(record, factory)


class _Member(NamedTuple):
    """A member of a family that this process knows."""

    record: Member
    factory: Factory


class _Target(NamedTuple):
    """A network that this process knows."""

    cut: Cut
    variables: Mapping[str, Any]
    functions: tuple[Any, ...]


_MEMBERS: dict[tuple[str, ...], _Member] = {}  # family, name, version, digest
_TARGETS: dict[OwnTarget, _Target] = {}


def network_of(record: OwnTarget) -> Network:
    """What stands for a network of one's own in the place of one of `zoo`.

    Raises:
      ValueError: this process does not know it; when built, another number of classes.
    """
    known = _target(record)
    classes = known.cut.classes

    def build(wanted: int) -> Chain:
        if wanted != classes:
            raise ValueError(
                f"network {record.network!r} answers {classes} classes and the data "
                f"set has {wanted}: choose another of the two"
            )
        return known.cut.edge + known.cut.cloud

    return Network(build=build, image_shape=known.cut.image_shape, classes=classes)


def comes_trained(
    layers: Chain, record: OwnTarget, context: Context
) -> Callable[[Key, Hyper, Any], Fit]:
    """The fit of a network that comes trained, in the place of `classifier`."""
    known = _target(record)

    def fit(key: Key, hyper: Hyper, data: Any) -> Fit:
        yield from ()
        return jax.device_put(dict(known.variables))

    return fit


def _target(record: OwnTarget) -> _Target:
    if record not in _TARGETS:
        raise ValueError(
            _unregistered("network", record.network, record.version, record.digest)
        )
    return _TARGETS[record]


def _registered(record: _Own, factory: Factory) -> _Own:
    """Books a member, once for a name, version and digest."""
    family: str = record.family
    require(family, record.name)
    FAMILIES[family].add(record.name, Row(type(record), _build))
    before = _MEMBERS.setdefault(_key(record), _Member(record, factory))
    if not (_alike(before.factory, factory) and _agree(before.record, record)):
        raise ValueError(_other(family, record.name, record.version))
    return record


def _build(subject: Any, record: Any, context: Context) -> Any:
    """The one factory of all members of one's own: calls the one that is registered."""
    family, known = record.family, _MEMBERS.get(_key(record))
    if known is None or not _agree(known.record, record):
        raise ValueError(
            _unregistered(family, record.name, record.version, record.digest)
        )
    value, kind = known.factory(subject, record, context), _KINDS[family]
    if not isinstance(value, kind):
        raise ValueError(
            f"the factory of {family} {record.name!r} gives a {type(value).__name__}: "
            f"a base.{kind.__name__} is wanted"
        )
    return value


_KINDS: dict[str, type] = {
    "stego": Stego,
    "defense": Defense,
    "attack": Attack,
    "denoise": Attack,
}


def _key(record: Any) -> tuple[str, ...]:
    return record.family, record.name, record.version, record.digest


def _agree(one: Record, other: Record) -> bool:
    """Whether two records say the same of a member, wherever the network is cut."""
    names = [field.name for field in fields(one) if field.name != "cut"]
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _digest(variables: Any) -> str:
    return "" if variables is None else digest(variables)


def _known(needs: tuple[str, ...]) -> tuple[str, ...]:
    for name in needs:
        if name not in Knowledge._fields:
            raise ValueError(unknown("knowledge", name, Knowledge._fields))
    return tuple(needs)


def _other(kind: str, name: str, version: str) -> str:
    return (
        f"{kind} {name!r} version {version!r} is something else in this process: raise "
        "the version, since results of the two must not mix"
    )


def _unregistered(kind: str, name: str, version: str, digested: str) -> str:
    carried = f" with variables {digested}" if digested else ""
    door = "denoiser" if kind == "denoise" else kind
    return (
        f"{kind} {name!r} version {version!r}{carried} is somebody's own and not "
        f"registered in this process: call own.{door}({name!r}, ...) first"
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether two functions, or what they close over, are the same as far as can be
    seen: so that a notebook's cell that is run once more registers the same."""
    try:
        return one is other or (type(one) is type(other) and _equal(one, other))
    except (RecursionError, TypeError, ValueError):  # it cannot be seen
        return False


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, FunctionType):
        return _code(one.__code__) == _code(other.__code__) and all(
            _alike(getattr(one, part), getattr(other, part))
            for part in ("__closure__", "__defaults__", "__kwdefaults__")
        )
    if isinstance(one, MethodType):
        return _alike((one.__func__, one.__self__), (other.__func__, other.__self__))
    if isinstance(one, partial):
        parts = ((x.func, x.args, x.keywords) for x in (one, other))
        return _alike(*parts)
    if isinstance(one, tuple | list):
        return all(_alike(x, y) for x, y in zip(one, other, strict=True))
    if is_dataclass(one):  # a Linen module is one
        pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
        return all(_alike(x, y) for x, y in pairs)
    if isinstance(one, CellType):
        return _alike(one.cell_contents, other.cell_contents)
    if isinstance(one, jax.Array | np.ndarray):
        return digest(one) == digest(other)
    return bool(one == other)


def _code(code: CodeType) -> tuple[Any, ...]:
    """What a function does, wherever it stands in its file."""
    constants = (_code(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, tuple(constants)
