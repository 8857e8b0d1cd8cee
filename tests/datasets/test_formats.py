"""docs/formats.md: each of its rows on a small file, and BEIR's own loader beside ours where it is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.beir import Dataset, open_dataset
from harness.datasets.corpus import open_corpus
from harness.datasets.doctor import examine
from harness.metrics.measures import measure
from harness.metrics.qrels import HEADER, read_judgements, read_qrels
from harness.metrics.ranking import RunNotes, read_run
from harness.types import Document, Query, UserError
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text()
RECORDS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": None, "text": ""}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", RECORDS, [{"_id": "q1", "text": "one"}], f"{HEADER}\nq1\td1\t1\n")


def write(folder: Path, corpus: list[Any], queries: list[Any], qrels: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_bytes(qrels.encode())
    return folder


def opened(folder: Path) -> Dataset:
    with open_dataset(folder, cache=folder.parent / "cache") as dataset:
        return dataset


def documents(folder: Path, *lines: str) -> list[Document]:
    path = folder / "corpus.jsonl"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    with open_corpus(path, folder.parent / "cache") as corpus:
        return list(corpus.iter())


def beirs(folder: Path) -> tuple[Any, Any, Any]:
    if find_spec("beir") is None:
        pytest.skip("beir is not installed: pip install beir")
    from beir.datasets.data_loader import GenericDataLoader

    return GenericDataLoader(str(folder)).load("test")


def row(words: str) -> str:
    """The line of the page with these words, so that a statement that is reworded is looked at here."""
    [found] = [line for line in PAGE.splitlines() if words in line]
    return found


@pytest.mark.parametrize(
    ("words", "line", "expected"),
    [
        ("| `_id` |", '{"_id": 7, "text": "x"}', Document("7", "", "x")),
        ("| `title` |", '{"_id": "a", "title": null, "text": "x"}', Document("a", "", "x")),
        ("| `title` |", '{"_id": "a", "text": "x"}', Document("a", "", "x")),
        ("| `text` |", '{"_id": "a", "text": null}', "has no 'text'"),
        ("| `text` |", '{"_id": "a"}', "has no 'text'"),
        ("| `text` |", '{"_id": "a", "text": 7}', "'text' that is not text"),
        ("| others |", '{"_id": "a", "text": "x", "metadata": {"y": [1]}}', Document("a", "", "x")),
        ("An unpaired surrogate", '{"_id": "a", "text": "\\ud83d"}', Document("a", "", "\ufffd")),
        ("An id is any text without ASCII white space", '{"_id": "a b", "text": "x"}', "white space"),
        ("treats as white space (U+0085", '{"_id": "a\u0085\u00a0\u2028\\u001c", "text": "x"}', None),
        ("with or without a byte order mark", '\ufeff{"_id": "a", "text": "x"}\r\n\n', Document("a", "", "x")),
        ("A NUL byte is refused", '{"_id": "a\\u0000", "text": "x"}', "NUL"),
    ],
)
def test_fields_of_a_record(folder: Path, words: str, line: str, expected: Document | str | None) -> None:
    row(words)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"line 1 .*{expected}"):
            documents(folder, line)
    else:
        assert documents(folder, line) == [expected or Document(json.loads(line)["_id"], "", "x")]


def test_repeated_records(folder: Path) -> None:
    row(
        "(same id, title and text) counts once, with a note; the same id with other content is refused, and the message"
    )
    twice = json.dumps(RECORDS[0])
    assert len(documents(folder, twice, twice)) == 1
    with pytest.raises(UserError, match="2 ids on several lines"):
        documents(folder, *(json.dumps({"_id": f"d{n % 2}", "text": f"{n}"}) for n in range(4)))


def test_order_and_choice_of_queries(folder: Path) -> None:
    row("BEIR's loader keeps the last. Queries without judgements are left out; the order is that of the file.")
    queries = [{"_id": name, "text": name} for name in ("q2", "no", "q1")]
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (folder / "qrels" / "test.tsv").write_text(f"{HEADER}\nq1\td1\t1\nq2\td1\t1\nq2\tgone\t1\n")
    dataset = opened(folder)
    assert dataset.queries == [Query("q2", "q2"), Query("q1", "q1")]
    row("Judgements of documents that are not in the corpus are kept")
    assert dataset.qrels["q2"] == {"d1": 1, "gone": 1}


Qrels = Callable[[str], dict[str, dict[str, int]]]


@pytest.fixture
def qrels(tmp_path: Path) -> Qrels:
    def read(content: str) -> dict[str, dict[str, int]]:
        (tmp_path / "qrels").write_bytes(content.encode())
        return read_qrels(tmp_path / "qrels")

    return read


@pytest.mark.parametrize(
    ("words", "content", "expected"),
    [
        ("skips a first line whose third column is a word", "x\ty\trel\nq\td\t1\n", {"q": {"d": 1}}),
        ("TREC's form has four columns", "q 0\td \t 1\n", {"q": {"d": 1}}),
        ("unless white space makes it four", "q Q0\td\t1\n", {"q": {"d": 1}}),
        ("ids in BEIR's form", f'{HEADER}\n"q"\t"""Heroes""_(album)"\t"1"\n', {"q": {'"Heroes"_(album)': 1}}),
        ("ids in BEIR's form", f'{HEADER}\nq\t"Weird_Al"_Yankovic\t1\n', {"q": {'"Weird_Al"_Yankovic': 1}}),
        ("white space in or around an id", f"{HEADER}\n q\td\t1\n", "white space"),
        ("white space in or around an id", f"{HEADER}\nq\td x\t1\n", "white space"),
        ("| relevance |", f"{HEADER}\nq\td\t+2.0\n", {"q": {"d": 2}}),
        ("| relevance |", f"{HEADER}\nq\td\t0.5\n", "'0.5' is not an integer"),
        ("| relevance |", f"{HEADER}\nq\td\t1_0\n", "'1_0' is not an integer"),
        ("| relevance |", f"{HEADER}\nq\td\t1e0\n", "'1e0' is not an integer"),
        ("| relevance |", f"{HEADER}\nq\td\t\n", "'' is not an integer"),
        ("| relevance below 0 |", f"{HEADER}\nq\td\t-1\n", {"q": {"d": -1}}),
        ("| same judgement twice |", f"{HEADER}\nq\td\t1\nq\td\t1\n", {"q": {"d": 1}}),
        ("| two relevances of one document |", f"{HEADER}\nq\td\t1\nq\td\t2\n", "keep one"),
        ("| more or fewer columns |", f"{HEADER}\nq\td\t1\t2\n", "4 columns"),
        ("| more or fewer columns |", "q 0 d 1 2\n", "5 columns"),
        ("in BEIR's form ids", f"{HEADER}\n#q\td\t1\n", {"#q": {"d": 1}}),
        ("in BEIR's form ids", "# made by x\nq 0 d 1\n#q 0 d 1\n", {"q": {"d": 1}}),
    ],
)
def test_rows_about_qrels(qrels: Qrels, words: str, content: str, expected: Any) -> None:
    row(words)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            qrels(content)
    else:
        assert qrels(content) == expected


