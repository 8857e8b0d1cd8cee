"""TREC-NEWS from the Washington Post collection."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.converters import convert, summary
from harness.datasets.converters.trec_news import ABOUT, plain_text, topics
from harness.types import UserError
from tests.conftest import Done

PUBLIC_TOPICS = """<top>
<num> Number: 827 </num>
<docid>679e8784-34df-11e7-b373-418f6849a004</docid>
<url>https://www.washingtonpost.com/investigations/house-panel-probes-drug-distributors-and-dea-amid-national-opioid-crisis/2017/05/09/679e8784-34df-11e7-b373-418f6849a004_story.html</url>
</top>

<top>
<num> Number: 829 </num>
<docid>0d7f5e24cafc019265d3ee4b9745e7ea</docid>
<url>https://www.washingtonpost.com/news/checkpoint/wp/2016/02/08/why-drone-swarms-will-buzz-to-the-forefront-in-the-new-pentagon-budget/</url>
</top>

<top>
<num> Number: 883 </num>
<docid>aaf444787011938dc645bdc1185a0716</docid>
<url>https://www.washingtonpost.com/news/energy-environment/wp/2016/04/27/why-solar-powered-planes-are-still-a-long-way-from-carrying-passengers/</url>
</top>
"""
"""Three of the sixty as NIST publishes them."""


def paragraph(text: str | None, mime: str = "text/html") -> dict[str, Any]:
    return {"content": text, "subtype": "paragraph", "type": "sanitized_html", "mime": mime}


def article(key: str, title: str | None, *contents: object) -> dict[str, Any]:
    lead = [
        {"content": "National", "mime": "text/plain", "type": "kicker"},
        {"content": title, "mime": "text/plain", "type": "title"},
        {"content": 1488810605000, "mime": "text/plain", "type": "date"},
        {"fullcaption": "A caption", "imageURL": "https://img", "type": "image"},
    ]
    return {"id": key, "article_url": "https://x", "title": title, "author": "", "contents": [*lead, *contents]}


ARTICLES = [
    article("679e8784-34df-11e7-b373-418f6849a004", "House panel probes ", paragraph("Of topic 827.")),
    article("0d7f5e24cafc019265d3ee4b9745e7ea", "Why drone swarms\nwill buzz", paragraph("Of topic 829.")),
    article("aaf444787011938dc645bdc1185a0716", "Why solar-powered planes", paragraph("Of topic 883.")),
    article(
        "a" * 32,
        "Pills &amp; panels",
        paragraph(
            'The <a href="https://link.example/x">panel</a>&#8217;s <b>pro</b>be,<br/>AT&amp;T\n said &lt;no&gt;.'
        ),
        None,
        paragraph(None),
        paragraph("Plain a < b &amp; c", "text/plain"),
        {"content": "By someone", "subtype": "subhead", "type": "sanitized_html", "mime": "text/html"},
        {"content": {"text": "a tweet"}, "type": "tweet"},
    ),
    article("b" * 8 + "-1111-11e1-b373-418f6849a004", None, paragraph("Untitled.")),
    article("a" * 32, "A second copy", paragraph("Not taken.")),
    article("c" * 32, "A picture only"),
]
QRELS = {"827": {"a" * 32: 16, "c" * 32: 0, "d" * 32: 8}, "829": {"a" * 32: 2, "0d7f5e24cafc019265d3ee4b9745e7ea": 0}}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "wapo"
    write(folder, ARTICLES)
    (folder / "newsir19-background-linking-topics.xml").write_text(PUBLIC_TOPICS)
    judgements = (f"{q} 0 {d} {score}\n" for q, judged in QRELS.items() for d, score in judged.items())
    (folder / "newsir19-qrels-background.txt").write_text("".join(judgements))
    return folder


def write(folder: Path, articles: list[dict[str, Any]]) -> Path:
    path = folder / "WashingtonPost.v2/data/TREC_Washington_Post_collection.v2.jl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in articles))
    return path


def corpus(folder: Path) -> Mapping[str, tuple[str, str]]:
    records = map(json.loads, (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines())
    return {record["_id"]: (record["title"], record["text"]) for record in records}


def test_paragraphs_without_html_under_their_title(source: Path, tmp_path: Path) -> None:
    folder = convert("trec-news", source, tmp_path / "home", lambda *_: None)
    assert corpus(folder) == {
        "a" * 32: ("Pills &amp; panels", "The panel’s probe, AT&T said <no>. Plain a < b &amp; c"),
        "b" * 8 + "-1111-11e1-b373-418f6849a004": ("", "Untitled."),
        "c" * 32: ("A picture only", ""),
    }
    assert (folder / "queries.jsonl").read_text().splitlines() == [
        '{"_id": "827", "text": "House panel probes"}',
        '{"_id": "829", "text": "Why drone swarms will buzz"}',
    ]
    assert (folder / "qrels/test.tsv").read_text().splitlines()[1:] == [
        f"827\t{'a' * 32}\t4",
        f"827\t{'c' * 32}\t0",
        f"827\t{'d' * 32}\t3",
        f"829\t{'a' * 32}\t1",
        "829\t0d7f5e24cafc019265d3ee4b9745e7ea\t0",
    ]
    told = " ".join(summary(folder))
    assert f"judged documents that the source lacks: 1 (such as {'d' * 32})" in told
    assert "left out, articles that a topic names: 3" in told
    assert "left out, articles whose id came before: 1" in told


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>one</p><p>two</p>", "one two"),
        ("a<script>var x = '<b>';</script>b", "ab"),
        ("5 < 6 & 7", "5 < 6 & 7"),
        ("unclosed <b>bold", "unclosed bold"),
        ("&eacute;&#233;&nbsp;x", "éé x"),
    ],
)
def test_html(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_the_topic_field_and_the_ids_are_those_of_beir(shared: Path, tmp_path: Path) -> None:
    folder = shared / "reference/beir-topics-qrels"
    with gzip.open(folder / "topics.beir-v1.0.0-trec-news.test.tsv.gz", "rt", encoding="utf-8") as stream:
        queries = dict(line.rstrip("\n").split("\t", 1) for line in stream)
    judged = [line.split() for line in (folder / "qrels.beir-v1.0.0-trec-news.test.txt").read_text().splitlines()]
    assert (len(queries), len(judged)) == (ABOUT.published.queries, ABOUT.published.judgements)
    assert Counter(line[3] for line in judged).keys() == {"0", "1", "2", "3", "4"}
    identifier = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    assert all(identifier.fullmatch(line[2]) for line in judged)
    # An article's address spells its headline: it is the headline that BEIR asks. NIST judged the article itself 0.
    (tmp_path / "topics.xml").write_text(PUBLIC_TOPICS)
    scores = {(line[0], line[2]): line[3] for line in judged}
    for topic, key in topics(tmp_path / "topics.xml").items():
        words = re.findall(r"[a-z]+", queries[topic].lower())
        address = re.findall(rf"<num> Number: {topic} .*?<url>(.*?)</url>", PUBLIC_TOPICS, re.DOTALL)[0]
        assert len(words) > 5
        assert all(word in address for word in words)
        assert scores[topic, key] == "0"


def test_from_fetch_to_a_score(source: Path, harness: Callable[..., Done]) -> None:
    folder = json.loads(harness("fetch", "trec-news", "--from", source, "--json").out)["trec-news"]
    found = json.loads(harness("doctor", folder, "--json").out)
    assert (found["documents"], found["queries"], found["judgements"]) == (3, 2, 5)
    done = harness("benchmark", "-m", "bm25", "-d", folder, "--results", "results", "--json")
    assert done.code == 0, done.err


def test_what_a_person_gets_wrong(source: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(UserError) as caught:
            convert("trec-news", source, tmp_path / "home", lambda *_: None)
        for word in words:
            assert word in str(caught.value)

    write(source, ARTICLES[1:])
    refused("The article of topic 827 (679e8784-34df-11e7-b373-418f6849a004; 1 such topics)", "version 2")
    path = write(source, ARTICLES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    refused("line 7 is not JSON", "copy it again")
    path.write_bytes(b'{"id": "x"}\n' + whole)
    refused("line 1 is not an article with 'id' and 'contents'")
    path.write_bytes(gzip.compress(whole)[:-40])
    refused("cannot be unpacked to its end")
    path.write_bytes(b"PK\x03\x04rest")
    refused("is a zip archive; unpack it")
    path.write_bytes(whole)
    qrels = source / "newsir19-qrels-background.txt"
    qrels.write_text(qrels.read_text() + f"829 0 {'c' * 32} 3\n")
    refused("has the grades [3] where NIST's are 0, 2, 4, 8, 16")
    path.unlink()
    refused("holds no articles (such as TREC_Washington_Post_collection.v2.jl)")
    with pytest.raises(UserError, match="There is no folder"):
        convert("trec-news", source / "nowhere", tmp_path / "home", lambda *_: None)
