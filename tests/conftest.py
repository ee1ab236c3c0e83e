"""Settings of every test: strict jax, four simulated devices, caches in a folder."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Much of the tests' time is the compiler's: it optimises less for them, which takes
# two fifths of the processor time, and splits programs into fewer modules, which takes
# a further tenth. Later versions have but one way of fusing.
_QUICK = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=4"
)
if version("jaxlib").startswith("0.10."):
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _QUICK)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import pytest  # noqa: E402

# jax and ghostjax are imported where they are used: not by the process that hands out
# the tests.


def pytest_collection_finish():
    """What was imported stays: it need not be looked through for garbage, for which
    jax's many small objects ask again and again (a twentieth of the tests' time)."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """The cache of decoded data and compiled programs goes where the tests may write;
    all test processes and the runs they start share it. Memory is kept as the CLI does.
    """
    import jax

    from ghostjax import runtime

    if "GHOSTJAX_CACHE" not in os.environ:
        base = tmp_path_factory.getbasetemp()  # of a worker: inside that of all
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        os.environ["GHOSTJAX_CACHE"] = str(shared / "cache")
    runtime.keep_memory()
    if runtime.cache_programs():  # to keep and to read small ones takes longer
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)


@pytest.fixture(scope="module", autouse=True)
def _forget_members():
    """Members and networks that a module registers are no other module's."""
    from ghostjax import own, registry

    tables = (*registry.FAMILIES.values(), registry.NETWORKS, registry.DATASETS)
    known = [dict(table._known()) for table in tables]
    yield
    for table, rows in zip(tables, known, strict=True):
        table._rows = rows
    own._MEMBERS.clear()
    own._TARGETS.clear()


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Frees programs: XLA maps memory for every one of them, and Linux ends a process
    (with a segmentation fault in XLA) at 65,530 mappings."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 15_000:
        import jax

        jax.clear_caches()
        gc.collect()
