"""Results on disk: found again under their key, whole and undamaged, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.measures import Scores
from harness.results.schema import SCHEMA
from harness.results.store import ResultStore, Unreadable, read_result, slug, write_per_query
from harness.storage import atomic
from harness.storage.records import opened
from harness.types import Query
from tests.conftest import Done


def result(key: str = "k", status: str = "ok", score: float = 0.5, **fields: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": "m",
        "dataset": "d",
        "split": "test",
        "status": status,
        "command": "harness benchmark",
        "measures": {"nDCG@10": score},
        "geometry": {},
        "seconds": {},
        "counts": {},
        "manifest": {"key": key},
        **fields,
    }


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def put(store: ResultStore, **fields: Any) -> Path:
    """Writes a cell with a run file, as the pipeline does; gives its folder."""
    with store.writing("m", "d") as new:
        (new.folder / "run.trec.gz").write_bytes(b"a run")
        (new.folder / "per_query.parquet").write_bytes(b"a table")
        new.finish(result(**fields))
    return store.folder("m", "d")


def scores(store: ResultStore) -> list[float | None]:
    return [None if isinstance(found, Unreadable) else found["measures"]["nDCG@10"] for found in store.scan()]


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("bm25", "bm25"),
        ("bm25:b=0.4,k1=0.9", "bm25+b=0.4,k1=0.9"),
        ("toy:split=dev,limit=50", "toy+split=dev,limit=50"),
        ("my-model@1a2b3c", "my-model@1a2b3c"),
        ("Modell-für_東京", "Modell-für_東京"),
    ],
)
def test_ordinary_labels_are_legible_folders(label: str, folder: str) -> None:
    assert slug(label) == folder


LABELS = st.text(st.sampled_from("ab:+=@._-/\\ ~*?\n\0é東🙂\udcff"), min_size=1, max_size=6)


@given(one=LABELS, other=LABELS)
def test_different_labels_are_different_safe_folders(one: str, other: str) -> None:
    assert (slug(one) == slug(other)) == (one == other)
    for name in (slug(one), slug(other)):
        assert not set(name) & set('/\\:*?"<>| \n\0')
        assert not name.startswith(".")
        assert name.encode()


@pytest.mark.parametrize("letter", ["x", "東", "🙂"])
def test_a_label_as_long_as_a_prompt_still_is_a_folder(store: ResultStore, letter: str) -> None:
    one, other = f"m:query_prompt={letter * 400}1", f"m:query_prompt={letter * 400}2"
    assert slug(one) != slug(other)
    store.write(one, other, result())
    assert scores(store) == [0.5]


def test_a_finished_cell_is_found_under_its_key_alone(store: ResultStore) -> None:
    assert store.finished("m", "d", "k") is None
    folder = put(store)
    found = store.finished("m", "d", "k")
    assert found == opened(json.loads((folder / "result.json").read_text()))
    assert found["manifest"]["files"] == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in (("per_query.parquet", b"a table"), ("run.trec.gz", b"a run"))
    }
    assert store.finished("m", "d", "another key") is None
    assert store.finished("m", "other", "k") is None
    put(store, status="failed")
    assert store.finished("m", "d", "k") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "run.trec.gz").write_bytes(b"a ruN"),
        lambda folder: (folder / "run.trec.gz").write_bytes(b"a ru"),
        lambda folder: (folder / "per_query.parquet").unlink(),
        lambda folder: (folder / "result.json").unlink(),
        lambda folder: (folder / "result.json").write_text((folder / "result.json").read_text()[:80]),
    ],
)
def test_a_damaged_cell_is_not_served(store: ResultStore, damage) -> None:
    damage(put(store))
    assert store.finished("m", "d", "k") is None
    put(store)
    assert store.finished("m", "d", "k")


def test_a_figure_that_a_flipped_bit_changed_is_neither_served_nor_shown(store: ResultStore) -> None:
    folder = put(store, score=0.25)
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace("0.25", "0.35"))
    assert store.finished("m", "d", "k") is None
    found = read_result(folder)
    assert isinstance(found, Unreadable)
    assert found.reason == "it is damaged, or was edited (its checksum is not that of its content)"
    assert isinstance(edited := read_result(folder, edited=True), dict)
    assert edited["measures"] == {"nDCG@10": 0.35}


def test_a_result_of_an_earlier_version_has_no_checksum_and_is_served(store: ResultStore) -> None:
    folder = put(store)
    content = json.loads((folder / "result.json").read_bytes())
    del content["checksum"]
    (folder / "result.json").write_text(json.dumps(content))
    assert store.finished("m", "d", "k") == content


UNREADABLE = {
    "": "not readable JSON",
    '{"schema": 1, "mod': "not readable JSON",
    "[1, 2]": "not a JSON object",
    "null": "not a JSON object",
    "{}": "lacks schema, model, dataset",
    json.dumps({name: value for name, value in result().items() if name != "measures"}): "lacks measures",
    json.dumps(result(schema=SCHEMA + 1)): f"has schema {SCHEMA + 1}, this version reads {SCHEMA}",
    json.dumps(result(schema=None)): "has schema None",
    json.dumps(result(manifest=[])): "its manifest should be a JSON object",
    json.dumps(result(measures=0.5)): "its measures should be a JSON object",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_result_of_ours_is_named_and_never_guessed_at(store: ResultStore, text: str) -> None:
    folder = put(store)
    (folder / "result.json").write_text(text)
    (found,) = store.scan()
    assert isinstance(found, Unreadable)
    assert found.path == folder / "result.json"
    assert UNREADABLE[text] in found.reason
    assert store.finished("m", "d", "k") is None


def test_bytes_that_are_no_text_are_named_too(store: ResultStore) -> None:
    folder = put(store)
    (folder / "result.json").write_bytes(b"\xff\xfe{")
    assert isinstance(read_result(folder), Unreadable)
    assert read_result(folder.parent) == Unreadable(folder.parent / "result.json", "there is no result")


def test_a_result_is_replaced_whole_or_left_alone(store: ResultStore) -> None:
    folder = put(store, score=0.25)
    with suppress(RuntimeError), store.writing("m", "d") as new:
        (new.folder / "run.trec.gz").write_bytes(b"half a r")
        raise RuntimeError("out of luck")
    with pytest.raises(ValueError, match="no result was written"), store.writing("m", "d"):
        pass
    with pytest.raises(ValueError, match="its measures hold 'x' for nDCG@10, which is not a finite number"):
        store.write("m", "d", result(measures={"nDCG@10": "x"}))
    assert store.finished("m", "d", "k")
    assert scores(store) == [0.25]
    put(store, score=0.75)
    assert scores(store) == [0.75]
    assert [path.name for path in folder.parent.iterdir()] == ["d"]


def test_a_failure_replaces_nothing_but_a_failure(store: ResultStore) -> None:
    failures = [result(status="failed", score=0.0, reason=reason) for reason in ("first", "second")]
    for failure in failures:
        store.write_failure(failure)
        assert [found["reason"] for found in store.scan()] == [failure["reason"]]
    folder = put(store, score=0.75)
    store.write_failure(failures[0])
    assert scores(store) == [0.75]
    (folder / "result.json").write_text(json.dumps(result(schema=SCHEMA + 1, score=0.25)))  # a newer version's
    store.write_failure(failures[0])
    assert json.loads((folder / "result.json").read_text())["measures"] == {"nDCG@10": 0.25}


def test_a_result_that_a_kill_left_aside_is_put_back(store: ResultStore) -> None:
    folder = put(store)
    aside = folder.with_name(".d.old")
    for find in (lambda: store.finished("m", "d", "k"), lambda: scores(store), lambda: store.write_failure(result())):
        folder.rename(aside)
        find()
        assert not aside.exists()
        assert store.finished("m", "d", "k")


def test_scanning_is_in_name_order_and_passes_over_what_is_under_way(store: ResultStore) -> None:
    for model, dataset, score in (("b", "x", 0.5), ("a", "y", 0.25), ("a", "x", 0.125)):
        store.write(model, dataset, result(score=score))
    under_way = store.root / "a" / ".z.0123abcd.tmp"
    under_way.mkdir()
    (under_way / "result.json").write_text("{")
    (store.root / "a" / "notes.txt").write_text("not a folder")
    (store.root / "c").mkdir()
    assert scores(store) == [0.125, 0.25, 0.5]
    assert list(ResultStore(store.root / "nowhere").scan()) == []


def test_the_table_per_query_holds_text_judgements_and_full_precision(tmp_path: Path) -> None:
    queries = [Query("q1", "first ü"), Query("q2", "second")]
    qrels = {"q1": {"a": 2, "b": 0, "c": -1}, "q2": {"a": 1, "b": 1}, "q3": {"a": 1}}
    values = np.array([[1 / 3, 1.0], [np.nextafter(0.1, 1), 0.0], [0.0, 0.0]])
    scored = Scores(["q1", "q2", "q3"], ("nDCG@10", "R@100"), values, 1, 0, 0)
    for name in ("one", "other"):
        write_per_query(tmp_path / name, queries, qrels, scored)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    table = pd.read_parquet(tmp_path / "one")
    assert list(table) == ["query_id", "query", "relevant", "cluster", "nDCG@10", "R@100"]
    assert table["cluster"].tolist() == [0, 0, 0]  # all have the document a
    assert table["query_id"].tolist() == ["q1", "q2", "q3"]
    assert table["query"].tolist() == ["first ü", "second", ""]
    assert table["relevant"].tolist() == [1, 2, 1]
    np.testing.assert_array_equal(table[["nDCG@10", "R@100"]].to_numpy(), values)
    write_per_query(tmp_path / "apart", queries, {**qrels, "q2": {"b": 1}, "q3": {"c": 1}}, scored)
    assert list(pd.read_parquet(tmp_path / "apart")) == ["query_id", "query", "relevant", "nDCG@10", "R@100"]


def test_what_killed_commands_left_is_removed_by_the_next(
    harness: Callable[..., Done], toy: Path, tmp_path: Path
) -> None:
    """Also where that command writes nothing: in the results, in the home, and in a folder that is exported to."""
    words = ("benchmark", "-m", "bm25", "-d", toy)
    assert harness(*words).code == 0
    export = ("export", "--format", "mteb", "-o", tmp_path / "shared")
    assert harness(*export).code == 0
    (card,) = (tmp_path / "shared").rglob("model_meta.json")
    left = [
        *(tmp_path / "results" / name for name in (".x.0123abcd.tmp", "bm25/.toy.0123abcd.tmp", "bm25/.b.lock")),
        *(tmp_path / "home" / name for name in (".x.0123abcd.tmp", "indexes/.b.0123abcd.tmp", "locks/.b.lock")),
        card.with_name(".model_meta.json.0123abcd.tmp"),
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    atomic._SWEPT.clear()  # as a process of its own begins
    assert "cached" in harness(*words).out
    assert harness(*export).code == 0
    assert not [path for path in left if path.exists()]
