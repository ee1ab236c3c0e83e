"""Every member of the registry keeps its contracts; who does not is seen."""

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import own, registry, testing, toy
from ghostjax.attacks import readout
from ghostjax.attacks.extract import extract
from ghostjax.attacks.records import (
    Denoise,
    Direct,
    Inverse,
    NoAttack,
    NoDenoise,
    Rmle,
    Shadow,
)
from ghostjax.attacks.rmle import AUTHORS
from ghostjax.base import Column, Context, Cut, Inversion, Probe
from ghostjax.defenses import generator, plain
from ghostjax.defenses.ghost_plus import ghost_plus
from ghostjax.defenses.hide import hide
from ghostjax.defenses.records import (
    Arden,
    Dropout,
    Ghost,
    GhostPlus,
    Hide,
    Noise,
    Plain,
    Shredder,
)
from ghostjax.fields import LARGEST, neutral, static, static_half, traced, traced_half
from ghostjax.models.chain import apply
from ghostjax.models.layers import Conv, Dense, Relu
from ghostjax.records import AttackRecord, DefenseRecord
from ghostjax.stego import nns
from ghostjax.stego.lsb import lsb
from ghostjax.stego.records import Lsb, Nns
from ghostjax.training.fit import Recipe, Training

HERE = Path(__file__).parent
RECORDS = "ghostjax.stego.", "ghostjax.defenses.", "ghostjax.attacks."
SMALL = {"batch_size": 4}
NARROW = {**SMALL, "width": 2}
SEARCH = {"steps": 2, "start": "dark", "cg_steps": 2}
DESCENT = replace(AUTHORS, steps=2)
MEMBERS = [
    ("stego", Lsb(bits=2), {}),
    ("stego", Nns(network="n16", **SMALL), {"steps": 0, "factory": nns.nns}),
    ("defense", Plain(), {}),
    ("defense", Hide(), {}),
    ("defense", Noise(level=0.5), {}),
    ("defense", Dropout(rescale=True, place="input"), {}),
    ("defense", Ghost(public_batch_size=4, **SMALL), {}),
    ("defense", GhostPlus(**NARROW), {"steps": 0, "factory": ghost_plus}),
    ("defense", Arden(bound=1.0, **SMALL), {"steps": 0}),
    ("defense", Shredder(members=3, **SMALL), {"steps": 0}),
    ("attack", NoAttack(), {}),
    ("attack", Rmle(**SEARCH), {}),
    ("attack", DESCENT, {}),
    ("attack", Inverse(**NARROW), {"steps": 0}),
    ("attack", Shadow(architecture="same", **SEARCH, **SMALL), {}),
    ("attack", Direct(**NARROW), {"steps": 0}),
    ("denoise", NoDenoise(), {}),
    ("denoise", Denoise(images=8, **SMALL), {"steps": 0}),
]
CHECKS = {
    "stego": testing.check_stego,
    "defense": testing.check_defense,
    "attack": testing.check_attack,
    "denoise": testing.check_denoiser,
}


@pytest.fixture
def shallow(monkeypatch):
    """Networks whose many layers are alike have one of each; not for the registry's own
    factories, which keep what they built. A last layer is solved from few pixels."""
    monkeypatch.setattr(generator, "_BLOCKS", 1)
    monkeypatch.setattr(readout, "_PIXELS", 4)
    monkeypatch.setitem(nns.NETWORKS, "n16", lambda channels: NETWORKS)


def body(name):
    return ((name, Conv(2, 3, "SAME")), (f"{name}_act", Relu()))


NETWORKS = nns.Networks(
    prep=body("prep"),
    hide=(*body("hide"), ("image", Conv(1, 1))),
    reveal=(*body("reveal"), ("image", Conv(1, 1))),
    residual=True,
)


@pytest.mark.parametrize(
    ("family", "record", "choices"),
    MEMBERS,
    ids=[f"{family}-{record.name}" for family, record, _ in MEMBERS],
)
def test_every_member_keeps_its_contracts(shallow, family, record, choices):
    CHECKS[family](record, **choices)


