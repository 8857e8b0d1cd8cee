"""What commands print: tables and JSON on stdout; progress, notes and failures on stderr."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import is_set, one_line, show_trace
from harness.cli.folding import shown
from harness.cli.quantity import size
from harness.cli.terminal import bare, printable
from harness.registry.option_values import printed
from harness.storage.atomic import dump_json
from harness.system.log import NOTE
from harness.types import Progress

if TYPE_CHECKING:
    from harness.evaluation.pipeline import Cell
    from harness.results.store import Unreadable

UNIT = re.compile(r" \((\w[\w ]*)\)$")
"""What a `Progress` description that counts something ends with: bytes, or the plural of what is counted."""


def tell_failed(cells: Iterable[Cell]) -> None:
    """Prints on stderr why cells failed."""
    for cell in cells:
        if cell.status == "failed":
            click.echo(f"failed: {cell.model} on {cell.dataset}: {one_line(cell.reason)}", err=True)
            show_trace(cell.trace)


def end_with_failed(cells: Iterable[Cell]) -> None:
    """Exits with code 1 if a cell failed."""
    if any(cell.status == "failed" for cell in cells):
        sys.exit(1)


def end_with_skipped(skipped: Sequence[Unreadable]) -> None:
    """Names results that cannot be read on stderr, and exits with code 1 if there are any."""
    for one in skipped:
        click.echo(f"skipped: {one.place}: {one.reason}", err=True)
    if skipped:
        sys.exit(1)


def print_json(content: Any) -> None:
    """Results as JSON on stdout."""
    click.echo(dump_json(content), nl=False)


def print_table(rows: list[dict[str, Any]], **settings: Any) -> None:
    """Results as an aligned table on stdout."""
    from tabulate import tabulate

    plain = [{key: printed(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]
    click.echo(shown(tabulate(plain, headers="keys", tablefmt="github", **settings)))


@contextmanager
def progress_bar(*, notebook: bool = False) -> Iterator[Progress]:
    """A rich bar on stderr or in a notebook; else a line on stderr each time the work changes. Notes stay."""
    if is_set("quiet"):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    last, shown_notes, drawn = "", set[str](), notebook or sys.stderr.isatty()
    with Bar(
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), TextColumn("{task.fields[amount]}"), TimeElapsedColumn(), TimeRemainingColumn()),
        console=Console(emoji=False) if notebook else Console(file=bare(sys.stderr), emoji=False),
        transient=True,
        disable=not drawn,
    ) as bar:
        task = bar.add_task("", total=None, visible=False, amount="")

        def progress(description: str, done: int, total: int) -> None:
            nonlocal last, task
            if description.startswith(NOTE):
                if description not in shown_notes:
                    bar.console.print(printable(description), markup=False, highlight=False, soft_wrap=True)
                shown_notes.add(description)
                return
            if description != last:
                last = description
                words = UNIT.sub("", printable(description))
                bar.remove_task(task)  # a task that is reset keeps the old one's total
                task = bar.add_task(words, total=total or None, visible=bool(words), amount="")
                if words and not drawn:
                    click.echo(words, err=True)
            bar.update(task, completed=done, total=total or None, amount=_amount(description, done, total))

        yield progress


def _amount(description: str, done: int, total: int) -> str:
    """The amount done and the total, with the unit that the description ends with."""
    counted = UNIT.search(description)
    unit = counted[1] if counted else ""
    written: Callable[[int], str] = size if unit == "bytes" else "{:,}".format
    named = f" {unit}" if unit and unit != "bytes" else ""
    if total:
        return f"{written(done)}/{written(total)}{named}"
    return f"{written(done)}{named}" if done else ""
