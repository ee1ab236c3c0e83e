"""The cloud's attacks: from the features that crossed the cut back to a picture.

`build_attack` is the table from a config section to a value.
"""

from ghostjax import config
from ghostjax.attacks import rmle
from ghostjax.base import Attack
from ghostjax.chain import Chain


def build_attack(
    section: config.Rmle | config.NoAttack,
    edge: Chain,
    image_shape: tuple[int, int, int],
) -> Attack | None:
    """The attack a config asks for; None where the cloud does not try."""
    if isinstance(section, config.NoAttack):
        return None
    settings = rmle.Settings(
        section.steps,
        section.optimizer,
        section.epsilon,
        section.distance,
        section.total_variation,
        section.tv_beta,
        section.box,
    )
    return rmle.rmle(
        edge,
        image_shape,
        settings,
        learning_rate=section.learning_rate,
        tv_weight=section.tv_weight,
    )
