"""What the edge does to a sensitive image before its features cross the cut.

`build_defense` is the table from a config section to a value.
"""

from ghostjax import config
from ghostjax.base import Defense, Stego
from ghostjax.chain import Chain
from ghostjax.defenses import ghost, plain
from ghostjax.train import Recipe


def build_defense(
    section: config.Plain | config.Ghost,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
) -> Defense:
    """The defense a config asks for."""
    if isinstance(section, config.Plain):
        return plain.plain(edge, cloud)
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
