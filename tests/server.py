"""A local HTTP server that misbehaves as told: cuts, forgets ranges, is slow, says 404, changes its files."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and how."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Path, query included -> content."""
    ranges: bool = True
    tags: bool = True
    cuts: list[int] = field(default_factory=list)
    """For the next answers: after how many bytes the connection ends."""
    delay: float = 0.0
    """Seconds of silence before every answer."""
    answers: list[int] = field(default_factory=list)
    """For the next answers: the status instead of a file."""
    length: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) of every request."""


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append((self.path, wanted))
            time.sleep(site.delay)
            if site.answers and (status := site.answers.pop(0)) != 200:
                return self.send_error(status)
            if self.path not in site.files:
                return self.send_error(404)
            content = site.files[self.path]
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            start, status = 0, 200
            if site.ranges and wanted and self.headers.get("If-Range") in (None, tag):
                start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                if start >= len(content):
                    return self.send_error(416)
            self.send_response(status)
            if site.tags:
                self.send_header("ETag", tag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            body = content[start:]
            if site.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client left, which some tests want it to."""

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