def test_no_member_is_left_out():
    tried = {(family, type(record)) for family, record, _ in MEMBERS}
    families = registry.FAMILIES.items()
    every = {(family, r.record) for family, rows in families for r in rows.values()}
    assert tried == {row for row in every if row[1].__module__.startswith(RECORDS)}


@pytest.mark.parametrize(
    ("family", "row"),
    [("defense", "QUANTISE"), ("attack", "MEAN"), ("denoise", "BLUR")],
)
def test_members_of_an_outside_package_keep_them_too(monkeypatch, family, row):
    monkeypatch.syspath_prepend(str(HERE / "package"))
    record, factory = getattr(import_module("ghostjax_sample.records"), row)
    CHECKS[family](record(), factory=factory)


def example(name):
    """A module of tests/examples."""
    spec = spec_from_file_location(f"example_{name}", HERE / "examples" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_the_module_runs():
    example = testing.__doc__.split("\n\n", 1)[1].split("\nA check")[0].strip()
    assert "check_defense(" in example and len(example.split("\n")) <= 10
    exec("\n".join(line.removeprefix("  ") for line in example.split("\n")), {})


# Members that keep every contract, on a network of two small layers; what is broken
# below is one part of them.
TINY = Cut((("fc0", Dense(6)), ("ReLU0", Relu())), (("fc1", Dense(4)),), (4, 4, 1))


@dataclass(frozen=True, kw_only=True)
class Sound(DefenseRecord):
    name: Literal["sound"] = "sound"
    level: float = traced(0.5, least=0, most=1, neutral=0.0)


@dataclass(frozen=True, kw_only=True)
class Loud(Sound):
    random: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Hiding(Sound):
    hides: ClassVar[bool] = True


def sound(cut, record, context):
    """Features times 1 - level."""

    def fit(key, hyper, task):
        yield from ()
        return {**plain.halves(task), "level": hyper["level"], "stego": task.stego}

    def send(params, key, images):
        return (1 - params["level"]) * apply(cut.edge, params["edge"], images)

    def columns(params, hyper):
        return [Column("level", float(params["level"]), "level of the defense")]

    return plain.plain(cut, record, context)._replace(
        fit=fit, send=send, columns=columns
    )


@dataclass(frozen=True, kw_only=True)
class Tame(AttackRecord):
    needs: ClassVar[tuple[str, ...]] = ("edge_variables",)

    name: Literal["tame"] = "tame"
    rate: float = traced(0.5, above=0)


@dataclass(frozen=True, kw_only=True)
class Wild(Tame):
    random: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Greedy(Tame):
    needs: ClassVar[tuple[str, ...]] = ("edge_variables", "query")


def tame(cut, record, context):
    """Fixed mixtures of the features."""
    attack = toy.attack(cut)

    def invert(params, key, features, hyper):
        return attack.invert(params, key, features, {"gain": hyper["rate"]})

    return attack._replace(invert=invert)


@dataclass(frozen=True, kw_only=True)
class Thin(AttackRecord):
    name: Literal["thin"] = "thin"
    share: float = traced(0.5, least=0, most=1)


def thin(cut, record, context):
    """Pictures times a share."""
    inner = context.inner

    def fit(key, hyper, knowledge):
        return (yield from inner.fit(key, hyper["attack"], knowledge))

    def invert(params, key, features, hyper):
        before = inner.invert(params, key, features, hyper["attack"]).images
        share = jnp.reshape(hyper["denoise"]["share"], (-1, 1, 1, 1))
        return Inversion(images=share * before, before_denoising=before)

    return inner._replace(fit=fit, invert=invert)


BROKEN = []


def broken(family, record, words, **choices):
    """Notes a factory that makes `record` break what `words` say."""

    def note(factory):
        BROKEN.append((family, record, factory, words, choices))
        return factory

    return note


@dataclass(frozen=True, kw_only=True)
class Extracting(Tame):
    needs: ClassVar[tuple[str, ...]] = ("edge_variables", "stego_params")


def extracting(cut, record, context):
    lsb = registry.build(Lsb(), cut.image_shape, Context())
    return extract(tame(cut, record, context), lsb, "reveal")


@pytest.mark.parametrize(
    ("family", "record", "factory", "choices"),
    [
        ("defense", Sound(), sound, {"cut": TINY}),
        ("defense", Sound(), sound, {"cut": TINY, "zero": Sound(level=0.0)}),
        ("attack", Tame(), tame, {"cut": TINY}),
        ("attack", Extracting(), extracting, {"cut": TINY}),
        ("denoise", Thin(), thin, {"cut": TINY}),
        ("denoise", Thin(), thin, {"cut": TINY, "inner": DESCENT}),
    ],
)
def test_members_that_are_nowhere_registered_keep_them(
    family, record, factory, choices
):
    CHECKS[family](record, factory=factory, **choices)


def test_the_examples_of_ones_own_keep_them():
    levels = jnp.linspace(0, 2, 8)
    quantiser = example("defense").quantiser(levels)
    record = own.defense("three-bits", quantiser, variables=levels)
    testing.check_defense(record, cut=TINY)
    nearest, needs = example("attack").nearest, ("edge_variables", "public_images")
    testing.check_attack(own.attack("the-nearest", nearest, needs=needs), cut=TINY)


def test_members_keep_them_on_a_network_of_ones_own():
    weights = np.random.default_rng(0).standard_normal((16, 10), np.float32)
    edge, cloud = (
        own.Half(lambda w, x: x.reshape(len(x), -1) @ w, variables)
        for variables in (weights[:, :6], weights[:6, 6:])
    )
    cut = own.cut(edge, cloud, image_shape=(4, 4, 1))
    variables = edge.variables, cloud.variables
    task = toy.task(cut, variables)
    testing.check_defense(Sound(), factory=sound, cut=cut, task=task)
    known = toy.knowledge(cut, variables)
    testing.check_attack(Tame(), factory=tame, cut=cut, knowledge=known)
    with pytest.raises(ValueError, match="comes with its variables: none can be drawn"):
        testing.check_defense(Noise(), cut=cut)


# File and script, static record.


@dataclass(frozen=True, kw_only=True)
class Counting(Sound):
    steps: int = static(1, least=1)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "steps", self.steps + 1)


