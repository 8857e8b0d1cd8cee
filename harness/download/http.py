"""One file over HTTP: resumed where it was cut, bounded in size and time, checked.

The bytes lie in ``NAME.part`` until they are whole and have the expected checksum; ``NAME.part.json`` says which file
they belong to (entity tag, date, size), so that a file that changed upstream is begun again rather than mixed with the
old one. A server that cannot continue costs a fresh download, nothing else.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.storage.atomic import disk_errors, write_json
from harness.storage.regular_files import open_regular, regular
from harness.storage.safe_load import fields, read_json
from harness.types import Progress

TIMEOUT = 30.0
"""Seconds a server may be silent."""
SPAN, LEAST = 60.0, 1 << 16
"""Seconds in which a server has to begin its answer, and after that the bytes it has to send in every such span."""
ATTEMPTS = 4
"""How often in a row a download may fail without `GAIN` new bytes."""
GAIN = 1 << 24
PAUSE = 1.0
"""Seconds before the second attempt; twice that before the third, and so on."""
BLOCK = 1 << 18
LENGTH = re.compile("[0-9]{1,18}")
"""Of a file in bytes, as a server states it; any other text counts as none."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which asking again helps."""
STARTS = ("https://",)
"""What every address begins with, those that a server sends us on to included. Tests add a server of this machine."""


class SourceFailed(Exception):
    """A source could not deliver; the message says why, in a few words."""


class _Cut(Exception):
    """The connection ended too early; the message says how."""


def download(
    url: str,
    target: Path,
    *,
    checksum: tuple[str, str] | None = None,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> Path:
    """Brings ``url`` to ``target``, whole and checked; what was there of it from an earlier attempt is continued.

    ``checksum`` is an algorithm of hashlib and a hex digest, ``limit`` the most bytes that are taken (None: any).
    Raises SourceFailed, after which the same call goes on where it was, and UserError when the disk is full.
    """
    if not url.startswith(STARTS):
        raise SourceFailed(f"{url} is no address that is downloaded from; those begin with {' or '.join(STARTS)}")
    part = target.with_name(f"{target.name}.part")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if resumed := part.exists():
            regular(part)
        _bring(url, part, limit, progress)
        if resumed and not matches(part, checksum):
            _forget(part)  # perhaps two versions in one file: dates are of whole seconds, and not every server has tags
            _bring(url, part, limit, progress)
        if not matches(part, checksum):
            assert checksum is not None
            found = _digest(part, checksum[0])
            _forget(part)
            raise SourceFailed(f"{url} has {checksum[0].upper()} {found}, not {checksum[1]}: it was changed or damaged")
        part.rename(target)
        _forget(part)
    return target


def _bring(url: str, part: Path, limit: int | None, progress: Progress) -> None:
    failures, best = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, limit, progress)
        except _Cut as error:
            if _size(part) >= best + GAIN:
                failures, best = 0, _size(part)
            failures += 1
            if failures >= ATTEMPTS:
                raise SourceFailed(f"{url}: {error}, {failures} times in a row") from error
            progress(f"connection lost, trying again: {url}", 0, 0)
            time.sleep(PAUSE * 2 ** (failures - 1))


