"""Whatever bytes a parser is given: a good result or one sentence; never a traceback, a hang or a file elsewhere."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import UserError
from harness.download.hub import PATH
from harness.metrics.qrels import read_qrels
from harness.metrics.ranking import read_run
from harness.registry.manager import load_registry
from harness.registry.parser import parse
from harness.results.store import slug
from harness.storage.safe_load import parse_array, parse_json, parse_toml, read_json
from harness_plugins.model_folder.files import facts, incomplete, module_folders
from tests.conftest import ROOT, Done
from tests.robustness import fuzz
from tests.robustness.fuzz_seeds import (
    FILE,
    KILT,
    MODULES,
    REPOSITORY,
    RESULT,
    RUN_RECORD,
    dumped,
    npy,
    safetensors,
    spoilt,
)
from tests.robustness.fuzz_targets import TARGETS

SLOW = {"result.json": 6, "per_query": 4}
"""Targets that read a whole results folder -> how many examples they get."""
DEEP = b"[" * 1_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_a_result_or_a_sentence(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=SLOW.get(name, 15),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=200), st.integers(0, 2**32).map(lambda n: spoilt(_chosen(name, n), Random(n)))))
    @example(b"")
    @example(DEEP)
    @example(b"a=" + DEEP[:100_000])
    @example(b"\xff\xfe\x00")
    def one(data: bytes) -> None:
        assert fuzz.examine(name, data) == ""

    for data in target.seeds:
        assert fuzz.examine(name, data) == ""
    one()


def _chosen(name: str, number: int) -> bytes:
    seeds = TARGETS[name].seeds
    return seeds[number % len(seeds)]


def _with(sound: dict[str, Any], **changes: Any) -> bytes:
    return dumped({**sound, **changes})


FOUND = [
    ("dataset.toml", b'split = "' + b"x" * 300 + b'"'),
    ("dataset.toml", b"a=" + b"[" * 5000),
    ("suite", b'datasets = ["~nobody/x"]'),
    ("suite", b"a = " + b"9" * 5000),
    ("claims", b".".join([b"a"] * 100_000) + b"=1"),
    ("claims", b"x = 1\na = [\n" + b"1,\n" * 60_000 + b"]"),
    ("result.json", _with(RESULT, command=5)),
    ("result.json", _with(RESULT, command=None)),
    ("result.json", _with(RESULT, seconds={"encode": 10**299})),
    ("result.json", _with(RESULT, geometry={"documents": {"isotropy": float("nan")}})),
    ("result.json", _with(RESULT, model="\ud800")),
    ("result.json", _with(RESULT, manifest={**RESULT["manifest"], "run": {"finished": "2025-0T00-110:00:09"}})),
    ("result.json", _with(RESULT, manifest={**RESULT["manifest"], "run": {"finished": "0001-01-01T00:00:00"}})),
    ("result.json", _with(RESULT, manifest={**RESULT["manifest"], "run": {"finished": 5}})),
    ("result.json", DEEP),
    ("per_query", b""),
    ("per_query", b"PAR1"),
    ("shard", b""),
    ("shard", npy().replace(b"(3, 2)", b"(3, 2 ")),
    ("npy", npy().replace(b"(3, 2)", b"(((((")),
    ("modules.json", dumped([{**MODULES[0], "path": "/"}])),
    ("modules.json", dumped([{**MODULES[0], "path": "\0"}])),
    ("modules.json", dumped({"a": 1})),
    ("safetensors", (2**63).to_bytes(8, "little") + b"{}"),
    ("safetensors", safetensors([1])),
    ("safetensors", safetensors({"w": {"shape": ["a", None]}})),
    ("run.json", _with(RUN_RECORD, trained_on=[{"": None}])),
    ("run.json", _with(RUN_RECORD, trained_on=0)),
    ("run.json", _with(RUN_RECORD, trained_on=None)),
    ("run.json", _with(RUN_RECORD, base="\ud800")),
    ("run.json", _with(RUN_RECORD, base={"path": "."})),
    ("run.json", _with(RUN_RECORD, base={"path": "\0"})),
    ("run.json", _with(RUN_RECORD, identity=[1], settings=3)),
    ("hub", _with(REPOSITORY, siblings=[{"rfilename": "", "size": 1}])),
    ("hub", _with(REPOSITORY, siblings=[{"rfilename": 5, "size": 1}])),
    ("hub", _with(REPOSITORY, siblings=[{"rfilename": "modules.json", "size": 1e400}])),
    ("hub", _with(REPOSITORY, siblings=[{**FILE, "lfs": {"sha256": 7, "size": 1, "pointerSize": 1}}])),
    ("mteb", b'{"task_name": "SciFact", "dataset_revision": NaN, "scores": {"test": [{"ndcg_at_10": 0.5}]}}'),
    ("mteb", b'{"task_name": "", "scores": {"test": [{"ndcg_at_10": 0.5}]}}'),
    ("kilt", b'{"id": ""}'),
    ("kilt", b'{"id": "", "output": {}}'),
    ("expression", b"st:~\ra/~\ra/b@c"),
    ("expression", b"x" * 5000),
    ("expression", b"rrf(" * 2000 + b")" * 2000),
    ("expression", b"rerank(bm25):model=x,depth=" + b"9" * 30),
    ("qrels", b"q1 0 d1 " + b"9" * 4000),
    ("qrels", b"q1 0 d\x001 1"),
    ("run", b"q1 Q0 d\x001 1 1 t"),
    ("corpus", b'{"_id": "a\\u0000", "text": ""}'),
    ("corpus", b'{"_id": ' + b"9" * 5000 + b', "text": ""}'),
    ("gated", DEEP),
    ("gated", b"BZhi"),
    ("triplets", DEEP),
    ("trainer_state.json", b'{"best_global_step": "../x"}'),
    ("value", DEEP),
]


@pytest.mark.parametrize("number", range(len(FOUND)))
def test_what_was_found_stays_mended(number: int) -> None:
    assert fuzz.examine(*FOUND[number]) == ""


def test_a_finding_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse_badly(folder: Path, data: bytes) -> object:
        (folder.parent / "outside").write_bytes(data)
        return data.index(b"s")

    monkeypatch.setitem(TARGETS, "bad", TARGETS["kilt"]._replace(parse=parse_badly))
    assert fuzz.examine("bad", b"s") == "left outside outside"
    assert fuzz.examine("bad", b"").startswith("ValueError")


def test_json_is_json_and_nothing_more() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "\\u00e9\\ud83d\\ude00"], "a": 3}') == {"a": 3}
    assert parse_json('["\\ud800x", "\\ud83d\\ude00"]') == ["\ufffdx", "😀"]
    assert parse_json("9" * 300) == int("9" * 300)
    for text in ("NaN", "-Infinity", "1e999", "9" * 301, "[" * 100_000, '{"a":' * 100_000, b"\xed\xa0\x80", "", "[1,]"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_the_depth_of_json_does_not_depend_on_python(opened: str, closed: str) -> None:
    """Python 3.13 parses 5,000 levels and fails where they are gone through; 3.11 takes what its stack has left."""
    for depth in (101, 500, 5000):
        with pytest.raises(ValueError, match=r"deep$"):
            parse_json(opened * depth + "0" + closed * depth)
    assert parse_json(opened * 100 + "0" + closed * 100)
    assert parse_json(json.dumps(["[" * 200, [{}] * 200])) == ["[" * 200, [{}] * 200]


def test_toml_faults_are_one_kind_of_error() -> None:
    for text in ("a = " + "[" * 10_000, "a = " + "9" * 5000, "a = 1979-99-99", "a"):
        with pytest.raises(ValueError, match=r".") as told:
            parse_toml(text)
        assert type(told.value).__name__ == "TOMLDecodeError"


def test_arrays_are_never_unpickled(tmp_path: Path, harness: Callable[..., Done]) -> None:
    import numpy as np

    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    np.save(tmp_path / "a.npy", np.array([Bomb()], object), allow_pickle=True)
    done = harness("isotropy", tmp_path / "a.npy")
    assert (done.code, done.err.count("\n")) == (2, 1)
    with pytest.raises(ValueError, match="Object"):
        parse_array((tmp_path / "a.npy").read_bytes())
    assert not marker.exists()


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read_json(path)


def test_a_checkpoint_leads_nowhere_else(tmp_path: Path) -> None:
    for path in ("/", "../x", "a/../../x"):
        (tmp_path / "modules.json").write_bytes(dumped([{**MODULES[0], "path": path}]))
        with pytest.raises(UserError, match="leads out of the folder"):
            module_folders(tmp_path)
    (tmp_path / "modules.json").write_bytes(dumped(MODULES[:1]))
    (tmp_path / "router_config.json").write_bytes(dumped({"types": {"..": "sentence_transformers.models.Dense"}}))
    with pytest.raises(UserError, match="leads out of the folder"):
        module_folders(tmp_path)
    loop = {"types": {".": "sentence_transformers.models.Router"}}
    (tmp_path / "router_config.json").write_bytes(dumped(loop))
    with pytest.raises(UserError, match="more than"):
        module_folders(tmp_path)
    assert "leads" in incomplete(tmp_path) or incomplete(tmp_path)
    with pytest.raises(UserError):
        facts({"path": str(tmp_path)})


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../x", "a/..", ".", "..", "a//b", "a/", "a\\b", "a\0b", "x" * 201]
)
def test_paths_that_a_hub_may_not_send(name: str) -> None:
    assert not PATH.fullmatch(name)


def test_paths_that_a_hub_sends() -> None:
    assert all(PATH.fullmatch(name) for name in ("a", ".gitattributes", "1_Pooling/config.json", "..a/b", "é.json"))


@pytest.mark.parametrize(
    "label", ["", ".", "..", "../../x", "/etc/passwd", "a/b", "\0", "\ud800", "\x1b[2J", "x" * 5000]
)
def test_labels_are_one_folder_of_their_own(label: str, tmp_path: Path) -> None:
    name = slug(label)
    assert name
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name.encode()) < 255
    (tmp_path / name).mkdir()
    assert (tmp_path / name).parent.resolve() == tmp_path.resolve()
    assert slug(label) != slug(label + "x")


def test_options_are_numbers_that_fit() -> None:
    registry = load_registry()
    for text in (
        "bm25:k1=nan",
        "bm25:k1=1e999",
        f"rerank(bm25):model=x,depth={10**30}",
        f"rrf(bm25,bm25:b=0):k={10**400}",
    ):
        with pytest.raises(UserError):
            registry.model(text)
    with pytest.raises(UserError, match="parentheses"):
        parse("a(" * 1000 + ")" * 1000)


LONG_LINE = """
import resource, sys
from pathlib import Path
from harness.cli.main import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), used + (1 << 29)))
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("kind", ["run", "qrels", "kilt", "corpus", "result.json", "suite"])
def test_a_file_of_a_gigabyte_without_a_line_end(kind: str, tmp_path: Path) -> None:
    """Half a gigabyte of memory is enough to say that it will not do; the file is sparse."""
    huge, sound = tmp_path / "huge", tmp_path / "sound"
    sound.write_text("q1 Q0 d1 1 1.0 t\n" if kind == "qrels" else "q1 0 d1 1\n")
    words: list[object] = []
    match kind:
        case "run" | "qrels":
            other = "qrels" if kind == "run" else "run"
            words = ["evaluate", f"--{kind}", huge, f"--{other}", sound]
        case "kilt":
            sound.write_bytes(dumped(KILT))
            words = ["evaluate", "--run", huge, "--kilt", sound]
        case "corpus":
            (tmp_path / "set" / "qrels").mkdir(parents=True)
            (tmp_path / "set" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
            (tmp_path / "set" / "queries.jsonl").write_text('{"_id": "q1", "text": "a"}\n')
            huge, words = tmp_path / "set" / "corpus.jsonl", ["doctor", tmp_path / "set"]
        case "result.json":
            (tmp_path / "results" / "m" / "d").mkdir(parents=True)
            huge, words = (
                tmp_path / "results" / "m" / "d" / "result.json",
                ["report", "--results", tmp_path / "results"],
            )
        case "suite":
            huge = tmp_path / "s.toml"
            words = ["benchmark", "-m", "bm25", "--suite", huge]
    with huge.open("wb") as stream:
        stream.write(b"x")
        stream.truncate(1 << 30)
    environment = {**os.environ, "HARNESS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", LONG_LINE, *map(str, words)],
        **{"capture_output": True, "text": True, "timeout": 120, "cwd": ROOT, "env": environment, "check": False},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "bytes" in done.stderr or "NUL" in done.stderr


def test_a_packed_bomb_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    from harness.datasets.unpacked import unpacked

    monkeypatch.setattr("harness.storage.safe_load.LEAST", 1 << 20)
    bomb = tmp_path / "corpus.jsonl.gz"
    with gzip.open(bomb, "wb", compresslevel=9) as stream:
        for _ in range(20):
            stream.write(bytes(1 << 20))
    with pytest.raises(UserError, match="times its size"), unpacked(bomb, tmp_path / "cache"):
        pass
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size]


def test_the_campaign_runs_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    before = resource.getrlimit(resource.RLIMIT_AS)
    fuzz.campaign("kilt", 0.3, tmp_path)
    told = json.loads((tmp_path / "kilt.json").read_text())
    assert told["runs"] > 5
    assert told["found"] == {}
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_the_input_that_ends_a_process_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)

    def end(folder: Path, data: bytes) -> object:
        raise SystemExit if data == b"" else UserError("It is not empty.")

    monkeypatch.setitem(TARGETS, "ends", TARGETS["kilt"]._replace(parse=end))
    with pytest.raises(SystemExit):
        fuzz.campaign("ends", 1, tmp_path)
    fuzz.keep_last("ends", tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "found" / "ends").iterdir()] == [b""]


def test_readers_say_the_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"q1 Q0 d1 1 1 t\nq1 Q0 d\x002 2 1 t\n")
    with pytest.raises(UserError, match=r"Line 2 .* NUL"):
        list(read_run(tmp_path / "run"))
    (tmp_path / "qrels").write_bytes(b"q1 0 d1 1\nq1 0 d2 %d\n" % 2**31)
    with pytest.raises(UserError, match=r"Line 2 .* 32 bits"):
        read_qrels(tmp_path / "qrels")
