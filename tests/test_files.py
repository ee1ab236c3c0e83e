"""files.py: what is written is there whole or not at all, and read or named."""

import json

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
    files.write_parquet(tmp_path / "a.parquet", labelled)
    table = files.read_parquet(tmp_path / "a.parquet")
    assert table.to_pylist() == TABLE.to_pylist()
    assert table.schema.field("value").metadata[b"unit"] == b"dB"
    files.write_csv(tmp_path / "a.csv", TABLE)
    assert pa.csv.read_csv(tmp_path / "a.csv").num_rows == 2
    files.write_jsonl(tmp_path / "a.jsonl", [{"step": 1}, {"step": 2}])
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
        files.FileError, match=r"none/a\.txt cannot be written: No such"
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
