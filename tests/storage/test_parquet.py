"""Untrusted Parquet files: every encoding of the same values is read, and no bomb is unpacked."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from harness import UserError
from harness.datasets.hub_datasets import _write_records
from harness.download.http import SourceFailed
from harness.results.store import read_columns, read_per_query
from harness.storage import parquet, safe_load
from harness.storage.parquet import open_parquet
from harness.storage.safe_load import Corrupt
from tests.conftest import ROOT

WAYS: tuple[dict[str, Any], ...] = (
    {"compression": "snappy"},
    {"compression": "zstd", "data_page_version": "2.0"},
    {"compression": "none", "use_dictionary": False, "data_page_size": 100},
    {"compression": "gzip", "row_group_size": 7, "write_page_index": True},
    {"compression": "brotli", "write_statistics": False, "write_page_checksum": True, "store_schema": False},
    {
        "use_dictionary": False,
        "column_encoding": {
            **{"id": "DELTA_BYTE_ARRAY", "text": "DELTA_LENGTH_BYTE_ARRAY"},
            **{"score": "BYTE_STREAM_SPLIT", "grade": "DELTA_BINARY_PACKED"},
        },
    },
)


def table(rows: int = 300) -> Any:
    texts = [None if row % 7 == 0 else f"text {row % 11} " * (row % 5) for row in range(rows)]
    grades = pyarrow.array(range(rows), pyarrow.int32())
    return pyarrow.table(
        {"id": [str(row) for row in range(rows)], "text": texts, "score": [0.5] * rows, "grade": grades}
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_was_written_is_read(way: dict[str, Any], tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(), tmp_path / "a.parquet", **way)
    with open_parquet(tmp_path / "a.parquet") as opened:
        assert opened.names == ["id", "text", "score", "grade"]
        assert opened.rows == 300
        assert opened.read(["grade", "text", "id", "score"]).equals(table().select(["grade", "text", "id", "score"]))


def test_dictionaries_are_decoded_and_a_file_may_be_empty(tmp_path: Path) -> None:
    coded = pyarrow.table({"text": pyarrow.array(["a", "b", "a"]).dictionary_encode()})
    pyarrow.parquet.write_table(coded, tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table(0), tmp_path / "empty.parquet")
    with open_parquet(tmp_path / "a.parquet") as opened:
        assert opened.read(["text"])["text"].to_pylist() == ["a", "b", "a"]
    with open_parquet(tmp_path / "empty.parquet") as opened:
        assert opened.read(["text", "score"]).num_rows == 0


def repeated(text: str, rows: int) -> Any:
    """A column with one text in every row, which is stored once."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), pyarrow.array([text]))


BOMBS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a repeated value": ({"text": repeated("a" * 100_000, 300)}, {"store_schema": False}),
    "a repeated value of a stated dictionary": ({"text": repeated("a" * 100_000, 300)}, {}),
    "pages": ({"text": ["a" * 100_000] * 300}, {"use_dictionary": False}),
    "prefixes": (
        {"text": ["a" * 100_000] * 300},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ),
    "rows of numbers": ({"text": np.zeros(1_000_000)}, {}),
    "rows of text": ({"text": repeated("", 1_000_000)}, {"store_schema": False}),
}
"""Each holds 4 to 30 MB in some kilobytes."""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_fills_the_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_load, "LEAST", 1 << 20)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1 << 18)
    columns, way = BOMBS[name]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", compression="zstd", **way)
    size = (tmp_path / "a.parquet").stat().st_size
    assert size < 10_000
    given: list[int] = []
    with open_parquet(tmp_path / "a.parquet") as opened:
        sizes = (batch.nbytes for batch in opened.batches(["text"]))
        with pytest.raises(Corrupt, match="100 times the file's size"):
            given.extend(sizes)
    assert max(given, default=0) <= (1 << 18) + 100_000
    assert sum(given) <= 1 << 20
    monkeypatch.setattr(safe_load, "LEAST", 1 << 28)  # a size that any file may have
    with open_parquet(tmp_path / "a.parquet") as opened:
        assert opened.read(["text"]).num_rows == opened.rows


def test_the_size_of_a_page_is_taken_from_its_header() -> None:
    """Headers by the specification: Thrift's compact protocol, fields 1 to 3 are type, unpacked and packed size."""
    plain = bytes([0x15, 0x04, 0x15, 0xD4, 0x6B, 0x15, 0xEE, 0x3E])  # a dictionary of 6,890 bytes, packed into 4,023
    nested = bytes([0x4C, 0x15, 0xD0, 0x0F, 0x15, 0x0E, 0x12, 0x28, 0x03, *b"abc", 0x00, 0x00])
    assert numbers(plain + nested) == ((2, 6890, 4023), (1000, 7), len(plain + nested))
    for broken in (
        plain,
        plain + b"\x1d\x00",
        plain + b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x1c" * 9,
        b"\x1c" * 5000,
        b"\x19" * 5000,
        plain + b"\x05\x02\x04\x00",  # field 1 again
        plain + b"\x19\xf5\xff\xff\xff\x07",
    ):
        with pytest.raises(Corrupt):
            numbers(broken)