@dataclass(frozen=True, kw_only=True)
class Tabled(Sound):
    table: dict = None


broken("defense", Counting(), "file and script: .*steps=3.* of a file, ")(sound)
broken("defense", Tabled(), "file and script: writing the record as TOML fails")(sound)


@broken("defense", Sound(), "static record: the factory fails: TypeError")
def reads_a_traced_value(cut, record, context):
    return sound(cut, record, context)._replace(draws=1 + int(record.level))


# Shape and range.


@broken("defense", Sound(), r"shape: send gives float32 \(4, 3\), not float32 \(4, 6\)")
def sends_half(cut, record, context):
    def send(params, key, images):
        return apply(cut.edge, params["edge"], images)[:, :3]

    def answer(params, features):
        return features[:, :2] @ jnp.ones((2, 4))

    return sound(cut, record, context)._replace(send=send, answer=answer)


@broken("defense", Sound(), "range: 24 of 24 values that send gives are not finite")
def sends_nan(cut, record, context):
    def send(params, key, images):
        return jnp.nan * apply(cut.edge, params["edge"], images)

    return sound(cut, record, context)._replace(send=send)


@broken("defense", Hiding(), r"range: hide gives values .* to 1.5, not in \[0, 1\]")
def hides_beyond_white(cut, record, context):
    def hide(params, covers, secrets):
        return 1.5 * covers / covers.max((1, 2, 3), keepdims=True)

    return sound(cut, record, context)._replace(hide=hide)


@broken("defense", Hiding(), "shape: features do not depend on the covers, .* hides")
def hides_in_nothing(cut, record, context):
    hide = lambda params, covers, secrets: secrets  # noqa: E731
    return sound(cut, record, context)._replace(hide=hide)


