"""Atomic writes: files and folders appear complete or not at all, despite kills and concurrent writers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from harness.storage.atomic import (
    content_key,
    disk_errors,
    dump_json,
    recover,
    sha256_file,
    whole_folder,
    write_file,
    write_json,
)
from harness.storage.locks import exclusive
from harness.storage.temporary_files import remove, sweep, sweep_tree
from harness.types import UserError

HOLD = """
import sys, time
from pathlib import Path
from harness.storage.atomic import whole_folder, write_file

def hold(*_):
    print("held", flush=True)
    time.sleep(600)

if sys.argv[2] == "folder":
    with whole_folder(Path(sys.argv[1])) as folder:
        (folder / "half").write_text("written")
        hold()
else:
    write_file(Path(sys.argv[1]), hold)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half(stream: IO[bytes]) -> None:
    stream.write(b"half")
    raise RuntimeError("in the middle")


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_file(path, lambda stream: stream.write(b"first"))
    with pytest.raises(RuntimeError):
        write_file(path, half)
    assert path.read_bytes() == b"first"
    write_file(path, lambda stream: stream.write(b"second"))
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file"]


def test_a_folder_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with whole_folder(path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "old").write_text("old")
        assert not path.exists()
    with pytest.raises(RuntimeError), whole_folder(path) as folder:
        half((folder / "new").open("wb"))
    assert (path / "deep" / "old").read_text() == "old"
    with whole_folder(path) as folder:
        (folder / "new").write_text("new")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    path, aside = tmp_path / "folder", tmp_path / ".folder.old"
    aside.mkdir()
    (aside / "old").write_text("old")
    recover(path)
    assert names(tmp_path) == ["folder"]
    assert (path / "old").read_text() == "old"
    aside.mkdir()  # a kill after them: the old folder is superseded
    recover(path)
    assert names(tmp_path) == ["folder"]
    path.rename(aside)
    with whole_folder(path) as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["new"]


def test_keep_keeps_the_folder_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with whole_folder(path, keep=path.exists) as folder:
        (folder / "ours").write_text("ours")
        with whole_folder(path, keep=path.exists) as other:
            (other / "theirs").write_text("theirs")
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["theirs"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_sweep_removes_files_of_killed_processes_only(tmp_path: Path, kind: str) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path / "name"), kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = names(tmp_path)
        assert len(held) == 1
        sweep(tmp_path)
        assert names(tmp_path) == held
        process.send_signal(signal.SIGKILL)
    (tmp_path / ".keep.txt.tmp").write_text("somebody else's")
    assert set(held) < set(names(tmp_path))
    with whole_folder(tmp_path / "other"):  # a folder's writer tidies up where it writes
        pass
    assert names(tmp_path) == [".keep.txt.tmp", "other"]


def test_sweep_tree_removes_abandoned_files_at_every_level_and_no_others(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for folder in (tmp_path / "home", tmp_path / "home" / "a" / "b", outside):
        folder.mkdir(parents=True)
        (folder / ".x.0123abcd.tmp").touch()
        (folder / ".y.0123abcd.tmp").mkdir()
        (folder / ".y.0123abcd.tmp" / "half").touch()
        (folder / ".z.lock").touch()
        (folder / ".foreign.lock").write_text("not empty")
        (folder / ".folder.lock").mkdir()
        (folder / ".x.notahash.tmp").touch()
        (folder / "kept").touch()
    (tmp_path / "home" / "link").symlink_to(outside)
    (tmp_path / "home" / ".link.0123abcd.tmp").symlink_to(outside / "kept")
    kept = [".folder.lock", ".foreign.lock", ".x.notahash.tmp", "kept"]
    before = names(outside)
    with exclusive(tmp_path / "home" / "a" / "b" / "held", pytest.fail):
        sweep_tree(tmp_path / "home", depth=1)
        assert ".x.0123abcd.tmp" in names(tmp_path / "home" / "a" / "b")
        sweep_tree(tmp_path / "home")
        assert names(tmp_path / "home" / "a" / "b") == sorted([*kept, ".held.lock"])
    assert names(tmp_path / "home") == sorted([*kept, ".link.0123abcd.tmp", "a", "link"])
    assert names(outside) == before
    sweep(outside, locks=False)  # a folder of the user's
    assert names(outside) == sorted([*kept, ".z.lock"])
    sweep_tree(tmp_path / "absent")


def test_the_first_write_into_a_folder_sweeps_it(tmp_path: Path) -> None:
    (tmp_path / ".meta.json.0123abcd.tmp").touch()
    (tmp_path / ".theirs.lock").touch()
    write_json(tmp_path / "result.json", {})
    assert names(tmp_path) == [".theirs.lock", "result.json"]


def test_a_failure_leaves_no_empty_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "model" / "dataset", tmp_path / "there" / "model" / "dataset"):
        with pytest.raises(RuntimeError), whole_folder(path):
            raise RuntimeError
        with pytest.raises(RuntimeError):
            write_file(path, half)
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == []


