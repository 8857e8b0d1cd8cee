"""Downloads a file over HTTP, with resume, limits on size and time, and a checksum.

The bytes are in ``NAME.part`` until they are complete and have the expected checksum. ``NAME.part.json`` records the
file that they belong to (URL, entity tag, date, size): if the file has changed on the server, or the server does not
support ranges, the download starts again from the beginning.
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
from functools import partial
from pathlib import Path
from typing import Any

from harness.storage.atomic import disk_errors, write_json
from harness.storage.regular_files import open_regular, regular
from harness.storage.safe_load import fields, read_json
from harness.types import Progress

USER_AGENT = "retrieval-harness"
TIMEOUT = 30.0
"""Seconds a server may be silent."""
RATE_WINDOW, MIN_BYTES = 60.0, 1 << 16
"""Seconds within which an answer has to begin; afterwards, the bytes that have to arrive in every such window."""
ATTEMPTS = 4
"""Attempts in a row without `PROGRESS_BYTES` new bytes before a download fails."""
PROGRESS_BYTES = 1 << 24
RETRY_DELAY = 1.0
"""Seconds before the second attempt; doubled for each further one."""
BLOCK = 1 << 18
LENGTH = re.compile("[0-9]{1,18}")
"""A length in bytes as a server states it; any other text counts as none."""
RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
"""Status codes of temporary errors."""
ALLOWED_PREFIXES = ("https://",)
"""What every URL begins with, redirects included. Tests add a local server."""


class SourceFailed(Exception):
    """A download from a source failed; the message is a short reason."""


class _Interrupted(Exception):
    """The connection ended too early, or the server has a temporary error; the message says which."""


def download(
    url: str,
    target: Path,
    *,
    checksum: tuple[str, str] | None = None,
    limit: int | None = None,
    token: str = "",
    progress: Progress = lambda *_: None,
) -> Path:
    """Downloads ``url`` to ``target``; resumes what an earlier call left.

    Args:
        url: Address of the file.
        target: File to write; it appears only when it is complete and verified.
        checksum: Algorithm of hashlib and expected hex digest.
        limit: Maximum size in bytes.
        token: Bearer token, sent to the host of ``url`` only.
        progress: Called with a text and the bytes done and in total.

    Returns:
        ``target``.

    Raises:
        SourceFailed: The download failed; the same call resumes it.
        UserError: The disk is full.
    """
    check_address(url)
    part = target.with_name(f"{target.name}.part")
    fetch = partial(_download_part, url, part, limit, token, progress)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if resumed := part.exists():
            regular(part)
        fetch()
        if resumed and not matches(part, checksum):
            _discard(part)  # it may mix two versions: dates are in whole seconds, and some servers send no entity tag
            fetch()
        if not matches(part, checksum):
            assert checksum is not None
            found = _digest(part, checksum[0])
            _discard(part)
            raise SourceFailed(f"{url} has {checksum[0].upper()} {found}, not {checksum[1]}: it was changed or damaged")
        part.rename(target)
        _discard(part)
    return target


def check_address(url: str) -> None:
    """Raises SourceFailed unless the URL begins with one of `ALLOWED_PREFIXES`."""
    if not url.startswith(ALLOWED_PREFIXES):
        raise SourceFailed(f"{brief(url)} is not a valid address; it has to begin with {' or '.join(ALLOWED_PREFIXES)}")


def _download_part(url: str, part: Path, limit: int | None, token: str, progress: Progress) -> None:
    """Completes ``part``, with retries."""
    failures, best = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, limit, token, progress)
        except _Interrupted as error:
            if _size(part) >= best + PROGRESS_BYTES:
                failures, best = 0, _size(part)
            failures += 1
            if failures >= ATTEMPTS:
                raise SourceFailed(f"{url}: {error}, {failures} times in a row") from error
            progress(f"connection lost, retrying: {url}", 0, 0)
            time.sleep(RETRY_DELAY * 2 ** (failures - 1))


def _attempt(url: str, part: Path, limit: int | None, token: str, progress: Progress) -> None:
    """Requests the missing bytes and appends them."""
    have, state = _size(part), _state(part)
    if have and state.get("url") == url and have == state.get("size"):
        return
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    mark = state.get("tag") or state.get("date")
    if have and isinstance(mark, str) and mark.isascii() and mark.isprintable() and state.get("url") == url:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    try:
        request = urllib.request.Request(url, headers=headers)
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with _opener().open(request, timeout=TIMEOUT) as answer:
            start = _start_offset(answer, part, have) if "Range" in headers else 0
            length = LENGTH.fullmatch(answer.headers.get("Content-Length", ""))
            size = start + int(length[0]) if length else 0
            if limit is not None and size > limit:
                raise SourceFailed(f"{url} is {size:,} bytes, more than the {limit:,} allowed")
            if start == 0:
                part.unlink(missing_ok=True)
                tag = answer.headers.get("ETag", "")
                version = {"tag": "" if tag.startswith("W/") else tag, "date": answer.headers.get("Last-Modified", "")}
                write_json(_state_file(part), {"url": url, "size": size, **version})
            _append(answer, part, start, size, limit, url, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is as long as the file or longer: another version
            _discard(part)
        if error.code == 416 or error.code in RETRY_STATUSES:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise SourceFailed(f"{url}: the server answers {error.code} {error.reason}") from error
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise SourceFailed(f"{brief(url)} is not a valid address: {brief(str(error))}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            raise SourceFailed(f"{url}: its server name cannot be resolved ({error.reason.strerror})") from error
        raise _Interrupted(_reason(error)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Interrupted(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to `ALLOWED_PREFIXES` only; a token stays with the host that it is for."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(ALLOWED_PREFIXES):
            raise SourceFailed(f"{req.full_url} redirects to {brief(newurl)}, which is not an https address")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if token and request is not None and (request.type, request.host) == (req.type, req.host):
            request.add_unredirected_header("Authorization", token)
        return request


class _HeaderDeadline:
    """Mix-in for a connection: the complete header of an answer has to arrive within `RATE_WINDOW` seconds."""

    def getresponse(self) -> Any:
        expired = threading.Event()

        def close() -> None:
            expired.set()
            with suppress(OSError):  # not SSLSocket.shutdown: another thread is reading from it
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # type: ignore[attr-defined]

        timer = threading.Timer(RATE_WINDOW, close)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if expired.is_set():  # the answer is incomplete, even if it could be parsed
                raise _Interrupted(f"the server did not answer within {RATE_WINDOW:g} seconds")


class _Plain(_HeaderDeadline, http.client.HTTPConnection):
    pass


class _Secure(_HeaderDeadline, http.client.HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Plain, req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Secure, req)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for HTTP only (the default one also opens files and FTP), with the proxies of the environment."""
    opener = urllib.request.OpenerDirector()
    errors = (urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor)
    for handler in (_HttpHandler, *errors, urllib.request.ProxyHandler, _Redirects):
        opener.add_handler(handler())
    return opener


