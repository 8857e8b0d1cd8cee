"""The documented format of result.json: its JSON schema, and that what is written follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.results.schema import Result, find_fault, json_schema
from tests.conftest import ROOT

jsonschema = pytest.importorskip("jsonschema", reason="another judge of the schema (the ray extra brings it)")
SCHEMA_FILE = ROOT / "docs" / "result.schema.json"


def test_the_published_schema_is_that_of_the_type() -> None:
    text = json.dumps(json_schema(), indent=2) + "\n"
    assert SCHEMA_FILE.read_text() == text, "write json_schema() to docs/result.schema.json"
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_what_a_benchmark_writes_follows_the_schema(harness: Any, toy: Path) -> None:
    assert harness("benchmark", "-m", "bm25", "-d", toy).code == 0
    content = json.loads((Path("results") / "bm25" / toy.name / "result.json").read_text())
    jsonschema.validate(content, json_schema())
    assert find_fault(content) == ""


@pytest.mark.parametrize(
    "file", sorted((ROOT / "docs" / "reports").rglob("result.json"))[::25], ids=lambda f: f.parent.name
)
def test_results_of_version_0_1_follow_it(file: Path) -> None:
    content = json.loads(file.read_text())
    jsonschema.validate(content, json_schema())
    assert find_fault(content) == ""


def changed(content: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The content with another value at the path."""
    if not path:
        return value  # type: ignore[no-any-return]
    return {**content, path[0]: changed(content.get(path[0], {}), path[1:], value)}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("model",), 3, "its model should be text"),
        (("status",), "done", "its status is 'done', which is not ok or failed"),
        (("measures",), [], "its measures should be a JSON object"),
        (("measures", "nDCG@10"), float("nan"), "its measures hold nan for nDCG@10, which is not a finite number"),
        (("manifest", "k"), "1000", "its k should be an integer"),
        (("manifest", "dataset", "limit"), True, "its limit should be an integer"),
        (
            ("manifest", "run", "finished"),
            "now",
            "its manifest says that it was finished at 'now', which is not a time",
        ),
    ],
)
def test_a_wrong_field_is_named(harness: Any, toy: Path, path: tuple[str, ...], value: Any, sentence: str) -> None:
    harness("benchmark", "-m", "bm25", "-d", toy)
    content: Result = json.loads((Path("results") / "bm25" / toy.name / "result.json").read_text())
    assert find_fault(changed(dict(content), path, value)) == sentence
