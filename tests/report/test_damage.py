"""What is damaged, missing or somebody else's is refused by name or said on the page,
and no text of it becomes a path, mathtext or a traceback."""

import os

import numpy as np
import pytest
from test_report import arrays_of, make_run, old, page, words

from ghostjax import files
from ghostjax.report import charts
from ghostjax.report import page as pieces
from ghostjax.report.comparison_page import compare
from ghostjax.report.folder import KEPT, cautions, faults, read_row
from ghostjax.report.run_page import write_report

DAMAGES = {
    "a flipped bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "no UTF-8": lambda data: b"\xff\xfe\xfd",
    "deeply nested": lambda data: b"[" * 100_000,
    "a number": lambda data: b"3\n",
    "a list": lambda data: b"[]",
    "large numbers": lambda data: (
        b'{"part": "a", "step": 1%s, "loss": 1e999}\n' % (b"0" * 400)
    ),
    "no table": lambda data: b'{"part": ["a"], "step": {}, "loss": "b"}\n',
    "another archive": lambda data: files.npz_bytes({"cover": np.zeros(3)}),
}
FEW = arrays_of(count=2)
SIDE = [name for name in KEPT if name != "row.parquet"]


def spoil(run, name, damage):
    path = run / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_is_not_what_was_written_is_refused(tmp_path, damage):
    run, other = make_run(tmp_path / "a run", FEW), make_run(tmp_path / "b", FEW)
    path = spoil(run, "row.parquet", damage)
    for read in (read_row, write_report, lambda run: compare([other, run], tmp_path)):
        with pytest.raises(ValueError) as error:
            read(run)
        line = str(error.value)
        assert line.startswith(f"{path} cannot be read: it is not what was written")
        assert f"ghostjax run '{run / 'config.toml'}' --output {tmp_path}" in line
        assert "\n" not in line
    assert len(faults(run)) == 1 and str(path) in faults(run)[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_side_files_are_said_to_be_damaged(tmp_path, damage):
    """All of them at once, on the run's page and on a comparison's."""
    run = make_run(tmp_path / "run", FEW)
    paths = [spoil(run, name, damage) for name in SIDE]
    lines = faults(run)
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"{path} cannot be read: it is not what was written")
    assert cautions(run) == lines
    seen = words(page(run)), words(compare([run, run], tmp_path / "c").read_text())
    assert all(seen[0].count(line) == seen[1].count(line) == 1 for line in lines)
    assert "97.13 %" in seen[0]


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_an_older_run_is_a_traceback(tmp_path, damage):
    """Where no digest tells it, what cannot be shown is said, with the file's name."""
    run = old(make_run(tmp_path / "run", FEW))
    for name in SIDE:
        spoil(run, name, damage)
    seen = words(page(run))
    assert "97.13 %" in seen and "no digests.sha256 in" in seen
    if damage not in ("large numbers", "no table", "a flipped bit"):
        assert f"{run / 'arrays.npz'} cannot be read" in seen
        assert f"{run / 'environment.json'} cannot be read" in seen
    words(compare([run, run], tmp_path / "c").read_text())


@pytest.mark.parametrize("name", SIDE)
@pytest.mark.parametrize("digests", [True, False])
def test_what_is_missing_is_said(tmp_path, name, digests):
    run = make_run(tmp_path / "run", FEW)
    run = run if digests else old(run)
    (run / name).unlink()
    assert bool(faults(run)) == digests
    for text in (page(run), compare([run], tmp_path / "c").read_text()):
        assert f"{run / name} is missing" in words(text)


def test_a_list_that_does_not_name_the_row_is_damaged(tmp_path):
    run = make_run(tmp_path / "run", FEW)
    assert not faults(run) and not cautions(run)
    text = (run / files.SUMS).read_text().replace("row.parquet", "row.parquev")
    (run / files.SUMS).write_text(text)
    assert "digests.sha256 is damaged: it does not name row.parquet" in faults(run)[0]


def test_tables_of_a_comparison_have_digests(tmp_path):
    run = make_run(tmp_path / "run", FEW)
    compare([run, run], tmp_path / "c")
    for name in ("comparison.parquet", "comparison.csv"):
        path = tmp_path / "c" / name
        assert not files.damage(path)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert files.damage(path)


@pytest.mark.parametrize("content", ["", "cut", "flipped", None])
def test_a_page_is_whole_or_not(tmp_path, content):
    path = write_report(make_run(tmp_path / "run", {}))
    text = path.read_text()
    assert pieces.is_whole(path)
    changed = {"cut": text[:-1], "flipped": text.replace("97.13", "97.12"), "": ""}
    path.unlink()
    if content is not None:
        path.write_text(changed[content])
    assert not pieces.is_whole(path)


NAMES = ["/some/where/x", "../../escape", "a/../../b", "$\\foo$", "C:\\x", "\n", "",
         "²", "x" * 300, "{0}", "%s", "[/b]", "<b>", "a.b", "日本", "\0"]  # fmt: skip
SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_chart_is_a_path(tmp_path, name):
    pieces.chart(tmp_path, pieces.Chart(name, "title", "", charts.Figure((1, 1))))
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".png" and path.stem and set(path.stem) <= set(SAFE)


def test_no_column_is_a_path(tmp_path):
    """A stranger's row may have any column, and a number that varies is an axis."""
    name = f"{tmp_path}/escaped/a.b"
    runs = [make_run(tmp_path / x, {}, **{name: i}) for i, x in enumerate("ab")]
    files.make_folder(tmp_path / "escaped")
    compare(runs, tmp_path / "c")
    assert not list((tmp_path / "escaped").iterdir())
    pictures = {path.name for path in (tmp_path / "c" / "pictures").iterdir()}
    assert any(name.endswith("_escaped_a_b.png") for name in pictures)


def test_no_label_is_mathtext(tmp_path):
    """In every chart of a comparison, and in the curves of a run."""
    text = "$\\foo$ a$b$c_{"
    words = "defense", "attack", "network", "gamma"
    runs = []
    for i in range(4):
        changes = {key: f"{text}{i % 2}" for key in words}
        changes |= {"cut": f"{text}{i}", "accuracy_secret": 90.0 - i}
        runs.append(make_run(tmp_path / str(i), {}, **changes))
    compare(runs, tmp_path / "c")
    records = [{"part": text, "step": i, text: 1.0, "loss": 10.0**-i} for i in range(9)]
    run = old(make_run(tmp_path / "curves", {}))
    (run / "metrics.jsonl").write_bytes(files.jsonl_bytes(records))
    assert "Training curves" in page(run)


def test_labels_are_as_they_were_and_powers_of_ten_are_powers():
    figure = charts.Figure()
    ax = figure.subplots()
    ax.set(yscale="log", ylim=(1e-3, 10), title="$\\foo$")
    ax.set_xticks([0, 1], ["$\\bar$", "b"])
    pieces.drawn(figure)
    assert ax.title.get_text() == "$\\foo$" and not ax.title.get_parse_math()
    assert not any(label.get_parse_math() for label in ax.get_xticklabels())
    assert all(label.get_parse_math() for label in ax.get_yticklabels())


def test_a_table_of_a_path_in_no_encoding_can_be_made(tmp_path):
    run = make_run(tmp_path / os.fsdecode(b"a\xff"))
    compare([run, run], tmp_path / os.fsdecode(b"c\xff"))
    table = files.read_parquet(tmp_path / os.fsdecode(b"c\xff") / "comparison.parquet")
    assert table["folder"][0].as_py().endswith("a?")
