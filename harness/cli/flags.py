"""``--debug``, ``--verbose`` and ``--quiet`` of every command, before or after its name, and what they control."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from harness.cli.terminal import printable


def _set(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    state = ctx.find_root().obj
    if parameter.name == "verbose" and not state.verbose:
        ctx.with_resource(_events_shown())
    setattr(state, str(parameter.name), True)


def _option(*names: str, words: str) -> click.Option:
    return click.Option(names, is_flag=True, expose_value=False, callback=_set, help=words)


COMMON = (
    _option("--debug", words="Print the traceback of any error."),
    _option("-v", "--verbose", words="Print what is logged."),
    _option("-q", "--quiet", words="Print results and errors alone."),
)


def with_common(command: click.Command) -> click.Command:
    """Adds to the command and its subcommands the options of `COMMON` whose names it does not use itself."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_common(below)
    for option in COMMON:
        if not {*option.opts} & {name for parameter in command.params for name in parameter.opts}:
            command.params.append(option)
    return command


def is_set(flag: str) -> bool:
    """Whether ``debug``, ``verbose`` or ``quiet`` was given to the running command."""
    context = click.get_current_context(silent=True)
    return bool(context and getattr(context.find_root().obj, flag, False))


def note(sentence: str) -> None:
    """Prints a note on stderr, unless ``--quiet`` was given."""
    if not is_set("quiet"):
        click.echo(f"note: {sentence}", err=True)


def show_trace(error: BaseException | str) -> None:
    """Prints the traceback on stderr if ``--debug`` was given."""
    if error and is_set("debug"):
        from harness.errors import trace

        click.echo(error if isinstance(error, str) else trace(error), err=True, nl=False)


def one_line(text: str) -> str:
    """The text on one line, without control characters, which the errors of plug-ins and files may hold."""
    return printable(" ".join(filter(None, map(str.strip, text.splitlines()))))


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        usual = vars(logging.makeLogRecord({}))
        more = {name: value for name, value in vars(record).items() if name not in usual and name != "traceback"}
        words = [f"{name}={value}" for name, value in more.items()]
        return printable(" ".join([self.formatTime(record, "%H:%M:%S"), record.getMessage(), *words]))


@contextmanager
def _events_shown() -> Iterator[None]:
    """Prints the log of the harness on stderr while the block runs."""
    log, handler = logging.getLogger("harness"), logging.StreamHandler()
    handler.setFormatter(_Line())
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
