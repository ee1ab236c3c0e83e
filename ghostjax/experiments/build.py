"""What the records of a member stand for: looked up, put together, refused.

Everything that cannot work is refused here, before a file is written.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ghostjax import registry
from ghostjax.base import Attack, Context, Cut, Defense, Stego
from ghostjax.config.sections import Config, OwnTarget, TargetRecord
from ghostjax.defenses.plain import Send
from ghostjax.defenses.records import Plain
from ghostjax.evaluation.judge import Judge, judge_of
from ghostjax.experiments import attacker
from ghostjax.experiments.plan import Member
from ghostjax.models import chain, zoo
from ghostjax.models.chain import Chain
from ghostjax.own import comes_trained, network_of
from ghostjax.records import DefenseRecord
from ghostjax.training.classifier import classifier

__all__ = ["Built", "build"]


class Built(NamedTuple):
    """What a member's record stands for; nothing trained."""

    network: Chain
    cut: Cut
    fit_target: Callable[..., Any]
    stego: Stego
    defense: Defense
    plain: Defense
    attack: Attack | None  # with its denoiser; None where the cloud does not try
    judge: Judge | None  # of the attacker's pictures; None where there is none


def build(member: Member) -> Built:
    """Looks everything up and refuses what cannot work.

    Raises:
      ValueError: unknown network or layer; shapes that do not fit; batches larger than
        the data; targets or candidates that cannot be; members that are not what their
        records say.
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
    try:
        cut = Cut(*chain.cut(layers, config.defense.cut), shape)
    except ValueError as error:
        raise ValueError(f"defense.cut: {error}") from error
    public = attacker.public_images(
        config.attacker, dataset, config.seed, member.public
    )
    context = Context(train_count=count, public_count=len(public.labels))
    stego = registry.build(config.stego, shape, context)
    hiding_context = context._replace(stego=stego if config.defense.hides else None)
    attack = registry.build(config.attack, cut, context)
    if attack is not None:
        if config.defense.hides:
            stego.reader(config.attacker.reading)  # or it has none of that name
        beneath = context._replace(inner=attack)
        if "stego_params" in config.denoise.needs:  # else it does not depend on these
            reading = config.attacker.reading
            beneath = beneath._replace(stego=stego, reading=reading)
        attack = registry.build(config.denoise, cut, beneath)
    if attack is not None:
        _require_known(config, attack.needs)
        attacker.require_candidates(config, dataset.test, member.partition)
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
        judge=_judge_of(member),
    )


def _judge_of(member: Member) -> Judge | None:
    if "judge" not in member.names:
        return None
    return judge_of(member.config.judge, member.dataset)


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
