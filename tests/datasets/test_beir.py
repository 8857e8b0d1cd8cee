"""Opening BEIR folders: what is accepted, what is refused and in which words, and what identifies the content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.beir import Dataset, open_dataset
from harness.types import Query, UserError

QRELS = "query-id\tcorpus-id\tscore\nq2\td1\t2\nq2\td3\t-1\nq1\td0\t1\n"
QUERIES = [("q1", "first"), ("unjudged", "?"), ("q2", "")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    jsonl(folder / "corpus.jsonl", [(f"d{n}", f"text {n}") for n in range(4)])
    jsonl(folder / "queries.jsonl", QUERIES)
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    return folder


def jsonl(path: Path, records: list[tuple[str, str]]) -> None:
    lines = (json.dumps({"_id": identifier, "text": text}) + "\n" for identifier, text in records)
    path.write_text("".join(lines))


def opened(folder: Path, **options: object) -> Dataset:
    with open_dataset(folder, cache=folder.parent / "cache", **options) as dataset:  # type: ignore[arg-type]
        return dataset


def test_defaults(folder: Path) -> None:
    dataset = opened(folder)
    assert (dataset.name, dataset.label, dataset.split, dataset.exclude_self) == ("tiny", "tiny", "test", False)
    assert dataset.queries == [Query("q1", "first"), Query("q2", "")]
    assert dataset.qrels == {"q2": {"d1": 2, "d3": -1}, "q1": {"d0": 1}}
    assert (dataset.notes, dataset.limit, dataset.citation) == ([], None, "")


def test_dataset_toml_states_and_arguments_win(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\n")
    (folder / "dataset.toml").write_text(
        'name = "told"\nsplit = "dev"\nexclude_self = true\ncitation = "C"\nlicence = "L"\n[versions]\nx = "1"\n'
    )
    dataset = opened(folder)
    assert (dataset.name, dataset.split, dataset.exclude_self, dataset.citation) == ("told", "dev", True, "C")
    assert (dataset.label, dataset.qrels) == ("told", {"q1": {"d2": 1}})
    assert opened(folder, split="test").label == "told:split=test"
    dataset = opened(folder, name="mine", split="test", exclude_self=False)
    assert (dataset.name, dataset.split, dataset.exclude_self) == ("mine", "test", False)
    assert len(dataset.qrels) == 2


def test_limit_keeps_the_first_judged_queries_and_only_their_judgements(folder: Path) -> None:
    dataset = opened(folder, limit=1)
    assert dataset.queries == [Query("q1", "first")]
    assert dataset.qrels == {"q1": {"d0": 1}}
    assert (dataset.limit, dataset.label, len(dataset.notes)) == (1, "tiny:limit=1", 1)
    assert dataset.fingerprint["corpus"] == opened(folder).fingerprint["corpus"]
    assert dataset.fingerprint["queries"] != opened(folder).fingerprint["queries"]
    assert opened(folder, limit=7).fingerprint == opened(folder).fingerprint
    with pytest.raises(UserError, match="limit of 0"):
        opened(folder, limit=0)


def test_crlf_and_bom_change_nothing(folder: Path) -> None:
    plain = opened(folder)
    for name in ("queries.jsonl", "qrels/test.tsv"):
        content = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content)
    windows = opened(folder)
    assert windows.fingerprint == plain.fingerprint
    assert windows.qrels == plain.qrels


def test_dangling_documents_are_noted_and_stay_in_the_ideal(folder: Path) -> None:
    more = "".join(f"q1\td{n}\t1\n" for n in range(10, 17)) + "q2\td10\t1\n"
    (folder / "qrels" / "test.tsv").write_text(QRELS + more)
    dataset = opened(folder)
    assert len(dataset.qrels["q1"]) == 8
    assert dataset.notes == [
        "8 judgements name documents not in the corpus (d10, d11, d12, d13, d14 ...); "
        "measured as never retrieved, as trec_eval 10.0 does"
    ]


def test_repeated_judgements_are_noted(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text(QRELS + "q1\td0\t1\n\nq1\td0\t1\n")
    dataset = opened(folder)
    assert dataset.qrels["q1"] == {"d0": 1}
    assert dataset.notes == ["2 lines of test.tsv repeat an earlier judgement word for word; they count once"]


def test_repeated_documents_and_queries_are_noted(folder: Path) -> None:
    plain = opened(folder)
    for name, count in (("corpus.jsonl", 4), ("queries.jsonl", 3)):
        (folder / name).write_text((folder / name).read_text() * 2)
        assert len((folder / name).read_text().splitlines()) == 2 * count
    dataset = opened(folder)
    assert dataset.notes == [
        "3 lines of queries.jsonl repeat an earlier query word for word; they count once",
        "4 lines of corpus.jsonl repeat an earlier document word for word; they count once",
    ]
    assert (dataset.queries, dataset.qrels) == (plain.queries, plain.qrels)
    assert {**dataset.fingerprint, "corpus": ""} == {**plain.fingerprint, "corpus": ""}


def test_ids_in_quotes_as_csv_writes_them(folder: Path) -> None:
    ids = ['"Heroes"_(album)', 'a_"b"', "d2", "d3"]
    jsonl(folder / "corpus.jsonl", [(identifier, "text") for identifier in ids])
    jsonl(folder / "queries.jsonl", [('"q"', "first")])
    rows = ['"""q"""\t"""Heroes""_(album)"\t2', '"""q"""\t"a_""b"""\t1', '"""q"""\t"d2"\t1']
    qrels(*rows, header='"query-id"\t"corpus-id"\t"score"')(folder)
    dataset = opened(folder)
    assert dataset.qrels == {'"q"': {'"Heroes"_(album)': 2, 'a_"b"': 1, "d2": 1}}
    assert dataset.notes == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (['q1\t"Heroes"\t1'], ["lacks 1 judged documents", '("Heroes")', 'write """Heroes""" in qrels/test.tsv']),
        (['"q"\td0\t1'], ["lacks 1 of the 1 queries", '("q")', 'write """q""" in qrels/test.tsv']),
    ],
)
def test_quotes_that_belong_to_an_id_are_not_dropped_in_silence(
    folder: Path, rows: list[str], words: list[str]
) -> None:
    """BEIR would read them away and find nothing."""
    jsonl(folder / "corpus.jsonl", [("d0", "text"), ('"Heroes"', "text")])
    jsonl(folder / "queries.jsonl", [("q1", "first"), ('"q"', "second")])
    qrels(*rows)(folder)
    with pytest.raises(UserError) as caught:
        opened(folder)
    assert all(word in str(caught.value) for word in words), caught.value