def test_notes_about_qrels(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 d 1\nq 0 d 1\n#q 0 d 1\n# made by me\n")
    comments, repeated = read_judgements(tmp_path / "qrels").notes
    assert "1 of its lines begin with #" in comments
    assert "1 lines" in repeated


def test_ids_whose_quotes_are_their_own(folder: Path) -> None:
    row("ids of which the corpus has the form in quotes")
    (folder / "corpus.jsonl").write_text('{"_id": "\\"x\\"", "text": "x"}\n')
    (folder / "qrels" / "test.tsv").write_text(f'{HEADER}\nq1\t"x"\t1\n')
    with pytest.raises(UserError, match='write """x""" in'):
        opened(folder)
    (folder / "qrels" / "test.tsv").write_text(f'{HEADER}\nq1\t"""x"""\t1\n')
    assert opened(folder).qrels == {"q1": {'"x"': 1}}


@pytest.mark.parametrize(
    ("words", "content", "expected"),
    [
        ("| order |", "q Q0 a 9 1 t\nq Q0 b 1 1 t\nq Q0 c 5 2 t\n", ["c", "b", "a"]),
        ("| score |", "q Q0 a 1 1e-1 t\nq Q0 b 1 -inf t\nq Q0 c 1 +inf t\n", ["c", "a", "b"]),
        ("| score |", "q Q0 a 1 0x1 t\n", "not a number"),
        ("| score |", "q Q0 a 1 nan t\n", "not a number"),
        ("| score |", "q Q0 a 1 1_0 t\n", "not a number"),
        ("| comparison |", "q Q0 a 1 1.00000002 t\nq Q0 b 1 1.00000001 t\n", ["a", "b"]),
        ("| columns after the sixth |", "q Q0 a 1 1 my own run\n", ["a"]),
        ("comments, unless the qrels have a query of that id", "# x\nq Q0 a 1 1 t\n#q Q0 b 1 1 t\n", ["a"]),
        ("| document twice in a query |", "q Q0 a 1 1 t\nq Q0 a 2 0 t\n", "a second time"),
    ],
)
def test_rows_about_runs(tmp_path: Path, words: str, content: str, expected: list[str] | str) -> None:
    row(words)
    (tmp_path / "run").write_text(content)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            list(read_run(tmp_path / "run"))
    else:
        notes = RunNotes()
        [found] = read_run(tmp_path / "run", notes=notes)
        assert found.doc_ids == expected
        assert notes.reordered == ("comparison" in words)
        assert notes.comments == ("comments" in words)


def test_statements_about_measures() -> None:
    row("that the run lacks counts 0 (but has its `NumRel`, and counts in `NumQ`)")
    names = re.findall(r"^\| `([^`]+)` \|", PAGE[PAGE.index("## Measures") :], re.MULTILINE)[:5]
    assert len(names) == 5
    typed = [name.replace("@k", "@10").replace("@r", "@0.5") for name in names]
    scores = measure({"q": {"d": 1}, "r": {"d": 1}}, [], [*typed, "nDCG(dcg='exp-log2')@10", "NumRel", "NumQ"])
    assert scores.values.tolist() == [[0.0] * 6 + [1, 1]] * 2
    for name in ("alpha_nDCG@10", "AP_IA", "StRecall@5", "INSQ(max_rel=1)", "Accuracy"):
        with pytest.raises(UserError, match="leave it out"):
            measure({"q": {"d": 1}}, [], [name])


def test_doctor_names_ids_that_other_programs_split(folder: Path) -> None:
    row("`harness doctor path/to/folder` names such ids.")
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "a\\u00a0b", "text": "x"}\n')
    with open_dataset(folder, cache=folder.parent / "cache") as dataset:
        report = examine(dataset)
    assert report.odd_ids == ["a\u00a0b"]
    [note] = [finding.sentence for finding in report.findings if "white space" in finding.sentence]
    assert "1 ids" in note
    assert "a\\xa0b" in note


