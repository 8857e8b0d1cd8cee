"""``--max-tokens`` and ``--max-cost``: never exceeded, and nothing is lost when they end a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import UserError, evaluate
from harness.embeddings.parts import digest
from tests.conftest import BYTE_COUNTS
from tests.endpoint_server import Endpoint, tokens
from tests.plugins.endpoints.test_models import CANARIES, many, read, stored_texts

pytest.importorskip("httpx2", reason="endpoints need the endpoints extra")
pytest.importorskip("faiss", reason="dense models need the dense extra")


def test_a_command_stops_before_its_budget_of_tokens_and_the_next_one_goes_on(
    harness, served: Endpoint, tmp_path: Path, home: Path
) -> None:
    data = many(tmp_path, 60)
    documents, queries = read(data)
    words = ("benchmark", "-m", "openai:m:batch_size=8,concurrency=3", "--base-url", served.url, "-d", data)
    words = (*words, "--max-tokens", "400")
    sent: list[str] = []
    for _ in range(9):
        done = harness(*words)
        assert served.spent <= 400
        sent += served.answered[CANARIES:]
        if done.code == 0:
            break
        assert done.code == 1
        assert "m: the budget of --max-tokens 400 is used up after" in done.err
        assert "what has arrived is stored: run the same command again to continue with as much again" in done.err
        longest = max(len(text) for text in documents.values())
        assert served.spent > 400 - longest - 16 - 1  # what one more text could have taken
        assert {digest(text) for text in sent} == stored_texts(home)
        served.forget()
    assert sorted(sent) == sorted([*documents.values(), *queries.values()])


def test_costs_are_tokens_times_the_price_of_each_model(harness, served: Endpoint, toy: Path) -> None:
    model = f"openai:m:base_url={served.url}"
    done = harness("benchmark", "-m", model, "-d", toy, "--max-cost", "1")
    assert done.code == 2
    assert f"--max-cost needs the price of {model}: add price=N" in done.err
    assert served.bodies == []
    done = harness("benchmark", "-m", f"{model},price=1000", "-d", toy, "--max-cost", "0.3")
    assert done.code == 1
    assert f"the budget of --max-cost 0.3 is used up after {served.spent:,} tokens" in done.err
    assert f"{served.spent / 1000:.4f} USD" in done.err
    assert 0 < served.spent <= 300
    served.forget()
    done = harness("benchmark", "-m", f"{model},price=1000", "-d", toy, "--max-cost", "0.5")
    assert done.code == 0, done.err
    assert f"{served.spent / 1000:.4f} USD" in done.err
    done = harness("benchmark", "-m", f"{model},price=0", "-d", toy, "--max-cost", "0")
    assert done.code == 0, done.err


def test_all_models_of_a_command_share_its_budget_and_the_others_go_on(harness, served: Endpoint, toy: Path) -> None:
    first, second = (f"openai:{name}:base_url={served.url}" for name in ("a", "b"))
    words = ("benchmark", "-m", first, "-m", second, "-m", "byte-counts", "--plugin", BYTE_COUNTS, "-d", toy)
    done = harness(*words, "--max-tokens", "400", "--json")
    assert done.code == 1
    assert 300 < served.spent <= 400
    assert [cell["cell"] for cell in json.loads(done.out)] == ["ok", "failed", "ok"]
    assert f"failed: {second} on toy: b: the budget of --max-tokens 400 is used up after" in done.err


def test_a_budget_of_nothing_sends_nothing(harness, served: Endpoint, toy: Path) -> None:
    done = harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", toy, "--max-tokens", "0")
    assert done.code == 1
    assert "is used up after 0 tokens in 0 requests" in done.err
    assert served.bodies == []


def test_a_budget_from_python(home: Path, served: Endpoint, toy: Path) -> None:
    model = f"openai:m:base_url={served.url},price=1000"
    few = evaluate(model, toy, max_tokens=200, progress=False)
    assert 0 < served.spent <= 200
    assert [(cell.status, "--max-tokens 200" in cell.reason) for cell in few.cells] == [("failed", True)]
    served.forget()
    assert evaluate(model, toy, max_cost=0.5, progress=False).cells[0].status == "ok"
    assert served.spent <= 500
    with pytest.raises(UserError, match="--max-cost needs the price"):
        evaluate(f"openai:other:base_url={served.url}", toy, max_cost=1, progress=False)


def test_workers_and_other_models_take_no_such_options(harness, served: Endpoint, toy: Path) -> None:
    own = ("--executor", "processes", "--workers", "1")
    done = harness("benchmark", "-m", "openai:m", "--base-url", served.url, "-d", toy, "--max-tokens", "9", *own)
    assert done.code == 2
    assert "--max-tokens and --max-cost are kept by one process; omit them, or --executor." in done.err
    done = harness("benchmark", "-m", "bm25", "--base-url", served.url, "-d", toy)
    assert done.code == 2
    assert "--base-url is for a model behind an endpoint; name one, as in -m openai:MODEL." in done.err


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of exact search, without measuring it."""
    scanned = {"flops": 1e9, "query_seconds": 1e-3, "processor_flops": 1e9}
    monkeypatch.setattr("harness.planning.speed._scan", lambda device: scanned)


@pytest.mark.usefixtures("measured")
def test_a_plan_says_what_is_sent_and_what_it_costs(harness, served: Endpoint, toy: Path) -> None:
    model = f"openai:m:base_url={served.url}"
    documents, queries = read(toy)
    words = ("-m", f"{model},price=2,dimensions=8", "-d", toy)
    plan = json.loads(harness("plan", *words, "--json").out)
    [cell] = plan["cells"]
    real = sum(map(tokens, [*documents.values(), *queries.values()]))
    assert cell["sent_tokens"] == pytest.approx(real, rel=0.5)
    assert cell["cost"] == pytest.approx(cell["sent_tokens"] * 2e-6)
    assert plan["totals"][0]["cost"] == pytest.approx(cell["cost"])
    assert cell["stored_bytes"] == (12 + 4) * 8 * 4
    assert served.bodies == []
    assert "the budget" not in harness("plan", *words, "--max-tokens", 10**6).out
    assert "the budget of --max-tokens or --max-cost is less" in harness("plan", *words, "--max-cost", "1e-6").out
    assert "USD per million: price unknown: add price=N" in harness("plan", "-m", model, "-d", toy).out
    reranker = f"rerank(bm25):model=m,base_url={served.url},price=1,depth=3"
    [cell] = json.loads(harness("plan", "-m", reranker, "-d", toy, "--json").out)["cells"]
    each = {"d": sum(map(tokens, documents.values())) / 12, "q": sum(map(tokens, queries.values())) / 4}
    assert cell["sent_tokens"] == pytest.approx(4 * 3 * (each["d"] + each["q"]), rel=0.5)
    assert cell["cost"] == pytest.approx(cell["sent_tokens"] * 1e-6)
    assert harness("benchmark", *words).code == 0
    [cell] = json.loads(harness("plan", *words, "--json", "--results", "others").out)["cells"]
    assert (cell["sent_tokens"], cell["cost"]) == (0, 0)
