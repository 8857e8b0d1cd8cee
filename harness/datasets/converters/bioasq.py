"""BioASQ: questions of task 8b's test batches (2020) over articles of PubMed.

BEIR's documents are BioASQ's training articles of 2020 (``allMeSH_2020.json``, 14,913,939 PubMed records with an
abstract and MeSH headings) and 663 more that the answers name and that file lacks. Ids are PMIDs, queries are the
bodies of the questions, and every document that a question names has relevance 1.

With ``allMeSH_*.json``, only the missing judged documents are taken from the PubMed baseline. Without it, the corpus is
the baseline's records with an abstract and MeSH headings; a baseline of another year than 2020 is another corpus than
BEIR's, and has other counts. The latest version of a record is used, and deleted records are left out.

Memory: a bit per PMID and the records of one baseline file (30,000 records).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

from harness.datasets.converters.source import OriginalFiles, collapsed, corrupt, decompressed, parse_object, text_lines
from harness.datasets.converters.target import About, ConversionReport, ConvertedCounts, Target, corpus, finish
from harness.types import Document, Progress, Qrels, Query

ABOUT = About(
    name="bioasq",
    published=ConvertedCounts(14_914_602, 500, 2_359),
    citation="Tsatsaronis et al., An overview of the BIOASQ large-scale biomedical semantic indexing and question "
    "answering competition, BMC Bioinformatics 16:138, 2015",
    licence="BioASQ's terms of use (registration); PubMed: terms of the US National Library of Medicine",
)
HEAD = re.compile(rb'^\{\s*"articles"\s*:\s*\[')
GREATEST = 10**9
"""Upper limit of PMIDs, which limits the memory for a corrupt file."""
ARTICLES_PER_PROGRESS = 10_000


class Article(NamedTuple):
    """One citation of the PubMed baseline."""

    document: Document
    version: int
    indexed: bool
    """Whether it has MeSH headings."""


class PmidSet:
    """A set of PMIDs, with one bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, pmid: str) -> bool:
        """Adds a PMID; returns whether it is new."""
        place, bit = int(pmid) >> 3, 1 << (int(pmid) & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + (1 << 20) - len(self._bits)))
        new = not self._bits[place] & bit
        self._bits[place] |= bit
        return new


def files(folder: Path) -> dict[str, list[Path]]:
    """The files to read, by part; UserError if a part is missing."""
    source = OriginalFiles(ABOUT.name, folder)
    found = {
        "questions": source.need("test questions with answers", "8B1_golden.json", r"[^/]*golden[^/]*\.json(\.gz)?"),
        "articles": source.find(r"allMeSH[^/]*\.json(\.gz)?"),
        "baseline": source.find(r"pubmed\d\dn\d{4}\.xml(\.gz)?"),
    }
    if len(found["articles"]) > 1:
        source.refuse(f"holds {len(found['articles'])} files allMeSH_*.json, and one is needed")
    if not found["articles"] and not found["baseline"]:
        source.refuse("holds neither allMeSH_2020.json nor a PubMed baseline (pubmed20n0001.xml.gz ...)")
    return found


def convert(source: Path, target: Path, *, progress: Progress) -> ConversionReport:
    """Fills the empty folder ``target``; UserError if a part is missing or corrupt."""
    parts = files(source)
    queries, qrels = questions(parts["questions"])
    seen = PmidSet()
    with corpus(target, qrels) as made:
        for path in parts["articles"]:
            for document in articles(path, progress):
                if not document.text:
                    made.left_out["articles without an abstract"] += 1
                elif seen.add(document.id):
                    made.add(document)
                else:
                    made.left_out["articles whose PMID came before"] += 1
        _add_baseline(made, seen, parts["baseline"], bool(parts["articles"]), progress)
    return finish(target, ABOUT, made, queries, qrels, parts)


def _add_baseline(made: Target, seen: PmidSet, paths: list[Path], judged_only: bool, progress: Progress) -> None:
    # A later file replaces and deletes records of earlier ones, so the last file is read first.
    newest_first = sorted(paths, key=lambda path: path.name.lower(), reverse=True)
    for done, path in enumerate(newest_first):
        if judged_only and not made.missing:
            return
        progress("converting bioasq (PubMed files)", done, len(paths))
        latest, deleted = baseline(path)
        for pmid in deleted:
            seen.add(pmid)
        for pmid, record in latest.items():
            judged = pmid in made.missing
            if judged_only and not judged:
                continue
            if not seen.add(pmid):
                made.left_out["older versions of a record, or deleted ones"] += 1
            elif (record.indexed and record.document.text) or (judged and record.document.content):
                made.add(record.document)
            else:
                made.left_out["records without an abstract or MeSH headings"] += 1


