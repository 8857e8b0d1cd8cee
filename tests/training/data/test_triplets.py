"""Training sets: round trips, and errors that name the row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from harness.types import UserError
from harness_training.data.triplets import GROUP, read, write

ROWS = [("how", "so", "thus", "then"), ("why", "because", "since", "for"), ("qué", "ça", "ß", "\N{SNOWMAN}")]
RECORD = {"name": "mine", "seed": 1, "sources": [{"name": "toy", "split": "train", "fingerprint": {}}]}


def test_a_set_is_read_back_as_written(tmp_path: Path) -> None:
    written = write(tmp_path / "set", iter(ROWS), 2, lambda count: {**RECORD, "counts": {"rows": count}})
    found = read(tmp_path / "set", tmp_path)
    assert (found.rows, found.negatives, found.trained_on) == (3, 2, ("toy",))
    assert list(found.iter()) == ROWS
    assert found.record == written.record
    assert found.record["counts"] == {"rows": 3}
    table = pyarrow.parquet.read_table(found.file)
    assert table.column_names == ["query", "positive", "negative_1", "negative_2"] == found.columns


def test_the_key_is_of_the_texts_and_their_order(tmp_path: Path) -> None:
    def key(name: str, rows: list[tuple[str, ...]]) -> str:
        return write(tmp_path / name, rows, 2, lambda _: RECORD).key

    assert key("a", ROWS) == key("b", ROWS)
    assert len({key("a", ROWS), key("c", ROWS[::-1]), key("d", [("howso", "", "thus", "then"), *ROWS[1:]])}) == 3


def test_a_set_streams_in_compressed_row_groups(tmp_path: Path) -> None:
    rows = ((f"q{n}", "p", "n") for n in range(2 * GROUP + 1))
    found = write(tmp_path / "set", rows, 1, lambda _: RECORD)
    facts = pyarrow.parquet.ParquetFile(found.file).metadata
    assert [facts.row_group(n).num_rows for n in range(facts.num_row_groups)] == [GROUP, GROUP, 1]
    assert facts.row_group(0).column(0).compression == "ZSTD"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield ROWS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(tmp_path / "set", broken(), 2, lambda _: RECORD)
    with pytest.raises(UserError, match="No triplet is left"):
        write(tmp_path / "set", [], 2, lambda _: RECORD)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_set_is_refused(tmp_path: Path) -> None:
    found = write(tmp_path / "set", ROWS, 2, lambda _: RECORD)
    found.file.write_bytes(found.file.read_bytes()[:-1])
    with pytest.raises(UserError, match="was changed"):
        read(tmp_path / "set", tmp_path)
    (tmp_path / "set" / "training-set.json").write_text("{")
    with pytest.raises(UserError, match="is not a record of a training set"):
        read(tmp_path / "set", tmp_path)


def save(path: Path, rows: list[dict[str, object]]) -> Path:
    """A user's file in the format of its suffix."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\ufeff" + "\n".join(json.dumps(row) for row in rows) + "\n")
    else:
        path.write_text("\n".join("\t".join(map(str, line)) for line in [rows[0], *(r.values() for r in rows)]) + "\n")
    return path


@pytest.mark.parametrize("name", ["own.parquet", "own.jsonl", "own.tsv"])
def test_a_users_own_file_becomes_a_set(name: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"negative_2": d, "anchor": a, "note": "x", "positive": b, "negative_10": "last", "negative_1": c}
        for a, b, c, d in ROWS
    ]
    path = save(tmp_path / name, rows)
    found = read(path, tmp_path / "home")
    assert list(found.iter()) == [(*row, "last") for row in ROWS]
    assert found.sources[0]["fingerprint"]["files"].keys() == {name}
    before = found.file.stat().st_mtime_ns
    assert read(path, tmp_path / "home").file.stat().st_mtime_ns == before
    found.file.write_bytes(b"corrupt")
    assert next(read(path, tmp_path / "home").iter())[0] == "how"


GOOD = {"query": "q", "positive": "p", "negative": "n"}


@pytest.mark.parametrize("name", ["own.parquet", "own.jsonl", "own.tsv"])
@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"query": "q", "negative": "n"}], "lacks the column positive; it has 'query', 'negative'"),
        ([{"text": "q", "positive": "p", "negative": "n"}], "lacks the column query"),
        ([{"query": "q", "positive": "p"}], "lacks the column negative;.*harness mine"),
        ([GOOD, {**GOOD, "positive": " "}], "{place} has no text for the positive; fix or remove that row"),
        ([GOOD, {**GOOD, "query": ""}], "{place} has no text for the query"),
        ([GOOD, {**GOOD, "negative": "p"}], "{place} has a positive that is also its negative"),
    ],
)
def test_an_unfit_file_is_named_with_its_row(
    name: str, rows: list[dict[str, object]], sentence: str, tmp_path: Path
) -> None:
    place = {"own.parquet": "row 2", "own.jsonl": "line 2", "own.tsv": "line 3"}[name]
    with pytest.raises(UserError, match=f"{name}.*{sentence.replace('{place}', place)}"):
        read(save(tmp_path / name, rows), tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("own.parquet", b"PAR1 rubbish", "cannot be read"),
        ("own.jsonl", b'{"query": "q", "positive": "p", "negative": "n"}\n{"query": ', "line 2 is not JSON"),
        ("own.jsonl", b'{"query": "q", "positive": "p", "negative": ["n"]}', "line 1: negative is .* not text"),
        ("own.jsonl", b"[1]", "line 1 is not a JSON object"),
        ("own.jsonl", b"", "holds no rows"),
        ("own.tsv", b"query\tpositive\tnegative\nq\tp\n", "line 2 has 2 cells where the header has 3"),
        ("own.tsv", b"query\tpositive\tnegative\n", "holds no triplets"),
        ("own.tsv", b"query\tpositive\tnegative\nq\t\xff\tn", "line 2 is not UTF-8"),
        ("own.tsv.gz", b"query\tpositive\tnegative\n", "cannot be read"),
        ("own.csv", b"query,positive,negative\n", "has an unknown format"),
    ],
)
def test_a_corrupt_file_is_one_sentence(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read(tmp_path / name, tmp_path / "home")


def test_what_is_no_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no training set"):
        read(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="holds neither"):
        read(tmp_path, tmp_path)


def test_parquet_files_of_a_folder_are_one_set(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    save(folder / "b.parquet", [{**GOOD, "query": "second"}])
    save(folder / "a.parquet", [GOOD])
    assert [row[0] for row in read(folder, tmp_path / "home").iter()] == ["q", "second"]
    save(folder / "c.parquet", [{"query": "q", "positive": "p"}])
    with pytest.raises(UserError, match=r"c.parquet lacks the column negative"):
        read(folder, tmp_path / "home")
    save(folder / "c.parquet", [{**GOOD, "negative": 3}])
    with pytest.raises(UserError, match="the column negative holds int64, not text"):
        read(folder, tmp_path / "home")
