"""`measure` and `isotropy`: metrics of runs, and the geometry of vectors, from files or from memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from harness.metrics.geometry import check_vectors, measure_geometry
from harness.metrics.in_memory import qrels_of, rankings_of
from harness.metrics.measures import MEASURES, Scores, measure_names
from harness.metrics.measures import measure as _measure
from harness.metrics.other_qrels import mismatch, unjudged
from harness.metrics.qrels import read_qrels
from harness.metrics.ranking import Ranking, read_run
from harness.registry.objects import as_array
from harness.types import Qrels, UserError

if TYPE_CHECKING:
    import pandas

Given = Any
"""A nested dict, a DataFrame, or the path of a file."""


@overload
def measure(
    qrels: Given, run: Given, metrics: str | Iterable[str] = MEASURES, *, per_query: Literal[False] = False
) -> dict[str, float]: ...


@overload
def measure(
    qrels: Given, run: Given, metrics: str | Iterable[str] = MEASURES, *, per_query: Literal[True]
) -> pandas.DataFrame: ...


def measure(
    qrels: Given, run: Given, metrics: str | Iterable[str] = MEASURES, *, per_query: bool = False
) -> dict[str, float] | pandas.DataFrame:
    """Evaluates a run by the rules of trec_eval 10.0, as ``harness evaluate`` does.

    Documents are ordered by score, then by id descending; judged queries missing from the run count 0; queries of the
    run without judgements are left out.

    Args:
        qrels: ``{query: {document: relevance}}``, a DataFrame (columns query_id, doc_id, relevance, or the names of
            another library), the path of a qrels file (TREC or BEIR), or a dataset of `load_dataset`.
        run: ``{query: {document: score}}``, a DataFrame (query_id, doc_id, score), or the path of a TREC run.
        metrics: Names as in ir_measures.
        per_query: Return every judged query, as a DataFrame.

    Returns:
        Metric -> mean over the judged queries; with ``per_query`` a DataFrame with a row per query.

    Raises:
        UserError: A file or an entry is not valid, a metric is unknown, or run and qrels share no query.

    Example:
        >>> import harness
        >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
        >>> run = {"q1": {"d1": 0.9, "d2": 0.5}, "q2": {"d2": 0.7, "d3": 0.6}}
        >>> harness.measure(qrels, run, ["RR@10", "P@1"])
        {'RR@10': 0.75, 'P@1': 0.5}
    """
    judged = _qrels(qrels)
    if not judged:
        raise UserError("The qrels judge no document at all; give some judgements.")
    rankings, where = _rankings(run, judged, str(qrels) if isinstance(qrels, str | os.PathLike) else "the qrels")
    first = next(rankings, None)
    if first is None:
        raise UserError(f"{where} holds no rankings; give at least one query with documents.")
    names = measure_names(metrics if isinstance(metrics, str) else " ".join(metrics))
    scores = _measure(judged, chain([first], rankings), names)
    return _frame(scores) if per_query else scores.mean()


def isotropy(vectors: Any) -> dict[str, Any]:
    """The geometry of vectors: isotropy, effective rank, mean cosine and more, as ``harness isotropy`` prints it.

    Args:
        vectors: [n, d], an array of numpy, a tensor of torch, or the path of a .npy file.

    Returns:
        Name -> value; `harness.metrics.geometry.DEFINITIONS` defines them.

    Raises:
        UserError: The vectors are not finite floats, one per row.

    Example:
        >>> import harness
        >>> figures = harness.isotropy([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> figures["isotropy"], figures["effective_rank"]
        (1.0, 2.0)
    """
    if isinstance(vectors, str | os.PathLike):
        from harness.cli.isotropy import load

        opened = load(Path(vectors))
        return measure_geometry(opened.blocks(), len(opened))
    try:
        array = as_array(vectors)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The vectors are not an array of numbers ({error}); give float vectors, one per row."
        ) from None
    check_vectors(array, "vectors")
    return measure_geometry(iter([array]), len(array))


def _qrels(given: Given) -> Qrels:
    if isinstance(given, str | os.PathLike):
        return read_qrels(_file(given, "qrels"))
    return getattr(given, "qrels", None) or qrels_of(given)


def _rankings(given: Given, judged: Qrels, named: str) -> tuple[Iterator[Ranking], str]:
    """The rankings, and how a message calls the run; UserError if none of its queries is judged."""
    if isinstance(given, str | os.PathLike):
        path = _file(given, "run")
        met, rankings = unjudged(path, judged), read_run(path, known=judged)
    else:
        path, found = Path("The run"), [*rankings_of(given)]
        queries = [ranking.query_id for ranking in found]
        met, rankings = ([] if judged.keys() & {*queries} else queries), iter(found)
    if met:
        raise UserError(mismatch(path, met, named, judged))
    return rankings, str(path)


def _file(given: str | os.PathLike[str], what: str) -> Path:
    path = Path(given).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {path} for the {what}; check the path.")
    return path


def _frame(scores: Scores) -> pandas.DataFrame:
    import pandas

    frame = pandas.DataFrame(scores.values, columns=[*scores.measures])
    frame.insert(0, "query_id", scores.query_ids)
    return frame
