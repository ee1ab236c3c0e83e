"""What is seen in an attacker's pictures, and by whom, as columns of a row.

The target network and the judge read labels in them; the judge's features and SSIM say
which of many candidates a picture resembles most. What is counted is `recognition`'s.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ghostjax.base import Images
from ghostjax.evaluation import metrics, recognition
from ghostjax.evaluation.answers import batches
from ghostjax.evaluation.intervals import Share
from ghostjax.evaluation.judge import Seen
from ghostjax.models import chain
from ghostjax.models.chain import Chain, Variables

__all__ = [
    "ATTACKED",
    "Lineup",
    "Look",
    "LookCloser",
    "Onlookers",
    "columns",
    "looker",
]

ATTACKED = ("reconstruction", "extracted", "extracted_before")
"""The pictures that an attacker may end with."""
_LOOKED_AT = 100  # images in one call

Look = Callable[[np.ndarray], np.ndarray]  # images [B, H, W, C] -> logits [B, classes]
LookCloser = Callable[[np.ndarray], Seen]  # and features


class Lineup(NamedTuple):
    """The pictures among which each secret is looked for."""

    images: np.ndarray  # uint8 [N, H, W, C]
    places: np.ndarray  # int [n], which of them each secret is
    features: np.ndarray | None  # float32 [N, D], the judge's; None: there is none


class Onlookers(NamedTuple):
    """Who looks at the pictures of one subject, and for whom."""

    target: Look
    judge: LookCloser | None  # None: there is none
    among: tuple[int, ...]  # labels that come into question; all that are attacked
    lineup: Lineup | None  # None: there are no two candidates


def looker(network: Chain, variables: Variables) -> Look:
    """The logits of a network for pictures, in batches of a fixed number; NaN where a
    picture has a NaN."""

    def look(images: np.ndarray) -> np.ndarray:
        seen = []
        for part in batches(len(images), _LOOKED_AT):
            some = images[part.start + part.rows - part.rows[0]]
            logits = np.asarray(_logits(network, variables, some))[: part.count]
            seen.append(logits)
        return np.concatenate(seen)

    return look


@partial(jax.jit, static_argnums=0)
def _logits(network: Chain, variables: Variables, images: Images) -> Array:
    images = jax.numpy.clip(images, 0, 1)
    logits = chain.apply(network, variables, images)
    spoilt = jax.numpy.isnan(images).any((1, 2, 3))[:, None]
    return jax.numpy.where(spoilt, jax.numpy.nan, logits)


def columns(
    pictures: Mapping[str, Any], labels: np.ndarray, onlookers: Onlookers
) -> dict[str, Any]:
    """The columns of all pictures that are the attacker's.

    Args:
      pictures: name -> [n, H, W, C], cut to [0, 1]; those named in `ATTACKED` are
        looked at.
      labels: int [n], of the secrets.
      onlookers: who looks.

    Returns:
      recognised_<picture>_<by>, in percent of n, by the target and the judge; with
      `_known` where the reader knows which labels come into question, unless all do.
      reidentified_<picture>_<by>, by the judge's features and by SSIM, and `_clear`,
      how many of these stand out. `recognised` is the largest of the judge's shares:
      a target network reads what a defense makes it read, so that its shares count
      only where there is no judge. `reidentified` is the largest of all,
      `recognised_chance` what the commonest label would get, and `candidates` is N.
    """
    row: dict[str, Any] = {}
    shares: dict[str, Share] = {}
    for name in ATTACKED:
        if name in pictures:
            shown = np.clip(np.asarray(pictures[name], np.float32), 0, 1)
            shares |= _shares(name, shown, labels, onlookers)
    for kind in ("recognised", "reidentified"):
        some = {k: share for k, share in shares.items() if k.startswith(kind)}
        if some:
            judged = [share for k, share in some.items() if "_judge" in k]
            counted = some.values() if kind == "reidentified" else judged
            best = max(counted or some.values(), key=lambda share: share.percent)
            row |= _share(kind, best)
            for name, share in some.items():
                row |= _share(name, share)
    row |= {
        f"{name}_clear": share.clear
        for name, share in shares.items()
        if name.startswith("reidentified")
    }
    row["recognised_chance"] = recognition.recognised(labels, labels).chance
    if onlookers.lineup is not None:
        row["candidates"] = len(onlookers.lineup.images)
    return row


def _shares(
    name: str, shown: np.ndarray, labels: np.ndarray, onlookers: Onlookers
) -> dict[str, Share]:
    """Column -> share, of one kind of pictures."""
    shares: dict[str, Share] = {}
    logits = {"target": onlookers.target(shown)}
    seen = None if onlookers.judge is None else onlookers.judge(shown)
    if seen is not None:
        logits["judge"] = seen.logits
    for by, seen_by in logits.items():
        column = f"recognised_{name}_{by}"
        read = recognition.labels_read(seen_by)
        shares[column] = recognition.recognised(read, labels)
        if len(onlookers.among) < seen_by.shape[1]:
            read = recognition.labels_read(seen_by, onlookers.among)
            shares[f"{column}_known"] = recognition.recognised(read, labels)
    lineup = onlookers.lineup
    if lineup is None:
        return shares
    alike = {"ssim": metrics.ssim_pairs(shown, lineup.images / np.float32(255))}
    if seen is not None and lineup.features is not None:
        alike["judge"] = recognition.cosines(seen.features, lineup.features)
    for by, likeness in alike.items():
        share = recognition.reidentified(likeness, lineup.places)
        shares[f"reidentified_{name}_{by}"] = share
    return shares


def _share(name: str, share: Share) -> dict[str, Any]:
    return {name: share.percent, f"{name}_n": share.n}
