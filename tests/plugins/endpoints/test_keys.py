"""A key is in the header of requests and nowhere else: no file, no output, no argument of a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import UserError
from harness_plugins.endpoints.address import base_url, key_of
from tests.endpoint_server import Endpoint, raw, status

pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
pytest.importorskip("faiss", reason="dense models need the dense extra")
KEY = "sk-Very.Secret/0123456789"


def files_with(text: str, folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_no_file_and_no_output_has_the_key(
    harness, served: Endpoint, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", KEY)
    scanned = {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    monkeypatch.setattr("harness.planning.speed._scan", lambda device: scanned)
    served.key = KEY
    model = f"openai:m:base_url={served.url}"
    told = ""

    def run(code: int, *words: object) -> None:
        nonlocal told
        done = harness(*words)
        assert done.code == code, done.err
        told += done.out + done.err

    loud = ("--debug", "--verbose", "--log", "log.jsonl")
    run(0, "benchmark", "-m", model, "-d", toy, "--json", *loud)
    run(0, "benchmark", "-m", f"rerank(bm25):model=x,key_env=OTHER_KEY,base_url={served.url}", "-d", toy, *loud)
    run(0, "plan", "-m", model, "-d", toy, "--debug", "--verbose")
    run(0, "check", model, "--debug", "--verbose")
    run(0, "report")
    assert {*served.keys} == {f"Bearer {KEY}"}
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}-wrong")
    for number, fault in enumerate((None, status(400, body=f"Bearer {KEY}-wrong"), raw(f"<{KEY}-wrong".encode()))):
        served.faults = [fault] if fault else []
        run(2 if fault is None else 1, "benchmark", "-m", f"{model},version={number}", "-d", toy, *loud)
        served.faults = [fault] if fault else []
        both = ("-m", f"{model},version={number}", "-m", "bm25")
        run(1, "benchmark", *both, "-d", toy, *loud)
    assert f"Bearer {KEY}-wrong" in served.keys
    assert "it refuses the key in OPENAI_API_KEY" in told
    assert "Traceback" in told
    assert (tmp_path / "log.jsonl").stat().st_size
    assert "Secret" not in told
    assert files_with("Secret", tmp_path) == []
    arguments = [file for file in Path("/proc").glob("[0-9]*/cmdline") if _has(file, KEY)]
    assert arguments == []


def _has(file: Path, text: str) -> bool:
    try:
        return text.encode() in file.read_bytes()
    except OSError:  # it has ended, or belongs to someone else
        return False


def test_without_a_key_none_is_sent(harness, served: Endpoint, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.key = "wanted"
    done = harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", toy)
    assert done.code == 2
    assert "it wants a key: the server answers 401 Unauthorized" in done.err
    assert "set the environment variable OPENAI_API_KEY." in done.err
    monkeypatch.setenv("OPENAI_API_KEY", "wanted")
    assert harness("benchmark", "-m", "openai:m:key_env=none", "--base-url", served.url, "-d", toy).code == 2
    assert {*served.keys} == {""}
    assert harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", toy).code == 0


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://user:pass%40word@127.0.0.1/v1", "holds a name or a password"),
        ("https://token@example.com/v1", "holds a name or a password"),
        ("https://example.com/v1?api_key=pass%40word", r"goes on after a \? or a #"),
        ("https://example.com/v1#pass%40word", r"goes on after a \? or a #"),
        ("ftp://example.com/v1", "not an address that begins with https:// or http://"),
        ("example.com/v1", "not an address that begins with"),
        ("http://", "not an address that begins with"),
        ("http://exämple.com", "not an address that begins with"),
        ("http://a b", "not an address that begins with"),
        ("http://[::1", "The base URL is not an address"),
        ("http://host:99999", "The base URL is not an address"),
    ],
)
def test_a_base_url_without_credentials(harness, toy: Path, tmp_path: Path, url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        base_url({"base_url": url}, "X", "")
    assert "pass" not in str(raised.value).replace("password", "")
    done = harness("benchmark", "-m", "openai:m", "--base-url", url, "-d", toy)
    assert done.code == 2
    assert "pass%40word" not in done.err
    assert files_with("pass%40word", tmp_path) == []


def test_one_address_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(url: str) -> str:
        return base_url({"base_url": url}, "X", "")

    assert plain("HTTPS://API.Example.com:443/v1/") == plain("https://api.example.com/v1")
    assert plain("http://127.0.0.1:80") == "http://127.0.0.1"
    assert plain("http://[::1]:8080/v1//") == "http://[::1]:8080/v1"
    with pytest.raises(UserError, match=r"An endpoint needs its address: add base_url="):
        base_url({"base_url": None}, "X", "")
    monkeypatch.setenv("X", " https://other/ ")
    assert base_url({"base_url": None}, "X", "https://usual") == "https://other"


@pytest.mark.parametrize("name", ["sk-lower", "sk_lower", KEY, "A B", "", "1A"])
def test_a_key_in_place_of_a_name(harness, toy: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="key_env takes the name of an environment variable") as raised:
        key_of({"key_env": name}, "X", "https://a")
    assert not name or name not in str(raised.value)
    if name == KEY:
        done = harness("benchmark", "-m", f"openai:m:key_env={name}", "-d", toy)
        assert done.code == 2
        assert "Secret" not in done.err
        assert files_with("Secret", tmp_path) == []


def test_keys_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="that key_env names is not set"):
        key_of({"key_env": "AKIA0123456789"}, "X", "https://a")
    for value in ("two\nlines", "blank within", "ü"):
        monkeypatch.setenv("X", value)
        with pytest.raises(UserError, match="X holds blanks or characters that no key has") as raised:
            key_of({"key_env": None}, "X", "https://a")
        assert value not in str(raised.value)
    monkeypatch.setenv("X", f" {KEY}\n")
    assert key_of({"key_env": None}, "X", "https://a") == ("X", KEY)
    for url in ("http://127.0.0.1:1", "http://127.9.9.9", "http://localhost:8", "http://[::1]"):
        assert key_of({"key_env": None}, "X", url) == ("X", KEY)
    for url in ("http://10.0.0.1", "http://localhost.example.com", "http://example.com"):
        with pytest.raises(UserError, match=f"The key in X would be sent unencrypted to {url}"):
            key_of({"key_env": None}, "X", url)
        assert key_of({"key_env": "none"}, "X", url) == ("", "")
    assert os.environ["X"] == f" {KEY}\n"
