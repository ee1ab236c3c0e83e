"""Configs by name."""

import pytest

from ghostjax import cli
from ghostjax.config import grid, locate, named


def test_a_name_is_a_file_that_loads():
    assert {"digits", "smoke", "ghost_lsb_mnist"} <= set(named.names())
    assert grid.load(locate("digits")).name == "digits"


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("")
    assert locate("digits").resolve() == tmp_path / "digits"


@pytest.mark.parametrize("path", ["other.toml", "folder/digits", "./digits"])
def test_a_path_is_itself(path):
    assert str(locate(path)) in (path, path.removeprefix("./"))


def test_an_unknown_name_is_one_line(capsys):
    assert cli.main(["run", "digit"]) == 2
    said = capsys.readouterr().err
    assert "unknown config 'digit': did you mean 'digits'" in said
    assert said.count("\n") == 1


def test_configs_are_listed_by_name(capsys):
    assert cli.main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert set(named.names()) <= set(lines)
