"""The stages of one experiment: what each does, given the results of those before it.

data on the host -> target network (from its part, or trained) -> judge -> stego ->
defense -> measure: accuracies with their controls -> attack: what the attacker learns
-> invert: it gets exactly the features, reconstructions against secret, cover and
stego, and what is recognised in them -> row.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from ghostjax.base import Defense, Rows
from ghostjax.base import Task as DefenseTask
from ghostjax.config.sections import Config
from ghostjax.data import Split, roles
from ghostjax.evaluation import accuracy, hiding, leakage, views
from ghostjax.experiments import attacker, environment, parts, results
from ghostjax.experiments.build import Built
from ghostjax.experiments.parts import Way, together
from ghostjax.experiments.plan import LEARNED, Member
from ghostjax.experiments.progress import say
from ghostjax.fields import traced_half
from ghostjax.models import chain
from ghostjax.models.chain import Variables
from ghostjax.training.classifier import LabelledImages
from ghostjax.training.fit import Fit, NonFiniteLoss
from ghostjax.training.members import drive_members

__all__ = [
    "Learned",
    "Work",
    "invert",
    "learn",
    "measure",
    "row",
]


class Learned(NamedTuple):
    """What a training has ended in."""

    params: Any
    metrics: Mapping[str, Any]  # {part: {name: [steps]}}
    seconds: float  # wall time, of members trained together a share of it


class Work(NamedTuple):
    """A member at work: what it is, what is there already, and where to keep things."""

    member: Member
    built: Built
    results: dict[str, Any]  # name of a task -> its result
    parts: Path  # folder of trained parts
    console: Console
    newest: dict[str, tuple[Any, Any]]  # kind -> (key, value), shared by members

    def result(self, stage: str) -> Any:
        """The result of the member's own stage; None where it skips that."""
        return self.results.get(self.member.names.get(stage, ""))

    def folder(self, stage: str) -> Path:
        """Where the stage's training is kept."""
        return self.parts / self.member.names[stage]

    def once(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        """The value for `key`, made if it is not the newest of its kind."""
        if kind not in self.newest or self.newest[kind][0] != key:
            self.newest[kind] = key, make()
        return self.newest[kind][1]

    def key(self, stage: str) -> jax.Array:
        """The key of the defense, of measuring or of the attack."""
        place = ("defense", "measure", "attack").index(stage)
        return jax.random.split(jax.random.key(self.member.config.seed), 3)[place]


def learn(stage: str, works: Sequence[Work], way: Way) -> list[Learned | Exception]:
    """What members have learned in a stage, or why they have not.

    Args:
      stage: one of `plan.LEARNED`.
      works: of members whose tasks of this stage have one group.
      way: how several are trained.
    """
    began, console = time.monotonic(), works[0].console
    title = _TITLES[stage](works[0].member.config)
    folders = [work.folder(stage) for work in works]
    fits = [_FITS[stage](work) for work in works]
    ended = drive_members(fits, together(folders, title, console, way))
    seconds = (time.monotonic() - began) / len(works)
    learned: list[Learned | Exception] = []
    for work, outcome in zip(works, ended, strict=True):
        if isinstance(outcome, NonFiniteLoss):
            outcome = _named(stage, work.member.config, outcome)
        if isinstance(outcome, Exception):
            learned.append(outcome)
            continue
        one = Learned(*outcome, seconds)
        learned.append(_refusal(stage, work, one) or one)
    return learned


def _named(stage: str, config: Config, error: NonFiniteLoss) -> NonFiniteLoss:
    """The error with the key of the config that is to be lowered, and its value."""
    sections = ("denoise", "attack") if stage == "attack" else (stage,)
    records = {section: getattr(config, section) for section in sections}
    for section, record in records.items():  # a training has its member's name, or
        value, name = (getattr(record, x, None) for x in (error.rate, "name"))
        if value is not None and (name == error.part or section == stage):
            key = f"{section}.{error.rate}"
            return NonFiniteLoss(error.fault, f"{key}, which is {value:g}", error.part)
    return error


def _refusal(stage: str, work: Work, learned: Learned) -> ValueError | None:
    """What is wrong with what was learned: a stego method that hides nothing."""
    if stage == "stego" and learned.metrics:
        method, train = work.built.stego, work.member.dataset.train
        try:
            hiding.require_hidden(method, learned.params, train)
        except ValueError as error:
            return error
    return None


def _target(work: Work) -> Fit:
    """Trains the target network."""
    section, data = work.member.config.target, _training_images(work)
    key = jax.random.key(section.seed)
    fitting: Fit = work.built.fit_target(key, traced_half(section), data)
    return fitting


def _judge(work: Work) -> Fit:
    """A data set's judge, which all members share."""
    record, judging = work.member.config.judge, work.built.judge
    assert judging is not None  # or no task would ask for it
    data, key = _training_images(work), jax.random.key(record.draw)
    return judging.fit(key, traced_half(record), data)


def _stego(work: Work) -> Fit:
    """The stego method learns on all training images, so every partition shares it."""
    record, images = work.member.config.stego, _training_images(work).images
    key = jax.random.key(record.seed)
    return work.built.stego.fit(key, traced_half(record), images)


def _defense(work: Work) -> Fit:
    record, key = work.member.config.defense, work.key("defense")
    return work.built.defense.fit(key, traced_half(record), _task(work))


def _attack(work: Work) -> Fit:
    """What the attacker learns before it sees a target."""
    return leakage.learning(_scene(work), work.key("attack"))


_FITS: Mapping[str, Callable[[Work], Fit]] = {
    "target": _target,
    "judge": _judge,
    "stego": _stego,
    "defense": _defense,
    "attack": _attack,
}
_TITLES: Mapping[str, Callable[[Config], str]] = {
    "target": lambda config: "target",
    "judge": lambda config: "judge",
    "stego": lambda config: config.stego.name,
    "defense": lambda config: config.defense.name,
    "attack": lambda config: config.attack.name,
}


def measure(works: Sequence[Work]) -> list[dict[str, Any]]:
    """Accuracies of the target and of the defense, and how well secrets are hidden.

    Args:
      works: of members with one target and one static half of the defense.
    """
    answered = zip(works, _clean(works), _secret(works), strict=True)
    return [_measured(work, clean, secret) for work, clean, secret in answered]


def _measured(work: Work, clean: Any, secret: Any) -> dict[str, Any]:
    built, member = work.built, work.member
    params, target = work.result("defense").params, work.folder("target")
    undefended = work.once(
        "undefended",
        (target, member.config.seed, member.partition, built.plain),
        lambda: _undefended(work),
    )
    row = dict(undefended)
    if built.defense != built.plain:
        known = accuracy.Known(clean, secret)
        row |= _accuracies(work, built.defense, params, known)
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


def invert(works: Sequence[Work]) -> list[leakage.Leakage]:
    """What attackers get from the features of the targets."""
    subjects = [_subject(work) for work in works]
    console, first = works[0].console, works[0].member
    targets = sum(len(subject.targets.labels) for subject in subjects)
    of = f" of {len(works)} members" if len(works) > 1 else ""
    say(console, f"{first.config.attack.name}  {targets} images{of}")
    return leakage.measure(
        subjects,
        first.dataset.train,
        say=lambda line: say(console, line),
    )


def _subject(work: Work) -> leakage.Subject:
    """A member's targets, who attacks them, and who looks at what that gives."""
    member = work.member
    targets = attacker.targets(
        member.config.attacker, member.dataset.test, _pairs(work)
    )
    among = attacker.among(member.config.attacker, member.partition)
    judged = work.result("judge")
    look = None
    if judged is not None and work.built.judge is not None:
        look = partial(work.built.judge.look, judged.params)
    return leakage.Subject(
        scene=_scene(work),
        learned=work.result("attack"),
        key=work.key("attack"),
        targets=targets,
        onlookers=views.Onlookers(
            target=views.looker(work.built.network, work.result("target").params),
            judge=look,
            among=among,
            lineup=_lineup(work, targets, look),
        ),
    )


def _lineup(
    work: Work, targets: leakage.Targets, look: views.LookCloser | None
) -> views.Lineup | None:
    """The candidates, which members with the same targets share."""
    member = work.member
    secrets = targets.rows[: targets.count]
    rows = attacker.candidates(
        member.config, member.dataset.test, member.partition, secrets
    )
    if rows is None:
        return None
    images = member.dataset.test.images[rows]
    places = {row: place for place, row in enumerate(rows)}
    features = None
    if look is not None:
        features = work.once(
            "candidates",
            (member.names["judge"], rows.tobytes()),
            lambda: look(images).features,
        )
    return views.Lineup(images, np.array([places[row] for row in secrets]), features)


def row(work: Work, folder: Path, began: float) -> None:
    """Writes what the member has answers out."""
    member, built = work.member, work.built
    config, trained = member.config, work.result("defense")
    measured, inverted = work.result("measure"), work.result("invert")
    said = built.defense.columns(trained.params, traced_half(config.defense))
    columns = _settings(work) | measured["row"]
    arrays = dict(measured["arrays"])
    history: dict[str, Any] = {}
    for stage in LEARNED:
        if (learned := work.result(stage)) is not None:
            history |= learned.metrics
    if inverted is not None:
        columns |= inverted.row
        arrays |= inverted.arrays
    for stage in LEARNED[:-1]:
        spent = parts.seconds(work.folder(stage)) if stage in member.names else 0.0
        columns[f"seconds_{stage}"] = spent
    columns["mixed_environment"] = " ".join(_mixed(work))
    columns["seconds_total"] = time.time() - began
    outcome = results.Outcome(row=columns, metrics=history, arrays=arrays, columns=said)
    about = {
        "data": member.dataset.source,
        "fingerprint": member.dataset.fingerprint,
        "seed": config.seed,
    }
    results.write(folder, outcome, about, began)


def _mixed(work: Work) -> list[str]:
    """Stages whose part was trained on different processors, versions or settings."""
    stages = [stage for stage in LEARNED if stage in work.member.names]
    return [x for x in stages if len(environment.noted(work.folder(x))) > 1]


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


def _clean(works: Sequence[Work]) -> list[Any]:
    """How each member's defense answers clean images; asked once for all partitions."""
    if works[0].built.defense == works[0].built.plain:
        return [None for _ in works]
    test, asked = works[0].member.dataset.test, {}
    for work in works:
        who = work.result("defense").params, work.key("measure")
        asked[work.folder("defense")] = who
    answered = accuracy.clean_answers(
        works[0].built.defense, list(asked.values()), test.images
    )
    answers = dict(zip(asked, answered, strict=True))
    return [answers[work.folder("defense")] for work in works]


def _secret(works: Sequence[Work]) -> list[Any]:
    """How each member's defense answers its secrets."""
    if works[0].built.defense == works[0].built.plain:
        return [None for _ in works]
    return accuracy.secret_answers(
        works[0].built.defense,
        [(work.result("defense").params, work.key("measure")) for work in works],
        [_pairs(work) for work in works],
        works[0].member.dataset.test.images,
    )


def _undefended(work: Work) -> dict[str, float]:
    """How well the target answers; clean images are asked about once for all
    partitions."""
    member, plain, halves = work.member, work.built.plain, _halves(work)
    who = [(halves, work.key("measure"))]
    clean = work.once(
        "clean answers",
        (work.folder("target"), plain, member.config.seed),
        lambda: accuracy.clean_answers(plain, who, member.dataset.test.images)[0],
    )
    return _accuracies(work, plain, halves, accuracy.Known(clean))


def _accuracies(
    work: Work, defense: Defense, params: Any, known: accuracy.Known
) -> dict[str, float]:
    """How well a defense answers; what is known already is not asked again."""
    member, test = work.member, work.member.dataset.test
    questions = accuracy.Questions(
        images=test.images,
        labels=test.labels,
        pairs=_pairs(work),
        partition=member.partition,
    )
    return accuracy.measure(
        defense,
        params,
        work.key("measure"),
        questions,
        member.config.seed,
        known,
    )


def _scene(work: Work) -> leakage.Scene:
    """Who attacks whom; made once for the stages of a member, since a generator's pairs
    are part of it."""
    name = f"scene of {work.member.names['row']}"
    if name not in work.results:
        work.results[name] = _new_scene(work)
    scene: leakage.Scene = work.results[name]
    return scene


def _public_images(work: Work) -> Split:
    """The attacker's images, on the device."""
    member, section = work.member, work.member.config.attacker
    if section.public == "train":
        images, labels = _training_images(work)
        return Split(images, labels)  # type: ignore[arg-type]  # on the device
    seed, other = member.config.seed, member.public
    data = member.dataset if other is None else other

    def placed() -> Split:
        public = attacker.public_images(section, member.dataset, seed, other)
        return Split(*jax.device_put(tuple(public)))

    return work.once("public images", (data.fingerprint, section, seed), placed)


def _new_scene(work: Work) -> leakage.Scene:
    config, built = work.member.config, work.built
    assert built.attack is not None  # a member that is not attacked has no scene
    params, task = work.result("defense").params, _task(work)
    hides = built.defense.hides
    section = config.attacker
    known = attacker.knowledge(
        task,
        built.stego if hides else None,
        built.defense,
        params,
        _public_images(work),
        built.attack.needs,
    )
    return leakage.Scene(
        attack=built.attack,
        hyper=attacker.hyper(config.attack, config.denoise, section.queries),
        knowledge=known,
        defense=built.defense,
        params=params,
        stego=built.stego if hides else None,
        reading=section.reading,
    )


def _judge_caution(member: Member) -> str:
    """Why no judge looks at the attacker's pictures, where one was wanted."""
    dataset, record = member.dataset, member.config.judge
    if not record.used:
        return ""
    return record.refusal(dataset.train.labels, dataset.class_names)


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
        "judge_caution": _judge_caution(member) if built.attack is not None else "",
        "target_parameters": sum(layer.parameters for layer in layers),
        **results.config_columns(config),
    }
