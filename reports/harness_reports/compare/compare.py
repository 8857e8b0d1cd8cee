"""Compares stored results of models query by query: significant differences, and the queries they come from."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.datasets import catalog
from harness.metrics.depth import fits, over_whole_runs
from harness.metrics.variance import over_runs
from harness.results.store import Unreadable
from harness.types import Document, UserError
from harness_reports.compare.documents import first_documents, local_documents
from harness_reports.compare.unjudged import Findings
from harness_reports.data.components import VarianceComponents, components
from harness_reports.data.leaderboard import MEASURE
from harness_reports.data.paired import TIE, Contrast, Overall, Values, family, overall
from harness_reports.data.per_query import Evidence


class Found(NamedTuple):
    """A document of a ranking."""

    id: str
    text: str
    """Its title, or its text where it has none; empty if the corpus is not on this machine."""


class Move(NamedTuple):
    """A query whose value changed."""

    model: str
    against: str
    dataset: str
    query_id: str
    text: str
    value: float
    value_against: float
    first: tuple[Found, ...] = ()
    """The documents that the model puts first, best first; empty if the run is not on this machine."""
    first_against: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of models, of which the first is the baseline."""

    models: Sequence[str]
    datasets: Sequence[str]
    measure: str
    contrasts: Sequence[Contrast]
    overall: Sequence[Overall]
    moves: Sequence[Move]
    warnings: Sequence[str]
    """Warnings for the reader: cells that are missing, queries left out, datasets of several versions."""
    unjudged: Findings = field(default_factory=Findings)
    """What documents without a judgement could change, once that was asked for."""
    clean: Sequence[Contrast] = ()
    """The differences on queries that no model's training set has, once that was asked for."""
    variance: Sequence[VarianceComponents] = ()
    """Where the uncertainty of each pair's difference over datasets comes from."""
    notes: Sequence[str] = ()
    """What is known of the queries: clusters that share relevant documents."""


def compare(
    evidence: Evidence, models: Sequence[str], datasets: Sequence[str] = (), *, measure: str = MEASURE, moves: int = 3
) -> Comparison:
    """Compares models query by query.

    Models are labels, with options in any order. Datasets are labels; none: all that two models have complete results
    of, or else partial ones.

    The difference over all datasets is over whole ones of which the models saw one version; where there is none, over
    those in part of which no other part is there.

    ``moves`` queries that moved most per dataset and model against the baseline. UserError for an unknown model,
    dataset or measure, fewer than two models, and where no two have a dataset in common.
    """
    models = [evidence.board.label(model) for model in models]
    _check(evidence, models, datasets, measure)
    board = evidence.board
    aligned = _aligned(evidence, models, datasets or board.datasets, measure, asked=bool(datasets))
    apart = {} if datasets else _aligned(evidence, models, board.partial_datasets, measure)
    aligned = aligned or apart
    if not any(len(values) > 1 for ids, values in aligned.values() if ids):
        raise UserError(_nothing(evidence, models, datasets, measure))
    counted = _counted(evidence, [dataset for dataset, (ids, _) in aligned.items() if ids])
    left_out = {dataset: _left_out(evidence, models, dataset, measure) for dataset in aligned}
    scores = {dataset: values for dataset, (_, values) in aligned.items()}
    codes = {dataset: evidence.clusters.codes(dataset, ids) for dataset, (ids, _) in aligned.items()}
    shared = {dataset: evidence.clusters.sentence(dataset) for dataset in aligned}
    contrasts = family(scores, models, left_out, codes)
    return Comparison(
        models,
        list(aligned),
        measure,
        contrasts,
        overall({dataset: scores[dataset] for dataset in counted}, models, codes),
        [move for dataset, (ids, values) in aligned.items() for move in _moves(evidence, dataset, ids, values, moves)],
        [
            *_warnings(evidence, models, [*aligned], measure, left_out),
            *_scope(evidence, [*aligned], counted, [dataset for dataset in apart if dataset not in aligned]),
            *_depth(evidence, models, [*aligned], measure),
            *_few_runs(evidence, models),
            *(sentence for dataset, sentence in shared.items() if evidence.clusters.finer(dataset)),
        ],
        variance=components({dataset: scores[dataset] for dataset in counted}, models, codes),
        notes=[sentence for dataset, sentence in shared.items() if sentence and not evidence.clusters.finer(dataset)],
    )


Aligned = Mapping[str, tuple[list[str], dict[str, Values]]]
"""Dataset -> the queries that the models have in common there, and each model's values on them."""


def _aligned(
    evidence: Evidence, models: Sequence[str], datasets: Sequence[str], measure: str, *, asked: bool = False
) -> Aligned:
    """The datasets that two of the models have; those ``asked`` for in any case."""
    found = {dataset: evidence.paired(models, dataset, measure) for dataset in datasets}
    return {dataset: each for dataset, each in found.items() if asked or len(each[1]) > 1}


