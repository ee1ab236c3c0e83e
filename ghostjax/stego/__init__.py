"""Hiding one picture in another.

`build_stego` is the table from a config section to a value.
"""

from ghostjax import sections
from ghostjax.base import Stego
from ghostjax.stego import lsb, nns, pairs
from ghostjax.train import Recipe

# The modules keep their names (`stego.lsb.hide_bits`); the factory is `stego.lsb.lsb`.
choose_covers = pairs.choose_covers
draw_pairs = pairs.draw
least_overlap = pairs.least_overlap

__all__ = [
    "build_stego",
    "choose_covers",
    "draw_pairs",
    "least_overlap",
    "lsb",
    "nns",
    "pairs",
]


def build_stego(
    section: sections.Lsb | sections.Nns,
    image_shape: tuple[int, int, int],
    count: int,
) -> Stego:
    """The stego method a config asks for.

    Args:
      section: the method.
      image_shape: [H, W, C].
      count: how many images it can be trained on.
    """
    if isinstance(section, sections.Lsb):
        return lsb.lsb(section.bits)
    steps = -(-section.epochs * count // section.batch_size)
    recipe = Recipe(steps, section.optimizer, section.schedule)
    settings = nns.Settings(
        recipe, section.network, section.distance, section.batch_size
    )
    return nns.nns(
        image_shape,
        settings,
        learning_rate=section.learning_rate,
        beta=section.beta,
        beta_start=section.beta_start or None,
    )
