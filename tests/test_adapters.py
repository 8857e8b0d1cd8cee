"""Our models in beir's and mteb's hands, theirs in ours: the same scores on the same part of SciFact."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="these models need the dense extra")
pytest.importorskip("faiss", reason="these models need the dense extra")

import harness as api
from harness.types import UserError
from tests.documentation import USERS_HOME
from tests.interchange import DIM, Texts, scifact_slice, write_encoder

beir = pytest.mark.skipif(find_spec("beir") is None, reason="beir is not installed: pip install beir")
mteb = pytest.mark.skipif(find_spec("mteb") is None, reason="mteb is not installed: pip install mteb")
WORDS = ["heart moon bread earth planet the"]
ROUNDING = 6e-6
"""beir and mteb give five decimals."""


@pytest.fixture
def texts(shared: Path, tmp_path: Path) -> Texts:
    return scifact_slice(shared, tmp_path / "slice")


@pytest.fixture
def worded(texts: Texts, tmp_path: Path) -> Path:
    found = [*texts.queries.values(), *(f"{d['title']} {d['text']}" for d in texts.corpus.values())]
    return write_encoder(tmp_path / "worded", found)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "tiny", WORDS)


def measured(harness: Any, model: object, texts: Texts) -> dict[str, float]:
    done = harness("benchmark", "-m", model, "-d", texts.folder, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)[0]["measures"]


def beirs(retriever: Any, texts: Texts, score_function: str = "cos_sim") -> dict[str, float]:
    from beir.retrieval.evaluation import EvaluateRetrieval

    evaluation = EvaluateRetrieval(retriever, score_function=score_function)
    run = evaluation.retrieve(texts.corpus, texts.queries)
    ndcg, average, recall, _ = evaluation.evaluate(texts.qrels, run, evaluation.k_values)
    names = {"nDCG@10": ndcg["NDCG@10"], "R@100": recall["Recall@100"], "AP@1000": average["MAP@1000"]}
    return {**names, "R@1000": recall["Recall@1000"]}


def mtebs(model: Any, texts: Texts) -> dict[str, float]:
    import mteb as library

    task = library.get_task("SciFact")
    task.corpus, task.queries = {"test": texts.corpus}, {"test": texts.queries}
    task.relevant_docs, task.data_loaded = {"test": texts.qrels}, True
    found = library.evaluate(model, task, cache=None, encode_kwargs={"show_progress_bar": False})
    [scores] = found.task_results[0].scores["test"]
    names = {"nDCG@10": "ndcg_at_10", "R@100": "recall_at_100", "AP@1000": "map_at_1000", "RR@10": "mrr_at_10"}
    return {ours: scores[theirs] for ours, theirs in names.items()}


def same(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert theirs == {name: pytest.approx(ours[name], abs=ROUNDING) for name in theirs}


@beir
@pytest.mark.parametrize("model", ["worded", "bm25"])
def test_beir_scores_our_models_as_we_do(model: str, harness: Any, texts: Texts, worded: Path) -> None:
    name = f"{worded}:dtype=float32" if model == "worded" else model
    ours = measured(harness, name, texts)
    same(ours, beirs(api.beir_model(name), texts))
    assert 0.1 < ours["nDCG@10"] < 0.99


@beir
def test_beirs_own_search_of_our_vectors_and_its_own_model_agree(harness: Any, texts: Texts, worded: Path) -> None:
    from beir.retrieval.models import SentenceBERT
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    ours = measured(harness, f"{worded}:dtype=float32", texts)
    same(ours, beirs(DenseRetrievalExactSearch(api.beir_model(f"{worded}:dtype=float32")), texts))
    plain = measured(harness, f"{worded}:dtype=float32,query_prompt=", texts)  # beir gives no prompt
    same(plain, beirs(DenseRetrievalExactSearch(SentenceBERT(str(worded)), show_progress_bar=False), texts))


@mteb
@pytest.mark.parametrize("model", ["worded", "bm25"])
def test_mteb_scores_our_models_as_we_do(model: str, harness: Any, texts: Texts, worded: Path) -> None:
    name = f"{worded}:dtype=float32" if model == "worded" else model
    ours = measured(harness, name, texts)
    same(ours, mtebs(api.mteb_model(name), texts))


@mteb
def test_mtebs_own_model_and_search_agree(harness: Any, texts: Texts, worded: Path) -> None:
    from sentence_transformers import SentenceTransformer

    same(measured(harness, f"{worded}:dtype=float32", texts), mtebs(SentenceTransformer(str(worded)), texts))


@mteb
def test_a_dense_model_meets_mtebs_protocols(home: Path, tiny: Path) -> None:
    from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

    model = api.mteb_model(f"{tiny}:dtype=float32")
    assert isinstance(model, SearchProtocol)
    assert isinstance(model, EncoderProtocol)
    assert model.mteb_model_meta.name.startswith("retrieval-harness/tiny@")
    vectors = model.encode([{"text": ["the heart", "the moon"]}, {"text": ["bread"]}])
    assert vectors.shape == (3, DIM)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(model.similarity(vectors, vectors), unit @ unit.T, atol=1e-5)
    with pytest.raises(UserError, match="bm25 makes no vectors"):
        api.mteb_model("bm25").encode([{"text": ["x"]}])


@mteb
def test_a_reranking_task_gets_its_candidates_alone(home: Path, tiny: Path) -> None:
    from datasets import Dataset

    model = api.mteb_model(f"{tiny}:dtype=float32")
    words = ["heart", "moon", "bread", "earth", "planet"]
    model.index(Dataset.from_list([{"id": f"d{i}", "text": word} for i, word in enumerate(words)]))
    asked = Dataset.from_list([{"id": "q", "text": "moon"}, {"id": "r", "text": "red"}])
    whole = model.search(asked, top_k=5)
    some = model.search(asked, top_k=1, top_ranked={"q": ["d4", "d0"], "r": ["d2"]})
    assert {query: set(found) for query, found in some.items()} == {"q": {"d4", "d0"}, "r": {"d2"}}
    assert some["q"] == {document: whole["q"][document] for document in ("d4", "d0")} or list(some["q"]) == [
        document for document in whole["q"] if document in some["q"]
    ]
    assert len(model.search(asked, top_k=2)["q"]) == 2


def test_a_querys_own_document_is_left_out_for_beir(home: Path, tiny: Path) -> None:
    corpus = {name: {"title": "", "text": name} for name in ("heart", "moon", "bread")}
    found = api.beir_model(f"{tiny}:dtype=float32").search(corpus, {"moon": "moon"}, 2, "cos_sim")
    assert set(found["moon"]) == {"heart", "bread"}


@pytest.mark.parametrize("model", ["bm25", "rrf(bm25,bm25:b=0)"])
def test_ids_that_no_run_can_carry(home: Path, model: str) -> None:
    """beir and mteb take any; the order of ties, a query's own document and the keys are those of the ids given."""
    plain = {"a_1": "moon", "b": "moon", "a_2": "moon bread", "a_3": "heart", "c": "moon"}
    queries = {"a_1": "moon", "zz": "bread moon"}
    names = {"a_1": "a\t1", "a_2": "a 2", "a_3": "", "b": "b\ud83d", "c": "c"}
    expected = api.beir_model(model).search({k: {"text": text} for k, text in plain.items()}, queries, 4)
    odd = {names[key]: {"title": None, "text": text} for key, text in plain.items()}
    found = api.beir_model(model).search(odd, {"a\t1": "moon", "z z": "bread moon"}, 4)
    assert [*found] == ["a\t1", "z z"]
    assert list(found["a\t1"].items()) == [(names[key], score) for key, score in expected["a_1"].items()]
    assert list(found["z z"].items()) == [(names[key], score) for key, score in expected["zz"].items()]
    assert [*found["a\t1"]][:2] == ["c", "b\ud83d"]


