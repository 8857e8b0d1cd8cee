"""``harness results``: what is stored, and its removal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from harness.cli.flags import one_line
from harness.cli.options import completing, examples, json_option, results_option
from harness.cli.output import print_json, print_table
from harness.results.store import ResultStore, Unreadable, as_text, read_result
from harness.storage.temporary_files import remove
from harness.types import UserError


class StoredResult(NamedTuple):
    """A result that is stored."""

    folder: Path
    model: str
    dataset: str
    status: str
    """``ok``, ``failed`` or ``unreadable``."""
    score: float | None
    finished: str
    reason: str

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        row = {"model": self.model, "dataset": self.dataset, "status": self.status, "nDCG@10": self.score}
        return row | {"finished": self.finished, "reason": one_line(self.reason), "folder": as_text(self.folder)}


@click.group(
    "results",
    invoke_without_command=True,
    epilog=examples("harness results --results path/to/results", "harness results rm --failed")["epilog"],
)
@results_option
@json_option
@click.pass_context
def command(ctx: click.Context, results: Path, as_json: bool) -> None:
    """List what is stored: every model and dataset with its status; `rm` removes some of it."""
    if ctx.invoked_subcommand is not None:
        return
    rows = [each.row() for each in _stored(results)]
    if as_json:
        print_json(rows)
        return
    failed = any(row["reason"] for row in rows)
    shown = [{key: value for key, value in row.items() if failed or key != "reason"} for row in rows]
    print_table(shown, floatfmt=".4f", missingval="-")


@command.command(
    "rm",
    **examples("harness results rm --failed", "harness results rm -m bm25:k1=2.0 -d pydocs --results path/to/results"),
)
@click.option("-m", "--model", "models", multiple=True, shell_complete=completing("results"), help="As it is listed.")
@click.option("-d", "--dataset", "datasets", multiple=True, help="As it is listed.")
@click.option("--failed", is_flag=True, help="Only those that failed or cannot be read.")
@results_option
@json_option
def rm_command(models: tuple[str, ...], datasets: tuple[str, ...], failed: bool, results: Path, as_json: bool) -> None:
    """Remove results: those of these models, on these datasets, that failed; vectors and indexes are kept."""
    if not (models or datasets or failed):
        raise UserError(
            "Nothing to remove is named; add -m MODEL, -d DATASET or --failed (`harness results` lists them)."
        )
    chosen = [
        each
        for each in _stored(results)
        if (not models or each.model in models)
        and (not datasets or each.dataset in datasets)
        and (not failed or each.status != "ok")
    ]
    if not chosen and not failed:
        raise UserError(f"No result in {results} is of that model and dataset; `harness results` lists them.")
    for each in chosen:
        remove(each.folder)
        with suppress(OSError):  # other datasets are in it
            each.folder.parent.rmdir()
    if as_json:
        print_json([each.row() for each in chosen])
        return
    for each in chosen:
        click.echo(f"removed {each.model} on {each.dataset} ({each.status})")
    click.echo(f"{len(chosen)} result{'s' * (len(chosen) != 1)} removed", err=True)


def _stored(root: Path) -> list[StoredResult]:
    if not root.is_dir():
        raise UserError(f"There is no results folder {root}; name another with --results.")
    return [*_read(ResultStore(root))]


def _read(store: ResultStore) -> Iterator[StoredResult]:
    for folder in store.folders():
        found: Any = read_result(folder)
        if isinstance(found, Unreadable):
            names = (as_text(folder.parent.name), as_text(folder.name))
            yield StoredResult(folder, *names, "unreadable", None, "", found.reason)
            continue
        run = found["manifest"].get("run") or {}
        score = found["measures"].get("nDCG@10")
        details = (found["status"], score, run.get("finished", ""), found.get("reason") or "")
        yield StoredResult(folder, str(found["model"]), str(found["dataset"]), *details)
