"""Settings of every test: strict jax, four simulated devices, caches in a folder."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import pytest  # noqa: E402

from ghostjax import runtime  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """The decoded-data cache goes where the tests may write; runs and CLI share it, and
    both test processes share compiled programs. Memory is kept as the CLI keeps it."""
    if "GHOSTJAX_CACHE" not in os.environ:
        os.environ["GHOSTJAX_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    runtime.keep_memory()
    runtime.cache_programs()


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Frees each module's programs: XLA maps memory for every one of them, and Linux
    ends a process (with a segmentation fault in XLA) at 65,530 mappings."""
    yield
    jax.clear_caches()
