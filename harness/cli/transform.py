"""``harness transform``: a model compared with its own vectors centred, whitened or projected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.benchmark import replaced
from harness.cli.flags import note
from harness.cli.options import (
    completing,
    dataset_options,
    datasets_option,
    examples,
    results_option,
    search_options,
    suites_option,
)
from harness.cli.output import end_with_failed, print_json, print_table, tell_failed
from harness.cli.session import Session, required, search_limits, session_options
from harness.datasets.catalog import unknown
from harness.types import Storage, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.evaluation.pipeline import Cell
    from harness.registry.model_ref import ModelRef
    from harness.results.store import ResultStore

USUAL = ("center", *(f"whiten:exponent={exponent}" for exponent in ("0.25", "0.5", "0.75", "1")))
MEASURE = "nDCG@10"
GEOMETRY = ("d", "isotropy", "isotropy_ceiling", "isotropy_debiased", "isoscore")


@click.command(
    "transform",
    **examples(
        "harness transform -m minilm -d pydocs",
        "harness transform -m minilm -d pydocs --with pca:dim=64+whiten",
    ),
)
@click.option(
    "-m", "--model", "models", multiple=True, shell_complete=completing("models"), help="A model that has vectors."
)
@datasets_option
@suites_option
@click.option(
    "--with",
    "steps",
    multiple=True,
    metavar="STEP[+STEP...]",
    help="center, whiten:exponent=X or pca:dim=N; with + between, one after the other. Repeat for more rows; default: "
    f"{', '.join(USUAL)}.",
)
@dataset_options
@search_options
@results_option
@session_options
def command(
    session: Session,
    /,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    suites: tuple[str, ...],
    steps: tuple[str, ...],
    storage: Storage,
    memory: int,
    search_device: str,
    results: Path,
    **choice: Any,
) -> None:
    """What centring, whitening or projecting a model's vectors does to nDCG@10 and to isotropy.

    Each row is a model like any other, "whiten(minilm):exponent=0.5" say, computed from the stored vectors, fitted on
    the dataset's documents (not on queries or judgements), and compared with the model itself, query by query.
    """
    from harness.evaluation.pipeline import benchmark

    refs, origin = _models(session, models, steps, storage)
    cells = []
    with session.progress_bar():
        opened = session.open_datasets(datasets, suites, **choice)
        settings = session.settings(results, limits=search_limits(memory, search_device))
        for cell in benchmark(refs, opened, settings):
            cells.append(cell)
            if cell.replaced:
                note(replaced(cell))
            tell_failed([cell])
    rows = _rows(cells, origin, settings.results)
    if session.as_json:
        print_json(rows)
    else:
        print_table([_shown(row) for row in rows], disable_numparse=True)
    end_with_failed(cells)


def _models(
    session: Session, models: Sequence[str], steps: Sequence[str], storage: Storage
) -> tuple[list[ModelRef], dict[str, str]]:
    """Every model followed by its transforms; and the label of each -> the label of the model it was made from."""
    registry = session.registry
    texts = registry.texts(models)
    plain = session.models(texts, storage=storage)
    if lacking := next((ref for ref in plain if not ref.has_vectors), None):
        raise UserError(
            f"{lacking.label} is a {lacking.spec.kind} model, which has no vectors; name a dense one with -m."
        )
    known = [name for name, ref in registry.models.items() if ref.spec.kind == "transform"]
    refs: list[ModelRef] = []
    origin: dict[str, str] = {}
    for text, ref in zip(texts, plain, strict=True):
        changed = [_expression(text, step, known) for step in steps or USUAL]
        refs += [ref, *session.models(changed, storage=storage)]
        origin |= {other.label: ref.label for other in refs if other.label not in origin}
    required(refs)
    return refs, origin


def _expression(model: str, steps: str, known: Sequence[str]) -> str:
    """``pca:dim=64+whiten`` of minilm -> ``whiten(pca(minilm):dim=64)``."""
    for step in steps.split("+"):
        name, colon, options = step.strip().partition(":")
        if name not in known:
            raise UserError(unknown("transform", name, known))
        model = f"{name}({model}){colon}{options}"
    return model


def _rows(cells: Sequence[Cell], origin: Mapping[str, str], store: ResultStore) -> list[dict[str, Any]]:
    """Dataset by dataset, each model followed by its transforms, with the paired difference from it."""
    from harness.metrics.clusters import cluster_sums, per_cluster
    from harness.metrics.significance import holm, mean_interval, randomisation_test
    from harness.results.store import read_clusters, read_per_query

    plain: dict[tuple[str, str], NDArray[np.float64]] = {}
    rows: list[dict[str, Any]] = []
    for cell in sorted(cells, key=lambda cell: cell.dataset):  # stable: models stay in their order
        result: Any = cell.result or {}
        geometry = result.get("geometry", {}).get("documents", {})
        row: dict[str, Any] = {"model": cell.model, "dataset": cell.dataset, "status": cell.status}
        row |= {MEASURE: result.get("measures", {}).get(MEASURE)} | dict.fromkeys(("difference", "low", "high", "p"))
        row |= {name: geometry.get(name) for name in GEOMETRY}
        rows.append(row)
        if not result:
            continue
        folder = store.folder(cell.model, cell.dataset)
        values, codes = read_per_query(folder, MEASURE), read_clusters(folder)
        if origin[cell.model] == cell.model:
            plain[cell.model, cell.dataset] = values
        elif (before := plain.get((origin[cell.model], cell.dataset))) is not None:
            difference = values - before
            interval = mean_interval([per_cluster(difference, codes)]).ends or (None, None)
            row |= {"difference": float(difference.mean()), "low": interval[0], "high": interval[1]}
            row["p"] = randomisation_test(cluster_sums(difference, codes))
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
    return rows


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    def number(name: str, form: str = ".4f") -> str:
        return "-" if row[name] is None else format(row[name], form)

    difference = f"{number('difference', '+.4f')} [{number('low', '+.4f')}, {number('high', '+.4f')}]"
    return {
        "model": row["model"],
        "dataset": row["dataset"],
        MEASURE: number(MEASURE) if row["status"] != "failed" else "failed",
        "difference [95% interval]": "-" if row["difference"] is None else difference,
        "p (Holm)": number("p"),
        "d": number("d", "d"),
        "isotropy": number("isotropy"),
        "its ceiling": number("isotropy_ceiling"),
        "debiased": number("isotropy_debiased"),
    }
