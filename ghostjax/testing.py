"""The contract battery: whether a member keeps what ghostjax builds on.

  from ghostjax import testing
  from ghostjax.defenses.noise import noise
  from ghostjax.defenses.records import Noise

  testing.check_defense(Noise(level=0.5))  # a registered member

  def louder(cut, record, context):  # and one that is not
      return noise(cut, record, context)._replace(draws=5)

  testing.check_defense(Noise(level=0.5), factory=louder)

A check builds the member as a run does, on a toy of its own (`toy`; seconds, no data to
load), fits it with its trainings cut to two steps, and raises `AssertionError` with one
line at the first contract that is broken: which member, which contract, the numbers.
Give the record small batches and few filters, for they count; steps and epochs do not.
What a member refuses by a ValueError (a batch larger than the toy) is raised as it is.

Contracts:
  file and script: the record that a config file gives is the one that a script makes,
    with the same content hash, static and traced half.
  static record: the factory works with traced values unknown (`fields.static_half`).
  shape: of all images, features and logits; they are what the record says of them.
  range: images are in [0, 1], all numbers finite, losses too.
  purity: the same arguments give the same numbers, now and after other calls, traced
    once or twice; no argument is changed; it works under jit and vmap.
  key: what learns depends on its key; what is sent, or inverted, depends on the key if
    and only if the record says so (`random`).
  one program: another key, other traced values and other data of equal shapes compile
    nothing.
  independence: no image's result depends on the others of its batch.
  knowledge: a fit reads all that the attack declares, and nothing else.
  zero strength: a defense whose strengths are neutral (`fields.traced(neutral=...)`)
    sends what the plain edge sends, to the bit.
  columns: what a defense says of itself has names, labels and finite numbers.

What a member is worth, no contract says: see `evaluation`.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tomli_w
from jax import Array

from ghostjax import config, fields, registry, toy
from ghostjax.base import (
    Attack,
    Bytes,
    Column,
    Context,
    Cut,
    Defense,
    Features,
    Images,
    Inversion,
    Key,
    Knowledge,
    Params,
    Probe,
    Stego,
    Task,
    encode,
    limit,
    per_target,
)
from ghostjax.defenses import plain
from ghostjax.fields import Hyper, static_half, traced_half
from ghostjax.pixels import as_bytes, as_float
from ghostjax.records import AttackRecord, DefenseRecord, Member, StegoRecord
from ghostjax.stego.records import Lsb
from ghostjax.training import fit as training_fit
from ghostjax.training.fit import Fit, Later, Training, TrainState

__all__ = [
    "check_attack",
    "check_defense",
    "check_denoiser",
    "check_stego",
    "compiled",
]

Factory = str | Callable[..., Any]

_BATCH = 4  # images that are sent
_TARGETS = 3  # features that are inverted
_DRAWS = 4  # keys whose results are compared
_ALONE = 1e-5  # how far a target inverted alone may be from itself in a batch


def check_stego(
    record: StegoRecord,
    *,
    factory: Factory | None = None,
    images: Bytes | None = None,
    steps: int = 2,
) -> None:
    """Whether a stego method keeps its contracts; see the module.

    A method with `low_bits` promises more: its stego is the cover with these bits
    replaced by the secret's highest, and what it reveals are these, to the bit.

    Args:
      record: the member's record.
      factory: `factory(image_shape, record, context)`, or "module:function"; None: the
        registered one.
      images: uint8 [N, H, W, C], at least 8; None: the toy's.
      steps: of every training; 0: nothing is trained, and that trainings share their
        programs is read off what they are made of.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = _judge("stego", record, StegoRecord, steps)
    _check_file(judge, record)
    pixels = toy.pictures() if images is None else np.asarray(images)
    context = Context(train_count=len(pixels))
    stego = _built(judge, record, factory, pixels.shape[1:], context)
    judge.require(isinstance(stego, Stego), "shape", f"the factory gives {stego!r}")

    def show(params: Params, covers: Images, secrets: Images) -> tuple[Images, Images]:
        hidden = stego.hide(params, covers, secrets)
        return hidden, stego.reveal(params, hidden)

    shown = jax.jit(show)
    covers, secrets = as_float(pixels[:_BATCH]), as_float(pixels[_BATCH : 2 * _BATCH])
    turn, other = _turns(record, jax.device_put(pixels))
    turn = turn._replace(inputs=(covers, secrets))
    other = other._replace(inputs=(secrets, covers))
    params, (hidden, revealed) = _runs(
        judge, stego.fit, lambda params, turn: shown(params, *turn.inputs), turn, other
    )
    _check_images(judge, "hide", hidden, covers.shape)
    _check_images(judge, "reveal", revealed, covers.shape)
    _check_traces(judge, show, params, turn.inputs)
    with judge.keeping("purity", "vmap over members' params"):
        many = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), _host(params))
        jax.eval_shape(jax.vmap(show, (0, None, None)), many, covers, secrets)
    _check_others(judge, partial(shown, params), turn.inputs)
    judge.require(
        not _equal(shown(params, covers, covers), (hidden, revealed)),
        "shape",
        "other secrets give the same stegos: nothing is hidden",
    )
    _check_low_bits(judge, stego.low_bits(params), turn.inputs, (hidden, revealed))


