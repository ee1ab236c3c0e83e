"""What a result row says: verdict, cautions, tables, as plain text. Imports no jax.

Accuracies are percent with a count beside them (`accuracy_secret`,
`accuracy_secret_n`); image quality comes as `<name>_mean`, `_low`, `_high` (95 %
interval of the mean), `_n` (finite values), `_infinite` and `_undefined`. Any column
may be missing. A column that is named nowhere here is placed by its prefix (accuracy_,
control_, psnr_, psnr8_, ssim_, seconds_) or shown under "other", so new defenses and
attacks need no change.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]

CLEARLY = 1.0  # points, at least, that an accuracy must stand above a control
PUBLIC_LOSS = 1.0  # points of public accuracy that hiding may cost
CALLED_SENSITIVE = 1.0  # percent of clean covers that may be called sensitive
RESEMBLES = 0.5  # mean SSIM from which the attacker's pictures show the secret

_LABELS = {
    "accuracy_secret": "secret images",
    "control_constant_answer": "control: best constant answer",
    "control_shuffled_secret": "control: shuffled secrets",
    "control_cover_only": "control: cover alone, no secret",
    "accuracy_public": "public labels",
    "target_accuracy_public": "target network, public labels",
    "accuracy_all": "all labels",
    "target_accuracy_all": "target network, all labels",
    "target_accuracy_secret": "target network, secrets unhidden",
    "covers_called_sensitive": "clean covers called sensitive",
    "bits": "bits (ζ)",
    "gamma": "γ (sensitive : public)",
}
_SETTINGS = (
    "name", "hash", "data", "network", "target_parameters", "cut", "defense", "stego",
    "bits", "gamma", "sensitive_labels", "public_labels", "seed", "attack",
    "attack_steps",
)  # fmt: skip
_PARTS = ("_mean", "_low", "_high", "_n", "_infinite", "_undefined")
_SCORES = {"psnr": "PSNR", "psnr8": "PSNR of 8-bit images", "ssim": "SSIM"}
_HIDING = ("cover_stego", "revealed_secret")
_ATTACKED = {"reconstruction": "the reconstruction", "extracted": "its low bits"}


class Table(NamedTuple):
    """A table of plain text; the first cell of a line is its heading."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


def subject(row: Row) -> str:
    """What was run, in one line."""
    stego = row.get("stego") if _hidden(row) else None
    if stego and row.get("bits"):
        stego = f"{stego} ζ = {row['bits']}"
    said = {
        "data": row.get("data"), "network": row.get("network"),
        "cut": row.get("cut"), "defense": row.get("defense"), "stego": stego,
        "γ": row.get("gamma"), "attack": row.get("attack"), "seed": row.get("seed"),
    }  # fmt: skip
    return " · ".join(f"{k} {v}" for k, v in said.items() if v not in (None, ""))


def verdict(row: Row) -> str:
    """The result in one plain sentence, of the numbers that are there."""
    parts = []
    secret, public = number(row, "accuracy_secret"), number(row, "accuracy_public")
    if secret is not None:
        kind = "hidden" if _hidden(row) else "sensitive, unhidden"
        part = f"The cloud answers {secret:.1f} % of {kind} images right"
        constant = number(row, "control_constant_answer")
        if constant is not None:
            part += f" (a constant answer would get {constant:.1f} %)"
        parts.append(part)
    if public is not None:
        part = f"public accuracy is {public:.1f} %"
        target = number(row, "target_accuracy_public")
        if target is not None:
            part += f" (target {target:.1f} %)"
        parts.append(part)
    sentence = "; ".join(filter(None, [", ".join(parts), _attacker(row)]))
    if not sentence:
        return "This row holds neither accuracies nor an attack."
    return sentence[0].upper() + sentence[1:] + "."


def cautions(row: Row) -> list[str]:
    """What the numbers do not support, one sentence each; empty where all is well."""
    said = []
    secret = number(row, "accuracy_secret")
    constant = number(row, "control_constant_answer")
    single = constant is not None and constant > 99.99
    if single:
        said.append(
            "All secrets have one label, so a constant answer scores 100 %: the "
            "accuracy on secrets proves nothing without the cover-only control."
        )
    elif not _above(row, "control_constant_answer"):
        said.append(
            "The cloud has learnt nothing about the secret beyond a constant answer: "
            f"{secret:.2f} % against {constant:.2f} %."
        )
    if not single and not _above(row, "control_shuffled_secret"):
        said.append(
            f"With shuffled secrets the cloud scores "
            f"{row['control_shuffled_secret']:.2f} %, close to its {secret:.2f} %: the "
            "answer hardly depends on the secret."
        )
    if not _above(row, "control_cover_only"):
        said.append(
            f"The cover alone scores {row['control_cover_only']:.2f} %, close to "
            f"{secret:.2f} %: the cloud answers without any secret."
        )
    return said + _other_cautions(row)


