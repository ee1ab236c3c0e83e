"""What an attacker has got, out of the columns of a row. Imports no jax.

Its pictures are compared with the secrets (PSNR, SSIM), and looked at by the target
network and by a judge, who read labels in them or pick the secret out of candidates.
The columns are those of `evaluation.leakage` and `evaluation.views`; any may be
missing, and then nothing is said of it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ghostjax.evaluation.baselines import BASELINES, ORACLES
from ghostjax.evaluation.intervals import Share
from ghostjax.evaluation.rows import Row, count, number
from ghostjax.evaluation.verdict import Quality, Reading, verdict

__all__ = [
    "ATTACKED",
    "BEFORE",
    "EXTRACTED",
    "Way",
    "astray",
    "blind",
    "diverged",
    "qualities",
    "readings",
    "recognised",
    "reidentified",
    "said",
    "ways",
]

EXTRACTED = "the secret read out of the reconstruction"
BEFORE = f"{EXTRACTED} before it was denoised"
ATTACKED = {
    "reconstruction": "the reconstruction",
    "extracted": EXTRACTED,
    "extracted_before": BEFORE,
}
"""The pictures that an attacker may end with, and what they are."""
_MANY = {
    "reconstruction": "reconstructions",
    "extracted": "secrets read out",
    "extracted_before": "secrets read out before denoising",
}
_READERS = {
    "judge": "the judge",
    "judge_known": "the judge, told which labels are sensitive",
    "target": "the target network",
    "target_known": "the target network, told which labels are sensitive",
}
_KINDS = {"judge": "recognition", "target": "recognition by the target"}
_FINDERS = {"judge": "the judge's features", "ssim": "SSIM"}
_SCORES = {"psnr": ("PSNR", ".1f", "dB"), "ssim": ("SSIM", ".3f", "")}


class Way(NamedTuple):
    """What an attacker has of the secrets, on average, and which pictures these are."""

    ssim: float | None
    psnr: float | None
    words: str


def ways(row: Row) -> list[Way]:
    """The attacker's ways to the secret that the row has, the best, by SSIM, first."""
    measured = []
    for name, words in ATTACKED.items():
        likeness = number(row, f"ssim_{name}_secret_mean")
        decibels = number(row, f"psnr_{name}_secret_mean")
        if decibels is not None or likeness is not None:
            measured.append(Way(likeness, decibels, words))
    return sorted(measured, key=_rank, reverse=True)


def blind(row: Row, score: str) -> float | None:
    """The best mean score of a picture that needs neither features nor the class."""
    scores = (
        number(row, f"{score}_{name}_secret_mean")
        for name in BASELINES
        if name not in ORACLES
    )
    return max((x for x in scores if x is not None), default=None)


def readings(row: Row) -> list[Reading]:
    """Every share of pictures that is in the row, with its chance."""
    return [reading for _, reading in _named(row)]


def _named(row: Row) -> Iterator[tuple[str, Reading]]:
    """(column, reading)."""
    chance, among = number(row, "recognised_chance"), number(row, "candidates")
    for name, pictures in _MANY.items():
        for by, words in _READERS.items():
            column = f"recognised_{name}_{by}"
            if chance is not None and (share := _share(row, column, chance)):
                said_of = f"{pictures} are recognised by {words}"
                yield column, Reading(_KINDS[by.partition("_")[0]], said_of, share)
        for by, words in _FINDERS.items():
            column = f"reidentified_{name}_{by}"
            if among and (share := _share(row, column, 100 / among)):
                said_of = f"{pictures} are re-identified by {words} among {among:,.0f}"
                yield column, Reading("re-identification", said_of, share)


def _share(row: Row, column: str, chance: float) -> Share | None:
    percent, images = number(row, column), count(row, column)
    if percent is None or not images:
        return None
    clear = int(number(row, f"{column}_clear") or 0)
    return Share(percent * images / 100, images, chance, clear)


def qualities(row: Row) -> list[Quality]:
    """PSNR and SSIM of all its pictures against the secrets, beside what needs neither
    features nor class."""
    known = []
    several = sum(number(row, f"psnr_{x}_secret_mean") is not None for x in ATTACKED)
    for name in ATTACKED:
        for score, (words, form, unit) in _SCORES.items():
            base = f"{score}_{name}_secret"
            mean, low = number(row, f"{base}_mean"), number(row, f"{base}_low")
            baseline = blind(row, score)
            if mean is None or baseline is None:
                continue
            known.append(
                Quality(
                    name=words,
                    mean=mean,
                    low=float("-inf") if low is None else low,
                    baseline=baseline,
                    form=form,
                    unit=unit,
                    of=_MANY[name] if several > 1 else "",
                )
            )
    return known


def diverged(row: Row) -> int:
    """How many of the attacker's searches went astray: no score counts them."""
    return int(number(row, "diverged") or 0)


def astray(row: Row) -> str:
    """That all searches diverged, as a clause; empty where one did not."""
    searches = count(row, "diverged")
    if not searches or diverged(row) < searches:
        return ""
    return (
        f"all {searches:,} of the attacker's searches diverged, so that nobody knows "
        "what it can recover: lower attack.learning_rate, or choose another solver"
    )


def said(row: Row) -> str:
    """What the attacker has got, as a clause; empty where nothing was attacked."""
    if lost := astray(row):
        return lost
    pictures = ways(row)
    if not pictures:
        return ""
    seen, measured = readings(row), qualities(row)
    if seen and measured:
        judged = any("_judge" in column for column, _ in _named(row))
        return verdict(seen, measured, judged, diverged(row)).words
    likeness, decibels, words = pictures[0]
    shown = [] if decibels is None else [f"{decibels:.1f} dB"]
    shown += [] if likeness is None else [f"SSIM {likeness:.3f}"]
    best = f"best pictures ({words})" if len(pictures) > 1 else "pictures"
    return (
        f"the attacker's {best} have {' / '.join(shown)} against the secret on "
        "average; whether anything is recognised in them was not measured"
    )


def recognised(row: Row) -> str:
    """The largest share in which the judge reads a label, for a line of its own; the
    target's where there is no judge."""
    return _largest(row, _KINDS["judge"]) or _largest(row, _KINDS["target"])


def reidentified(row: Row) -> str:
    """The largest share that was found among the candidates, likewise."""
    return _largest(row, "re-identification")


def _largest(row: Row, kind: str) -> str:
    some = [reading for reading in readings(row) if reading.kind == kind]
    if not some:
        return ""
    return max(some, key=lambda reading: reading.excess).shown()


def _rank(way: Way) -> tuple[float, float]:
    return (
        way.ssim if way.ssim is not None else -1.0,
        way.psnr if way.psnr is not None else float("-inf"),
    )