def _counted(evidence: Evidence, datasets: Sequence[str]) -> list[str]:
    """The datasets that count in the difference over all datasets."""
    board = evidence.board
    comparable = [dataset for dataset in datasets if dataset not in board.mixed]
    if whole := [dataset for dataset in comparable if dataset not in board.partial_datasets]:
        return whole
    names = [_name(evidence, dataset) for dataset in comparable]
    return [dataset for dataset, name in zip(comparable, names, strict=True) if names.count(name) == 1]


def _name(evidence: Evidence, dataset: str) -> str:
    """The dataset's name, without the part of the label that marks unusual settings."""
    cells = (evidence.cell(model, dataset) for model in evidence.board.models)
    return next((str(cell.get("manifest", "dataset", "name")) for cell in cells if cell), dataset)


def _scope(
    evidence: Evidence, datasets: Sequence[str], counted: Sequence[str], ignored: Sequence[str]
) -> Iterator[str]:
    """Warnings about partial results."""
    board = evidence.board
    if ignored:
        yield f"left out, since there are whole results: {', '.join(ignored)} (name one with -d to compare it)"
    if partial := [dataset for dataset in datasets if dataset in board.partial_datasets]:
        verb = "are" if len(partial) > 1 else "is"
        yield f"{', '.join(partial)} {verb} on some of the queries only, or with another setting than the dataset's"
    if lost := [dataset for dataset in datasets if dataset not in counted]:
        yield f"not in the difference over the datasets: {', '.join(lost)}"


def _depth(evidence: Evidence, models: Sequence[str], datasets: Sequence[str], measure: str) -> Iterator[str]:
    """The depth of the runs, if it matters and the measure's name does not state a cutoff."""
    for dataset in datasets:
        cells = [cell for model in models if (cell := evidence.cell(model, dataset)) and cell.ok]
        known = [(cell.get("manifest", "k"), cell.get("counts", "documents")) for cell in cells if not cell.imported]
        depths = {k for k, n in known if isinstance(k, int) and isinstance(n, int) and not _says(measure, k, n)}
        if depths:
            deep = " and ".join(f"{depth:,}" for depth in sorted(depths))
            yield f"{dataset}: {measure} is over runs that are {deep} documents deep"


def _few_runs(evidence: Evidence, models: Sequence[str]) -> Iterator[str]:
    for model in models:
        if len(evidence.runs(model)) == 2:
            yield (
                f"{model}: two runs say little about how much runs differ: intervals are up to 6.5 times as wide as "
                f"with many, and a third run shortens them most"
            )


def _says(measure: str, depth: int, documents: int) -> bool:
    """Whether the measure's name says what was measured on runs of that depth."""
    return documents <= depth or (fits(measure, depth, documents) and not over_whole_runs(measure))


def with_documents(comparison: Comparison, evidence: Evidence, corpora: Path, *, count: int = 5) -> Comparison:
    """The comparison with the first documents of the queries that moved, read from the runs.

    Their texts are added if ``corpora`` (the folder of corpus indices) has the corpus of the result. Corrupt runs are
    noted in the evidence's ``skipped``.
    """
    moves = list(comparison.moves)
    for dataset in {move.dataset: None for move in moves}:
        own = [place for place, move in enumerate(moves) if move.dataset == dataset]
        queries = {moves[place].query_id for place in own}
        runs = {
            model: _first(evidence, model, dataset, queries, count)
            for model in {name: None for place in own for name in moves[place][:2]}
        }
        cell = evidence.cell(moves[own[0]].model, dataset)
        sha256 = cell.get("manifest", "dataset", "fingerprint", "corpus") if cell else None
        ids = [doc_id for run in runs.values() for ranking in run.values() for doc_id in ranking]
        documents = local_documents(corpora, str(sha256), ids)
        for place in own:
            move = moves[place]
            first, against = (
                tuple(Found(doc_id, _title(documents.get(doc_id))) for doc_id in runs[model].get(move.query_id, ()))
                for model in move[:2]
            )
            moves[place] = move._replace(first=first, first_against=against)
    return replace(comparison, moves=moves)


def _first(evidence: Evidence, model: str, dataset: str, queries: Collection[str], count: int) -> dict[str, list[str]]:
    """The first documents by query; empty if there is no run, or a corrupt one, which is added to `skipped`."""
    path = evidence.file(model, dataset, "run.trec.gz")
    try:
        usable = path.exists() and evidence.intact(model, dataset, path.name)
        return first_documents(path, queries, count) if usable else {}
    except UserError as error:
        evidence.skipped[path] = Unreadable(path, str(error))
        return {}