def check_defense(
    record: DefenseRecord,
    *,
    factory: Factory | None = None,
    cut: Cut | None = None,
    task: Task | None = None,
    zero: DefenseRecord | None = None,
    steps: int = 2,
) -> None:
    """Whether a defense keeps its contracts; see the module.

    Where it hides, it hides by LSB with 3 bits.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      cut: the network; None: the toy's.
      task: what the defense is fitted to, of this cut; None: `toy.task(cut)`, which
        draws weights. A network of your own (`own.cut`) comes with its variables:
        `toy.task(cut, (edge_variables, cloud_variables))`.
      zero: the record whose strengths are all zero; None: `fields.neutral(record)`, and
        where no field is a strength there is no such contract.
      steps: as for `check_stego`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = _judge("defense", record, DefenseRecord, steps)
    _check_file(judge, record)
    cut = cut or toy.cut()
    task = task or toy.task(cut)
    lsb = registry.build(Lsb(), cut.image_shape, Context())
    context = Context(stego=lsb, train_count=len(task.images))
    defense = _built(judge, record, factory, cut, context)
    _check_declared(judge, record, defense, cut)
    turn, other = _defense_turns(record, task)
    show = jax.jit(_shown(defense))

    def use(params: Params, turn: _Turn) -> tuple[_Sent, list[Column]]:
        return show(params, *turn.inputs), defense.columns(params, turn.hyper)

    params, (sent, columns) = _runs(judge, defense.fit, use, turn, other)
    _check_sent(judge, sent, cut)
    _check_columns(judge, columns)
    _check_traces(judge, _shown(defense), params, turn.inputs)
    neutral = zero or fields.neutral(record)
    random = record.random and neutral != record
    _check_draws(judge, defense, random, show, (params, *turn.inputs))
    _check_covers(judge, defense, partial(show, params), turn.inputs)
    if record.sends_plain:
        who = "a record that says sends_plain"
        _check_plain(judge, sent, cut, task.edge_variables, who)
    if neutral is not None:
        quiet = _built(judge, neutral, factory, cut, context)
        quiet_turn = turn._replace(hyper=traced_half(neutral))
        quiet_params, _ = _fitted(judge, quiet.fit, quiet_turn)
        quiet_show = show if quiet is defense else jax.jit(_shown(quiet))
        quiet_sent = quiet_show(quiet_params, *turn.inputs)
        _check_plain(judge, quiet_sent, cut, task.edge_variables, f"{neutral}")


def check_attack(
    record: AttackRecord,
    *,
    factory: Factory | None = None,
    cut: Cut | None = None,
    knowledge: Knowledge | None = None,
    features: Features | None = None,
    steps: int = 2,
) -> None:
    """Whether an attack keeps its contracts; see the module.

    Its probe, where it has one, is asked for its own. A member that builds None, as
    that of a cloud that does not try, has none but its record's.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      cut: the network; None: the toy's.
      knowledge: all that could be known; None: `toy.knowledge(cut)`, of an edge with
        drawn weights that sends plainly. See `check_defense` for networks of your own.
      features: [B, ...] with B at least 2, what is inverted; None: of 3 toy pictures.
      steps: as for `check_stego`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = _judge("attack", record, AttackRecord, steps)
    _check_file(judge, record)
    scene = _scene(cut, knowledge, features)
    attack = _built(judge, record, factory, scene.cut, scene.context)
    if attack is not None:
        _check_needs(judge, attack, record.needs)
        _check_inversions(judge, attack, scene, _turns(record, None), record.random)