def test_keys_that_are_not_texts_come_back(home: Path) -> None:
    model = api.beir_model("bm25")
    corpus = {1: {"text": "moon"}, "1": {"text": "moon bread"}, 2: {"text": "heart"}}
    found = model.search(corpus, {7: "moon"}, 5)  # type: ignore[arg-type]
    assert set(found[7]) == {1, "1"}  # type: ignore[index]
    assert model.search({}, {"q": "moon"}, 5) == {"q": {}}
    assert model.search(corpus, {}, 5) == {}  # type: ignore[arg-type]


def test_half_a_surrogate_pair_and_values_that_are_not_text(home: Path) -> None:
    model = api.beir_model("bm25")
    corpus: dict[str, Any] = {"d": {"title": "", "text": "moon \ud83d"}}
    assert set(model.search(corpus, {"q": "moon \ud83d"}, 5)["q"]) == {"d"}
    with pytest.raises(UserError, match=r"Query 'q' is \"\['moon', 'bread'\]\", not a text"):
        model.search(corpus, {"q": ["moon", "bread"]}, 5)  # type: ignore[dict-item]
    with pytest.raises(UserError, match="Document 'e' is '7', not a text"):
        model.search({**corpus, "e": {"text": 7}}, {"q": "moon"}, 5)


def test_distances_are_not_given_to_a_search_by_products(home: Path, tmp_path: Path) -> None:
    from tests.runs import write_checkpoint

    model = api.beir_model(str(write_checkpoint(tmp_path / "euclidean")))
    with pytest.raises(UserError, match="compares vectors by distance"):
        model.encode_queries(["x"])
    assert len(model.search({"d": {"title": "", "text": "moon"}}, {"q": "moon"}, 5)["q"]) == 1


def test_without_mteb_the_line_to_type_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.adapters.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs mteb, which is not installed; type: pip install"):
        api.mteb_model("bm25")


@beir
@mteb
@pytest.mark.slow
@pytest.mark.parametrize("model", ["minilm", "mpnet"])
def test_the_genuine_models_score_alike(
    model: str, harness: Any, home: Path, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = USERS_HOME / "models" / model
    if not weights.is_dir():
        pytest.skip(f"the weights of {model} are not on this machine: harness fetch {model}")
    (home / "models").mkdir()
    (home / "models" / model).symlink_to(weights)
    logging.getLogger("mteb").setLevel(logging.ERROR)
    from sentence_transformers import SentenceTransformer

    ours = measured(harness, f"{model}:dtype=float32", texts)
    same(ours, beirs(api.beir_model(f"{model}:dtype=float32"), texts))
    same(ours, mtebs(api.mteb_model(f"{model}:dtype=float32"), texts))
    same(ours, mtebs(SentenceTransformer(str(weights)), texts))
    same(ours, measured(harness, f"st:{weights}:dtype=float32", texts))


@pytest.mark.parametrize("wrong", [7, None, object(), Path("x")])
def test_what_is_no_name_is_told_as_a_type_error(wrong: object) -> None:
    for make in (api.beir_model, api.mteb_model):
        with pytest.raises(
            TypeError, match=rf"^{make.__name__}\(\) takes a model's name, .* got {type(wrong).__name__}$"
        ):
            make(wrong)  # type: ignore[arg-type]


def test_the_front_page_lists_what_it_offers_and_nothing_else() -> None:
    assert dir(api) == sorted(api.__all__)
    assert {"beir_model", "load_results", "mteb_model", "Otherwise"} <= {*dir(api)}
    for name in dir(api):
        assert getattr(api, name) is not None