def test_every_page_that_names_trec_eval_says_which_version() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    named = [page for page in pages if re.search(r"(?<!py)trec_eval", page.read_text())]
    assert len(named) >= 5
    for page in named:
        assert re.search(r"trec_eval (\()?(9|10\.0)", page.read_text()), page


def test_beirs_loader_reads_the_same(tmp_path: Path) -> None:
    """Where the page names no difference."""
    corpus = [{"_id": '"H"_(a)', "title": "T", "text": "one"}, {"_id": "d\u00a0x", "title": "", "text": "two"}]
    queries = [{"_id": 'q"1"', "text": "x"}, {"_id": "no", "text": "y"}]
    judged = f'{HEADER}\nq"1"\t"""H""_(a)"\t2\n"q""1"""\td\u00a0x\t-1\nq"1"\tgone\t1\nq"1"\tgone\t1\n'
    dataset = opened(write(tmp_path / "set", corpus, queries, judged))
    theirs = beirs(tmp_path / "set")
    assert theirs[0] == {r["_id"]: {"title": r["title"], "text": r["text"]} for r in corpus}
    assert theirs[1:] == ({query.id: query.text for query in dataset.queries}, dataset.qrels)


def test_beirs_loader_differs_as_stated(tmp_path: Path) -> None:
    corpus = [{"_id": 7, "title": None, "text": "one"}, {"_id": "d", "text": "old"}, {"_id": "d", "text": "new"}]
    judged = f'{HEADER}\nq\t"Weird_Al"_Yankovic\t1\nq\t d\t1\nq\td\t1\nq\td\t2\textra\n'
    theirs = beirs(write(tmp_path / "set", corpus, [{"_id": "q", "text": "x"}], judged))
    assert theirs[0] == {7: {"title": None, "text": "one"}, "d": {"title": None, "text": "new"}}
    assert theirs[2] == {"q": {"Weird_Al_Yankovic": 1, " d": 1, "d": 2}}
