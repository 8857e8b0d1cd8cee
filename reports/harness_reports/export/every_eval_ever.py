"""Stored results as records of Every Eval Ever (arXiv:2606.14516), schema 0.3.0, laid out as its datastore is.

``data/retrieval-harness/DEVELOPER/MODEL/UUID.json``: one record for each model. Its identifier and its dates come from
the results, so that the same results give the same file. Scores of single queries are not written: the schema's form
for them asks for an answer and whether it is correct, which a ranking has not.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

from harness.datasets.catalog import catalogue
from harness.metrics.clusters import per_cluster
from harness.metrics.significance import ALPHA, mean_interval
from harness.results.store import slug
from harness.storage.atomic import content_key, write_json
from harness_reports.data.leaderboard import MEASURE, Cell
from harness_reports.data.paired import squared_error
from harness_reports.data.per_query import Evidence
from harness_reports.export.mteb import ORGANISATION, base

SCHEMA = "0.3.0"
"""The version of the schema."""
KINDS = {"nDCG": "ndcg", "R": "recall", "P": "precision", "AP": "map", "RR": "mrr"}
"""Measures whose ids the registry of Every Eval Ever forms with the cut: ``ndcg-at-10``."""
OTHERS = ("Bpref", "ERR", "infAP", "IPrec", "Judged", "RBP", "Rprec", "SetF", "SetP", "SetR", "Success")
"""Further measures between 0 and 1, which have ids of their own there: ``ir-measures.Judged@10``."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)|data$|unknown$", re.IGNORECASE)
"""Names that its datastore does not allow for a folder."""


