"""No defense: the features of the image itself cross the cut.

The baseline every defense is measured against. `params` hold the target's halves under
"edge" and "cloud"; other defenses that change nothing in what the edge sends, or in how
the cloud answers, use the two below, so that they share programs.
"""

from dataclasses import dataclass
from typing import Any

from ghostjax.base import Context, Cut, Defense, Features, Images, Key, Logits, Task
from ghostjax.defenses.records import Plain
from ghostjax.fields import Hyper
from ghostjax.models.chain import Chain, apply
from ghostjax.training.fit import Fit

__all__ = ["Answer", "Send", "halves", "keep", "plain"]


def plain(cut: Cut, record: Plain, context: Context) -> Defense:
    """The target network as it is, cut in two; see `base.Defense`."""
    return Defense("plain", keep, Send(cut.edge), Answer(cut.cloud))


def keep(key: Key, hyper: Hyper, task: Task) -> Fit:
    """A `fit` that takes the target's own halves."""
    yield from ()
    return halves(task)


def halves(task: Task) -> dict[str, Any]:
    """The target's variables as params."""
    return {"edge": task.edge_variables, "cloud": task.cloud_variables}


@dataclass(frozen=True)
class Send:
    """The edge as it is, of `params["edge"]`; equal for the same layers."""

    edge: Chain

    def __call__(self, params: Any, key: Key | None, images: Images) -> Features:
        return apply(self.edge, params["edge"], images)


@dataclass(frozen=True)
class Answer:
    """The cloud as it is, of `params["cloud"]`; equal for the same layers."""

    cloud: Chain

    def __call__(self, params: Any, features: Features) -> Logits:
        return apply(self.cloud, params["cloud"], features)