broken("defense", Hiding(), "shape: the record says hides = True, and it is False")(
    sound
)
broken("defense", Hide(), "shape: the record says sends_plain = True, and it is F")(
    lambda cut, record, context: hide(cut, record, context)._replace(
        send=lambda params, key, images: apply(cut.edge, params["edge"], images)
    )
)


@broken("defense", Plain(), "zero strength: features of a record that says sends_plain")
def retrains_its_edge(cut, record, context):
    def fit(key, hyper, task):
        yield from ()
        edge = jax.tree.map(lambda leaf: 2 * leaf, task.edge_variables)
        return {**plain.halves(task), "edge": edge}

    return plain.plain(cut, record, context)._replace(fit=fit)


@broken("attack", Tame(), r"range: invert \(images\) gives values .* not in \[0, 1\]")
def inverts_beyond_white(cut, record, context):
    return shown(cut, lambda images, *_: 1.5 + images)


@broken("attack", Tame(), r"shape: invert \(images\) gives float32 \(3, 2, 4, 1\)")
def inverts_half(cut, record, context):
    return shown(cut, lambda images, *_: images[:, :2])


def shown(cut, change):
    """`tame` with `change(images, key, features, hyper)`."""
    attack = tame(cut, None, None)

    def invert(params, key, features, hyper):
        inversion = attack.invert(params, key, features, hyper)
        images = change(inversion.images, key, features, hyper)
        return inversion._replace(images=images)

    return attack._replace(invert=invert)


@broken("attack", Tame(), "shape: the combined features of one query .*by up to")
def doubles_queries(cut, record, context):
    combine = lambda samples: 2 * samples.mean(0)  # noqa: E731
    return tame(cut, record, context)._replace(combine=combine)


broken("attack", Tame(), "shape: its fit fails: TypeError")(
    lambda cut, record, context: tame(cut, record, context)._replace(
        fit=lambda key, hyper, knowledge: knowledge.edge_variables
    )
)


def training(key, hyper, **changes):
    """Of two numbers that are to be those that are drawn."""
    parts = {
        "key": key,
        "params": np.zeros(2, np.float32),
        "shared": (),
        "hyper": {"learning_rate": hyper["rate"]},
        "loss": distance,
        "draw": numbers,
        "recipe": Recipe(9),
        "part": "numbers",
    }
    return Training(**{**parts, **changes})


def distance(params, model_state, key, batch, hyper, shared):
    return ((params - batch) ** 2).sum(), (model_state, {})


def numbers(key, index, shared, own):
    return jax.random.uniform(jax.random.fold_in(key, index), (2,))


def trained(cut, trainings):
    """`tame` that first runs `trainings(key, hyper)`."""

    def fit(key, hyper, knowledge):
        for one in trainings(key, hyper):
            state = yield one
        return {"edge": knowledge.edge_variables, "learned": state.params}

    return tame(cut, None, None)._replace(fit=fit)


@broken("attack", Tame(), "shape: two trainings are called 'numbers'")
def trains_two_of_one_name(cut, record, context):
    return trained(cut, lambda key, hyper: [training(key, hyper)] * 2)


@broken("attack", Tame(), r"range: the losses of 'numbers' are \[nan nan\]")
def learns_nan(cut, record, context):
    def loss(params, model_state, key, batch, hyper, shared):
        return jnp.nan * params.sum(), (model_state, {})

    return trained(cut, lambda key, hyper: [training(key, hyper, loss=loss)])


# Purity.


@broken("defense", Sound(), "purity: it keeps a state: traced again it gives other")
def sends_ever_more(cut, record, context):
    calls = []

    def send(params, key, images):
        calls.append(1)
        return apply(cut.edge, params["edge"], images) + len(calls)

    return sound(cut, record, context)._replace(send=send)


@broken("defense", Sound(), "purity: the same key and data are fitted otherwise")
def fits_otherwise_each_time(cut, record, context):
    calls = []

    def fit(key, hyper, task):
        yield from ()
        calls.append(1)
        return {**plain.halves(task), "level": np.float32(len(calls) / 10)}

    return sound(cut, record, context)._replace(fit=fit)


