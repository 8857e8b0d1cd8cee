"""TREC-NEWS: the TREC Washington Post collection (v2), background linking of TREC 2019, topics 826 to 885.

A topic names an article; BEIR's query is that article's title (its published topic 883, "Why solar-powered planes are
still a long way from carrying passengers", is the headline in the topic's address). Its documents are the articles'
titles and paragraphs; ids are the collection's, 32 hex digits or a UUID. Its grades 0 to 4 are NIST's 0, 2, 4, 8, 16.

BEIR counts 594,977 documents where v2 has 595,037: exactly its 60 topics fewer. Its recipe does not say so, but we take
the articles that topics name to be left out, as they must be: each would answer its own title first, and NIST judged
them 0. Unlike BEIR's html2text, links do not leave their address in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from harness.datasets.converters.source import (
    Source,
    collapsed,
    damaged,
    decoded,
    lines,
    marked,
    parse_object,
    unpacked,
)
from harness.datasets.converters.target import About, Counts, Report, corpus, finish
from harness.metrics.qrels import read_qrels
from harness.types import Document, Progress, Qrels, Query, UserError

ABOUT = About(
    name="trec-news",
    published=Counts(594_977, 57, 15_655),
    citation="Soboroff, Huang and Harman, TREC 2019 News Track Overview, TREC 2019",
    licence="NIST's agreement for the TREC Washington Post collection; research use only, not to be passed on",
)
GRADES = {0: 0, 2: 1, 4: 2, 8: 3, 16: 4}
"""NIST's grade -> BEIR's."""
NUMBER = re.compile(r"<num>\s*+(?:Number:\s*+)?(\d+)", re.IGNORECASE)
ARTICLE = re.compile(r"<docid>\s*+([^\s<]+)", re.IGNORECASE)
UNFINISHED = 100
"""Tags of a paragraph that may lack their end: for each, Python's parser looks through all the rest."""
BREAKS = {"br", "p", "div", "li", "tr", "td", "h1", "h2", "h3", "h4", "blockquote"}
"""Tags that part words; others (``b``, ``a``, ``em`` ...) may stand within one."""


def files(folder: Path) -> dict[str, list[Path]]:
    """The files that are read, by part; UserError where a part is missing."""
    source = Source(ABOUT.name, folder)
    wanted = {
        "articles": ("articles", "TREC_Washington_Post_collection.v2.jl", r"[^/]*collection[^/]*\.jl(\.\w+)?"),
        "topics": ("topics", "newsir19-background-linking-topics.xml", r"[^/]*topics[^/]*"),
        "qrels": ("judgements", "newsir19-qrels-background.txt", r"[^/]*qrels[^/]*"),
    }
    return {part: [source.need_one(*words)] for part, words in wanted.items()}


def convert(source: Path, target: Path, *, progress: Progress) -> Report:
    """Fills the empty folder ``target``. UserError for a lacking part, a damaged file and a topic's article nowhere."""
    parts = files(source)
    (articles,), (topics_file,), (qrels_file,) = parts.values()
    qrels = _graded(qrels_file)
    named = topics(topics_file)
    asked = set(named.values())
    titles: dict[str, str] = {}
    seen: set[str] = set()
    with corpus(target, qrels) as made:
        for document in read(articles, progress):
            if document.id in seen:
                made.left_out["articles whose id came before"] += 1
                continue
            seen.add(document.id)
            if document.id in asked:
                titles[document.id] = document.title
                made.left_out["articles that a topic names"] += 1
                made.lacking.discard(document.id)
            else:
                made.add(document)
    lost = [topic for topic in qrels if not titles.get(named.get(topic, ""))]
    if lost:
        raise UserError(
            f"The article of topic {lost[0]} ({named.get(lost[0], 'no <docid>')}; {len(lost)} such topics), whose "
            f"title is its query, is not in {articles} with {topics_file.name}; put version 2 of the Washington Post "
            f"collection and the topics of TREC 2019 there and run the same command again."
        )
    queries = [Query(topic, titles[named[topic]]) for topic in named if topic in qrels]
    return finish(target, ABOUT, made, queries, qrels, parts)


def read(path: Path, progress: Progress) -> Iterator[Document]:
    """Every article of the JSON lines, in their order: title, and the paragraphs without their HTML."""
    for number, line in lines(path, progress):
        article = parse_object(line, path, number)
        if not isinstance(article.get("id"), str) or not isinstance(article.get("contents"), list):
            raise damaged(path, f"line {number} is no article with 'id' and 'contents'")
        try:
            paragraphs = [text for content in article["contents"] if (text := _paragraph(content))]
        except (AssertionError, ValueError) as error:
            raise damaged(path, f"line {number} holds HTML that cannot be read ({error})") from None
        yield Document(article["id"], collapsed(article.get("title") or ""), " ".join(paragraphs))


def _paragraph(content: Any) -> str:
    if not isinstance(content, dict) or content.get("subtype") != "paragraph":
        return ""
    text = content.get("content")
    if not isinstance(text, str):
        return ""
    return collapsed(text) if content.get("mime") == "text/plain" else plain(text)


def plain(markup: str) -> str:
    """The text of a piece of HTML."""
    if "<" not in markup and "&" not in markup:
        return collapsed(markup)
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return collapsed("".join(parser.pieces))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0
        self._unfinished = 0

    def _counted(self, end: int) -> int:
        self._unfinished += end < 0
        if self._unfinished > UNFINISHED:
            raise ValueError(f"a paragraph with more than {UNFINISHED} tags that do not end")
        return end

    def parse_starttag(self, i: int) -> int:
        """As HTMLParser's; -1 where there is no end, which is counted."""
        return self._counted(super().parse_starttag(i))

    def parse_endtag(self, i: int) -> int:
        """Likewise."""
        return self._counted(super().parse_endtag(i))

    def parse_html_declaration(self, i: int) -> int:
        """Likewise."""
        return self._counted(super().parse_html_declaration(i))

    def parse_pi(self, i: int) -> int:
        """Likewise."""
        return self._counted(super().parse_pi(i))

    def parse_comment(self, i: int, report: bool = True) -> int:
        """Likewise."""
        return self._counted(super().parse_comment(i, report))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style")
        if tag in BREAKS:
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= bool(self._hidden) and tag in ("script", "style")
        if tag in BREAKS:
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def topics(path: Path) -> dict[str, str]:
    """Topic number -> id of the article that it is about."""
    with unpacked(path) as (stream, _):
        content = decoded(stream.read())
    found = {}
    for start, _, markup in marked(content, "top"):
        number, article = NUMBER.search(markup), ARTICLE.search(markup)
        if number is None or article is None:
            raise damaged(path, f"has a topic without <num> or <docid> at character {start}")
        found[number[1]] = article[1]
    if not found:
        raise damaged(path, "holds no <top>, so it is no TREC topics file")
    return found


def _graded(path: Path) -> Qrels:
    qrels = read_qrels(path)
    if strange := {grade for judgements in qrels.values() for grade in judgements.values()} - GRADES.keys():
        raise damaged(path, f"has the grades {sorted(strange)} where NIST's are {', '.join(map(str, GRADES))}")
    return {query: {key: GRADES[grade] for key, grade in judged.items()} for query, judged in qrels.items()}
