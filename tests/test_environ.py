"""The environment's variables: empty is unset, ~ is home, and what cannot be is said.

What jax is told to run on counts among them.
"""

import os
import pwd
from pathlib import Path

import jax
import numpy as np
import pytest

from ghostjax import cli, data, environ, runtime
from ghostjax.data import cache
from ghostjax.data.dataset import Split

CACHES = ["GHOSTJAX_CACHE", "JAX_COMPILATION_CACHE_DIR"]
VARIABLES = [*CACHES, "TFDS_DATA_DIR"]
STATED = ["", " ", "~/x y", "~", "~nobody-is-so-called/x", "gone", "a file", "/proc/no"]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A home, and none of the variables; what jax is told is undone."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("text")
    before = jax.config.jax_compilation_cache_dir
    yield monkeypatch
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def homeless(environment):
    """A user without an entry, as in containers."""

    def nobody(_):
        raise KeyError("uid not found")

    environment.delenv("HOME")
    environment.setattr(pwd, "getpwuid", nobody)
    return environment


@pytest.mark.parametrize("value", STATED)
@pytest.mark.parametrize("name", CACHES)
def test_a_cache_is_where_it_is_said_or_off_with_a_line(
    name, value, environment, tmp_path, capsys
):
    environment.setenv(name, value)
    folder, said = runtime.cache_programs(), capsys.readouterr().err
    if value in ("~nobody-is-so-called/x", "a file", "/proc/no"):
        assert folder is None and jax.config.jax_compilation_cache_dir is None
        assert said.startswith("ghostjax: compiled programs are not kept: ")
        assert value in said and said.count("\n") == 1
        return
    home = tmp_path / "home"
    where = {"": home / ".cache/ghostjax", "gone": Path("gone")}
    where = where.get(value.strip(), Path(value).expanduser())
    if name == "GHOSTJAX_CACHE" or not value.strip():
        where = where / "compiled"
    assert folder == where and where.is_dir() and said == ""
    assert jax.config.jax_compilation_cache_dir == str(where)
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("value", ["", "~/x", "gone"])
def test_data_are_kept_where_it_is_said(value, environment, tmp_path):
    environment.setenv("GHOSTJAX_CACHE", value)
    home = tmp_path / "home"
    folders = {"": home / ".cache/ghostjax", "~/x": home / "x", "gone": Path("gone")}
    assert cache.folder() == folders[value] == environ.cache()
    environment.setenv("TFDS_DATA_DIR", value)
    root = {"": home / "tensorflow_datasets"}.get(value, folders[value])
    with pytest.raises(ValueError, match=f"in {root};"):
        data.load("mnist")


def test_without_a_home_nothing_is_kept_and_all_else_goes_on(homeless, capsys):
    assert runtime.cache_programs() is None
    said = capsys.readouterr().err
    assert "no home folder: set GHOSTJAX_CACHE" in said and said.count("\n") == 1
    path = cache.place("a", "b", "c")
    assert path is None and cache.read(path, 2) is None
    images = np.zeros((2, 8, 8, 1), np.uint8)
    splits = dict.fromkeys(("train", "test"), Split(images, np.arange(2)))
    cache.write(path, splits)
    assert [x.name for x in Path().iterdir()] == ["a file"]
    states = {entry.name: entry.status for entry in data.available()}
    assert states["digits"] == "embedded" and states["mnist"] == "not prepared"
    for words in (["data", "prepare", "mnist"], ["run", "lenet5_mnist"]):
        assert cli.main(words) == 2
        *above, said = capsys.readouterr().err.splitlines()
        assert "set TFDS_DATA_DIR to a whole path" in said and len(above) <= 1
    for name in VARIABLES:
        homeless.setenv(name, f"{os.getcwd()}/here")
    assert runtime.cache_programs() == Path.cwd() / "here"
    assert cache.folder() == Path.cwd() / "here"


ABSENT = [
    AssertionError(),
    RuntimeError("Unable to initialize backend 'cuda': no driver\nand more"),
]


@pytest.mark.parametrize("error", ABSENT, ids=["no plugin", "a plugin that fails"])
@pytest.mark.parametrize("variable", ["JAX_PLATFORMS", "JAX_PLATFORM_NAME"])
def test_a_device_that_is_not_there(variable, error, monkeypatch, tmp_path, capsys):
    def absent():
        raise error

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv(variable, "cuda")
    monkeypatch.setattr(jax, "default_backend", absent)
    for words in ("networks lenet5", "run digits", "partition digits"):
        output = ["--output", str(tmp_path / "o")] if "digits" in words else []
        assert cli.main([*words.split(), *output]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"ghostjax: jax has no device for {variable}=cuda")
        assert "plugins installed" in said and said.count("\n") == 1
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"no device for {variable}=cuda" in shown and "jax[cuda12]" in shown
    assert "data digits" in shown and not (tmp_path / "o").exists()


def test_a_device_that_is_there():
    assert runtime.no_backend() == ""
    runtime.require_backend()
