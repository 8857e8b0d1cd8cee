"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from harness.cli.main import State
from harness.cli.quantity import Bytes

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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


def examples(*lines: str) -> dict[str, Any]:
    """For ``click.command``: the lines as examples at the end of the command's help."""
    listed = "\n".join(f"  {line}" for line in lines)
    return {"epilog": f"\b\nExamples:\n{listed}"}


def dataset_options(command: F) -> F:
    """``--split``, ``--exclude-self`` and ``--limit``, of a command that ranks documents."""
    limit = "Only the first N judged queries; the result is marked partial."
    exclude = "Leave a query's own document out of its ranking (default: what the dataset says)."
    return dataset_choice(limit=limit, exclude=exclude)(command)


def dataset_choice(*, limit: str = "", exclude: str = "") -> Callable[[F], F]:
    """Like `dataset_options`, with other help; an option without help is accepted and hidden."""

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


Kind = Literal["models", "datasets", "groups", "suites", "results"]


def completing(*kinds: Kind) -> Callable[..., list[CompletionItem]]:
    """For ``shell_complete``: names of these kinds, or folders (for a suite, files) if none matches."""

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
datasets_option = click.option(
    "-d",
    "--dataset",
    "datasets",
    multiple=True,
    shell_complete=completing("datasets", "groups"),
    help="Name, or path to a folder in BEIR format.",
)
