"""Locks between processes and threads, and the lock files that killed processes leave."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.storage.atomic import whole_folder
from harness.storage.locks import exclusive
from harness.storage.temporary_files import sweep
from harness.types import UserError

HOLD = """
import sys, time
from pathlib import Path
from harness.storage.locks import exclusive

with exclusive(Path(sys.argv[1]), lambda *_: None):
    print("held", flush=True)
    time.sleep(600)
"""
COUNT = """
import sys
from pathlib import Path
from harness.storage.locks import exclusive

target = Path(sys.argv[1])
for _ in range(50):
    with exclusive(target, lambda *_: None):
        target.write_text(str(int(target.read_text()) + 1))
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_process_waits_until_the_holder_is_done_or_dead(tmp_path: Path) -> None:
    target, reported = tmp_path / "home" / "folder", []
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def report(*words: object) -> None:
            reported.append(words)
            process.send_signal(signal.SIGKILL)

        with exclusive(target, report):
            assert process.wait() == -signal.SIGKILL
    assert reported == [("waiting for another process that makes folder", 0, 0)]
    with exclusive(target, pytest.fail), exclusive(target.with_name("b"), pytest.fail):
        pass


def test_processes_take_turns_and_the_lock_file_is_removed(tmp_path: Path) -> None:
    (target := tmp_path / "count").write_text("0")
    with exclusive(target, pytest.fail):
        assert names(tmp_path) == [".count.lock", "count"]
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(target)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert target.read_text() == "200"
    assert names(tmp_path) == ["count"]


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []

    def work() -> None:
        for _ in range(10):
            with exclusive(tmp_path / "target", lambda *_: None, "counts"):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()
        done.append(1)

    done: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert names(tmp_path) == []


def test_abandoned_lock_files_are_removed_and_held_ones_stay(tmp_path: Path) -> None:
    (tmp_path / ".dead.lock").touch()
    with exclusive(tmp_path / "living", pytest.fail):
        sweep(tmp_path)
        assert names(tmp_path) == [".living.lock"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_on_the_disk_nobody_waits(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    target = tmp_path / "a"
    with exclusive(target, pytest.fail), exclusive(target, pytest.fail), whole_folder(target) as folder:
        (folder / "made").touch()
    assert names(target) == ["made"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_something_else_in_the_place_of_the_lock_file_is_refused(make, tmp_path: Path) -> None:
    make(tmp_path / ".target.lock")
    refused = pytest.raises(UserError, match="is not a regular file, so it cannot be used as a lock")
    with refused, exclusive(tmp_path / "target", pytest.fail):
        pytest.fail("not locked")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "The disk is full"), (errno.EROFS, r"\.target\.lock cannot be written")]
)
def test_a_lock_file_that_cannot_be_made(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=words), exclusive(tmp_path / "target", pytest.fail):
        pytest.fail("not locked")
