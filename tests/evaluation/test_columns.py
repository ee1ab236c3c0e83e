"""columns.py: every column has a meaning. Of real rows see tests/experiments."""

import pytest

from ghostjax import cli
from ghostjax.evaluation import columns
from ghostjax.report.comparison_page import SETTINGS


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("accuracy_secret", "accuracy_secret"),
        ("accuracy_secret_n", "<accuracy>_n"),
        ("psnr_reconstruction_secret_mean", "psnr_<a>_<b>_mean"),
        ("psnr8_extracted_before_secret_mean", "psnr8_<a>_<b>_mean"),
        ("ssim_class_mean_secret_mean", "<score>_<blind>_secret_mean"),
        ("psnr_mean_image_secret_low", "<quantity>_low"),
        ("perturbation_linf_max", "<quantity>_max"),
        ("defense.level", "defense.<key>"),
        ("denoise.inner.steps", "denoise.<key>"),
    ],
)
def test_a_column_finds_its_line(column, name):
    assert columns.find(column).name == name
    assert [line.name for line in columns.COLUMNS if line.is_of(column)] == [name]


@pytest.mark.parametrize(
    "column", ["accuracy_sceret", "psnr_a_b_mean", "psnr_reconstruction_secret", "x.y"]
)
def test_what_is_no_column_finds_none(column):
    assert columns.find(column) is None


def test_every_line_has_a_meaning_and_every_number_a_unit():
    names = [line.name for line in columns.COLUMNS]
    assert len(set(names)) == len(names) and set(SETTINGS) <= set(names)
    for line in columns.COLUMNS:
        assert line.meaning and line.meaning == line.meaning.strip()
        start = line.name.partition("_")[0]
        units = {"accuracy": "%", "control": "%", "psnr": "dB", "seconds": "s"}
        assert line.unit == units.get(start, line.unit), line.name


@pytest.mark.parametrize("words", [["report"], ["run"], ["run", "digits"]])
def test_the_command_line_lists_them(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help-columns"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(line.meaning in printed for line in columns.COLUMNS)
