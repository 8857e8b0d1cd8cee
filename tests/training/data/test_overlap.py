"""``harness overlap``: planted duplicates, against the exact similarity of all pairs."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.types import UserError
from harness_training.data.overlap import DuplicateSearch, jaccard, shingles, words
from tests.cli.test_kept import Run

pytest.importorskip("datasketch", reason="the overlap extra")


def text(rng: np.random.Generator, length: int) -> list[str]:
    return [f"w{word}" for word in rng.integers(0, 3000, length)]


def test_planted_near_duplicates_are_found_and_exactly_measured() -> None:
    """Texts with some words replaced: found if, and only if, the similarity of all their word pairs says so."""
    rng = np.random.default_rng(1)
    known = {f"t{number}": text(rng, int(rng.integers(8, 120))) for number in range(300)}
    training = [text(rng, 60) for _ in range(700)]
    for own in known.values():
        changed = list(own)
        for place in rng.choice(len(own), int(rng.integers(0, 1 + len(own) // 6)), replace=False):
            changed[place] = "other"
        training.append(changed)
    duplicates = DuplicateSearch(0.8)
    duplicates.add((key, " ".join(own)) for key, own in known.items())
    duplicates.search(" ".join(each).upper() + " ?!" for each in training)
    pairs = [{*pairwise(each)} for each in training]
    best = {}
    for key, own in known.items():
        mine = {*pairwise(own)}
        best[key] = max(len(mine & other) / len(mine | other) for other in pairs)
    expected = {key: similarity for key, similarity in best.items() if similarity >= 0.8}
    assert 50 < len(expected) < 290
    assert {key: match.similarity for key, match in duplicates.best.items()} == pytest.approx(expected)
    assert all(match.exact == (match.similarity == 1) for match in duplicates.best.values())


def test_words_and_similarity_by_hand() -> None:
    assert words("Who won the  Battle, of Müller's?") == ("who", "won", "the", "battle", "of", "müller", "s")
    assert shingles(["one"]) == {"one"}
    assert shingles([]) == frozenset()
    assert jaccard(shingles(["a", "b", "c"]), shingles(["a", "b", "d"])) == 1 / 3


def test_without_the_package_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UserError, match=r'pip install "retrieval-harness\[overlap\]"'):
        DuplicateSearch(0.8)


TRIPLETS = [
    {"query": "How does BLOOD move?", "positive": "unrelated words about nothing", "negative": "more of them"},
    {"query": "something else", "positive": "Bread is baked from flour, water, salt and yeast", "negative": "stones"},
    {"query": "and more", "positive": "pumps", "negative": "The heart pumps blood through the arteries of the body"},
]


def test_the_command_stores_what_reports_and_comparisons_show(harness: Run, toy: Path, tmp_path: Path) -> None:
    """The query of q1, the document of q3, and of q1's document the text without its title."""
    triplets = tmp_path / "mine.jsonl"
    triplets.write_text("".join(json.dumps(row) + "\n" for row in TRIPLETS))
    done = harness("overlap", triplets, toy, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["seen"] == {"q1": "exact", "q3": "document"}
    assert (found["queries"], found["documents"]["exact"]) == ({"total": 4, "exact": 1, "near": 0}, 2)
    assert "2 queries are clean" in harness("overlap", triplets, toy).out

    plugin = tmp_path / "trained_on_it.py"
    plugin.write_text(PLUGIN)
    models = ("-m", "bm25", "-m", "trained_on_it", "--plugin", plugin)
    assert harness("benchmark", *models, "-d", toy, "--measures", "nDCG@10").code == 0
    shown = harness("report").out
    assert "mine, with which trained_on_it was trained, has 1 exact and 0 near duplicates of 4 queries" in shown
    assert "queries seen" in shown
    [contrast] = json.loads(harness("compare", "bm25", "trained_on_it", "--json").out)["clean"]
    assert (contrast["queries"], contrast["model"]) == (2, "trained_on_it")
    assert "## Clean queries" in harness("compare", "bm25", "trained_on_it").out
    (record,) = Path("results/overlap").iterdir()
    record.write_text(record.read_text().replace('"mine"', '"yours"', 1))
    damaged = harness("report")
    assert damaged.code == 1
    assert "is not a record of harness overlap, or is damaged" in damaged.err


PLUGIN = """
import numpy as np
from harness import ModelSpec, hookimpl


class Letters:
    dim = 7

    def encode(self, texts, *, role):
        return np.array([[text.count(c) + 0.1 for c in "aeioust"] for text in texts], np.float32)


def load(options):
    return Letters()


@hookimpl
def harness_models():
    yield ModelSpec(
        "trained_on_it", "dense", load=f"{__name__}:load", summary="x", similarity="cosine", trained_on=("mine",)
    )
"""


def test_a_dataset_is_a_training_set_too(harness: Run, toy: Path) -> None:
    (toy / "qrels" / "train.tsv").write_text((toy / "qrels" / "test.tsv").read_text())
    done = harness("overlap", toy, toy, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert {*found["seen"].values()} == {"exact"}
    assert found["trained_on"] == ["toy"]
