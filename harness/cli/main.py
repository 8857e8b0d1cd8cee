"""The ``harness`` command: a group whose commands are imported when they run, and the one place that ends a process."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from harness.cli import COMMANDS
from harness.cli.flags import COMMON, note, one_line, show_trace, with_common
from harness.cli.signals import stopping
from harness.cli.terminal import plain_output
from harness.errors import PluginError, UserError, trace
from harness.system.paths import home_folder, make_home_folder, require_utf8

if TYPE_CHECKING:
    from harness.registry.manager import Registry

PACKAGES = "harness.commands"
"""Group of the entry points that name packages of commands, each like `harness.cli`."""
PLUGINS = "harness"
"""Group of the entry points that name plug-ins, which may add commands through a hook."""
SUMMARY_WIDTH = 65
"""Characters of a hook's command that the list of commands shows: what fits into 80 columns."""


class Lazy(NamedTuple):
    """A command whose module is imported when the command is asked for."""

    package: str
    summary: str

    def load(self, name: str) -> click.Command:
        """The command of that name; a reserved word of Python is in a module with an underscore behind it."""
        module = importlib.import_module(f"{self.package}.{name}{'_' if iskeyword(name) else ''}")
        command: click.Command = module.command
        return command


@dataclass
class State:
    """What commands share: the home folder, the plug-ins (loaded on first use) and the common flags."""

    plugins: list[Path] = field(default_factory=list)
    words: Sequence[str] = ()
    """The arguments as they were typed."""
    debug: bool = False
    verbose: bool = False
    quiet: bool = False
    _registry: Registry | None = None

    @cached_property
    def command(self) -> str:
        """The command line as it was typed, for the record."""
        from harness.registry.option_values import command_line

        return command_line(["harness", *self.words])

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

    @cached_property
    def packaged(self) -> Mapping[str, Lazy]:
        """The commands of every package of commands that is installed; of two with one name the first."""
        from importlib.metadata import entry_points

        found = {name: Lazy("harness.cli", summary) for name, summary in COMMANDS.items()}
        for entry in sorted(entry_points(group=PACKAGES), key=lambda entry: entry.name):
            try:
                listed = dict(entry.load().COMMANDS)
            except Exception as error:
                show_trace(error)
                note(f"the package {entry.value} gave no commands: {type(error).__name__}: {error}")
            else:
                found = {name: Lazy(entry.value, summary) for name, summary in listed.items()} | found
        return found

    @cached_property
    def hooked(self) -> Mapping[str, click.Command]:
        """The commands that plug-ins add through the hook ``harness_commands``.

        Loading plug-ins takes time. It is left out for those of distributions that have packages of commands.
        """
        from importlib.metadata import entry_points

        packaged = {entry.dist.name for entry in entry_points(group=PACKAGES) if entry.dist}
        asked = [entry for entry in entry_points(group=PLUGINS) if not entry.dist or entry.dist.name not in packaged]
        group = click.Group("harness")
        if asked or self.plugins:
            for broken in self.registry().add_commands(group):
                show_trace(broken.trace)
                note(f"the plug-in {broken.plugin} gave no commands: {broken.reason}")
        return group.commands


class Group(click.Group):
    """The commands of packages, imported one by one when they are asked for, and those of plug-ins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        state = _state(ctx)
        return sorted({*state.packaged, *state.hooked})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command; its module is imported now."""
        if cmd_name in COMMANDS:  # without a look at what is installed
            return with_common(Lazy("harness.cli", "").load(cmd_name))
        state = _state(ctx)
        packaged = state.packaged.get(cmd_name)
        command = packaged.load(cmd_name) if packaged else state.hooked.get(cmd_name)
        return command and with_common(command)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click's, with the nearest names when there is no such command."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from harness.datasets.catalog import unknown

            raise UserError(unknown("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, which imports no command's module."""
        state = _state(ctx)
        rows = {name: command.get_short_help_str(SUMMARY_WIDTH) for name, command in state.hooked.items()}
        rows |= {name: lazy.summary for name, lazy in state.packaged.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))


def _state(ctx: click.Context) -> State:
    """The context's `State`, with the plug-in files that were named before the command."""
    state = ctx.ensure_object(State)
    state.plugins.extend(file for file in ctx.params.get("plugins") or () if file not in state.plugins)
    return state


@click.group(
    cls=Group,
    invoke_without_command=True,
    params=[*COMMON],
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "HARNESS"},
    epilog="\b\nExamples:\n"
    "  harness benchmark -m bm25 -m minilm --suite demo\n"
    "  harness benchmark -m bm25 -m path/to/checkpoint -d path/to/folder\n"
    "  harness report --baseline bm25",
)
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A plug-in file to load too.")
@click.version_option(package_name="retrieval-harness")
@click.pass_context
def cli(ctx: click.Context, plugins: tuple[Path, ...]) -> None:
    """Benchmark retrieval models, dense and lexical, on BEIR-format datasets."""
    _state(ctx)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a cell failed, 2 a user's mistake (one sentence), 128 plus the number of the signal that ended
    it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    with stopping():
        _main(sys.argv[1:] if arguments is None else arguments)


def _main(words: list[str]) -> None:
    state = State(words=words)
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
        sentence, status = _message(error)
        if not sentence:
            raise
        _end(sentence, status)
    except KeyboardInterrupt as stopped:
        _end(INTERRUPTED, getattr(stopped, "status", 130))


INTERRUPTED = "Interrupted; finished work is kept, and the same command resumes from there."


def _message(error: Exception) -> tuple[str, int]:
    """The message for an error and the exit status; the message is empty for a bug of the harness."""
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
    """Click's message; for extra arguments, the command with ``-m`` or ``-d`` before them."""
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
    """Keeps Python from flushing at exit what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(sentence: str, code: int) -> None:
    click.echo(f"harness: {one_line(sentence)}", err=True)
    sys.exit(code)
