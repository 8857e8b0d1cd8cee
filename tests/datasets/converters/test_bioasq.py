"""BioASQ from its questions, its training articles and the PubMed baseline."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.converters import convert, summary
from harness.datasets.converters.bioasq import ABOUT, PmidSet, baseline
from harness.types import UserError
from tests.conftest import Done

QUESTIONS = {
    "questions": [
        {
            "id": "5e30f638fbd6abf43b000045",
            "type": "yesno",
            "body": "Does teplizumab hold\npromise? ",
            "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/101", "http://www.ncbi.nlm.nih.gov/pubmed/999"],
            "ideal_answer": ["Yes"],
        },
        {
            "id": "5e36dc8cb5b409ea5300000d",
            "body": "Is αCGRP a peptide?",
            "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/102", "http://www.ncbi.nlm.nih.gov/pubmed/102"],
        },
        {"id": "5e36dc8cb5b409ea5300000e", "body": "Unanswered?", "documents": []},
    ]
}
ARTICLES = (
    '{"articles":[\n'
    '{"abstractText":"Teplizumab delays  diabetes\\u2014often.","journal":"J","meshMajor":["Humans"],"pmid":"101",'
    '"title":"Anti-CD3.","year":"2019"},\n'
    '{"abstractText":"Caf\xe9 \xb1 one.","journal":"J","meshMajor":["Mice"],"pmid":"103","title":"[Coffee].",'
    '"year":null},\n'
    '{"abstractText":"Again.","meshMajor":[],"pmid":"101","title":"Twice."},\n'
    '{"abstractText":"Last.","journal":"J","meshMajor":["Rats"],"pmid":"104","title":null,"year":"2018"}]}'
)
HEADINGS = "<MeshHeadingList><MeshHeading><DescriptorName>Humans</DescriptorName></MeshHeading></MeshHeadingList>"


def citation(pmid: int, title: str, abstract: str, version: int = 1, headings: str = HEADINGS) -> str:
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="{version}">{pmid}</PMID>'
        f"<Article><ArticleTitle>{title}</ArticleTitle>{abstract}</Article>{headings}"
        f'<CommentsCorrectionsList><CommentsCorrections><PMID Version="1">7</PMID></CommentsCorrections>'
        f"</CommentsCorrectionsList></MedlineCitation><PubmedData/></PubmedArticle>\n"
    )


def pubmed(*citations: str) -> bytes:
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st '
        'January 2019//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_190101.dtd">\n<PubmedArticleSet>'
    )
    return (head + "".join(citations) + "</PubmedArticleSet>").encode()


STRUCTURED = (
    '<Abstract><AbstractText Label="AIM" NlmCategory="OBJECTIVE">To see H<sub>2</sub>O &amp; <i>E. coli</i>\n'
    '   p &lt; 0.05.</AbstractText><AbstractText Label="END"/><AbstractText>Seen.</AbstractText>'
    "<CopyrightInformation>©</CopyrightInformation></Abstract><OtherAbstract><AbstractText>Autre.</AbstractText>"
    "</OtherAbstract>"
)
OLD = pubmed(
    citation(101, "Old title.", "<Abstract><AbstractText>Old.</AbstractText></Abstract>"),
    citation(102, "The <b>CGRP</b> family.", STRUCTURED),
    citation(105, "No abstract.", ""),
    citation(106, "Not indexed.", "<Abstract><AbstractText>Words.</AbstractText></Abstract>", headings=""),
    citation(107, "Withdrawn.", "<Abstract><AbstractText>Gone.</AbstractText></Abstract>"),
)
NEW = pubmed(
    citation(101, "Second version.", "<Abstract><AbstractText>Two.</AbstractText></Abstract>", version=2),
    citation(101, "First version.", "<Abstract><AbstractText>One.</AbstractText></Abstract>"),
    citation(999, "Judged, without abstract or headings.", "", headings=""),
    "<DeleteCitation><PMID Version='1'>107</PMID></DeleteCitation>",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "bioasq"
    (folder / "Task8BGoldenEnriched").mkdir(parents=True)
    (folder / "Task8BGoldenEnriched/8B1_golden.json").write_text(json.dumps(QUESTIONS, ensure_ascii=False))
    return folder


def with_articles(folder: Path, content: str = ARTICLES) -> Path:
    path = folder / "allMeSH_2020.json"
    path.write_bytes(content.encode("latin-1"))
    return path


def with_baseline(folder: Path) -> None:
    (folder / "baseline").mkdir()
    (folder / "baseline/pubmed20n0001.xml.gz").write_bytes(gzip.compress(OLD))
    (folder / "baseline/pubmed20n1002.xml").write_bytes(NEW)
    (folder / "baseline/pubmed20n1002.xml.gz.md5").write_text("MD5")


def corpus(folder: Path) -> dict[str, tuple[str, str]]:
    records = map(json.loads, (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines())
    return {record["_id"]: (record["title"], record["text"]) for record in records}


def test_training_articles_and_the_judged_ones_that_they_lack(source: Path, tmp_path: Path) -> None:
    with_articles(source)
    only = convert("bioasq", source, tmp_path / "home", lambda *_: None)
    trained = {
        "101": ("Anti-CD3.", "Teplizumab delays diabetes—often."),
        "103": ("[Coffee].", "Café ± one."),
        "104": ("", "Last."),
    }
    assert corpus(only) == trained
    assert summary(only)[1:] == [
        "judged documents that the source lacks: 2 (such as 102, 999), which count as never retrieved; queries left "
        "without any relevant one: 1",
        "left out, articles whose PMID came before: 1",
    ]
    assert (only / "queries.jsonl").read_text(encoding="utf-8").splitlines() == [
        '{"_id": "5e30f638fbd6abf43b000045", "text": "Does teplizumab hold promise?"}',
        '{"_id": "5e36dc8cb5b409ea5300000d", "text": "Is αCGRP a peptide?"}',
    ]
    assert (only / "qrels/test.tsv").read_text().splitlines()[1:] == [
        "5e30f638fbd6abf43b000045\t101\t1",
        "5e30f638fbd6abf43b000045\t999\t1",
        "5e36dc8cb5b409ea5300000d\t102\t1",
    ]
    with_baseline(source)
    both = convert("bioasq", source, tmp_path / "home", lambda *_: None)
    assert both != only
    assert corpus(both) == trained | {
        "999": ("Judged, without abstract or headings.", ""),
        "102": ("The CGRP family.", "To see H2O & E. coli p < 0.05. Seen."),
    }
    assert "lacks" not in " ".join(summary(both))


def test_the_baseline_alone_in_its_latest_versions(source: Path, tmp_path: Path) -> None:
    with_baseline(source)
    folder = convert("bioasq", source, tmp_path / "home", lambda *_: None)
    assert corpus(folder) == {
        "101": ("Second version.", "Two."),
        "999": ("Judged, without abstract or headings.", ""),
        "102": ("The CGRP family.", "To see H2O & E. coli p < 0.05. Seen."),
    }
    told = summary(folder)
    assert "left out, records without an abstract or MeSH headings: 2" in told
    assert "left out, older versions of a record, or deleted ones: 2" in told


def test_from_fetch_to_a_score(source: Path, harness: Callable[..., Done]) -> None:
    with_articles(source)
    folder = json.loads(harness("fetch", "bioasq", "--from", source, "--json").out)["bioasq"]
    assert json.loads(harness("doctor", folder, "--json").out)["dangling"] == ["999", "102"]
    done = harness("benchmark", "-m", "bm25", "-d", folder, "--results", "results", "--json")
    assert done.code == 0, done.err


def test_a_file_of_any_length_takes_the_memory_of_its_records(tmp_path: Path) -> None:
    def peak(copies: int) -> int:
        path = tmp_path / "pubmed20n0001.xml"
        path.write_bytes(pubmed(*[citation(1, "t", STRUCTURED)] * copies))
        tracemalloc.start()
        baseline(path)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4000) < 1.5 * peak(400)


def test_a_bit_per_pmid() -> None:
    seen = PmidSet()
    assert [seen.add(pmid) for pmid in ("9", "1", "40000000", "9", "40000000", "8")] == [True] * 3 + [False] * 2 + [
        True
    ]


def test_ids_and_grades_are_those_of_beir(shared: Path) -> None:
    folder = shared / "reference/beir-topics-qrels"
    judged = [line.split() for line in (folder / "qrels.beir-v1.0.0-bioasq.test.txt").read_text().splitlines()]
    with gzip.open(folder / "topics.beir-v1.0.0-bioasq.test.tsv.gz", "rt", encoding="utf-8") as stream:
        queries = dict(line.rstrip("\n").split("\t", 1) for line in stream)
    assert (len(queries), len(judged)) == (ABOUT.published.queries, ABOUT.published.judgements)
    assert {line[3] for line in judged} == {"1"}
    assert all(line[2].isdigit() and int(line[2]) < 33_000_000 for line in judged)  # no PMID of 2020 was greater
    assert all(re.fullmatch("[0-9a-f]{24}", key) for key in queries)
    assert queries["5e30f638fbd6abf43b000045"].startswith("Does teplizumab hold promise")


def test_what_a_person_gets_wrong(source: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(UserError) as caught:
            convert("bioasq", source, tmp_path / "home", lambda *_: None)
        for word in words:
            assert word in str(caught.value)

    refused("holds neither allMeSH_2020.json nor a PubMed baseline")
    path = with_articles(source, ARTICLES[: ARTICLES.rindex("{")])
    refused("breaks off at line 4, before its closing ]}")
    with_articles(source, ARTICLES[:-30])
    refused("line 5 is not JSON")
    with_articles(source, ARTICLES.replace('"103"', '"PMC103"'))
    refused("has a PMID that is not a number ('PMC103', line 3)")
    path.unlink()
    with_baseline(source)
    broken = source / "baseline/pubmed20n0001.xml.gz"
    broken.write_bytes(gzip.compress(OLD)[:-50])
    refused("pubmed20n0001.xml.gz cannot be unpacked to its end")
    broken.write_bytes(gzip.compress(OLD.replace(b"</ArticleTitle>", b"</Title>", 1)))
    refused("is not well-formed XML at line 3, column", "mismatched tag")
    (source / "Task8BGoldenEnriched/8B1_golden.json").write_text('[{"id": 1}]')
    refused("8B1_golden.json line 1 is not a JSON object")
    (source / "Task8BGoldenEnriched/8B1_golden.json").write_text('{"questions": [{"documents": ["x/1"]}]}')
    refused("is not of the form")
    (source / "Task8BGoldenEnriched/8B1_golden.json").unlink()
    refused("holds no test questions with answers (such as 8B1_golden.json)")