def check_denoiser(
    record: AttackRecord,
    *,
    factory: Factory | None = None,
    inner: AttackRecord | None = None,
    cut: Cut | None = None,
    knowledge: Knowledge | None = None,
    steps: int = 2,
) -> None:
    """Whether a denoiser keeps its contracts: those of the attack that it makes.

    Besides: that attack needs what the one under it needs and what the record says, and
    its `before_denoising` are that one's images.

    Args:
      record: the member's record.
      factory: `factory(cut, record, context)`, or "module:function"; None: the
        registered one.
      inner: the record of a registered attack, to be denoised; None: the toy's, which
        trains nothing.
      cut, knowledge, steps: as for `check_attack`.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = _judge("denoise", record, AttackRecord, steps)
    _check_file(judge, record)
    scene = _scene(cut, knowledge, None)
    under: Any = toy.attack(scene.cut)
    hypers: list[Hyper] = [{"gain": np.float32(g)} for g in (1, 0.5)]
    if inner is not None:
        under = registry.build(inner, scene.cut, scene.context)
        hypers = [turn.hyper for turn in _turns(inner, None)]
    context = scene.context._replace(inner=under)
    attack = _built(judge, record, factory, scene.cut, context)
    _check_needs(judge, attack, (*under.needs, *record.needs))
    turns = [
        turn._replace(hyper={"attack": hyper, "denoise": turn.hyper})
        for turn, hyper in zip(_turns(record, None), hypers, strict=True)
    ]
    shown = _check_inversions(judge, attack, scene, (turns[0], turns[1]), record.random)
    if inner is None:
        edge = scene.knowledge.edge_variables
        pictures = under.invert(edge, turns[0].key, scene.features, hypers[0]).images
        before = shown.before_denoising
        judge.require(
            _equal(shown.images if before is None else before, pictures),
            "shape",
            "before_denoising are not the images of the attack under it",
        )


@contextmanager
def compiled() -> Iterator[list[str]]:
    """Yields a list that gets the name of every program that is compiled inside, or
    read from the cache on disk."""
    programs: list[str] = []

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(str(about.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


class _Judge(NamedTuple):
    """Says whose contract is broken, in one line."""

    family: str
    name: str
    steps: int  # of every training

    def require(self, good: bool, contract: str, words: str) -> None:
        """Raises AssertionError unless `good`."""
        if not good:
            raise self.error(contract, words)

    def error(self, contract: str, words: str) -> AssertionError:
        """The error, with the first line of `words`."""
        line = words.strip().partition("\n")[0]
        return AssertionError(f"{self.family} {self.name!r} breaks {contract}: {line}")

    @contextmanager
    def keeping(
        self, contract: str, doing: str, *refusals: type[Exception]
    ) -> Iterator[None]:
        """Whatever fails inside breaks the contract, but what the member refuses."""
        passed: tuple[type[Exception], ...] = (AssertionError, *refusals)
        try:
            yield
        except passed:
            raise
        except Exception as error:
            words = f"{doing} fails: {type(error).__name__}: {error}"
            raise self.error(contract, words) from error


def _judge(family: str, record: Any, cls: type[Member], steps: int) -> _Judge:
    if not isinstance(record, cls):
        raise ValueError(f"record = {record!r}: give an instance of a {cls.__name__}")
    if steps < 0:
        raise ValueError(f"steps = {steps}: must be 0 or more")
    return _Judge(family, record.name, steps)


def _check_file(judge: _Judge, record: Member) -> None:
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
        agree = _equal(one, two) if of is traced_half else one == two
        judge.require(agree, contract, f"{words} {one} of a file, {two} of a script")


def _built(
    judge: _Judge, record: Member, factory: Factory | None, subject: Any, context: Any
) -> Any:
    """The member, as the registry builds it: of its static half alone."""
    with judge.keeping("static record", "the factory", ValueError):
        if factory is None:
            return registry.build(record, subject, context)
        return registry.construct(factory, subject, record, context)


class _Turn(NamedTuple):
    """What a member is fitted with, and used on."""

    key: Key  # of the fit
    hyper: Hyper
    data: Any  # images, a task or knowledge
    inputs: tuple[Any, ...] = ()  # of its use, besides params


def _turns(record: Member, data: Any) -> tuple[_Turn, _Turn]:
    """The record on the data; and other values, with another key, on other data."""
    one, two = toy.keys()[:2]
    other = _Turn(two, traced_half(toy.moved(record)), toy.changed(data))
    return _Turn(one, traced_half(record), data), other


Use = Callable[[Params, _Turn], Any]
Fits = Callable[[Key, Hyper, Any], Fit]


def _runs(
    judge: _Judge, fit: Fits, use: Use, turn: _Turn, other: _Turn
) -> tuple[Params, Any]:
    """Fits and uses the member four times: as it is, with another key, with other
    values and data, and as it is again.

    Returns:
      (params, what `use` gives), of the first time.
    """
    before = _host(turn)
    params, trained = _fitted(judge, fit, turn)
    params_before = _host(params)
    result = _used(judge, use, params, turn)
    result_before = _host(result)
    with compiled() as programs:
        rekeyed, trained_apart = _fitted(judge, fit, turn._replace(key=other.key))
        _used(judge, use, rekeyed, turn)
    _require_none(judge, programs, "another key")
    with compiled() as programs:
        changed, trained_otherwise = _fitted(judge, fit, other)
        _used(judge, use, changed, other)
    _check_programs(judge, trained, trained_otherwise)
    _require_none(judge, programs, "other traced values and data of equal shapes")
    again, _ = _fitted(judge, fit, turn)
    once_more = _used(judge, use, again, turn)
    for words, first, second in (
        ("it changes what it is called with", before, turn),
        ("it changes its params", params_before, params),
        ("the same key and data are fitted otherwise", params_before, again),
        ("the same arguments give other results", result_before, once_more),
    ):
        _require_equal(judge, "purity", words, first, second)
    for one, two in zip(trained, trained_apart, strict=True):
        words = f"the training {one.part!r} has the same key for two keys of the fit"
        judge.require(not _equal(one.key, two.key), "key", words)
    if trained and judge.steps:
        learns = not _equal(rekeyed, params)
        judge.require(learns, "key", "what it learns is the same for two keys")
    return params, result


def _fitted(judge: _Judge, fit: Fits, turn: _Turn) -> tuple[Params, list[Training]]:
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


def _check_programs(
    judge: _Judge, trained: list[Training], otherwise: list[Training]
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


def _used(judge: _Judge, use: Use, params: Params, turn: _Turn) -> Any:
    with judge.keeping("purity", "its use, under jit,", toy.Touched):
        return use(params, turn)


def _require_none(judge: _Judge, programs: list[str], why: str) -> None:
    names = ", ".join(sorted(set(programs)))
    words = f"{why} compile {len(programs)} more: {names}"
    judge.require(not programs, "one program", words)


def _require_equal(
    judge: _Judge, contract: str, words: str, first: Any, second: Any
) -> None:
    """To the bit; says by how much they differ."""
    with judge.keeping(contract, f"comparing ({words})"):
        first, second = _host(first), _host(second)
    if not _equal(first, second):
        raise judge.error(contract, f"{words}{_difference(first, second)}")


def _host(tree: Any) -> Any:
    """A copy whose leaves are NumPy arrays."""
    return jax.tree.map(_copied, tree)


def _copied(leaf: Any) -> np.ndarray:
    if isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.array(leaf)


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _equal(first: Any, second: Any) -> bool:
    """Whether two pytrees have the same structure, types and numbers."""
    first, second = _host(first), _host(second)
    return _structure(first) == _structure(second) and all(
        one.dtype == two.dtype
        and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
        for one, two in zip(*map(jax.tree.leaves, (first, second)), strict=True)
    )


def _difference(first: Any, second: Any) -> str:
    """Words: by how much the numbers of two pytrees differ at most."""
    if _structure(first) != _structure(second):
        return " (of another structure)"
    pairs = list(zip(*map(jax.tree.leaves, (first, second)), strict=True))
    if any(one.shape != two.shape or one.dtype != two.dtype for one, two in pairs):
        return " (of other shapes or types)"
    sizes = [
        np.abs(one.astype(float) - two.astype(float)).max(initial=0)
        for one, two in pairs
        if one.dtype.kind in "fiub"
    ]
    return f" (by up to {max(sizes, default=0):.3g})"


def _check_traces(
    judge: _Judge, show: Callable[..., Any], params: Params, inputs: tuple[Any, ...]
) -> None:
    """Traced again it is the same program, and its params are as they were."""
    before, traces = _host(params), []
    for _ in range(2):
        with judge.keeping("purity", "tracing it again"):
            trace = jax.make_jaxpr(lambda *inputs: show(params, *inputs))(*inputs)
        text = re.sub(r"0x[0-9a-f]+", "", str(trace.jaxpr))
        traces.append((text, _host(list(trace.consts))))
        _require_equal(judge, "purity", "it changes its params", before, params)
    if traces[0][0] != traces[1][0] or not _equal(traces[0][1], traces[1][1]):
        results = [jax.jit(lambda *x: show(params, *x))(*inputs) for _ in range(2)]
        words = "it keeps a state: traced again it gives other results"
        _require_equal(judge, "purity", words, *results)


def _check_others(
    judge: _Judge, show: Callable[..., Any], batches: tuple[Images, ...]
) -> None:
    """The first image's results stay, to the bit, where the others are replaced."""
    replaced = [np.array(images) for images in batches]
    for images in replaced:
        images[1:] = 1 - images[1:]
    first, second = (
        [leaf[0] for leaf in jax.tree.leaves(_host(show(*x)))]
        for x in (batches, map(jax.device_put, replaced))
    )
    words = "an image's results change with the others of its batch"
    _require_equal(judge, "independence", words, first, second)


