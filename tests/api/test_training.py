"""`harness.training_evaluator` gives the values of `harness.evaluate`, to both trainers."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

import harness as api
from harness.registry.objects import ObjectEncoder

pytest.importorskip("sentence_transformers", reason="needs the dense extra")
pytest.importorskip("faiss", reason="needs the dense extra")


class Float32:
    """A model that encodes as the object does, with the same similarity."""

    def __init__(self, model: Any) -> None:
        self.encode_query, self.encode_document = model.encode_query, model.encode_document
        self.similarity_fn_name = model.similarity_fn_name


@pytest.fixture
def model(tmp_path: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from tests.tiny import DIM, transformer

    modules = [transformer(tmp_path / "base"), Pooling(DIM, "mean")]
    return SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": ""}, device="cpu")


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_values_are_those_of_an_evaluation(similarity: str, model: Any, home: Path, toy: Path) -> None:
    model.similarity_fn_name = similarity
    evaluator = api.training_evaluator(toy, metrics="nDCG@10 R@3", name="dev")
    found = evaluator(model)
    assert list(found) == ["dev_nDCG@10", "dev_R@3", "dev_isotropy"]
    assert evaluator.primary_metric == "dev_nDCG@10"
    row = api.evaluate({"same": Float32(model)}, toy, metrics="nDCG@10 R@3", progress=False).frame().iloc[0]
    assert [*found.values()] == pytest.approx([row["nDCG@10"], row["R@3"], row["isotropy"]], abs=1e-6)


def test_a_query_s_own_document_is_left_out(model: Any, home: Path, toy: Path) -> None:
    for name in ("queries.jsonl", "qrels/test.tsv"):
        (toy / name).write_text((toy / name).read_text().replace("q1", "heart"))
    (toy / "dataset.toml").write_text("exclude_self = true\n")
    found = api.training_evaluator(toy, name="")(model)
    row = api.evaluate({"same": Float32(model)}, toy, progress=False).frame().iloc[0]
    assert found["toy_nDCG@10"] == pytest.approx(row["nDCG@10"], abs=1e-6)


def test_both_trainers_take_it(model: Any, home: Path, toy: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the train extra")
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    rows = datasets.Dataset.from_dict({"anchor": ["blood", "moon"], "positive": ["the heart", "the earth"]})
    evaluator = api.training_evaluator(toy, name="toy")
    assert isinstance(evaluator, TrainerCallback)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=1, eval_strategy="steps", eval_steps=1, report_to=[], use_cpu=True
    )
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model, arguments, rows, loss=loss, evaluator=evaluator)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_toy_nDCG@10" in entry]
    assert logged[0]["eval_toy_nDCG@10"] == evaluator(model)["toy_nDCG@10"]
    metrics: dict[str, float] = {"eval_loss": 1.0}
    state = types.SimpleNamespace(log_history=[], global_step=1, epoch=0.5)
    evaluator.on_evaluate(None, state, None, model=model, metrics=metrics)
    assert metrics["eval_toy_nDCG@10"] == logged[0]["eval_toy_nDCG@10"]
    assert state.log_history[0]["step"] == 1


def test_vectors_that_diverged_score_0(home: Path, toy: Path) -> None:
    class Diverged:
        def encode(self, texts: list[str]) -> Any:
            return [[float("nan")]] * len(texts)

    assert api.training_evaluator(toy)(Diverged()) == {"toy_nDCG@10": 0.0}
    assert ObjectEncoder(Diverged()).dim == 1