def _attempt(url: str, part: Path, limit: int | None, progress: Progress) -> None:
    """Asks for what is still missing and appends it."""
    have, state = _size(part), _state(part)
    if have and state.get("url") == url and have == state.get("size"):
        return
    headers = {"User-Agent": "retrieval-harness", "Accept-Encoding": "identity"}
    mark = state.get("tag") or state.get("date")
    if have and isinstance(mark, str) and mark.isascii() and mark.isprintable() and state.get("url") == url:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    try:
        with _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
            start = _start(answer, part, have) if "Range" in headers else 0
            length = LENGTH.fullmatch(answer.headers.get("Content-Length", ""))
            size = start + int(length[0]) if length else 0
            if limit is not None and size > limit:
                raise SourceFailed(f"{url} is {size:,} bytes, more than the {limit:,} it may be")
            if start == 0:
                part.unlink(missing_ok=True)
                tag = answer.headers.get("ETag", "")
                known = {"tag": "" if tag.startswith("W/") else tag, "date": answer.headers.get("Last-Modified", "")}
                write_json(_beside(part), {"url": url, "size": size, **known})
            _append(answer, part, start, size, limit, url, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies after what is here: it belongs to another version
            _forget(part)
        if error.code == 416 or error.code in PASSING:
            raise _Cut(f"the server answers {error.code} {error.reason}") from error
        raise SourceFailed(f"{url}: the server answers {error.code} {error.reason}") from error
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise SourceFailed(f"{brief(url)} is no address: {brief(str(error))}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            raise SourceFailed(f"{url}: its server is not known here ({error.reason.strerror})") from error
        raise _Cut(_why(error)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Cut(_why(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to addresses of `STARTS` alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(STARTS):
            raise SourceFailed(f"{req.full_url} leads to {brief(newurl)}, which is not taken: it is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Answers:
    """Of a connection: the whole head of an answer has to come in time, however slowly it is sent."""

    def getresponse(self) -> Any:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            with suppress(OSError):  # not `shutdown` of an SSL socket, which another thread reads
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # type: ignore[attr-defined]

        timer = threading.Timer(SPAN, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if late.is_set():  # then what came is half an answer, whatever was made of it
                raise _Cut(f"the server did not answer within {SPAN:g} seconds")


class _Plain(_Answers, http.client.HTTPConnection):
    pass


class _Secure(_Answers, http.client.HTTPSConnection):
    pass


class _Web(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Plain, req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Secure, req)


def _opener() -> urllib.request.OpenerDirector:
    """Of HTTP alone: urllib's own would also read files and FTP. Proxies are those of the environment."""
    opener = urllib.request.OpenerDirector()
    errors = (urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor)
    for handler in (_Web, *errors, urllib.request.ProxyHandler, _Redirects):
        opener.add_handler(handler())
    return opener


def _start(answer: Any, part: Path, have: int) -> int:
    """Where the answer's bytes belong: behind those that are here, or at the beginning when the server begins anew."""
    if answer.status != 206:
        return 0
    stated = str(answer.headers.get("Content-Range", ""))
    if not stated.startswith(f"bytes {have}-"):
        _forget(part)
        raise _Cut(f"the server sends another part ({stated or 'it does not say which'}) than the one asked for")
    return have


def _append(answer: Any, part: Path, have: int, size: int, limit: int | None, url: str, progress: Progress) -> None:
    name = url.rpartition("/")[2] or url
    start, before = time.monotonic(), have
    with part.open("ab") as stream:
        while block := _read(answer):
            have += len(block)
            if limit is not None and have > limit:
                _forget(part)
                raise SourceFailed(f"{url} sends more than the {limit:,} bytes it may be")
            stream.write(block)
            progress(f"downloading {name} (bytes)", have, size)
            if (now := time.monotonic()) - start > SPAN:
                if have - before < LEAST:
                    raise _Cut(f"the server sent {have - before:,} bytes in {SPAN:g} seconds")
                start, before = now, have
    if size and have < size:
        raise _Cut(f"the connection ended after {have:,} of {size:,} bytes")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read1(BLOCK)  # what is there: `read` would wait for all of it
    except (OSError, http.client.HTTPException) as error:  # only what the connection raises, not what the disk does
        raise _Cut(_why(error)) from error
    return block


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return f"the server was silent for {TIMEOUT:g} seconds"
    return brief(str(error) or type(error).__name__)


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return fields(read_json(_beside(part)), url=str, size=int)
    return {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def matches(part: Path, checksum: tuple[str, str] | None) -> bool:
    """Whether the file has the checksum; True where there is none to compare."""
    return checksum is None or _digest(part, checksum[0]) == checksum[1]


def _digest(part: Path, algorithm: str) -> str:
    with open_regular(part) as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def brief(text: str) -> str:
    """Other people's error message on one line of at most 160 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:157]}..."
