"""Run files, against lines formatted one by one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from harness.metrics import run_writer
from harness.metrics.ranking import Ranking
from harness.metrics.run_writer import write_run
from harness.storage.strings import StringColumn, Strings
from harness.types import UserError


def lines(rankings: list[Ranking], tag: str) -> str:
    """The run, line by line."""
    return "".join(
        f"{query} Q0 {doc_id} {rank} {np.float32(score)!s} {tag}\n"
        for query, doc_ids, scores, _ in rankings
        for rank, (doc_id, score) in enumerate(zip(doc_ids, scores, strict=True), 1)
    )


def scores(count: int) -> np.ndarray:
    """Every kind of float32: whole, tiny, huge and ordinary numbers."""
    generator = np.random.default_rng(41)
    every = generator.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    usual = (-20 * generator.random(count)).astype(np.float32)
    kinds = np.stack([every, usual, np.round(usual), usual * np.float32(1e-4), usual * np.float32(1e5)])
    found = kinds[generator.integers(0, len(kinds), count), np.arange(count)]
    return np.where(np.isnan(found), np.float32(1), found)


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_the_file_holds_the_lines_of_every_ranking(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_writer, "LINES", 1_000)
    ids = [f"dök-{number}" for number in range(700)]
    raw = [each.encode() for each in ids]
    column = StringColumn(b"".join(raw), np.cumsum([len(each) for each in raw]))
    generator = np.random.default_rng(42)
    rankings = []
    for number, size in enumerate([0, 1, 400, 700, 3, 0, 650, 20]):
        rows = generator.permutation(700)[:size]
        listed = Strings(column, rows) if number % 2 else [ids[row] for row in rows.tolist()]
        rankings.append(Ranking(f"q{number}", listed, scores(size)))
    write_run(tmp_path / name, rankings, "tag")
    written = (tmp_path / name).read_bytes()
    assert (gzip.decompress(written) if name.endswith("gz") else written).decode() == lines(rankings, "tag")


def test_neither_threads_nor_an_empty_run_spoil_the_gzip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_writer, "LINES", 100)
    rankings = [Ranking(f"q{number}", [f"d{row}" for row in range(90)], scores(90)) for number in range(40)]
    made = []
    for cores in (1, 8):
        monkeypatch.setattr(run_writer, "cores", lambda cores=cores: cores)
        write_run(tmp_path / "run.gz", rankings, "tag")
        made.append((tmp_path / "run.gz").read_bytes())
    assert made[0] == made[1]
    assert gzip.decompress(made[0]).decode() == lines(rankings, "tag")
    write_run(tmp_path / "none.gz", [], "tag")
    assert gzip.decompress((tmp_path / "none.gz").read_bytes()) == b""
    assert (tmp_path / "none.gz").stat().st_size > 0


def test_decimals_are_numpys() -> None:
    values = scores(200_000)
    assert run_writer._decimals(values).to_pylist() == values.astype(str).tolist()


@pytest.mark.parametrize("lines_at_once", [1, 1 << 16])
def test_an_id_that_a_run_cannot_carry_is_named(
    lines_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_writer, "LINES", lines_at_once)
    rankings = [Ranking(f"q{number}", ["a", "b c" if number == 1 else "b"], np.float32([2, 1])) for number in range(4)]
    with pytest.raises(UserError, match="Document id 'b c' is empty or holds whitespace"):
        write_run(tmp_path / "run.trec.gz", rankings, "tag")
    assert not (tmp_path / "run.trec.gz").exists()
