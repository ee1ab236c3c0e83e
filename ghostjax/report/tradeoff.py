"""Accuracy against what the best attack got: defenses side by side (GHOST Fig. 8), or
one over its strengths (He et al., Figs. 9, 10 and 13).

GHOST compares accuracies over budgets that mean something else in each method. Here a
defense at one strength is one point: its accuracy, and the best picture that any of the
attackers got, as mean SSIM and PSNR, and how many secrets are recognised. The accuracy
is that on sensitive images where any defense hides them, else that on the images of all
labels. Runs that differ in nothing but the attacker are one point; runs that differ
only in the seed are their mean, with its 95 % interval. Imports no jax.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghostjax.evaluation.rows import NO_LABELS, Labels, Row, is_number, number
from ghostjax.report import leaked, tables
from ghostjax.report.panels import COLOURS, FAINT, finite, tidy, widen
from ghostjax.report.replicates import Replicates, alike, cell, note, replicates, spread
from ghostjax.report.tables import ABSENT, NONE, Table

__all__ = [
    "BUDGETS_CAPTION",
    "CAPTION",
    "Point",
    "budgets",
    "figure",
    "points",
    "rivals",
    "table",
]

_PANELS = {
    "ssim": "best attack's SSIM",
    "psnr": "best attack's PSNR (dB)",
    "recognised": "secrets recognised (%)",
}


class Point(NamedTuple):
    """A defense at one strength and ratio, against the best of its attackers."""

    runs: Replicates  # whose attack had the best SSIM
    strength: dict[str, Any]  # what tells it from its defense's others, as reached
    budgets: dict[str, float]  # what the defense may be compared over, by its label
    column: str  # of the row, that holds `accuracy`
    accuracy: float  # in percent
    ssim: float  # the best mean SSIM against the secrets
    psnr: float  # the best mean PSNR, perhaps another attack's
    recognised: float  # the largest share of any attack, percent; NaN: not measured
    halves: Mapping[str, float]  # of the intervals of these four; NaN: one run
    words: str  # the attack of the best SSIM

    @property
    def row(self) -> Row:
        """What the runs share."""
        return self.runs.row


def points(
    rows: Sequence[Row], varying: Sequence[str], labels: Labels = NO_LABELS
) -> list[Point]:
    """One point for all rows that differ only in the attacker and the seed.

    Args:
      rows: result rows.
      varying: columns that differ among them.
      labels: of the columns that defenses say of themselves. One that is named as a
        key of the defense's is what the key came to.

    Returns:
      In the order of the rows. None at all, where no defense has both an accuracy and
      pictures of an attacker, or where a single one has them at one strength.
    """
    keys = [key for key in varying if not tables.attackers(key)]
    hiding = any(row.get("stego") not in ABSENT for row in rows)
    column = "accuracy_secret" if hiding else "accuracy_all"
    attacked = [
        row
        for row in rows
        if number(row, column) is not None
        and any(way.ssim is not None for way in leaked.ways(row))
    ]
    telling = _told(rows, [key for key in keys if key != "gamma"])
    shown = [
        _point(replicates(group, varying), telling[_kind(group[0])], labels, column)
        for group in alike(attacked, keys)
    ]
    return shown if rivals(shown) or _is_curve(shown) else []


def _panels(shown: Sequence[Point]) -> dict[str, str]:
    """What accuracy is drawn over, and its words: what any point has."""
    return {
        score: words
        for score, words in _PANELS.items()
        if any(finite(getattr(point, score)) for point in shown)
    }


def rivals(shown: Sequence[Point]) -> bool:
    """Whether there is more than one defense among the points."""
    return len({point.row.get("defense") for point in shown}) > 1


def table(shown: Sequence[Point]) -> Table:
    """A line a point: accuracy, its controls, and the best attack."""
    extra = _budgets(shown)
    controls = _CONTROLS[shown[0].column]
    seeds = any(point.runs.seeds > 1 for point in shown)
    counted = ["seeds (n)"] if seeds else []
    recognised = "recognised" in _panels(shown)
    seen = ["recognised"] if recognised else []
    head = ["defense", "γ", *counted, *extra, *controls.values(), *_HEAD, *seen]
    lines = []
    for point in shown:
        row = point.row
        blind = leaked.blind(row, "ssim")
        lines.append(
            [
                _name(point),
                tables.text(row.get("gamma")),
                *([str(point.runs.seeds)] if seeds else []),
                *(_short(point.budgets.get(name)) for name in extra),
                *(cell(point.runs, key) for key in controls),
                point.words,
                _measured(point, "ssim"),
                NONE if blind is None else f"{blind:.3f}",
                _measured(point, "psnr"),
                *([_measured(point, "recognised")] if recognised else []),
            ]
        )
    words = " ".join(filter(None, [_NOTE, note([point.runs for point in shown])]))
    return Table(title="Accuracy against leakage", head=head, lines=lines, note=words)


def figure(shown: Sequence[Point]) -> Figure:
    """Accuracy over the best SSIM and PSNR and the share that is recognised, below each
    other for each ratio, side by side where there is one.

    A defense is one colour, or one for each of its kinds (place, distribution, cut); a
    line joins its strengths, in the order of the runs, with larger dots from one to the
    next, the first and the last named. Bars: intervals over seeds.
    Dashed: the best constant answer, or the undefended target's accuracy. Dotted: the
    best picture without features and class, and the commonest label.
    """
    panels = _panels(shown)
    ratios = list(dict.fromkeys(str(point.row.get("gamma")) for point in shown))
    colours = _colours(shown)
    single = len(ratios) == 1
    many = len(panels)
    size = (4.3 * many, 3.4) if single else (1.6 + 3.3 * len(ratios), 3.3 * many)
    picture = Figure(figsize=size, layout="constrained")
    if single:
        axes = picture.subplots(1, many, squeeze=False, sharey=True).T
    else:
        axes = picture.subplots(
            many, len(ratios), squeeze=False, sharey=True, sharex="row"
        )
    for column, ratio in zip(axes.T, ratios, strict=True):
        here = [point for point in shown if str(point.row.get("gamma")) == ratio]
        if not single or shown[0].column == "accuracy_secret":
            column[0].set_title(f"γ {ratio}", fontsize=10)
        for ax, (score, label) in zip(column, panels.items(), strict=True):
            for name, colour in colours.items():
                line = [point for point in here if _curve(point) == name]
                if line:
                    _line(ax, line, score, colour, _series(shown, name))
            _references(ax, here, score)
            ax.set_xlabel(label)
            tidy(ax)
    for score, line in zip(panels, axes, strict=True):
        widen(line[0], "x", score)  # shared with the rest of its line
    widen(axes[0, 0], "y", "accuracy")
    for ax in axes[: 1 if single else many, 0]:
        ax.set_ylabel(_WORDS[shown[0].column])
    named: dict[str, Any] = {}  # a defense may be missing at a ratio
    for ax in axes[0]:
        handles, labels = ax.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True)) | named
    _legend(picture, named)
    return picture


def budgets(shown: Sequence[Point]) -> Figure | None:
    """Accuracy over each rival's own budget, as GHOST Fig. 8 has it.

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
        line[0].set_ylabel(_WORDS[shown[0].column])
        for ax, ratio in zip(line, ratios, strict=True):
            here = [point for point in shown if str(point.row.get("gamma")) == ratio]
            named |= _over_budget(ax, here, budget, _colours(shown))
    widen(axes[0, 0], "y", "accuracy")
    for ax, ratio in zip(axes[0], ratios, strict=True):
        ax.set_title(f"γ {ratio}", fontsize=10)
    _legend(picture, named)
    return picture


