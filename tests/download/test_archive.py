"""Archives in BEIR's layout, and all that may be wrong with one."""

from __future__ import annotations

import io
import shutil
import stat
from collections import namedtuple
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from harness import UserError
from harness.download.archive import extract_dataset
from harness.download.http import SourceFailed

GOOD = {
    "tiny/corpus.jsonl": b'{"_id": "d", "text": "x"}\n',
    "tiny/queries.jsonl": b'{"_id": "q", "text": "x"}\n',
    "tiny/qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq\td\t1\n",
    "tiny/qrels/train.tsv": b"query-id\tcorpus-id\tscore\n",
}


def zipped(members: dict[str, bytes], *, links: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = ZipInfo(name)
            info.compress_type = ZIP_DEFLATED
            info.external_attr = ((stat.S_IFLNK | 0o777) if name in links else (stat.S_IFREG | 0o644)) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def unpacked(tmp_path: Path, content: bytes, limit: int = 1 << 20) -> set[str]:
    (tmp_path / "a.zip").write_bytes(content)
    folder = tmp_path / "outer" / "folder"
    folder.mkdir(parents=True)
    extract_dataset(tmp_path / "a.zip", "tiny", folder, limit=limit)
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_dataset_and_nothing_else(tmp_path: Path) -> None:
    stray = {"__MACOSX/tiny/._corpus.jsonl": b"x", "tiny/.DS_Store": b"x", "tiny/README.txt": b"x", "readme": b"x"}
    others = {"tiny/qrels/notes.txt": b"x", "tiny/qrels/deep/test.tsv": b"x", "tiny/qrels/.hidden.tsv": b"x"}
    assert unpacked(tmp_path, zipped(GOOD | stray | others)) == {
        "corpus.jsonl",
        "queries.jsonl",
        "qrels/test.tsv",
        "qrels/train.tsv",
    }
    for name, content in GOOD.items():
        assert (tmp_path / "outer" / "folder" / name.removeprefix("tiny/")).read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "tiny/../../escaped",
        "/escaped",
        "tiny/qrels/../../../test.tsv",
        "..\\escaped",
        "C:\\escaped",
        "C:x",
    ],
)
def test_a_name_that_climbs_refuses_the_archive(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceFailed, match="leads out of its folder"):
        unpacked(tmp_path, zipped(GOOD | {name: b"x"}))
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("name", ["tiny/corpus.jsonl", "tiny/qrels", "tiny/other"])
def test_links_refuse_the_archive(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceFailed, match=f"{name}', which is a link"):
        unpacked(tmp_path, zipped(GOOD | {name: b"/etc/passwd"}, links=(name,)))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = zipped(GOOD | {"tiny/corpus.jsonl": b"0" * (64 << 20)})
    assert len(bomb) < 1 << 17
    with pytest.raises(SourceFailed, match=r"would unpack to 67,\d+,\d+ bytes, more than the 1,048,576 allowed"):
        unpacked(tmp_path, bomb)
    assert not list((tmp_path / "outer" / "folder").iterdir())


def test_a_member_that_declares_too_little_yields_no_more_than_that(tmp_path: Path) -> None:
    honest = zipped(GOOD | {"tiny/corpus.jsonl": b"0" * 100_000})
    size = (100_000).to_bytes(4, "little")
    with pytest.raises(SourceFailed, match="corrupt"):
        unpacked(tmp_path, honest.replace(size, (100).to_bytes(4, "little")))
    assert (tmp_path / "outer" / "folder" / "corpus.jsonl").stat().st_size <= 100


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({k: v for k, v in GOOD.items() if "corpus" not in k}, "lacks tiny/corpus.jsonl"),
        ({k: v for k, v in GOOD.items() if "qrels" not in k}, "lacks tiny/qrels/"),
        ({k.replace("tiny", "small"): v for k, v in GOOD.items()}, "lacks tiny/corpus.jsonl and tiny/queries.jsonl"),
        ({}, r"it holds nothing"),
    ],
)
def test_wrong_member_names(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    with pytest.raises(SourceFailed, match=words):
        unpacked(tmp_path, zipped(members))


def test_one_name_twice(tmp_path: Path) -> None:
    buffer = io.BytesIO(zipped(GOOD))
    with pytest.warns(UserWarning, match="Duplicate"), ZipFile(buffer, "a") as archive:
        archive.writestr("tiny/corpus.jsonl", b"other")
    with pytest.raises(SourceFailed, match="twice"):
        unpacked(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_archive(tmp_path: Path, keep: float) -> None:
    whole = zipped(GOOD)
    with pytest.raises(SourceFailed, match="archive is corrupt"):
        unpacked(tmp_path, whole[: int(keep if keep > 1 else keep * len(whole))])


def test_flipped_bytes_fail_the_crc(tmp_path: Path) -> None:
    content = bytearray(zipped(GOOD | {"tiny/corpus.jsonl": bytes(range(256)) * 40}))
    at = content.index(b"tiny/corpus.jsonl") + 40
    content[at] ^= 0xFF
    with pytest.raises(SourceFailed, match="archive is corrupt"):
        unpacked(tmp_path, bytes(content))


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    with pytest.raises(UserError, match=r"Unpacking tiny needs .* GB is free .* HARNESS_HOME"):
        unpacked(tmp_path, zipped(GOOD))
