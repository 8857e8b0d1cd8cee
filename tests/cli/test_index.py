"""Approximate indexes through the command line: rows beside the exact one, and files that plain FAISS serves."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from harness.cli.main import main
from tests.cli.test_benchmark import cells
from tests.conftest import BYTE_COUNTS, ROOT

faiss = pytest.importorskip("faiss", reason="approximate indexes need faiss (the dense extra)")

BYTES = ("--plugin", BYTE_COUNTS, "-m", "byte-counts")


def run_of(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in gzip.decompress((folder / "run.trec.gz").read_bytes()).decode().splitlines():
        query, _, document, *_ = line.split()
        found.setdefault(query, []).append(document)
    return found


def test_every_index_is_a_row_beside_the_exact_one(harness, toy) -> None:
    words = ("benchmark", *BYTES, "-m", "bm25", "-d", toy, "--index", "Flat", "--index", "IVF3,Flat")
    words = (*words, "--index-search", "", "--index-search", "nprobe=1")
    done = harness(*words, "--json")
    assert done.code == 0, done.err
    assert "note: --index is for dense models; bm25 is searched without it" in done.err
    told = {cell["model"]: cell for cell in json.loads(done.out)}
    assert [*told] == ["byte-counts", "byte-counts|Flat", "byte-counts|IVF3,Flat|nprobe=1", "bm25"]
    exact, flat, coarse = (told[label] for label in [*told][:3])
    assert "index" not in exact
    assert "index" not in told["bm25"]
    stored = cells(Path("results"))
    folders = {json.loads(f.read_text())["model"]: f.parent for f in Path("results").glob("*/*/result.json")}
    assert run_of(folders["byte-counts|Flat"]) == run_of(folders["byte-counts"])
    assert flat["index"]["recall@10"] == flat["index"]["served"]["recall@10"] == 1.0
    assert set(flat["index"]["cost"].values()) == {0.0}
    true, got = run_of(folders["byte-counts"]), run_of(folders["byte-counts|IVF3,Flat|nprobe=1"])
    own = np.mean([len({*got[query][:10]} & {*true[query][:10]}) / 10 for query in true])
    assert coarse["index"]["recall@10"] == pytest.approx(own)
    assert own < 1
    rows = [line.split("\t") for line in (toy / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    qrels = [ir_measures.Qrel(q, d, int(grade)) for q, d, grade in rows]
    scores = []
    for ranking in (true, got):
        run = [ir_measures.ScoredDoc(q, d, -place) for q, docs in ranking.items() for place, d in enumerate(docs)]
        scores.append(ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10])
    assert coarse["index"]["cost"]["nDCG@10"] == pytest.approx(scores[0] - scores[1], abs=1e-9)
    assert coarse["index"]["served"]["cost"]["nDCG@10"] == pytest.approx(scores[0] - scores[1], abs=1e-9)
    assert coarse["index"]["exact"]["nDCG@10"] == exact["measures"]["nDCG@10"]
    assert coarse["index"]["vectors_bytes"] == 12 * 256 * 4
    key = coarse["manifest"]["index"]["key"]
    assert coarse["index"]["bytes"] == (Path("home/faiss") / key / "index.faiss").stat().st_size
    assert coarse["index"]["train_sample"] == 12
    assert coarse["manifest"]["seeds"] == {"index": 0}
    assert coarse["manifest"]["key"] != exact["manifest"]["key"]
    assert coarse["geometry"]["documents"] == exact["geometry"]["documents"]
    for speeds in (coarse["index"]["queries_per_second"], coarse["index"]["served"]["queries_per_second"]):
        assert min(speeds.values()) > 0
    assert set(stored) == {(model, "toy") for model in told}
    again = json.loads(harness(*words, "--json").out)
    assert {cell["cell"] for cell in again} == {"cached"}
    assert (
        json.loads(harness("benchmark", *BYTES, "-d", toy, "--index", "IVF3,Flat", "--json").out)[-1]["cell"] == "ok"
    )  # other probes
    report = harness("report").out
    assert "## Approximate indexes" in report
    assert "byte-counts\\|IVF3,Flat\\|nprobe=1" in report
    assert "index.served.recall@10" in harness("report", "--format", "csv").out.splitlines()[0]


def test_a_querys_own_document_is_left_out_here_too(harness, toy) -> None:
    (toy / "queries.jsonl").write_text('{"_id": "rust", "text": "Rust is a programming language with ownership"}\n')
    (toy / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nrust\tpython\t1\n")
    done = harness("benchmark", *BYTES, "-d", toy, "--exclude-self", "--index", "Flat", "--json")
    exact, flat = json.loads(done.out)
    assert flat["measures"] == exact["measures"]
    assert flat["index"]["served"]["nDCG@10"] == exact["measures"]["nDCG@10"]
    assert flat["index"]["recall@10"] == 1.0


def test_a_failed_exact_cell_fails_its_indexes_and_no_more(harness, toy, tmp_path: Path) -> None:
    plugin = tmp_path / "unlucky.py"
    plugin.write_text(BYTE_COUNTS.read_text().replace("return ByteCounts()", "raise OSError('no luck')"))
    done = harness("benchmark", "--plugin", plugin, "-m", "byte-counts", "-m", "bm25", "-d", toy, "--index", "Flat")
    assert done.code == 1
    assert "failed: byte-counts on toy: plug-in unlucky" in done.err
    assert "failed: byte-counts|Flat on toy: the exact search it is to be compared with failed" in done.err
    assert cells(Path("results"))["bm25", "toy"]["status"] == "ok"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--index", "Bogus"], "FAISS makes no index 'Bogus' (could not parse index string Bogus)"),
        (["--index", "IVF64,Flat"], "has 64 inverted lists, but toy has 12 vectors"),
        (["--index", "PQ7"], "'PQ7' of 256 dimensions"),
        (["--index", "PQ8np"], "learns 256 centroids"),
        (["--index", "Flat", "--index-search", "nprobe=3"], "could not set parameter nprobe"),
        (["--index-search", "nprobe=3"], "name one, as in --index"),
        (["--index", "Flat", *["--index-search", "nprobe=3"] * 2], "There are 2 --index-search for 1 --index"),
    ],
)
def test_mistakes_are_one_sentence(harness, toy, more: list[str], said: str) -> None:
    done = harness("benchmark", *BYTES, "-d", toy, *more)
    assert done.code == 2
    assert said in done.err
    assert done.err.splitlines()[-1].startswith("harness: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_what_is_exported_serves_in_plain_faiss_what_was_measured(harness, toy, factory: str) -> None:
    done = harness("benchmark", *BYTES, "-d", toy, "--index", factory)
    assert done.code == 0, done.err
    done = harness("index", "export", *BYTES, "-d", toy, "--index", factory, "-o", "out", "--json")
    assert done.code == 0, done.err
    about = json.loads(done.out)
    assert about == json.loads(Path("out/about.json").read_text())
    assert {p.name for p in Path("out").iterdir()} == {"index.faiss", "ids.json", "about.json"}
    for name, digest in about["files"].items():
        assert hashlib.sha256((Path("out") / name).read_bytes()).hexdigest() == digest
    [result] = [r for (model, _), r in cells(Path("results")).items() if model == f"byte-counts|{factory}"]
    assert result["manifest"]["index"]["sha256"] == about["files"]["index.faiss"]
    assert result["manifest"]["dataset"]["fingerprint"] == about["dataset_fingerprint"]
    index = faiss.read_index("out/index.faiss")
    ids = json.loads(Path("out/ids.json").read_text())
    assert ids == [json.loads(line)["_id"] for line in (toy / "corpus.jsonl").read_text().splitlines()]
    measured = run_of(next(Path("results").glob(f"*{factory}*")) / "toy")
    for record in map(json.loads, (toy / "queries.jsonl").read_text().splitlines()):
        counts = np.bincount(np.frombuffer(record["text"].encode(), np.uint8), minlength=256).astype(np.float32)
        _, rows = index.search((counts / np.linalg.norm(counts))[None], 5)
        assert [ids[row] for row in rows[0]] == measured[record["_id"]][:5]


def test_the_documented_lines_serve_documents_with_unusual_ids(harness, toy, monkeypatch) -> None:
    """Characters that Python takes for the end of a line or for white space, and JSON's own."""
    odd = ["a\u2028", "\u2029b", "c\x85d", "e\x1cf", "g\x1d", "\x1eh", "i\u00a0j", '"k"', "l\\n", "é,東", "[", "]"]
    records = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    named = dict(zip((record["_id"] for record in records), odd, strict=True))
    texts = {named[record["_id"]]: f"{record['title']} {record['text']}".strip() for record in records}
    lines = (json.dumps({**record, "_id": named[record["_id"]]}, ensure_ascii=False) for record in records)
    (toy / "corpus.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    header, *rows = (line.split("\t") for line in (toy / "qrels" / "test.tsv").read_text().splitlines())
    judged = [header, *([q, named[d].replace('"k"', '"""k"""'), grade] for q, d, grade in rows)]
    (toy / "qrels" / "test.tsv").write_text("".join("\t".join(row) + "\n" for row in judged), encoding="utf-8")
    monkeypatch.setattr("harness.search.index_export.ID_ROWS", 5)  # written in three goes
    done = harness("index", "export", *BYTES, "-d", toy, "-o", "served")
    assert done.code == 0, done.err
    page = (ROOT / "docs" / "indexes.md").read_text()
    [snippet] = re.findall(r"```text\n(index, ids = .*?)```", page, re.DOTALL)
    for name, text in texts.items():
        counts = np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256).astype(np.float32)
        given = {"faiss": faiss, "json": json, "query_vectors": (counts / np.linalg.norm(counts))[None]}
        exec(snippet, given)
        assert given["ids"][given["rows"][0][0]] == name
        assert len(given["ids"]) == 12


def test_an_export_overwrites_nothing_and_comes_whole(harness, toy, monkeypatch) -> None:
    words = ("index", "export", *BYTES, "-d", toy, "-o", "out")
    Path("out").mkdir()
    (Path("out") / "mine.txt").write_text("x")
    done = harness(*words)
    assert done.code == 2
    assert "out exists and is not empty" in done.err
    assert [p.name for p in Path("out").iterdir()] == ["mine.txt"]
    (Path("out") / "mine.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("harness.search.index_export._write_ids", lambda dataset, path: path.write_text("heart") / 0)
        with pytest.raises(ZeroDivisionError):
            main([str(word) for word in words])
    assert not list(Path("out").iterdir())
    assert harness(*words).code == 0
    assert harness("index", "export", "-m", "bm25", "-d", toy, "-o", "b").code == 2
