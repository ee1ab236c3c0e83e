"""A whole result row as tables of plain text. Imports no jax.

Accuracies are percent with a count beside them (`accuracy_secret`,
`accuracy_secret_n`); image quality comes as `<name>_mean`, `_low`, `_high` (95 %
interval of the mean), `_n` (finite values), `_infinite` and `_undefined`. Any column
may be missing. A column that is named nowhere here is placed by its prefix (accuracy_,
control_, psnr_, psnr8_, ssim_, ssim7_, seconds_) or shown under "other"; one that a
defense says of itself comes with its label and unit (`Labels`). So new defenses and
attacks need no change.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from ghostjax.evaluation.intervals import proportion
from ghostjax.evaluation.rows import (
    NO_LABELS,
    Labels,
    Row,
    count,
    is_number,
    number,
)
from ghostjax.report.leaked import readings

__all__ = [
    "ABSENT",
    "BASELINES",
    "NONE",
    "Table",
    "attackers",
    "cell",
    "label",
    "shown",
    "tables",
    "text",
]

NONE = "–"
ABSENT = (None, "", "none")
"""Values of a setting that names what is not there."""
_LABELS = {
    "accuracy_secret": "secret images",
    "control_constant_answer": "control: best constant answer",
    "control_shuffled_secret": "control: shuffled secrets",
    "control_cover_only": "control: cover alone, no secret",
    "accuracy_public": "public labels",
    "target_accuracy_public": "target network, public labels",
    "accuracy_all": "all labels",
    "accuracy_probe": "class probe on the features, by the attacker",
    "target_accuracy_all": "target network, all labels",
    "target_accuracy_secret": "target network, secrets unhidden",
    "covers_called_sensitive": "clean covers called sensitive",
    "bits": "bits (ζ)",
    "gamma": "γ (sensitive : public)",
    "accuracy_secret_n": "test secrets",
    "defense_caution": "caution of the defense",
    "judge_caution": "why there is no judge",
    "diverged": "searches that diverged",
    "recognised": "secrets that the judge recognises, at best",
    "reidentified": "re-identified secrets, at best",
}
_SETTINGS = (
    "name", "hash", "data", "network", "target_parameters", "cut", "edge_layers",
    "defense", "stego", "bits", "gamma", "sensitive_labels", "public_labels",
    "seed", "attack", "denoise", "defense_caution", "judge_caution",
)  # fmt: skip
_PARTS = (
    "_mean", "_low", "_high", "_n", "_infinite", "_undefined", "_max", "_min", "_clear",
)  # fmt: skip
_SCORES = {
    "psnr": "PSNR",
    "psnr8": "PSNR of 8-bit images",
    "ssim": "SSIM",
    "ssim7": "SSIM as He et al. (uniform 7x7, own range)",
}
BASELINES = {
    "black": "all black",
    "grey": "mid-grey",
    "train_mean": "mean training image",
    "class_mean": "mean training image of the secret's class (knows the class)",
    "constant": "the secret's own mean colour (an oracle)",
}
"""Pictures that are there without looking at any feature (`baselines.BASELINES`), and
what two of them know."""
_HIDING = ("cover_stego", "cover_perturbed", "revealed_secret", "mean_image_secret")


class Table(NamedTuple):
    """A table of plain text; the first cell of a line is its heading."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


