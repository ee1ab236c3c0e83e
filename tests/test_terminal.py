"""Output that nobody breaks: readers who leave, disks that are full, poor encodings."""

import io
import os
import subprocess
import sys

import pytest
from rich.progress import Progress

from ghostjax import cli, terminal


class Failing(io.StringIO):
    """A stream whose writing fails, from the start or later."""

    def __init__(self, error, after=0):
        super().__init__()
        self.error, self.after = error, after

    def write(self, text):
        if self.tell() >= self.after:
            raise self.error
        return super().write(text)

    def flush(self):
        if self.tell() >= self.after:
            raise self.error


ERRORS = [
    BrokenPipeError(32, "Broken pipe"),
    OSError(5, "Input/output error"),
    OSError(28, "No space left on device"),
    OSError(9, "Bad file descriptor"),
    ValueError("I/O operation on closed file"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("after", [0, 3])
def test_a_lasting_stream_raises_nothing(error, after):
    stream = terminal.Stream(Failing(error, after), lasting=True)
    console = terminal.console(stream)
    console.print("some words")
    console.print("and others")
    with Progress(console=console) as bar:
        bar.add_task("train", total=2)
    stream.flush()
    assert stream.write("more") == 4


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_listing_ends_quietly_where_its_reader_has_gone(error):
    stream = terminal.Stream(Failing(error))
    if isinstance(error, BrokenPipeError | ValueError):
        stream.write("words")
        stream.flush()
    else:
        with pytest.raises(OSError, match=error.strerror):
            stream.write("words")
        stream.write("to nowhere")


LISTINGS = ["networks lenet5", "configs", "data list", "completion bash", "--help"]
LISTINGS += ["run --help", "run digits --help-keys", "report --help-columns"]


@pytest.mark.parametrize("words", LISTINGS)
@pytest.mark.parametrize("error", ERRORS[:3:2], ids=str)
def test_commands_whose_output_is_not_read(words, error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Failing(error, after=10))
    try:
        status = cli.main(words.split())
    except SystemExit as stop:
        status = stop.code
    errors = capsys.readouterr().err
    if isinstance(error, BrokenPipeError):
        assert (status, errors) == (0, "")
    elif "help" not in words:
        assert status == 2 and "No space left" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_cannot_be_shown_is_replaced(encoding, monkeypatch):
    raw = io.BytesIO()
    weak = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", weak)
    monkeypatch.setattr(sys, "stderr", weak)
    with terminal.guarded() as output:
        console = terminal.console(output)
        console.print("日本 – \udcc3 [/b] [red] :smile: é")
        terminal.say("λ")
    assert cli.main(["networks", "日本"]) == 2
    weak.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert "?? " in lines[0] and " ? [/b] [red] :smile: " in lines[0]
    assert lines[1] == "?" and "ghostjax: unknown network" in lines[2]


def test_streams_that_are_not_there_and_are_put_back(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["networks", "nothing"]) == 2
    assert cli.main(["completion", "zsh"]) == 0
    terminal.say("a line")
    assert sys.stdout is None and sys.stderr is None


@pytest.mark.skipif(os.name != "posix", reason="pipes of another kind")
def test_a_real_pipe_that_is_closed_early():
    """What is kept back to the end of a process fails there."""
    command = [sys.executable, "-m", "ghostjax", "completion", "bash"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (0, b"")
