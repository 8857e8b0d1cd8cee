"""What documents without a judgement could change in the comparison of two models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.evaluation.recorded import find_qrels
from harness.metrics.measures import measure
from harness.metrics.ranking import Ranking, read_order
from harness.metrics.unjudged import pair, usual_grade
from harness.results.store import RUN, Unreadable
from harness.types import Progress, Qrels, UserError
from harness_reports.data.per_query import Evidence
from harness_reports.render.markdown import escape

if TYPE_CHECKING:
    from harness_reports.compare.compare import Comparison

CUTOFF = re.compile(r"nDCG@(\d+)")
CAPTION = (
    "Judged: the share of the first {k} documents of both models that has a judgement. The others count as not "
    "relevant in the difference. All relevant: the difference if each of them had the most frequent grade of relevant "
    "documents. Judged alone: the difference of rankings from which unjudged documents are removed. Least and most: "
    "the differences between which every possible judgement of them lies."
)


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What the unjudged documents in the first k of two models could change; differences are model minus against."""

    model: str
    against: str
    dataset: str
    judged: float
    """Share of the first k documents of the model that is judged, the mean over queries."""
    judged_against: float
    difference: float
    """Unjudged documents count as not relevant."""
    all_relevant: float
    """All of them have the most frequent grade above 0."""
    judged_alone: float
    """Unjudged documents are removed from both rankings (condensed lists)."""
    least: float
    most: float
    """Over all judgements of these documents."""

    @property
    def flips(self) -> list[str]:
        """Which of the assumptions reverse the sign of the difference."""
        assumed = {"all relevant": self.all_relevant, "judged alone": self.judged_alone}
        return [name for name, value in assumed.items() if value * self.difference < 0]

    @property
    def reversible(self) -> bool:
        """Whether some judgement of the unjudged documents reverses the sign of the difference."""
        return (self.least if self.difference > 0 else -self.most) < 0 if self.difference else self.least < self.most

    def content(self) -> dict[str, Any]:
        """All values for JSON."""
        return asdict(self) | {"flips": self.flips, "reversible": self.reversible}


@dataclass
class Judged:
    """The judgements of one dataset, and what the comparison needs of each model's run."""

    qrels: Qrels
    first: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Model -> query -> its first k documents."""
    share: dict[str, float] = field(default_factory=dict)
    """Model -> Judged@k."""
    alone: dict[str, float] = field(default_factory=dict)
    """Model -> nDCG(judged_only=True)@k."""
    own: dict[str, float] = field(default_factory=dict)
    """Model -> nDCG@k."""


class Findings(NamedTuple):
    """What is known of the unjudged documents of a comparison."""

    pairs: Sequence[Unjudged] = ()
    """In the order of the comparison's differences."""
    lacking: Sequence[str] = ()
    """Datasets whose judgements or runs are not on this machine, or whose models saw different versions of it."""
    k: int = 0


def unjudged(comparison: Comparison, evidence: Evidence, home: Path, progress: Progress = lambda *_: None) -> Findings:
    """Every difference of the comparison, on datasets whose judgements and runs are on this machine.

    There is nothing for a measure other than nDCG@k.
    """
    if not (cut := CUTOFF.fullmatch(comparison.measure)):
        return Findings()
    k, found = int(cut[1]), dict[str, Judged]()
    for number, dataset in enumerate(comparison.datasets):
        progress("reading runs for unjudged documents (datasets)", number, len(comparison.datasets))
        if judged := read_judged(evidence, comparison.models, dataset, comparison.measure, home):
            found[dataset] = judged
    pairs = [
        _pair(found[each.dataset], each.model, each.against, each.dataset, k)
        for each in comparison.contrasts
        if each.dataset in found and {each.model, each.against} <= {*found[each.dataset].first}
    ]
    known = {each.dataset for each in pairs}
    return Findings(pairs, [dataset for dataset in comparison.datasets if dataset not in known], k)


