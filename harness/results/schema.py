"""The content of result.json: every field, the check of a file that was read, and the JSON schema in docs/."""

from datetime import datetime
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

SCHEMA = 1
"""Version of result.json. A file of another version is reported and skipped."""
WORDS = {str: "text", int: "an integer", bool: "true or false", list: "a list", dict: "a JSON object"}


class ModelRecord(TypedDict, total=False):
    """The model of a result."""

    label: str
    """Of a member: the label it would have as a row of its own."""
    key: str
    """Of a member: hash of its fingerprint."""
    name: str
    """Name of the registered model."""
    kind: str
    """dense, sparse, multivector, lexical, fusion, reranker, transform, pooling; imported for an imported result."""
    plugin: str
    """The plug-in that registers it."""
    summary: str
    """Its line in `harness models`."""
    options: dict[str, Any]
    """Every option with its value, apart from the path of a folder."""
    passed: dict[str, Any]
    """The options that the user passed."""
    storage: str
    """How the document vectors are stored: float32 or float16."""
    similarity: str | None
    """euclidean, cosine or dot; null for a model without vectors."""
    facts: dict[str, Any]
    """What is stated of the model, for reports alone: ``dim``, ``parameters``, ``max_tokens``, ``licence``. Missing in
    results of 0.2.0 and before."""
    trained_on: list[str]
    """Datasets whose judgements the model was trained on."""
    training: dict[str, Any]
    """How it was trained, as far as that is recorded."""
    fingerprint: dict[str, Any]
    """Everything that determines its output: weights, tokenizer, prompts, dtype, maximum length."""
    members: list[dict[str, Any]]
    """The models that a fusion, a reranker, a transform or a pooling is made of, each a record like this one."""


class DatasetRecord(TypedDict, total=False):
    """The dataset of a result."""

    name: str
    """Name of the dataset, without split and limit."""
    source: str | None
    """Folder or download that it was read from."""
    exclude_self: bool | None
    """Whether the document with the id of the query is left out of its ranking; null if that is unknown."""
    unusual: list[str]
    """Settings that differ from the dataset's usual ones. Such a result is in no average."""
    overlay: dict[str, Any]
    """Judgements that were added to the dataset's own: their name, and query -> document -> grade."""
    limit: int | None
    """How many queries were evaluated; null for all."""
    citation: str
    """Paper to cite."""
    fingerprint: dict[str, Any] | None
    """SHA-256 of the corpus, the queries and the judgements; null for results of MTEB."""
    notes: list[str]
    """Problems found in the data, one sentence each."""
    clusters: dict[str, Any]
    """Clusters of queries that are not independent: what links them (``rule``), how many there are, the queries of the
    largest, and how many hang together by shared documents (``linked``). Missing in results of 0.2.0 and before."""


class RunRecord(TypedDict, total=False):
    """The circumstances of a computation. None of them is part of the key."""

    started: str
    """Start time, ISO 8601, UTC."""
    finished: str
    """End time, ISO 8601, UTC."""
    peak_memory_bytes: int
    """Largest resident memory of the process."""
    search: dict[str, Any]
    """Memory limit and device of the search."""
    encoding: list[dict[str, Any]]
    """Throughput by model and role; empty if all vectors were stored already."""
    fallbacks: dict[str, str]
    """Models that ran with other options than asked for, and why."""
    measured: list[dict[str, Any]]
    """Metrics added later from the stored run: names, command and time."""
    versions: dict[str, Any]
    """Versions of Python and of the packages."""
    git: dict[str, Any] | None
    """Commit of the harness, and whether it had local changes; null outside a checkout."""
    machine: dict[str, Any]
    """Processor, cores, memory, GPU, operating system."""


class Manifest(TypedDict, total=False):
    """What a result is of, and how it was computed."""

    key: str
    """Hash of the model, the dataset, the depth and the harness's revision. A result with this key is reused."""
    model: ModelRecord
    """The model."""
    dataset: DatasetRecord
    """The dataset."""
    k: int
    """Depth of the run: documents per query."""
    index: dict[str, Any]
    """Configuration of an approximate index; absent for exact search."""
    seeds: dict[str, Any]
    """Seeds of everything random."""
    ties: str
    """How documents of equal score are ordered."""
    zero_vectors: str
    """How vectors of zeros are compared under cosine."""
    run: RunRecord
    """The circumstances of the computation."""
    source: dict[str, Any]
    """Of an imported result: file and checksum."""
    files: dict[str, str]
    """SHA-256 of the files beside result.json."""