@broken("defense", Sound(), "purity: it changes what it is called with")
def changes_the_task(cut, record, context):
    def fit(key, hyper, task):
        yield from ()
        task.covers.rows[:] += 1
        return {**plain.halves(task), "level": hyper["level"]}

    return sound(cut, record, context)._replace(fit=fit)


@broken("defense", Sound(), "purity: it changes its params .of another structure")
def uses_its_params_up(cut, record, context):
    def send(params, key, images):
        return (1 - params.pop("level")) * apply(cut.edge, params["edge"], images)

    return sound(cut, record, context)._replace(send=send)


@broken("defense", Sound(), "purity: its use, under jit, fails: .*ConcretizationType")
def cannot_be_traced(cut, record, context):
    def send(params, key, images):
        return float(params["level"]) * apply(cut.edge, params["edge"], images)

    return sound(cut, record, context)._replace(send=send)


@broken("attack", Tame(), "purity: the same arguments give other results")
def inverts_otherwise_each_time(cut, record, context):
    calls = []

    def change(images, *_):
        calls.append(1)
        return images / len(calls)

    return shown(cut, change)


@broken("attack", Tame(), "purity: invert under jit and vmap fails: Conc")
def cannot_be_inverted_under_jit(cut, record, context):
    return shown(cut, lambda images, key, features, hyper: images[: len(features)] if (
        float(np.max(features)) > -1) else images)  # fmt: skip


# Keys.


def noisy(cut, record, context):
    def send(params, key, images):
        features = apply(cut.edge, params["edge"], images)
        return features + params["level"] * jax.random.normal(key, features.shape)

    return sound(cut, record, context)._replace(send=send)


broken("defense", Sound(), "key: its features differ .* record says random = False")(
    noisy
)
broken("defense", Loud(), "key: its features are the same .* says random = True")(sound)
broken("attack", Wild(), "key: inversions are the same .* says random = True")(tame)


@broken("attack", Tame(), "key: inversions differ for two keys, .* random = False")
def guesses(cut, record, context):
    return shown(cut, lambda images, key, *_: images * jax.random.uniform(key))


@broken("attack", Tame(), "key: the training 'numbers' has the same key for two keys")
def trains_with_one_key(cut, record, context):
    key = jax.random.key(0)
    return trained(cut, lambda _, hyper: [training(key, hyper)])


@broken("attack", Tame(), "key: what it learns is the same for two keys")
def draws_nothing(cut, record, context):
    draw = lambda key, index, shared, own: jnp.ones(2)  # noqa: E731
    return trained(cut, lambda key, hyper: [training(key, hyper, draw=draw)])


# One program.


@broken("attack", Tame(), "one program: it compiles 1 more for another key: ")
def compiles_at_every_call(cut, record, context):
    return shown(cut, lambda images, *_: jax.jit(lambda x: x / 2)(images))


@broken("attack", Tame(), "one program: it compiles 1 more for other traced values")
def compiles_for_every_rate(cut, record, context):
    dim = jax.jit(lambda rate, images: images / (1 + rate), static_argnums=0)

    def change(images, key, features, hyper):
        return dim(float(np.max(hyper["rate"])), images)

    return shown(cut, change)


@broken(
    "attack",
    Tame(),
    "one program: other traced values give 'numbers' another loss",
    steps=0,
)
def has_a_loss_for_every_rate(cut, record, context):
    def trainings(key, hyper):
        def loss(params, model_state, key, batch, _, shared):
            return hyper["rate"] * (params**2).sum(), (model_state, {})

        return [training(key, hyper, loss=loss)]

    return trained(cut, trainings)


@broken(
    "attack",
    Tame(),
    "one program: other traced values give 'numbers' params of other shapes",
    steps=0,
)
def learns_more_for_a_larger_rate(cut, record, context):
    def trainings(key, hyper):
        return [training(key, hyper, params=np.zeros(int(8 * hyper["rate"])))]

    return trained(cut, trainings)


# Independence.


