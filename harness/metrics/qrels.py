"""Judgements: qrels files in TREC's four columns and in BEIR's three, read and written.

BEIR's files are read as its own loader reads them, which is Python's csv with tabs: a field in double quotes stands for
what is inside, with doubled quotes as one. docs/formats.md has the rules and where they differ from BEIR's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.storage.columns import decoded, integer, is_number, numbered_lines
from harness.types import Qrels, UserError

HEADER = "query-id\tcorpus-id\tscore"
LARGEST = 2**31 - 1
"""Relevance that trec_eval's programs take at the most."""
QUOTED = re.compile(rb'"((?:[^"]|"")*)"')
WORD = re.compile(rb"(?!(?:nan|inf|infinity)$)[a-z].*", re.IGNORECASE)
"""What the third column of a header holds, and no relevance does."""
Row = tuple[int, list[bytes]]
"""Line number; query, document and relevance."""


class Judgements(NamedTuple):
    """The content of a qrels file."""

    qrels: Qrels
    """Queries in the order of their first line."""
    notes: list[str]
    """Sentences about what was tolerated."""


def read_qrels(path: Path) -> Qrels:
    """The judgements of `read_judgements`."""
    return read_judgements(path).qrels


def read_judgements(path: Path, *, header: bool = False, ungraded: str = "") -> Judgements:
    """Reads a qrels file, plain or gzipped.

    Args:
        path: TREC's four columns (query 0 document relevance) or BEIR's three with tabs between, as its first line is.
        header: whether the file must be BEIR's and begin with its header.
        ungraded: a word in the place of a relevance that nobody has given yet; such lines are skipped.

    Raises:
        UserError: with the line number, for a wrong number of columns, an id that is empty or holds white space, a
            relevance that is not an integer of 32 bits, and a judgement that contradicts an earlier one.
    """
    start, first = next((row for row in numbered_lines(path) if not _comment(row[1])), (0, b""))
    if header and _fields(first) != HEADER.encode().split(b"\t"):
        raise UserError(
            f"{path} must begin with the line {HEADER!r} (tabs between), but begins with "
            f"{first[:60].decode(errors='replace').rstrip()!r}; put the header there and run the same command again."
        )
    notes: list[str] = []
    rows = _beir_rows(path, start) if _is_beir(first) else _trec_rows(path, notes)
    open_grade = ungraded.encode()
    qrels, repeated = _collected(path, (row for row in rows if not ungraded or row[1][2] != open_grade))
    if not qrels:
        raise UserError(f"{path} holds no judgements; name a qrels file (query 0 document relevance, or BEIR's .tsv).")
    if repeated:
        notes.append(f"{repeated} lines of {path.name} repeat an earlier judgement word for word; they count once")
    return Judgements(qrels, notes)


def qrels_line(query_id: str, doc_id: str, relevance: int) -> str:
    """A line of BEIR's form. An id that begins with a double quote is quoted, as it would be read otherwise."""
    ids = (f'"{each.replace(chr(34), 2 * chr(34))}"' if each.startswith('"') else each for each in (query_id, doc_id))
    return "\t".join([*ids, f"{relevance}\n"])


def _collected(path: Path, rows: Iterator[Row]) -> tuple[Qrels, int]:
    """The judgements, and how many lines repeat an earlier one."""
    qrels: Qrels = {}
    grades: dict[bytes, int] = {}
    asked, known, repeated = b"", dict[str, int](), 0
    for number, (query, document, relevance) in rows:
        if query != asked:
            asked, known = query, qrels.setdefault(decoded(query, path, number), {})
        if (grade := grades.get(relevance)) is None:
            grade = grades[relevance] = _grade(relevance, path, number)
        doc_id = decoded(document, path, number)
        if (earlier := known.setdefault(doc_id, grade)) != grade:
            raise UserError(
                f"Line {number} of {path} judges document {doc_id} for query {decoded(query, path, number)} {grade}, "
                f"an earlier line {earlier}; keep one of them."
            )
        repeated += 1
    return qrels, repeated - sum(map(len, qrels.values()))


def _grade(relevance: bytes, path: Path, number: int) -> int:
    try:
        if abs(grade := integer(relevance)) <= LARGEST:
            return grade
    except ValueError:
        pass
    shown = relevance[:40].decode(errors="replace")
    raise UserError(f"Line {number} of {path}: the relevance {shown!r} is not an integer of 32 bits; fix it.")


def _trec_rows(path: Path, notes: list[str]) -> Iterator[Row]:
    commented = 0
    for number, line in numbered_lines(path):
        columns = line.split()
        if columns[0].startswith(b"#"):
            commented += len(columns) == 4 and is_number(columns[3])
        elif len(columns) == 4:
            yield number, [columns[0], *columns[2:]]
        else:
            raise _miscounted(path, number, len(columns), "4 (query 0 document relevance)")
    if commented:
        notes.append(f"{path.name}: {commented} of its lines begin with # and are comments, as for trec_eval 10.0")


def _beir_rows(path: Path, start: int) -> Iterator[Row]:
    for number, line in numbered_lines(path):
        columns = line.split()
        if number == start and WORD.fullmatch(_fields(line)[2]):
            continue  # the header
        if len(columns) != 3 or b'"' in line or line.rstrip(b"\r").split(b"\t") != columns:
            columns = _fields(line)
            _check(path, number, columns)
        yield number, columns


def _check(path: Path, number: int, columns: list[bytes]) -> None:
    if len(columns) != 3:
        raise _miscounted(path, number, len(columns), "3 (query, document, relevance, tabs between)")
    for what, column in zip(("query", "document"), columns, strict=False):
        if column.split() != [column]:
            raise UserError(
                f"Line {number} of {path}: the {what} id {decoded(column, path, number)!r} is empty or holds white "
                f"space, which a TREC run cannot carry; fix that line."
            )


def _miscounted(path: Path, number: int, count: int, wanted: str) -> UserError:
    return UserError(f"Line {number} of {path} has {count} columns where qrels have {wanted}; fix that line.")


def _fields(line: bytes) -> list[bytes]:
    """The fields between tabs. One in double quotes, inner ones doubled, stands for what is inside."""
    fields = line.rstrip(b"\r").split(b"\t")
    quoted = (QUOTED.fullmatch(field) for field in fields)
    return [found[1].replace(b'""', b'"') if found else field for found, field in zip(quoted, fields, strict=True)]


def _is_beir(first: bytes) -> bool:
    """Whether tabs separate three columns. Four with a "0" among them are TREC's, with blanks and tabs mixed."""
    words = first.split()
    return len(_fields(first)) == 3 and not (len(words) == 4 and words[1] in (b"0", b"Q0"))


def _comment(line: bytes) -> bool:
    """Of TREC's form: BEIR's has none."""
    return line.lstrip().startswith(b"#") and not _is_beir(line)
