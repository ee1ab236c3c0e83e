"""Charts over what varies between runs: accuracy and image quality, matplotlib Figures.

The number that varies becomes the axis, else the cut; what else tells the runs apart
becomes one line each. Imports no jax.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghostjax.evaluation.intervals import Mean
from ghostjax.evaluation.rows import Row
from ghostjax.report import tables
from ghostjax.report.page import Chart
from ghostjax.report.panels import COLOURS, FAINT, finite, tidy, widen
from ghostjax.report.replicates import DRAWS, Replicates, replicates

__all__ = ["charts", "curves", "gamma_chart", "partition_chart"]


def charts(rows: Sequence[Row], varying: Sequence[str]) -> list[Chart]:
    """The charts that a comparison of runs calls for; none where nothing fits.

    Args:
      rows: result rows.
      varying: columns that differ among them.

    Returns:
      Accuracy over gamma where gamma varies. Accuracy, PSNR, SSIM and what is
      recognised over the one number that varies by itself (not as a consequence of what
      else varies), or over the cuts, from the first layer on. Runs that differ only in
      the seed are one point, with the 95 % interval of their mean.
    """
    fitting = []
    runs = replicates(rows, varying)
    over = max((run.seeds for run in runs), default=1)
    bars = _BARS.format(over) if over > 1 else ""
    if "gamma" in varying:
        keys = [key for key in varying if key != "gamma" and not tables.attackers(key)]
        group = _independent(rows, keys)  # no attack changes an accuracy
        figure = gamma_chart([row for row in rows if row.get("gamma")], group)
        fitting.append(
            Chart(
                name="gamma",
                title="Accuracy over γ",
                caption=_GAMMA + bars,
                figure=figure,
            )
        )
    key = _axis(rows, varying)
    if key is not None:
        group = _independent(rows, [k for k in varying if not _numeric(rows, k)])
        group = [k for k in group if k not in (key, "gamma")]
        drawn = curves(runs, key, group)
        if drawn is not None:
            fitting.append(
                Chart(
                    name=key.replace(".", "_"),
                    title=f"Accuracy and image quality over {tables.label(key)}",
                    caption=_CURVES + bars,
                    figure=drawn,
                )
            )
    return fitting


def curves(runs: Sequence[Replicates], key: str, group: Sequence[str]) -> Figure | None:
    """Accuracy, PSNR, SSIM and the share that is recognised over a column, one line for
    each combination of `group`.

    A point is the mean over the runs that share it, with the interval of that mean
    where they are replicates. What an attacker has without
    looking at any feature is a dashed line, the best named. An accuracy that is the
    same everywhere is left out. None where no row has any of the four.
    """
    rows = [row for run in runs for row in run.rows]
    shown = [panel for panel in _PANELS if _worth(rows, panel[0])]
    if not shown:
        return None
    figure = Figure(figsize=(1.8 + 3.9 * len(shown), 3.9), layout="constrained")
    ticks = None if _numeric(rows, key) else _ticks(rows, key)
    combinations = list(dict.fromkeys(tuple(r.get(k) for k in group) for r in rows))
    for ax, (column, label, base) in zip(
        figure.subplots(1, len(shown), squeeze=False).flat, shown, strict=True
    ):
        for chosen, (style, colour) in zip(combinations, _looks(), strict=False):
            alike = [r for r in runs if tuple(r.row.get(k) for k in group) == chosen]
            named = zip(group, chosen, strict=True)
            name = ", ".join(f"{k.split('.')[-1]} {tables.text(v)}" for k, v in named)
            xs, means, halves = _means(alike, key, column, ticks)
            ax.plot(xs, means, style, color=colour, label=name, marker="o", ms=3.5)
            _bars(ax, xs, means, halves, colour)
        _references(ax, rows, base)
        widen(ax, "y", column.partition("_")[0])
        if ticks is not None:
            ax.set_xticks(range(len(ticks)), ticks, rotation=45, ha="right")
        ax.set_xlabel(tables.label(key))
        ax.set_ylabel(label)
        tidy(ax)
    if group:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def gamma_chart(rows: Sequence[Row], group: Sequence[str]) -> Figure:
    """Accuracy over gamma, as in GHOST's Fig. 6: a point per run, a line of means.

    Where runs differ only in their seeds, a bar is the 95 % interval of their mean.

    Args:
      rows: result rows with "gamma".
      group: columns that tell the charts apart, one chart for each combination.
    """
    combinations = {tuple(row.get(key) for key in group): None for row in rows}
    across = min(3, len(combinations))
    down = -(-len(combinations) // across)
    figure = Figure(
        figsize=(1.5 + 4.2 * across, 3.9 * down + 0.5), layout="constrained"
    )
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax in axes.flat[len(combinations) :]:
        ax.set_visible(False)
    ticks = sorted({str(row["gamma"]) for row in rows if row.get("gamma")}, key=_share)
    for ax, chosen in zip(axes.flat, combinations, strict=False):
        alike = [r for r in rows if tuple(r.get(key) for key in group) == chosen]
        named = zip(group, chosen, strict=True)
        words = (f"{k.split('.')[-1]} {tables.text(v)}" for k, v in named if v)
        ax.set_title(", ".join(words), fontsize=10)
        _accuracies(ax, alike, ticks)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def partition_chart(
    cuts: Sequence[Row],
    attacks: Sequence[str],
    max_ssim: float | None,
    recommended: str | None,
) -> Figure:
    """What each cut costs over what each attack sees there; a band marks one cut.

    Args:
      cuts: in network order, with "cut", "edge_ms", "upload_ms", "other_ms",
        "energy_mj", and "ssim <attack>" for each attack.
      attacks: their names.
      max_ssim: the limit, drawn as a line; None for none.
      recommended: the cut to mark, if there is one.
    """
    figure = Figure(figsize=(2.4 + 0.75 * len(cuts), 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    places, bottom = np.arange(len(cuts)), np.zeros(len(cuts))
    for (column, label), colour in zip(_COSTS.items(), COLOURS, strict=False):
        heights = np.array([row[column] for row in cuts])
        upper.bar(places, heights, 0.6, bottom, color=colour, label=label)
        bottom += heights
    energy = upper.twinx()
    energies = [row["energy_mj"] for row in cuts]
    energy.plot(places, energies, "D", color="#1b1b1b", ms=4, label="edge energy")
    energy.set(ylim=(0, None), ylabel="energy of the edge (mJ)")
    upper.set_ylabel("latency (ms)")
    for attack, (style, colour) in zip(attacks, _looks(), strict=False):
        seen = [row.get(f"ssim {attack}", np.nan) for row in cuts]
        lower.plot(places, seen, style, color=colour, marker="o", ms=4, label=attack)
    if max_ssim is not None:
        lower.axhline(max_ssim, color=FAINT, ls="--", lw=1, label="limit")
    lower.set(ylim=(min(0, lower.get_ylim()[0]), 1.03))
    lower.set_ylabel("SSIM of the reconstruction")
    lower.set_xticks(places, [row["cut"] for row in cuts], rotation=45, ha="right")
    for ax in (upper, lower):
        for place, row in enumerate(cuts):
            if row["cut"] == recommended:
                ax.axvspan(place - 0.45, place + 0.45, color="#009e73", alpha=0.15)
        tidy(ax)
    for ax in (upper, lower):
        handles: list[Any] = []
        labels: list[Any] = []
        for shown in (ax, *_twins(ax, energy)):
            more, words = shown.get_legend_handles_labels()
            handles, labels = handles + more, labels + words
        ax.legend(handles, labels, frameon=False, fontsize=8)
    return figure


_GAMMA = (
    "Rings are runs (their draws of the sensitive labels), lines are means over them; "
    "dashed lines are the controls. With one sensitive label a constant answer is "
    "always right. Read and classified: secrets whose label the judge reads in "
    "the best attack's pictures; a cloud that attacks could answer as well "
    "without any retraining."
)
_CURVES = (
    "Means over the test images of a run. Dashed: pictures that an attacker has "
    "without features and class, the accuracy of the undefended target, and what the "
    "commonest label would get. PSNR and SSIM (standard, range 1) are those of the "
    "reconstruction against the secret."
)
_BARS = (
    " Bars: 95 % intervals (Student's t) of means over up to {} runs that differ only "
    "in the seed."
)
_PANELS = (  # column, label, its reference lines
    (
        "accuracy_all",
        "accuracy, all labels (%)",
        {"target_accuracy_all": "target"},
    ),
    (
        "psnr_reconstruction_secret_mean",
        "PSNR (dB)",
        {f"psnr_{n}_secret_mean": n for n in ("black", "train_mean")},
    ),
    (
        "ssim_reconstruction_secret_mean",
        "SSIM",
        {f"ssim_{n}_secret_mean": n for n in ("black", "train_mean")},
    ),
    ("recognised", "secrets recognised (%)", {"recognised_chance": "chance"}),
)
_READ = "recognised"  # the column that depends on the attack
_COSTS = {"edge_ms": "edge", "upload_ms": "upload", "other_ms": "round trip and cloud"}
_SERIES = {
    "accuracy_secret": ("secret images", COLOURS[0], "-"),
    "accuracy_public": ("public images", COLOURS[2], "-"),
    "control_constant_answer": ("constant answer", COLOURS[1], (0, (4, 4))),
    "control_shuffled_secret": ("shuffled secret", COLOURS[3], (4, (4, 4))),
    "control_cover_only": ("cover only", COLOURS[4], "--"),
    "target_accuracy_public": ("target, public", FAINT, ":"),
    _READ: ("read and classified", COLOURS[5], "-"),
}


def _axis(rows: Sequence[Row], varying: Sequence[str]) -> str | None:
    """The one number that varies by itself, or the cut, or None."""
    numbers = [key for key in varying if _numeric(rows, key)]
    words = [key for key in varying if key not in numbers]
    free = [key for key in _independent(rows, [*words, *numbers]) if key in numbers]
    if len(free) == 1:
        return free[0]
    return "cut" if "cut" in varying and not free else None


def _independent(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Those keys, in order, that tell rows apart which the keys before do not."""
    chosen: list[str] = []
    for key in keys:
        without, beside = (
            len({tuple(str(row.get(k)) for k in tried) for row in rows})
            for tried in (chosen, [*chosen, key])
        )
        if beside > without:
            chosen.append(key)
    return chosen


