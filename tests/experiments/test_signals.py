"""Ctrl-C and SIGTERM: one line, everything kept, and the same command continues."""

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout

import plans
import pytest
import sample

from ghostjax import cli, interrupt
from ghostjax.attacks import chunks
from ghostjax.evaluation import answers
from ghostjax.training import fit

LINE = "ghostjax: stopped; the same command continues\n"
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    with sample.registered(), sample.without_curves():
        yield


@pytest.fixture(autouse=True)
def _usual_handlers():
    """Of a shell's foreground: what runs in its background ignores Ctrl-C, and so would
    a run."""
    handlers = signal.default_int_handler, signal.SIG_DFL
    before = [signal.signal(*pair) for pair in zip(SIGNALS, handlers, strict=True)]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def send(number):
    """Sends this process a signal, and waits until it is noted."""
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 60
    while not asked():
        assert time.monotonic() < deadline, "nobody has noted the signal"
        time.sleep(0.001)


asked = interrupt.asked  # itself, where a test puts another in its place


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("configs") / "sample.toml"
    file.write_text(sample.CONFIG)
    return file


def ghostjax(path, output):
    """(exit status, standard error) of a run."""
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()) as errors,
    ):
        return cli.main(["run", str(path), "--output", str(output)]), errors.getvalue()


def row_of(output):
    (folder,) = output.glob("sample-????????")
    return plans.rows([folder])[0]


@pytest.fixture(scope="module")
def undisturbed(path, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    assert ghostjax(path, output) == (0, "")
    return row_of(output)


MOMENTS = {
    "a step of the target": (interrupt, "asked", 7),
    "a step of GHOST": (interrupt, "asked", 47),
    "measuring": (answers, "batches", 1),
    "inverting": (chunks, "require_finite", 1),
}
"""Where -> what is called there, and at which of its calls a signal comes."""
CASES = [
    ("a step of the target", signal.SIGINT),
    ("a step of GHOST", signal.SIGTERM),
    ("measuring", signal.SIGINT),
    ("measuring", signal.SIGTERM),
    ("inverting", signal.SIGINT),
    ("inverting", signal.SIGTERM),
]


@pytest.mark.parametrize(("moment", "number"), CASES)
def test_a_signal_stops_a_run_that_continues(
    moment, number, path, undisturbed, tmp_path, monkeypatch
):
    module, name, at = MOMENTS[moment]
    usual, calls = getattr(module, name), []

    def called(*arguments):
        calls.append(name)
        if len(calls) == at:
            send(number)
        return usual(*arguments)

    handlers = [signal.getsignal(x) for x in SIGNALS]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, called)
        assert ghostjax(path, tmp_path) == (128 + number, LINE)
    assert len(calls) >= at and not list(tmp_path.glob("*/row.parquet"))
    assert [signal.getsignal(x) for x in SIGNALS] == handlers
    steps = {int(x.name) for x in tmp_path.glob("parts/*/*/[0-9]*")}
    if "step" in moment:  # inside a chunk of ten
        assert at % 30 in steps
    assert ghostjax(path, tmp_path) == (0, "")
    assert row_of(tmp_path) == undisturbed


SLEEP = """
import signal, time
from ghostjax import interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
with interrupt.listening():
    print("listens", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(number):
    command = [sys.executable, "-c", SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "listens\n"
        process.send_signal(number)
        time.sleep(0.2)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
        assert time.monotonic() - began < 20


def test_who_ignores_a_signal_goes_on_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupt.listening():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        assert not interrupt.asked()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_nobody_listens_in_other_threads_nor_twice():
    before, inside = [signal.getsignal(x) for x in SIGNALS], []

    def listen():
        with interrupt.listening():
            inside.append([signal.getsignal(x) for x in SIGNALS])

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
    with pytest.raises(interrupt.Stopped, match="SIGTERM") as stop:
        with interrupt.listening(), interrupt.listening():
            send(signal.SIGTERM)
    assert stop.value.status == 143 and not interrupt.asked()
    assert [signal.getsignal(x) for x in SIGNALS] == before


def test_a_scan_is_no_longer_than_patience(monkeypatch):
    clock = iter([0.0, 30.0, 50.0, 54.0, 90.0])
    monkeypatch.setattr(fit.time, "monotonic", lambda: next(clock))
    pace, steps = fit.Pace(50, scanned=True), []
    for _ in range(4):
        pace.done(pace.steps)
        steps.append(pace.steps)
    assert steps == [50, 10, 10, 1]  # the first chunk is compiled, and tells nothing
    monkeypatch.undo()
    assert fit.Pace(50, scanned=False).steps == 50


@pytest.mark.science
@pytest.mark.parametrize("cold", [False, True])
def test_twenty_signals_at_random(cold, path, undisturbed, tmp_path):
    """Within five seconds outside of a compilation, which on a machine of others may
    take as long again: twenty here."""
    draw, command = random.Random(0), [sys.executable, "-m", "ghostjax", "run", path]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for place in range(20):
        output = tmp_path / str(place)
        said = sample.environment()
        if cold:
            said |= {"GHOSTJAX_CACHE": str(tmp_path / f"cache-{place}")}
        process = subprocess.Popen(
            [*map(str, command), "--output", str(output)], env=said, **pipes
        )
        time.sleep(draw.uniform(2, 10 if cold else 5))
        number, began = draw.choice(SIGNALS), time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        assert time.monotonic() - began < 20
        assert process.returncode in (0, 128 + number), errors
        assert errors in ("", LINE)
        assert ghostjax(path, output)[0] == 0
        assert row_of(output) == undisturbed
