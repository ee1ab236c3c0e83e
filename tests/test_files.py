"""files.py: what is written is there whole or not at all, and read or named."""

import ast
import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ghostjax import files

TABLE = pa.table({"name": ["γ", "b"], "value": [1.5, None], "odd": ["a,b", 'c"d']})
ARRAYS = {"images": np.arange(12, dtype=np.uint8).reshape(3, 2, 2), "bits": np.int32(3)}


def test_what_is_written_is_read_back(tmp_path):
    files.write_text(tmp_path / "a.txt", "γ = 2:8\r\nζ\n")
    assert files.read_text(tmp_path / "a.txt") == "γ = 2:8\nζ\n"
    assert (tmp_path / "a.txt").read_bytes().decode() == "γ = 2:8\r\nζ\n"
    files.write_json(tmp_path / "a.json", {"γ": [1, None, 0.5]})
    assert files.read_json(tmp_path / "a.json") == {"γ": [1, None, 0.5]}
    files.write_npz(tmp_path / "a.npz", ARRAYS)
    arrays = files.read_npz(tmp_path / "a.npz")
    assert set(arrays) == set(ARRAYS)
    np.testing.assert_array_equal(arrays["images"], ARRAYS["images"])
    field = TABLE.schema.field("value").with_metadata({"unit": "dB"})
    labelled = TABLE.cast(TABLE.schema.set(1, field))
    files.write_bytes(tmp_path / "a.parquet", files.parquet_bytes(labelled))
    table = files.read_parquet(tmp_path / "a.parquet")
    assert table.to_pylist() == TABLE.to_pylist()
    assert table.schema.field("value").metadata[b"unit"] == b"dB"
    files.write_bytes(tmp_path / "a.csv", files.csv_bytes(TABLE))
    assert pa.csv.read_csv(tmp_path / "a.csv").num_rows == 2
    lines = files.jsonl_bytes([{"step": 1}, {"step": 2}])
    files.write_bytes(tmp_path / "a.jsonl", lines)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2}]
    suffixes = {".txt", ".json", ".npz", ".parquet", ".csv", ".jsonl"}
    assert {path.suffix for path in tmp_path.iterdir()} == suffixes  # and no leftovers


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "row.csv"
    files.write_text(path, "before")
    with pytest.raises((files.FileError, KeyboardInterrupt)):
        with files.whole(path) as stream:
            stream.write(b"half")
            raise error
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_nobody_sees_half_a_file(tmp_path):
    path = tmp_path / "a.npz"
    with files.whole(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        stream.write(b" and the rest")
    assert path.read_bytes() == b"half and the rest"


def test_errors_say_which_file_and_why(tmp_path):
    with pytest.raises(
        files.FileError, match=r"none/a\.txt cannot be written: .*none is not"
    ):
        files.write_text(tmp_path / "none" / "a.txt", "")
    path = tmp_path / "broken"
    readers = files.read_text, files.read_json, files.read_npz, files.read_parquet
    for read in readers:
        with pytest.raises(files.FileError, match=r"broken cannot be read: No such"):
            read(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    single = (tmp_path / "single.npy").read_bytes()
    for content in (b"\xff\xfe\xfd", b"PK broken", b"", single):
        path.write_bytes(content)
        for read in readers[1:]:
            with pytest.raises(files.FileError) as error:
                read(path)
            assert str(error.value).startswith(f"{path} cannot be read: ")
            assert "\n" not in str(error.value)


SEALED = {
    "a.json": files.json_bytes([1, 2]),
    "a.npz": files.npz_bytes(ARRAYS),
    "a.csv": files.csv_bytes(TABLE),
    "a.parquet": files.parquet_bytes(TABLE),
}
READERS = {
    "a.json": files.read_json,
    "a.npz": files.read_npz,
    "a.csv": files.read_text,
    "a.parquet": files.read_parquet,
}


@pytest.mark.parametrize("name", SEALED)
def test_no_flipped_bit_is_taken_for_what_was_written(tmp_path, name):
    files.write_sealed(tmp_path, SEALED)
    path, content = tmp_path / name, SEALED[name]
    READERS[name](path)
    assert not files.damage(path)
    for place in np.random.default_rng(0).integers(8 * len(content), size=40):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(files.FileError) as error:
            READERS[name](path)
        assert f"{path} cannot be read: it is not what was written" in str(error.value)
        assert files.damage(path) == str(error.value)


def test_the_list_is_as_sha256sum_reads_it(tmp_path):
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    files.write_sealed(tmp_path, {"a": b"hello"})
    assert (tmp_path / files.SUMS).read_text() == f"{digest}  a\n"
    files.write_sealed(tmp_path, {"b": b"hello"})  # those of others stay
    assert files.sums(tmp_path) == {"a": digest, "b": digest}


@pytest.mark.parametrize("content", [b"\xff", b"a  b\n", b"\0", b"0" * 64 + b" a\n"])
def test_a_damaged_list_is_named_and_written_anew(tmp_path, content):
    files.write_sealed(tmp_path, SEALED)
    (tmp_path / files.SUMS).write_bytes(content)
    with pytest.raises(files.FileError, match=f"{files.SUMS} cannot be read"):
        files.read_json(tmp_path / "a.json")
    files.write_sealed(tmp_path, SEALED)
    assert files.read_json(tmp_path / "a.json") == [1, 2]


@pytest.mark.parametrize("stop", range(5))
def test_after_a_kill_the_last_file_is_refused_or_all_are_there(
    tmp_path, monkeypatch, stop
):
    before = {name: content for name, content in SEALED.items() if name != "a.json"}
    files.write_sealed(tmp_path, {"a.json": files.json_bytes([3]), **before})
    write, written = files.write_bytes, []

    def killed(path, data):
        if len(written) == stop:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", killed)
    after = SEALED | {"a.parquet": files.parquet_bytes(TABLE.slice(1))}
    with pytest.raises(KeyboardInterrupt):
        files.write_sealed(tmp_path, after)
    damaged = [name for name in SEALED if files.damage(tmp_path / name)]
    assert damaged == ([] if stop == 0 else ["a.parquet"] if stop == 4 else ["a.json"])


WRITERS = {
    "text": lambda path: files.write_text(path, "after" * 100),
    "json": lambda path: files.write_json(path, ["after" * 100]),
    "npz": lambda path: files.write_npz(path, {"x": np.zeros(500, np.uint8)}),
    "sealed": lambda path: files.write_sealed(
        path.parent, {path.name: b"x" * 500, "z": b""}
    ),
}


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES]
)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_with_size_and_room(tmp_path, monkeypatch, kind, code):
    path = tmp_path / "a"
    files.write_text(path, "before")

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.Unwritable) as error:
        WRITERS[kind](path)
    line = str(error.value)
    assert line.startswith(f"{path} cannot be written: {os.strerror(code)}")
    assert error.value.is_read_only == (code in (errno.EROFS, errno.EACCES))
    assert ("bytes are needed, " in line) != error.value.is_read_only
    assert "\n" not in line and path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_fit_is_not_begun(tmp_path):
    files.require_room(tmp_path / "none" / "a", 1)
    with pytest.raises(files.Unwritable, match=r"a cannot .* 1,000,000,0.* are free"):
        files.require_room(tmp_path / "none" / "a", 10**18)