def numbers(data: bytes) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Fields 1 to 3 of a header, fields 1 and 2 of its field 7, and where it ends."""
    found = []
    for window in (1, 3, 256, 1 << 20):  # wherever the bytes that are read at once end
        reader = parquet._Thrift(lambda length, place: data[place : place + length], 0, window)
        header = reader.struct()
        found.append((tuple(header[field] for field in (1, 2, 3)), (header[7][1], header[7][2]), reader.end))
    assert found.count(found[0]) == len(found)
    return found[0]


def test_small_files_are_read_at_once_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, table = tmp_path / "some.parquet", pyarrow.table({"text": ["a", "b", "a"] * 5000, "number": [*range(15_000)]})
    pyarrow.parquet.write_table(table, file, row_group_size=4000)
    with parquet.open_parquet(file) as opened:
        at_once = opened.read(["number", "text"])
    monkeypatch.setattr(parquet, "SMALL", file.stat().st_size - 1)
    with parquet.open_parquet(file) as opened:
        assert opened.read(["number", "text"]).equals(at_once)
    assert at_once.equals(table.select(["number", "text"]))


SPOIL = """
import sys
from pathlib import Path
from harness.storage.parquet import open_parquet
file = Path(sys.argv[1])
whole, read = file.read_bytes(), 0
footer = int.from_bytes(whole[-8:-4], "little")
for place in range(len(whole) - 8 - footer, len(whole) - 8):
    for change in (1, 16, 255):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        try:
            with open_parquet(file) as opened:
                opened.read(opened.names)
                read += 1
        except Exception as error:
            assert not isinstance(error, (TypeError, AttributeError, OverflowError, RecursionError)), error
print(read)
"""


def test_no_footer_ends_the_process(tmp_path: Path) -> None:
    """pyarrow's objects for parts of a footer throw through C++ where one is odd: every byte of a footer, changed."""
    columns = {"text": ["a", "b", None], "score": [0.5, 1.0, 2.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", store_schema=False)
    done = subprocess.run(
        [sys.executable, "-c", SPOIL, str(tmp_path / "a.parquet")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_an_encrypted_column_is_refused_in_words(tmp_path: Path) -> None:
    """By a footer that is not encrypted: in a process of its own, which pyarrow's metadata would end."""
    script = """
import sys, base64, pyarrow, pyarrow.parquet
from pyarrow.parquet import encryption
from harness.storage.parquet import open_parquet
class Keys(encryption.KmsClient):
    def __init__(self, config): super().__init__()
    def wrap_key(self, key, name): return base64.b64encode(key)
    def unwrap_key(self, key, name): return base64.b64decode(key)
keys = encryption.CryptoFactory(Keys)
config = encryption.EncryptionConfiguration("f", column_keys={"c": ["text"]}, plaintext_footer=True)
table = pyarrow.table({"text": ["a"], "score": [0.5]})
given = keys.file_encryption_properties(encryption.KmsConnectionConfig(), config)
with pyarrow.parquet.ParquetWriter(sys.argv[1], table.schema, encryption_properties=given) as writer:
    writer.write_table(table)
with open_parquet(sys.argv[1]) as opened:
    print(opened.read(["score"])["score"].to_pylist())
    opened.read(["text"])
"""
    pytest.importorskip("pyarrow.parquet.encryption", reason="this pyarrow was built without encryption")
    command = [sys.executable, "-c", script, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == "harness.storage.safe_load.Corrupt: a column is encrypted"
    assert done.stdout == "[0.5]\n"


def test_a_column_is_examined_whatever_name_its_part_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers take parts by their place, so a bomb under another name is a bomb."""
    monkeypatch.setattr(safe_load, "LEAST", 1 << 20)
    columns, way = BOMBS["pages"]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", compression="zstd", **way)
    start, end = (tmp_path / "a.parquet").read_bytes().rsplit(b"text", 1)
    (tmp_path / "a.parquet").write_bytes(start + b"txet" + end)
    with open_parquet(tmp_path / "a.parquet") as opened, pytest.raises(Corrupt, match="its pages hold"):
        opened.read(["text"])


@pytest.mark.parametrize("values", [[[1]], [b"a"], [{"a": 1}], [True], [date(2020, 1, 1)]], ids=str)
def test_columns_of_other_kinds_are_refused(values: list[Any], tmp_path: Path) -> None:
    columns = {"_id": ["a"] * len(values), "text": values}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with open_parquet(tmp_path / "a.parquet") as opened, pytest.raises(Corrupt, match="neither text nor numbers"):
        opened.read(["text"])
    with pytest.raises(SourceFailed, match="Parquet"):
        _write_records([tmp_path / "a.parquet"], tmp_path / "corpus.jsonl")


def test_the_hubs_bombs_fill_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(safe_load, "LEAST", 1 << 20)
    ids = [str(row) for row in range(300)]
    bomb = pyarrow.table({"_id": ids, "title": [""] * 300, "text": repeated("a" * 100_000, 300)})
    pyarrow.parquet.write_table(bomb, tmp_path / "a.parquet", compression="zstd", store_schema=False)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(bytes(30 << 20)))
    for name in ("a.parquet", "a.jsonl.gz"):
        with pytest.raises(SourceFailed, match="100 times"):
            _write_records([tmp_path / name], tmp_path / "corpus.jsonl")
        assert (tmp_path / "corpus.jsonl").stat().st_size <= 3 << 20


def test_scores_of_more_queries_than_the_file_can_name_are_refused(tmp_path: Path) -> None:
    rows = 2_000_000
    table = pyarrow.table({"query_id": repeated("q", rows), "nDCG@10": np.full(rows, 0.5)})
    pyarrow.parquet.write_table(table, tmp_path / "per_query.parquet", compression="zstd", store_schema=False)
    with pytest.raises(Corrupt, match="2,000,000 rows"):
        read_columns(tmp_path / "per_query.parquet", ["query_id"])
    with pytest.raises(UserError, match="2,000,000 rows"):
        read_per_query(tmp_path, "nDCG@10")
    few = table.slice(0, 90_000)
    pyarrow.parquet.write_table(few, tmp_path / "per_query.parquet", compression="zstd", store_schema=False)
    assert len(read_per_query(tmp_path, "nDCG@10")) == 90_000
