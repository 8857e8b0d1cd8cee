"""TREC-NEWS: the TREC Washington Post collection (v2), background linking of TREC 2019, topics 826 to 885.

A topic names an article, and BEIR's query is the title of that article (its published topic 883, "Why solar-powered
planes are still a long way from carrying passengers", is the headline in the topic's URL). Documents are the titles and
paragraphs of the articles; ids are those of the collection, 32 hex digits or a UUID. Grades 0 to 4 are NIST's 0, 2, 4,
8, 16.

BEIR counts 594,977 documents and v2 has 595,037: the difference is the number of topics, 60. BEIR does not document it,
but we assume that the articles of the topics are left out: each would be the first result for its own title, and NIST
judged them 0. Unlike with BEIR's html2text, the URLs of links are not part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from harness.datasets.converters.source import (
    OriginalFiles,
    collapsed,
    corrupt,
    decoded_text,
    decompressed,
    marked,
    parse_object,
    text_lines,
)
from harness.datasets.converters.target import About, ConversionReport, ConvertedCounts, corpus, finish
from harness.metrics.qrels import read_qrels
from harness.types import Document, Progress, Qrels, Query, UserError

ABOUT = About(
    name="trec-news",
    published=ConvertedCounts(594_977, 57, 15_655),
    citation="Soboroff, Huang and Harman, TREC 2019 News Track Overview, TREC 2019",
    licence="NIST's agreement for the TREC Washington Post collection; research use only, not to be passed on",
)
GRADES = {0: 0, 2: 1, 4: 2, 8: 3, 16: 4}
"""NIST's grade -> BEIR's."""
NUMBER = re.compile(r"<num>\s*+(?:Number:\s*+)?(\d+)", re.IGNORECASE)
ARTICLE = re.compile(r"<docid>\s*+([^\s<]+)", re.IGNORECASE)
UNFINISHED = 100
"""Maximum number of unclosed tags in a paragraph: for each, Python's parser scans all the rest."""
BREAKS = {"br", "p", "div", "li", "tr", "td", "h1", "h2", "h3", "h4", "blockquote"}
"""Tags that separate words; others (``b``, ``a``, ``em`` ...) may be inside a word."""


def files(folder: Path) -> dict[str, list[Path]]:
    """The files to read, by part; UserError if a part is missing."""
    source = OriginalFiles(ABOUT.name, folder)
    wanted = {
        "articles": ("articles", "TREC_Washington_Post_collection.v2.jl", r"[^/]*collection[^/]*\.jl(\.\w+)?"),
        "topics": ("topics", "newsir19-background-linking-topics.xml", r"[^/]*topics[^/]*"),
        "qrels": ("judgements", "newsir19-qrels-background.txt", r"[^/]*qrels[^/]*"),
    }
    return {part: [source.need_one(*words)] for part, words in wanted.items()}


def convert(source: Path, target: Path, *, progress: Progress) -> ConversionReport:
    """Fills the empty folder ``target``; UserError if a part or a topic's article is missing, or a file is corrupt."""
    parts = files(source)
    (articles,), (topics_file,), (qrels_file,) = parts.values()
    qrels = _graded(qrels_file)
    named = topics(topics_file)
    excluded = set(named.values())
    titles: dict[str, str] = {}
    seen: set[str] = set()
    with corpus(target, qrels) as made:
        for document in read(articles, progress):
            if document.id in seen:
                made.left_out["articles whose id came before"] += 1
                continue
            seen.add(document.id)
            if document.id in excluded:
                titles[document.id] = document.title
                made.left_out["articles that a topic names"] += 1
                made.missing.discard(document.id)
            else:
                made.add(document)
    missing = [topic for topic in qrels if not titles.get(named.get(topic, ""))]
    if missing:
        raise UserError(
            f"The article of topic {missing[0]} ({named.get(missing[0], 'no <docid>')}; {len(missing)} such topics), "
            f"whose title is its query, is not in {articles} with {topics_file.name}; put version 2 of the Washington "
            f"Post collection and the topics of TREC 2019 there and run the same command again."
        )
    queries = [Query(topic, titles[named[topic]]) for topic in named if topic in qrels]
    return finish(target, ABOUT, made, queries, qrels, parts)


def read(path: Path, progress: Progress) -> Iterator[Document]:
    """Yields every article: its title, and its paragraphs without HTML."""
    for number, line in text_lines(path, progress):
        article = parse_object(line, path, number)
        if not isinstance(article.get("id"), str) or not isinstance(article.get("contents"), list):
            raise corrupt(path, f"line {number} is not an article with 'id' and 'contents'")
        try:
            paragraphs = [text for content in article["contents"] if (text := _paragraph(content))]
        except (AssertionError, ValueError) as error:
            raise corrupt(path, f"line {number} holds HTML that cannot be read ({error})") from None
        yield Document(article["id"], collapsed(article.get("title") or ""), " ".join(paragraphs))


def _paragraph(content: Any) -> str:
    if not isinstance(content, dict) or content.get("subtype") != "paragraph":
        return ""
    text = content.get("content")
    if not isinstance(text, str):
        return ""
    return collapsed(text) if content.get("mime") == "text/plain" else plain_text(text)


def plain_text(markup: str) -> str:
    """The text of an HTML fragment."""
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
        """As in HTMLParser; counts the tags without an end (-1)."""
        return self._counted(super().parse_starttag(i))

    def parse_endtag(self, i: int) -> int:
        """See `parse_starttag`."""
        return self._counted(super().parse_endtag(i))

    def parse_html_declaration(self, i: int) -> int:
        """See `parse_starttag`."""
        return self._counted(super().parse_html_declaration(i))

    def parse_pi(self, i: int) -> int:
        """See `parse_starttag`."""
        return self._counted(super().parse_pi(i))

    def parse_comment(self, i: int, report: bool = True) -> int:
        """See `parse_starttag`."""
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
    """Topic number -> id of its article."""
    with decompressed(path) as (stream, _):
        content = decoded_text(stream.read())
    found = {}
    for start, _, markup in marked(content, "top"):
        number, article = NUMBER.search(markup), ARTICLE.search(markup)
        if number is None or article is None:
            raise corrupt(path, f"has a topic without <num> or <docid> at character {start}")
        found[number[1]] = article[1]
    if not found:
        raise corrupt(path, "holds no <top>, so it is not a TREC topics file")
    return found


def _graded(path: Path) -> Qrels:
    qrels = read_qrels(path)
    if unknown := {grade for judgements in qrels.values() for grade in judgements.values()} - GRADES.keys():
        raise corrupt(path, f"has the grades {sorted(unknown)} where NIST's are {', '.join(map(str, GRADES))}")
    return {query: {key: GRADES[grade] for key, grade in judged.items()} for query, judged in qrels.items()}
