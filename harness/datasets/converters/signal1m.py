"""Signal-1M: tweets that belong to news articles, September 2015.

Queries are the titles of the judged articles in Signal's million; documents are tweets, which everyone has to fetch by
id from X (Twitter) anew, so that later copies lack what was deleted. BEIR's text is a tweet without emoji (of four
blocks of Unicode), links and line ends, and tweets that are then empty are left out; its judgements are 1 and 2 alone
(1,899 of 97 articles), so 0 is left out here too. A judged tweet that was deleted keeps its judgement and is counted as
missing: figures over different remnants are told apart, and none is comparable with BEIR's unless nothing is missing.

Memory: about 80 bytes per tweet (ids seen).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.converters.source import Source, damaged, decoded, lines, parse_object
from harness.datasets.converters.target import About, Counts, Report, corpus, finish
from harness.metrics.qrels import read_qrels
from harness.types import Document, Progress, Qrels, Query, UserError

ABOUT = About(
    name="signal1m",
    published=Counts(2_866_316, 97, 1_899),
    citation="Suarez et al., A Data Collection for Evaluating the Retrieval of Related Tweets to News Articles, "
    "ECIR 2018",
    licence="Signal AI's terms (registration) for articles and judgements; X's developer terms for tweets",
)
EMOJI = re.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]")
LINK = re.compile(r"http\S+")


def files(folder: Path) -> dict[str, list[Path]]:
    """The files that are read, by part; UserError where a part is missing."""
    source = Source(ABOUT.name, folder)
    tweets = r"(tweets?/.*|[^/]*tweet[^/]*\.(jsonl?|tsv|txt)(\.(gz|bz2))?)"
    return {
        "articles": [source.need_one("articles", "signalmedia-1m.jsonl.gz", r"[^/]*1m[^/]*\.jsonl(\.gz)?", tweets)],
        "qrels": [source.need_one("judgements", "signal1m_tweets_qrels", r"[^/]*qrels[^/]*")],
        "tweets": source.need("tweets", "tweets/2015-09.jsonl.gz", tweets, r"[^/]*(qrels|readme)[^/]*"),
    }


def convert(source: Path, target: Path, *, progress: Progress) -> Report:
    """Fills the empty folder ``target``. UserError for a lacking part, a damaged file and a judged article nowhere."""
    parts = files(source)
    judged = read_qrels(parts["qrels"][0])
    qrels = _relevant(judged)
    queries = titles(parts["articles"][0], qrels, progress)
    seen: set[int] = set()
    with corpus(target, qrels) as made:
        for path in parts["tweets"]:
            for tweet in read(path, progress):
                text = cleaned(tweet.text)
                if not text:
                    made.left_out["tweets without text"] += 1
                elif int(tweet.id) in seen:
                    made.left_out["tweets whose id came before"] += 1
                else:
                    seen.add(int(tweet.id))
                    made.add(Document(tweet.id, "", text))
    return finish(target, ABOUT, made, queries, qrels, parts)


def _relevant(judged: Qrels) -> Qrels:
    kept = {query: {key: grade for key, grade in tweets.items() if grade > 0} for query, tweets in judged.items()}
    return {query: tweets for query, tweets in kept.items() if tweets}


def titles(path: Path, qrels: Qrels, progress: Progress) -> list[Query]:
    """Title of every judged article, in the order of the judgements; UserError where one is not in the file."""
    found: dict[str, str] = {}
    for number, line in lines(path, progress):
        article = parse_object(line, path, number)
        if article.get("id") in qrels:
            found[article["id"]] = str(article.get("title") or "").strip().replace("\n", " ")
    if lost := [query for query in qrels if not found.get(query)]:
        raise UserError(
            f"{path} has no title of {len(lost)} judged articles ({', '.join(lost[:3])}); put Signal AI's whole "
            f"million there and run the same command again."
        )
    return [Query(query, found[query]) for query in qrels]


def read(path: Path, progress: Progress) -> Iterator[Document]:
    """Tweets of one file: JSON objects as X gives them, a line each (notices of deletion come out without text), or id,
    tab, text."""
    for number, line in lines(path, progress):
        if line.startswith(b"{"):
            tweet = parse_object(line, path, number)
            identifier = str(tweet.get("id_str") or tweet.get("id") or "0")
            text = tweet.get("full_text") or tweet.get("text") or ""
        else:
            identifier, _, text = decoded(line).partition("\t")
        if not (identifier.isascii() and identifier.isdigit()) or not isinstance(text, str):
            raise damaged(path, f"line {number} is neither a tweet as JSON nor an id, a tab and a text")
        yield Document(identifier, "", text)


def cleaned(text: str) -> str:
    """The text as BEIR has it: without emoji, line ends and links."""
    return LINK.sub("", EMOJI.sub("", text).replace("\n", "")).strip()
