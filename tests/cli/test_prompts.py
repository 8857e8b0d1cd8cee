"""``harness prompts``: every prompt is a row, documents are encoded once, and the spread is that of scores."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from scipy import stats

from harness.evaluation.prompt_spread import prompt_spread, read_prompts
from harness.metrics.clusters import per_cluster
from harness.metrics.significance import difference_interval
from harness.results.store import ResultStore, read_per_query
from harness.types import UserError

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

PLUGIN = """
import json
from pathlib import Path

import numpy as np

from harness import ModelSpec, Option, hookimpl

CALLS = Path(__file__).with_name("calls.jsonl")


class Letters:
    dim = 64

    def __init__(self, prompt):
        self.prompt = prompt

    def encode(self, texts, *, role):
        given = [self.prompt + text if role == "query" else text for text in texts]
        with CALLS.open("a") as file:
            file.writelines(json.dumps([role, text]) + "\\n" for text in given)
        pairs = [[ord(a) * 7 + ord(b) for a, b in zip(text, text[1:])] for text in given]
        return np.asarray([np.bincount(np.mod(row, 64), minlength=64) for row in pairs], np.float32)


def load(options):
    return Letters(options["query_prompt"] or "")


@hookimpl
def harness_models():
    yield ModelSpec("letters", "dense", f"{__name__}:load", "pairs of letters", similarity="cosine",
                    options={"query_prompt": Option(None, "before every query", role="query")})
"""
LINES = 'the \n\n   \r\nfind: \r\nfirst\\nsecond\\\\n \n"quoted, \\u0065nd "\nthe \n""\n'
PROMPTS = ["the ", "find: ", "first\nsecond\\n ", "quoted, end ", ""]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "letters.py").write_text(PLUGIN)
    (tmp_path / "prompts.txt").write_text(LINES, newline="")
    return tmp_path / "letters.py"


def test_the_lines_of_a_file_are_prompts(plugin: Path) -> None:
    assert read_prompts(plugin.with_name("prompts.txt")) == PROMPTS


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "holds no prompt"), (b"\xff", "it is not UTF-8"), (b'"a\n', "quotation mark that is not closed")],
)
def test_a_file_without_prompts_is_refused_in_one_sentence(
    harness, toy: Path, plugin: Path, content: bytes, message: str
) -> None:
    plugin.with_name("prompts.txt").write_bytes(content)
    done = harness("prompts", "letters", toy, "-f", "prompts.txt", "--plugin", plugin)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]


def test_every_prompt_is_a_row_and_documents_are_encoded_once(harness, toy: Path, plugin: Path) -> None:
    words = ["letters", toy, "-f", "prompts.txt", "--plugin", plugin]
    done = harness("prompts", *words, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    calls = [json.loads(line) for line in plugin.with_name("calls.jsonl").read_text().splitlines()]
    documents = Counter(text for role, text in calls if role == "document")
    assert len(documents) == 12
    assert set(documents.values()) == {1}
    queries = [text for role, text in calls if role == "query"]
    assert len(queries) == 4 * (1 + len(PROMPTS))
    for prompt in PROMPTS:
        assert sum(text.startswith(prompt) for text in queries) >= 4

    assert [row["prompt"] for row in found["rows"]] == [None, *PROMPTS]
    store = ResultStore(Path("results"))
    stored = [read_per_query(store.folder(row["model"], found["dataset"]), "nDCG@10") for row in found["rows"]]
    scores = [float(values.mean()) for values in stored]
    assert [row["score"] for row in found["rows"]] == scores
    assert len({*scores}) > 2
    assert (found["min"], found["max"]) == (min(scores[1:]), max(scores[1:]))
    assert found["standard_deviation"] == pytest.approx(stdev(scores[1:]))
    half = stats.t.ppf(0.975, 4) * stdev(scores[1:]) * (1 + 1 / 5) ** 0.5
    assert found["interval_of_another_prompt"] == pytest.approx(
        [np.mean(scores[1:]) - half, np.mean(scores[1:]) + half]
    )
    best = 1 + int(np.argmax(scores[1:]))
    assert found["best"]["prompt"] == PROMPTS[best - 1]
    interval = difference_interval([stored[best]], [stored[0]], level=0.99)
    assert found["best"]["simultaneous_interval"] == pytest.approx([interval.low, interval.high])
    cached = harness("prompts", *words)
    assert cached.code == 0
    assert plugin.with_name("calls.jsonl").read_text().count("\n") == len(calls)
    assert f"{min(scores[1:]):.4f} to {max(scores[1:]):.4f}, standard deviation" in cached.out


def test_clusters_of_queries_are_draws() -> None:
    draw = np.random.default_rng(3)
    values, codes = [draw.random(40) for _ in range(3)], np.repeat(np.arange(10), 4)
    found = prompt_spread(["a", "b"], ["m", "m:a", "m:b"], values, codes)
    for row, own in zip(found.rows[1:], values[1:], strict=True):
        expected = difference_interval([per_cluster(own - values[0], codes)], [np.zeros(10)])
        assert (row.interval.low, row.interval.high) == pytest.approx((expected.low, expected.high))
    # the mean over prompts: Student's t for 10 clusters and for 2 prompts, half widths added in squares
    clusters = np.mean(values[1:], axis=0).reshape(10, 4).mean(axis=1)
    prompts = np.array([own.mean() for own in values[1:]])
    half = [stats.t.ppf(0.975, len(part) - 1) * part.std(ddof=1) / len(part) ** 0.5 for part in (clusters, prompts)]
    assert found.interval.high - found.interval.low == pytest.approx(2 * np.hypot(*half))


def test_a_model_without_prompts_is_refused(harness, toy: Path, plugin: Path) -> None:
    done = harness("prompts", "bm25", toy, "-f", "prompts.txt")
    assert done.code == 2
    assert "bm25 takes no prompt for queries: its plug-in has no option query_prompt." in done.err


def test_a_single_prompt_has_no_spread() -> None:
    found = prompt_spread(["a"], ["m", "m:a"], [np.zeros(5), np.ones(5)], None)
    assert (found.deviation, found.another.ends, found.least) == (None, None, 1.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt cannot be read \(No such file or directory\)"):
        read_prompts(tmp_path / "none.txt")
