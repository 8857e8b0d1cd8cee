"""Finding and verifying weights on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from harness import UserError, Weights
from harness.download import local_weights
from harness.download.local_weights import locate, verify

FILES = {"model.safetensors": b"numbers", "1_Pooling/config.json": b"{}"}
WEIGHTS = Weights(
    name="tiny",
    hub="org/tiny@abc123",
    sha256={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
)


def put(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "home"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    real = local_weights.sha256_file
    monkeypatch.setattr(local_weights, "sha256_file", lambda file: [names.append(file.name), real(file)][1])
    return names


def test_nothing_anywhere(home: Path) -> None:
    assert locate(WEIGHTS, home) is None
    assert not home.exists()


def test_a_folder_counts_only_when_complete(home: Path) -> None:
    put(home / "models/tiny", {"model.safetensors": b"numbers"})
    assert locate(WEIGHTS, home) is None
    put(home / "models/tiny")
    assert locate(WEIGHTS, home) == home / "models/tiny"


def test_a_wrong_hash_in_home_names_file_both_hashes_and_the_remedy(home: Path) -> None:
    put(home / "models/tiny", FILES | {"model.safetensors": b"other"})
    with pytest.raises(UserError) as caught:
        locate(WEIGHTS, home)
    for part in (
        str(home / "models/tiny/model.safetensors"),
        WEIGHTS.sha256["model.safetensors"],
        hashlib.sha256(b"other").hexdigest(),
        "harness fetch tiny",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "inside"),
    [
        ("HF_HUB_CACHE", "cache", "cache"),
        ("HF_HOME", "hf", "hf/hub"),
        ("XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"),
        ("", "", "user/.cache/huggingface/hub"),
    ],
)
def test_hugging_face_cache_is_found_as_its_client_finds_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, inside: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / value))
    snapshots = tmp_path / inside / "models--org--tiny/snapshots"
    put(snapshots / "aaa", FILES | {"model.safetensors": b"an older commit"})
    put(snapshots / "bbb", {"model.safetensors": b"numbers"})
    assert locate(WEIGHTS, home) is None
    blob = put(tmp_path / "blobs", {"b": b"numbers"}) / "b"
    put(snapshots / "ccc", {"1_Pooling/config.json": b"{}"})
    (snapshots / "ccc/model.safetensors").symlink_to(blob)
    assert locate(WEIGHTS, home) == snapshots / "ccc"


def test_an_installed_package_is_found_and_not_imported(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "site/tiny_carrier", {"__init__.py": b"raise SystemExit('imported')"})
    put(tmp_path / "site/tiny_carrier/model")
    monkeypatch.syspath_prepend(tmp_path / "site")
    carried = dataclasses.replace(WEIGHTS, packages=("tiny-carrier",), root="tiny_carrier/model")
    assert locate(carried, home) == tmp_path / "site/tiny_carrier/model"
    assert locate(dataclasses.replace(carried, root="not_installed/model"), home) is None


def test_hashes_are_cached_until_a_file_changes(home: Path, hashed: list[str]) -> None:
    folder = put(home / "models/tiny")
    locate(WEIGHTS, home)
    assert sorted(hashed) == ["config.json", "model.safetensors"]
    hashed.clear()
    assert locate(WEIGHTS, home) == folder
    assert hashed == []
    (folder / "model.safetensors").write_bytes(b"NUMBERS")  # same size
    os.utime(folder / "model.safetensors", ns=(1, 1))
    with pytest.raises(UserError, match="corrupt"):
        locate(WEIGHTS, home)
    assert hashed == ["model.safetensors"]


@pytest.mark.parametrize("rubbish", [b"", b"[1, 2]", b"{", b"null", b'{"x": 3}', b"\xff"])
def test_an_unreadable_memory_only_costs_time(home: Path, rubbish: bytes) -> None:
    folder = put(home / "models/tiny")
    put(home / "models", {"hashes.json": rubbish})
    assert locate(WEIGHTS, home) == folder


def test_verify_of_a_folder_the_user_gave(tmp_path: Path) -> None:
    folder = put(tmp_path / "mine")
    verify(WEIGHTS, folder)
    (folder / "1_Pooling/config.json").write_bytes(b"[]")
    with pytest.raises(UserError, match=rf"1_Pooling/config.json has SHA-256 {hashlib.sha256(b'[]').hexdigest()}, not"):
        verify(WEIGHTS, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing.*-m "):
        verify(WEIGHTS, folder)