def write_records(
    cells: Sequence[Cell], folder: Path, evidence: Evidence, organisation: str, relation: str = "other"
) -> list[Path]:
    """Writes a record for every model; returns the files.

    Args:
        cells: Finished, whole cells.
        folder: The folder that ``data/`` is in.
        evidence: Where the scores of the queries are read, for the uncertainty.
        organisation: Who measured.
        relation: What they are to those who made the models, as the schema's ``evaluator_relationship`` names it.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.imported), []).append(cell)
    paths = []
    for own in groups.values():
        content = _record(own, evidence, organisation, relation)
        developer, name = content["model_info"]["id"].split("/")
        digest = sha256(content_key(content).encode()).digest()
        path = folder / "data" / ORGANISATION / developer / name / f"{uuid.UUID(bytes=digest[:16], version=4)}.json"
        write_json(path, content)
        paths.append(path)
    return paths


def _record(cells: Sequence[Cell], evidence: Evidence, organisation: str, relation: str) -> dict[str, Any]:
    first = cells[0]
    dates = sorted(filter(None, map(_finished, cells)))
    stamp = str(datetime.fromisoformat(dates[-1]).timestamp()) if dates else "unknown"
    how = (
        {"imported": f"from {'a TREC run' if first.imported == 'run' else 'results of MTEB'}"} if first.imported else {}
    )
    source: dict[str, Any] = {
        "source_name": ORGANISATION,
        "source_type": "evaluation_run",
        "source_organization_name": organisation,
        "evaluator_relationship": relation,
    }
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{ORGANISATION}/{slug(first.model)}{f'+{first.imported}' if how else ''}/{stamp}",
        **({"evaluation_timestamp": dates[-1]} if dates else {}),
        "retrieved_timestamp": stamp,
        "source_metadata": source | ({"additional_details": how} if how else {}),
        "eval_library": _library(cells),
        "model_info": _model(first),
        "evaluation_results": [result for cell in cells for result in _results(cell, evidence)],
    }


def _library(cells: Sequence[Cell]) -> dict[str, Any]:
    name = "mteb" if cells[0].imported == "mteb" else ORGANISATION
    place = ("source", "mteb_version") if name == "mteb" else ("run", "versions", ORGANISATION)
    versions = sorted({str(found) for cell in cells if (found := cell.get("manifest", *place))})
    several = {"additional_details": {"versions": ", ".join(versions)}} if len(versions) > 1 else {}
    return {"name": name, "version": versions[-1] if versions else "unknown", **several}


def _model(cell: Cell) -> dict[str, Any]:
    """The repository on the hub is the id, whatever the options; a model that is not from there gets one of ours."""
    passed = str((cell.get("manifest", "model", "passed") or {}).get("name", "")).partition("@")[0]
    hub = passed if cell.get("manifest", "model", "name") in ("st", "mteb") else ""
    label = cell.model.partition("@")[0]
    hub = hub or (label if cell.imported == "mteb" else "")
    known = hub.count("/") == 1 and all(map(_allowed, hub.split("/")))
    ident = hub if known else f"{ORGANISATION}/{_component(cell.model)}"
    details = {
        "deployment_type": "unknown" if cell.imported else "self_deployed",
        "model_availability": "open_weights" if known and not cell.imported else "unknown",
        "settings": _text(cell.get("manifest", "model", "fingerprint")),
        "kind": _text(cell.get("manifest", "model", "kind")),
        "trained_on": _text(cell.get("manifest", "model", "trained_on") or None),
    }
    return {
        "name": cell.model,
        "id": ident,
        "developer": ident.partition("/")[0],
        "additional_details": {key: value for key, value in details.items() if value},
    }


def _results(cell: Cell, evidence: Evidence) -> list[dict[str, Any]]:
    details = {
        "key": _text(cell.get("manifest", "key")),
        "depth": _text(cell.get("manifest", "k")),
        "exclude_self": _text(cell.get("manifest", "dataset", "exclude_self")),
        "model_trained_on_this_dataset": _text(cell.in_domain),
    }
    shared: dict[str, Any] = {"source_data": _source(cell)}
    shared |= {"evaluation_timestamp": date} if (date := _finished(cell)) else {}
    generation: dict[str, Any] = {"additional_details": {key: value for key, value in details.items() if value}}
    generation |= {"generation_args": {"execution_command": command}} if (command := cell.get("command")) else {}
    return [
        {
            "evaluation_result_id": f"{cell.dataset}/{name}",
            "evaluation_name": f"{ORGANISATION}.{cell.dataset}",
            **shared,
            "metric_config": metric,
            "score_details": {"score": value, **_uncertainty(cell, name, evidence)},
            "generation_config": generation,
        }
        for name, value in cell.get("measures").items()
        if 0 <= value <= 1 and (metric := _metric(name))
    ]


def _metric(name: str) -> dict[str, Any] | None:
    """None for a measure that may lie outside of 0 to 1."""
    kind, _, cut = name.partition("@")
    plain = kind.partition("(")[0]
    if plain not in (*KINDS, *OTHERS):
        return None
    usual = kind in KINDS and (cut.isdigit() or not cut)
    ident = KINDS.get(kind, "") + (f"-at-{cut}" if cut else "") if usual else f"ir-measures.{name}"
    return {
        "evaluation_description": f"{name} of ir_measures, by trec_eval's rules; the mean over all judged queries",
        "metric_id": ident,
        "metric_name": name,
        "metric_kind": KINDS.get(plain, plain.lower()),
        "metric_unit": "proportion",
        **({"metric_parameters": {"k": int(cut)}} if cut.isdigit() else {}),
        "lower_is_better": False,
        "score_type": "continuous",
        "min_score": 0.0,
        "max_score": 1.0,
    }


def _uncertainty(cell: Cell, name: str, evidence: Evidence) -> dict[str, Any]:
    """What the scores of the queries say of the headline measure, those that share documents as clusters."""
    scores = evidence.scores(cell.model, cell.dataset) if name == MEASURE else None
    if not scores or len(scores.ids) < 2:
        return {}
    values = per_cluster(scores.values, evidence.clusters.codes(cell.dataset, scores.ids))
    found: dict[str, Any] = {
        "standard_error": {"value": sqrt(squared_error(values)), "method": "analytic, over clusters of queries"},
        "standard_deviation": float(scores.values.std(ddof=1)),
        "num_samples": len(scores.ids),
    }
    if ends := mean_interval([values], level=1 - ALPHA).ends:
        span = {"lower": ends[0], "upper": ends[1], "confidence_level": 1 - ALPHA}
        found["confidence_interval"] = {**span, "method": "bootstrap over clusters of queries"}
    return {"uncertainty": found}


def _source(cell: Cell) -> dict[str, Any]:
    """Where the dataset is published, if the catalogue's copy was read; a hash of what was read in any case."""
    name, fingerprint = base(cell), cell.get("manifest", "dataset", "fingerprint")
    read = {"split": str(cell.get("split"))} | ({"content_sha256": content_key(fingerprint)} if fingerprint else {})
    stated: dict[str, Any] = {"dataset_name": cell.dataset, "additional_details": read}
    spec = catalogue().datasets.get(name)
    named = cell.get("manifest", "dataset", "source") in (None, name)
    for source in spec.sources if spec and named else ():
        if source.kind == "zip":
            return stated | {"source_type": "url", "url": [source.place]}
        if source.kind == "hub":
            return stated | {"source_type": "hf_dataset", "hf_repo": source.place.partition("@")[0]}
    return stated | {"source_type": "other", "source_id": name}


def _finished(cell: Cell) -> str:
    return str(cell.get("manifest", "run", "finished") or "")


def _text(value: object) -> str:
    """The schema wants texts in every ``additional_details``."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _allowed(part: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+", part)) and not part.endswith(".") and not RESERVED.match(part)


def _component(label: str) -> str:
    """A label as a name that is allowed for a folder there, without a colon."""
    name = slug(label).rstrip(". ")
    return f"_{name}" if RESERVED.match(name) else name
