"""``harness plan``: what it says before, and that what it says is what a benchmark then does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.cli.benchmark import command as benchmark
from harness.cli.plan import command as plan
from harness.embeddings.store import VectorStore
from harness.planning import speed
from harness.registry.manager import load_registry
from tests.conftest import BYTE_COUNTS

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

OURS = ("-m", "byte-counts", "--plugin", BYTE_COUNTS)
CLOSED = """
import socket, sys
def refuse(*_, **__): raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from harness.cli.main import main
from harness.planning import speed
speed.ENOUGH_SEARCH = speed.ENOUGH_INDEXING = 0.02
speed._scan = lambda device: {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
try:
    main(sys.argv[1:])
except SystemExit as end:
    loaded = [name for name in ("torch", "sentence_transformers", "transformers") if name in sys.modules]
    assert not loaded, loaded
    sys.exit(end.code)
"""


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measurements that take no time, and no weights but those under home."""
    monkeypatch.setattr(speed, "ENOUGH_ENCODING", 0.02)
    monkeypatch.setattr(speed, "ENOUGH_INDEXING", 0.02)
    scanned = {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    monkeypatch.setattr(speed, "_scan", lambda device: scanned)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))


def planned(harness, *words: object) -> dict:
    done = harness("plan", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def closed(home: Path, *words: object) -> dict:
    """The plan of a process that may open no socket and must not import torch."""
    line = [sys.executable, "-c", CLOSED, "plan", *map(str, words), "--json"]
    done = subprocess.run(line, env={**os.environ, "HARNESS_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_named_device_needs_neither_network_nor_torch_nor_weights(home: Path) -> None:
    found = closed(home, "-m", "mpnet", "-m", "minilm", "--suite", "beir18", "--device", "t4")
    totals = {row["model"]: row for row in found["totals"]}
    assert set(totals) == {"mpnet", "minilm", "all"}
    assert (totals["mpnet"]["cells"], totals["mpnet"]["known"]) == (29, 29)
    assert totals["mpnet"]["documents"] == 43_922_722
    # 6.70e9 tokens x 169.87e6 / (65e12 x 0.25), and an eighth of it for MiniLM's parameters
    assert totals["mpnet"]["seconds"]["encode"] / 3600 == pytest.approx(19.5, rel=0.02)
    assert totals["minilm"]["seconds"]["encode"] == pytest.approx(totals["mpnet"]["seconds"]["encode"] / 8, rel=1e-6)
    assert totals["mpnet"]["cost"] == pytest.approx(totals["mpnet"]["total_seconds"] / 3600 * 0.5)
    assert totals["all"]["text_bytes"] == totals["mpnet"]["text_bytes"]
    assert any("assumed utilisation of 0.25" in note for note in found["notes"])
    assert any("set yours with --price" in note for note in found["notes"])
    assert any(note.startswith("fever and climate-fever have nearly the same documents") for note in found["notes"])
    assert not (home / "datasets").exists()


def test_a_model_that_is_not_trained_yet_is_planned_like_its_base(home: Path) -> None:
    words = ("-m", "mpnet", "-m", "isotropy:run=seed42", "--suite", "beir18", "--device", "t4")
    base, trained, _ = closed(home, *words)["totals"]
    assert trained["seconds"]["encode"] == base["seconds"]["encode"]
    assert trained["stored_bytes"] / base["stored_bytes"] == pytest.approx(512 / 768)
    assert trained["seconds"]["geometry"] / base["seconds"]["geometry"] == pytest.approx((512 / 768) ** 2)
    assert trained["download_bytes"] < base["download_bytes"]  # datasets alone


def test_recorded_speed_is_used_without_torch(home: Path) -> None:
    key = load_registry([BYTE_COUNTS]).model("byte-counts").key
    VectorStore(home, key, "document").put("a" * 64, np.ones((2, 256), np.float32), 15.0, 30_000)
    found = closed(home, *OURS, "-d", "scifact", "--price", "3.6")
    [cell] = found["cells"]
    tokens = 5183 * 303 + 300 * 16
    assert cell["tokens"] == tokens
    assert cell["seconds"]["encode"] == pytest.approx(tokens / 2000)
    assert cell["stored_bytes"] == 5483 * 256 * 4
    assert cell["download_bytes"] == 2_816_079
    assert cell["cost"] == pytest.approx(cell["total_seconds"] / 1000)
    assert any("2,000 tokens a second, recorded" in note for note in found["notes"])


def test_missing_weights_are_named_not_guessed(harness) -> None:
    found = planned(harness, "-m", "mpnet", "-d", "scifact")
    [cell] = found["cells"]
    assert cell["note"] == "not measured: harness fetch mpnet"
    assert cell["seconds"] is None
    assert cell["stored_bytes"] == 5483 * 768 * 4
    assert (found["totals"][0]["known"], found["totals"][0]["cells"]) == (0, 1)
    assert found["totals"][0]["download_bytes"] == 2_816_079 + 439_000_000


def test_a_folder_is_counted_and_afterwards_compared_with_what_it_took(harness, toy: Path) -> None:
    words = (*OURS, "-m", "bm25", "-d", toy)
    before = planned(harness, *words)
    assert [cell["status"] for cell in before["cells"]] == ["planned", "planned"]
    assert {cell["documents"] for cell in before["cells"]} == {12}
    assert before["totals"][-1]["download_bytes"] == before["totals"][-1]["text_bytes"] == 0
    assert not Path("results").exists()
    assert harness("benchmark", *words).code == 0
    after = planned(harness, *words)
    for cell, earlier in zip(after["cells"], before["cells"], strict=True):
        result = json.loads(Path("results", cell["model"], "toy", "result.json").read_text())
        spent = {name: s for name, s in result["seconds"].items() if name != "measure"}
        assert cell["status"] == "finished"
        assert sum(cell["measured"].values()) == pytest.approx(sum(spent.values()))
        assert cell["ratio"] == pytest.approx(sum(spent.values()) / cell["total_seconds"])
        assert cell["seconds"].keys() == earlier["seconds"].keys()
    assert [(row["cells"], row["total_seconds"]) for row in after["totals"]] == [(0, 0), (0, 0), (0, 0)]
    table = harness("plan", *words).out
    assert "took" in table
    assert "total, 0 of 0 known" in table
    forced = planned(harness, *words, "--force")
    assert [cell["status"] for cell in forced["cells"]] == ["planned", "planned"]
    other = planned(harness, *words, "--measures", "nDCG@5")
    assert {cell["status"] for cell in other["cells"]} == {"finished"}  # it is measured from the stored run
    deeper = planned(harness, *words, "--depth", "5000")
    assert {cell["status"] for cell in deeper["cells"]} == {"planned"}


LETTERS = """
import numpy as np, scipy.sparse
from harness import ModelSpec, hookimpl

class Letters:
    dim = 256
    def encode(self, texts, *, role):
        counts = [np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256) for text in texts]
        return scipy.sparse.csr_array(np.array(counts, np.float32))

def load(options):
    return Letters()

@hookimpl
def harness_models():
    yield ModelSpec("letters", "sparse", load=f"{__name__}:load", summary="counts of letters")
"""


def test_a_sparse_model_is_planned_and_afterwards_compared(harness, toy: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "letters.py"
    plugin.write_text(LETTERS)
    words = ("-m", "letters", "--plugin", plugin, "-d", toy)
    [cell] = planned(harness, *words)["cells"]
    assert cell["seconds"].keys() == {"encode", "search"}
    assert min(cell["seconds"].values()) > 0
    assert 100 < cell["stored_bytes"] / 16 < 230  # texts of the sample have 12 to 27 letters, of 8 bytes each
    assert harness("benchmark", *words).code == 0
    [after] = planned(harness, *words)["cells"]
    assert after["status"] == "finished"
    assert after["ratio"] > 0
    [again] = planned(harness, *words, "--results", "elsewhere")["cells"]
    assert (again["seconds"]["encode"], again["stored_bytes"]) == (0, 0)


WORDS = """
import numpy as np
from harness import ModelSpec, hookimpl

class Words:
    dim = 16
    def encode(self, texts, *, role):
        each = [[np.frombuffer(word.encode(), np.uint8) % 16 for word in text.split() or ["-"]] for text in texts]
        return [np.array([np.bincount(word, minlength=16) for word in words], np.float32) for words in each]

def load(options):
    return Words()

@hookimpl
def harness_models():
    yield ModelSpec("words", "multivector", load=f"{__name__}:load", summary="the number of words")
    yield ModelSpec("fourth", "pooling", load=f"{__name__}:load_fourth", summary="every fourth vector")

class Fourth:
    def pool(self, vectors):
        return vectors[::4]

def load_fourth(options):
    return Fourth()
"""


def test_a_multi_vector_model_is_planned_and_afterwards_compared(
    harness, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, less in (("ENOUGH_ENCODING", 0.1), ("REPEATS", 1), ("RANKED_SHARD", 4)):
        monkeypatch.setattr(f"harness.planning.speed.{name}", less)
    plugin = tmp_path / "words.py"
    plugin.write_text(WORDS)
    words = ("-m", "words", "--plugin", plugin, "-d", toy)
    [cell] = planned(harness, *words)["cells"]
    assert cell["seconds"].keys() == {"encode", "search"}
    assert 64 * 70 < cell["stored_bytes"] / 16 < 64 * 90 + 20  # 80 words each in the mean, of 64 bytes
    assert harness("benchmark", *words).code == 0
    [after] = planned(harness, *words)["cells"]
    assert after["status"] == "finished"
    assert after["ratio"] > 0

    pool = ("-m", "fourth(words)", "--plugin", plugin, "-d", toy)
    [pooled] = planned(harness, *pool)["cells"]
    assert list(pooled["seconds"]) == ["encode", "transform", "search"]
    assert pooled["seconds"]["encode"] == 0
    assert pooled["seconds"]["transform"] > 0
    # one of four of the vectors of texts with 10, 99, 47 and 136 words, and where each begins and whether it was cut
    assert 0 <= pooled["stored_bytes"] / 12 - 64 * (3 + 25 + 12 + 34) / 4 < 20
    assert harness("benchmark", *pool).code == 0
    [done] = planned(harness, *pool)["cells"]
    assert done["status"] == "finished"
    [again] = planned(harness, *pool, "--results", "elsewhere")["cells"]
    assert (again["seconds"]["encode"], again["seconds"]["transform"], again["stored_bytes"]) == (0, 0, 0)


def test_transforms_are_planned_from_their_member_and_afterwards_compared(harness, toy: Path) -> None:
    """256 dimensions mapped to 16, of 12 documents and 4 queries, at 1 GFLOP/s."""
    words = ("-m", "pca(byte-counts):dim=16", "-m", "center(pca(byte-counts):dim=16)", "--plugin", BYTE_COUNTS)
    first, second = planned(harness, *words, "-d", toy)["cells"]
    assert first["seconds"]["encode"] > second["seconds"]["encode"] == 0  # encoded once
    for cell in (first, second):
        assert cell["seconds"]["transform"] == pytest.approx(4 * 256 * (12 * 256 + 16 * 16) / 1e9)
        assert cell["seconds"]["geometry"] == pytest.approx(4 * 12 * 16**2 / 1e9)
    assert (first["stored_bytes"], second["stored_bytes"]) == (16 * 4 * (256 + 16), 16 * 4 * 16)
    assert harness("benchmark", *OURS, "-d", toy).code == 0
    based = planned(harness, *words, "-d", toy)["cells"][0]
    assert (based["seconds"]["encode"], based["stored_bytes"]) == (0, 16 * 4 * 16)
    assert harness("benchmark", *words, "-d", toy).code == 0
    after = planned(harness, *words, "-d", toy)["cells"]
    assert {cell["status"] for cell in after} == {"finished"}
    assert min(cell["ratio"] for cell in after) > 0
    for again in planned(harness, *words, "-d", toy, "--results", "elsewhere")["cells"]:
        assert (again["seconds"]["encode"], again["seconds"]["transform"], again["stored_bytes"]) == (0, 0, 0)


def test_a_fusion_is_planned_from_its_members_and_afterwards_compared(harness, toy: Path) -> None:
    fusion = "rrf(bm25,byte-counts,center(byte-counts))"
    words = (*OURS, "-m", fusion, "-d", toy)
    before = planned(harness, *words)
    dense, fused = before["cells"]
    assert list(fused["seconds"]) == ["index", "search", "encode", "geometry", "transform"]
    assert dense["seconds"]["encode"] > fused["seconds"]["encode"] == 0  # in the first row
    assert fused["seconds"]["index"] > 0
    assert fused["seconds"]["transform"] == pytest.approx(4 * 256 * (12 * 256 + 16 * 256) / 1e9)
    assert fused["seconds"]["geometry"] == pytest.approx(2 * dense["seconds"]["geometry"])
    index = planned(harness, "-m", "bm25", "-d", toy)["cells"][0]["stored_bytes"]
    assert fused["stored_bytes"] == index + 16 * 256 * 4  # the vectors of the transform
    found = planned(harness, "-m", fusion, "--plugin", BYTE_COUNTS, "-d", toy)
    [alone], pace = found["cells"], found["paces"][0]["members"][1]["encoding"]["tokens_per_second"]
    assert alone["seconds"]["encode"] == pytest.approx(alone["tokens"] / pace)
    assert alone["stored_bytes"] == fused["stored_bytes"] + dense["stored_bytes"]
    notes = [note for note in before["notes"] if "a second" in note]
    assert [note.split(":")[0] for note in notes] == ["byte-counts", "bm25", "center(byte-counts)"]
    assert harness("benchmark", *words).code == 0
    found = planned(harness, *words)
    (_, after), members = found["cells"], found["paces"][1]["members"][1:]
    assert after["status"] == "finished"
    result = json.loads(next(Path("results").glob("rrf*/toy/result.json")).read_text())
    spent = {name: s for name, s in result["seconds"].items() if "/" not in name and name not in ("measure", "fuse")}
    assert sum(after["measured"].values()) == pytest.approx(sum(spent.values()))
    assert after["ratio"] == pytest.approx(sum(spent.values()) / after["total_seconds"])
    both = sum(after["tokens"] / member["encoding"]["tokens_per_second"] for member in members)
    assert after["seconds"]["encode"] == pytest.approx(both)  # the result, too, has those of each member
    [again] = planned(harness, "-m", fusion, "--plugin", BYTE_COUNTS, "-d", toy, "--results", "elsewhere")["cells"]
    made = [again["seconds"][phase] for phase in ("index", "encode", "transform")]
    assert (made, again["stored_bytes"]) == ([0, 0, 0], 0)


def test_members_of_a_fusion_whose_weights_are_missing_are_named(harness) -> None:
    words = ("-m", "rrf(bm25,minilm)", "-m", "linear(mpnet,minilm:truncate_dim=64)", "-d", "scifact")
    found = planned(harness, *words)
    assert [cell["note"] for cell in found["cells"]] == [
        "not measured: harness fetch minilm",
        "not measured: harness fetch mpnet; not measured: harness fetch minilm",
    ]
    assert [cell["seconds"] for cell in found["cells"]] == [None, None]
    first, second, every = found["totals"]
    weights = first["download_bytes"] - 2_816_079
    assert weights > 50e6
    assert second["download_bytes"] == 2_816_079 + 439_000_000 + weights
    assert every["download_bytes"] == second["download_bytes"]  # MiniLM once
    assert found["cells"][1]["stored_bytes"] == 5483 * 768 * 4  # its vectors are those of the first row
    t4 = planned(harness, *words, "--device", "t4", "--price", "3600")
    alone = planned(harness, "-m", "minilm", "-m", "mpnet", "-d", "scifact", "--device", "t4")["cells"]
    assert t4["cells"][0]["seconds"]["encode"] == pytest.approx(alone[0]["seconds"]["encode"])
    assert t4["cells"][1]["seconds"]["encode"] == pytest.approx(alone[1]["seconds"]["encode"])
    assert t4["cells"][0]["cost"] == pytest.approx(t4["cells"][0]["total_seconds"])


def test_a_reranker_is_planned_and_afterwards_compared(
    harness, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers", reason="cross-encoders need the dense extra")
    from tests.cross_encoders import write_cross_encoder

    folder = write_cross_encoder(tmp_path / "cross", {"bread", "planet", "blood"})
    model = f"rerank(byte-counts):model={folder},depth=5"
    words = ("-m", model, "--plugin", BYTE_COUNTS, "-d", toy)
    found = planned(harness, *words)
    [cell] = found["cells"]
    [pace] = found["paces"]
    # 4 queries, 5 of 12 documents each; every pair is longer than the 24 tokens that are read
    each = sum(min(24, tokens(toy, "queries") + 2 + 0.21 * length) for length in lengths(toy, "corpus")) / 12
    assert cell["seconds"]["rerank"] == pytest.approx(20 * each / pace["scoring"]["tokens_per_second"])
    assert cell["stored_bytes"] == 16 * 256 * 4 + 20 * 4
    assert (pace["scoring"]["origin"], pace["depth"], pace["longest"]) == ("measured", 5, 24)
    assert any(
        "tokens of pairs a second, measured" in note and "5 documents a query" in note for note in found["notes"]
    )
    assert harness("benchmark", *words).code == 0
    [after] = planned(harness, *words)["cells"]
    result = json.loads(next(Path("results").glob("rerank*/toy/result.json")).read_text())
    assert after["measured"]["rerank"] == pytest.approx(result["seconds"]["rerank"])
    assert after["ratio"] > 0
    monkeypatch.setattr(speed, "RECORDED_TOKENS", result["counts"]["rerank_tokens"])
    recorded = planned(harness, *words, "--results", "elsewhere")
    assert recorded["paces"][0]["scoring"]["origin"] == "recorded"
    assert recorded["cells"][0]["seconds"]["encode"] == 0


def lengths(folder: Path, name: str) -> list[int]:
    """Characters of the texts in a file, with the title and a space before a document."""
    lines = map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines())
    return [len(f"{line.get('title', '')} {line['text']}".strip()) for line in lines]


def tokens(folder: Path, name: str) -> float:
    """Their estimated tokens in the mean."""
    found = lengths(folder, name)
    return round(sum(2 + 0.21 * length for length in found)) / len(found)


def test_truncated_vectors_are_those_of_the_whole_model(harness, toy: Path) -> None:
    whole, cut = planned(harness, *OURS, "-m", "byte-counts:truncate_dim=64", "-d", toy)["cells"]
    assert (whole["stored_bytes"], cut["stored_bytes"], cut["seconds"]["encode"]) == (16 * 256 * 4, 0, 0)
    assert cut["seconds"]["geometry"] == pytest.approx(4 * 12 * 64**2 / 1e9)
    [alone] = planned(harness, "-m", "byte-counts:truncate_dim=64", "--plugin", BYTE_COUNTS, "-d", toy)["cells"]
    assert alone["stored_bytes"] == 16 * 256 * 4
    assert alone["seconds"]["encode"] > 0


def test_members_whose_weights_are_missing_are_named(harness) -> None:
    [cell] = planned(harness, "-m", "pca(mpnet:truncate_dim=512):dim=128", "-d", "scifact")["cells"]
    assert cell["note"] == "not measured: harness fetch mpnet"
    assert cell["seconds"] is None
    assert cell["stored_bytes"] == 5483 * 4 * (768 + 128)
    words = ("-m", "pca(mpnet:max_seq_length=80):dim=512", "-m", "mpnet:max_seq_length=80", "-d", "scifact")
    mapped, _ = planned(harness, *words, "--device", "t4")["cells"]
    assert mapped["seconds"]["encode"] == pytest.approx((5183 * 80 + 300 * 16) * 169.87e6 / (65e12 * 0.25), rel=1e-4)
    assert mapped["seconds"]["transform"] == pytest.approx(4 * 768 * (5183 * 768 + 5483 * 512) / 1e9)


def test_stored_vectors_and_indexes_are_not_made_again(harness, toy: Path) -> None:
    words = (*OURS, "-m", "bm25", "-d", toy)
    before = planned(harness, *words)["cells"]
    assert harness("benchmark", *words).code == 0
    dense, lexical = planned(harness, *words, "--results", "elsewhere")["cells"]
    assert before[0]["seconds"]["encode"] > dense["seconds"]["encode"] == 0
    assert before[1]["seconds"]["index"] > lexical["seconds"]["index"] == 0
    assert dense["stored_bytes"] == lexical["stored_bytes"] == 0
    assert dense["seconds"]["search"] > 0
    shard = next(Path(os.environ["HARNESS_HOME"], "vectors").glob("*/document/*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1])
    dense, _ = planned(harness, *words, "--results", "elsewhere")["cells"]
    assert dense["seconds"]["encode"] > 0  # a damaged shard is as good as absent


def test_a_result_of_another_machine_gives_no_ratio(harness, toy: Path) -> None:
    words = ("-m", "bm25", "-d", toy)
    assert harness("benchmark", *words).code == 0
    file = Path("results/bm25/toy/result.json")
    result = json.loads(file.read_text())
    result["manifest"]["run"]["machine"]["processor"] = "another"
    del result["checksum"]  # which is of what it said before
    file.write_text(json.dumps(result))
    [cell] = planned(harness, *words)["cells"]
    assert cell["status"] == "finished"
    assert cell["ratio"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-m bm25 -d scifact --device h10", ["no device 'h10'", "did you mean h100"]),
        ("-m bm2 -d scifact", ["no model 'bm2'", "did you mean bm25"]),
        ("-m bm25 -d scifac", ["no dataset 'scifac'", "did you mean scifact"]),
        ("-m bm25 --suite beir81", ["no suite 'beir81'", "beir18"]),
        ("-m bm25", ["No dataset is named"]),
        ("-d scifact", ["No model is named"]),
        ("-m bm25 -d scifact --price -1", ["--price", "harness plan --help"]),
        ("-m bm25 -d ./nope", ["no folder nope"]),
    ],
)
def test_mistakes_end_with_a_sentence(harness, words: str, said: list[str]) -> None:
    done = harness("plan", *words.split())
    assert done.code == 2
    assert all(part in done.err for part in said), done.err
    assert done.out == ""
    assert "Traceback" not in done.err


def test_it_takes_whatever_a_benchmark_takes() -> None:
    names = {parameter.name for parameter in plan.params}
    assert {parameter.name for parameter in benchmark.params} <= names
    assert {"device", "price", "storage"} <= names
