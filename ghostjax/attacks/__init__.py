"""The cloud's attacks: from the features that crossed the cut back to a picture.

`build_attack` is the table from a config to a value.
"""

from ghostjax import sections
from ghostjax.attacks import rmle
from ghostjax.base import Attack, Stego
from ghostjax.chain import Chain


def build_attack(
    config: sections.Config,
    edge: Chain,
    cloud: Chain,
    image_shape: tuple[int, int, int],
    stego: Stego,
    public_count: int,
) -> Attack | None:
    """The attack a config asks for; None where the cloud does not try.

    Args:
      config: its `attack`, `attacker` and `denoise` sections count.
      edge: layers on the device.
      cloud: the layers behind the cut.
      image_shape: [H, W, C].
      stego: the hiding method, which an attacker may know.
      public_count: how many images of his own the attacker has.
    """
    section = config.attack
    if isinstance(section, sections.NoAttack):
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
