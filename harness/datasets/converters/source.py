"""Reads the original distribution of a dataset: finds its files by name and unpacks them while reading."""

from __future__ import annotations

import bz2
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.datasets.converters import lzw
from harness.storage import safe_load
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_json
from harness.types import Progress, UserError

BOM = b"\xef\xbb\xbf"
LINES_PER_PROGRESS = 10_000
SHOWN = 3


class OriginalFiles:
    """A folder with original files at any depth; hidden files are ignored."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        if not folder.is_dir():
            raise UserError(
                f"There is no folder {folder}; give the one with the original files of {name} "
                f"(`harness fetch {name}` says which ones)."
            )
        self._files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }

    def find(self, pattern: str, but: str = "(?!)") -> list[Path]:
        """Files whose path inside the folder matches ``pattern`` and not ``but``, ignoring case."""
        wanted, unwanted = (re.compile(each, re.IGNORECASE) for each in (rf"(.*/)?{pattern}", rf"(.*/)?{but}"))
        return [path for name, path in self._files.items() if wanted.fullmatch(name) and not unwanted.fullmatch(name)]

    def need(self, what: str, shown: str, pattern: str, but: str = "(?!)") -> list[Path]:
        """As `find`, but raises UserError if there is none; the message names ``what`` and an example."""
        return self.find(pattern, but) or self.refuse(f"holds no {what} (such as {shown})")

    def need_one(self, what: str, shown: str, pattern: str, but: str = "(?!)") -> Path:
        """As `need`, but raises UserError if there are several."""
        found = self.need(what, shown, pattern, but)
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in found[:SHOWN])
            self.refuse(f"holds {len(found)} files that could be its {what} ({names}), and one is needed")
        return found[0]

    def refuse(self, fault: str) -> Any:
        """Raises a UserError about this folder."""
        raise UserError(
            f"{self.folder} {fault}; fix that, then type: harness fetch {self.name} --from {self.folder} "
            f"(`harness fetch {self.name}` lists the files)."
        )


def corrupt(path: Path, fault: str) -> UserError:
    """The error for a corrupt or unexpected file."""
    return UserError(f"{path} {fault}; copy it again from its source and run the same command again.")


@contextmanager
def decompressed(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Opens a file; gzip, bzip2 and compress are recognised by the first bytes and unpacked.

    Yields:
        The unpacked content, and the file itself, whose position shows the progress.

    Raises:
        UserError: The file cannot be opened or unpacked.
    """
    try:
        raw = open_regular(path)
    except OSError as error:
        raise corrupt(path, f"cannot be read ({error.strerror})") from error
    with raw:
        magic = raw.read(3)
        raw.seek(0)
        try:
            if magic[:2] == b"\x1f\x8b":
                yield safe_load.limited(gzip.GzipFile(fileobj=raw), raw), raw
            elif magic == b"BZh":
                yield safe_load.limited(bz2.BZ2File(raw), raw), raw
            elif magic[:2] == lzw.MAGIC:
                yield io.BytesIO(lzw.unpack_lzw(raw.read())), raw
            elif magic[:2] == b"PK":
                raise UserError(f"{path} is a zip archive; unpack it there and run the same command again.")
            else:
                yield raw, raw
        except (safe_load.Corrupt, lzw.CorruptLzw) as error:
            raise corrupt(path, f"cannot be unpacked to its end ({error})") from error


def text_lines(path: Path, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """Yields number (from 1) and content of every non-blank line."""
    size = path.stat().st_size
    with decompressed(path) as (stream, raw):
        for number, line in enumerate(safe_load.lines(stream, path), start=1):
            if number % LINES_PER_PROGRESS == 0:
                progress(f"reading {path.name} (bytes)", raw.tell(), size)
            if content := (line.removeprefix(BOM) if number == 1 else line).strip():
                yield number, content
    progress(f"reading {path.name} (bytes)", size, size)


def parse_object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Parses the JSON object on a line, as Latin-1 if it is not UTF-8; UserError with the line number."""
    try:
        found = parse_json(decoded_text(line))
    except ValueError as error:
        raise corrupt(path, f"line {number} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise corrupt(path, f"line {number} is not a JSON object")
    return found


def decoded_text(content: bytes) -> str:
    """Decodes UTF-8, or Latin-1 if it is not valid UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def marked(text: str, name: str) -> Iterator[tuple[int, int, str]]:
    """Yields start, end and content of every ``<name> ... </name>``, ignoring case.

    Takes linear time; one regular expression for both tags would scan the rest of the text after each unclosed tag.
    """
    begins, ends = (re.compile(tag, re.IGNORECASE) for tag in (f"<{name}>", f"</{name}>"))
    place = 0
    while (begin := begins.search(text, place)) and (end := ends.search(text, begin.end())):
        yield begin.start(), end.end(), text[begin.end() : end.start()]
        place = end.end()


def collapsed(text: str) -> str:
    """Replaces every run of white space by one space."""
    return " ".join(text.split())