def _check_array(judge: _Judge, name: str, array: Any, shape: tuple[int, ...]) -> None:
    """A finite float32 array of a shape."""
    is_array = hasattr(array, "shape") and hasattr(array, "dtype")
    judge.require(is_array, "shape", f"{name} gives {type(array).__name__}")
    words = f"{name} gives {array.dtype} {tuple(array.shape)}, not float32 {shape}"
    good = tuple(array.shape) == tuple(shape) and array.dtype == np.float32
    judge.require(good, "shape", words)
    bad = int((~np.isfinite(np.asarray(array))).sum())
    words = f"{bad} of {array.size} values that {name} gives are not finite"
    judge.require(not bad, "range", words)


def _check_images(
    judge: _Judge, name: str, images: Any, shape: tuple[int, ...]
) -> None:
    _check_array(judge, name, images, shape)
    low, high = (float(f(np.asarray(images))) for f in (np.min, np.max))
    words = f"{name} gives values from {low:g} to {high:g}, not in [0, 1]"
    judge.require(low >= 0 and high <= 1, "range", words)


def _check_low_bits(
    judge: _Judge, bits: int, inputs: tuple[Any, ...], shown: tuple[Any, ...]
) -> None:
    whole = isinstance(bits, int) and 0 <= bits <= 7
    judge.require(whole, "shape", f"low_bits gives {bits!r}, not 0 to 7")
    if not bits:
        return
    covers, secrets, stegos, revealed = (
        np.asarray(as_bytes(np.asarray(images))) for images in (*inputs, *shown)
    )
    top = secrets >> (8 - bits)
    for words, first, second in (
        ("low bits of stegos are not the secret's high ones", stegos % 2**bits, top),
        ("high bits of stegos are not the cover's", stegos >> bits, covers >> bits),
        ("revealed pixels are not the secret's high bits", revealed, top << 8 - bits),
    ):
        wrong = int((first != second).sum())
        judge.require(not wrong, "shape", f"{wrong} of {first.size} {words}")