def replace(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def remove(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def qrels(*lines: str, header: str = "query-id\tcorpus-id\tscore") -> Callable[[Path], object]:
    return replace("qrels/test.tsv", "\n".join([header, *lines]) + "\n")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove("corpus.jsonl"), ["tiny", "lacks corpus.jsonl;", "harness datasets"]),
        (remove("queries.jsonl", "qrels/test.tsv"), ["lacks queries.jsonl and qrels/SPLIT.tsv;"]),
        (
            lambda folder: (folder / "qrels/test.tsv").rename(folder / "qrels/dev.tsv"),
            ["split 'test'", "has dev", "--split"],
        ),
        (qrels(header="q1\td0\t1"), [r"'query-id\tcorpus-id\tscore'", r"'q1\td0\t1'"]),
        (replace("qrels/test.tsv", ""), ["begins with ''"]),
        (qrels(), ["test.tsv", "no judgements"]),
        (qrels("q1\td0\t1", "q1 d1 1"), ["Line 3", "test.tsv", "1 columns"]),
        (qrels("q1\td0\t1", "", "q1\td1\t0.5"), ["Line 4", "'0.5'", "not an integer"]),
        (qrels("q1\td0\t1", "q1\td0\t2"), ["Line 3", "d0", "q1", "keep one"]),
        (
            qrels("q1\td0\t1", *(f"m{n}\td0\t1" for n in range(7))),
            ["queries.jsonl lacks 7 of the 8", "m0, m1, m2, m3, m4 ..."],
        ),
        (qrels("q1\tx0\t1", "q1\tx1\t1"), ["None of the 2 judged documents (x0, x1)", "d0, d1"]),
        (replace("queries.jsonl", '{"_id": "q1"}\n'), ["queries.jsonl line 1", "has no 'text'"]),
        (lambda folder: jsonl(folder / "queries.jsonl", [*QUERIES, ("q1", "again")]), ["'q1' twice", "lines 1 and 4"]),
        (
            lambda folder: jsonl(folder / "queries.jsonl", [*QUERIES, *((name, "again") for name, _ in QUERIES)]),
            ["3 ids on several lines ('q1' twice, on lines 1 and 4; 'unjudged' twice, on lines 2 and 5; "],
        ),
        (qrels("q1\td0\t1", " q1\td1\t1"), ["Line 3", "the query id ' q1'", "white space"]),
        (qrels('"q1"\td0\t1', '"qq"\td0\t1'), ["lacks 1 of the 2 queries", "(qq)", "add them"]),
        (replace("corpus.jsonl", "{}\n"), ["corpus.jsonl line 1", "has no '_id'"]),
        (replace("dataset.toml", "name = \n"), ["dataset.toml is not TOML", "line 1"]),
        (replace("dataset.toml", 'nmae = "x"\n'), ["dataset.toml", "'nmae'", "name, split"]),
        (replace("dataset.toml", 'exclude_self = "yes"\n'), ["exclude_self is 'yes'", "true or false"]),
        (replace("dataset.toml", "split = 3\n"), ["split is 3", "must be text"]),
        (replace("dataset.toml", 'split = "dev"\n'), ["split 'dev'", "has test"]),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, harm: Callable[[Path], object], words: list[str]) -> None:
    harm(folder)
    with pytest.raises(UserError) as caught:
        opened(folder)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere; .*corpus\.jsonl.*harness datasets"):
        opened(tmp_path / "nowhere")


