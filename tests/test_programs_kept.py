"""Compiled programs on disk: damaged ones are made again, with one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

from ghostjax import programs, runtime


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of compiled programs, this test's own."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    compilation_cache.reset_cache()
    yield runtime.cache_programs()
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    compilation_cache.reset_cache()


def answered():
    """What two programs answer that this process has not at hand."""
    jax.clear_caches()
    numbers = jnp.arange(7.0)
    first = jax.jit(lambda x: jnp.sin(x).sum())(numbers)
    return np.asarray(first), np.asarray(jax.jit(lambda x: jnp.cos(x) @ x)(numbers))


DAMAGE = {
    "halved": lambda kept: kept[: len(kept) // 2],
    "empty": lambda kept: b"",
    "overwritten": lambda kept: b"\0" * len(kept),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_read_is_made_again(damage, folder, capfd, recwarn):
    wanted = answered()
    entries = {path: path.read_bytes() for path in folder.glob("*-cache")}
    assert len(entries) >= 2
    for path, kept in entries.items():
        path.write_bytes(DAMAGE[damage](kept))
    np.testing.assert_array_equal(answered(), wanted)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"ghostjax: compiled programs in {folder} cannot be read (")
    assert line.endswith("they are made again")
    sizes = {path: path.stat().st_size for path in entries}
    assert all(abs(sizes[x] - len(kept)) < 100 for x, kept in entries.items())
    np.testing.assert_array_equal(answered(), wanted)
    assert capfd.readouterr().err == ""
    assert not [x for x in recwarn if "compilation cache" in str(x.message)]


def test_an_entry_that_is_not_ours_to_remove_is_jaxs_own_matter(folder, monkeypatch):
    wanted = answered()
    for path in folder.glob("*-cache"):
        path.write_bytes(b"")
    monkeypatch.setattr(programs, "_removed", lambda folder, key: False)
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        np.testing.assert_array_equal(answered(), wanted)


def test_without_jaxs_function_nothing_is_changed(monkeypatch):
    monkeypatch.delattr(compilation_cache, "get_executable_and_time")
    assert not programs.mend()