class _Sent(NamedTuple):
    """All that a defense makes of a batch."""

    hidden: Images  # stegos, or the secrets themselves
    entering: Images  # what enters the edge
    features: Features
    logits: Array


def _shown(defense: Defense) -> Callable[..., _Sent]:
    """`show(params, key, secrets, covers)`."""

    def show(params: Params, key: Key, secrets: Images, covers: Images) -> _Sent:
        hidden = entering = secrets
        if defense.hide is not None:
            hidden = entering = defense.hide(params, covers, secrets)
        if defense.perturb is not None:
            entering = defense.perturb(params, hidden, secrets)
        features = defense.send(params, key, entering)
        return _Sent(
            hidden=hidden,
            entering=entering,
            features=features,
            logits=defense.answer(params, features),
        )

    return show


def _defense_turns(record: DefenseRecord, task: Task) -> tuple[_Turn, _Turn]:
    """`_turns`, on the task and another of its shapes."""
    turn, other = _turns(record, None)
    images = np.asarray(task.images)
    covers, secrets = (
        as_float(images[rows.rows[:_BATCH]]) for rows in (task.covers, task.secrets)
    )
    one, two = toy.keys()[2:4]
    return (
        turn._replace(data=task, inputs=(one, secrets, covers)),
        other._replace(data=toy.another(task), inputs=(two, covers, secrets)),
    )


