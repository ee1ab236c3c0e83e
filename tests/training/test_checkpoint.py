"""checkpoint.py: saved whatever the folder is called, whole or not at all, one line."""

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ghostjax import files
from ghostjax.training import checkpoint

TREE = {"w": np.arange(6.0).reshape(2, 3), "b": {"c": np.ones(3, np.uint8)}}
PATHS = ["a[x]b", "[!a]", "back\\slash", "*", "?", "sp ace", "%41%s", "{}{0}", "#",
         "'\"", "ünï日", "[/b]", "~", "$HOME", "a:b", "@2", "-", "x" * 200, "new\nline",
         os.fsdecode(b"\xff")]  # fmt: skip


def assert_saved(folder):
    restored = checkpoint.restore(folder, TREE)
    np.testing.assert_array_equal(restored["w"], TREE["w"])
    np.testing.assert_array_equal(restored["b"]["c"], TREE["b"]["c"])


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_never_a_pattern(tmp_path, name):
    folder = tmp_path / name / "10"
    checkpoint.save(folder, TREE)
    assert_saved(folder)
    assert os.listdir(tmp_path) == [name.partition("/")[0]]
    assert checkpoint.latest(tmp_path / name) == 10


@pytest.mark.parametrize("folder", ["a[x]b", "plain"])
def test_a_relative_path_in_any_folder(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(files.make_folder(tmp_path / folder))
    checkpoint.save(Path("10"), TREE)
    assert_saved(Path("10"))


def broken(tmp_path, monkeypatch, error):
    """What is said where orbax raises an error behind half of its work."""
    checkpoint.save(tmp_path / "10", TREE)

    def save(folder, tree):
        (folder / "half").mkdir(parents=True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp, "save", save)
        with pytest.raises(files.Unwritable) as raised:
            checkpoint.save(tmp_path / "10", TREE)
        with pytest.raises(files.Unwritable):
            checkpoint.save(tmp_path / "20", TREE)
    assert_saved(tmp_path / "10")
    assert os.listdir(tmp_path) == ["10"]
    return str(raised.value)


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE]
)
@pytest.mark.parametrize("kind", ["system", "text", "cause"])
def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch, kind, code):
    error = OSError(code, os.strerror(code))
    if kind == "text":
        error = ValueError(f"RESOURCE_EXHAUSTED: {error.strerror} [OS error]\nmore")
    if kind == "cause":
        error = RuntimeError("no")
        error.__cause__ = OSError(code, os.strerror(code))
    line = broken(tmp_path, monkeypatch, error)
    start = f"{tmp_path / '10'} cannot be written: {os.strerror(code)}"
    assert line.startswith(start) and "\n" not in line
    full = code in (errno.ENOSPC, errno.EDQUOT)
    assert ("bytes are needed, " in line and "are free" in line) == full


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(files.Unwritable, match="10 cannot .* needed, 1,000 are free"):
        checkpoint.save(tmp_path / "10", TREE)
    assert not list(tmp_path.iterdir())


def test_too_few_open_files_are_one_line_and_no_damage(tmp_path):
    checkpoint.save(tmp_path / "10", TREE)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    some = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (some + 5, limits[1]))
        for work in (checkpoint.save, checkpoint.restore):
            with pytest.raises(files.Unwritable, match="10: Too many open files"):
                work(tmp_path / "10", TREE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert_saved(tmp_path / "10")


def test_the_first_of_a_training_is_read_back(tmp_path, monkeypatch):
    """What comes back otherwise than it was given does not count as saved."""
    save, reads, restore = checkpoint.ocp.save, [], checkpoint.restore

    def spy(folder, like):
        reads.append(folder)
        return restore(folder, like)

    def change(folder, tree):
        save(folder, {**tree, "w": tree["w"] + 1})

    monkeypatch.setattr(checkpoint, "restore", spy)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp, "save", change)
        with pytest.raises(files.Unwritable, match="10 cannot .* not what was written"):
            checkpoint.save(tmp_path / "10", TREE)
    assert not list(tmp_path.iterdir())
    for step in ("10", "20", "30"):
        checkpoint.save(tmp_path / step, {**TREE, "w": jnp.zeros(3)})
    assert len(reads) == 2 and checkpoint.latest(tmp_path) == 30
