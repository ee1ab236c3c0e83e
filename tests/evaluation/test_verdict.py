"""What is said of an attacker follows from its numbers, and from nothing else."""

import pytest

from ghostjax.evaluation.intervals import Share
from ghostjax.evaluation.verdict import Quality, Reading, verdict

WORSE = [
    Quality("PSNR", mean=12.0, low=11.5, baseline=13.5, form=".1f", unit="dB"),
    Quality("SSIM", mean=0.1, low=0.05, baseline=0.2),
]


def read(count, n, chance=50.0):
    return Reading("recognition", "are recognised", Share(count, n, chance))


def placed(count, n, number=500, clear=0):
    share = Share(count, n, 100 / number, clear)
    return Reading("re-identification", f"are re-identified among {number}", share)


@pytest.mark.parametrize(
    "readings, kind",
    [
        ([read(500, 1000), placed(2, 1000)], "nothing"),
        ([read(20, 200, 10.0), placed(1, 200)], "nothing"),
        ([read(0, 60), placed(0, 60, 20)], "nothing"),
        ([read(36, 73), placed(1, 73, 73)], "open"),  # 50 % ± 11
        ([read(0, 49), placed(0, 49, 20)], "open"),
        ([read(9, 16), placed(0, 16)], "open"),
        ([read(15, 16), placed(0, 16)], "something"),
        ([read(500, 1000), placed(20, 1000)], "something"),
        ([read(0, 60), placed(1, 60, 60, clear=1)], "something"),
        ([read(0, 100), placed(10, 100, 10, clear=1)], "open"),  # 1 of 10 by chance
        ([read(100, 100, 100.0), placed(0, 100)], "nothing"),  # one sensitive label
        ([read(100, 100, 100.0)], "open"),
    ],
)
def test_shares_decide(readings, kind):
    assert verdict(readings, WORSE).kind == kind


@pytest.mark.parametrize(
    "quality, kind",
    [
        (Quality("PSNR", mean=13.5, low=13.0, baseline=13.5), "nothing"),
        (Quality("PSNR", mean=13.6, low=13.4, baseline=13.5), "open"),
        (Quality("PSNR", mean=13.8, low=13.6, baseline=13.5), "something"),
        (Quality("SSIM", mean=float("nan"), low=float("nan"), baseline=0.2), "open"),
    ],
)
def test_pictures_better_than_any_without_features_are_not_nothing(quality, kind):
    readings = [read(500, 1000), placed(2, 1000)]
    assert verdict(readings, [*WORSE[1:], quality]).kind == kind


def test_the_words_hold_every_number():
    words = verdict([read(66, 73, 50.7), placed(57, 73, 73)], WORSE).words
    for part in (
        "90.4 % of 73 are recognised (81.5 to 95.3 %; chance 50.7 %)",
        "78.1 % of 73 are re-identified among 73",
        "PSNR is 12.0 dB (without features 13.5 dB)",
        "SSIM is 0.100",
    ):
        assert part in words
    assert "nothing" not in words and "\n" not in words
    assert (
        "1 picture is clearly"
        in verdict([read(0, 60), placed(1, 60, 60, clear=1)], WORSE).words
    )


def test_the_largest_of_many_shares_is_held_against_many():
    few = [read(121, 200), placed(0, 200)]  # 121: 53.6 to 67.0 %
    many = [*few, *[read(100, 200)] * 17]
    assert verdict(few, WORSE).kind == "something"
    assert verdict(many, WORSE).kind == "open"
    assert verdict([*many, read(140, 200)], WORSE).kind == "something"


def test_of_each_kind_the_largest_is_shown():
    others = [read(9, 73, 50.7), placed(1, 73, 73)]
    better = Quality("PSNR", 14.0, 13.9, 13.5, ".1f", "dB", of="secrets read out")
    words = verdict([*others, read(66, 73, 50.7)], [*WORSE, better]).words
    assert "90.4 %" in words and "12.3 %" not in words and "12.0 dB" not in words
    assert "PSNR of secrets read out is 14.0 dB (without features 13.5 dB)" in words


def test_without_a_judge_nothing_is_ruled_out():
    readings = [read(500, 1000), placed(2, 1000)]
    said = verdict(readings, WORSE, judged=False)
    assert said.kind == "open" and "without an independent judge" in said.words
    seen = verdict([read(900, 1000)], WORSE, judged=False)
    assert seen.kind == "something"


@pytest.mark.parametrize("readings, qualities", [([], WORSE), ([read(1, 2)], [])])
def test_no_verdict_without_numbers(readings, qualities):
    with pytest.raises(ValueError, match="give"):
        verdict(readings, qualities)