def _numeric(rows: Sequence[Row], key: str) -> bool:
    values = [row[key] for row in rows if row.get(key) is not None]
    return bool(values) and "seed" not in key and all(map(finite, values))


def _ticks(rows: Sequence[Row], key: str) -> list[str]:
    """The words of a column, cuts by their depth where the rows tell it."""
    depth = {str(row.get(key)): row.get("edge_layers") or 0 for row in rows}
    return sorted(depth, key=depth.__getitem__)


def _worth(rows: Sequence[Row], column: str) -> bool:
    """Whether a panel would show something."""
    values = {row[column] for row in rows if finite(row.get(column))}
    return len(values) > (1 if column.startswith("accuracy") else 0)


def _means(
    runs: Sequence[Replicates], key: str, column: str, ticks: list[str] | None
) -> tuple[list[float], list[float], list[float]]:
    """(x, mean of the column, half its interval) at each x, from left to right.

    Half an interval is NaN where the runs at an x differ in more than the seed.
    """
    points: dict[float, list[Mean]] = {}
    for run in runs:
        mean, place = run.mean(column), run.row.get(key)
        if mean is not None and place is not None:
            x = place if ticks is None else ticks.index(str(place))
            points.setdefault(x, []).append(mean)
    xs = sorted(points)
    means = [float(np.mean([mean.mean for mean in points[x]])) for x in xs]
    halves = [points[x][0].half if len(points[x]) == 1 else np.nan for x in xs]
    return xs, means, halves


