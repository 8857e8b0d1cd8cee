"""An original distribution on disk: its files found by name, unpacked as they are read, refused in one sentence."""

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


class Source:
    """A folder that a user filled by hand, at whatever depth; hidden files do not count."""

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
        """Files whose path inside the folder matches, upper and lower case alike, but for those that match ``but``."""
        wanted, unwanted = (re.compile(each, re.IGNORECASE) for each in (rf"(.*/)?{pattern}", rf"(.*/)?{but}"))
        return [path for name, path in self._files.items() if wanted.fullmatch(name) and not unwanted.fullmatch(name)]

    def need(self, what: str, shown: str, pattern: str, but: str = "(?!)") -> list[Path]:
        """As `find`; UserError, saying ``what`` is missing and a name it may have, where there is none."""
        return self.find(pattern, but) or self.refuse(f"holds no {what} (such as {shown})")

    def need_one(self, what: str, shown: str, pattern: str, but: str = "(?!)") -> Path:
        """As `need`, and UserError where there are several."""
        found = self.need(what, shown, pattern, but)
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in found[:SHOWN])
            self.refuse(f"holds {len(found)} files that could be its {what} ({names}), and one is needed")
        return found[0]

    def refuse(self, fault: str) -> Any:
        """Raises the UserError about this folder."""
        raise UserError(
            f"{self.folder} {fault}; mend that, then type: harness fetch {self.name} --from {self.folder} "
            f"(`harness fetch {self.name}` says what goes there)."
        )


def damaged(path: Path, fault: str) -> UserError:
    """The error about a file that is not what it should be."""
    return UserError(f"{path} {fault}; copy it again from where it came from and run the same command again.")


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file's content (gzip, bzip2 and compress undone, told by the first bytes) and the file itself, to see how
    far reading is. UserError where it cannot be opened, or later unpacked."""
    try:
        raw = open_regular(path)
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from error
    with raw:
        magic = raw.read(3)
        raw.seek(0)
        try:
            if magic[:2] == b"\x1f\x8b":
                yield safe_load.limited(gzip.GzipFile(fileobj=raw), raw), raw
            elif magic == b"BZh":
                yield safe_load.limited(bz2.BZ2File(raw), raw), raw
            elif magic[:2] == lzw.MAGIC:
                yield io.BytesIO(lzw.unpack(raw.read())), raw
            elif magic[:2] == b"PK":
                raise UserError(f"{path} is a zip archive; unpack it there and run the same command again.")
            else:
                yield raw, raw
        except (safe_load.Corrupt, lzw.Damaged) as error:
            raise damaged(path, f"cannot be unpacked to its end ({error})") from error


def lines(path: Path, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """(number from 1, content without line end) of every line that is not blank."""
    size = path.stat().st_size
    with unpacked(path) as (stream, raw):
        for number, line in enumerate(safe_load.lines(stream, path), start=1):
            if number % LINES_PER_PROGRESS == 0:
                progress(f"reading {path.name} (bytes)", raw.tell(), size)
            if content := (line.removeprefix(BOM) if number == 1 else line).strip():
                yield number, content
    progress(f"reading {path.name} (bytes)", size, size)


def parse_object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """The JSON object on a line, Latin-1 where it is not UTF-8; UserError with the line number."""
    try:
        found = parse_json(decoded(line))
    except ValueError as error:
        raise damaged(path, f"line {number} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise damaged(path, f"line {number} is not a JSON object")
    return found


def decoded(content: bytes) -> str:
    """UTF-8, else Latin-1, which every byte sequence is."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def marked(text: str, name: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of every ``<name> ... </name>``, upper and lower case alike.

    Linear in the text: a regular expression from tag to tag looks to the end behind every one that is not closed.
    """
    begins, ends = (re.compile(tag, re.IGNORECASE) for tag in (f"<{name}>", f"</{name}>"))
    place = 0
    while (begin := begins.search(text, place)) and (end := ends.search(text, begin.end())):
        yield begin.start(), end.end(), text[begin.end() : end.start()]
        place = end.end()


def collapsed(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())