def summary(row: Row) -> list[tuple[str, str]]:
    """The few lines, (label, text), that the command line prints after a run."""
    controls = {
        "constant answer": "control_constant_answer",
        "shuffled": "control_shuffled_secret",
        "cover only": "control_cover_only",
    }
    lines = [
        ("secret accuracy", _accuracy(row, "accuracy_secret", controls)),
        (
            "public accuracy",
            _accuracy(row, "accuracy_public", {"target": "target_accuracy_public"}),
        ),
        ("stego vs cover", _quality(row, "cover_stego")),
        ("attack vs secret", _quality(row, "reconstruction_secret")),
        ("attack vs cover", _quality(row, "reconstruction_cover")),
        ("low bits vs secret", _quality(row, "extracted_secret")),
        ("time", cell("seconds_total", row.get("seconds_total"))),
    ]
    lines += [("caution", words) for words in cautions(row)]
    return [(name, words) for name, words in lines if words not in ("", _NONE)]


def tables(row: Row) -> list[Table]:
    """The whole row in groups; every column is in exactly one of them."""
    bases = list({_base(row, key): None for key in row})
    settings = [key for key in _SETTINGS if key in bases]
    utility = [key for key in _LABELS if key in bases and key not in settings]
    known = {*settings, *utility}
    utility += _starting(bases, known, "accuracy_", "control_", "target_accuracy_")
    cost = _starting(bases, known, "seconds_")
    quality = _starting(bases, known, *(f"{score}_" for score in _SCORES))
    pairs = list({key.split("_", 1)[1]: None for key in quality})
    other = _starting(bases, {*known, *utility, *cost, *quality}, "")
    hiding = [pair for pair in pairs if pair in _HIDING]
    attacked = [pair for pair in pairs if pair not in _HIDING]
    head = ("accuracy", "percent", "95 % interval", "test images")
    made = [
        Table("Utility", head, [_share_line(row, key) for key in utility], _WILSON),
        _quality_table("Invisibility, and what the receiver reads", row, hiding),
        _quality_table("What the attacker got", row, attacked),
        Table("Other", ("", ""), [(label(key), _measured(row, key)) for key in other]),
        Table("Cost", ("", ""), [(label(k), cell(k, row.get(k))) for k in cost]),
        Table("Settings", ("", ""), [(label(k), cell(k, row[k])) for k in settings]),
    ]
    return [table for table in made if table.lines]


def label(key: str) -> str:
    """A column's name as a reader wants it."""
    return _LABELS.get(key, key.replace("_", " "))


def cell(key: str, value: Any) -> str:
    """A value with the decimals and the unit that its column's name calls for."""
    if not _is_number(value):
        return text(value)
    if not isfinite(value):
        return "∞" if value > 0 else _NONE
    if key.endswith("_n") or key == "target_parameters":
        return f"{int(value):,}"
    if "accuracy" in key or key.startswith(("control_", "covers_called_")):
        return f"{value:.2f} %"
    if key.startswith(("psnr_", "psnr8_")):
        return f"{value:.2f} dB"
    if key.startswith("ssim_"):
        return f"{value:.3f}"
    if key.startswith("seconds_"):
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds:02d} s" if minutes > 1 else f"{value:.1f} s"
    return text(value)


def text(value: Any) -> str:
    """Any value as plain text; a dash for none."""
    if value is None or value == "" or value != value:
        return _NONE
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(inner) for inner in value)
    return str(value)


def number(row: Row, key: str) -> float | None:
    """A finite number of the row, or None."""
    value = row.get(key)
    return float(value) if _is_number(value) and isfinite(value) else None


_NONE = "–"
_WILSON = "Intervals are Wilson's, of the count of right answers among the test images."
_NOTE = (
    "Means over images with the 95 % interval of the mean. The PSNR of equal images is "
    "infinite: they are counted beside the mean and left out of it. Undefined: NaN."
)


def _hidden(row: Row) -> bool:
    return row.get("defense") != "plain"


def _attacker(row: Row) -> str:
    """The attacker's best way to the secret, by SSIM, then by PSNR."""
    ways = []
    for name, words in _ATTACKED.items():
        decibels = number(row, f"psnr_{name}_secret_mean")
        likeness = number(row, f"ssim_{name}_secret_mean")
        if decibels is not None or likeness is not None:
            shown = [] if decibels is None else [f"{decibels:.1f} dB"]
            shown += [] if likeness is None else [f"SSIM {likeness:.3f}"]
            ways.append((likeness or -1, decibels or 0, words, " / ".join(shown)))
    if not ways:
        return ""
    *_, words, shown = max(ways)
    best = f"best pictures ({words})" if len(ways) > 1 else "pictures"
    return f"the attacker's {best} have {shown} against the secret on average"


