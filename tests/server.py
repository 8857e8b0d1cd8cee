"""A local HTTP server, with faults on request: cut connections, no ranges, delays, error codes, changed files."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """The files to serve, and the faults."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Path with query -> content."""
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
    tokens: list[str] = field(default_factory=list)
    """The Authorization header of every request; empty if there was none."""
    redirects: dict[str, str] = field(default_factory=dict)
    """Path -> address that it redirects to."""


MAIN = "c" * 40
"""The commit of the branch main of a repository that is served without one."""


LARGE = (".parquet", ".gz", ".safetensors")


def info_path(kind: str, name: str, revision: str) -> str:
    """The path that huggingface_hub asks for a repository's commit and files; ``kind`` is models or datasets."""
    return f"/api/{kind}/{name}/revision/{revision}?blobs=true"


def info(commit: str, files: list[tuple[Any, Any, Any]], name: str = "a/b") -> bytes:
    """The hub's answer there; a file is its path, size and SHA-256 (None: not in large-file storage)."""

    def large(size: Any, sha256: Any) -> dict[str, Any]:
        return {"lfs": {"sha256": sha256, "size": size, "pointerSize": 1}} if sha256 else {}

    siblings = [{"rfilename": path, "size": size, **large(size, sha256)} for path, size, sha256 in files]
    return json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()


def serve_repository(site: Site, kind: str, name: str, held: Mapping[str, bytes], commit: str = "main") -> None:
    """Serves a repository of the hub as main and at a commit, with the hashes of its large files."""
    commit = MAIN if commit == "main" else commit
    listed = [
        (path, len(data), hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else None)
        for path, data in held.items()
    ]
    for revision in ("main", commit):
        site.files[info_path(kind, name, revision)] = info(commit, listed, name)
    for path, data in held.items():
        site.files[f"{'' if kind == 'models' else '/datasets'}/{name}/resolve/{commit}/{path}"] = data


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append((self.path, wanted))
            site.tokens.append(self.headers.get("Authorization", ""))
            time.sleep(site.delay)
            if site.answers and (status := site.answers.pop(0)) != 200:
                return self.send_error(status)
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                return self.end_headers()
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

    with running(Handler) as site.url:
        yield site


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers requests on loopback while the block runs; yields the URL."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client closed the connection, as some tests intend."""

    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
