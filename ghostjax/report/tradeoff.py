"""Accuracy against what the best attack got: defenses side by side (GHOST Fig. 8).

The paper compares accuracies over budgets that mean something else in each method.
Here a defense at one strength is one point: its accuracy on sensitive images, and the
best picture of them that any of the attackers got, as mean SSIM and PSNR. Runs that
differ in nothing but the attacker are one point. Imports no jax.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghostjax.evaluation.rows import NO_LABELS, Labels, Row, number
from ghostjax.report import findings, tables
from ghostjax.report.panels import COLOURS, FAINT, tidy
from ghostjax.report.tables import ABSENT, BASELINES, NONE, Table

__all__ = [
    "BUDGETS_CAPTION",
    "CAPTION",
    "Point",
    "budgets",
    "figure",
    "points",
    "table",
]

_DRAWS = ("seed", "sensitive_labels")
_PANELS = (("ssim", "best attack's SSIM"), ("psnr", "best attack's PSNR (dB)"))


class Point(NamedTuple):
    """A defense at one strength and ratio, against the best of its attackers."""

    row: Row  # of the run whose attack had the best SSIM
    strength: dict[str, Any]  # what tells it from its defense's others, as reached
    budgets: dict[str, float]  # what the defense may be compared over, by its label
    ssim: float  # the best mean SSIM against the secrets
    psnr: float  # the best mean PSNR, perhaps another attack's
    words: str  # the attack of the best SSIM


def points(
    rows: Sequence[Row], varying: Sequence[str], labels: Labels = NO_LABELS
) -> list[Point]:
    """One point for all rows that differ only in the attacker.

    Args:
      rows: result rows.
      varying: columns that differ among them.
      labels: of the columns that defenses say of themselves. One that is named as a
        key of the defense's is what the key came to.

    Returns:
      In the order of the rows. None at all, where not at least two defenses have both
      an accuracy on sensitive images and pictures of an attacker.
    """
    keys = [key for key in varying if not tables.attackers(key)]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        attacked = any(way.ssim is not None for way in findings.ways(row))
        if attacked and number(row, "accuracy_secret") is not None:
            alike = tuple(str(row.get(key)) for key in (*keys, *_DRAWS))
            groups.setdefault(alike, []).append(row)
    if len({group[0].get("defense") for group in groups.values()}) < 2:
        return []
    return [_point(group, keys, rows, labels) for group in groups.values()]


def table(shown: Sequence[Point]) -> Table:
    """A line a point: accuracy, its controls, and the best attack."""
    extra = _budgets(shown)
    head = ["defense", "γ", *extra, *_HEAD]
    lines = []
    for point in shown:
        row = point.row
        blind = _blind(row, "ssim")
        lines.append(
            [
                _name(point),
                tables.text(row.get("gamma")),
                *(_short(point.budgets.get(name)) for name in extra),
                *(tables.cell(key, row.get(key)) for key in _ACCURACIES),
                point.words,
                f"{point.ssim:.3f}",
                NONE if blind is None else f"{blind:.3f}",
                f"{point.psnr:.2f} dB",
            ]
        )
    return Table(title="Accuracy against leakage", head=head, lines=lines, note=_NOTE)


def figure(shown: Sequence[Point]) -> Figure:
    """Sensitive accuracy over the best SSIM and PSNR, one panel a ratio.

    A defense is one colour; a line joins its strengths, in the order of the runs, with
    larger dots from one to the next.
    Dashed: the best constant answer. Dotted: the best picture without any feature.
    """
    ratios = list(dict.fromkeys(str(point.row.get("gamma")) for point in shown))
    colours = _colours(shown)
    picture = Figure(figsize=(1.6 + 3.3 * len(ratios), 6.6), layout="constrained")
    axes = picture.subplots(2, len(ratios), squeeze=False, sharey=True, sharex="row")
    for column, ratio in zip(axes.T, ratios, strict=True):
        here = [point for point in shown if str(point.row.get("gamma")) == ratio]
        column[0].set_title(f"γ {ratio}", fontsize=10)
        for ax, (score, label) in zip(column, _PANELS, strict=True):
            for name, colour in colours.items():
                line = [point for point in here if _kind(point.row) == name]
                if line:
                    _line(ax, line, score, colour, _series(shown, name))
            _references(ax, here, score)
            ax.set_xlabel(label)
            tidy(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy, sensitive images (%)")
    named: dict[str, Any] = {}  # a defense may be missing at a ratio
    for ax in axes[0]:
        handles, labels = ax.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True)) | named
    picture.legend(named.values(), named, loc="outside right center", frameon=False)
    return picture


def budgets(shown: Sequence[Point]) -> Figure | None:
    """Sensitive accuracy over each rival's own budget, as GHOST Fig. 8 has it.

    A row a budget, a column a ratio. Defenses without any (finite) budget are level
    lines; None where all are.
    """
    known = [name for name in _budgets(shown) if any(_spent(p, name) for p in shown)]
    if not known:
        return None
    ratios = list(dict.fromkeys(str(point.row.get("gamma")) for point in shown))
    size = 1.6 + 3.3 * len(ratios), 0.6 + 3 * len(known)
    picture = Figure(figsize=size, layout="constrained")
    axes = picture.subplots(len(known), len(ratios), squeeze=False, sharey=True)
    named: dict[str, Line2D] = {}
    for line, budget in zip(axes, known, strict=True):
        line[0].set_ylabel("accuracy, sensitive images (%)")
        for ax, ratio in zip(line, ratios, strict=True):
            here = [point for point in shown if str(point.row.get("gamma")) == ratio]
            named |= _over_budget(ax, here, budget, _colours(shown))
    for ax, ratio in zip(axes[0], ratios, strict=True):
        ax.set_title(f"γ {ratio}", fontsize=10)
    picture.legend(named.values(), named, loc="outside right center", frameon=False)
    return picture


def _over_budget(
    ax: Axes, here: Sequence[Point], budget: str, colours: dict[str, str]
) -> dict[str, Line2D]:
    """One panel of `budgets`; the lines it has drawn, by defense."""
    named = {}
    for place, (name, colour) in enumerate(colours.items()):
        line = [point for point in here if _kind(point.row) == name]
        if any(_spent(point, budget) for point in line):
            named[name] = _over(ax, line, budget, colour)
        elif not any(_spent(p, other) for p in line for other in p.budgets):
            dashes = 4 * place, (4, 4)  # two at one height alternate
            for point in line:
                height = point.row["accuracy_secret"]
                named[name] = ax.axhline(height, c=colour, ls=dashes)
    spent = [x for point in here if (x := _spent(point, budget))]
    ticks = {_short(x): x for x in spent}
    ax.set(xscale="log", xlabel=budget)
    ax.set_xticks([*ticks.values()], [*ticks])
    ax.minorticks_off()
    tidy(ax)
    return named


def _over(ax: Axes, line: Sequence[Point], budget: str, colour: str) -> Line2D:
    """Accuracies over a budget, where it is finite."""
    places = [
        (spent, point.row["accuracy_secret"])
        for point in line
        if (spent := _spent(point, budget))
    ]
    return ax.plot(*zip(*sorted(places), strict=True), "o-", c=colour)[0]


def _budgets(shown: Sequence[Point]) -> list[str]:
    """The labels of the budgets that any point has."""
    return list(dict.fromkeys(name for point in shown for name in point.budgets))


def _spent(point: Point, budget: str) -> float | None:
    """A finite budget, or None."""
    return number(point.budgets, budget)


BUDGETS_CAPTION = (
    "As GHOST Fig. 8 compares them: each rival over its own budget. The budgets are "
    "not alike, no ε here is a guarantee, and what an attacker gets is in the other "
    "figure. Dashed: defenses without a budget; an infinite one is not shown."
)
CAPTION = (
    "Up and to the left is better: answers are right and pictures are not. Dots grow "
    "along a defense's strengths, in the order of the legend. Dashed: the best "
    "constant answer, which is always right with one sensitive label. Dotted: the best "
    "picture of a secret that needs no feature, only its class; what lies left of it "
    "leaks nothing by this measure."
)
_NOTE = (
    "The best of all attacks run on a defense at this strength, by mean SSIM against "
    "the secrets; its PSNR is the best of any attack. Without features: the best of "
    "the pictures that need none. A published ε is no guarantee."
)
_ACCURACIES = ("accuracy_secret", "control_constant_answer", "accuracy_public")
_HEAD = (
    "secret", "constant answer", "public", "best attack", "SSIM",
    "SSIM without features", "PSNR",
)  # fmt: skip


def _point(
    group: Sequence[Row], keys: Sequence[str], rows: Sequence[Row], labels: Labels
) -> Point:
    pictures = [(way, row) for row in group for way in findings.ways(row)]
    scored = [(way.ssim, way, row) for way, row in pictures if way.ssim is not None]
    ssim, best, row = max(scored, key=lambda triple: triple[0])
    alike = [other for other in rows if _kind(other) == _kind(row)]
    strength = {
        key: _reached(row, key, labels)
        for key in keys
        if key != "gamma" and len({str(other.get(key)) for other in alike}) > 1
    }
    words = tables.text(row.get("attack"))
    if row.get("denoise") not in ABSENT and best.words != findings.BEFORE:
        words += f" + {row['denoise']}"
    if best.words.startswith(findings.EXTRACTED):
        words += ", read out"
    decibels = [way.psnr for _, way, _ in scored if way.psnr is not None]
    return Point(
        row=row,
        strength=strength,
        budgets={
            label.words(): row[name]
            for name, label in labels.items()
            if label.budget and row.get(name)
        },
        ssim=ssim,
        psnr=max(decibels, default=np.nan),
        words=words,
    )


def _reached(row: Row, key: str, labels: Labels) -> Any:
    """The value of a setting, or what the defense says that it came to."""
    section, _, name = key.partition(".")
    if section == "defense" and name in labels and row.get(name) is not None:
        return row[name]
    return row.get(key)


def _colours(shown: Sequence[Point]) -> dict[str, str]:
    defenses = dict.fromkeys(_kind(point.row) for point in shown)
    return dict(zip(defenses, cycle(COLOURS), strict=False))


def _kind(row: Row) -> str:
    """The defense, and how it hides."""
    return " ".join(str(row[k]) for k in ("defense", "stego") if row.get(k))


def _name(point: Point) -> str:
    words = [f"{k.split('.')[-1]} {_short(v)}" for k, v in point.strength.items()]
    return " ".join([_kind(point.row), *words])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else tables.text(value)


def _series(shown: Sequence[Point], kind: str) -> str:
    """A defense and its strengths, in order: `laplace, scale 0.5, 1, 2`."""
    strengths: dict[str, dict[str, None]] = {}
    for point in shown:
        if _kind(point.row) == kind:
            for key, value in point.strength.items():
                known = strengths.setdefault(key.split(".")[-1], {})
                known[_short(value)] = None
    words = (f"{key} {', '.join(values)}" for key, values in strengths.items())
    return ", ".join([kind, *words])


def _line(ax: Axes, line: Sequence[Point], score: str, colour: str, name: str) -> None:
    xs = [getattr(point, score) for point in line]
    ys = [point.row["accuracy_secret"] for point in line]
    ax.plot(xs, ys, "-", color=colour, lw=1.2)
    sizes = [30 + 40 * place for place in range(len(line))]
    ax.scatter(xs, ys, sizes, color=colour, alpha=0.75, linewidths=0, label=name)


def _references(ax: Axes, here: Sequence[Point], score: str) -> None:
    constant = [number(p.row, "control_constant_answer") for p in here]
    blind = [_blind(p.row, score) for p in here]
    for values, draw, style in (
        (constant, ax.axhline, "--"),
        (blind, ax.axvline, ":"),
    ):
        known = [value for value in values if value is not None]
        if known:
            draw(float(np.mean(known)), color=FAINT, ls=style, lw=0.9)


def _blind(row: Row, score: str) -> float | None:
    """The best mean score of a picture that an attacker has without any feature."""
    scores = (
        number(row, f"{score}_{name}_secret_mean")
        for name in BASELINES
        if name != "constant"  # an oracle
    )
    return max((x for x in scores if x is not None), default=None)
