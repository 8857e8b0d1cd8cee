"""Signal-1M: tweets related to news articles of September 2015.

Queries are the titles of the judged articles of Signal's million articles. Documents are tweets, which every user has
to fetch from X (Twitter) by id, so later copies lack deleted tweets. BEIR's text is the tweet without emoji (of four
Unicode blocks), links and line ends; tweets that are then empty are left out. BEIR's judgements are only 1 and 2 (1,899
for 97 articles), so 0 is left out here, too. The judgement of a deleted tweet is kept, and the tweet counts as missing.
The fingerprint names the missing tweets; results are comparable with BEIR's only if none is missing.

Memory: about 80 bytes per tweet (its id).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.converters.source import OriginalFiles, corrupt, decoded_text, parse_object, text_lines
from harness.datasets.converters.target import About, ConversionReport, ConvertedCounts, corpus, finish
from harness.metrics.qrels import read_qrels
from harness.types import Document, Progress, Qrels, Query, UserError

ABOUT = About(
    name="signal1m",
    published=ConvertedCounts(2_866_316, 97, 1_899),
    citation="Suarez et al., A Data Collection for Evaluating the Retrieval of Related Tweets to News Articles, "
    "ECIR 2018",
    licence="Signal AI's terms (registration) for articles and judgements; X's developer terms for tweets",
)
EMOJI = re.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]")
LINK = re.compile(r"http\S+")


def files(folder: Path) -> dict[str, list[Path]]:
    """The files to read, by part; UserError if a part is missing."""
    source = OriginalFiles(ABOUT.name, folder)
    tweets = r"(tweets?/.*|[^/]*tweet[^/]*\.(jsonl?|tsv|txt)(\.(gz|bz2))?)"
    return {
        "articles": [source.need_one("articles", "signalmedia-1m.jsonl.gz", r"[^/]*1m[^/]*\.jsonl(\.gz)?", tweets)],
        "qrels": [source.need_one("judgements", "signal1m_tweets_qrels", r"[^/]*qrels[^/]*")],
        "tweets": source.need("tweets", "tweets/2015-09.jsonl.gz", tweets, r"[^/]*(qrels|readme)[^/]*"),
    }


def convert(source: Path, target: Path, *, progress: Progress) -> ConversionReport:
    """Fills the empty folder ``target``; UserError if a part or a judged article is missing, or a file is corrupt."""
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
    """Titles of the judged articles, in the order of the qrels; UserError if one is not in the file."""
    found: dict[str, str] = {}
    for number, line in text_lines(path, progress):
        article = parse_object(line, path, number)
        if article.get("id") in qrels:
            found[article["id"]] = str(article.get("title") or "").strip().replace("\n", " ")
    if missing := [query for query in qrels if not found.get(query)]:
        raise UserError(
            f"{path} has no title of {len(missing)} judged articles ({', '.join(missing[:3])}); put the complete "
            f"file of Signal AI there and run the same command again."
        )
    return [Query(query, found[query]) for query in qrels]


def read(path: Path, progress: Progress) -> Iterator[Document]:
    """Yields the tweets of one file; a line is X's JSON (without text if the tweet was deleted), or id, tab, text."""
    for number, line in text_lines(path, progress):
        if line.startswith(b"{"):
            tweet = parse_object(line, path, number)
            identifier = str(tweet.get("id_str") or tweet.get("id") or "0")
            text = tweet.get("full_text") or tweet.get("text") or ""
        else:
            identifier, _, text = decoded_text(line).partition("\t")
        if not (identifier.isascii() and identifier.isdigit()) or not isinstance(text, str):
            raise corrupt(path, f"line {number} is neither a tweet as JSON nor an id, a tab and a text")
        yield Document(identifier, "", text)


def cleaned(text: str) -> str:
    """Removes emoji, line ends and links, as BEIR does."""
    return LINK.sub("", EMOJI.sub("", text).replace("\n", "")).strip()
