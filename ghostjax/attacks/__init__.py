"""The cloud's attacks: from the features that crossed the cut back to a picture.

`build_attack` is the table from a config to a value.
"""

from ghostjax import sections
from ghostjax.attacks import denoise, direct, inverse, pairs, probe, rmle, shadow
from ghostjax.attacks.objective import Goal
from ghostjax.attacks.solvers import Choices
from ghostjax.base import Attack
from ghostjax.chain import Chain, describe
from ghostjax.layers import Dropout, MaxPool, Relu, Sigmoid
from ghostjax.train import Recipe


def build_attack(
    config: sections.Config,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    public_count: int,
) -> Attack | None:
    """The attack a config asks for; None where the cloud does not try.

    Args:
      config: its `attack`, `attacker` and `denoise` sections count.
      edge: layers on the device.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      public_count: how many images of his own the attacker has.

    Raises:
      ValueError: a decoder for an edge that enlarges.
    """
    section, queries = config.attack, config.attacker.queries
    if isinstance(section, sections.NoAttack):
        return None
    feature_shape = describe(edge, image_shape)[-1].shape
    shapes = feature_shape, image_shape
    if isinstance(section, sections.Inverse):
        settings = _decoder_settings(section, public_count)
        rate = section.learning_rate
        attack = inverse.inverse(*shapes, settings, learning_rate=rate)
    elif isinstance(section, sections.Direct):
        settings = _decoder_settings(section, public_count)
        rate = section.learning_rate
        attack = direct.direct(*shapes, settings, learning_rate=rate)
    elif isinstance(section, sections.Shadow):
        attack = _shadow(section, queries, edge, cloud, *shapes, public_count)
    else:
        attack = _rmle(section, queries, edge, image_shape)
    if isinstance(config.denoise, sections.NoDenoise):
        return attack
    section = config.denoise
    images = min(section.images, public_count)
    recipe = _recipe(section, images)
    settings = denoise.Settings(recipe, section.batch_size, images, section.pairs)
    rate = section.learning_rate
    return denoise.denoise(attack, image_shape, settings, learning_rate=rate)


def build_probe(
    config: sections.Config,
    edge: Chain,
    image_shape: tuple[int, int, int],
    classes: int,
    public_count: int,
) -> probe.Probe | None:
    """The class probe beside the attack `direct`; None beside the others."""
    section = config.attack
    if not isinstance(section, sections.Direct):
        return None
    return probe.probe(
        describe(edge, image_shape)[-1].shape,
        image_shape,
        classes,
        _decoder_settings(section, public_count),
        learning_rate=section.probe_rate,
    )


def _recipe(
    section: sections.Inverse | sections.Direct | sections.Denoise, images: int
) -> Recipe:
    """`section.epochs` passes over so many images."""
    steps = -(-section.epochs * images // section.batch_size)
    return Recipe(steps, section.optimizer, section.schedule)


def _decoder_settings(
    section: sections.Inverse | sections.Direct, public_count: int
) -> pairs.Settings:
    recipe = _recipe(section, public_count)
    return pairs.Settings(recipe, section.batch_size, section.width)


def _shadow(
    section: sections.Shadow,
    queries: int,
    edge: Chain,
    cloud: Chain,
    feature_shape: tuple[int, ...],
    image_shape: tuple[int, int, int],
    public_count: int,
) -> Attack:
    layers = edge
    if section.architecture == "other":
        layers = shadow.other(image_shape, feature_shape, _never_negative(edge))
    if section.decoder:
        own = sections.Inverse()
        settings = _decoder_settings(own, public_count)
        rate = own.learning_rate
        inner = inverse.inverse(
            feature_shape, image_shape, settings, learning_rate=rate
        )
    else:
        inner = _rmle(section, queries, layers, image_shape)
    steps = -(-section.epochs * public_count // section.batch_size)
    recipe = Recipe(steps, section.train_optimizer, section.train_schedule)
    settings = shadow.Settings(recipe, section.batch_size)
    rate = section.train_rate
    return shadow.shadow(
        layers, cloud, image_shape, inner, settings, learning_rate=rate
    )


def _never_negative(edge: Chain) -> bool:
    """Whether what the edge sends is at least 0, as the cloud sees from it."""
    kinds = [type(layer) for _, layer in edge]
    while kinds and kinds[-1] in (MaxPool, Dropout):
        kinds.pop()
    return bool(kinds) and kinds[-1] in (Relu, Sigmoid)


def _rmle(
    section: sections.Rmle,
    queries: int,
    edge: Chain,
    image_shape: tuple[int, int, int],
) -> Attack:
    """rMLE on an edge; `queries` of one image are averaged before."""
    goal = Goal(
        section.distance,
        section.total_variation,
        section.tv_beta,
        section.unfold and not section.noise,
        section.known_zeros,
    )
    settings = rmle.Settings(
        section.solver,
        section.steps,
        section.start,
        section.tolerance,
        section.keep,
        section.box,
        goal,
        Choices(section.optimizer, section.epsilon, section.cg_steps),
    )
    return rmle.rmle(
        edge,
        image_shape,
        settings,
        learning_rate=section.learning_rate,
        tv_weight=section.tv_weight,
        noise=section.noise / queries**0.5,
    )
