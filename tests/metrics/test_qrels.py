"""Qrels files: both forms, what is refused with its line, and BEIR's own reading of the same bytes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.qrels import HEADER, qrels_line, read_judgements, read_qrels
from harness.types import UserError


def write(folder: Path, content: str) -> Path:
    (folder / "qrels.tsv").write_bytes(content.encode())
    return folder / "qrels.tsv"


def test_both_kinds_of_qrels(tmp_path: Path) -> None:
    judgements = {"q2": {"b": 2, "a": -1}, "q1": {"a": 0}}
    for content in (
        "q2 0 b 2\nq2 0 a -1\n\nq1\t0\ta\t0\n",
        "q2 0\tb\t2\nq2 0\ta\t-1\nq1 0\ta\t0\n",  # blanks and tabs mixed
        f"{HEADER}\nq2\tb\t2\nq2\ta\t-1\nq1\ta\t0\n",
        f"\ufeff{HEADER}\r\nq2\tb\t+2\r\nq2\ta\t-1.0\r\n\r\nq1\ta\t 0 \r\n",
        "q2\tb\t2\nq2\ta\t-1\nq2\tb\t2\nq1\ta\t0\n",  # without a header
        "qid\tdocid\trelevance\nq2\tb\t2\nq2\ta\t-1\nq1\ta\t0",
    ):
        found = read_qrels(write(tmp_path, content))
        assert found == judgements
        assert list(found) == ["q2", "q1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("q 0 a 1\nq 0 b\n", "Line 2 .* has 3 columns"),
        ("q\ta\t1\nq\ta\n", "Line 2 .* has 2 columns"),
        ("q 0 a yes\n", "Line 1 .*'yes' is not an integer"),
        (f"{HEADER}\nq\ta\t0.5\n", "Line 2 .*'0.5' is not an integer"),
        ("q 0 a 1\nq 0 a 0\n", "Line 2 .* judges document a for query q 0, an earlier line 1"),
        ("", "holds no judgements"),
        (f"{HEADER}\n", "holds no judgements"),
        ("# nothing\n", "holds no judgements"),
        # a first line is skipped as a header only where a word stands in its third column
        ("q\ta\t0.5\nq\tb\t2\n", "Line 1 .*'0.5' is not an integer"),
        ("q\ta\t\nq\tb\t2\n", "Line 1 .*'' is not an integer"),
        ("q\ta\t99999999999\nq\tb\t2\n", "Line 1 .*'99999999999' is not an integer of 32 bits"),
        ("q\ta\tnan\nq\tb\t2\n", "Line 1 .*'nan' is not an integer"),
        # Python's grammar of numbers is not C's
        (f"{HEADER}\nq\ta\t1_0\n", "Line 2 .*'1_0' is not an integer"),
        ("q 0 a \u0661\n", "Line 1 .*'\u0661' is not an integer"),
        ("q\ta\t1e0\n", "Line 1 .*'1e0' is not an integer"),
        (f"{HEADER}\nq\ta\t{'9' * 5000}\n", "Line 2 .* is not an integer of 32 bits"),
        # ids with white space are in no corpus
        (f"{HEADER}\n q\ta\t1\n", "Line 2 .*the query id ' q' is empty or holds white space"),
        (f"{HEADER}\nq\ta \t1\n", "Line 2 .*the document id 'a ' is empty or holds white space"),
        (f"{HEADER}\nq\t\t1\n", "Line 2 .*the document id '' is empty"),
        (f"{HEADER}\na query\ta\t1\n", "Line 2 .*the query id 'a query' is empty or holds white space"),
        ("a query\ta document\t1\n", "Line 1 .*the query id 'a query'"),
        (f'{HEADER}\nq\t"a b"\t1\n', "Line 2 .*the document id 'a b'"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_qrels(write(tmp_path, content))


def test_what_is_tolerated_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "# from x\nq 0 a 1\n#q 0 b 1\nq 0 a 1\nq 0 c#1 1\n")
    found = read_judgements(path)
    assert found.qrels == {"q": {"a": 1, "c#1": 1}}
    assert found.notes == [
        "qrels.tsv: 1 of its lines begin with # and are comments, as for trec_eval 10.0",
        "1 lines of qrels.tsv repeat an earlier judgement word for word; they count once",
    ]
    assert read_judgements(write(tmp_path, f"{HEADER}\n#q\ta\t1\n")) == ({"#q": {"a": 1}}, [])
    assert read_judgements(write(tmp_path, "#q\ta\t1\n")) == ({"#q": {"a": 1}}, [])


def beirs(path: Path) -> dict[str, dict[str, int]]:
    """As BEIR's GenericDataLoader reads it."""
    found: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        next(rows)
        for query, document, score in rows:
            found.setdefault(query, {})[document] = int(score)
    return found


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_quoted_ids_are_those_of_beir(tmp_path: Path, quoting: Any) -> None:
    judged = {'"Heroes"_(album)': 1, 'Call_You_"Friend"_1': 2, "Plain_2": 3, '"': 4, '""': 5, "'x'": 6, 'ends"': 7}
    path = tmp_path / "test.tsv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=quoting)
        writer.writerow(HEADER.split("\t"))
        writer.writerows(('"q"', document, grade) for document, grade in judged.items())
    assert read_judgements(path, header=True) == ({'"q"': judged}, [])
    assert beirs(path) == {'"q"': judged}


def test_an_id_that_only_begins_with_a_quote_is_kept(tmp_path: Path) -> None:
    """No writer of CSV makes such a field; BEIR's reader drops the quotes, and then finds no such document."""
    path = write(tmp_path, f'{HEADER}\nq\t"Weird_Al"_Yankovic\t1\n')
    assert read_qrels(path) == {"q": {'"Weird_Al"_Yankovic': 1}}


IDS = st.text(st.sampled_from("ab\"#'_\u00a0\u2028\x85\x1cé"), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(judged=st.dictionaries(st.tuples(IDS, IDS), st.integers(-3, 3), min_size=1, max_size=8))
def test_whatever_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, judged: dict[tuple[str, str], int]
) -> None:
    path = tmp_path_factory.mktemp("qrels") / "test.tsv"
    path.write_bytes("".join([f"{HEADER}\n", *(qrels_line(*ids, grade) for ids, grade in judged.items())]).encode())
    expected: dict[str, dict[str, int]] = {}
    for (query, document), grade in judged.items():
        expected.setdefault(query, {})[document] = grade
    assert read_qrels(path) == expected
    assert beirs(path) == expected


def test_published_judgements(shared: Path) -> None:
    """The same judgements in both formats."""
    trec = read_qrels(shared / "reference" / "beir-topics-qrels" / "qrels.beir-v1.0.0-scifact.test.txt")
    beir = read_qrels(shared / "data" / "scifact" / "qrels" / "test.tsv")
    assert trec == beir
    assert len(beir) == 300
