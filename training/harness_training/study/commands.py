"""The commands of ``harness`` that a study consists of, in order: what a user would type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.storage.atomic import write_file
from harness.storage.safe_load import read_text
from harness_training.study.definition import START, Study, StudyFolder, TrainingData, claim_files

REPORTS = {"tables.md": "markdown", "tables.tex": "latex", "tables.csv": "csv", "index.html": "html"}
"""File -> format of `harness report`."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Who trains and evaluates: this process, one process per GPU, or the workers of a Ray cluster."""

    executor: str = "in-process"
    address: str | None = None
    cpus: int | None = None

    def _workers(self) -> list[str]:
        address = ["--address", self.address] if self.address else []
        return [*address, *(["--cpus-per-task", str(self.cpus)] if self.cpus else [])]

    @property
    def training(self) -> list[str]:
        """Options of `harness train`."""
        if self.executor == "processes":
            return ["--one-per-gpu"]
        return ["--executor", "ray", *self._workers()] if self.executor == "ray" else []

    @property
    def evaluation(self) -> list[str]:
        """Options of `harness benchmark`."""
        return ["--executor", self.executor, *self._workers()] if self.executor != "in-process" else []


def data_words(one: TrainingData, folder: StudyFolder) -> list[str]:
    """Makes a training set."""
    return [*one.words, "-o", str(folder.data(one))]


def train_words(study: Study, folder: StudyFolder, parallel: Parallel) -> list[str]:
    """Trains every experiment with every seed."""
    files = [str(folder.experiment(name)) for name in study.experiments]
    data = [word for one in study.data for word in ("--data", str(folder.data(one)))]
    dev = ["--dev", study.dev] if study.dev else []
    seeds = ["--seeds", str(study.seeds), "--runs", str(folder.runs)]
    return ["train", *files, *data, *seeds, *dev, *parallel.training]


def benchmark_words(study: Study, folder: StudyFolder, labels: Sequence[str], parallel: Parallel) -> list[str]:
    """Evaluates these trained models and the untrained ones on every dataset.

    The trained ones come first, because a frozen base's embeddings are stored with the first head on it, and then are
    the untrained base's too.
    """
    models = [word for label in [*labels, *study.baselines] for word in ("-m", label)]
    places = [word for suite in study.suites for word in ("--suite", suite)]
    places += [word for dataset in study.datasets for word in ("-d", dataset)]
    return ["benchmark", *models, *places, "--results", str(folder.results), *parallel.evaluation]


def report_words(study: Study, folder: StudyFolder) -> Iterator[list[str]]:
    """Writes the tables and the page."""
    primary = study.primary
    suite = "" if primary.on or len(study.entries) == 1 else str(folder.suite)
    against = primary.against
    if against in study.experiments:
        [first, *more] = study.labels(against)
        against = f"{against} (mean of {study.seeds} seeds)" if more else first
    common = ["--results", str(folder.results), "--baseline", against]
    common += ["--suite", suite] if suite else []
    common += ["--seeds"] if study.seeds > 1 else []
    for file, form in REPORTS.items():
        runs = ["--runs", str(folder.runs)] if form == "html" else []
        yield ["report", *common, *runs, "--format", form, "-o", str(folder.path / file)]


def claims_words(study: Study, folder: StudyFolder) -> Iterator[tuple[Path, list[str]]]:
    """File of the verdicts, and the command that prints them."""
    results = ["--results", str(folder.results)]
    yield folder.path / "claims.md", ["claims", str(folder.claims), *results]
    yield folder.path / "claims.json", ["claims", str(folder.claims), *results, "--json"]
    for name, file in claim_files(study).items():
        yield folder.path / f"claims-{name}.md", ["claims", str(file), *results]


def write_inputs(study: Study, folder: StudyFolder) -> None:
    """Writes the files that the commands read: experiments, the suite of all datasets, and the claims."""
    _write(folder.path / "study.toml", read_text(study.file))
    for name, settings in study.experiments.items():
        _write(folder.experiment(name), _toml(asdict(settings)))
    _write(folder.suite, _toml({"name": folder.path.name, "datasets": list(study.entries)}))
    _write(folder.claims, _claims(study, folder))


def _claims(study: Study, folder: StudyFolder) -> str:
    """The primary comparison and the study's own claims as a claims file."""
    from harness.datasets import catalog

    primary = study.primary
    labels = [label for entry in study.entries for label in catalog.labels(entry)]
    place = primary.on or (str(folder.suite) if len(labels) > 1 else labels[0])
    quoted = [f"'{name}'" for name in (primary.experiment, primary.against, place)]
    criterion = f"{primary.measure} of {quoted[0]} > {quoted[1]} on {quoted[2]}"
    models: dict[str, object] = {name: study.labels(name) for name in study.experiments}
    models |= {**study.baselines, **({START: study.start} if study.step_0 else {})}
    first = {"name": "primary", "text": "registered before training", "criterion": criterion, "over": primary.over}
    head = _toml({"title": study.title, "on": place, "datasets": list(dict.fromkeys(labels))})
    tables = [f"\n[[claim]]\n{_toml(dict(claim))}" for claim in (first, *study.own_claims)]
    return f"{head}\n[models]\n{_toml(models)}{''.join(tables)}"


def _toml(values: dict[str, object]) -> str:
    """The values as TOML, a line each; JSON's texts, numbers and lists are TOML too."""
    return "".join(f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or read_text(path) != text:
        write_file(path, lambda stream: stream.write(text.encode()))