def _bars(
    ax: Axes,
    xs: Sequence[float],
    means: Sequence[float],
    halves: Sequence[float],
    colour: str,
) -> None:
    """Intervals as vertical lines, where there are any."""
    known = [place for place, half in enumerate(halves) if finite(half)]
    if known:
        lows, highs = (
            [means[place] + sign * halves[place] for place in known] for sign in (-1, 1)
        )
        at = [xs[place] for place in known]
        ax.vlines(at, lows, highs, colour, lw=1.1, alpha=0.7)


def _references(ax: Axes, rows: Sequence[Row], columns: dict[str, str]) -> None:
    heights = {}
    for column, name in columns.items():
        values = [row[column] for row in rows if finite(row.get(column))]
        if values:
            heights[name] = float(np.mean(values))
            ax.axhline(heights[name], color=FAINT, ls="--", lw=0.9)
    if heights:
        best = max(heights, key=heights.__getitem__)
        ax.annotate(best.replace("_", " "), (0.99, heights[best]), (0, 2), fontsize=7,
                    xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                    ha="right", color=FAINT)  # fmt: skip


def _looks() -> Iterator[tuple[str, str]]:
    """(line style, colour), all colours before the next style."""
    return cycle(product(("-", "--", ":"), COLOURS))


def _twins(ax: Axes, other: Axes) -> list[Axes]:
    return [other] if ax.get_subplotspec() == other.get_subplotspec() else []