def test_a_folder_that_another_process_removed_is_made_again(tmp_path: Path) -> None:
    """Another process fails between our making of a folder and our first file in it."""
    made, real = [], Path.touch

    def touch(path: Path, *rest: object, **more: object) -> None:
        if not made:
            path.parent.rmdir()
        made.append(path)
        real(path, *rest, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "touch", touch)
        write_file(tmp_path / "model" / "file", lambda stream: stream.write(b"x"))
    assert len(made) == 2
    assert (tmp_path / "model" / "file").read_bytes() == b"x"


def test_a_folder_that_appears_during_its_removal_is_removed(tmp_path: Path) -> None:
    """Another process renames its folder to this name after the first look at it."""
    (tmp_path / ".folder.old").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_dir", lambda path: False)
        remove(tmp_path / ".folder.old")
    assert names(tmp_path) == []


RACE = """
import sys, time
from pathlib import Path
from harness.storage.atomic import recover, whole_folder

path, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    with whole_folder(path) as folder:
        for name in "abc":
            (folder / name).write_text(f"{me} {turn}")
    recover(path)
"""


def test_four_processes_replace_one_folder_and_it_is_complete(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RACE, str(tmp_path / "folder")]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen([*words, str(me)], stdin=pipe, stdout=pipe, stderr=pipe, text=True) for me in range(4)]
    for racer in racers:
        racer.stdout.readline()  # they start at once
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    errors = [racer.communicate()[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4, errors
    assert names(tmp_path) == ["folder"]
    contents = {(tmp_path / "folder" / name).read_text() for name in "abc"}
    assert len(contents) == 1
    assert contents.pop().endswith(" 59")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full: .* run the same command again"),
        (errno.EDQUOT, "The disk is full"),
        (errno.EFBIG, "The disk is full"),
        (errno.EACCES, "cannot be written .* HARNESS_HOME or --results"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "The disk failed"),
    ],
)
def test_disk_errors_are_one_sentence(tmp_path: Path, number: int, words: str) -> None:
    def refuse(stream) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=words) as raised:
        write_file(tmp_path / "file", refuse)
    assert str(tmp_path / "file") in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=words), whole_folder(tmp_path / "folder"):
        refuse(None)
    assert names(tmp_path) == []


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UserError, match="The disk is full"), disk_errors(Path("/dev/full")):
        Path("/dev/full").write_text("x")


def test_other_errors_pass_through(tmp_path: Path) -> None:
    def refuse(stream) -> None:
        raise OSError(errno.EINVAL, "invalid")

    with pytest.raises(OSError, match="invalid"):
        write_file(tmp_path / "file", refuse)


def test_json_is_strict(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"ü": "東京"}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text("utf-8")
    assert json.loads(text) == content
    assert list(json.loads(text)) == ["b", "a"]
    assert "東京" in text
    assert text.endswith("}\n")
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            dump_json({"x": number})


def test_keys_depend_on_the_content_alone() -> None:
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    # printf '{"a":1,"b":[2]}' | sha256sum
    assert content_key({"a": 1, "b": [2]}) == "0855bfc20eb6cfaa4be7d6b510c63dd22997718bddadcb1a4915cec3a16145b9"
    different = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": []}, {"A": 1}, {}, [], ["a", 1], "a"]
    assert len({content_key(each) for each in different}) == len(different)
    with pytest.raises(ValueError, match="JSON"):
        content_key(float("nan"))


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == digest