class Result(TypedDict):
    """One model on one dataset: the content of RESULTS/MODEL/DATASET/result.json."""

    schema: int
    """Version of this format."""
    model: str
    """Label of the model: the name of its row."""
    dataset: str
    """Label of the dataset: its name, with the split and the limit where they are not the usual ones."""
    split: str
    """Split of the judgements."""
    status: Literal["ok", "failed"]
    """ok, or failed (see reason)."""
    partial: NotRequired[bool]
    """Whether only some of the queries were evaluated. Such a result is in no average."""
    in_domain: NotRequired[bool]
    """Whether the model was trained on this dataset's judgements."""
    imported: NotRequired[str]
    """run (a TREC run) or mteb for an imported result; absent for one computed here."""
    command: str
    """The command line that computed it."""
    measures: dict[str, float]
    """Metric -> mean over all judged queries, in ir_measures' names."""
    geometry: dict[str, Any]
    """Isotropy and related statistics of the document and query vectors, and hubness of the rankings."""
    index: NotRequired[dict[str, Any]]
    """Of an approximate index: recall against exact search, size, speed, and the metrics it costs."""
    seconds: dict[str, float]
    """Phase -> seconds."""
    counts: dict[str, float]
    """Documents, queries, judgements, tokens, queries without any result."""
    manifest: Manifest
    """What the result is of, and how it was computed."""
    reason: NotRequired[str]
    """Why it failed, in one sentence."""
    traceback: NotRequired[str]
    """The traceback of the failure."""


def find_fault(content: Any) -> str:
    """Checks the parsed content of a result.json.

    Returns:
        What is wrong with the first wrong field, as the end of a sentence; empty if the content is a `Result`.
    """
    if not isinstance(content, dict):
        return "it is not a JSON object"
    if lacking := [name for name in Result.__annotations__ if name in Result.__required_keys__ and name not in content]:
        return f"it lacks {', '.join(lacking)}"
    if content["schema"] != SCHEMA:
        return f"it has schema {content['schema']}, this version reads {SCHEMA}"
    if fault := _wrong_type(content, Result, "it"):
        return fault
    for section in ("measures", "seconds", "counts"):
        for name, value in content[section].items():
            if not isinstance(value, int | float) or not isfinite(value):
                return f"its {section} hold {value!r} for {name}, which is not a finite number"
    return _wrong_time(content["manifest"].get("run", {}).get("finished"))


def _wrong_type(value: Any, kind: Any, name: str) -> str:
    if hints := _fields(kind):
        if not isinstance(value, dict):
            return f"its {name} should be a JSON object"
        faults = (_wrong_type(value[field], hints[field], field) for field in hints if field in value)
        return next(filter(None, faults), "")
    if kind is Any:
        return ""
    plain, options = _parts(kind)
    if plain is Literal:
        return "" if value in options else f"its {name} is {value!r}, which is not {' or '.join(options)}"
    if type(None) in options:
        return "" if value is None else _wrong_type(value, options[0], name)
    wrong = not isinstance(value, plain) or (plain is int and isinstance(value, bool))
    return f"its {name} should be {WORDS[plain]}" if wrong else ""


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Its origin, or itself where it has none, and its arguments."""
    return get_origin(kind) or kind, get_args(kind)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    """Field of a TypedDict -> its type; cached, because a report checks every result."""
    return get_type_hints(kind) if is_typeddict(kind) else {}


def _wrong_time(finished: Any) -> str:
    try:
        if finished is not None:
            datetime.fromisoformat(finished).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return f"its manifest says that it was finished at {finished!r}, which is not a time"
    return ""


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of result.json, which docs/result.schema.json holds."""
    described = _descriptions()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "result.json"} | _schema(
        Result, described
    )


def _schema(kind: Any, described: dict[str, str]) -> dict[str, Any]:
    names = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
    if is_typeddict(kind):
        fields = {
            field: _schema(hint, described) | {"description": described[f"{kind.__name__}.{field}"]}
            for field, hint in _fields(kind).items()
        }
        required = [field for field in fields if field in kind.__required_keys__]
        return {"type": "object", "properties": fields} | ({"required": required} if required else {})
    if kind is Any:
        return {}
    options, origin = get_args(kind), get_origin(kind)
    if origin is Literal:
        return {"enum": list(options)}
    if type(None) in options:
        return {"anyOf": [_schema(options[0], described), {"type": "null"}]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(options[1], described)}
    if origin is list:
        return {"type": "array", "items": _schema(options[0], described)}
    return {"type": names[kind]}


def _descriptions() -> dict[str, str]:
    """Class.field -> the text under the field."""
    import ast

    found = {}
    for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found[f"{node.name}.{field.target.id}"] = ast.literal_eval(text.value)  # type: ignore[attr-defined]
    return found
