"""One file over HTTP from a local server with the faults that servers have."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

import harness.download.http
from harness import UserError
from harness.download.http import SourceFailed, download
from tests.server import Site, serving

CONTENT = os.urandom(3 << 20)
MD5 = ("md5", hashlib.md5(CONTENT).hexdigest())


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(harness.download.http, "RETRY_DELAY", 0.0)
    monkeypatch.setattr(harness.download.http, "ALLOWED_PREFIXES", ("https://", "http://127.0.0.1:"))
    with serving() as site:
        site.files["/a.zip"] = CONTENT
        yield site


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "a.zip"


def test_whole_at_once_with_progress(site: Site, target: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    download(f"{site.url}/a.zip", target, checksum=MD5, progress=lambda *step: steps.append(step))
    assert target.read_bytes() == CONTENT
    assert steps[-1] == ("downloading a.zip (bytes)", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert [file.name for file in target.parent.iterdir()] == ["a.zip"]


def test_a_cut_connection_is_continued_where_it_ended(site: Site, target: Path) -> None:
    site.cuts = [1_000_000, 1_000_000]
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_later_call_continues_what_an_earlier_one_left(site: Site, target: Path) -> None:
    site.cuts = [500_000, 0, 0, 0]
    with pytest.raises(SourceFailed, match=r"ended after 500,000 of 3,145,728 bytes, 4 times in a row"):
        download(f"{site.url}/a.zip", target, checksum=MD5)
    assert not target.exists()
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert site.asked[-1] == ("/a.zip", "bytes=500000-")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("lacking", ["ranges", "tags"])
def test_a_server_that_cannot_resume_starts_again(site: Site, target: Path, lacking: str) -> None:
    setattr(site, lacking, False)
    site.cuts = [1_000_000]
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_between_two_attempts_starts_again(site: Site, target: Path) -> None:
    site.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(SourceFailed):
        download(f"{site.url}/a.zip", target)
    changed = bytes(reversed(CONTENT))
    site.files["/a.zip"] = changed
    download(f"{site.url}/a.zip", target)
    assert target.read_bytes() == changed


def test_two_versions_in_one_file_are_noticed_by_the_checksum_and_fetched_again(site: Site, target: Path) -> None:
    part = target.with_name("a.zip.part")
    part.parent.mkdir()
    part.write_bytes(b"x" * 1_000_000)  # of another version, though the entity tag beside it says the same
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()[:16]}"'
    state = {"url": f"{site.url}/a.zip", "size": len(CONTENT), "tag": tag}
    part.with_name("a.zip.part.json").write_text(json.dumps(state))
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert [wanted for _, wanted in site.asked] == ["bytes=1000000-", ""]
    assert target.read_bytes() == CONTENT


def test_a_file_that_shrank_below_what_is_here(site: Site, target: Path) -> None:
    site.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(SourceFailed):
        download(f"{site.url}/a.zip", target)
    site.answers = [416]
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(site: Site, target: Path) -> None:
    with pytest.raises(SourceFailed, match=r"has MD5 [0-9a-f]{32}, not 0{32}: it was changed or damaged"):
        download(f"{site.url}/a.zip", target, checksum=("md5", "0" * 32))
    assert list(target.parent.iterdir()) == []


def test_not_found_is_said_at_once(site: Site, target: Path) -> None:
    with pytest.raises(SourceFailed, match="the server answers 404"):
        download(f"{site.url}/b.zip", target)
    assert len(site.asked) == 1


def test_a_busy_server_is_asked_again(site: Site, target: Path) -> None:
    site.answers = [503, 429]
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert len(site.asked) == 3
    site.answers = [500] * 9
    with pytest.raises(SourceFailed, match=r"answers 500 .*, 4 times in a row"):
        download(f"{site.url}/a.zip", target.with_name("other.zip"))
    assert len(site.asked) == 7


def test_a_silent_server(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.download.http, "TIMEOUT", 0.05)
    monkeypatch.setattr(harness.download.http, "ATTEMPTS", 2)
    site.delay = 0.3
    with pytest.raises(SourceFailed, match=r"silent for 0\.05 seconds, 2 times in a row"):
        download(f"{site.url}/a.zip", target)


@pytest.mark.parametrize("length", [True, False])
def test_more_than_it_may_be(site: Site, target: Path, length: bool) -> None:
    site.length = length
    with pytest.raises(SourceFailed, match=r"more than the 1,000,000"):
        download(f"{site.url}/a.zip", target, limit=1_000_000)
    assert not target.exists()


def test_a_full_disk_keeps_what_is_here(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    class Full:
        def __init__(self, stream: IO[bytes]) -> None:
            self.stream = stream

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def write(self, block: bytes) -> None:
            if self.stream.tell() > 1 << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.stream.write(block)

    def scarce(self: Path, mode: str = "r", *rest: object) -> object:
        stream = real(self, mode, *rest)  # type: ignore[call-overload]
        return Full(stream) if mode == "ab" else stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", scarce)
        with pytest.raises(UserError, match=r"The disk is full: .*a\.zip could not be written"):
            download(f"{site.url}/a.zip", target, checksum=MD5)
    kept = target.with_name("a.zip.part").stat().st_size
    assert kept > 1 << 20
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert site.asked[-1] == ("/a.zip", f"bytes={kept}-")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/etc/passwd"])
def test_nothing_but_http(target: Path, url: str) -> None:
    with pytest.raises(SourceFailed, match="not a valid address"):
        download(url, target)


@pytest.mark.parametrize(
    "state",
    ["null", "[]", "7", '"x"', "{}", '{"url": 1}', '{"url": "URL", "size": "x"}', '{"url": "URL"}'],
)
def test_a_state_of_another_shape_is_as_good_as_absent(site: Site, target: Path, state: str) -> None:
    part = target.with_name("a.zip.part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    part.with_name("a.zip.part.json").write_text(state.replace("URL", f"{site.url}/a.zip"))
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [""]


@pytest.mark.parametrize("tag", [7, {}, "\r\nX: y", "\udce9", "é"])
def test_a_tag_that_cannot_be_sent_is_not_sent(site: Site, target: Path, tag: object) -> None:
    part = target.with_name("a.zip.part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    state = {"url": f"{site.url}/a.zip", "size": len(CONTENT), "tag": tag}
    part.with_name("a.zip.part.json").write_text(json.dumps(state))
    download(f"{site.url}/a.zip", target, checksum=MD5)
    assert [wanted for _, wanted in site.asked] == [""]


def test_an_empty_file_is_downloaded_where_none_may_be_larger(site: Site, target: Path) -> None:
    site.files["/a.zip"] = b""
    download(f"{site.url}/a.zip", target, limit=0)
    assert target.read_bytes() == b""
    site.files["/a.zip"] = b"x"
    with pytest.raises(SourceFailed, match="more than the 0"):
        download(f"{site.url}/a.zip", target, limit=0)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own: every byte takes 29 seconds. What came is kept, and the progress is told byte by byte."""
    clock, told = [0.0], []

    def slow(answer: object) -> bytes:
        clock[0] += 29
        return harness.download.http.http.client.HTTPResponse.read1(answer, 1)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.download.http, "_read", slow)
    monkeypatch.setattr(harness.download.http.time, "monotonic", lambda: clock[0])
    with pytest.raises(SourceFailed, match=r"the server sent 3 bytes in 60 seconds, 4 times in a row"):
        download(f"{site.url}/a.zip", target, checksum=MD5, progress=lambda _, done, total: told.append(done))
    assert target.with_name("a.zip.part").read_bytes() == CONTENT[:12]
    assert [done for done in told if done] == list(range(1, 13))
    monkeypatch.undo()


