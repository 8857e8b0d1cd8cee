"""Options that several commands share, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from harness.cli.flags import is_set, one_line, show_trace
from harness.cli.folding import shown
from harness.cli.main import State
from harness.cli.quantity import Bytes, size
from harness.cli.terminal import bare, printable
from harness.registry.option_values import printed
from harness.storage.atomic import dump_json
from harness.system.log import NOTE
from harness.types import Progress, Storage, UserError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from harness.evaluation.pipeline import Cell
    from harness.registry.manager import Registry
    from harness.registry.model_ref import ModelRef
    from harness.search.exact import Limits

BYTES = " (bytes)"
"""A `Progress` description that ends so counts bytes."""
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
    """``--split``, ``--exclude-self`` and ``--limit``, of a command that ranks documents."""
    limit = "Only the first N judged queries; the result is marked partial."
    exclude = "Leave a query's own document out of its ranking (default: what the dataset says)."
    return dataset_choice(limit=limit, exclude=exclude)(command)


def dataset_choice(*, limit: str = "", exclude: str = "") -> Callable[[F], F]:
    """As `dataset_options`, with help of the command's own; without it an option is accepted and not shown."""

    def added(command: F) -> F:
        for option in (
            click.option("--limit", type=click.IntRange(1), help=limit, hidden=not limit),
            click.option("--exclude-self/--include-self", default=None, help=exclude, hidden=not exclude),
            click.option("--split", help="Which qrels/SPLIT.tsv (default: what the dataset says, else test)."),
        ):
            command = option(command)
        return command

    return added


def depth_option(command: F) -> F:
    """``--depth``."""
    return click.option(
        "-k",
        "--depth",
        type=click.IntRange(1),
        default=1000,
        show_default=True,
        help="Documents kept for each query; another depth than the usual one makes a row of its own.",
    )(command)


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
    refs = [registry.model(text) for text in registry.texts(names)]
    return [(ref.passing(dtype=dtype) if dtype else ref).stored(storage) for ref in refs]


def required(refs: Iterable[ModelRef]) -> None:
    """UserError where a model needs a package that is not installed; to be called before a dataset is opened."""
    for ref in refs:
        ref.require()


def tell_failed(cells: Iterable[Cell]) -> None:
    """Why cells failed, on stderr."""
    for cell in cells:
        if cell.status == "failed":
            click.echo(f"failed: {cell.model} on {cell.dataset}: {one_line(cell.reason)}", err=True)
            show_trace(cell.trace)


def search_limits(memory: int, search_device: str) -> Limits:
    """What those options mean on this machine."""
    from harness.search.exact import Limits

    return Limits(memory, _gpu() if search_device == "auto" else search_device)


def _gpu() -> str:
    """``cuda`` where torch can use one; told from the driver first, because asking torch takes seconds."""
    from harness.system.environment import machine

    if not machine()["gpus"]:
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


Kind = Literal["models", "datasets", "groups", "suites", "results"]


def completing(*kinds: Kind) -> Callable[..., list[CompletionItem]]:
    """For ``shell_complete``: names of those kinds, or folders (for a suite, files) where none begins so."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = sorted({name for kind in kinds for name in _names(ctx, kind)})
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file" if "suites" in kinds else "dir")]

    return complete


def _names(ctx: click.Context, kind: Kind) -> Iterable[str]:
    if kind == "suites":
        from harness.datasets.catalog import catalogue

        return catalogue().suites
    if kind == "results":
        from harness.results.store import ResultStore, Unreadable

        stored = ResultStore(Path(ctx.params.get("results") or "results")).scan()
        return [str(result["model"]) for result in stored if not isinstance(result, Unreadable)]
    known: Iterable[str] = getattr(ctx.ensure_object(State).registry(), kind)
    return known


suites_option = click.option(
    "--suite",
    "suites",
    multiple=True,
    shell_complete=completing("suites"),
    help="Name of a suite of datasets, or path of a .toml file with one.",
)


def print_json(content: Any) -> None:
    """Results as JSON on stdout."""
    click.echo(dump_json(content), nl=False)


def print_table(rows: list[dict[str, Any]], **settings: Any) -> None:
    """Results as an aligned table on stdout."""
    from tabulate import tabulate

    plain = [{key: printed(cell) if isinstance(cell, str) else cell for key, cell in row.items()} for row in rows]
    click.echo(shown(tabulate(plain, headers="keys", tablefmt="github", **settings)))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A rich bar on stderr; where stderr is no terminal, a line each time the work changes. Notes stay."""
    if is_set("quiet"):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    last, told = "", set[str]()
    with Bar(
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), TextColumn("{task.fields[amount]}"), TimeElapsedColumn(), TimeRemainingColumn()),
        console=Console(file=bare(sys.stderr)),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=None, visible=False, amount="")

        def progress(description: str, done: int, total: int) -> None:
            nonlocal last, task
            if description.startswith(NOTE):
                if description not in told:
                    bar.console.print(printable(description), markup=False, highlight=False, soft_wrap=True)
                told.add(description)
                return
            if description != last:
                last = description
                words = printable(description).removesuffix(BYTES)
                bar.remove_task(task)  # a task that is reset keeps the old one's total
                task = bar.add_task(words, total=total or None, visible=bool(words), amount="")
                if words and not sys.stderr.isatty():
                    click.echo(words, err=True)
            bar.update(task, completed=done, total=total or None, amount=_amount(description, done, total))

        yield progress


def _amount(description: str, done: int, total: int) -> str:
    """How much is done of how much, in units of bytes where those are counted."""
    written: Callable[[int], str] = size if description.endswith(BYTES) else "{:,}".format
    if total:
        return f"{written(done)}/{written(total)}"
    return written(done) if done else ""
