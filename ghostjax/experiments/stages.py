"""The stages of one experiment: what each does, given the results of those before it.

data on the host -> target network (from its part, or trained) -> stego -> defense ->
measure: accuracies with their controls -> attack: what the attacker learns -> invert:
it gets exactly the features, reconstructions against secret, cover and stego -> row.
Everything that can be refused is refused in `build`, before a file is written.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from ghostjax import registry
from ghostjax.base import Attack, Context, Cut, Defense, Rows, Stego
from ghostjax.base import Task as DefenseTask
from ghostjax.config.sections import Config, OwnTarget, TargetRecord
from ghostjax.data import roles
from ghostjax.defenses.plain import Send
from ghostjax.defenses.records import Plain
from ghostjax.evaluation import accuracy, hiding, leakage
from ghostjax.experiments import attacker, parts, results
from ghostjax.experiments.plan import Member
from ghostjax.fields import traced_half
from ghostjax.models import chain, zoo
from ghostjax.models.chain import Chain, Variables
from ghostjax.own import comes_trained, network_of
from ghostjax.records import DefenseRecord
from ghostjax.training.classifier import LabelledImages, classifier
from ghostjax.training.fit import Train, drive

__all__ = [
    "Built",
    "Learned",
    "Work",
    "attack",
    "build",
    "defense",
    "invert",
    "measure",
    "row",
    "stego",
    "target",
]


class Built(NamedTuple):
    """What a member's record stands for; nothing trained."""

    network: Chain
    cut: Cut
    fit_target: Callable[..., Any]
    stego: Stego
    defense: Defense
    plain: Defense
    attack: Attack | None  # with its denoiser; None where the cloud does not try


class Learned(NamedTuple):
    """What a training has ended in."""

    params: Any
    metrics: Mapping[str, Any]  # {part: {name: [steps]}}