def _check_declared(
    judge: _Judge, record: DefenseRecord, defense: Any, cut: Cut
) -> None:
    """What a plan reads in the record before anything is built is so."""
    built = isinstance(defense, Defense)
    judge.require(built, "shape", f"the factory gives {defense!r}")
    sends = defense.send == plain.Send(cut.edge)
    for name, stated, is_so in (
        ("hides", record.hides, defense.hides),
        ("perturbs", record.perturbs, defense.perturb is not None),
        ("sends_plain", record.sends_plain, sends and record.sends_plain),
    ):
        words = f"the record says {name} = {stated}, and it is {is_so}"
        judge.require(stated == is_so, "shape", words)
    for name in ("draws", "cover_candidates"):
        count = getattr(defense, name)
        whole = isinstance(count, int) and count >= 1
        judge.require(whole, "shape", f"{name} = {count!r}, not a number from 1")


def _check_sent(judge: _Judge, sent: _Sent, cut: Cut) -> None:
    shape = (_BATCH, *cut.image_shape)
    _check_images(judge, "hide", sent.hidden, shape)
    _check_images(judge, "perturb", sent.entering, shape)
    _check_array(judge, "send", sent.features, (_BATCH, *cut.feature_shape))
    _check_array(judge, "answer", sent.logits, (_BATCH, cut.classes))


def _check_columns(judge: _Judge, columns: Any) -> None:
    good = isinstance(columns, list) and all(isinstance(c, Column) for c in columns)
    judge.require(good, "columns", f"columns gives {columns!r}, not a list of Column")
    names = [column.name for column in columns]
    judge.require(len(set(names)) == len(names), "columns", f"two of {names} are alike")
    budgets = sum(column.budget for column in columns)
    judge.require(budgets <= 1, "columns", f"{budgets} are budgets, not one at most")
    for column in columns:
        words = f"{column.name!r} is no name of a table's column"
        judge.require(column.name.isidentifier(), "columns", words)
        finite = bool(np.isfinite(column.value))
        judge.require(finite, "columns", f"{column.name} is {column.value}")
        labelled = bool(column.label.strip()) and "\n" not in column.label
        words = f"{column.name} has the label {column.label!r}"
        judge.require(labelled, "columns", words)


def _check_draws(
    judge: _Judge,
    defense: Defense,
    random: bool,
    show: Callable[..., _Sent],
    called: tuple[Any, ...],
) -> None:
    """Features differ between keys if they should; many keys at once are a loop."""
    params, key, secrets, covers = called
    keys = jax.random.split(key, _DRAWS)
    alone = [np.asarray(show(params, k, secrets, covers).features) for k in keys]
    unlike = any(not np.array_equal(alone[0], features) for features in alone[1:])
    words = f"its features {'differ' if unlike else 'are the same'} for {_DRAWS} keys"
    words += f", and its record says random = {not unlike}"
    judge.require(unlike == random, "key", words)
    sending = jax.vmap(partial(encode, defense), (None, 0, None, None))
    with judge.keeping("purity", "vmap over keys"):
        shape = jax.eval_shape(sending, params, keys, secrets, covers).shape
    loop = np.stack(alone)
    words = f"vmap over keys gives {shape}, not {loop.shape}"
    judge.require(shape == loop.shape, "purity", words)
    if random:
        together = np.asarray(jax.jit(sending)(params, keys, secrets, covers))
        close = np.allclose(together, loop, rtol=1e-4, atol=1e-5)
        words = f"vmap over keys is no loop over them{_difference(together, loop)}"
        judge.require(close, "purity", words)


def _check_covers(
    judge: _Judge,
    defense: Defense,
    show: Callable[..., _Sent],
    inputs: tuple[Any, ...],
) -> None:
    """Covers count if and only if it hides; no image depends on the others."""
    key, secrets, covers = inputs
    _check_others(judge, partial(show, key), (secrets, covers))
    other = jax.device_put(np.asarray(covers)[::-1])
    sent = [show(key, secrets, x).features for x in (covers, other)]
    counts = not _equal(*sent)
    words = f"features {'depend' if counts else 'do not depend'} on the covers, and it "
    words += "hides" if defense.hides else "hides nothing"
    judge.require(counts == defense.hides, "shape", words)