def test_a_server_that_answers_in_drops_is_given_up(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of an answer, a letter at a time, for as long as anybody listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(harness.download.http, "RETRY_DELAY", 0.0)
    monkeypatch.setattr(harness.download.http, "RATE_WINDOW", 0.3)
    monkeypatch.setattr(harness.download.http, "ALLOWED_PREFIXES", ("http://127.0.0.1:",))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            for _ in range(harness.download.http.ATTEMPTS):
                with suppress(OSError), server.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.0 200 OK\r\n")
                    while True:
                        connection.sendall(b"X")
                        time.sleep(0.01)

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(SourceFailed, match=r"the server did not answer within 0\.3 seconds, 4 times in a row"):
            download(f"http://127.0.0.1:{server.getsockname()[1]}/a", target)


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "1_0"])
def test_a_length_that_is_no_number_counts_as_none(target: Path, monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(harness.download.http, "ALLOWED_PREFIXES", ("http://127.0.0.1:",))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\nabc".encode("latin-1"))

        threading.Thread(target=answer, daemon=True).start()
        download(f"http://127.0.0.1:{server.getsockname()[1]}/a", target)
    assert target.read_bytes() == b"abc"


def test_a_pipe_instead_of_a_partial_file(site: Site, target: Path) -> None:
    target.parent.mkdir()
    os.mkfifo(target.with_name("a.zip.part"))
    with pytest.raises(OSError, match="not a regular file"):
        download(f"{site.url}/a.zip", target, checksum=MD5)
