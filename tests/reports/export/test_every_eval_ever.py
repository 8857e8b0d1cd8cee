"""Stored results as records of Every Eval Ever, held against what its schema 0.3.0 and its validator ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness_reports.cli.export import command as export
from tests.reports.factory import Results

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NUMBER, TEXT = {"type": "number"}, {"type": "string"}
SOURCES: dict[str, dict[str, Any]] = {
    "url": {"url": {"type": "array", "items": TEXT, "minItems": 1}},
    "hf_dataset": {"hf_repo": TEXT},
    "other": {"source_id": TEXT},
}


def thing(required: dict[str, Any], optional: dict[str, Any] | None = None, *, closed: bool = False) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {
        "type": "object", "required": [*required], "properties": properties, "additionalProperties": not closed,
    }  # fmt: skip


RESULT = thing(
    {
        "evaluation_name": TEXT,
        "source_data": {
            "oneOf": [
                thing(
                    {"dataset_name": TEXT, "source_type": {"const": kind}, **more},
                    {"additional_details": TEXTS},
                    closed=True,
                )
                for kind, more in SOURCES.items()
            ]
        },
        "metric_config": thing(
            {
                "lower_is_better": {"type": "boolean"},
                "score_type": {"enum": ["continuous"]},
                "min_score": NUMBER,
                "max_score": NUMBER,
            },
            {"metric_id": TEXT, "metric_name": TEXT, "metric_kind": TEXT, "metric_unit": TEXT},
        ),
        "score_details": thing(
            {"score": NUMBER},
            {
                "uncertainty": thing(
                    {},
                    {
                        "standard_error": thing({"value": NUMBER}, {"method": TEXT}),
                        "confidence_interval": thing({"lower": NUMBER, "upper": NUMBER}, {"confidence_level": NUMBER}),
                        "standard_deviation": NUMBER,
                        "num_samples": {"type": "integer"},
                    },
                )
            },
        ),
    },
    {
        "evaluation_result_id": TEXT,
        "evaluation_timestamp": TEXT,
        "generation_config": thing(
            {}, {"generation_args": thing({}, {"execution_command": TEXT}, closed=True), "additional_details": TEXTS}
        ),
    },
)
RULES = thing(
    {
        "schema_version": {"const": "0.3.0"},
        "evaluation_id": TEXT,
        "retrieved_timestamp": TEXT,
        "source_metadata": thing(
            {
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "source_organization_name": TEXT,
                "evaluator_relationship": {"enum": ["first_party", "third_party", "collaborative", "other"]},
            },
            {"source_name": TEXT, "additional_details": TEXTS},
        ),
        "model_info": thing(
            {
                "name": TEXT,
                "id": TEXT,
                "additional_details": TEXTS
                | thing(
                    {
                        "deployment_type": {"enum": ["self_deployed", "externally_managed", "unknown"]},
                        "model_availability": {"enum": ["open_weights", "closed_weights", "unknown"]},
                    }
                )
                | {"additionalProperties": TEXT},
            },
            {"developer": TEXT},
        ),
        "eval_library": thing({"name": TEXT, "version": TEXT}, {"additional_details": TEXTS}),
        "evaluation_results": {"type": "array", "items": RESULT},
    },
    {"evaluation_timestamp": TEXT},
    closed=True,
)
"""The rules of schema 0.3.0 that concern what we write, restated from https://github.com/evaleval/every_eval_ever."""
PLACE = re.compile(r"data/[^/]+/[^/]+/[^/]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json")


def run(results: Results, output: Path, *more: str) -> Result:
    words = ["--results", str(results.store.root), "--format", "every-eval-ever", "-o", str(output), *more]
    return CliRunner().invoke(export, words)


@pytest.fixture
def filled(results: Results) -> Results:
    made = {"run": {"finished": "2026-11-28T10:00:00+00:00", "versions": {"retrieval-harness": "0.2.0"}}}
    results.add_queries("bm25", "scifact", [0.5, 1.0, 0.0, 0.25], manifest=made)
    results.add("bm25", "my/own", 0.25, measures={"nDCG@10": 0.25, "NumRet": 10.0, "Judged@10": 0.5, "AP": 0.1})
    hub = {"name": "st", "passed": {"name": "org/encoder@" + "a" * 40, "dtype": "float32"}, "trained_on": ["scifact"]}
    results.add("st:org/encoder:dtype=float32", "nano-scifact", 0.5, in_domain=True, manifest={"model": hub})
    results.add("CON", "scifact", 0.1)
    results.add("../<b>x", "scifact", 0.2, manifest={"dataset": {"source": "/elsewhere/scifact"}})
    results.add("theirs/model", "scifact", 0.3, imported="mteb")
    return results


