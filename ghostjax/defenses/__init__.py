"""What the edge does to a sensitive image before its features cross the cut.

`build_defense` is the table from a config section to a value.
"""

from ghostjax import sections
from ghostjax.base import Defense, Stego
from ghostjax.chain import Chain
from ghostjax.defenses import (
    arden,
    dropout,
    ghost,
    ghost_plus,
    hide,
    noise,
    plain,
    shredder,
)
from ghostjax.train import Recipe


def build_defense(
    section: sections.Plain
    | sections.Hide
    | sections.Noise
    | sections.Dropout
    | sections.Ghost
    | sections.GhostPlus
    | sections.Arden
    | sections.Shredder,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
) -> Defense:
    """The defense a config asks for."""
    match section:
        case sections.Plain():
            return plain.plain(edge, cloud)
        case sections.Hide():
            return hide.hide(edge, cloud, stego)
        case sections.Noise(level=level, distribution=distribution, place=place):
            return noise.noise(
                edge, cloud, level=level, distribution=distribution, place=place
            )
        case sections.Dropout(rate=rate, place=place, rescale=rescale):
            return dropout.dropout(edge, cloud, rate=rate, place=place, rescale=rescale)
        case sections.GhostPlus():
            return _ghost_plus(section, edge, cloud, image_shape, stego)
        case sections.Arden():
            return _arden(section, edge, cloud, image_shape)
        case sections.Shredder():
            return _shredder(section, edge, cloud, image_shape)
    settings = ghost.Settings(
        Recipe(section.steps, section.optimizer, section.schedule),
        section.batch_size,
        section.public_batch_size,
        section.covers_per_secret,
        section.cover_candidates,
        section.covert_filters,
    )
    return ghost.ghost(
        edge,
        cloud,
        image_shape,
        stego,
        settings,
        learning_rate=section.learning_rate,
        weight=section.weight,
    )


def _ghost_plus(
    section: sections.GhostPlus,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
) -> Defense:
    settings = ghost_plus.Settings(
        Recipe(section.steps, section.optimizer, section.schedule),
        section.batch_size,
        section.width,
        section.adversarial,
        section.balance,
        section.warm_up,
        section.sees,
        section.generators,
        section.cover_candidates,
    )
    return ghost_plus.ghost_plus(
        edge,
        cloud,
        image_shape,
        stego,
        settings,
        learning_rate=section.learning_rate,
        max_perturbation=section.max_perturbation,
    )


def _arden(
    section: sections.Arden,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
) -> Defense:
    recipe = Recipe(section.steps, section.optimizer, section.schedule)
    return arden.arden(
        edge,
        cloud,
        image_shape,
        arden.Settings(recipe, section.batch_size, section.noise_layer),
        nullified=section.nullified,
        scale=section.scale,
        bound=section.bound,
        clean_weight=section.clean_weight,
        adversarial_step=section.adversarial_step,
        learning_rate=section.learning_rate,
    )


def _shredder(
    section: sections.Shredder,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
) -> Defense:
    recipe = Recipe(section.steps, section.optimizer, section.schedule)
    return shredder.shredder(
        edge,
        cloud,
        image_shape,
        shredder.Settings(
            recipe, section.batch_size, section.members, section.sampling
        ),
        initial_scale=section.initial_scale,
        noise_weight=section.noise_weight,
        inverse_snr=section.inverse_snr,
        decay=section.decay,
        learning_rate=section.learning_rate,
    )
