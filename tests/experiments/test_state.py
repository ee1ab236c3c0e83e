"""What a run's folder says of the run, and who may hold it."""

import fcntl
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isnan

import pytest
from rich.console import Console

from ghostjax import files
from ghostjax.experiments import comparison, parts, state
from ghostjax.experiments.progress import progress, say
from ghostjax.experiments.state import Failure, State, state_of
from ghostjax.report.tables import Table

CONSOLE = Console(quiet=True)
HOLD = """
import fcntl, sys
from ghostjax.experiments.state import holder
lock = open(sys.argv[1] + '/lock', 'a')
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0), lock.write(holder()), lock.flush()
print(holder(), end='', flush=True)
sys.stdin.read()
"""


@contextmanager
def held(folder):
    """Inside, another process holds the folder; gives what it says about itself."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes)
    try:
        yield json.loads(other.stdout.readline())
    finally:
        other.kill()
        other.communicate()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_without_a_folder_or_with_an_empty_one_is_missing(tmp_path):
    assert state_of(tmp_path / "none") == State("missing")
    assert state_of(tmp_path) == State("missing")
    assert not contents(tmp_path)


def test_a_run_is_running_while_another_process_holds_it(tmp_path):
    state.write_error(tmp_path, "attack", ValueError("an older try"))
    with held(tmp_path) as about:
        before = contents(tmp_path)
        assert state_of(tmp_path) == State("running", since=about["since"])
        assert contents(tmp_path) == before
    assert state_of(tmp_path).word == "failed"  # the lock is free, its file there
    state.clear_error(tmp_path)
    assert state_of(tmp_path) == State("missing")
    (tmp_path / "row.parquet").touch()
    assert state_of(tmp_path) == State("done")


def test_a_lock_says_who_holds_it_since_when(tmp_path):
    before = datetime.now(UTC)
    with parts.lock(tmp_path, wait=False, console=CONSOLE):
        about = json.loads((tmp_path / "lock").read_text())
        with pytest.raises(parts.Busy):
            with parts.lock(tmp_path, wait=False, console=CONSOLE):
                raise AssertionError("the lock was given twice")
        assert json.loads((tmp_path / "lock").read_text()) == about
        assert state_of(tmp_path) == State("running", since=about["since"])
    since = datetime.fromisoformat(about["since"])
    assert about.keys() == {"pid", "host", "since"}
    assert abs((since - before).total_seconds()) < 10
    with parts.lock(tmp_path, wait=False, console=CONSOLE):
        assert len((tmp_path / "lock").read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_a_lock_that_says_nothing_is_held_nevertheless(text, tmp_path):
    (tmp_path / "lock").write_text(text)
    with (tmp_path / "lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert state_of(tmp_path) == State("running")


def test_who_looks_at_a_lock_does_not_keep_a_run_from_it(tmp_path):
    """`state_of` holds it for microseconds, this for longer."""
    looking = threading.Event()

    def look():
        with (tmp_path / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            looking.set()
            time.sleep(0.03)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with parts.lock(tmp_path, wait=False, console=CONSOLE):
        thread.join()


def test_a_failure_is_noted_in_one_line(tmp_path):
    assert state.read_error(tmp_path) is None
    state.write_error(tmp_path, "attack", ValueError("\nloss is nan\nlower the rate"))
    failure = state_of(tmp_path).failure
    assert failure[:3] == ("attack", "loss is nan", "ValueError")
    assert datetime.fromisoformat(failure.time).utcoffset().total_seconds() == 0
    state.write_error(tmp_path, "defense", MemoryError())
    assert state.read_error(tmp_path)[:3] == ("defense", "MemoryError", "MemoryError")
    for _ in range(2):
        state.clear_error(tmp_path)
        assert state.read_error(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("{}", Failure("", "", "", "")),
        ('{"stage": "attack", "more": 1}', Failure("attack", "", "", "")),
        ("[]", Failure("", "", "", "")),
    ],
)
def test_a_note_that_lacks_something_is_a_failure(text, failure, tmp_path):
    (tmp_path / "error.json").write_text(text)
    assert state_of(tmp_path) == State("failed", failure=failure)


def test_a_damaged_note_is_a_failure_that_says_so(tmp_path):
    (tmp_path / "error.json").write_text("{")
    failure = state_of(tmp_path).failure
    assert failure.kind == "FileError" and "cannot be read" in failure.error


@pytest.mark.parametrize("content", [b"", b"x", b"\xff", b"nan", b"-1", b"1e999", None])
def test_a_damaged_time_is_unknown_and_blocks_nothing(tmp_path, content):
    assert parts.seconds(tmp_path) == 0
    parts._spend(tmp_path, 1.5)
    parts._spend(tmp_path, 2)
    assert parts.seconds(tmp_path) == 3.5
    (tmp_path / "seconds").write_bytes(b"[" * 100_000 if content is None else content)
    assert isnan(parts.seconds(tmp_path))
    parts._spend(tmp_path, 1)
    assert isnan(parts.seconds(tmp_path))


@pytest.mark.parametrize("content", [b"", b"3", b"[]", b"{}", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["lock", "error.json"])
def test_a_damaged_note_is_no_traceback(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    if name == "lock":
        with (tmp_path / name).open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            assert state_of(tmp_path) == State("running", since="")
    else:
        assert state_of(tmp_path).word == "failed"


def test_a_folder_that_is_taken_away_is_named(tmp_path):
    folder = tmp_path / "part"
    with parts.lock(folder, wait=False, console=CONSOLE):
        parts._require_there(folder)
        (folder / "lock").unlink()
        with pytest.raises(files.Unwritable, match="part was taken away"):
            parts._require_there(folder)


def test_a_row_that_is_damaged_is_no_row(tmp_path):
    files.write_sealed(tmp_path, {"row.parquet": b"row"})
    assert state_of(tmp_path) == State("done")
    (tmp_path / "row.parquet").write_bytes(b"roe")
    assert state_of(tmp_path) == State("missing")


NAMES = [
    "[/b]",
    "[bold]x",
    "[red]",
    "[link=a]b[/link]",
    ":smile:",
    "a\\[b]",
    "[]",
    "[1]",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [True, False])
def test_no_name_is_markup(name, terminal):
    """Whatever console the caller gives."""
    console = Console(record=True, width=200, force_terminal=terminal, markup=True)
    say(console, f"said {name}")
    with progress(console, name, 10) as show:
        show(10, {"loss": [1.0]})
    table = Table("title", [name, "b"], [["a", name]])
    comparison.print_table(table, console)
    text = console.export_text()
    assert f"said {name}\n" in text and text.count(name) >= 3