@broken("defense", Sound(), "independence: an image's results change .*by up to")
def centres_the_batch(cut, record, context):
    def send(params, key, images):
        features = apply(cut.edge, params["edge"], images)
        return features - params["level"] * features.mean(0, keepdims=True)

    return sound(cut, record, context)._replace(send=send)


@broken("attack", Tame(), "independence: a target's image changes with the features")
def centres_the_targets(cut, record, context):
    return shown(cut, lambda images, *_: images / (1 + images.mean()))


@broken("attack", Tame(), "independence: alone a target's image is another .by up to")
def averages_over_the_batch(cut, record, context):
    return shown(cut, lambda images, *_: images / len(images))


@broken("attack", Tame(), "independence: a target's image changes with the .* values")
def takes_one_rate_for_all(cut, record, context):
    def change(images, key, features, hyper):
        return images / (1 + jnp.max(hyper["rate"]))

    return shown(cut, change)


@broken("attack", Tame(), r"independence: invert with values \[B\] fails: ")
def takes_scalars_alone(cut, record, context):
    return shown(cut, lambda images, key, features, hyper: images * hyper["rate"])


# Knowledge.


@broken("attack", Tame(), "knowledge: it reads public_labels, which it does not")
def reads_labels(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()
        return knowledge.edge_variables, knowledge.public_labels[0]

    return tame(cut, record, context)._replace(fit=fit)


@broken("attack", Tame(), "knowledge: it touches one of .* which it does not declare")
def hands_all_to_a_program(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()
        return jax.jit(lambda known: known)(knowledge)

    return tame(cut, record, context)._replace(fit=fit)


@broken("attack", Tame(), "knowledge: it learns otherwise where fields .* are there")
def looks_whether_there_are_labels(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()
        scale = 1 if knowledge.public_labels is None else 2
        return jax.tree.map(lambda leaf: scale * np.asarray(leaf), knowledge[0])

    return tame(cut, record, context)._replace(fit=fit)


@broken("attack", Greedy(), "knowledge: it declares query and never uses it")
def asks_for_more_than_it_uses(cut, record, context):
    return tame(cut, record, context)._replace(needs=record.needs)


broken("attack", Greedy(), r"knowledge: the attack needs \['edge_variables'\], and")(
    tame
)


@broken("attack", Tame(), "knowledge: with what it declares alone it fails: .*NoneType")
def probes_with_labels(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()
        return jax.numpy.sum(knowledge.public_labels)

    probe = Probe((), fit, lambda params, features: features[:, :4])
    return tame(cut, record, context)._replace(probe=probe)


@broken("attack", Tame(), "shape: answer gives float32 .3, 3., not float32")
def probes_for_too_few_classes(cut, record, context):
    def fit(key, hyper, knowledge):
        yield from ()
        return ()

    probe = Probe((), fit, lambda params, features: features[:, :3])
    return tame(cut, record, context)._replace(probe=probe)


# Zero strength, columns.


@broken("defense", Sound(), "zero strength: features of Sound.*level=0.0.*by up to")
def sends_more_than_nothing(cut, record, context):
    def send(params, key, images):
        features = apply(cut.edge, params["edge"], images)
        return features + 1e-3 + params["level"]

    return sound(cut, record, context)._replace(send=send)


broken(
    "defense",
    Sound(),
    "zero strength: features of Sound.*level=0.25.* are not those of the plain edge",
    zero=Sound(level=0.25),
)(sound)


def saying(*columns):
    return lambda cut, record, context: sound(cut, record, context)._replace(
        columns=lambda params, hyper: list(columns)
    )


LOUD = Column("loud", 1.0, "loudness")
for one, words in (
    ([LOUD._replace(value=float("nan"))], "columns: loud is nan"),
    ([LOUD, LOUD], r"columns: two of \['loud', 'loud'\] are alike"),
    ([LOUD._replace(label=" ")], "columns: loud has the label ' '"),
    ([LOUD._replace(name="how loud")], "columns: 'how loud' is no name"),
    (
        [LOUD._replace(budget=True), LOUD._replace(name="l", budget=True)],
        "columns: 2 are budgets",
    ),
    ([("loud", 1.0)], "columns: columns gives .* not a list of Column"),
):
    broken("defense", Sound(), words)(saying(*one))


# Stego methods.


def stego(**changes):
    return lambda shape, record, context: lsb(shape, record, context)._replace(
        **changes
    )


LSB = lsb((4, 4, 1), static_half(Lsb()), Context())
for changes, words in (
    (
        {"hide": lambda params, cover, secret: cover},
        "shape: other secrets give the same stegos: nothing is hidden",
    ),
    ({"low_bits": lambda params: 5}, "shape: .* of 64 low bits of stegos are not the"),
    ({"low_bits": lambda params: 8}, "shape: low_bits gives 8, not 0 to 7"),
    (
        {"reveal": lambda params, stego: 1 - LSB.reveal(params, stego)},
        "shape: .* of 64 revealed pixels are not the secret's high bits",
    ),
    (
        {"hide": lambda params, cover, secret: 0.5 + LSB.hide(params, cover, secret)},
        "range: hide gives values from 0.5",
    ),
    (
        {"reveal": lambda params, stego: stego - stego.mean()},
        "range: reveal gives values from -0",
    ),
    (
        {"reveal": lambda params, stego: stego * stego.mean()},
        "independence: an image's results change with the others",
    ),
):
    pictures = {"images": toy.pictures((4, 4, 1))}
    broken("stego", Lsb(), words, **pictures)(stego(**changes))


# Denoisers.


@broken("denoise", Thin(), "shape: before_denoising are not the images of the attack")
def forgets_what_was_before(cut, record, context):
    attack = thin(cut, record, context)

    def invert(params, key, features, hyper):
        inversion = attack.invert(params, key, features, hyper)
        return inversion._replace(before_denoising=inversion.images)

    return attack._replace(invert=invert)


@broken("denoise", Thin(), "knowledge: the attack needs .*'query'.* its record says")
def needs_more_than_its_record_says(cut, record, context):
    attack = thin(cut, record, context)
    return attack._replace(needs=(*attack.needs, "query"))


@pytest.mark.parametrize(
    ("family", "record", "factory", "words", "choices"),
    BROKEN,
    ids=[
        f"{family}-{factory.__name__.strip('<>')}" for family, _, factory, *_ in BROKEN
    ],
)
def test_the_battery_says_who_breaks_what(family, record, factory, words, choices):
    if family != "stego":
        choices = {"cut": TINY, **choices}
    with pytest.raises(AssertionError, match=words) as error:
        CHECKS[family](record, factory=factory, **choices)
    line = str(error.value)
    assert "\n" not in line and f"{family} '" in line and " breaks " in line


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: testing.check_defense(Noise), "record = .*Noise.*: give an instance"),
        (lambda: testing.check_attack(Noise()), "instance of a AttackRecord"),
        (lambda: testing.check_stego(Lsb(), steps=-1), "steps = -1: must be 0 or more"),
        (lambda: testing.check_defense(Ghost()), "batch_size = 256: .* only 32 images"),
        (lambda: testing.check_defense(Sound()), "Sound is no registered record"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("family", "record"), [row[:2] for row in MEMBERS])
def test_other_values_are_other_and_of_the_same_static_half(family, record):
    other = toy.moved(record)
    assert static_half(other) == static_half(record)
    values = zip(*(traced_half(x).items() for x in (record, other)), strict=True)
    same = {name for (name, one), (_, two) in values if one == two}
    assert same <= {"bound", "beta_start", "noise", "tolerance"}, "switches that are 0"


def test_strengths_are_neutral_where_their_fields_say_so():
    assert neutral(Noise(level=3.0, place="input")) == Noise(level=0, place="input")
    assert neutral(Dropout()) == Dropout(rate=0.0)
    nothing = {"nullified": 0.0, "scale": 0.0, "bound": LARGEST}
    assert neutral(Arden()) == Arden(**nothing)
    assert {type(r) for _, r, _ in MEMBERS if neutral(r)} == {Noise, Dropout, Arden}
