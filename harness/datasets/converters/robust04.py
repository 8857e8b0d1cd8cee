"""Robust04: TREC disks 4 and 5 without the Congressional Record, topics 301-450 and 601-700.

BEIR's documents are those of ir_datasets, which takes only the elements `CONTENT`: no FBIS title (``<TI>``), no byline.
They become the text, in their order; the titles are empty (in BEIR, too: BM25 with and without a title field scores the
same). The queries are the descriptions of the topics with line ends replaced by spaces. As in BEIR's published topics,
a space at the end of a line is kept ("killed in  the various civil wars"). Topic 672 has no judgements.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.converters.source import OriginalFiles, collapsed, corrupt, decompressed, marked
from harness.datasets.converters.target import About, ConversionReport, ConvertedCounts, corpus, finish
from harness.metrics.qrels import read_qrels
from harness.types import Document, Progress, Query, UserError

ABOUT = About(
    name="robust04",
    published=ConvertedCounts(528_155, 249, 311_410),
    citation="Voorhees, Overview of the TREC 2004 Robust Retrieval Track, TREC 2004",
    licence="NIST's agreement for TREC disks 4 and 5; research use only, not to be passed on",
)
PARTS = {"FBIS": ("fb", 5), "FR94": ("fr", 4), "FT": ("ft", 4), "LATIMES": ("la", 5)}
"""Folder -> prefix of its document files (others are notes), and the disk that it is on."""
CONTENT = ("TEXT", "HEADLINE", "TITLE", "HL", "HEAD", "TTL", "DD", "DATE", "LP", "LEADPARA")
DOCNO = re.compile(r"<DOCNO>\s*+(\S{1,100}?)\s*+</DOCNO>", re.IGNORECASE)
ELEMENT = re.compile(rf"<({'|'.join(CONTENT)})>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""An unclosed element ends with its document."""
TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
ENTITY = re.compile(r"&(#\d+|#x[0-9a-f]+|\w+);", re.IGNORECASE)
OWN_ENTITIES = {"&blank;": " ", "&hyph;": "-"}
"""Entities of the Federal Register's DTD that HTML lacks."""
NUMBER = re.compile(r"<num>\s*+(?:Number:\s*+)?(\d+)", re.IGNORECASE)
DESCRIPTION = re.compile(
    r"<desc>\s*(?:Description:)?(.*?)(?=</?(?:desc|narr|title|num)>|\Z)", re.DOTALL | re.IGNORECASE
)


def files(folder: Path) -> dict[str, list[Path]]:
    """The files to read, by part; UserError if a part is missing."""
    source = OriginalFiles(ABOUT.name, folder)
    found = {
        part: source.need(f"{part} of TREC disk {disk}", f"{part}/{start}...", rf"{part}/(.*/)?{start}\d[^/]*")
        for part, (start, disk) in PARTS.items()
    }
    found["topics"] = source.need("topics", "04.testset", r"(04\.testset|topics)[^/]*")
    found["qrels"] = [source.need_one("judgements", "qrels.robust2004.txt", r"qrels[^/]*")]
    return found


def convert(source: Path, target: Path, *, progress: Progress) -> ConversionReport:
    """Fills the empty folder ``target``; UserError if a part or a judged topic is missing, or a file is corrupt."""
    parts = files(source)
    qrels = read_qrels(parts["qrels"][0])
    queries = [query for path in parts["topics"] for query in topics(path)]
    if missing := qrels.keys() - {query.id for query in queries}:
        names = ", ".join(path.name for path in parts["topics"])
        raise UserError(
            f"{len(missing)} judged topics ({', '.join(sorted(missing)[:3])}) are not in {names}; put the topics of "
            f"{parts['qrels'][0].name} there and run the same command again."
        )
    seen: set[str] = set()
    documents = [path for part in PARTS for path in parts[part]]
    with corpus(target, qrels) as made:
        for done, path in enumerate(documents):
            progress("converting robust04 (files)", done, len(documents))
            for document in read(path):
                if document.id in seen:
                    raise UserError(
                        f"{path} holds the document {document.id} a second time; keep only one copy of every "
                        f"file under {source} and run the same command again."
                    )
                seen.add(document.id)
                made.add(document)
    return finish(target, ABOUT, made, queries, qrels, parts)


def read(path: Path) -> Iterator[Document]:
    """Yields the documents of one file in Latin-1; UserError with the offset if a document is incomplete."""
    with decompressed(path) as (stream, _):
        content = stream.read().decode("latin-1")
    last = 0
    for start, end, markup in marked(content, "DOC"):
        number = DOCNO.search(markup)
        if number is None:
            raise corrupt(path, f"has a document without <DOCNO> at byte {start}")
        yield Document(number[1], "", _text(markup))
        last = end
    if "<doc>" in content[last:].lower():
        raise corrupt(path, f"breaks off within a document after byte {last}")
    if not last:
        raise corrupt(path, "holds no <DOC>")


def _text(markup: str) -> str:
    elements = " ".join(match[2] for match in ELEMENT.finditer(_without_comments(markup)))
    return collapsed(ENTITY.sub(_character, TAG.sub(" ", elements)))


def _without_comments(markup: str) -> str:
    pieces, place = [], 0
    while (begin := markup.find("<!--", place)) >= 0 and (end := markup.find("-->", begin + 4)) >= 0:
        pieces += [markup[place:begin], " "]
        place = end + 3
    return "".join([*pieces, markup[place:]])


def _character(entity: re.Match[str]) -> str:
    return OWN_ENTITIES.get(entity[0].lower()) or html.unescape(entity[0])


def topics(path: Path) -> list[Query]:
    """Number and description of every topic in a file."""
    with decompressed(path) as (stream, _):
        content = stream.read().decode("latin-1")
    found = []
    for start, _, markup in marked(content, "top"):
        number, description = NUMBER.search(markup), DESCRIPTION.search(markup)
        if number is None or description is None:
            raise corrupt(path, f"has a topic without <num> or <desc> at byte {start}")
        lines = description[1].strip().replace("\r\n", "\n")
        found.append(Query(number[1], lines.replace("\n", " ")))
    if not found:
        raise corrupt(path, "holds no <top>, so it is not a TREC topics file")
    return found