def _legend(picture: Figure, named: Mapping[str, Any]) -> None:
    """A legend below, in as many columns as its words leave room for; the figure grows
    by its lines."""
    width, height = picture.get_size_inches()
    entry = 0.6 + 0.075 * max(map(len, named), default=1)
    width = max(width, entry)
    columns = max(1, min(len(named), int(width / entry)))
    picture.set_size_inches(width, height + 0.25 * -(-len(named) // columns))
    picture.legend(
        named.values(),
        named,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )


def _over_budget(
    ax: Axes, here: Sequence[Point], budget: str, colours: dict[str, str]
) -> dict[str, Line2D]:
    """One panel of `budgets`; the lines it has drawn, by defense."""
    named = {}
    for place, (name, colour) in enumerate(colours.items()):
        line = [point for point in here if _curve(point) == name]
        if any(_spent(point, budget) for point in line):
            named[name] = _over(ax, line, budget, colour)
        elif not any(_spent(p, other) for p in line for other in p.budgets):
            dashes = 4 * place, (4, 4)  # two at one height alternate
            for point in line:
                named[name] = ax.axhline(point.accuracy, c=colour, ls=dashes)
    spent = [x for point in here if (x := _spent(point, budget))]
    ticks = {_short(x): x for x in spent}
    ax.set(xscale="log", xlabel=budget)
    ax.set_xticks([*ticks.values()], [*ticks])
    ax.minorticks_off()
    tidy(ax)
    return named


def _over(ax: Axes, line: Sequence[Point], budget: str, colour: str) -> Line2D:
    """Accuracies over a budget, where it is finite."""
    known = [point for point in line if _spent(point, budget)]
    places = [(point.budgets[budget], point.accuracy) for point in known]
    _bars(ax.vlines, places, [point.halves["accuracy"] for point in known], colour)
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
    "along a defense's strengths, in the order of the legend. Dashed: on sensitive "
    "images the best constant answer, which is always right with one sensitive label, "
    "on all labels the undefended target. Dotted: the best picture of a secret that "
    "needs neither features nor class, and the commonest label of the secrets. Left of "
    "them nothing leaks by this measure, but perhaps by another. Bars, where there are "
    "any: 95 % intervals of means over seeds."
)
_NOTE = (
    "The best of all attacks run on a defense at this strength, by mean SSIM against "
    "the secrets; its PSNR, and the share in which the judge recognises the secret, "
    "are the best of any attack. Without features: the best picture that "
    "needs none, nor the class. A published ε is no guarantee."
)
_WORDS = {
    "accuracy_secret": "accuracy, sensitive images (%)",
    "accuracy_all": "accuracy, all labels (%)",
}
_CONTROLS = {
    "accuracy_secret": {
        "accuracy_secret": "secret",
        "control_constant_answer": "constant answer",
        "accuracy_public": "public",
    },
    "accuracy_all": {"accuracy_all": "all labels", "target_accuracy_all": "target"},
}
"""The accuracy that points show -> what the table has, and what it calls it."""
_HEAD = ("best attack", "SSIM", "SSIM without features", "PSNR")
_PARAMETERS = ("defense", "stego", "bits")  # settings that make a defense stronger
_NAMED = 5  # strengths that a legend names one by one


def _is_curve(shown: Sequence[Point]) -> bool:
    """Whether any line has points that a number of the defense's tells apart."""
    lines: dict[tuple[str, str], set[str]] = {}
    for point in shown:
        numbers = [
            str(value)
            for key, value in point.strength.items()
            if key.split(".")[0] in _PARAMETERS and is_number(value)
        ]
        line = _curve(point), str(point.row.get("gamma"))
        lines.setdefault(line, set()).update([", ".join(numbers)] if numbers else [])
    return any(len(strengths) > 1 for strengths in lines.values())


def _told(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[str]]:
    """Defense -> those of the keys that tell its rows apart."""
    values: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        seen = values.setdefault(_kind(row), {key: set() for key in keys})
        for key in keys:
            seen[key].add(str(row.get(key)))
    return {
        kind: [key for key in keys if len(seen[key]) > 1]
        for kind, seen in values.items()
    }


def _point(
    group: Sequence[Replicates], telling: Sequence[str], labels: Labels, column: str
) -> Point:
    pictures = [(way, runs) for runs in group for way in leaked.ways(runs.row)]
    scored = [(way.ssim, way, runs) for way, runs in pictures if way.ssim is not None]
    ssim, best, runs = max(scored, key=lambda triple: triple[0])
    row = runs.row
    decibels = [(w.psnr, w, r) for _, w, r in scored if w.psnr is not None]
    nearest = max(decibels, key=lambda triple: triple[0], default=None)
    words = tables.text(row.get("attack"))
    if row.get("denoise") not in ABSENT and best.words != leaked.BEFORE:
        words += f" + {row['denoise']}"
    if best.words.startswith(leaked.EXTRACTED):
        words += ", read out"
    halves = {
        "accuracy": _half(runs, column),
        "ssim": _half(runs, f"ssim_{_PICTURES[best.words]}_secret_mean"),
        "psnr": np.nan,
    }
    if nearest is not None:
        name = _PICTURES[nearest[1].words]
        halves["psnr"] = _half(nearest[2], f"psnr_{name}_secret_mean")
    seen = [(x, r) for r in group if (x := number(r.row, "recognised")) is not None]
    recognised, looked = max(seen, key=lambda pair: pair[0], default=(np.nan, None))
    halves["recognised"] = np.nan if looked is None else _half(looked, "recognised")
    return Point(
        runs=runs,
        strength={key: _reached(row, key, labels) for key in telling},
        budgets={
            label.words(): row[name]
            for name, label in labels.items()
            if label.budget and row.get(name)
        },
        column=column,
        accuracy=row[column],
        ssim=ssim,
        psnr=np.nan if nearest is None else nearest[0],
        recognised=recognised,
        halves=halves,
        words=words,
    )


_PICTURES = {words: name for name, words in leaked.ATTACKED.items()}


def _half(runs: Replicates, column: str) -> float:
    mean = runs.mean(column)
    return np.nan if mean is None else mean.half


def _measured(point: Point, score: str) -> str:
    """The best score, with half its interval."""
    value, half = getattr(point, score), point.halves[score]
    return spread(tables.cell(f"{score}_", value), tables.cell(f"{score}_", half))


def _reached(row: Row, key: str, labels: Labels) -> Any:
    """The value of a setting, or what the defense says that it came to."""
    section, _, name = key.partition(".")
    if section == "defense" and name in labels and row.get(name) is not None:
        return row[name]
    return row.get(key)


def _colours(shown: Sequence[Point]) -> dict[str, str]:
    lines = dict.fromkeys(_curve(point) for point in shown)
    return dict(zip(lines, cycle(COLOURS), strict=False))


def _curve(point: Point) -> str:
    """The line that a point is on: its defense, and what is no number of its
    strength."""
    words = [
        f"{key.split('.')[-1]} {_short(value)}"
        for key, value in point.strength.items()
        if not is_number(value)
    ]
    return ", ".join([_kind(point.row), *words])


def _kind(row: Row) -> str:
    """The defense, and how it hides."""
    return " ".join(str(row[k]) for k in ("defense", "stego") if row.get(k))


def _name(point: Point) -> str:
    words = [f"{k.split('.')[-1]} {_short(v)}" for k, v in point.strength.items()]
    return " ".join([_kind(point.row), *words])


_REFERENCE = {
    "accuracy_secret": "control_constant_answer",
    "accuracy_all": "target_accuracy_all",
}
"""The accuracy that points show -> the column of the dashed line."""


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else tables.text(value)


def _series(shown: Sequence[Point], curve: str) -> str:
    """A line and its strengths, in order: `laplace, scale 0.5, 1, 2`."""
    strengths: dict[str, dict[str, None]] = {}
    for point in shown:
        for key, value in point.strength.items():
            if _curve(point) == curve and is_number(value):
                known = strengths.setdefault(key.split(".")[-1], {})
                known[_short(value)] = None
    words = (f"{key} {_listed([*values])}" for key, values in strengths.items())
    return ", ".join([curve, *words])


def _listed(values: Sequence[str]) -> str:
    if len(values) <= _NAMED:
        return ", ".join(values)
    return f"{values[0]}, {values[1]}, …, {values[-1]}"


def _line(ax: Axes, line: Sequence[Point], score: str, colour: str, name: str) -> None:
    xs = [getattr(point, score) for point in line]
    ys = [point.accuracy for point in line]
    ax.plot(xs, ys, "-", color=colour, lw=1.2)
    step = min(40, 120 / len(line))
    sizes = [30 + step * place for place in range(len(line))]
    ax.scatter(xs, ys, sizes, color=colour, alpha=0.75, linewidths=0, label=name)
    heights = list(zip(xs, ys, strict=True))
    _bars(ax.vlines, heights, [point.halves["accuracy"] for point in line], colour)
    widths = list(zip(ys, xs, strict=True))
    _bars(ax.hlines, widths, [point.halves[score] for point in line], colour)
    for point in (line[0], line[-1]) if len(line) > _NAMED else ():
        numbers = [_short(v) for v in point.strength.values() if is_number(v)]
        place = getattr(point, score), point.accuracy
        ax.annotate(", ".join(numbers), place, (5, 5), textcoords="offset points",
                    fontsize=7, color=colour)  # fmt: skip


def _bars(
    draw: Callable[..., Any],
    places: Sequence[tuple[float, float]],
    halves: Sequence[float],
    colour: str,
) -> None:
    """Intervals around the second of each place, at the first; none of one run."""
    ends = [
        (at, centre - half, centre + half)
        for (at, centre), half in zip(places, halves, strict=True)
        if finite(half)
    ]
    if ends:
        draw(*map(list, zip(*ends, strict=True)), colour, lw=1)


def _references(ax: Axes, here: Sequence[Point], score: str) -> None:
    control = _REFERENCE[here[0].column] if here else ""
    constant = [number(p.row, control) for p in here]
    if score == "recognised":
        blind = [number(p.row, "recognised_chance") for p in here]
    else:
        blind = [leaked.blind(p.row, score) for p in here]
    for values, draw, style in (
        (constant, ax.axhline, "--"),
        (blind, ax.axvline, ":"),
    ):
        known = [value for value in values if value is not None]
        if known:
            draw(float(np.mean(known)), color=FAINT, ls=style, lw=0.9)
