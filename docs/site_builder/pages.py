"""Collects the pages of the site in one folder: those of ``docs/``, what they link to, and what is generated."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Container
from pathlib import Path, PurePosixPath

from site_builder.api import api_page, plugin_api_page
from site_builder.commands import commands_page
from site_builder.notebooks import notebook_page
from site_builder.schema import schema_page

ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/result.schema.json", "docs/site.css")
"""Files that are part of the site whether a page links to them or not."""
OUTSIDE = "project"
"""Folder of the site with files from outside of ``docs/``."""
GENERATED: dict[str, Callable[[Path], str]] = {
    "reference/command-line.md": lambda root: commands_page(),
    "reference/python-api.md": lambda root: api_page(),
    "reference/plugin-api.md": lambda root: plugin_api_page(),
    "reference/result-schema.md": lambda root: schema_page(root / "docs" / "result.schema.json"),
}
CODE = re.compile(r"^```.*?^```[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))")
COPIED = (".png", ".svg", ".css")
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".json": "json", ".slurm": "bash"}


def place(source: PurePosixPath) -> PurePosixPath:
    """Where a file of the repository is among the pages: ``docs/x.md`` is ``x.md``, code is on a page that shows it."""
    inside = source.is_relative_to("docs")
    target = source.relative_to("docs") if inside else OUTSIDE / source
    if source.suffix == ".ipynb":
        return target.with_suffix(".md")
    return target if source.suffix in (".md", *COPIED) else target.with_name(f"{target.name}.md")


def collect(root: Path, target: Path) -> list[PurePosixPath]:
    """Fills ``target`` with the pages; whatever was there is removed.

    Args:
        root: The repository.
        target: The folder for the pages.

    Returns:
        The files of the repository that were taken.

    Raises:
        FileNotFoundError: A page links to a file that does not exist.
    """
    shutil.rmtree(target, ignore_errors=True)
    found = [file for kind in ("md", "ipynb") for file in sorted((root / "docs").rglob(f"*.{kind}"))]
    todo = [PurePosixPath(file.relative_to(root)) for file in found] + [PurePosixPath(name) for name in ALWAYS]
    taken: dict[PurePosixPath, None] = {}
    while todo:
        source = todo.pop()
        if source not in taken:
            taken[source] = None
            todo += _write(root, source, target / place(source))
    for name, page in GENERATED.items():
        _page(target / name, page(root))
    return list(taken)


def _write(root: Path, source: PurePosixPath, target: Path) -> list[PurePosixPath]:
    """Writes one file as a page; the files that it links to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in COPIED:
        shutil.copyfile(root / source, target)
        return []
    text = (root / source).read_text(encoding="utf-8")
    images: dict[str, bytes] = {}
    if source.suffix == ".ipynb":
        shutil.copyfile(root / source, target.with_suffix(".ipynb"))
        text, images = notebook_page(text, source.name)
        for name, content in images.items():
            (target.parent / name).write_bytes(content)
    elif source.suffix != ".md":
        _page(target, f"# {source.name}\n\n`{source}`\n\n````{LANGUAGES.get(source.suffix, 'text')}\n{text}\n````\n")
        return []
    text, linked = rewritten(root, source, text, {source.name, *images})
    _page(target, text)
    return linked


def rewritten(
    root: Path, source: PurePosixPath, text: str, beside: Container[str] = ()
) -> tuple[str, list[PurePosixPath]]:
    """The text of a page with its links as they are in the site, and the files that it links to.

    Links to the files ``beside`` the page stay as they are.
    """
    linked: list[PurePosixPath] = []

    def link(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if not path or ":" in path or path in beside:
            return match[0]
        there = PurePosixPath(os.path.normpath(source.parent / path))
        if not (root / there).is_file():
            raise FileNotFoundError(f"{source}: the link to {path} leads nowhere")
        linked.append(there)
        return os.path.relpath(place(there), place(source).parent) + anchor

    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(link, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(link, text[end:])]), linked


def _page(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
