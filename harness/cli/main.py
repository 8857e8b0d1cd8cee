"""The ``harness`` command: a group whose commands are imported when they run, and the one place that ends a process."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import COMMON, note, show_trace, with_common
from harness.cli.signals import stopping
from harness.cli.terminal import plain_output, printable
from harness.errors import trace
from harness.registry.option_values import command_line
from harness.system.paths import home_folder, make_home_folder, require_utf8
from harness.types import PluginError, UserError

if TYPE_CHECKING:
    from harness.registry.manager import Registry

COMMANDS = {
    "benchmark": "Evaluate models on datasets: nDCG@10 and isotropy of every pair.",
    "check": "Prove a model plug-in sound, or say what is wrong with it.",
    "datasets": "List the datasets known by name.",
    "doctor": "Examine a dataset: duplicates, empty texts, dangling judgements.",
    "evaluate": "Measure any TREC run against judgements.",
    "fetch": "Download and verify datasets and model weights ahead of time.",
    "import": "Take others' results in as rows: TREC runs, MTEB's folders.",
    "index": "Export a model's vectors of a dataset as a plain FAISS index.",
    "isotropy": "The geometry panel of a model on a dataset, or of a .npy file.",
    "models": "List the models known by name, and what each still needs.",
    "plan": "What a benchmark will take: tokens, bytes, memory, hours, cost.",
    "suites": "List the suites: datasets with one average.",
    "transform": "Benchmark a model's vectors centred, whitened or projected.",
    "verify": "Run recorded results again: OK, OKish or FAIL for each.",
}
"""Command -> its line in the help; ``harness/cli/NAME.py`` holds it as ``command``."""
MODULES = {"import": "import_"}
"""Command -> its module, where the command is a reserved word of Python."""
SUMMARY_WIDTH = 65
"""Characters of a plug-in's command that the list of commands shows: what fits into 80 columns."""


@dataclass
class State:
    """What commands share: where things are kept, and the plug-ins (loaded on first use)."""

    plugins: list[Path] = field(default_factory=list)
    command: str = ""
    """What was typed, for the record."""
    debug: bool = False
    verbose: bool = False
    quiet: bool = False
    commands: Mapping[str, click.Command] | None = None
    """Those of the plug-ins, once asked for."""
    _registry: Registry | None = None

    @property
    def home(self) -> Path:
        """$HARNESS_HOME, or this platform's cache folder; it need not exist yet."""
        return home_folder()

    @cached_property
    def made_home(self) -> Path:
        """`home`, created if it does not exist; UserError if it cannot be."""
        return make_home_folder()

    def registry(self, files: Iterable[Path] = ()) -> Registry:
        """Every plug-in, those of ``--plugin`` included."""
        from harness.registry.manager import load_registry

        if self._registry is None or files:
            self._registry = load_registry(dict.fromkeys([*self.plugins, *files]))
        return self._registry


