"""Prompts on the command line: quoted, from a file, by name; and their rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from harness.registry.manager import load_registry
from harness.registry.option_values import command_words
from harness.types import UserError
from tests.conftest import Done
from tests.tiny import DIM, transformer

TASK = "Instruct: Given a claim, find documents\nQuery: "
PROMPTS = {"claims": TASK, "plain": "the ", "empty": ""}
TEXTS = ["The heart pumps blood.", "moon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prompted")
    model = SentenceTransformer(modules=[transformer(root / "base"), Pooling(DIM, "mean")], prompts=PROMPTS)
    model.save(str(root / "mine"), create_model_card=False)
    return root / "mine"


def vectors(model: str) -> np.ndarray:
    encoder: Any = load_registry().model(f"{model},dtype=float32").load()
    return encoder.encode(TEXTS, role="query")


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_by_name_is_that_prompt(folder: Path, name: str) -> None:
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name=name)
    np.testing.assert_allclose(vectors(f"{folder}:query_prompt_name={name}"), expected, atol=1e-5)
    by_name = load_registry().model(f"{folder}:query_prompt_name={name}")
    by_text = load_registry().model(f"{folder}:query_prompt={json.dumps(PROMPTS[name])}")
    assert by_name.key == by_text.key
    assert by_name.key != load_registry().model(f"{folder}:document_prompt_name={name}").key


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "query_prompt_name=claim",
            "stores no prompt of the name 'claim': it has claims, document, empty, plain, query;",
        ),
        ("document_prompt_name=plain,document_prompt=a", "Both document_prompt and document_prompt_name are given"),
    ],
)
def test_a_prompt_that_cannot_be_named_ends_the_command(
    options: str, words: str, folder: Path, harness: Callable[..., Done], toy: Path
) -> None:
    done = harness("benchmark", "-m", "bm25", "-m", f"{folder}:{options}", "-d", toy)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_folder_that_stores_no_prompts_is_said_to_have_none(folder: Path, tmp_path: Path) -> None:
    from harness_plugins.sentence_transformers.prompts import chosen

    for content in (None, "{}", '{"prompts": null}', "[", '{"prompts": {"a": 7}}'):
        if content is not None:
            (tmp_path / "config_sentence_transformers.json").write_text(content)
        with pytest.raises(UserError, match=r"its config_sentence_transformers\.json has none"):
            chosen({"query_prompt_name": "a"}, tmp_path)
    assert chosen({}, tmp_path) == {"query": None, "document": None}


def test_any_prompt_can_be_typed_and_its_row_is_found_again(
    folder: Path, harness: Callable[..., Done], toy: Path
) -> None:
    Path("prompt.txt").write_text(TASK + "\n")
    typed = {
        f"{folder}:query_prompt={json.dumps(TASK)}": f"query_prompt={json.dumps(TASK)}",
        f"{folder}:query_prompt_name=claims": "query_prompt_name=claims",
        f"{folder}:query_prompt=one\ntwo": r'query_prompt="one\ntwo"',
        f'{folder}:query_prompt="the, ",document_prompt=heart ': 'document_prompt="heart ",query_prompt="the, "',
    }
    models = [word for model in typed for word in ("-m", model)]
    table = harness("benchmark", "-m", "bm25", *models, "-d", toy)
    assert table.code == 0, table.err
    lines = table.out.splitlines()
    assert len(lines) == 2 + 5
    assert len({len(line) for line in lines}) == 1
    labels = [line.split("|")[1].strip() for line in lines[3:]]
    assert [label.partition(":")[2] for label in labels] == [*typed.values()]
    results = {r["model"]: r for r in (json.loads(f.read_text()) for f in Path("results").glob("*/toy/result.json"))}
    assert {*results} == {"bm25", *labels}
    assert results[labels[0]]["measures"] == results[labels[1]]["measures"]
    assert results[labels[0]]["manifest"]["model"]["passed"]["query_prompt"] == TASK
    assert all(result["command"].isprintable() for result in results.values())
    assert set(command_words(results["bm25"]["command"])) >= {"harness", "benchmark", *typed}

    verified = harness("verify", "results", "--json")
    assert verified.code == 0, verified.err
    assert {each["model"]: each["verdict"] for each in json.loads(verified.out)} == dict.fromkeys(results, "OK")

    compared = json.loads(harness("compare", "bm25", *labels, "--json").out)
    assert compared["models"] == ["bm25", *labels]
    again = labels[3].replace('document_prompt="heart ",', "") + ",document_prompt=heart "
    assert json.loads(harness("compare", "bm25", again, "--json").out)["models"] == ["bm25", labels[3]]
    other = labels[0].partition(":")[0] + ":query_prompt=@prompt.txt"
    assert json.loads(harness("compare", "bm25", other, "--json").out)["models"] == ["bm25", labels[0]]

    for label in labels:
        report = harness("report", "--baseline", label)
        assert report.code == 0, report.err
        rows = [line for line in report.out.splitlines() if line.startswith("| ")]
        assert not [row for row in rows if row.count("|") < 4]
    cached = harness("benchmark", "-m", f"{folder}:query_prompt=@prompt.txt", "-d", toy, "--json")
    assert [(cell["model"], cell["cell"]) for cell in json.loads(cached.out)] == [(labels[0], "cached")]


def test_a_quoted_prompt_is_one_of_a_member(folder: Path, harness: Callable[..., Done], toy: Path) -> None:
    model = f"rrf(bm25,{folder}:query_prompt={json.dumps('a, b) (c')}):k=20"
    done = harness("benchmark", "-m", model, "-d", toy, "--json")
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    assert cell["model"].endswith(':query_prompt="a, b) (c"):k=20.0')
    assert json.loads(harness("verify", "results", "--json").out)[0]["verdict"] == "OK"


def test_prompts_by_task_are_those_of_each_side(tmp_path: Path) -> None:
    from harness_plugins.sentence_transformers.prompts import chosen

    stored = {"Facts-query": "claim: ", "Facts": "any: ", "Facts-passage": "text: ", "Web": "web: ", "query": "q: "}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": stored}))
    assert chosen({"prompt_name": "Facts"}, tmp_path) == {"query": "claim: ", "document": "text: "}
    assert chosen({"prompt_name": "Web"}, tmp_path) == {"query": "web: ", "document": None}
    assert chosen({"prompt_name": "Facts", "query_prompt": "a "}, tmp_path) == {"query": "a ", "document": "text: "}
    with pytest.raises(UserError, match="stores no prompt of the task 'Facs': it has Facts, Facts-passage"):
        chosen({"prompt_name": "Facs"}, tmp_path)


def test_documents_are_not_encoded_again_for_another_query_prompt(
    folder: Path, harness: Callable[..., Done], toy: Path
) -> None:
    """Their vectors are stored under the key that they have without the query's prompt, and so the other way round."""
    Path("prompt.txt").write_bytes("\tFind:\r\n  ünder \n".encode())
    typed = f"{folder}:dtype=float32"
    plain, other = (
        json.loads(harness("benchmark", "-m", typed, "-d", toy, *more, "--json").out)[0]
        for more in ([], ["--query-prompt", "@prompt.txt"])
    )
    assert other["manifest"]["model"]["passed"]["query_prompt"] == "\tFind:\r\n  ünder "
    assert other["manifest"]["model"]["fingerprint"]["query_prompt"] == "\tFind:\r\n  ünder "
    assert "document_tokens" in plain["counts"]
    rates = [{rate["role"]: rate["texts"] for rate in cell["manifest"]["run"]["encoding"]} for cell in (plain, other)]
    assert rates == [{"document": 12, "query": 4}, {"query": 4}]
    refs = [load_registry().model(f"{typed}{more}") for more in ("", ",query_prompt=a", ",query_prompt_name=claims")]
    assert len({ref.key for ref in refs}) == len({ref.side_key("query") for ref in refs}) == 3
    assert {ref.side_key("document") for ref in refs} == {refs[0].own_key}
    documents = load_registry().model(f"{typed},document_prompt=a")
    assert documents.side_key("query") == refs[0].own_key != documents.side_key("document")


