"""Repositories of the hub: listed by huggingface_hub, downloaded by our own code, from local servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from harness.download.http import SourceFailed
from harness.download.hub import Repository
from tests.server import MAIN, Site, info_path, serve_repository, serving

FILE = f"/datasets/a/b/resolve/{MAIN}/x.txt"


def fetched(folder: Path, place: str = "a/b") -> bytes:
    (file,) = Repository(place, folder, lambda *_: None).fetch_matching("text", ("*.txt",))
    return file.read_bytes()


@pytest.fixture
def repository(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A repository with one file, and a user who is logged in at the hub."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "token").write_text("stored")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "user" / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "user" / "agents.json"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    serve_repository(site, "datasets", "a/b", {"x.txt": b"text"})
    return site


def test_two_requests_and_nothing_else(repository: Site, tmp_path: Path) -> None:
    """The branch is resolved to a commit once; no telemetry, no stored token, no file elsewhere."""
    assert fetched(tmp_path / "scratch") == b"text"
    assert [path for path, _ in repository.asked] == [info_path("datasets", "a/b", "main"), FILE]
    assert repository.tokens == ["", ""]
    assert [path.name for path in (tmp_path / "user").iterdir()] == ["token"]


def test_a_token_of_the_environment_stays_with_the_hub(
    repository: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving() as other:
        other.files["/x"] = repository.files["/moved"] = repository.files.pop(FILE)
        repository.redirects[FILE] = "/moved"
        assert fetched(tmp_path / "one") == b"text"
        assert repository.tokens == ["Bearer secret"] * 3
        repository.redirects["/moved"] = f"{other.url}/x"
        assert fetched(tmp_path / "two") == b"text"
        assert (repository.tokens, other.tokens) == (["Bearer secret"] * 6, [""])


def test_temporary_errors_of_the_listing_are_retried(repository: Site, tmp_path: Path) -> None:
    repository.answers = [503, 429]
    assert fetched(tmp_path) == b"text"
    repository.answers = [503] * 9
    with pytest.raises(SourceFailed, match=r"the server answers 503 .* about a/b at main"):
        fetched(tmp_path)


def test_another_commit_than_the_pinned_one_is_refused(repository: Site, tmp_path: Path) -> None:
    pinned = "d" * 40
    repository.files[info_path("datasets", "a/b", pinned)] = repository.files[info_path("datasets", "a/b", "main")]
    with pytest.raises(SourceFailed, match=f"the hub names the commit {MAIN} for a/b at {pinned}"):
        fetched(tmp_path, f"a/b@{pinned}")


def test_without_the_package_a_sentence_says_so(
    repository: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SourceFailed, match="the Python package huggingface_hub is not installed"):
        fetched(tmp_path)
    assert repository.asked == []