def tables(row: Row, labels: Labels = NO_LABELS) -> list[Table]:
    """The whole row in groups; every column is in exactly one of them.

    Args:
      row: a result row.
      labels: of the columns that the defense says of itself.
    """
    bases = list({_base(row, key): None for key in row})
    settings = [key for key in _SETTINGS if key in bases]
    settings += [key for key in bases if "." in key]  # config keys: "defense.steps"
    said = [key for key in labels if key in bases and key not in settings]
    utility = [k for k in _LABELS if k in bases and k not in (*settings, *said)]
    known = {*settings, *said, *utility}
    utility += _starting(bases, known, "accuracy_", "control_", "target_accuracy_")
    cost = _starting(bases, known, "seconds_")
    seen = _starting(bases, known, "recognised", "reidentified", "candidates")
    quality = _starting(bases, known, *(f"{score}_" for score in _SCORES))
    pairs = list({key.split("_", 1)[1]: None for key in quality})
    other = _starting(bases, {*known, *utility, *cost, *quality, *seen}, "")
    hiding = [pair for pair in pairs if pair in _HIDING]
    trivial = [f"{name}_secret" for name in BASELINES if f"{name}_secret" in pairs]
    attacked = [pair for pair in pairs if pair not in (*_HIDING, *trivial)]
    head = ("accuracy", "percent", "95 % interval", "test images")
    account = [(label(key, labels), cell(key, row[key], labels)) for key in said]
    hidden, got = "Invisibility, and what the receiver reads", "What the attacker got"
    note = "" if hiding else _NOTE
    groups = [
        _table("Utility", [_share_line(row, key) for key in utility], head, _WILSON),
        _quality_table(hidden, row, hiding, _NOTE),
        _quality_table(got, row, attacked, note),
        _table("Who has seen what in it", _seen_lines(row), _SEEN, _WILSON_SEEN),
        _quality_table("Without looking at any feature", row, trivial, _TRIVIAL),
        _table("What the defense says of itself", account),
        _table("Other", [(label(key), _measured(row, key)) for key in other]),
        _table("Cost", [(label(k), cell(k, row.get(k))) for k in cost]),
        _table("Settings", [(label(k), cell(k, row[k])) for k in settings]),
    ]
    return [table for table in groups if table.lines]


_PERCENT = ("control_", "covers_called_", "recognised", "reidentified")


def label(key: str, labels: Labels = NO_LABELS) -> str:
    """A column's name as a reader wants it."""
    if key in labels:
        return labels[key].text
    score, _, pair = key.removesuffix("_mean").partition("_")
    if score in _SCORES and pair:
        return f"{_SCORES[score]}, {_against(pair)}"
    return _LABELS.get(key, key.replace("_", " "))


def shown(rows: Sequence[Row], keys: Iterable[str]) -> list[str]:
    """Those keys that any row has; of searches that diverged where there are some."""
    nothing = {key: 0 if key in _FAULTS else None for key in keys}
    return [
        key
        for key, none in nothing.items()
        if any(row.get(key) not in (None, none) for row in rows)
    ]


_FAULTS = ("diverged",)


def cell(key: str, value: Any, labels: Labels = NO_LABELS) -> str:
    """A value with the decimals and the unit that its column calls for."""
    if not is_number(value):
        return text(value)
    if not isfinite(value):
        return "∞" if value > 0 else NONE
    if key in labels:
        return f"{text(value)} {labels[key].unit}".rstrip()
    if key.endswith("_n") or key == "target_parameters":
        return f"{int(value):,}"
    if key == "candidates" or key.endswith("_clear"):
        return f"{int(value):,}"
    if "accuracy" in key or key.startswith(_PERCENT):
        return f"{value:.2f} %"
    if key.startswith(("psnr_", "psnr8_")):
        return f"{value:.2f} dB"
    if key.startswith(("ssim_", "ssim7_")):
        return f"{value:.3f}"
    if key.startswith("seconds_"):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds:02d} s" if minutes > 1 else f"{value:.1f} s"
    return text(value)


def text(value: Any) -> str:
    """Any value as plain text; a dash for none."""
    if value is None or value == "" or value != value:
        return NONE
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(inner) for inner in value)
    return str(value)


_WILSON = "Intervals are Wilson's, of the count of right answers among the test images."
_NOTE = (
    "Means over images with the 95 % interval of the mean. The PSNR of equal images is "
    "infinite: they are counted beside the mean and left out of it."
)


_TRIVIAL = (
    "Pictures that nobody had to attack for. One that was attacked may score less and "
    "yet be read: see who has seen what. No verdict rests on the last two: the "
    "attacker does not have the oracle, and knows the class only where the answer "
    "tells it."
)


def attackers(key: str) -> bool:
    """Whether a setting is the attacker's: it changes no accuracy."""
    return key.partition(".")[0] in ("attack", "denoise", "attacker")


