"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from harness.cli.flags import COMMON
from harness.cli.main import State, cli

EXAMPLES = "Examples:\n"


def tree(command: click.Command, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """A command and those below it, each with its context."""
    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below and not below.hidden:
                yield from tree(below, click.Context(below, info_name=name, parent=context))


def commands_page() -> str:
    """Every command with its description, arguments, options and examples."""
    top = click.Context(cli, info_name="harness", obj=State())
    sections = [_section(context, command) for context, command in tree(cli, top)]
    return "# Command line\n\nWhat `harness COMMAND --help` prints, for all commands.\n\n" + "\n".join(sections)


def _section(context: click.Context, command: click.Command) -> str:
    path = context.command_path
    level = "##" if len(path.split()) < 3 else "###"
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"{level} {path}\n", f"```text\n{usage}\n```\n", _prose(inspect.cleandoc(command.help or ""))]
    common = {option.name for option in COMMON}
    rows = [
        _row(option, context)
        for option in command.get_params(context)
        if isinstance(option, click.Option) and not option.hidden and option.name not in {*common, "help"}
    ]
    if path == "harness":
        rows += [_row(option, context) for option in COMMON if isinstance(option, click.Option)]
        parts.append("The flags below are flags of every command too.\n")
    if rows:
        parts.append("\n".join(["| option | what it does |", "|---|---|", *rows]) + "\n")
    _, found, lines = inspect.cleandoc(command.epilog or "").partition(EXAMPLES)
    if found:
        parts.append(f"```sh\n{inspect.cleandoc(lines)}\n```\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Click's text as Markdown: a paragraph after a backspace character keeps its lines."""
    shown = []
    for paragraph in re.split(r"\n\s*\n", text.partition("\f")[0]):
        kept = paragraph.removeprefix("\b\n")
        shown.append(f"```text\n{kept}\n```" if kept != paragraph else _escaped(paragraph))
    return "\n\n".join(shown) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    names, about = option.get_help_record(context) or (", ".join(option.opts), option.help or "")
    return f"| {_code(names)} | {_escaped(' '.join(about.split())).replace('|', chr(92) + '|')} |"


def _code(names: str) -> str:
    return "`` " + names.replace("|", "\\|") + " ``" if "`" in names else f"`{names}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]`])", r"\\\1", text)