def _accuracies(ax: Axes, rows: Sequence[Row], ticks: list[str]) -> None:
    """All series over gamma on one Axes, of what the rows have."""
    rows = _by_best_attack(rows)
    runs = replicates(rows, ["gamma"])
    for key, (label, colour, style) in _SERIES.items():
        by_tick: dict[int, list[float]] = {}
        for row in rows:
            if finite(row.get(key)) and row.get("gamma"):
                by_tick.setdefault(ticks.index(str(row["gamma"])), []).append(row[key])
        xs = sorted(by_tick)
        if not xs and key == _READ:
            continue
        means = [float(np.mean(by_tick[x])) for x in xs]
        marker = "o" if style == "-" else None
        ax.plot(xs, means, ls=style, color=colour, label=label, marker=marker, ms=3.5)
        if style == "-":
            _bars(ax, *_means(runs, "gamma", key, ticks), colour)
            across = [x for x in xs for _ in by_tick[x]]
            up = [value for x in xs for value in by_tick[x]]
            ax.scatter(across, up, s=26, facecolors="none", edgecolors=colour)
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set_xlim(-0.3, len(ticks) - 0.7)
    ax.set_ylim(-3, 103)
    ax.set_xlabel("γ (sensitive : public labels)")
    ax.set_ylabel("accuracy (%)")
    tidy(ax)


def _by_best_attack(rows: Sequence[Row]) -> list[Row]:
    """Of runs that differ in the attack alone one, since no attack changes an accuracy,
    with the largest share that any has recognised."""
    best: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        known = best.setdefault(
            tuple(str(row.get(key)) for key in ("gamma", *DRAWS)), dict(row)
        )
        seen = [r[_READ] for r in (known, row) if finite(r.get(_READ))]
        if seen:
            known[_READ] = max(seen)
    return list(best.values())


def _share(gamma: str) -> float:
    """The sensitive share of "n_s:n_c"; what is written otherwise comes last."""
    try:
        sensitive, public = (float(number) for number in gamma.split(":"))
        return sensitive / (sensitive + public)
    except (ValueError, ZeroDivisionError):
        return 2.0