class Group(click.Group):
    """Finds a command's module only when that command is asked for; plug-ins add theirs through a hook."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, ours and the plug-ins'."""
        return sorted({*COMMANDS, *self._from_plugins(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported now."""
        if cmd_name in COMMANDS:
            return with_common(importlib.import_module(f"harness.cli.{MODULES.get(cmd_name, cmd_name)}").command)
        command = self._from_plugins(ctx).get(cmd_name)
        return command and with_common(command)

    def _from_plugins(self, ctx: click.Context) -> Mapping[str, click.Command]:
        state = ctx.ensure_object(State)
        if state.commands is None:
            group = click.Group("harness")
            for broken in state.registry(ctx.params.get("plugins") or ()).add_commands(group):
                show_trace(broken.trace)
                note(f"the plug-in {broken.plugin} gave no commands: {broken.reason}")
            state.commands = group.commands
        return state.commands

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click's, with the nearest names when there is no such command."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from harness.datasets.catalog import unknown

            raise UserError(unknown("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, without importing any command of ours."""
        added = self._from_plugins(ctx).items()
        rows = {**{name: command.get_short_help_str(SUMMARY_WIDTH) for name, command in added}, **COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))


@click.group(
    cls=Group,
    invoke_without_command=True,
    params=[*COMMON],
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "HARNESS"},
)
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A plug-in file to load too.")
@click.version_option(package_name="retrieval-harness")
@click.pass_context
def cli(ctx: click.Context, plugins: tuple[Path, ...]) -> None:
    """Benchmark retrieval models, dense and lexical, on BEIR-format datasets.

    Start with:  harness benchmark -m bm25 -m minilm --suite demo
    """
    ctx.ensure_object(State).plugins.extend(plugins)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: exit 0 done, 1 a cell failed, 2 the user's mistake (one sentence), 128 and the signal's
    number when one ended it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    with stopping():
        _main(sys.argv[1:] if arguments is None else arguments)


def _main(words: list[str]) -> None:
    state = State(command=command_line(["harness", *words]))
    try:
        for word in words:
            require_utf8("The word {}", word)
        for name, value in os.environ.items():
            if name.startswith("HARNESS_"):
                require_utf8(f"{name} is {{}}, which", value)
        with plain_output():
            code = cli.main(args=words, prog_name="harness", standalone_mode=False, obj=state)
        sys.exit(code if isinstance(code, int) else 0)
    except BrokenPipeError:  # the reader of our output left
        _forget_stdout()
        sys.exit(141)
    except Exception as error:
        if state.debug:
            click.echo(trace(error), err=True, nl=False)
        sentence, status = _told(error)
        if not sentence:
            raise
        _end(sentence, status)
    except KeyboardInterrupt as stopped:
        _end(INTERRUPTED, getattr(stopped, "status", 130))


INTERRUPTED = "Interrupted; what was finished is kept, and the same command goes on from there."


def _told(error: Exception) -> tuple[str, int]:
    """What is said of an error, and the exit status; an empty sentence for a fault of ours."""
    match error:
        case UserError():
            return str(error), 2
        case PluginError():
            return str(error), 1
        case click.UsageError() if type(error).__name__ == "NoArgsIsHelpError" and error.ctx:
            click.echo(error.ctx.get_help(), err=True)
            sys.exit(2)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "harness"
            return f"{_misused(error)} Type: {command} --help", 2
        case click.ClickException():
            return error.format_message(), 2
        case click.Abort():  # click makes its own of an interrupt
            return INTERRUPTED, getattr(error.__cause__, "status", 130)
        case MemoryError():
            return "The memory is used up; give a smaller --memory, or smaller files, and run the command again.", 2
        case OSError(errno=errno.ENOSPC):
            _forget_stdout()
            return "The disk is full, so the output is not whole; free some space and run the same command again.", 2
        case OSError() if error.filename is not None:
            return f"{error.filename} cannot be used ({error.strerror}); check the path and run the command again.", 2
    return "", 1


def _misused(error: click.UsageError) -> str:
    """click's sentence; for words that stand alone, where they belong."""
    sentence, context = error.format_message(), error.ctx
    found = re.fullmatch(r"Got unexpected extra arguments? \((.*)\)\.?", sentence)
    if not found or context is None:
        return sentence
    known = {name for parameter in context.command.params for name in parameter.opts} & {"-m", "-d"}
    if not known:
        return sentence
    registry = context.ensure_object(State).registry()
    datasets = {*registry.datasets, *registry.groups}
    named = [f"{'-d' if word in datasets or '-m' not in known else '-m'} {word}" for word in found[1].split()]
    kinds = [kind for name, kind in (("-m", "models with -m"), ("-d", "datasets with -d")) if name in known]
    return f"{context.command_path} names {' and '.join(kinds)}, as in: {context.command_path} {' '.join(named)}."


def _forget_stdout() -> None:
    """Keeps Python from trying, at its exit, to write again what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(text: str) -> str:
    """The text without line breaks and whatever else a terminal obeys, which other people's errors may hold."""
    return printable(" ".join(filter(None, map(str.strip, text.splitlines()))))


def _end(sentence: str, code: int) -> None:
    click.echo(f"harness: {one_line(sentence)}", err=True)
    sys.exit(code)
