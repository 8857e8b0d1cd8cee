"""A dataset that was damaged after it was fetched is detected when it is opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.checksums import RECORD, verify_checksums, write_checksums
from harness.download.local_weights import find_fault, verify_again
from harness.types import UserError, Weights
from tests.conftest import Done, write_dataset

PLUGIN = """
from harness import DatasetSpec, hookimpl


def build(folder):
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "bread"}\\n{"_id": "d2", "text": "moon"}\\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "moon"}\\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\\tcorpus-id\\tscore\\nq1\\td2\\t1\\n")


@hookimpl
def harness_datasets():
    yield DatasetSpec("built", "made here", build=f"{__name__}:build")
"""


def spoil(path: Path) -> None:
    """One bit, with neither size nor time telling of it."""
    stamp, data = path.stat(), path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_a_judgement_that_changed_on_the_disk_is_told(harness: Callable[..., Done], home: Path) -> None:
    Path("built.py").write_text(PLUGIN)
    words = ("benchmark", "--plugin", "built.py", "-m", "bm25", "-d", "built")
    assert harness(*words).code == harness(*words).code == 0
    (folder,) = (home / "datasets").glob("built*")
    spoil(folder / "qrels" / "test.tsv")
    done = harness(*words)
    assert done.code == 2
    assert "test.tsv is corrupt or was changed since built was fetched" in done.err


@pytest.mark.parametrize("file", ["queries.jsonl", "qrels/test.tsv", RECORD])
def test_every_file_of_a_recorded_folder_is_compared(tmp_path: Path, file: str) -> None:
    folder = write_dataset(tmp_path / "set", {"d1": "bread", "d2": "moon"}, {"q1": "moon"}, [("q1", "d2", 1)])
    corpus = hashlib.sha256((folder / "corpus.jsonl").read_bytes()).hexdigest()
    verify_checksums(folder, "set", corpus)  # nothing is recorded: it is its user's
    write_checksums(folder)
    verify_checksums(folder, "set", corpus)
    with pytest.raises(UserError, match=r"corpus.jsonl is corrupt"):
        verify_checksums(folder, "set", "0" * 64)
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[:-9])
    with pytest.raises(UserError, match=rf"{file} is corrupt .* harness fetch set"):
        verify_checksums(folder, "set", corpus)


def test_weights_are_hashed_again_when_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a bad disk leaves every time stamp as it was, which no program can do to the ctime
    monkeypatch.setattr("harness.download.local_weights.file_state", lambda status: {"size": status.st_size})
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(100))
    weights = Weights("m", "a/m", {"model.safetensors": hashlib.sha256(bytes(100)).hexdigest()})
    assert find_fault(weights, folder, tmp_path) is None
    verify_again(weights, folder)
    spoil(folder / "model.safetensors")
    assert find_fault(weights, folder, tmp_path) is None  # its state is the remembered one: nothing is read
    with pytest.raises(UserError, match=r"is corrupt or was changed .* harness fetch m"):
        verify_again(weights, folder)


def test_the_folder_of_another_dataset_is_told(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", {"d1": "bread", "d2": "moon"}, {"q1": "moon"}, [("q1", "d2", 1)])
    (folder / "dataset.toml").write_text('name = "other"\n')
    write_checksums(folder)
    corpus = hashlib.sha256((folder / "corpus.jsonl").read_bytes()).hexdigest()
    verify_checksums(folder, "other", corpus)
    with pytest.raises(UserError, match="holds the dataset 'other' instead; delete it and type: harness fetch set"):
        verify_checksums(folder, "set", corpus)


def test_weights_replaced_by_others_of_the_same_size_and_time_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(100))
    weights = Weights("m", "a/m", {"model.safetensors": hashlib.sha256(bytes(100)).hexdigest()})
    assert find_fault(weights, folder, tmp_path) is None
    spoil(folder / "model.safetensors")  # in place: the same inode
    assert find_fault(weights, folder, tmp_path) is not None
