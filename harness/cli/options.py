"""Options that several commands share, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from harness.atomic import dump_json
from harness.cli.main import State
from harness.cli.quantity import Bytes
from harness.cli.terminal import bare, printable
from harness.log import NOTE
from harness.spec import Progress, Storage, UserError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from harness.index import Limits
    from harness.modelref import ModelRef
    from harness.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A plug-in file to load too."
)
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where results are kept.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
offline_option = click.option(
    "--offline", is_flag=True, envvar=["HARNESS_OFFLINE", "HF_HUB_OFFLINE"], help="Never open a connection."
)
pass_state = click.make_pass_decorator(State, ensure=True)


def dataset_options(command: F) -> F:
    """``--split``, ``--exclude-self`` and ``--limit``."""
    for option in (
        click.option(
            "--limit", type=click.IntRange(1), help="Only the first N judged queries; the result is marked partial."
        ),
        click.option(
            "--exclude-self/--include-self",
            default=None,
            help="Leave a query's own document out of its ranking (default: what the dataset says).",
        ),
        click.option("--split", help="Which qrels/SPLIT.tsv (default: what the dataset says, else test)."),
    ):
        command = option(command)
    return command


def search_options(command: F) -> F:
    """``--storage``, ``--memory`` and ``--search-device``."""
    for option in (
        click.option(
            "--search-device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where exact search runs: on the GPU if there is one.",
        ),
        click.option(
            "--memory", type=Bytes(), default="2GB", show_default=True, help="What exact search may take at the most."
        ),
        click.option(
            "--storage",
            type=click.Choice(["float32", "float16"]),
            default="float32",
            show_default=True,
            help="How document vectors are kept; float16 takes half the disk, and a row of its own.",
        ),
    ):
        command = option(command)
    return command


def chosen_models(registry: Registry, names: Sequence[str], dtype: str | None, storage: Storage) -> list[ModelRef]:
    """The models that ``-m`` names, each once, with what ``--dtype`` and ``--storage`` say; UserError when none is."""
    if not names:
        raise UserError("No model is named; add -m NAME or -m path/to/checkpoint (`harness models` lists names).")
    refs = [registry.model(text) for text in dict.fromkeys(names)]
    return [(ref.passing(dtype=dtype) if dtype else ref).stored(storage) for ref in refs]


def search_limits(memory: int, search_device: str) -> Limits:
    """What those options mean on this machine."""
    from harness.index import Limits

    return Limits(memory, _gpu() if search_device == "auto" else search_device)


def _gpu() -> str:
    """``cuda`` where torch can use one; told from the driver first, because asking torch takes seconds."""
    from harness.manifest import machine

    if not machine()["gpus"]:
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def completing(*kinds: Literal["models", "datasets", "groups"]) -> Callable[..., list[CompletionItem]]:
    """For ``shell_complete``: names of those kinds, or folders where none begins so."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        registry = ctx.ensure_object(State).registry()
        names = sorted(name for kind in kinds for name in getattr(registry, kind))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="dir")]

    return complete


def print_json(content: Any) -> None:
    """Results as JSON on stdout."""
    click.echo(dump_json(content), nl=False)


def print_table(rows: list[dict[str, Any]], **settings: Any) -> None:
    """Results as an aligned table on stdout."""
    from tabulate import tabulate

    shown = [{k: printable(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    click.echo(tabulate(shown, headers="keys", tablefmt="github", **settings))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A rich bar on stderr; where stderr is no terminal, a line each time the work changes. Notes stay."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    last, told = "", set[str]()
    with Bar(
        TextColumn("{task.description}", markup=False),
        *columns,
        console=Console(file=bare(sys.stderr)),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=None, visible=False)

        def progress(description: str, done: int, total: int) -> None:
            nonlocal last
            if description.startswith(NOTE):
                if description not in told:
                    bar.console.print(printable(description), markup=False, highlight=False, soft_wrap=True)
                told.add(description)
                return
            if description != last:
                description = last = printable(description)
                bar.reset(task, description=description, total=total or None, visible=bool(description))
                if description and not sys.stderr.isatty():
                    click.echo(description, err=True)
            bar.update(task, completed=done, total=total or None)

        yield progress
