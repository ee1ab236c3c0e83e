"""tradeoff.py: defenses side by side, each against the best of its attackers."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from ghostjax.evaluation.rows import Label
from ghostjax.report import leaked, tradeoff
from ghostjax.report.comparison_page import varying

LABELS = {
    "bound": Label("bound"),
    "epsilon": Label("published ε", "nats", budget=True),
    "inverse_snr": Label("1/SNR", budget=True),
}
BLIND = {f"{score}_black_secret_mean": v for score, v in (("ssim", 0.3), ("psnr", 9.0))}


def row(defense, accuracy, attack, ssim, psnr, gamma="2:8", **more):
    return {
        "defense": defense, "gamma": gamma, "attack": attack, "seed": 0,
        "sensitive_labels": "3 7", "accuracy_secret": accuracy,
        "accuracy_public": 99.0, "control_constant_answer": 50.5,
        "ssim_reconstruction_secret_mean": ssim,
        "psnr_reconstruction_secret_mean": psnr, **BLIND, **more,
    }  # fmt: skip


def arden(scale, accuracy, attack, ssim, psnr, gamma="2:8", **more):
    settings = {"defense.scale": scale, "defense.steps": 7, "epsilon": 2 / scale}
    return row("arden", accuracy, attack, ssim, psnr, gamma, **settings, **more)


def ghost(attack, ssim, psnr, read, gamma="2:8"):
    more = {"ssim_extracted_secret_mean": read, "psnr_extracted_secret_mean": 12.0}
    more |= {"stego": "lsb", "defense.steps": 1000}
    return row("ghost", 97.0, attack, ssim, psnr, gamma, **more)


ROWS = [
    ghost("rmle", 0.2, 8.0, 0.6),
    ghost("inverse", 0.25, 11.0, 0.1),
    arden(1.0, 95.0, "rmle", 0.4, 10.0, denoise="none"),
    arden(1.0, 95.0, "rmle", 0.7, 13.0, denoise="cda"),
    arden(1.0, 95.0, "inverse", 0.65, 14.0),
    arden(5.0, 60.0, "rmle", 0.1, 5.0),
    arden(5.0, 60.0, "inverse", 0.35, 9.0, gamma="2:8"),
    arden(5.0, 55.0, "inverse", 0.33, 9.0, gamma="4:6"),
]


def points(rows=ROWS):
    return tradeoff.points(rows, varying(rows), LABELS)


def test_runs_that_differ_in_the_attacker_are_one_point_of_the_best():
    shown = [(p.row["defense"], p.strength, p.ssim, p.psnr, p.words) for p in points()]
    assert shown == [
        ("ghost", {}, 0.6, 12.0, "rmle, read out"),
        ("arden", {"defense.scale": 1.0}, 0.7, 14.0, "rmle + cda"),
        ("arden", {"defense.scale": 5.0}, 0.35, 9.0, "inverse"),
        ("arden", {"defense.scale": 5.0}, 0.33, 9.0, "inverse"),
    ]
    assert [p.row["gamma"] for p in points()] == ["2:8", "2:8", "2:8", "4:6"]


def test_what_is_recognised_is_a_third_axis():
    seen = [12.0, 31.0, 40.0, 55.0, 71.0, 20.0, 22.0, 24.0]
    rows = [
        {**row, "recognised": percent, "recognised_chance": 50.0}
        for row, percent in zip(ROWS, seen, strict=True)
    ]
    shown = points(rows)
    assert [point.recognised for point in shown] == [31.0, 71.0, 22.0, 24.0]
    table = tradeoff.table(shown)
    assert table.head[-1] == "recognised" and table.lines[0][-1] == "31.00 %"
    assert "recognised" not in tradeoff.table(points()).head
    panels = len(tradeoff.figure(points()).axes)
    figure = tradeoff.figure(shown)
    assert len(figure.axes) == panels * 3 // 2
    last = [ax for ax in figure.axes if "recognised" in ax.get_xlabel()]
    dots = [tuple(xy) for ax in last for c in ax.collections for xy in c.get_offsets()]
    assert {x for x, _ in dots} >= {31.0, 71.0, 22.0, 24.0}
    chance = [x for ax in last for line in ax.lines for x in line.get_xdata()]
    assert 50.0 in chance


def test_other_labels_at_one_seed_stay_points_of_their_own():
    again = [{**ROWS[0], "sensitive_labels": "1 2"}, {**ROWS[0], "target.seed": 5}]
    rows = [{"target.seed": 0, **r} for r in [*ROWS, *again]]
    assert len(points(rows)) == len(points()) + 2


def test_seeds_are_one_point_of_means_with_intervals():
    again = [{**r, "seed": 1, "sensitive_labels": "1 2"} for r in ROWS[:2]]
    again[1] |= {"ssim_reconstruction_secret_mean": 0.35, "accuracy_secret": 98.0}
    again[0] |= {"ssim_extracted_secret_mean": 0.2, "accuracy_secret": 98.0}
    first, *rest = points([*ROWS, *again])
    assert len(rest) == len(points()) - 1
    assert (first.runs.seeds, first.accuracy, first.ssim) == (2, 97.5, 0.4)
    assert first.words == "rmle, read out", "the best on average, not of each seed"
    half = 12.7062 * 1 / 2  # t of one degree, times the standard error of 97 and 98
    assert first.halves["accuracy"] == pytest.approx(half, rel=1e-5)
    assert first.halves["ssim"] == pytest.approx(half * 0.4, rel=1e-5)
    shown = tradeoff.table([first, *rest])
    assert shown.lines[0][:5] == ["ghost lsb", "2:8", "2", "–", "97.50 ± 6.35 %"]
    assert shown.lines[1][2] == "1" and "±" not in shown.lines[1][4]
    assert "n = 2 runs that differ only in the seed" in shown.note
    assert "±" not in tradeoff.table(points()).note
    ssim = tradeoff.figure([first, *rest]).axes[0]
    ((low, high), (left, right)) = (
        [tuple(map(float, end)) for end in lines.get_segments()[0]]
        for lines in ssim.collections
        if isinstance(lines, LineCollection)
    )
    assert np.allclose([low, high], [(0.4, 97.5 - half), (0.4, 97.5 + half)])
    assert np.allclose([left[0], right[0]], [0.4 - 0.4 * half, 0.4 + 0.4 * half])


@pytest.mark.parametrize(
    "rows",
    [ROWS[:2], ROWS[2:5], [ROWS[0], row("plain", 99.0, "none", None, None)]],
    ids=["one defense", "the other at one strength", "one attacked"],
)
def test_nothing_to_compare_gives_no_points(rows):
    assert points(rows) == []


def test_a_defenses_own_keys_tell_only_its_own_runs_apart():
    assert varying(ROWS) == [
        "defense", "stego", "gamma", "attack", "denoise", "defense.scale"
    ]  # fmt: skip


def test_what_follows_from_the_ratio_is_no_strength():
    rows = [{**r, "defense.steps": int(r["gamma"][0])} for r in ROWS]
    assert varying(rows) == varying(ROWS)
    assert points(rows)[3].strength == {"defense.scale": 5.0}
    rows[4]["defense.steps"] = 9  # of two ARDENs alike in ratio and attack
    assert "defense.steps" in varying(rows)


def test_the_table_has_a_line_a_point_with_strengths_and_controls():
    shown = tradeoff.table(points())
    assert shown.lines[1] == [
        "arden scale 1", "2:8", "2", "95.00 %", "50.50 %", "99.00 %", "rmle + cda",
        "0.700", "0.300", "14.00 dB",
    ]  # fmt: skip
    assert shown.lines[0][:3] == ["ghost lsb", "2:8", "–"]
    assert all(len(line) == len(shown.head) for line in shown.lines)


def test_the_figure_has_a_panel_a_ratio_and_every_point_where_it_belongs():
    figure = tradeoff.figure(points())
    axes = figure.axes
    assert [ax.get_title() for ax in axes[:2]] == ["γ 2:8", "γ 4:6"]
    assert drawn(axes[0]) == {
        "ghost lsb": [(0.6, 97.0)],
        "arden, scale 1, 5": [(0.7, 95.0), (0.35, 60.0)],
    }
    assert drawn(axes[2])["arden, scale 1, 5"] == [(14.0, 95.0), (9.0, 60.0)]
    first, second = axes[0].collections[1].get_sizes()
    assert first < second, "dots grow along the strengths"


def test_a_defense_that_is_missing_at_a_ratio_is_in_the_legend_with_its_dots():
    more = row("ghost_plus", 90.0, "rmle", 0.1, 8.0, gamma="4:6", stego="lsb")
    figure = tradeoff.figure(points([*ROWS, more]))
    assert set(drawn(figure.axes[0])) == {"ghost lsb", "arden, scale 1, 5"}
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert names == {"ghost lsb", "arden, scale 1, 5", "ghost_plus lsb"}
    assert all(len(mark.get_sizes()) for mark in legend.legend_handles)


def shredder(wanted, accuracy, reached, gamma="2:8"):
    snr = {"defense.inverse_snr": wanted, "inverse_snr": reached}
    return row("shredder", accuracy, "inverse", 0.8, 20.0, gamma, **snr)


def test_a_learned_noise_is_named_by_the_1_over_snr_it_has_reached():
    rows = [*ROWS, shredder(1.0, 98.0, 3.25), shredder(100.0, 97.0, 59.96)]
    last = points(rows)[-1]
    assert last.strength == {"defense.inverse_snr": 59.96}
    shown = tradeoff.table(points(rows))
    place = list(shown.head).index("1/SNR")
    assert shown.lines[-1][0] == "shredder inverse_snr 60"
    assert shown.lines[-1][place] == "60" and shown.lines[0][place] == "–"


def test_a_network_s_own_seed_is_not_taken_for_the_run_s():
    rows = [{**r, "stego.seed": 5 + (r is ROWS[0])} for r in ROWS[:2]] + ROWS[2:]
    rows[1] |= {"attack": "rmle"}
    strengths = [p.strength for p in points(rows) if p.row["defense"] == "ghost"]
    assert strengths == [{"stego.seed": 6}, {"stego.seed": 5}]


def test_fig_8_as_printed_has_each_rival_over_its_own_budget():
    rows = [*ROWS, shredder(1.0, 98.0, 3.25), shredder(100.0, 97.0, 59.96)]
    axes = tradeoff.budgets(points(rows)).axes
    labels = [ax.get_xlabel() for ax in axes]
    assert labels == ["published ε, nats", "published ε, nats", "1/SNR", "1/SNR"]
    (rival, level) = sorted(axes[0].lines, key=lambda line: line.get_linestyle())
    assert list(zip(*rival.get_data(), strict=True)) == [(0.4, 60.0), (2.0, 95.0)]
    assert list(level.get_ydata()) == [97.0, 97.0]  # GHOST has no budget
    (rival, _) = sorted(axes[2].lines, key=lambda line: line.get_linestyle())
    assert list(zip(*rival.get_data(), strict=True)) == [(3.25, 98.0), (59.96, 97.0)]
    plain = [ROWS[0], row("noise", 90.0, "rmle", 0.3, 9.0)]
    assert tradeoff.budgets(points(plain)) is None


def test_two_level_lines_at_one_height_are_both_seen():
    rows = [ROWS[0], row("ghost_plus", 97.0, "rmle", 0.1, 9.0), *ROWS[2:4]]
    figure = tradeoff.budgets(points(rows))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (x0, _), (x1, _) = figure.axes[0].bbox.get_points().astype(int)
    inside = np.asarray(canvas.buffer_rgba())[:, x0:x1, :3]  # without the legend
    levels = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert len(levels) == 2
    for line in levels:
        colour = np.rint(255 * np.array(to_rgb(line.get_color())))
        assert (np.abs(inside - colour).max(axis=-1) < 30).sum() > 50


def noise(place, level, accuracy, ssim, psnr, **more):
    settings = {"defense.place": place, "defense.level": level, "stego": ""}
    both = {"accuracy_all": accuracy, "target_accuracy_all": 99.0}
    return row("noise", 1.0, "rmle", ssim, psnr, **settings, **both, **more)


NOISE = [
    noise(place, level, 99.0 - 3 * level - 10 * at, 0.5 - 0.04 * level, 12.0 - level)
    for at, place in enumerate(("input", "features"))
    for level in (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)
]


def test_one_defense_is_a_curve_over_its_level_with_the_accuracy_on_all_labels():
    shown = points(NOISE)
    assert not tradeoff.rivals(shown) and len(shown) == 12
    assert {p.column for p in shown} == {"accuracy_all"}
    figure = tradeoff.figure(shown)
    ssim, psnr = figure.axes
    assert ssim.get_ylabel() == "accuracy, all labels (%)"
    names = [f"noise, place {place}, level 0, 0.1, …, 4" for place in PLACES]
    assert list(drawn(ssim)) == names, "a line for each place, in the order of levels"
    assert drawn(ssim)[names[0]] == [(p.ssim, p.accuracy) for p in shown[:6]]
    assert drawn(psnr)[names[1]] == [(p.psnr, p.accuracy) for p in shown[6:]]
    assert [text.get_text() for text in ssim.texts] == ["0", "4"] * 2
    assert [99.0, 99.0] in [list(x.get_ydata()) for x in ssim.lines], "the target"
    table = tradeoff.table(shown)
    assert list(table.head[2:4]) == ["all labels", "target"]
    assert "constant answer" not in table.head
    assert table.lines[3][:3] == ["noise place input level 1", "2:8", "96.00 %"]


PLACES = ("input", "features")


def test_what_is_no_strength_of_one_defense_makes_no_curve():
    cuts = [{**r, "cut": str(r["defense.level"]), "defense.level": 1.0} for r in NOISE]
    assert points(cuts) == [] and points(NOISE[:1]) == []
    several = [{**r, "attack.steps": 5} for r in NOISE[:1]]
    assert points([*NOISE[:1], *several]) == [], "the attacker's"


def test_one_defense_that_hides_is_judged_by_its_secrets():
    rows = [{**ROWS[0], "bits": bits, "accuracy_secret": 90 + bits} for bits in (2, 3)]
    shown = points(rows)
    assert [(p.column, p.accuracy) for p in shown] == [
        ("accuracy_secret", 92), ("accuracy_secret", 93)
    ]  # fmt: skip


def test_accuracy_spans_ten_points_and_scores_their_least():
    flat = [{**r, "accuracy_all": 98.5 + r["defense.level"] / 4} for r in NOISE]
    flat = [{**r, "target_accuracy_all": 99.0} for r in flat]
    ssim, _ = tradeoff.figure(points(flat)).axes
    low, high = ssim.get_ylim()
    assert high - low >= 10 and low < 98.5 and high > 99.5
    rivals = [ROWS[0], {**ROWS[2], "accuracy_secret": 96.8}]
    shown = points(rivals)
    for ax in (*tradeoff.figure(shown).axes, *tradeoff.budgets(shown).axes):
        low, high = ax.get_ylim()
        assert 10 <= high - low and high <= 103
    left, right = tradeoff.figure(points(flat[:2])).axes[0].get_xlim()
    assert right - left >= 0.1


def test_no_epsilon_is_shown_as_a_guarantee():
    from ghostjax.defenses import arden

    assert "no guarantee" in arden._PUBLISHED
    assert "no guarantee" in tradeoff.table(points()).note
    assert "no ε here is a guarantee" in tradeoff.BUDGETS_CAPTION


def test_what_is_read_before_the_denoiser_counts_as_the_attack_without_it():
    denoised = {"ssim_extracted_before_secret_mean": 0.8, "denoise": "cda"}
    best = points([{**ROWS[0], **denoised}, *ROWS[2:]])[0]
    assert (best.ssim, best.words) == (0.8, "rmle, read out")


def drawn(ax):
    return {
        dots.get_label(): [tuple(map(float, place)) for place in dots.get_offsets()]
        for dots in ax.collections
    }


def test_ways_are_ranked_by_ssim_and_may_lack_a_score():
    (first, second) = leaked.ways(ROWS[0])
    assert (first.ssim, second.ssim) == (0.6, 0.2)
    assert leaked.ways({"psnr_reconstruction_secret_mean": 9.0})[0].ssim is None
    assert leaked.ways({}) == []
