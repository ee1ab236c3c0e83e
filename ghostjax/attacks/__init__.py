"""The cloud's attacks: from the features that crossed the cut back to a picture.

`build_attack` is the table from a config to a value.
"""

from ghostjax import sections
from ghostjax.attacks import rmle
from ghostjax.attacks.objective import Goal
from ghostjax.attacks.solvers import Choices
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
    return _rmle(section, config.attacker.queries, edge, image_shape)


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
