"""The records of one shard, whole or not at all: ArrayRecord and TFRecord.

ArrayRecord is what ghostjax prepares; TFRecord is what TFDS prepared by default
for years (little-endian length, its masked CRC-32C, the record, its masked CRC-32C).
Both carry checksums, and both are checked here: a damaged shard raises DataError.
"""

import struct
from pathlib import Path

import numpy as np

from ghostjax.data.catalog import DataError

__all__ = ["FORMATS", "damaged", "masked_crc32c", "read_records"]

FORMATS = ("array_record", "tfrecord")
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_BATCH = 4096


def read_records(path: Path, file_format: str) -> list[bytes]:
    """All records of a shard, in its order.

    Raises:
      DataError: the file is not there, damaged, or of another format.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there: copy or prepare the data set again")
    if file_format == "tfrecord":
        return _tfrecord(path)
    if file_format != "array_record":
        known = ", ".join(FORMATS)
        raise DataError(f"{path}: format {file_format!r} is not read, only {known}")
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        records = reader.read_all() if reader.num_records() else []
        reader.close()
    except (RuntimeError, IndexError, OSError) as error:
        reason = str(error).split("; ")[0].splitlines()[0]
        raise damaged(path, reason) from error
    return records


def damaged(path: Path, reason: str) -> DataError:
    """The error that names a damaged file."""
    return DataError(f"{path} is damaged ({reason}): copy or prepare it again")


def _tfrecord(path: Path) -> list[bytes]:
    data, at = path.read_bytes(), 0
    pieces, sums = [], []  # lengths and records in turn, and the checksum of each
    while at < len(data):
        if at + 12 > len(data):
            raise damaged(path, "it ends inside a record")
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 12 + length
        if end + 4 > len(data):
            raise damaged(path, "it ends inside a record")
        pieces += [data[at : at + 8], data[at + 12 : end]]
        sums += [struct.unpack_from("<I", data, at + 8)[0]]
        sums += [struct.unpack_from("<I", data, end)[0]]
        at = end + 4
    if (masked_crc32c(pieces) != np.array(sums, np.uint32)).any():
        raise damaged(path, "a checksum does not match")
    return pieces[1::2]


def masked_crc32c(pieces: list[bytes]) -> np.ndarray:
    """TFRecord's masked CRC-32C of each piece, uint32 [len(pieces)].

    Byte by byte, but of thousands of pieces at once: longest first, so that those that
    still have a byte at some place are always the first so many.
    """
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    order = np.argsort(-lengths, kind="stable")
    result = np.zeros(len(pieces), np.uint32)
    for start in range(0, len(pieces), _BATCH):
        rows = order[start : start + _BATCH]
        width = int(lengths[rows[0]])
        padded = b"".join(pieces[row].ljust(width, b"\0") for row in rows)
        columns = np.frombuffer(padded, np.uint8).reshape(len(rows), width).T.copy()
        alive = (lengths[rows][None, :] > np.arange(width)[:, None]).sum(axis=1)
        crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
        for column, count in zip(columns, alive, strict=True):
            part = crc[:count]
            crc[:count] = table[(part ^ column[:count]) & 0xFF] ^ (part >> 8)
        result[rows] = ~crc
    return ((result >> 15) | (result << 17)) + np.uint32(0xA282EAD8)
