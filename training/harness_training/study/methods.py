"""A methods paragraph for a paper, generated from the manifests of the study's runs and results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.cli.quantity import duration
from harness.results.store import ResultStore, Unreadable
from harness_plugins.sentence_transformers.trained import RunOnDisk, read_run
from harness_training.study.definition import Study, StudyFolder
from harness_training.study.registration import check_registered

STARTS = {
    "pca-rotation": "which starts as the rotation to the principal components",
    "pca": "which starts as whitening by the principal components",
    "random": "which starts at random",
}
"""How the projection starts, for each value of the setting ``init``."""


def paragraph(study: Study, folder: StudyFolder) -> str:
    """The paragraph, as Markdown; it states only what the manifests say."""
    runs = [read_run(folder.runs / plan.experiment / plan.run) for plan in study.plans]
    done = [run for run in runs if not run.flaw]
    results = [one for one in ResultStore(folder.results).scan() if not isinstance(one, Unreadable)]
    finished = [one for one in results if one["status"] == "ok"]
    registered = check_registered(study, folder)
    trained = {study.label(plan) for plan in study.plans}
    parts = [*_training(done), *_missing(study, runs), *_evaluation(finished, trained), *_primary(registered)]
    return f"# Methods\n\n{' '.join(parts)}\n"


def _training(runs: Sequence[RunOnDisk]) -> list[str]:
    if not runs:
        return ["No model was trained."]
    first, settings = runs[0].record, runs[0].record["settings"]
    dev = first["dev_set"]
    spent = duration(sum(float(run.record["seconds"]) for run in runs))
    frozen = all(run.record["settings"].get("freeze_base") for run in runs)
    return [
        _data(first, frozen=frozen),
        _texts(settings),
        _common(settings, frozen=frozen),
        _experiments(runs),
        f"Checkpoints were selected by nDCG@10 on a development set ({dev['name']}) of {dev['queries']:,} queries and "
        f"{dev['documents']:,} passages.",
        f"Training took {spent} on {_machine(first['machine'])} ({_versions(first['versions'])}).",
    ]


def _data(record: Mapping[str, Any], *, frozen: bool) -> str:
    data, settings, base = record["training_set"], record["settings"], record["base"]["name"]
    sources = ", ".join(dict.fromkeys(_source(source) for source in data["sources"]))
    miners = ", ".join(_name(miner) for miner in data.get("miners") or ())
    negatives = _counted(len(data["columns"]) - 2, "hard negative")
    mined = f" mined with {miners}" if miners else ""
    start = STARTS.get(settings.get("init"), STARTS["random"])
    head = f"a linear projection to {settings['dim']} dimensions, {start},"
    trained = f"trained {head} of the frozen {base}" if frozen else f"fine-tuned {base} with {head}"
    used = int(record.get("rows") or data["rows"])
    rows = f"{used:,}" if used == data["rows"] else f"{used:,} of {data['rows']:,}"
    return (
        f"We {trained} on {rows} training rows from {sources}, each with a query, a relevant passage and "
        f"{negatives}{mined}."
    )


def _texts(settings: Mapping[str, Any]) -> str:
    length = settings.get("max_seq_length")
    cut = f"Texts were cut to {length:,} tokens. " if length else ""
    return f"{cut}Embeddings are not normalised and compared by Euclidean distance."


def _common(settings: Mapping[str, Any], *, frozen: bool) -> str:
    epochs, head = _counted(settings["epochs"], "epoch"), f"{settings['head_learning_rate']:g}"
    both = f"learning rates of {settings['learning_rate']:g} (base) and {head} (projection)"
    return (
        f"We used the {settings['loss']} loss, AdamW with {f'a learning rate of {head}' if frozen else both}, "
        f"{settings['schedule']} decay after a warm-up over {settings['warmup']:.0%} of the steps, batches of "
        f"{settings['batch_size']} rows, {epochs} and {settings['precision']} arithmetic, except where an experiment "
        f"says otherwise."
    )


def _experiments(runs: Sequence[RunOnDisk]) -> str:
    """What each experiment sets that not all have in common."""
    settings = [run.record["settings"] for run in runs]
    common = [key for key, value in settings[0].items() if all(each.get(key) == value for each in settings)]
    experiments: dict[str, list[RunOnDisk]] = {}
    for run in runs:
        experiments.setdefault(str(run.record["experiment"]), []).append(run)
    listed = "; ".join(f"{name} ({_differing(own, common)})" for name, own in experiments.items())
    return f"The experiments are {listed}."


def _missing(study: Study, runs: Sequence[RunOnDisk]) -> list[str]:
    lacking = [
        f"{plan.experiment}/{plan.run} ({run.flaw})" for plan, run in zip(study.plans, runs, strict=True) if run.flaw
    ]
    return [f"Not trained: {', '.join(lacking)}."] if lacking else []


def _differing(runs: Sequence[RunOnDisk], common: Collection[str]) -> str:
    """An experiment's settings that are not common to all, and its seeds."""
    settings = runs[0].record["settings"]
    own = [f"{key} {value}" for key, value in settings.items() if key not in common and key != "seed"]
    seeds = sorted(int(run.record["seed"]) for run in runs)
    return ", ".join([*own, f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"])


def _evaluation(results: Sequence[Mapping[str, Any]], trained: Collection[str]) -> list[str]:
    if not results:
        return ["Nothing was evaluated."]
    queries = {str(one["dataset"]): int((one.get("counts") or {}).get("queries") or 0) for one in results}
    models = dict.fromkeys(str(one["model"]) for one in results)
    others = [model for model in models if model not in trained]
    named = [_counted(len(models) - len(others), "trained model")] if len(models) > len(others) else []
    run = results[0]["manifest"].get("run", {})
    return [
        f"We evaluated {_counted(len(models), 'model')} ({', '.join([*named, *others])}) on "
        f"{_counted(len(queries), 'dataset')} ({', '.join(queries)}) with {sum(queries.values()):,} queries, ranking "
        f"all documents exactly.",
        f"Measures were computed by the harness on {_machine(run.get('machine', {}))} "
        f"({_versions(run.get('versions', {}))}).",
    ]


def _primary(registered: Mapping[str, Any]) -> list[str]:
    if not registered:
        return []
    least = registered.get("smallest_effect")
    power = f", and the smallest effect that it shows with 80% power was put at {least:.2g} points" if least else ""
    return [
        f"The primary comparison, {registered['primary']}, was registered on {registered['registered'][:10]}, before "
        f"the first training{power}."
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _source(source: Mapping[str, Any]) -> str:
    return f"{source['name']} (split {source['split']})" if source.get("split") else str(source["name"])


def _name(miner: Any) -> str:
    """A miner with the depth that it was searched to."""
    depth = f" (top {miner['depth']})" if isinstance(miner, dict) and miner.get("depth") else ""
    return str(miner.get("model")) + depth if isinstance(miner, dict) else str(miner)


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = Counter(map(str, machine.get("gpus") or ()))
    named = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in gpus.items())
    cores = machine.get("cores") or machine.get("cpus")
    return named or f"{machine.get('cpu') or machine.get('processor') or 'a processor'}" + (
        f" with {_counted(int(cores), 'core')}" if cores else ""
    )


def _versions(versions: Mapping[str, Any]) -> str:
    wanted = ("harness", "retrieval-harness", "torch", "sentence-transformers", "ir-measures")
    return ", ".join(f"{name} {versions[name]}" for name in wanted if versions.get(name)) or "versions not recorded"
