"""Multi-vector encoders: folders and hub models run as `MultiVectorEncoder` itself, and rank by its own scores."""

from __future__ import annotations

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
from harness.embeddings.formats import MULTIVECTOR
from harness.metrics.ranking import read_run
from harness.registry.manager import load_registry
from harness.types import ModelError
from tests.folders import change, write_multi_vector, write_pooled, write_pylate, write_stanford
from tests.server import Site

WRITERS: dict[str, Callable[[Path], Path]] = {
    "colbert": write_multi_vector,
    "pooled": write_pooled,
    "pylate": write_pylate,
    "stanford": write_stanford,
}
READ = {"colbert": ("passage ", 20), "pooled": ("passage ", 20), "pylate": ("[D] ", 18), "stanford": ("bread ", 16)}
"""What is put before a document, and how many tokens are read."""
TEXTS = ["The heart, pumps blood.", "red planet!", "", "Bread is baked " * 30, "moon", "passage about the earth"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("late"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = WRITERS[name](root / name)
        return made[name]

    return folder


def loaded(folder: Path) -> Any:
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(str(folder), device="cpu")


def reference(model: Any, role: str, texts: list[str]) -> list[np.ndarray[Any, Any]]:
    """The vectors that sentence-transformers gives each text alone."""
    encode = model.encode_query if role == "query" else model.encode_document
    return [encode([text], show_progress_bar=False, convert_to_numpy=True)[0] for text in texts]


@pytest.mark.parametrize("name", WRITERS)
def test_the_vectors_are_sentence_transformers_own(folders, name: str) -> None:
    ref = load_registry().model(f"{folders(name)}:dtype=float32")
    assert ref.spec.kind == "multivector"
    model, theirs = ref.load(), loaded(folders(name))
    assert model.similarity == theirs.similarity_fn_name
    for role in ("query", "document"):
        made = encode_texts(model, "it", TEXTS, role, form=MULTIVECTOR)  # type: ignore[arg-type]
        for place, expected in enumerate(reference(theirs, role, TEXTS)):
            np.testing.assert_allclose(made[place : place + 1].vectors, expected, rtol=1e-4, atol=1e-5)
        cut = [text == TEXTS[3] for text in TEXTS]
        if role == "document":
            assert made.truncated.tolist() == cut


@pytest.mark.parametrize("name", WRITERS)
def test_the_run_has_sentence_transformers_scores(harness, folders, toy: Path, home: Path, name: str) -> None:
    done = harness("benchmark", "-m", f"{folders(name)}:dtype=float32", "-d", toy, "--json")
    assert done.code == 0, done.err
    [result] = json.loads(done.out)
    records = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    ids, texts = zip(*((r["_id"], f"{r['title']} {r['text']}".strip()) for r in records), strict=True)
    queries = {q["_id"]: q["text"] for q in map(json.loads, (toy / "queries.jsonl").read_text().splitlines())}
    model = loaded(folders(name))
    documents = reference(model, "document", list(texts))
    for ranking in read_run(next(Path("results").glob("*/toy/run.trec.gz"))):
        query = reference(model, "query", [queries[ranking.query_id]])[0]
        scores = dict(zip(ids, model.similarity([query], documents)[0].tolist(), strict=True))
        found = dict(zip(ranking.doc_ids, ranking.scores, strict=True))
        assert found == pytest.approx(scores, abs=1e-5)
        exact = [(query.astype(np.float64) @ each.T.astype(np.float64)).max(axis=1).sum() for each in documents]
        order = np.argsort(-np.array(exact), kind="stable")
        gaps = np.diff(-np.array(exact)[order])
        if (gaps > 1e-4).all():  # the encoder's batches move the vectors by less
            assert list(ranking.doc_ids) == [ids[row] for row in order]
    count = sum(map(len, documents))
    assert result["counts"]["document_vectors"] == count
    assert result["counts"]["index_bytes"] == 4 * count * documents[0].shape[1] + 4 * len(documents)
    prompt, limit = READ[name]
    cut = sum(len(model.tokenizer(prompt + text)["input_ids"]) > limit for text in texts)
    assert result["counts"]["truncated_documents"] == cut > 0
    assert result["manifest"]["model"]["kind"] == "multivector"
    assert result["manifest"]["model"]["similarity"] == model.similarity_fn_name
    assert harness("benchmark", "-m", f"{folders(name)}:dtype=float32", "-d", toy, "--json").out.count('"cached"') == 1


def test_it_is_checked_fused_and_listed_beside_others(harness, folders, toy: Path) -> None:
    folder = folders("colbert")
    checked = harness("check", f"{folder}:dtype=float32")
    assert checked.code == 0, checked.out + checked.err
    fused = harness("benchmark", "-m", f"rrf(bm25,{folder})", "-m", "bm25", "-m", folder, "-d", toy, "--json")
    assert fused.code == 0, fused.err
    report = harness("report", "--format", "json")
    for column in ("vectors/document", "truncated", "bytes/document"):
        assert column in report.out
    half = harness("benchmark", "-m", folder, "-d", toy, "--storage", "float16", "--json")
    [stored] = json.loads(half.out)
    assert "storage=float16" in stored["model"]


def test_what_models_of_this_kind_do_not_have_is_refused(harness, folders, toy: Path) -> None:
    for words, told in (
        (f"{folders('colbert')}:forward=packed", "no option of checkpoint"),
        (f"whiten({folders('colbert')})", "is a multivector model, which has none of its own"),
        (f"{folders('colbert')}:dtype=int8", "dtype"),
    ):
        done = harness("benchmark", "-m", words, "-d", toy)
        assert done.code == 2
        assert told in done.err, done.err


def test_a_model_of_the_hub(harness, folders, home: Path, site: Site, toy: Path, monkeypatch, tmp_path: Path) -> None:
    from tests.plugins.sentence_transformers.test_hub import publish

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    publish(site, folders("pylate"))
    done = harness("benchmark", "-m", "st:someone/words", "-d", toy, "--json")
    assert done.code == 0, done.err
    [found] = json.loads(done.out)
    assert (found["model"], found["manifest"]["model"]["kind"]) == ("st:someone/words", "multivector")


def test_a_prompt_and_a_length_are_part_of_the_key_and_the_vectors(folders) -> None:
    registry, folder = load_registry(), folders("colbert")
    options = ("", ",document_prompt=red moon ", ",max_seq_length=4")
    plain, prompted, cut = (registry.model(f"{folder}:dtype=float32{more}") for more in options)
    assert len({ref.key for ref in (plain, prompted, cut)}) == 3
    made = [encode_texts(r.load(), "it", TEXTS[:2], "document", form=MULTIVECTOR) for r in (plain, prompted, cut)]
    theirs = loaded(folder)
    expected = theirs.encode_document(TEXTS[0], prompt="red moon ", convert_to_numpy=True)
    np.testing.assert_allclose(made[1][:1].vectors, expected, rtol=1e-4, atol=1e-5)
    assert made[0].counts[0] > made[2].counts[0] <= 4
    assert (made[0].truncated.tolist(), made[2].truncated.tolist()) == ([0, 0], [1, 1])


def test_what_cannot_be_run_is_told(folders, tmp_path: Path) -> None:
    foreign = shutil.copytree(folders("colbert"), tmp_path / "foreign")
    modules = json.loads((foreign / "modules.json").read_text())
    modules[1]["type"] = "pylate.models.ColBERT"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="which is not one of sentence-transformers' own"):
        _ = load_registry().model(str(foreign)).key
    pickled = shutil.copytree(folders("stanford"), tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model\.safetensors, and pickled weights are never opened"):
        _ = load_registry().model(str(pickled)).key
    changed = shutil.copytree(folders("stanford"), tmp_path / "changed")
    before = load_registry().model(str(changed)).key
    change(changed / "artifact.metadata", query_maxlen=11)
    assert load_registry().model(str(changed)).key != before


def test_an_object_is_its_folder(folders, toy: Path, home: Path) -> None:
    import harness

    folder = folders("colbert")
    found = harness.evaluate(models=[loaded(folder), str(folder)], datasets=[str(toy)])
    scores = found.frame()["nDCG@10"].tolist()
    assert scores[0] == scores[1]