def _start_offset(answer: Any, part: Path, have: int) -> int:
    """Offset of the answer's first byte in the file: 0 if the server ignored the range."""
    if answer.status != 206:
        return 0
    stated = str(answer.headers.get("Content-Range", ""))
    if not stated.startswith(f"bytes {have}-"):
        _discard(part)
        raise _Interrupted(f"the server sent another range ({stated or 'unknown'}) than the one requested")
    return have


def _append(answer: Any, part: Path, have: int, size: int, limit: int | None, url: str, progress: Progress) -> None:
    name = url.rpartition("/")[2] or url
    window, before = time.monotonic(), have
    with part.open("ab") as stream:
        while block := _read(answer):
            have += len(block)
            if limit is not None and have > limit:
                _discard(part)
                raise SourceFailed(f"{url} sends more than the {limit:,} bytes allowed")
            stream.write(block)
            progress(f"downloading {name} (bytes)", have, size)
            if (now := time.monotonic()) - window > RATE_WINDOW:
                if have - before < MIN_BYTES:
                    raise _Interrupted(f"the server sent {have - before:,} bytes in {RATE_WINDOW:g} seconds")
                window, before = now, have
    if size and have < size:
        raise _Interrupted(f"the connection ended after {have:,} of {size:,} bytes")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read1(BLOCK)  # what has arrived; `read` would wait for the full block
    except (OSError, http.client.HTTPException) as error:  # errors of the connection only, not of the disk
        raise _Interrupted(_reason(error)) from error
    return block


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return f"the server was silent for {TIMEOUT:g} seconds"
    return brief(str(error) or type(error).__name__)


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return fields(read_json(_state_file(part)), url=str, size=int)
    return {}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def matches(part: Path, checksum: tuple[str, str] | None) -> bool:
    """Whether the file has the checksum; True if ``checksum`` is None."""
    return checksum is None or _digest(part, checksum[0]) == checksum[1]


def _digest(part: Path, algorithm: str) -> str:
    with open_regular(part) as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def brief(text: str) -> str:
    """A foreign error message, shortened to one line of at most 160 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:157]}..."