def _check_plain(judge: _Judge, sent: _Sent, cut: Cut, edge: Params, who: str) -> None:
    """What is sent is what the plain edge makes of what enters it."""
    wanted = _plainly(plain.Send(cut.edge), edge, sent.entering)
    words = f"features of {who} are not those of the plain edge"
    _require_equal(judge, "zero strength", words, sent.features, wanted)


@partial(jax.jit, static_argnums=0)
def _plainly(send: plain.Send, edge: Params, images: Images) -> Features:
    return send({"edge": edge}, None, images)


class _Scene(NamedTuple):
    """What attacks are tried on."""

    cut: Cut
    knowledge: Knowledge  # all that could be known
    features: Features  # [B, ...]
    context: Context


def _scene(
    cut: Cut | None, knowledge: Knowledge | None, features: Features | None
) -> _Scene:
    cut = cut or toy.cut()
    knowledge = knowledge or toy.knowledge(cut)
    if features is None:
        features = toy.targets(cut, knowledge, _TARGETS)
    images = knowledge.public_images
    context = Context(public_count=0 if images is None else len(images))
    return _Scene(cut, knowledge, features, context)


def _check_needs(judge: _Judge, attack: Any, stated: tuple[str, ...]) -> None:
    judge.require(isinstance(attack, Attack), "shape", f"the factory gives {attack!r}")
    needs, wanted = sorted(set(attack.needs)), sorted(set(stated))
    words = f"the attack needs {needs}, and its record says {wanted}"
    judge.require(needs == wanted, "knowledge", words)


def _check_inversions(
    judge: _Judge,
    attack: Attack,
    scene: _Scene,
    turns: tuple[_Turn, _Turn],
    random: bool,
) -> Inversion:
    """All that is asked of an attack, denoised or not; its inversion of the scene."""
    features, keys = np.asarray(scene.features), toy.keys()
    known = limit(scene.knowledge, attack.needs)
    turn = turns[0]._replace(data=known, inputs=(keys[2], scene.features))
    other_inputs = keys[3], jax.device_put(np.float32(0.9) * features[::-1])
    other = turns[1]._replace(data=toy.changed(known), inputs=other_inputs)

    def use(params: Params, turn: _Turn) -> Inversion:
        key, sent = turn.inputs
        return attack.invert(params, key, sent, turn.hyper)

    _check_knowledge(judge, attack, use, scene.knowledge, turn)
    params, shown = _runs(judge, attack.fit, use, turn, other)
    _check_inversion(judge, attack, shown, (len(features), *scene.cut.image_shape))
    one, two = (use(params, turn._replace(inputs=(k, features))) for k in keys[2:4])
    unlike = not _equal(one, two)
    words = f"inversions {'differ' if unlike else 'are the same'} for two keys, and "
    judge.require(unlike == random, "key", f"{words}its record says random = {random}")
    _check_traced_inversion(judge, attack, params, turn, shown.images)
    _check_targets(judge, partial(attack.invert, params, keys[2]), turn, other)
    with judge.keeping("shape", "combining queries"):
        single = attack.combine(scene.features[None])
    words = "the combined features of one query are not its own"
    _require_equal(judge, "shape", words, single, scene.features)
    if attack.probe is not None:
        _check_probe(judge, attack.probe, scene, (turn, other))
    return shown


def _check_knowledge(
    judge: _Judge,
    learner: Attack | Probe,
    use: Use,
    everything: Knowledge,
    turn: _Turn,
) -> None:
    """Undeclared fields are never touched, declared ones are."""

    def run(data: Knowledge) -> Any:
        params, _ = _fitted(judge, learner.fit, turn._replace(data=data))
        return params, _used(judge, use, params, turn)

    known, contract = turn.data, "knowledge"
    undeclared = [name for name in Knowledge._fields if name not in learner.needs]
    poison = {name: toy.Poison(name) for name in Knowledge._fields}
    poisoned = known._replace(**{name: poison[name] for name in undeclared})
    try:
        blind = run(poisoned)
    except toy.Touched as touched:
        words = f"it reads {touched}, which it does not declare"
        raise judge.error(contract, words) from touched
    except Exception as error:
        try:
            run(known)
        except Exception as failure:
            run(everything)  # what fails then too is another contract's
            words = f"with what it declares alone it fails: {failure}"
            raise judge.error(contract, words) from failure
        words = f"it touches one of {undeclared}, which it does not declare: {error}"
        raise judge.error(contract, words) from error
    if _equal(blind, run(poisoned)):  # else it keeps a state, see `_runs`
        words = "it learns otherwise where fields that it does not declare are there"
        _require_equal(judge, contract, words, blind, run(known))
    for name in learner.needs:
        try:
            run(known._replace(**{name: poison[name]}))
        except Exception:  # whatever comes of it: it was used
            continue
        raise judge.error(contract, f"it declares {name} and never uses it")