def test_the_fingerprint_is_of_the_content_alone(folder: Path, tmp_path: Path) -> None:
    first = opened(folder)
    moved = folder.rename(tmp_path / "moved")
    (moved / "dataset.toml").write_text('name = "other"\ncitation = "C"\n')
    head, *lines = QRELS.splitlines()
    (moved / "qrels" / "test.tsv").write_text("\n".join([head, *reversed(lines)]) + "\n")
    jsonl(moved / "queries.jsonl", [*QUERIES, ("also unjudged".replace(" ", "-"), "?")])
    assert opened(moved).fingerprint == first.fingerprint
    assert opened(moved, exclude_self=True).fingerprint != first.fingerprint
    jsonl(moved / "queries.jsonl", QUERIES[::-1])  # vectors are stored in this order
    assert opened(moved).fingerprint["queries"] != first.fingerprint["queries"]
    (moved / "qrels" / "test.tsv").write_text(QRELS.replace("\t2\n", "\t3\n"))
    assert opened(moved).fingerprint["qrels"] != first.fingerprint["qrels"]


@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgements"),
    [("scifact", 5183, 300, 339), ("cranfield", 1400, 225, 1837), ("vaswani", 11429, 93, 2083)],
)
def test_published_counts(
    tmp_path: Path, shared: Path, name: str, documents: int, queries: int, judgements: int
) -> None:
    with open_dataset(shared / "data" / name, cache=tmp_path) as dataset:
        counts = len(dataset.corpus), len(dataset.queries), sum(map(len, dataset.qrels.values()))
        assert (*counts, dataset.notes) == (documents, queries, judgements, [])