def _table(
    title: str,
    lines: Sequence[Sequence[str]],
    head: Sequence[str] = ("", ""),
    note: str = "",
) -> Table:
    return Table(title=title, head=head, lines=lines, note=note)


def _against(pair: str) -> str:
    if pair == "extracted_before_secret":
        return "extracted before denoising against secret"
    if pair.removesuffix("_secret") in BASELINES:
        return BASELINES[pair.removesuffix("_secret")]
    words = " against " if pair.count("_") == 1 else " "
    return pair.replace("_", words)


def _base(row: Row, key: str) -> str:
    """The measurement that a column belongs to: `psnr_a_b_low` to `psnr_a_b`."""
    for part in _PARTS:
        base = key.removesuffix(part)
        if base != key and (base in row or f"{base}_mean" in row):
            return base
    return key


def _starting(keys: Sequence[str], known: set[str], *starts: str) -> list[str]:
    return [key for key in keys if key not in known and key.startswith(starts)]


def _share_line(row: Row, key: str) -> tuple[str, ...]:
    """Label, percent, Wilson's 95 % interval, count."""
    percent, images = number(row, key), count(row, key)
    shown = cell(key, row[key]) if percent is not None else NONE
    if percent is None or not images:
        return label(key), shown, NONE, cell("_n", images or None)
    _, low, high = proportion(percent / 100 * images, images)
    return label(key), shown, f"[{low:.2f}, {high:.2f}]", cell("_n", images)


def _seen_lines(row: Row) -> list[tuple[str, ...]]:
    """Pictures and who looked, percent, interval, chance, count."""
    lines: list[tuple[str, ...]] = []
    for reading in readings(row):
        share, (percent, low, high) = reading.share, reading.share.limits
        interval = f"[{low:.2f}, {high:.2f}]"
        numbers = f"{percent:.2f} %", interval, f"{share.chance:.2f} %", f"{share.n:,}"
        lines.append((reading.words, *numbers))
    return lines


_SEEN = ("the attacker's", "percent", "95 % interval", "chance", "test images")
_WILSON_SEEN = (
    "Intervals are Wilson's. Chance: an answer that looks at nothing, the commonest "
    "label of the secrets; or one of the candidates. The judge is another network than "
    "the target, trained on changed images of the data set's own; what the target "
    "itself reads may be the defense's doing, not the picture's."
)


def _quality_table(title: str, row: Row, pairs: Sequence[str], note: str) -> Table:
    """One line per pair of images, one column per score that any pair has."""
    bases = {_base(row, key) for key in row}
    scores = [x for x in _SCORES if any(f"{x}_{pair}" in bases for pair in pairs)]
    lines = []
    for pair in pairs:
        counts = [count(row, f"{score}_{pair}") for score in scores]
        shown = [_measured(row, f"{score}_{pair}") for score in scores]
        lines.append(
            (_against(pair), *shown, cell("_n", max(counts, default=0) or None))
        )
    head = ("images", *(_SCORES[score] for score in scores), "test images")
    return _table(title, lines, head, note)


def _measured(row: Row, base: str) -> str:
    """A value, with its interval and with what was left out of it."""
    low, high = number(row, f"{base}_low"), number(row, f"{base}_high")
    equal, odd = number(row, f"{base}_infinite"), number(row, f"{base}_undefined")
    words = cell(base, row.get(f"{base}_mean", row.get(base)))
    if equal and equal == count(row, base):
        return "∞ (all equal)"
    if low is not None and high is not None:
        words += f" [{cell(base, low)}, {cell(base, high)}]".replace(" dB", "")
    least, most = number(row, f"{base}_min"), number(row, f"{base}_max")
    if least is not None and most is not None:
        words += f", {cell(base, least)} to {cell(base, most)}".replace(" dB", "")
    words += f", {int(equal):,} equal (∞)" if equal else ""
    words += f", {int(odd):,} undefined" if odd else ""
    if number(row, f"{base}_n") and not base.startswith(tuple(_SCORES)):
        words += f" (n = {count(row, base):,})"
    return words
