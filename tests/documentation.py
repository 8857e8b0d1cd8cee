"""What the documentation tells a reader to type: its blocks, its command lines, and the names on them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import platformdirs

from harness.cli.main import State, cli
from harness.datasets.catalog import suite
from harness.registry.manager import load_registry
from harness.registry.parser import parse
from harness.types import Weights
from tests.conftest import ROOT

README, COMMANDS = ROOT / "README.md", ROOT / "docs" / "commands.md"
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *TUTORIALS]
SHELLS = ("sh", "bash", "console")
FOLDER, CHECKPOINT, CROSS_ENCODER = "path/to/folder", "path/to/checkpoint", "path/to/cross-encoder"
COLBERT = "path/to/colbert"
"""What the documentation calls a reader's own dataset and models."""
USERS_HOME = Path(os.environ.get("HARNESS_HOME") or platformdirs.user_cache_path("retrieval-harness"))
"""Where this machine may have weights already, for the commands that need some."""


class Block(NamedTuple):
    """A fenced block, and the paragraph before it."""

    language: str
    code: str
    before: str


def blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], re.split(r"\n\n|\n```\n", text[: m.start()].strip())[-1]) for m in found]


def commands(block: Block) -> list[str]:
    """The command lines of a block in a shell's language; of a console's, those after a prompt."""
    lines = block.code.replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if block.language != "console" or line.startswith("$ ")]
    return [" ".join(line.split()) for line in typed if line.strip() and not line.startswith("#")]


def documented(*languages: str, pages: Sequence[Path] = tuple(PAGES)) -> list[Block]:
    return [block for page in pages for block in blocks(page.read_text()) if block.language in languages]


def words(line: str) -> list[str]:
    """What follows ``harness``, comment and redirection left out; nothing where the line is another program's."""
    found = shlex.split(line, comments=True)
    found = found[found.index("harness") + 1 :] if "harness" in found else []
    return found[: found.index(">")] if ">" in found else found


LINES = [line for block in documented(*SHELLS) for line in commands(block)]
HARNESS = [line for line in LINES if words(line)]
COMPLETION = [line for line in LINES if line.startswith("_HARNESS_COMPLETE=")]
INLINE = re.findall(r"`(harness [^`]+)`", "\n".join(page.read_text() for page in PAGES))
DOCS = "\n".join(page.read_text() for page in PAGES)


def parsed(line: str) -> click.Context:
    """The command line as click reads it; an error where it has an option or a command that does not exist."""
    name, *rest = words(line)
    context = click.Context(cli, obj=State())
    command = cli.get_command(context, name)
    assert command is not None, f"there is no command {name}"
    while isinstance(command, click.Group) and rest:
        context = click.Context(command, info_name=name, parent=context)
        name, *rest = rest
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    return command.make_context(name, rest, parent=context)


def named(line: str) -> dict[str, list[str]]:
    """The models, datasets and suites on a line."""
    given = parsed(line).params
    listed = {kind: list(given.get(kind) or []) for kind in ("models", "datasets", "suites")}
    for kind in ("model", "dataset", "suite"):
        listed[f"{kind}s"] += [given[kind]] if given.get(kind) else []
    for name in given["names"] if words(line)[0] == "fetch" else ():
        listed["models" if name in REGISTRY.models or ":" in name else "datasets"].append(name)
    return listed


def shown_files() -> dict[str, str]:
    """The files that the documentation shows: data in a block, its path in the paragraph before it."""
    return {
        path: block.code
        for block in documented("json", "tsv", "text")
        for path in re.findall(r"`([\w-]+/[\w/-]+\.(?:jsonl|tsv|txt))`", block.before)
    }


def absent(line: str) -> bool:
    """Whether the line needs a dataset that has to be fetched, which no test does."""
    found = named(line)
    entries = [*found["datasets"], *(entry for name in found["suites"] for entry in suite(name).datasets)]
    members = {name for entry in entries for name in REGISTRY.groups.get(entry, (entry,))}
    brings = words(line)[0] in ("fetch", "benchmark", "doctor", "isotropy")
    return brings and any(REGISTRY.datasets[name].sources for name in members & {*REGISTRY.datasets})


def names(text: str) -> list[str]:
    """The models that one is made of, itself included."""
    name, members, _ = parse(text)
    return [name, *(below for member in members or () for below in names(member))]


def weights_of(line: str) -> list[Weights]:
    refs = [REGISTRY.models.get(name) for text in named(line)["models"] for name in names(text)]
    found = [ref.spec.files.weights for ref in refs if ref and ref.spec.files.weights]
    return found + ([REGISTRY.models["minilm"].spec.files.weights] if CHECKPOINT in line else [])  # type: ignore[list-item]


REGISTRY = load_registry()


def plugin_files() -> dict[str, str]:
    """Complete plug-ins in the documentation (the name of the file stands before it) and in the hooks' own."""
    found = {}
    for block in documented("python"):
        if "@hookimpl" in block.code:
            [name] = re.findall(r"`(\w+)\.py`", block.before)
            found[name] = block.code
    return found
