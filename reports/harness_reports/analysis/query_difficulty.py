"""Query performance prediction from the scores of stored runs and the lengths of query vectors.

A predictor is compared with nDCG@10 query by query: rank correlation, and the risk-coverage curve of answering only the
queries that the predictor trusts most. Predictors are oriented beforehand (greater means easier), never by the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.store import Vectors, VectorStore
from harness.metrics.clusters import Codes
from harness.metrics.correlation import bootstrap_interval, clustered_p, kendall, risk_coverage, spearman
from harness.metrics.significance import Interval, holm
from harness.results.store import Unreadable
from harness.storage.atomic import content_key
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import open_gzip
from harness.types import UserError
from harness_reports.data.leaderboard import MEASURE, Cell
from harness_reports.data.per_query import Evidence
from harness_reports.render.markdown import escape

Floats = NDArray[np.float64]
NORM = "length of the query vector"
PREDICTORS: Mapping[str, str] = {
    "top score": "the best document's score (Euclidean, cosine: minus the distance)",
    "gap": "the best document's score minus the second's",
    "spread of 10": "standard deviation of the ten best scores",
    "spread of 100": "standard deviation of the hundred best scores, as in NQC (Shtok et al. 2012) before its division "
    "by the score of the whole corpus",
    NORM: "as the model gave it; left out where all have one length or the vectors are not at hand",
}
"""Predictor -> its description."""
FEWEST = 10
"""Minimum number of queries."""
STEPS = 20
"""Points of a curve that are stored: coverages of 5%, 10%, ... 100%."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """One predictor on one cell."""

    model: str
    dataset: str
    predictor: str
    queries: int
    """With both a value of the predictor and a judgement."""
    spearman: float
    interval: Interval
    """Of ``spearman``: percentile bootstrap over queries, or over clusters of them."""
    kendall: float
    """tau-b"""
    p: float
    """Two-sided, of Kendall's tau, with the design effect of clusters; Holm over the predictors of the cell."""
    area: float
    """Under the risk-coverage curve: mean over coverages of 1 - nDCG@10."""
    area_random: float
    """The risk without any order: 1 - nDCG@10 over all queries."""
    area_best: float
    """The area for the ideal order, by nDCG@10 itself."""
    curve: list[tuple[float, float]]
    """(coverage, mean 1 - nDCG@10 of the queries answered)."""


def difficulties(evidence: Evidence, models: Sequence[str], datasets: Sequence[str], home: Path) -> list[Difficulty]:
    """Of every cell of these models and datasets (none: all) that has a run and scores per query.

    ``home`` is where vectors may lie. UserError for an unknown name, and where no cell can be used.
    """
    board = evidence.board
    known = (board.models, [*board.datasets, *board.partial_datasets])
    for kind, asked, there in zip(("model", "dataset"), (models, datasets), known, strict=True):
        if lacking := [name for name in asked if name not in there]:
            raise UserError(f"There are no results of the {kind} {lacking[0]}; there are some of: {', '.join(there)}.")
    cells = [c for c in board.rows() if c.model in (models or known[0]) and c.dataset in (datasets or known[1])]
    found = [one for cell in cells for one in _of_cell(evidence, cell, home)]
    if not found:
        raise UserError(
            f"No cell has a run of at least {FEWEST} judged queries beside its scores; type `harness benchmark` again."
        )
    return found


def _of_cell(evidence: Evidence, cell: Cell, home: Path) -> list[Difficulty]:
    scores = evidence.scores(cell.model, cell.dataset)
    run = evidence.file(cell.model, cell.dataset, "run.trec.gz")
    if scores is None or len(scores.ids) < FEWEST or not run.is_file():
        return []
    if not evidence.intact(cell.model, cell.dataset, run.name):
        return []
    value = dict(zip(scores.ids, scores.values.tolist(), strict=True))
    try:
        found = run_scores(run)
    except (OSError, ValueError) as error:  # as pyarrow's are
        reason = f"it cannot be read ({' '.join(str(error).split())})"
        evidence.skipped.setdefault(run, Unreadable(run, reason))
        return []
    features: dict[str, dict[str, float]] = {name: {} for name in PREDICTORS}
    ids = list(found)
    for query, falling in found.items():
        for name, number in _shape(falling):
            features[name][query] = number
    features[NORM] = _norms(cell, ids, home)
    made = []
    for name, held in features.items():
        common = [query for query in scores.ids if query in held]
        x, y = (np.array([side[query] for query in common]) for side in (held, value))
        codes = evidence.clusters.codes(cell.dataset, common)
        if len(common) >= FEWEST and (one := _measured(cell, name, x, y, codes)) is not None:
            made.append(one)
    adjusted = holm([one["p"] for one in made])
    return [Difficulty(**(one | {"p": p})) for one, p in zip(made, adjusted, strict=True)]