def questions(paths: list[Path]) -> tuple[list[Query], Qrels]:
    """The questions that name documents, and those documents with relevance 1."""
    queries: list[Query] = []
    qrels: Qrels = {}
    for path in paths:
        with decompressed(path) as (stream, _):
            content = parse_object(stream.read(), path, 1)
        try:
            for question in content["questions"]:
                named = [url.rstrip("/").rpartition("/")[2] for url in question.get("documents") or ()]
                if named and question["id"] not in qrels:
                    queries.append(Query(question["id"], question["body"].strip().replace("\n", " ")))
                    qrels[question["id"]] = dict.fromkeys(named, 1)
        except (KeyError, TypeError, AttributeError) as error:
            wanted = '{"questions": [{"id": "...", "body": "...", "documents": ["http://.../pubmed/1", ...]}]}'
            raise corrupt(path, f"is not of the form {wanted}") from error
    if not qrels:
        raise corrupt(paths[0], "has no question that names documents")
    return queries, qrels


def articles(path: Path, progress: Progress) -> Iterator[Document]:
    """Yields BioASQ's training articles: after ``{"articles":[``, one JSON object per line."""
    number = 0
    closed = False
    for number, line in text_lines(path, progress):
        entry = HEAD.sub(b"", line) if number == 1 else line
        closed = entry.endswith(b"]}") and (entry == b"]}" or entry.endswith(b"}]}"))
        entry = (entry[:-2] if closed else entry).strip().rstrip(b",")
        if entry:
            article = parse_object(entry, path, number)
            pmid = _pmid(str(article.get("pmid", "")), path, f"line {number}")
            yield Document(pmid, collapsed(article.get("title") or ""), collapsed(article.get("abstractText") or ""))
    if not closed:
        raise corrupt(path, f"breaks off at line {number}, before its closing ]}}")


def baseline(path: Path) -> tuple[dict[str, Article], list[str]]:
    """The latest version of each record in one file, by PMID, and the PMIDs that the file deletes."""
    latest: dict[str, Article] = {}
    deleted: list[str] = []
    with decompressed(path) as (stream, _):
        for element in _elements(stream, path):
            if element.tag == "PubmedArticle":
                record = _record(element, path)
                if record.version >= getattr(latest.get(record.document.id), "version", 0):
                    latest[record.document.id] = record
            else:
                deleted += [_pmid(each.text or "", path, "<DeleteCitation>") for each in element.iter("PMID")]
    return latest, deleted


def _elements(stream: IO[bytes], path: Path) -> Iterator[ElementTree.Element]:
    try:
        parser = ElementTree.iterparse(stream, events=("start", "end"))
        _, root = next(parser)
        for event, element in parser:
            if event == "end" and element.tag in ("PubmedArticle", "DeleteCitation"):
                yield element
                root.clear()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise corrupt(path, f"is not well-formed XML at line {line}, column {column} ({error.msg})") from error


def _record(element: ElementTree.Element, path: Path) -> Article:
    number = element.find("MedlineCitation/PMID")
    if number is None:
        raise corrupt(path, "has a record without <PMID>")
    pmid = _pmid(number.text or "", path, "<PMID>")
    article = element.find("MedlineCitation/Article")
    title = _text(article.find("ArticleTitle")) if article is not None else ""
    parts = article.findall("Abstract/AbstractText") if article is not None else []
    abstract = " ".join(filter(None, map(_text, parts)))
    indexed = element.find("MedlineCitation/MeshHeadingList") is not None
    return Article(Document(pmid, title, abstract), int(number.get("Version") or 1), indexed)


def _text(element: Any) -> str:
    return collapsed("".join(element.itertext())) if element is not None else ""


def _pmid(text: str, path: Path, where: str) -> str:
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and int(stripped) < GREATEST):
        raise corrupt(path, f"has a PMID that is not a number ({text[:20]!r}, {where})")
    return str(int(stripped))