def read_judged(
    evidence: Evidence, models: Sequence[str], dataset: str, measure_name: str, home: Path
) -> Judged | None:
    """The judgements of the queries that all models have, with the models' runs; None if they are not here.

    Corrupt runs are added to the evidence's ``skipped``.
    """
    queries, values = evidence.paired(models, dataset, measure_name)
    if len(values) < 2 or not queries or dataset in evidence.board.mixed:
        return None
    cell = evidence.cell(next(iter(values)), dataset)
    scores = evidence.scores(next(iter(values)), dataset, measure_name)
    every = find_qrels(cell.result, home, scores.ids) if cell and scores else None
    if every is None:
        return None
    judged = Judged({query: every[query] for query in queries})
    for model in values:
        _add_run(judged, evidence, model, dataset, int(measure_name.partition("@")[2]))
    return judged


def _add_run(judged: Judged, evidence: Evidence, model: str, dataset: str, k: int) -> None:
    path = evidence.file(model, dataset, RUN)
    if not path.exists() or not evidence.intact(model, dataset, path.name):
        return
    first, alone = dict[str, list[str]](), dict[str, list[str]]()
    try:
        for query, documents in read_order(path):
            if query in judged.qrels:
                known = {doc_id.encode() for doc_id, grade in judged.qrels[query].items() if grade >= 0}
                first[query] = [doc_id.decode() for doc_id in documents[:k]]
                alone[query] = [doc_id.decode() for doc_id in documents if doc_id in known][:k]
    except (UserError, UnicodeDecodeError) as error:
        evidence.skipped[path] = Unreadable(path, str(error))
        return
    own = measure(judged.qrels, _rankings(first), (f"nDCG@{k}", f"Judged@{k}")).mean()
    judged.own[model], judged.share[model] = own.values()
    [judged.alone[model]] = measure(judged.qrels, _rankings(alone), (f"nDCG@{k}",)).mean().values()
    judged.first[model] = first


def _rankings(documents: Mapping[str, list[str]]) -> Iterator[Ranking]:
    return (Ranking(query, ids, np.arange(len(ids), 0, -1, dtype=np.float32)) for query, ids in documents.items())


def _pair(judged: Judged, model: str, against: str, dataset: str, k: int) -> Unjudged:
    apart = pair(judged.qrels, [*judged.qrels], judged.first[model], judged.first[against], k)
    low, high = apart.bounds()
    return Unjudged(
        model,
        against,
        dataset,
        judged=judged.share[model],
        judged_against=judged.share[against],
        difference=judged.own[model] - judged.own[against],
        all_relevant=float(apart.difference(usual_grade(judged.qrels)).mean()),
        judged_alone=judged.alone[model] - judged.alone[against],
        least=float(low.mean()),
        most=float(high.mean()),
    )


def markdown(found: Findings) -> Iterator[str]:
    """The sections of a comparison in Markdown, none if nothing is known."""
    from tabulate import tabulate

    if not found.pairs:
        return
    head = ["dataset", "model", "against", "judged", "judged of against", "difference", "all relevant", "judged alone"]
    head += ["least", "most", "reversed by"]
    rows = [
        [
            *map(escape, (each.dataset, each.model, each.against)),
            *(f"{share:.1%}" for share in (each.judged, each.judged_against)),
            *(f"{100 * value:+.2f}" for value in (each.difference, each.all_relevant, each.judged_alone)),
            *(f"{100 * value:+.2f}" for value in (each.least, each.most)),
            ", ".join(each.flips) or ("some judgements" if each.reversible else "nothing"),
        ]
        for each in found.pairs
    ]
    yield "## Unjudged documents"
    yield CAPTION.format(k=found.k)
    sides = ["left"] * 3 + ["right"] * 7 + ["left"]
    yield tabulate(rows, head, tablefmt="pipe", colalign=sides, disable_numparse=True)


def notes(found: Findings) -> Iterator[str]:
    """A sentence about the datasets that are left out."""
    if found.lacking:
        yield (
            f"What unjudged documents could change is not shown for {escape(', '.join(found.lacking))}: that needs the "
            f"runs of the models and the judgements of one version of the dataset on this machine."
        )