def run_scores(path: Path) -> dict[str, Floats]:
    """Query id -> its scores, falling, of a TREC run whose queries stand together, as in ours; in the run's order.

    Much faster than `harness.metrics.ranking.read_run`, which checks more and gives the documents too. ValueError where
    it is not such a run.
    """
    import pyarrow
    from pyarrow import csv

    names = ["query", "q0", "document", "rank", "score", "tag"]
    kinds = {"query": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "score": pyarrow.float64()}
    with open_gzip(path) if path.suffix == ".gz" else open_regular(path) as stream:
        table = csv.read_csv(
            stream,
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(include_columns=[*kinds], column_types=kinds, null_values=[]),
        ).unify_dictionaries()
    queries = table["query"].combine_chunks()
    codes, scores = queries.indices.to_numpy(), table["score"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    labels = queries.dictionary.to_pylist()
    found = {labels[codes[start]]: -np.sort(-scores[start:stop]) for start, stop in pairwise(edges)}
    if len(found) < len(edges) - 1:
        raise ValueError("the lines of a query do not stand together")
    return found


def _shape(scores: Floats) -> Iterator[tuple[str, float]]:
    if len(scores):
        yield "top score", float(scores[0])
    if len(scores) > 1:
        yield "gap", float(scores[0] - scores[1])
        yield "spread of 10", float(scores[:10].std())
        yield "spread of 100", float(scores[:100].std())


def _norms(cell: Cell, ids: Sequence[str], home: Path) -> dict[str, float]:
    """Lengths of a dense model's query vectors, where they are stored; empty where they are not, or are all one."""
    fingerprint = cell.get("manifest", "model", "fingerprint")
    collection = cell.get("manifest", "dataset", "fingerprint", "queries")
    if cell.get("manifest", "model", "kind") != "dense" or not isinstance(fingerprint, dict) or not collection:
        return {}
    own = {key: value for key, value in fingerprint.items() if key != "storage"}
    own |= {"document_prompt": None} if "document_prompt" in own else {}  # queries do not depend on it
    store = VectorStore(home, content_key(own), "query")
    found = store.read_list(str(collection))
    if found is None or sum(shard.rows for shard in found[0]) != len(ids):
        return {}
    blocks = Vectors.open(store, found[0]).blocks()
    norms = np.concatenate([np.linalg.norm(block.astype(np.float64), axis=1) for block in blocks])
    if norms.std() < 1e-5 * norms.mean():
        return {}
    return dict(zip(ids, norms.tolist(), strict=True))  # a run holds the queries in the order of their vectors


def _measured(cell: Cell, name: str, x: Floats, y: Floats, codes: Codes | None) -> dict[str, Any] | None:
    rho, tau = spearman(x, y), kendall(x, y)
    if rho is None or tau is None:
        return None
    risk = 1 - y
    curve = risk_coverage(x, risk)
    places = [max(1, round(len(y) * step / STEPS)) for step in range(1, STEPS + 1)]
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "predictor": name,
        "queries": len(y),
        "spearman": rho,
        "interval": bootstrap_interval(x, y, codes),
        "kendall": tau[0],
        "p": clustered_p(tau[1], x, y, codes),
        "area": float(curve.mean()),
        "area_random": float(risk.mean()),
        "area_best": float(risk_coverage(y, risk).mean()),
        "curve": [(place / len(y), float(curve[place - 1])) for place in places],
    }


COLUMNS = (
    *("model", "dataset", "predictor", "queries", "Spearman", "95% interval", "Kendall", "p (Holm)"),
    *("area", "no order", "best order", "risk at 50%"),
)


def rows(found: Sequence[Difficulty]) -> list[list[str]]:
    """The table's cells as shown, in the order of `COLUMNS`."""
    return [
        [
            *(one.model, one.dataset, one.predictor, str(one.queries), f"{one.spearman:+.3f}"),
            "-" if one.interval.ends is None else f"{one.interval.low:+.3f} to {one.interval.high:+.3f}",
            *(f"{one.kendall:+.3f}", f"{one.p:.2g}", f"{one.area:.4f}", f"{one.area_random:.4f}"),
            *(f"{one.area_best:.4f}", f"{one.curve[STEPS // 2 - 1][1]:.4f}"),
        ]
        for one in found
    ]


def section(found: Sequence[Difficulty]) -> str:
    """Title, table and how to read it, in GitHub's Markdown."""
    from tabulate import tabulate

    sides = ["left"] * 3 + ["right"] * (len(COLUMNS) - 3)
    shown = [[escape(text) for text in row] for row in rows(found)]
    table = tabulate(shown, list(COLUMNS), tablefmt="pipe", colalign=sides, disable_numparse=True)
    notes = [f"- {name}: {words}" for name, words in PREDICTORS.items()]
    notes.append(
        f"- area: of risk (1 - {MEASURE}) over coverage, when the queries with the greatest predictor are answered "
        f"first; below that of no order, the predictor is of use. Risk at 50%: of the half that is trusted more."
    )
    return "\n\n".join([f"## Which queries are hard ({escape(MEASURE)})", table, "\n".join(notes)]) + "\n"