def _title(document: Document | None) -> str:
    return " ".join((document.title or document.text).split()) if document else ""


def _moves(
    evidence: Evidence, dataset: str, ids: Sequence[str], values: Mapping[str, Values], count: int
) -> list[Move]:
    """The queries that moved most between the first model there and every other."""
    baseline, *others = values
    moves = []
    texts = evidence.texts(dataset) if count and others else {}
    for model in others:
        own, other = over_runs(values[model]), over_runs(values[baseline])
        for row in _farthest(own - other)[:count]:
            text, pair = texts.get(ids[row], ""), (float(own[row]), float(other[row]))
            moves.append(Move(model, baseline, dataset, ids[row], text, *pair))
    return moves


def _farthest(apart: Values) -> list[int]:
    """Rows by size of the difference, alternating gains and losses of the same size; ties are left out."""
    order = np.argsort(-np.abs(apart), kind="stable")
    order = order[np.abs(apart[order]) > TIE]
    gains = apart[order] > 0
    turn = np.where(gains, np.cumsum(gains), np.cumsum(~gains))
    sizes = np.round(np.abs(apart[order]), 9)
    return [int(row) for row in order[np.lexsort((~gains, turn, -sizes))]]


def _left_out(evidence: Evidence, models: Sequence[str], dataset: str, measure: str) -> int:
    runs = [run for model in models for run in evidence.runs(model)]
    found = [set(scores.ids) for run in runs if (scores := evidence.scores(run, dataset, measure))]
    return len(set[str].union(*found)) - len(set[str].intersection(*found)) if found else 0


def _warnings(
    evidence: Evidence, models: Sequence[str], datasets: Sequence[str], measure: str, left_out: Mapping[str, int]
) -> Iterator[str]:
    for dataset in datasets:
        if dataset in evidence.board.mixed:
            yield f"{dataset}: the models saw different versions of it, so their difference is not the models' alone"
        if count := left_out[dataset]:
            kept = len(evidence.paired(models, dataset, measure)[0])
            words = (
                "query is left out that not every model has"
                if count == 1
                else "queries are left out that not every model has"
            )
            yield f"{dataset}: the query sets differ: {count} {words}, {kept} {'is' if kept == 1 else 'are'} compared"
        for model in models:
            if why := _absence(evidence, model, dataset, measure):
                yield f"{dataset}: {model} is not compared ({why})"


def _absence(evidence: Evidence, model: str, dataset: str, measure: str) -> str:
    """Why a model has no values there; empty if it has values."""
    lacking = [run for run in evidence.runs(model) if not evidence.scores(run, dataset, measure)]
    if not lacking:
        return ""
    model = lacking[0]
    cell = evidence.cell(model, dataset)
    if cell is None:
        return "no result"
    if not cell.ok:
        return f"failed: {str(cell.get('reason') or 'no reason was recorded').rstrip('.')}"
    if cell.get("measures", measure) is None:
        return f"it was not measured with {measure}"
    path = evidence.file(model, dataset)
    if path in evidence.missing:
        return f"its {path.name} is missing"
    return evidence.skipped[path].reason if path in evidence.skipped else f"its result keeps no {path.name}"


def _check(evidence: Evidence, models: Sequence[str], datasets: Sequence[str], measure: str) -> None:
    board = evidence.board
    note = f" in {board.root}"
    for model in models:
        if model not in board.models:
            raise UserError(catalog.unknown("result of a model", model, board.models, note))
    if len({*models}) < max(2, len(models)):
        raise UserError(
            f"A comparison needs two or more different models, each named once; in {board.root} there are "
            f"{', '.join(map(repr, board.models))}."
        )
    known = [*board.datasets, *board.partial_datasets]
    for dataset in datasets:
        if dataset not in known:
            raise UserError(catalog.unknown("result on a dataset", dataset, known, note))
    measured = {
        name for model in models for d in known if (cell := evidence.cell(model, d)) for name in cell.get("measures")
    }
    if measure not in measured:
        raise UserError(catalog.unknown("measure", measure, measured, " in the results of these models"))


def _nothing(evidence: Evidence, models: Sequence[str], datasets: Sequence[str], measure: str) -> str:
    skipped = f" ({next(iter(evidence.skipped.values())).place} was skipped)" if evidence.skipped else ""
    where = f"of {', '.join(datasets)}" if datasets else "of any dataset"
    asked = " ".join(f"-m {shlex.quote(model)}" for model in models)
    on = shlex.quote(datasets[0] if datasets else "NAME")
    return (
        f"No two of these models have {measure} for the same queries {where}{skipped}, so there is nothing to compare; "
        f"measure them on the same data: harness benchmark {asked} -d {on} "
        f"--results {shlex.quote(str(evidence.board.root))}"
    )
