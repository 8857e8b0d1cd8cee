"""Writes the model card: description, scores, training data and untested aspects of a checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.datasets.catalog import catalogue, labels
from harness_plugins.sentence_transformers.trained import BASES, known_base
from harness_reports.render.markdown import escape
from harness_training.experiment.settings import FORMERLY
from harness_training.release.stored_scores import MEASURE, StoredScores, standing
from harness_training.release.verify import Loaded

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
SUITE = "beir18"
SAW = (
    "The model card of {base} lists MS MARCO, Natural Questions and Quora among its 1.17 billion training pairs. "
    "It also lists duplicate links of Stack Exchange questions, which CQADupStack judges by, and citation pairs of "
    "S2ORC and SPECTER, which SCIDOCS judges by; whether test items were held out is not said, so both are marked."
)
COMPARED = {"euclidean": "Euclidean distance", "cosine": "cosine", "dot": "inner product"}
MSMARCO = (
    "MS MARCO, which this model or its base was trained on, is licensed for non-commercial research; whether that "
    "applies to weights trained on it is for their users to judge."
)


def card(name: str, licence: str, record: Mapping[str, Any], cells: Sequence[StoredScores], loaded: Loaded) -> str:
    """README.md of a hub folder.

    Args:
        name: Of the model.
        licence: Identifier of its licence.
        record: Result of `harness_plugins.sentence_transformers.trained.training`, without paths.
        cells: Its stored results.
        loaded: Properties of the loaded model.
    """
    sections = {
        "How to use": _use(name, loaded),
        "Measured": _measured(cells),
        "In-domain datasets": _in_domain(record),
        "Training": _training(record),
        "Not measured": _unmeasured(cells, loaded),
        "Licence": _licence(licence, record),
    }
    head = "\n".join(["---", *yaml(_front(name, licence, record, cells)), "---"])
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{head}\n\n# {escape(name)}\n\n{_summary(record, loaded)}\n\n{body}\n"


def _front(name: str, licence: str, record: Mapping[str, Any], cells: Sequence[StoredScores]) -> dict[str, Any]:
    """The YAML front matter."""
    tags = ["sentence-transformers", "sentence-similarity", "feature-extraction", "information-retrieval"]
    front: dict[str, Any] = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    front |= {"license": licence, "tags": tags}
    if base := _hub_base(record):
        front["base_model"] = base
    if own := _own_data(record):
        front["datasets"] = own
    if chosen := standing(cells):
        front["model-index"] = [{"name": name, "results": [_entry(cell) for cell in chosen.values()]}]
    return front


def _entry(cell: StoredScores) -> dict[str, Any]:
    mark = " (in-domain)" if cell.in_domain else ""
    return {
        "task": {"type": "information-retrieval", "name": "Information Retrieval"},
        "dataset": {"type": cell.dataset, "name": f"{cell.dataset}{mark}", "split": cell.split},
        "metrics": [{"type": "ndcg_at_10", "name": MEASURE + mark, "value": cell.score}],
    }


def _hub_base(record: Mapping[str, Any]) -> str:
    if known := known_base(record):
        return BASES[known][0].hub.partition("@")[0]
    stated = str((record.get("base") or {}).get("name", ""))
    return stated if HUB_NAME.fullmatch(stated) else ""


def _own_data(record: Mapping[str, Any]) -> list[str]:
    sources = (record.get("training_set") or {}).get("sources") or []
    return list(dict.fromkeys(str(source["name"]) for source in sources))


def yaml(content: Any) -> Iterator[str]:
    """Lines of block YAML; strings are quoted as in JSON, so that they are never read as another type."""
    entries = content.items() if isinstance(content, Mapping) else ((None, value) for value in content)
    for key, value in entries:
        start = "-" if key is None else f"{key}:"
        if not value or not isinstance(value, Mapping | list):
            yield f"{start} {_scalar(value)}"
        elif key is None:
            first, *rest = yaml(value)
            yield from (f"- {first}", *(f"  {line}" for line in rest))
        else:
            yield from (start, *(f"  {line}" for line in yaml(value)))


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return re.sub(r"[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _summary(record: Mapping[str, Any], loaded: Loaded) -> str:
    length = f"at most {loaded.max_seq_length} tokens" if loaded.max_seq_length else "texts of any length"
    compared, base = COMPARED.get(loaded.similarity, loaded.similarity), _base_name(record)
    frozen = (record.get("settings") or {}).get("freeze_base")
    how = "Its projection was trained on the frozen" if frozen else "It was fine-tuned from"
    made = f"{how} {base}" if base else "What it was trained from is not on record"
    if experiment := record.get("experiment"):
        made += f", as the experiment `{_code(experiment)}`, run `{_code(record.get('run'))}`"
    return (
        f"A [sentence-transformers](https://www.sbert.net) model for retrieval: vectors of {loaded.dim} dimensions, "
        f"compared by {compared}, {length}, {loaded.parameters:,} parameters. {made}."
    )


def _base_name(record: Mapping[str, Any]) -> str:
    if hub := _hub_base(record):
        return f"[{escape(hub)}](https://huggingface.co/{hub})"
    base = record.get("base") or {}
    return escape(str(base.get("name") or base.get("path") or ""))


def _code(value: Any) -> str:
    """Sanitise text for use inside backticks."""
    return " ".join(str(value).replace("`", "'").split())


def _use(name: str, loaded: Loaded) -> str:
    prompts = "Texts get no prompt."
    if loaded.prompts:
        stated = ", ".join(f"`{_code(role)}`: `{_code(prompt)}`" for role, prompt in loaded.prompts.items())
        prompts = f"The prompts are put before the texts by the methods below ({stated})."
    negated = " (the negated distance, so that the nearest has the greatest)" * (loaded.similarity == "euclidean")
    return f"""{prompts} `model.similarity` is {loaded.similarity}{negated}.

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({json.dumps(name)})
queries = model.encode_query(["what pumps blood"])
documents = model.encode_document(["The heart pumps blood.", "Bread is baked from flour."])
print(model.similarity(queries, documents))
```"""


def _measured(cells: Sequence[StoredScores]) -> str:
    if not cells:
        return "Nothing was measured: no stored result belongs to this checkpoint."
    rows = ["| dataset | split | queries | nDCG@10 | isotropy | dtype | notes |", "|---|---|--:|--:|--:|---|---|"]
    for cell in cells:
        notes = [f"{key}={_code(value)}" for key, value in cell.options.items()]
        notes += ["some queries only"] * cell.partial + ["in-domain"] * cell.in_domain
        numbers = ["-" if value is None else f"{value:.4f}" for value in (cell.score, cell.isotropy)]
        words = [escape(cell.dataset), escape(cell.split), f"{cell.queries:,}", *numbers, cell.dtype]
        rows.append(f"| {' | '.join([*words, escape(', '.join(notes))])} |")
    return "\n".join(rows) + (
        "\n\nnDCG@10 by the rules of trec_eval 10.0 over an exact search. Isotropy is 1 - std/mean of the eigenvalues "
        "of the document vectors' covariance. manifest.json holds every measure, and the SHA-256 of every file "
        "measured."
    )


def _in_domain(record: Mapping[str, Any]) -> str:
    saw, base = list(map(str, record.get("trained_on", ()))), known_base(record)
    if not record:
        return "How this checkpoint was trained is not on record, so no dataset is marked; any may be in-domain."
    by_base = set(BASES[base][1]) if base else set(saw) - set(_own_data(record))
    own = {*_own_data(record), *(name for name in saw if name not in by_base)}
    rows = [
        f"| {escape(name)} | {' and '.join(['this training'] * (name in own) + ['its base'] * (name in by_base))} |"
        for name in saw
    ]
    table = "\n".join(["| dataset | seen by |", "|---|---|", *rows]) if rows else "No dataset is known to be in-domain."
    lead = "Judgements of these datasets were seen in training, so that scores on them are not zero-shot:\n\n"
    note = SAW.format(base=base) if base else "What the base was trained on is not on record, beyond what stands here."
    return f"{lead if rows else ''}{table}\n\n{note}"


def _training(record: Mapping[str, Any]) -> str:
    if not record:
        return "Not on record."
    made = record.get("training_set") or {}
    facts: dict[str, Any] = {"training set": made.get("name"), "its rows": made.get("rows")}
    facts["rows trained on"] = record.get("rows") or (record.get("settings") or {}).get("limit") or None
    sources = made.get("sources") or []
    facts["made of"] = ", ".join(f"{s['name']} ({s.get('split')})" for s in sources) or None
    facts |= {"negatives from": ", ".join(map(_miner, made.get("miners") or ())) or None, "seed": record.get("seed")}
    facts |= {"steps": record.get("steps"), "best step": record.get("best_step")}
    facts |= {f"development {name}": value for name, value in (record.get("dev") or {}).items()}
    settings = record.get("settings") or {}
    meant = FORMERLY if "isotropy_weight" in settings else {}
    facts |= {"seconds": record.get("seconds"), **_flat({**meant, **settings}, "setting ")}
    rows = [f"| {escape(key)} | {escape(_shown(value))} |" for key, value in facts.items() if value is not None]
    return "\n".join(["| what | value |", "|---|---|", *rows])


def _miner(miner: Any) -> str:
    """A miner's name, with the depth of its ranking where it is on record."""
    if not isinstance(miner, Mapping):
        return str(miner)
    depth = f" (top {miner['depth']})" if miner.get("depth") else ""
    return f"{miner.get('model')}{depth}"


def _flat(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unmeasured(cells: Sequence[StoredScores], loaded: Loaded) -> str:
    there = standing(cells)
    missing = [entry for entry in catalogue().suites[SUITE] if not set(labels(entry)) <= there.keys()]
    beir = f"Of BEIR's 18 datasets, no result on all queries is stored for: {', '.join(missing)}." if missing else ""
    longer = f"texts longer than {loaded.max_seq_length} tokens, which are cut" if loaded.max_seq_length else ""
    rest = ", ".join(filter(None, ["other domains and languages than the table's", longer, "bias and safety"]))
    return f"{beir} Nobody examined: {rest}.".strip()


def _licence(licence: str, record: Mapping[str, Any]) -> str:
    base = known_base(record)
    stated = f"The base is offered under apache-2.0 ({base})." if base else "The base's licence is not on record."
    msmarco = MSMARCO if "msmarco" in record.get("trained_on", ()) else ""
    return f"`{licence}`. {stated} {msmarco}".strip()
