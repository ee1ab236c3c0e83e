"""The README keeps its word: its code runs, its files and configs exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_block_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert block.count(".images[:64]") == 1
    block = block.replace(".images[:64]", ".images[:8]")  # the same, sooner
    exec(compile(block, "README.md", "exec"), {})
    summary = capsys.readouterr().out
    mean = float(re.search(r"mean=([\d.]+)", summary).group(1))
    assert mean > 40, "the first convolution of an undefended network hides nothing"


def test_links_and_named_files_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link
    for path in re.findall(
        r"`((?:configs|benchmarks|ghostjax|tests)/[\w/.]+)`", README
    ):
        assert (ROOT / path).exists(), path


def test_named_configs_exist():
    named = re.findall(r"([\w{},*]+\.toml)", README)
    assert named
    for name in named:
        alternatives = re.search(r"{(.*)}", name)
        choices = alternatives.group(1).split(",") if alternatives else [""]
        for choice in choices:
            pattern = re.sub(r"{.*}", choice, name)
            if pattern != "config.toml":
                assert list((ROOT / "configs").glob(pattern)), pattern


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        *sorted(
            str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*.toml")
        ),
    ],
)
def test_no_number_is_left_to_be_filled_in(name):
    assert not re.search(r"@@|EXPECT|COST", (ROOT / name).read_text())