class Work(NamedTuple):
    """A member at work: what it is, what is there already, and where to keep things."""

    member: Member
    built: Built
    results: Mapping[str, Any]  # name of a task -> its result
    parts: Path  # folder of trained parts
    console: Console
    newest: dict[str, tuple[Any, Any]]  # kind -> (key, value), shared by members

    def result(self, stage: str) -> Any:
        """The result of the member's own stage; None where it skips that."""
        return self.results.get(self.member.names.get(stage, ""))

    def folder(self, stage: str) -> Path:
        """Where the stage's training is kept."""
        return self.parts / self.member.names[stage]

    def train(self, stage: str, title: str) -> Train:
        """Runs trainings of a stage, resumable."""
        return parts.trainer(self.folder(stage), title, self.console)

    def once(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        """The value for `key`, made if it is not the newest of its kind."""
        if kind not in self.newest or self.newest[kind][0] != key:
            self.newest[kind] = key, make()
        return self.newest[kind][1]

    def key(self, stage: str) -> jax.Array:
        """The key of the defense, of measuring or of the attack."""
        place = ("defense", "measure", "attack").index(stage)
        return jax.random.split(jax.random.key(self.member.config.seed), 3)[place]


def build(member: Member) -> Built:
    """Looks everything up and refuses what cannot work.

    Raises:
      ValueError: unknown network or layer; shapes that do not fit; batches larger than
        the data; targets that cannot be; members that are not what their records say.
    """
    config, dataset = member.config, member.dataset
    network, trainer = _network(config.target)
    classes, count = len(dataset.class_names), len(dataset.train.labels)
    shape = dataset.train.images.shape[1:]
    if shape != network.image_shape:
        raise ValueError(
            f"network {config.target.network!r} takes images {network.image_shape} and "
            f"data set {config.data.name!r} has {shape}: choose another of the two"
        )
    layers = network.build(classes)
    cut = Cut(*chain.cut(layers, config.defense.cut), shape)
    attacker.require_rows(
        config.attacker, len(dataset.test.labels), config.defense.hides
    )
    public = attacker.public_images(
        config.attacker, dataset, config.seed, member.public
    )
    context = Context(train_count=count, public_count=len(public.labels))
    stego = registry.build(config.stego, shape, context)
    hiding_context = context._replace(stego=stego if config.defense.hides else None)
    attack = registry.build(config.attack, cut, context)
    if attack is not None:
        attack = registry.build(config.denoise, cut, context._replace(inner=attack))
    if attack is not None:
        _require_known(config, attack.needs)
    defense = registry.build(config.defense, cut, hiding_context)
    _require_traits(config.defense, defense, cut)
    return Built(
        network=layers,
        cut=cut,
        fit_target=registry.construct(trainer, layers, config.target, context),
        stego=stego,
        defense=defense,
        plain=registry.build(Plain(cut=config.defense.cut), cut, context),
        attack=attack,
    )


def _network(record: TargetRecord) -> tuple[zoo.Network, Callable[..., Any]]:
    """The network, and the factory of the fit that ends in its variables."""
    if isinstance(record, OwnTarget):
        return network_of(record), comes_trained
    return zoo.network(record.network), classifier


def _require_traits(record: DefenseRecord, defense: Defense, cut: Cut) -> None:
    """Refuses a defense that is not what its record told the plan."""
    plainly = defense.send == Send(cut.edge)
    for trait, is_so in (
        ("hides", defense.hides),
        ("perturbs", defense.perturb is not None),
        ("sends_plain", plainly and record.sends_plain),  # it need not say so
    ):
        if getattr(record, trait) != is_so:
            raise ValueError(
                f"defense {record.name!r} has {trait} = {is_so} and its record says "
                f"{getattr(record, trait)}: say it in the record too"
            )


def _require_known(config: Config, needs: tuple[str, ...]) -> None:
    """Refuses an attack that needs what its record did not tell the plan."""
    told_plan = {*config.attack.needs, *config.denoise.needs}
    for name in needs:
        if name not in told_plan:
            raise ValueError(
                f"attack {config.attack.name!r} needs {name!r} and its record does not "
                "say so: say it in the record's needs too"
            )


def target(work: Work) -> Learned:
    """The trained target network."""
    section, train = work.member.config.target, work.train("target", "target")
    key, data = jax.random.key(section.seed), _training_images(work)
    fitting = work.built.fit_target(key, traced_half(section), data)
    return Learned(*drive(fitting, train))


def stego(work: Work) -> Learned:
    """What the stego method has learned.

    It learns on all training images, so every partition shares it; it is refused where
    it has learned to hide nothing.
    """
    record, method = work.member.config.stego, work.built.stego
    key = jax.random.key(record.seed)
    fitting = method.fit(key, traced_half(record), _training_images(work).images)
    params, history = drive(fitting, work.train("stego", record.name))
    if history:
        hiding.require_hidden(method, params, work.member.dataset.train)
    return Learned(params, history)


def defense(work: Work) -> Learned:
    """What the defense has learned."""
    record = work.member.config.defense
    fitting = work.built.defense.fit(
        work.key("defense"), traced_half(record), _task(work)
    )
    return Learned(*drive(fitting, work.train("defense", record.name)))


def measure(work: Work) -> dict[str, Any]:
    """Accuracies of the target and of the defense, and how well secrets are hidden."""
    built, member = work.built, work.member
    params, target = work.result("defense").params, work.folder("target")
    undefended = work.once(
        "undefended",
        (target, member.config.seed, member.partition, built.plain),
        lambda: _accuracies(work, target, built.plain, _halves(work)),
    )
    row = dict(undefended)
    if built.defense != built.plain:
        row |= _accuracies(work, work.folder("defense"), built.defense, params)
    for name in (x + n for x in ("all", "public", "secret") for n in ("", "_n")):
        row[f"target_accuracy_{name}"] = undefended[f"accuracy_{name}"]
    arrays: dict[str, np.ndarray] = {}
    if built.defense.hides:
        learned = work.result("stego").params
        hider = hiding.Hider(built.stego, learned, built.defense, params)
        test, train = member.dataset.test, member.dataset.train
        hidden = hiding.measure(hider, test, _pairs(work), train)
        row, arrays = row | hidden.row, hidden.arrays
    return {"row": row, "arrays": arrays}


def attack(work: Work) -> leakage.Learned:
    """What the attacker learns before it sees a target."""
    config = work.member.config
    wanted = len(config.attacker.rows) or config.attacker.images
    work.console.print(f"{config.attack.name}  {wanted} images", highlight=False)
    train = work.train("attack", config.attack.name)
    return leakage.learn(_scene(work), work.key("attack"), train)


def invert(work: Work) -> leakage.Leakage:
    """What it gets from the features of the targets."""
    section, dataset = work.member.config.attacker, work.member.dataset
    return leakage.measure(
        _scene(work),
        work.result("attack"),
        work.key("attack"),
        attacker.targets(section, dataset.test, _pairs(work)),
        dataset.train,
        say=lambda line: work.console.print(line, highlight=False),
    )


def row(work: Work, folder: Path, began: float) -> None:
    """Writes what the member has found out."""
    member, built = work.member, work.built
    config, trained = member.config, work.result("defense")
    measured, inverted = work.result("measure"), work.result("invert")
    said = built.defense.columns(trained.params, traced_half(config.defense))
    columns = _settings(work) | measured["row"]
    arrays = dict(measured["arrays"])
    history: dict[str, Any] = {}
    for stage in ("target", "stego", "defense", "attack"):
        if (learned := work.result(stage)) is not None:
            history |= learned.metrics
    if inverted is not None:
        columns |= inverted.row
        arrays |= inverted.arrays
    for stage in ("target", "stego", "defense"):
        spent = parts.seconds(work.folder(stage)) if stage in member.names else 0.0
        columns[f"seconds_{stage}"] = spent
    columns["seconds_total"] = time.time() - began
    outcome = results.Outcome(row=columns, metrics=history, arrays=arrays, columns=said)
    about = {
        "data": member.dataset.source,
        "fingerprint": member.dataset.fingerprint,
        "seed": config.seed,
    }
    results.write(folder, outcome, about, began)


def _training_images(work: Work) -> LabelledImages:
    dataset = work.member.dataset
    images, labels = dataset.train

    def placed() -> LabelledImages:
        return LabelledImages(*jax.device_put((images, labels)))

    return work.once("training images", dataset.fingerprint, placed)


def _halves(work: Work) -> dict[str, Variables]:
    cut, variables = work.built.cut, work.result("target").params
    return {
        "edge": chain.select(cut.edge, variables),
        "cloud": chain.select(cut.cloud, variables),
    }


def _task(work: Work) -> DefenseTask:
    """The task for the defense, around the trained target."""
    member, cut, halves = work.member, work.built.cut, _halves(work)
    data, hidden = _training_images(work), work.result("stego")
    role = roles(member.dataset.train.labels, member.partition)
    return DefenseTask(
        edge_variables=halves["edge"],
        cloud_variables=halves["cloud"],
        images=data.images,
        labels=data.labels,
        covers=_padded(role.covers, len(data.labels)),
        secrets=_padded(role.secrets, len(data.labels)),
        sensitive=np.isin(range(cut.classes), member.partition.sensitive),
        stego=() if hidden is None else hidden.params,
    )


def _padded(rows: np.ndarray, size: int) -> Rows:
    return Rows(np.resize(rows, size).astype(np.int32), len(rows))


def _pairs(work: Work) -> accuracy.Pairs:
    member = work.member
    test = member.dataset.test
    candidates = work.built.defense.cover_candidates
    return accuracy.test_pairs(
        member.config.seed, test.images, test.labels, member.partition, candidates
    )


def _accuracies(
    work: Work, folder: Path, defense: Defense, params: Any
) -> dict[str, float]:
    """How well a defense answers; clean images are asked about once for all
    partitions."""
    member, key = work.member, work.key("measure")
    test, seed = member.dataset.test, member.config.seed
    clean = work.once(
        f"clean answers of {defense.name}",
        (folder, defense, seed),
        lambda: accuracy.clean_answers(defense, params, key, test.images),
    )
    questions = accuracy.Questions(
        images=test.images,
        labels=test.labels,
        pairs=_pairs(work),
        partition=member.partition,
    )
    return accuracy.measure(defense, params, key, questions, seed, clean)


def _scene(work: Work) -> leakage.Scene:
    """Who attacks whom; made once for the stages of a member, since a generator's
    pairs and the images on the device are part of it."""
    return work.once("scene", work.member.names["row"], lambda: _new_scene(work))


def _new_scene(work: Work) -> leakage.Scene:
    config, built = work.member.config, work.built
    assert built.attack is not None  # a member that is not attacked has no scene
    params, task = work.result("defense").params, _task(work)
    hides = built.defense.hides
    section, dataset = config.attacker, work.member.dataset
    known = attacker.knowledge(
        task,
        built.stego if hides else None,
        built.defense,
        params,
        attacker.public_images(section, dataset, config.seed, work.member.public),
        built.attack.needs,
    )
    return leakage.Scene(
        attack=built.attack,
        hyper=attacker.hyper(config.attack, config.denoise, section.queries),
        knowledge=known,
        defense=built.defense,
        params=params,
        stego=built.stego if hides else None,
    )


def _settings(work: Work) -> dict[str, Any]:
    member, built = work.member, work.built
    config, hides = member.config, built.defense.hides
    layers = chain.describe(built.network, built.cut.image_shape)
    learned = work.result("stego")
    return {
        "name": config.name,
        "hash": member.hash,
        "data": config.data.name,
        "network": config.target.network,
        "cut": config.defense.cut,
        "edge_layers": len(built.cut.edge),
        "defense": config.defense.name,
        "defense_caution": built.defense.caution,
        "stego": config.stego.name if hides else "",
        "bits": built.stego.low_bits(learned.params) if hides else 0,
        "gamma": config.data.gamma,
        "sensitive_labels": " ".join(map(str, member.partition.sensitive)),
        "public_labels": " ".join(map(str, member.partition.public)),
        "seed": config.seed,
        "attack": config.attack.name,
        "denoise": config.denoise.name if built.attack is not None else "",
        "target_parameters": sum(layer.parameters for layer in layers),
        **results.config_columns(config),
    }
