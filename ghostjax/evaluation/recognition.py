"""What an attacker's pictures show: labels that are read, and secrets that are found.

Recognition: the label that a network reads in a picture of the attacker's is the
secret's. Chance is an answer that looks at nothing, the commonest label among the
secrets. Re-identification: of N candidates the secret is the one that the picture
resembles most. Chance is 1 / N.

A share says little where one picture of many shows its secret, so that those that are
clear are counted too: they are right, and resemble their secret more than any picture
that is wrong resembles any candidate. If pictures show nothing, each candidate is as
likely to be the nearest one as any other: the picture that resembles one most of all is
right with probability 1 / N, and the first k are with N^-k.

NaN in a picture counts as not recognised. On the host, in NumPy.
"""

from collections.abc import Sequence

import numpy as np

from ghostjax.evaluation.intervals import Share

__all__ = [
    "MOST",
    "NOTHING",
    "NoShare",
    "candidates",
    "cosines",
    "labels_read",
    "recognised",
    "reidentified",
    "require_candidates",
]

MOST = 500  # candidates, where their number is not stated
NOTHING = -1  # stands for the label of a picture in which none is read


class NoShare(ValueError):
    """Too few pictures, candidates or labels for a share of them."""


def labels_read(
    logits: np.ndarray, among: np.ndarray | tuple[int, ...] = ()
) -> np.ndarray:
    """The label of the largest logit, int32 [B]; `NOTHING` where one is NaN.

    Args:
      logits: [B, classes].
      among: the labels that come into question, of an attacker who knows which are
        sensitive; empty: all.
    """
    logits = np.asarray(logits)
    labels = np.asarray(among if len(among) else range(logits.shape[1]), np.int32)
    spoilt = np.isnan(logits).any(1)
    best = np.where(spoilt[:, None], 0, logits)[:, labels].argmax(1)
    return np.where(spoilt, NOTHING, labels[best])


def recognised(labels: np.ndarray, secret_labels: np.ndarray) -> Share:
    """The share of pictures in which the secret's label is read.

    Args:
      labels: int [B], what is read; `NOTHING` is never right.
      secret_labels: int [B].

    Raises:
      NoShare: no pictures, or not as many labels as secrets.
    """
    read, wanted = np.asarray(labels), np.asarray(secret_labels)
    if read.ndim != 1 or read.shape != wanted.shape or not read.size:
        raise NoShare(
            f"labels read {read.shape} and labels of secrets {wanted.shape}: give both "
            "of the same pictures, at least one"
        )
    commonest = np.unique(wanted, return_counts=True)[1].max()
    chance = 100 * float(commonest) / len(wanted)
    right = (read == wanted) & (read != NOTHING)
    return Share(count=int(right.sum()), n=len(wanted), chance=chance)


def candidates(
    labels: np.ndarray, among: Sequence[int], secrets: np.ndarray, number: int = 0
) -> np.ndarray:
    """The rows of a test split among which secrets are looked for, int [N], sorted but
    that those of the secrets come first.

    Args:
      labels: int [images], of the split.
      among: the labels that come into question; images that have one are candidates.
      secrets: rows of the secrets that are attacked.
      number: N, of which the secrets are a part; 0: as many as there are, but at most
        `MOST` unless there are more secrets.

    Raises:
      NoShare: there are fewer images than candidates, or more secrets.
    """
    first = np.unique(secrets)
    rows = np.flatnonzero(np.isin(labels, among))
    there = np.concatenate([first, np.setdiff1d(rows, first)])
    number = number or min(len(there), max(MOST, len(first)))
    require_candidates(number, len(first), len(there))
    return there[:number]


def require_candidates(number: int, secrets: int, there: int) -> None:
    """Refuses a number of candidates.

    Args:
      number: wanted.
      secrets: that are looked for, which are candidates themselves.
      there: images that could be candidates.

    Raises:
      NoShare: there are fewer, there are more secrets, or it is one alone.
    """
    if not max(2, secrets) <= number <= there:
        raise NoShare(
            f"{number} candidates for {secrets} secrets: the test split has {there} "
            "images of their labels; take at most so many, no fewer than secrets, and "
            "2 at least"
        )


def reidentified(alike: np.ndarray, places: np.ndarray) -> Share:
    """The share of pictures that resemble their secret most of all candidates.

    Where several candidates are the most alike, the picture counts in part, so that
    pictures that are all the same get exactly what chance gives.

    Args:
      alike: float [B, N], how much each picture resembles each candidate, such as
        `metrics.ssim_pairs` or `cosines`; NaN is less than anything.
      places: int [B], which candidate is the secret.

    Raises:
      NoShare: no pictures, fewer than two candidates, or a place that is none.
    """
    alike, places = np.asarray(alike, np.float64), np.asarray(places)
    if alike.ndim != 2 or len(alike) < 1 or alike.shape[1] < 2:
        raise NoShare(
            f"likeness of shape {alike.shape}: expected [pictures, candidates], at "
            "least one picture and two candidates"
        )
    count, number = alike.shape
    if places.shape != (count,) or places.min() < 0 or places.max() >= number:
        raise NoShare(
            f"places of {places.shape[0]} secrets for {count} pictures and {number} "
            f"candidates: give each picture one in 0..{number - 1}"
        )
    alike = np.where(np.isnan(alike), -np.inf, alike)
    best = alike.max(1)
    hits = np.isfinite(best) & (alike[np.arange(count), places] == best)
    ties = (alike == best[:, None]).sum(1)
    clear = hits & (ties == 1) & (best > best[~hits | (ties > 1)].max(initial=-np.inf))
    return Share(
        count=float((hits / ties).sum()),
        n=count,
        chance=100 / number,
        clear=int(clear.sum()),
    )


def cosines(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much pictures resemble candidates by a judge's features, [B, N]: the cosine
    of the angle between them; 0 where one is all 0, NaN where one has a NaN.

    Of the embedded default's 73 low-bit pictures it finds 29, where distances find 12.

    Args:
      features: of pictures, [B, D].
      others: of candidates, [N, D].
    """
    return _directions(features) @ _directions(others).T


def _directions(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)
