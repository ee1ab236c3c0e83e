"""Hide only: secrets are hidden in covers and nothing is retrained.

The network answers for what it sees, the cover. What it says of the secret is what
GHOST's retraining and GHOST+'s perturbation start from, and their control.
"""

from collections.abc import Callable
from typing import Any

from ghostjax.base import (
    Context,
    Cut,
    Defense,
    Images,
    Key,
    Stego,
    Task,
    require_stego,
)
from ghostjax.defenses import plain
from ghostjax.defenses.records import Hide
from ghostjax.fields import Hyper
from ghostjax.training.fit import Fit

__all__ = ["hide", "in_covers"]


def hide(cut: Cut, record: Hide, context: Context) -> Defense:
    """The target network as it is, shown stegos.

    Args:
      cut: the network.
      record: no hyper-parameters.
      context: `stego`, how secrets are hidden; what it learned is the task's.

    Returns:
      A Defense with params {"edge", "cloud", "stego"}.

    Raises:
      ValueError: no stego method.
    """

    def fit(key: Key, hyper: Hyper, task: Task) -> Fit:
        yield from ()
        return {**plain.halves(task), "stego": task.stego}

    return Defense(
        "hide",
        fit,
        plain.Send(cut.edge),
        plain.Answer(cut.cloud),
        hide=in_covers(require_stego(context)),
    )


def in_covers(stego: Stego) -> Callable[[Any, Images, Images], Images]:
    """`hide` of a defense whose params hold what the stego method learned."""

    def hide_in(params: Any, covers: Images, secrets: Images) -> Images:
        return stego.hide(params["stego"], covers, secrets)

    return hide_in