def _check_inversion(
    judge: _Judge, attack: Attack, shown: Any, shape: tuple[int, ...]
) -> None:
    inverted = isinstance(shown, Inversion)
    judge.require(inverted, "shape", f"invert gives {type(shown).__name__}")
    for name in ("images", "secrets", "before_denoising"):
        images = getattr(shown, name)
        if images is not None or name == "images":
            _check_images(judge, f"invert ({name})", images, shape)
    for leaf in jax.tree.leaves(shown.trace):
        words = f"a trace has the shape {leaf.shape}, not {shape[:1]} and more"
        judge.require(leaf.shape[:1] == shape[:1], "shape", words)
        finite = bool(np.isfinite(np.asarray(leaf)).all())
        judge.require(finite, "range", "a trace is not finite")


def _check_traced_inversion(
    judge: _Judge, attack: Attack, params: Params, turn: _Turn, images: Images
) -> None:
    """It can be traced, for many keys at once."""
    key, features = turn.inputs
    keys = jax.random.split(key, _DRAWS)
    inverting = jax.vmap(attack.invert, (None, 0, None, None))
    with judge.keeping("purity", "invert under jit and vmap"):
        shape = jax.eval_shape(inverting, params, keys, features, turn.hyper)
    wanted = (_DRAWS, *images.shape)
    words = f"vmap over keys gives images {shape.images.shape}, not {wanted}"
    judge.require(shape.images.shape == wanted, "purity", words)


def _check_targets(
    judge: _Judge,
    invert: Callable[[Features, Hyper], Inversion],
    turn: _Turn,
    other: _Turn,
) -> None:
    """A target's picture depends on its features and its own values alone."""
    features, others = (np.asarray(x.inputs[1]) for x in (turn, other))
    mixed, count = others.copy(), len(features)
    mixed[0] = features[0]
    each, each_other = (per_target(x.hyper, count) for x in (turn, other))
    mixed_values = jax.tree.map(
        lambda one, two: np.concatenate([one[:1], two[1:]]), each, each_other
    )
    whole = invert(jax.device_put(features), turn.hyper).images
    with judge.keeping("independence", "invert with values [B]"):
        by_target = invert(jax.device_put(features), each).images
        first = invert(jax.device_put(mixed), mixed_values).images
        rest = invert(jax.device_put(others), each_other).images
        alone = invert(jax.device_put(features[:1]), turn.hyper).images
    words = "a value for each target gives other images than one for all"
    _require_equal(judge, "independence", words, by_target, whole)
    words = "a target's image changes with the features and values of the others"
    for one, two in ((first[:1], by_target[:1]), (first[1:], rest[1:])):
        _require_equal(judge, "independence", words, one, two)
    apart = float(np.abs(np.asarray(alone[0]) - np.asarray(whole[0])).max())
    words = f"alone a target's image is another (by up to {apart:.3g})"
    judge.require(apart <= _ALONE, "independence", words)


def _check_probe(
    judge: _Judge, probe: Probe, scene: _Scene, turns: tuple[_Turn, _Turn]
) -> None:
    """A probe keeps the contracts of a fit, and answers with logits."""
    judge = judge._replace(family=f"the probe of {judge.family}")
    known = limit(scene.knowledge, probe.needs)
    turn = turns[0]._replace(data=known)
    other = turns[1]._replace(data=toy.changed(known))

    def use(params: Params, turn: _Turn) -> Array:
        return probe.answer(params, turn.inputs[1])

    _check_knowledge(judge, probe, use, scene.knowledge, turn)
    _, logits = _runs(judge, probe.fit, use, turn, other)
    _check_array(judge, "answer", logits, (len(scene.features), scene.cut.classes))