def test_too_few_open_files_are_one_line(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    files.require_descriptors(tmp_path, 24)
    some = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (some + 10, limits[1]))
        with pytest.raises(
            files.Unwritable, match="Too many open files: 24 are needed"
        ):
            files.require_descriptors(tmp_path, 24)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    files.require_descriptors(tmp_path, 24)


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_what_stands_in_a_folders_place_is_named(tmp_path, below):
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(tmp_path / "gone")
    file.touch()
    with pytest.raises(files.Unwritable, match=r"link is a link to .*gone, which is"):
        files.make_folder(link / below)
    with pytest.raises(files.Unwritable, match="file is a file"):
        files.make_folder(file / below)
    with pytest.raises(files.Unwritable, match="link is a link to .*gone, which is"):
        files.write_text(link / below / "x", "")
    assert files.make_folder(tmp_path / "new" / below).is_dir()


def test_a_name_in_no_encoding_can_be_written(tmp_path):
    name = os.fsdecode(b"a\xff")
    files.write_text(tmp_path / name, name)
    assert files.read_text(tmp_path / name) == r"a\udcff"
    files.write_json(tmp_path / name, {"name": name})
    assert files.read_json(tmp_path / name) == {"name": name}


def test_every_file_of_text_is_opened_as_utf_8():
    """Whatever the locale; what is binary says so."""
    package, lines = Path(files.__file__).parent, []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and not _stated(node):
                lines.append(f"{path.relative_to(package)}:{node.lineno}")
    assert not lines


def _stated(call):
    """Whether a call opens no text, or says in which encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = ast.unparse(getattr(call.func, "value", ast.Constant("")))
    opens = {"open", "read_text", "write_text", "TextIOWrapper", "fdopen"}
    if name not in opens or owner in ("files", "tarfile", "Image", "os"):
        return True  # files has an encoding of its own; the others open no text
    if isinstance(call.func, ast.Name) and name != "open":
        return True  # of files itself
    modes = [word.value for word in call.args if isinstance(word, ast.Constant)]
    binary = any(isinstance(mode, str) and "b" in mode for mode in modes)
    return binary or "encoding" in {keyword.arg for keyword in call.keywords}


def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch):
    files.write_sealed(tmp_path, SEALED)

    def refused(_):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.Path, "read_bytes", refused)
    with pytest.raises(files.FileError, match="cannot be read: Permission denied"):
        files.damage(tmp_path / "a.json")
