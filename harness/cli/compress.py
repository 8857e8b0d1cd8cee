"""``harness compress``: what truncated and quantised vectors cost, from those that are stored."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note
from harness.cli.options import completing, dataset_options, examples, results_option
from harness.cli.output import print_json, print_table, tell_failed
from harness.cli.session import Session, required, session_options
from harness.types import UserError

if TYPE_CHECKING:
    from harness.datasets.beir import Dataset
    from harness.evaluation.cells import Settings
    from harness.evaluation.compression import LadderRow, Rescoring
    from harness.models.runner import Prepared
    from harness.registry.model_ref import ModelRef


@click.command(
    "compress",
    **examples(
        "harness compress minilm pydocs",
        "harness compress minilm pydocs --dims 64,128,256 --plot plot.svg",
    ),
)
@click.argument("model", shell_complete=completing("models"))
@click.argument("datasets", nargs=-1, required=True, shell_complete=completing("datasets", "groups"))
@click.option("--dims", metavar="N,...", help="Leading dimensions to keep [all, their half, quarter and eighth].")
@click.option(
    "--rescore",
    type=click.Choice(["full", "asymmetric"]),
    default="full",
    show_default=True,
    help="Rescore 40 candidates by the full float32 vectors, or by the query's vector and the documents' codes.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw bytes against nDCG@10 (SVG).")
@click.option("--force", is_flag=True, help="Compute stored rows again.")
@dataset_options
@results_option
@session_options
def command(
    session: Session,
    /,
    model: str,
    datasets: tuple[str, ...],
    dims: str | None,
    rescore: Rescoring,
    plot: Path | None,
    force: bool,
    results: Path,
    **choice: Any,
) -> None:
    """What nDCG@10 a model's vectors keep when they are truncated and quantised: float16, int8 or one bit a dimension.

    Nothing is encoded if the vectors are stored. Quantization is that of sentence-transformers, with ranges from the
    corpus; search over the codes is exact. Every row is compared with the full float32 vectors, query by query. MODEL
    may name several models, with commas between. `harness correlate` says whether the geometry predicts the loss.
    """
    kept = _numbers(dims)
    refs = session.models([model])
    if lacking := next((ref for ref in refs if not ref.has_vectors), None):
        raise UserError(f"{lacking.label} is a {lacking.spec.kind} model, without dense vectors; name a dense one.")
    required(refs)
    if importlib.util.find_spec("faiss") is None:
        from harness.registry.model_ref import missing_extra

        raise UserError(missing_extra("harness compress", ["faiss"], "dense"))
    found: list[tuple[str, str, Sequence[LadderRow]]] = []
    with session.progress_bar():
        opened = session.open_datasets(datasets, (), **choice)
        prepared = session.settings(results)
        for ref in refs:
            found += _ladders(session, ref, opened, prepared, kept, rescore, force=force)
    if plot:
        from harness.evaluation.compression_plot import drawing
        from harness.storage.atomic import write_file

        write_file(plot, lambda stream: stream.write(drawing(found).encode()))
        note(f"wrote {plot}")
    _print(session, found)


def _ladders(
    session: Session,
    ref: ModelRef,
    datasets: Sequence[Dataset],
    settings: Settings,
    dims: Sequence[int],
    rescoring: Rescoring,
    *,
    force: bool,
) -> Iterator[tuple[str, str, Sequence[LadderRow]]]:
    """Model, dataset and rows for each dataset, which are stored beside the result. Ends with code 1 if one fails."""
    from harness.evaluation.pipeline import benchmark

    cells = [*benchmark([ref], datasets, settings)]
    tell_failed(cells)
    if any(cell.status == "failed" for cell in cells):
        sys.exit(1)
    model = session.prepared(ref)
    for cell, dataset in zip(cells, datasets, strict=True):
        key = str(cell.result["manifest"]["key"]) if cell.result else ""
        folder = settings.results.folder(cell.model, cell.dataset)
        yield cell.model, cell.dataset, _rows(model, dataset, folder, key, dims, rescoring, force=force)
    model.unload()


def _rows(
    model: Prepared,
    dataset: Dataset,
    folder: Path,
    cell_key: str,
    dims: Sequence[int],
    rescoring: Rescoring,
    *,
    force: bool,
) -> list[LadderRow]:
    from harness.evaluation.compression import Ladder, default_dims, read_rows, row_key, settings, write_rows
    from harness.results.store import read_clusters
    from harness.search.exact import Limits

    ladder = Ladder(model, dataset, read_clusters(folder), Limits())
    chosen, key = settings(ladder.dim, dims or default_dims(ladder.dim), rescoring), row_key(cell_key)
    known = {} if force else read_rows(folder, key)
    made = dict(zip(chosen, ladder.rows(chosen, known), strict=True))
    if made.keys() - known.keys():
        write_rows(folder, key, known | made)
    return [*made.values()]


def _numbers(dims: str | None) -> list[int]:
    if dims is None:
        return []
    try:
        found = [int(part) for part in dims.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise UserError(f"{dims!r} is not a list of dimensions; type --dims 64,128,256, say.")
    return found


def _print(session: Session, found: Sequence[tuple[str, str, Sequence[LadderRow]]]) -> None:
    from harness.evaluation.compression import FACTOR, MEASURE, K
    from harness.system.environment import machine

    rows = [(model, dataset, row) for model, dataset, part in found for row in part]
    if session.as_json:
        here = {name: machine()[name] for name in ("processor", "cores")}
        listed = [{"model": model, "dataset": dataset, **asdict(row)} for model, dataset, row in rows]
        print_json({"measure": MEASURE, "machine": here, "rows": listed})
        return
    print_table([{"model": model, "dataset": dataset, **_shown(row)} for model, dataset, row in rows],
                disable_numparse=True)  # fmt: skip
    click.echo(
        f"\nDifferences are from the full float32 vectors, paired by query. Rescored: the {FACTOR * K} best. Queries a "
        f"second: this program's exact search of all queries at once, measured on this machine "
        f"({machine()['processor']}, {machine()['cores']} cores)."
    )


def _shown(row: LadderRow) -> dict[str, str]:
    ends = "-" if row.interval is None else f"[{row.interval[0]:+.4f}, {row.interval[1]:+.4f}]"
    return {
        "dims": str(row.dim),
        "precision": row.precision,
        "rescored by": row.rescoring or "-",
        "bytes": f"{row.bytes:,}",
        "nDCG@10": f"{row.score:.4f}",
        "difference [95% interval]": f"{row.difference:+.4f} {ends}",
        "queries/s": f"{row.queries_per_second:,.0f}",
    }
