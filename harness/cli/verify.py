"""``harness verify``: runs recorded cells again and compares the results."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note, one_line, show_trace
from harness.cli.options import examples
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, search_limits, session_options
from harness.types import UserError

if TYPE_CHECKING:
    from harness.evaluation.recorded import Recorded
    from harness.evaluation.reproduce import Verification


@click.command(
    "verify",
    **examples(
        "harness verify results",
        "harness verify results/bm25/pydocs --reuse",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE_OR_DIR...")
@click.option(
    "-d",
    "--dataset",
    "datasets",
    multiple=True,
    help="Where a dataset's folder is now, if it was moved.",
)
@click.option("--reuse", is_flag=True, help="Use stored vectors and indexes, which checks search and measures alone.")
@session_options
def command(session: Session, /, paths: tuple[Path, ...], datasets: tuple[str, ...], reuse: bool) -> None:
    """Run recorded cells again: result.json files, or folders with results.

    OK: equal to the last digit, or the run is byte-identical. OKish: the same model, dataset and depth by their
    fingerprints, and no measure off by more than 0.0005 (0.002 where anything is computed or kept in 16 bits). FAIL:
    anything else. Exit code 1 if a cell fails, 2 if a model or dataset cannot be found.
    """
    from harness.evaluation.recorded import read_recorded

    found, unreadable = read_recorded(paths)
    verified, lost = [], []
    with session.progress_bar():
        again = _runner(session, datasets, reuse=reuse)
        for each in found:
            if each.result["status"] != "ok":
                note(f"{_cell(each)} was not finished, so there is nothing to verify")
                continue
            try:
                verified.append(again(each))
            except UserError as error:
                lost.append(f"{_cell(each)} cannot be run: {one_line(str(error))}")
    _print(verified, session.as_json)
    for one in unreadable:
        click.echo(f"skipped: {one.place}: {one.reason}", err=True)
    for sentence in lost:
        click.echo(f"harness: {sentence}", err=True)
    if unreadable or any(each.verdict == "FAIL" for each in verified):
        sys.exit(1)
    if lost:
        sys.exit(2)


def _print(verified: Sequence[Verification], as_json: bool) -> None:
    if as_json:
        print_json([_content(each) for each in verified])
    elif verified:
        print_table([_row(each) for each in verified], missingval="-", disable_numparse=True)
        for done in (each for each in verified if each.differs):
            click.echo(f"{done.model} on {done.dataset} differs in {'; '.join(done.differs)}")


def _runner(session: Session, given: tuple[str, ...], *, reuse: bool) -> Callable[[Recorded], Verification]:
    """A function that runs a recorded cell again and compares the results."""
    from harness.evaluation.pipeline import Settings, benchmark
    from harness.evaluation.recorded import find_dataset, find_model
    from harness.evaluation.reproduce import failed, verify
    from harness.results.store import ResultStore
    from harness.search.index_config import parse_index_config

    state, registry = session.state, session.registry
    offline, progress = session.offline, session.progress

    def again(recorded: Recorded) -> Verification:
        old, manifest = recorded.result, recorded.result["manifest"]
        model = find_model(old, registry)
        model.require()
        index = manifest.get("index")
        recipes = (parse_index_config(index["factory"], index["search"]),) if index else ()
        memory = (manifest.get("run", {}).get("search") or {}).get("memory", 2_000_000_000)
        opening = {"offline": offline, "progress": progress}
        with (
            find_dataset(old, registry, state.made_home, given, **opening) as dataset,  # type: ignore[arg-type]
            TemporaryDirectory(prefix="verify-", dir=state.home) as folder,
        ):
            settings = Settings(
                home=state.home if reuse else _without_vectors(Path(folder), state.home),
                results=ResultStore(Path(folder) / "results"),
                measures=tuple(old["measures"]),
                k=manifest["k"],
                limits=search_limits(memory, "auto"),
                indexes=recipes,
                force=True,
                offline=offline,
                command=state.command,
                progress=progress,
            )
            cell = [*benchmark([model], [dataset], settings)][-1]
            show_trace(cell.trace)
            return verify(recorded.folder, old, cell.result) if cell.result else failed(old, one_line(cell.reason))

    return again


def _without_vectors(folder: Path, home: Path) -> Path:
    """A home folder without vectors and indexes, with the models of the usual one."""
    bare = folder / "home"
    bare.mkdir()
    (home / "models").mkdir(exist_ok=True)
    (bare / "models").symlink_to(home / "models")
    return bare


def _cell(recorded: Recorded) -> str:
    return f"{recorded.result['model']} on {recorded.result['dataset']}"


def _row(verified: Verification) -> dict[str, Any]:
    widest = verified.widest
    return {
        "model": verified.model,
        "dataset": verified.dataset,
        "verdict": verified.verdict,
        "measure": widest and widest.name,
        "recorded": widest and f"{widest.old:.6f}",
        "now": f"{widest.new:.6f}" if widest and widest.new is not None else None,
        "difference": f"{widest.difference:+.2g}" if widest and widest.new is not None else None,
        "reason": verified.reason,
    }


def _content(verified: Verification) -> dict[str, Any]:
    figures = {
        each.name: {"old": each.old, "new": each.new, "difference": None if each.new is None else each.difference}
        for each in verified.figures
    }
    return dataclasses.asdict(verified) | {"figures": figures}