def test_records_follow_the_schema(filled: Results, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="another judge of the schema (the ray extra brings it)")
    done = run(filled, tmp_path / "out", "--organisation", "Our lab", "--relation", "third_party")
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "out").rglob("*.json"))
    assert len(files) == 5
    for file in files:
        assert PLACE.fullmatch(place := file.relative_to(tmp_path / "out").as_posix())
        content = json.loads(file.read_text())
        jsonschema.validate(content, RULES)
        assert content["model_info"]["id"] == "/".join(place.split("/")[2:4])
        for result in content["evaluation_results"]:
            assert 0 <= result["score_details"]["score"] <= 1
    with pytest.raises(jsonschema.ValidationError):  # the rules do refuse something
        jsonschema.validate(content | {"leaderboard": 1}, RULES)


def test_the_validator_of_every_eval_ever_accepts_them(filled: Results, tmp_path: Path) -> None:
    core = pytest.importorskip(
        "every_eval_ever.validator.validation_core", reason="every-eval-ever is not installed (Python 3.12 or later)"
    )
    assert run(filled, tmp_path / "out", "--organisation", "Our lab").exit_code == 0
    for file in (tmp_path / "out").rglob("*.json"):
        place = file.relative_to(tmp_path / "out").as_posix()
        found = core.validate_aggregate(file, repo_path=place, run_semantic_checks=True)
        assert (found.errors, found.warnings) == ([], [])


def records(folder: Path) -> dict[str, Any]:
    contents = [json.loads(file.read_text()) for file in folder.rglob("*.json")]
    return {content["model_info"]["name"]: content for content in contents}


def test_what_a_record_says(filled: Results, tmp_path: Path) -> None:
    run(filled, tmp_path / "out", "--organisation", "Our lab")
    found = records(tmp_path / "out")
    bm25 = found["bm25"]
    assert bm25["eval_library"] == {"name": "retrieval-harness", "version": "0.2.0"}
    assert bm25["evaluation_id"] == f"retrieval-harness/bm25/{bm25['retrieved_timestamp']}"
    assert float(bm25["retrieved_timestamp"]) == 1795860000  # 2026-11-28T10:00:00 UTC
    results = {each["evaluation_result_id"]: each for each in bm25["evaluation_results"]}
    assert {*results} == {
        *("scifact/nDCG@10", "scifact/R@100", "my/own/nDCG@10", "my/own/Judged@10", "my/own/AP", "my/own/R@100")
    }  # and no count, which has no upper end
    ids = {each["metric_config"]["metric_id"] for each in results.values()}
    assert ids == {"ndcg-at-10", "recall-at-100", "map", "ir-measures.Judged@10"}
    told = results["scifact/nDCG@10"]["score_details"]
    values = np.array([0.5, 1.0, 0.0, 0.25])
    assert told["score"] == values.mean()
    assert told["uncertainty"]["standard_error"]["value"] == pytest.approx(values.std(ddof=1) / 2)
    assert told["uncertainty"]["num_samples"] == 4
    span = told["uncertainty"]["confidence_interval"]
    assert span["lower"] < values.mean() < span["upper"]
    assert results["scifact/nDCG@10"]["source_data"]["source_type"] == "url"
    assert results["my/own/nDCG@10"]["source_data"]["source_type"] == "other"
    [named] = found["../<b>x"]["evaluation_results"][:1]
    assert named["source_data"]["source_type"] == "other"  # a folder of that name, not the published copy
    encoder = found["st:org/encoder:dtype=float32"]
    assert encoder["model_info"]["id"] == "org/encoder"
    first = encoder["evaluation_results"][0]
    assert first["generation_config"]["additional_details"]["model_trained_on_this_dataset"] == "true"
    assert first["source_data"]["source_type"] == "hf_dataset"
    assert found["theirs/model"]["eval_library"] == {"name": "mteb", "version": "unknown"}


def test_the_same_results_give_the_same_files(filled: Results, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(filled, tmp_path / name, "--organisation", "Our lab")
    first, second = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.json")}
        for name in ("a", "b")
    )
    assert first == second


def test_the_one_who_measured_is_asked_for(filled: Results, tmp_path: Path) -> None:
    done = run(filled, tmp_path / "out")
    assert "--organisation" in str(done.exception)
    assert not (tmp_path / "out").exists()
