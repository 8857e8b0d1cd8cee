"""Signal-1M from articles, judgements and whatever tweets are left."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.converters import convert, summary
from harness.datasets.converters.signal1m import ABOUT, cleaned
from harness.types import UserError
from tests.conftest import Done

FIRST, SECOND, THIRD = "0429b914-907a-4d79", "04373281-0764-483e", "07db84bd-ac51-4821"
ARTICLES = [
    {"id": "unjudged", "content": "x", "title": "Not asked", "media-type": "News", "source": "s", "published": "p"},
    {"id": SECOND, "content": "y", "title": "Sicario Movie\nReview ", "media-type": "Blog", "source": "s"},
    {"id": FIRST, "content": "z", "title": "Rugby-England beat Ireland", "media-type": "News", "source": "s"},
]
QRELS = (
    f"{FIRST} 0 638727826393444352 1\n{FIRST} 0 639043756038074369 2\n{FIRST} 0 1 0\n{SECOND} 0 640000000000000000 2\n"
)
TWEETS = [
    {
        "id": 638727826393444352,
        "id_str": "638727826393444352",
        "text": "England win 🏉\n21-13 https://t.co/abc",
        "lang": "en",
    },
    {"id_str": "640000000000000001", "full_text": "Sicario 😀 &amp; more", "text": "cut…"},
    {"id_str": "640000000000000002", "text": "https://t.co/only"},
    {"delete": {"status": {"id_str": "640000000000000000"}}},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "signal"
    (folder / "tweets").mkdir(parents=True)
    articles = "".join(json.dumps(each) + "\n" for each in ARTICLES)
    (folder / "signalmedia-1m.jsonl.gz").write_bytes(gzip.compress(articles.encode()))
    (folder / "signal1m_tweets_qrels").write_text(QRELS + f"{THIRD} 0 1 0\n")
    tweets = "".join(json.dumps(each) + "\n" for each in TWEETS)
    (folder / "tweets/2015-09.jsonl.gz").write_bytes(gzip.compress(tweets.encode()))
    scraped = "638727826393444352\tEngland win again\n641000000000000000\tA ferry\r\n\n642000000000000000\t\n"
    (folder / "201509-tweet-scraped-ids-test.txt").write_bytes(b"\xef\xbb\xbf" + scraped.encode())
    return folder


def rows(path: Path) -> dict[str, str]:
    return {row["_id"]: row["text"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_what_is_left_of_the_tweets(source: Path, tmp_path: Path) -> None:
    folder = convert("signal1m", source, tmp_path / "home", lambda *_: None)
    assert rows(folder / "corpus.jsonl") == {
        "638727826393444352": "England win again",  # whichever file comes first by name
        "641000000000000000": "A ferry",
        "640000000000000001": "Sicario  &amp; more",
    }
    assert rows(folder / "queries.jsonl") == {FIRST: "Rugby-England beat Ireland", SECOND: "Sicario Movie Review"}
    assert len((folder / "qrels/test.tsv").read_text().splitlines()) == 1 + 3
    assert summary(folder) == [
        "3 documents (BEIR: 2,866,316), 2 queries (BEIR: 97), 3 judgements (BEIR: 1,899)",
        "judged documents that the source lacks: 2 (such as 639043756038074369, 640000000000000000), which count as "
        "never retrieved; queries left without any relevant one: 1",
        "left out, tweets without text: 3",
        "left out, tweets whose id came before: 1",
    ]


@pytest.mark.parametrize(
    ("tweet", "text"),
    [
        ("England win 🏉\n21-13 https://t.co/abc", "England win 21-13"),
        ("🇬🇧🚀 up\nnow", "upnow"),
        ("http://a b http://c", "b"),
        ("❤ stays", "❤ stays"),
    ],
)
def test_text_as_beir_has_it(tweet: str, text: str) -> None:
    assert cleaned(tweet) == text


def test_missing_tweets_are_in_the_fingerprint(source: Path, harness: Callable[..., Done]) -> None:
    folder = json.loads(harness("fetch", "signal1m", "--from", source, "--json").out)["signal1m"]
    assert json.loads(harness("doctor", folder, "--json").out)["dangling"] == [
        "639043756038074369",
        "640000000000000000",
    ]
    done = harness("benchmark", "-m", "bm25", "-d", folder, "--results", "results", "--json")
    assert done.code == 0, done.err
    result = json.loads(next(Path("results").rglob("result.json")).read_text())
    assert '"judged_documents": 2' in json.dumps(result)
    # As trec_eval has it: of two relevant tweets one is found and one deleted; of the other query the only one is.
    assert result["measures"]["R@100"] == pytest.approx((1 / 2 + 0) / 2)


def test_ids_and_grades_are_those_of_beir(shared: Path) -> None:
    folder = shared / "reference/beir-topics-qrels"
    judged = [line.split() for line in (folder / "qrels.beir-v1.0.0-signal1m.test.txt").read_text().splitlines()]
    with gzip.open(folder / "topics.beir-v1.0.0-signal1m.test.tsv.gz", "rt", encoding="utf-8") as stream:
        queries = dict(line.rstrip("\n").split("\t", 1) for line in stream)
    assert (len(queries), len(judged)) == (ABOUT.published.queries, ABOUT.published.judgements)
    assert {line[3] for line in judged} == {"1", "2"}
    assert all(line[2].isdigit() and len(line[2]) == 18 for line in judged)
    assert queries["0429b914-907a-4d79-aed8-5e2a7ebaa230"] == "Rugby-England beat Ireland 21-13 in final warm up"


def test_what_a_person_gets_wrong(source: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> None:
        with pytest.raises(UserError) as caught:
            convert("signal1m", source, tmp_path / "home", lambda *_: None)
        for word in words:
            assert word in str(caught.value)

    (source / "tweets/more.txt").write_text("hello world\n")
    refused("more.txt line 1 is neither a tweet as JSON nor an id, a tab and a text")
    (source / "tweets/more.txt").unlink()
    (source / "signal1m_tweets_qrels").write_text(QRELS + f"{THIRD} 0 1 1\n")
    refused(f"has no title of 1 judged articles ({THIRD})")
    (source / "201509-tweet-scraped-ids-test.txt").unlink()
    (source / "tweets/2015-09.jsonl.gz").unlink()
    refused("holds no tweets (such as tweets/2015-09.jsonl.gz)")
    (source / "signal1m_tweets_qrels").unlink()
    refused("holds no judgements (such as signal1m_tweets_qrels)")
