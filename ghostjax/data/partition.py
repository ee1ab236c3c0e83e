"""Which labels are sensitive, and with them which images are secrets or covers.

GHOST's gamma = n_s : n_c divides the *labels* (Section VIII.A): at 1:9 a tenth of them
is sensitive. Images with a sensitive label are secrets, the others may serve as covers.
"""

import operator
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["Partition", "Roles", "partition", "roles"]


class Partition(NamedTuple):
    """The labels of a data set in two parts, each ascending, neither empty."""

    sensitive: tuple[int, ...]
    public: tuple[int, ...]


class Roles(NamedTuple):
    """The images of one split by what they may be used for; rows of the split."""

    covers: np.ndarray  # int32 [n], ascending; images with a public label
    secrets: np.ndarray  # int32 [m], ascending; images with a sensitive label


def partition(
    classes: int,
    share: str | float,
    *,
    seed: int,
    sensitive: Sequence[int] | None = None,
) -> Partition:
    """Divides labels 0 to classes - 1 into sensitive and public ones.

    Args:
      classes: how many labels there are, at least 2.
      share: gamma as "n_s:n_c", such as "1:9"; or the sensitive share of the labels, a
        number between 0 and 1. round(share * classes) labels are sensitive, halves to
        the even number.
      seed: draws which labels they are; 0 or more.
      sensitive: the sensitive labels by number. They take the place of both `share` and
        `seed`; None or empty: draw.

    Returns:
      The partition.

    Guarantees:
      It depends on the arguments alone. With one seed, the sensitive labels of a larger
      share include those of a smaller one.

    Raises:
      ValueError: `share` is malformed or leaves one part empty; a named label is out of
        range, named twice, or the last public one.
    """
    if sensitive is not None and len(sensitive) > 0:
        chosen = _named(classes, sensitive)
    else:
        count = _count(classes, share)
        chosen = list(_order(classes, seed)[:count])
    public = sorted(set(range(classes)) - set(chosen))
    return Partition(tuple(sorted(chosen)), tuple(public))


def roles(labels: np.ndarray, partition: Partition) -> Roles:
    """Finds the covers and the secrets of a split.

    Args:
      labels: integers [N], the split's labels.
      partition: of all the labels.

    Returns:
      Roles; every image is in exactly one of the two.

    Raises:
      ValueError: a label is in neither part, or a part has no image.
    """
    labels = np.asarray(labels)
    secret = np.isin(labels, partition.sensitive)
    cover = np.isin(labels, partition.public)
    if not (secret | cover).all():
        strange = labels[~(secret | cover)][0]
        raise ValueError(
            f"label {strange} is neither sensitive nor public: make the partition for "
            "the data's own number of classes"
        )
    parts = Roles(*(np.flatnonzero(part).astype(np.int32) for part in (cover, secret)))
    for kind, rows in (("public", parts.covers), ("sensitive", parts.secrets)):
        if not rows.size:
            part = getattr(partition, kind)
            raise ValueError(
                f"none of the {labels.size} images has a {kind} label {part}: take "
                "other labels or more data"
            )
    return parts


@lru_cache(maxsize=1024)  # members of a sweep share seeds
def _order(classes: int, seed: int) -> tuple[int, ...]:
    """All labels, in the order in which they become sensitive."""
    return tuple(np.random.default_rng(seed).permutation(classes).tolist())


def _named(classes: int, sensitive: Sequence[int]) -> list[int]:
    chosen = [operator.index(label) for label in sensitive]
    outside = [label for label in chosen if not 0 <= label < classes]
    if outside:
        raise ValueError(
            f"sensitive label {outside[0]} does not exist: labels go from 0 to "
            f"{classes - 1}"
        )
    double = [label for label in chosen if chosen.count(label) > 1]
    if double:
        raise ValueError(f"sensitive label {double[0]} is named twice: name it once")
    if len(chosen) == classes:
        raise ValueError(
            f"all {classes} labels are named sensitive: leave at least one public"
        )
    return chosen


def _count(classes: int, share: str | float) -> int:
    """round(share * classes), checked."""
    part = _share(share)
    count = round(part * classes)
    if not 0 < count < classes:
        kind = "sensitive" if count < 1 else "public"
        raise ValueError(
            f"gamma {share!r} of {classes} labels leaves no {kind} label: take a share "
            f"between {1 / classes:.3g} and {1 - 1 / classes:.3g}, or name the labels"
        )
    return count


def _share(share: str | float) -> float:
    if isinstance(share, str):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", share)
        if match and (total := sum(map(int, match.groups()))):
            return int(match[1]) / total
    elif not isinstance(share, bool) and 0 <= share <= 1:
        return float(share)
    raise ValueError(
        f"gamma {share!r} is not understood: write sensitive to public labels, such as "
        "'1:9', or a share between 0 and 1"
    )
