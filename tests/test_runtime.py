"""How the process is set up, and what a person sees while it works."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from ghostjax import runtime
from ghostjax.experiments import environment, parts
from ghostjax.experiments.progress import progress


def test_freed_memory_stays_with_the_process():
    """After `keep_memory` freeing 200 MB of touched pages gives none of them back."""
    program = (
        "import ctypes, sys\n"
        "if sys.argv[1] == 'keep':\n"
        "    from ghostjax import runtime\n"
        "    assert runtime.keep_memory()\n"
        "libc = ctypes.CDLL('libc.so.6')\n"
        "libc.malloc.restype = ctypes.c_void_p\n"
        "block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(200_000_000)))\n"
        "ctypes.memset(block, 1, 200_000_000)\n"
        "libc.free(block)\n"
        "pages = int(open('/proc/self/statm').read().split()[1])\n"
        "print(pages * 4096 // 1_000_000)\n"
    )
    if not sys.platform.startswith("linux"):
        assert not runtime.keep_memory()
        return

    def resident(memory):
        command = [sys.executable, "-c", program, memory]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert resident("keep") - resident("default") > 150


def test_programs_are_cached_whatever_they_cost(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    try:
        assert runtime.cache_programs() == tmp_path / "compiled"
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
        monkeypatch.setenv("GHOSTJAX_CACHE", "/proc/nowhere")
        assert runtime.cache_programs() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_the_environment_tells_versions_and_device():
    about = environment.describe()
    assert about["jax"] == jax.__version__ and about["device"].startswith("cpu")
    assert environment.version("no-such-package") == "missing"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_steps_metrics_and_time_left(terminal):
    console = Console(force_terminal=terminal, record=True, width=120)
    with progress(console, "target", 100) as on_chunk:
        for done in (50, 75):
            on_chunk(done, {"loss": np.array([0.5, 0.25])})
    printed = console.export_text()
    assert "target" in printed and "75/100" in printed
    assert "loss 0.3750" in printed and "steps/s" in printed and "left" in printed


def test_a_lock_is_refused_or_waited_for(tmp_path):
    console = Console(record=True)
    with parts.lock(tmp_path / "run", wait=False, console=console):
        with pytest.raises(parts.Busy, match="in use by another ghostjax process"):
            with parts.lock(tmp_path / "run", wait=False, console=console):
                raise AssertionError("the lock was given twice")
    with parts.lock(tmp_path / "run", wait=False, console=console):
        pass  # released when the holder leaves


def test_a_waiting_process_goes_on_when_the_holder_ends(tmp_path):
    hold = (  # as `parts.lock` does, without its imports
        "import fcntl, sys\n"
        "lock = open(sys.argv[1] + '/lock', 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
    )
    wait = (
        "import sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from ghostjax.experiments import parts\n"
        "held = parts.lock(Path(sys.argv[1]), wait=True, console=Console())\n"
        "held.__enter__()\n"
    )
    said, part = "print('mine', flush=True)\nsys.stdin.read()\n", tmp_path / "part"
    part.mkdir()

    def start(program):
        command = [sys.executable, "-c", program + said, str(part)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return subprocess.Popen(command, **pipes)

    first = start(hold)
    assert first.stdout.readline() == "mine\n"
    second = start(wait)
    assert second.stdout.readline().startswith("waiting for another process")
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "mine\n"
    second.communicate()