def _above(row: Row, control: str) -> bool:
    """Whether the secret accuracy stands clearly above a control (or one is missing).

    Clearly: by a point and by 1.96 standard errors of the difference.
    """
    secret, other = number(row, "accuracy_secret"), number(row, control)
    if secret is None or other is None:
        return True
    variance = 0.0
    for key, percent in (("accuracy_secret", secret), (control, other)):
        count = number(row, f"{key}_n") or number(row, "accuracy_secret_n")
        variance += percent * (100 - percent) / count if count else 0.0
    return secret - other > max(CLEARLY, 1.96 * sqrt(max(0.0, variance)))


def _other_cautions(row: Row) -> list[str]:
    """Cautions about public accuracy, clean covers and the attacker's pictures."""
    said = []
    public = number(row, "accuracy_public")
    target = number(row, "target_accuracy_public")
    if None not in (public, target) and target - public > PUBLIC_LOSS:
        said.append(
            f"Public accuracy fell by {target - public:.2f} points, from {target:.2f} "
            f"to {public:.2f} %."
        )
    called = number(row, "covers_called_sensitive")
    if called is not None and called > CALLED_SENSITIVE:
        said.append(f"{called:.2f} % of clean covers are called sensitive.")
    for name, words in _ATTACKED.items():
        likeness = number(row, f"ssim_{name}_secret_mean")
        if likeness is not None and likeness >= RESEMBLES:
            said.append(
                f"The attacker sees the secret: {words} has a mean SSIM of "
                f"{likeness:.3f} against it (we draw the line at {RESEMBLES})."
            )
    return said


def _accuracy(row: Row, key: str, beside: Mapping[str, str]) -> str:
    """`97.13 % of 1,000 (constant answer 25.30 %, ...)`; empty if not in the row."""
    if number(row, key) is None:
        return ""
    count = number(row, f"{key}_n")
    words = cell(key, row[key]) + (f" of {int(count):,}" if count else "")
    known = [
        f"{n} {cell(k, row[k])}" for n, k in beside.items() if row.get(k) is not None
    ]
    return words + (f" ({', '.join(known)})" if known else "")


def _quality(row: Row, pair: str) -> str:
    """`PSNR 11.21 dB, SSIM 0.310 (100 images, 2 equal)`; empty if not in the row."""
    shown = [
        f"{name.upper()} {cell(name + '_', row[f'{name}_{pair}_mean'])}"
        for name in ("psnr", "ssim")
        if row.get(f"{name}_{pair}_mean") is not None
    ]
    if not shown:
        return ""
    count, equal = _count(row, f"psnr_{pair}"), number(row, f"psnr_{pair}_infinite")
    known = [f"{count:,} images"] if count else []
    known += [f"{int(equal):,} equal"] if equal else []
    return ", ".join(shown) + (f" ({', '.join(known)})" if known else "")


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
    percent, count = number(row, key), number(row, f"{key}_n")
    shown = cell(key, row[key]) if percent is not None else _NONE
    if percent is None or not count:
        return label(key), shown, _NONE, cell("_n", count)
    low, high = _wilson(percent / 100, count)
    interval = f"[{100 * low:.2f}, {100 * high:.2f}]"
    return label(key), shown, interval, cell("_n", count)


def _wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share."""
    square = 1.96**2 / count
    middle = (share + square / 2) / (1 + square)
    half = sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _quality_table(title: str, row: Row, pairs: Sequence[str]) -> Table:
    """One line per pair of images, one column per score that any pair has."""
    bases = {_base(row, key) for key in row}
    scores = [x for x in _SCORES if any(f"{x}_{pair}" in bases for pair in pairs)]
    lines = []
    for pair in pairs:
        counts = [_count(row, f"{score}_{pair}") for score in scores]
        name = pair.replace("_", " against ") if pair.count("_") == 1 else label(pair)
        shown = [_measured(row, f"{score}_{pair}") for score in scores]
        lines.append((name, *shown, cell("_n", max(counts, default=0) or None)))
    head = ("images", *(_SCORES[score] for score in scores), "test images")
    return Table(title, head, lines, _NOTE)


def _count(row: Row, base: str) -> int:
    """How many images were measured, those left out of the mean included."""
    parts = ("_n", "_infinite", "_undefined")
    return int(sum(number(row, base + part) or 0 for part in parts))


def _measured(row: Row, base: str) -> str:
    """A value, with its interval and with what was left out of it."""
    low, high = number(row, f"{base}_low"), number(row, f"{base}_high")
    equal, odd = number(row, f"{base}_infinite"), number(row, f"{base}_undefined")
    words = cell(base, row.get(f"{base}_mean", row.get(base)))
    if equal and equal == _count(row, base):
        return "∞ (all equal)"
    if low is not None and high is not None:
        words += f" [{cell(base, low)}, {cell(base, high)}]".replace(" dB", "")
    words += f", {int(equal):,} equal (∞)" if equal else ""
    words += f", {int(odd):,} undefined" if odd else ""
    if number(row, f"{base}_n") and not base.startswith(tuple(_SCORES)):
        words += f" (n = {_count(row, base):,})"
    return words


def _is_number(value: Any) -> bool:
    kinds = int | float | np.number
    return isinstance(value, kinds) and not isinstance(value, bool)
