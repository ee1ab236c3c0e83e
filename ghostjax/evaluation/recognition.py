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

import numpy as np

from ghostjax.evaluation.intervals import Share

__all__ = [
    "NOTHING",
    "NoShare",
    "candidates",
    "cosines",
    "labels_read",
    "recognised",
    "reidentified",
]

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
    labels: np.ndarray, sensitive: tuple[int, ...], secrets: np.ndarray, number: int = 0
) -> np.ndarray:
    """The rows of a test split among which secrets are looked for, int [N].

    Args:
      labels: int [images], of the split.
      sensitive: the sensitive labels; all images that have one are candidates.
      secrets: rows of the secrets that are attacked; they come first.
      number: N, of which the secrets are a part; 0: as many as there are.

    Raises:
      NoShare: there are fewer images than candidates, or more secrets.
    """
    rows = np.flatnonzero(np.isin(labels, sensitive))
    others = rows[~np.isin(rows, secrets)]
    there = np.concatenate([np.unique(secrets), others])
    number = number or len(there)
    if not max(2, len(np.unique(secrets))) <= number <= len(there):
        raise NoShare(
            f"{number} candidates for {len(np.unique(secrets))} secrets: the test "
            f"split has {len(there)} images of sensitive labels; take at most so many, "
            "and no fewer than secrets"
        )
    return there[:number]


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