def test_prompts_of_a_command_need_a_model_that_takes_one(harness: Callable[..., Done], toy: Path) -> None:
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--document-prompt", "a")
    assert done.code == 2
    assert "No model takes a prompt: --document-prompt sets the option document_prompt, which bm25 lacks." in done.err


def test_a_prompt_that_is_not_pooled_leaves_the_documents_pass_alone(tmp_path: Path) -> None:
    """Such a folder always runs by encode(), so that documents do not depend on which prompt of queries came first."""
    pooling = Pooling(DIM, "mean", include_prompt=False)
    model = SentenceTransformer(modules=[transformer(tmp_path / "base"), pooling])
    model.save(str(tmp_path / "mine"), create_model_card=False)
    refs = [load_registry().model(f"{tmp_path / 'mine'}:dtype=float32{more}") for more in ("", ",query_prompt=the ")]
    assert refs[0].side_key("document") == refs[1].side_key("document")
    assert {ref.fingerprint["implementation"].partition(" ")[0] for ref in refs} == {"SentenceTransformer.encode"}
    encoders: list[Any] = [ref.load() for ref in refs]
    assert len({type(encoder) for encoder in encoders}) == 1
    documents = [encoder.encode(TEXTS, role="document") for encoder in encoders]
    np.testing.assert_array_equal(*documents)
    expected = SentenceTransformer(str(tmp_path / "mine"), device="cpu").encode(TEXTS, prompt="the ")
    np.testing.assert_allclose(encoders[1].encode(TEXTS, role="query"), expected, atol=1e-5)
