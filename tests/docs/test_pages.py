"""What the site is made of: the repository's pages with links that hold, and pages generated from the code."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

import click
import pytest

import harness as api
from harness.cli.main import State, cli
from site_builder import pages
from site_builder.api import api_page, names, plugin_api_page
from site_builder.commands import commands_page, tree
from site_builder.notebooks import notebook_page
from site_builder.schema import schema_page
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    pages.collect(ROOT, folder)
    return folder


def test_every_page_of_the_documentation_is_in_the_navigation(collected: Path) -> None:
    navigation = set(
        re.findall(r"([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2], re.MULTILINE)
    )
    assert {name for name in navigation if not (collected / name).is_file()} == set()
    written = {
        file.relative_to(ROOT / "docs") for kind in ("md", "ipynb") for file in (ROOT / "docs").rglob(f"*.{kind}")
    }
    assert {str(file.with_suffix(".md")) for file in written} <= navigation
    assert {*pages.GENERATED, "project/CHANGELOG.md", "glossary.md"} <= navigation


def test_relative_links_lead_to_pages_of_the_site(collected: Path) -> None:
    count = 0
    for file in collected.rglob("*.md"):
        for path, _ in pages.LINK.findall(pages.CODE.sub("", file.read_text())):
            if path and ":" not in path:
                count += 1
                assert (file.parent / path).is_file(), f"{file}: {path}"
    assert count > 150


def test_links_are_those_of_the_site(tmp_path: Path) -> None:
    for name in ("docs/a.md", "docs/sub/b.ipynb", "CHANGELOG.md", "tests/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    text = "[c](../CHANGELOG.md#one) [b](sub/b.ipynb) `[x](no.md)` [x](../tests/x.py) [e](https://e.org) [h](#h)"
    shown, linked = pages.rewritten(tmp_path, PurePosixPath("docs/a.md"), text)
    assert shown == (
        "[c](project/CHANGELOG.md#one) [b](sub/b.md) `[x](no.md)` [x](project/tests/x.py.md) [e](https://e.org) [h](#h)"
    )
    assert list(map(str, linked)) == ["CHANGELOG.md", "docs/sub/b.ipynb", "tests/x.py"]
    shown, _ = pages.rewritten(tmp_path, PurePosixPath("CHANGELOG.md"), "[a](docs/a.md)")
    assert shown == "[a](../a.md)"
    with pytest.raises(FileNotFoundError, match=r"docs/a\.md: the link to gone\.md leads nowhere"):
        pages.rewritten(tmp_path, PurePosixPath("docs/a.md"), "[x](gone.md)")


def test_every_command_and_option_is_in_the_reference() -> None:
    page = commands_page()
    sections = dict(re.findall(r"^##+ (harness[\w -]*)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    found = list(tree(cli, click.Context(cli, info_name="harness", obj=State())))
    assert [context.command_path for context, _ in found] == list(sections)
    assert len(found) > 30
    for context, command in found:
        helped = command.get_help(context)
        section = sections[context.command_path]
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", helped.partition("\nCommands:")[0], re.MULTILINE):
            everywhere = option in ("--help", "--debug", "--verbose", "--quiet")
            assert option in (page if everywhere else section), f"{context.command_path} {option}"
        for example in re.findall(r"^    (harness .*)$", helped.partition("Examples:")[2], re.MULTILINE):
            assert example.strip() in section
    assert "paginate" not in page
    assert not re.search(r"[\b\f]", page)


def test_every_name_of_the_package_is_in_the_reference() -> None:
    users, authors = names()
    assert sorted([*users, *authors]) == sorted(set(dir(api)) - {"__version__"})
    assert {"evaluate", "measure", "compare", "Results", "UserError", "training_evaluator"} <= set(users)
    assert all(f"::: harness.{name}\n" in api_page() for name in users)
    assert all(f"::: harness.{name}\n" in plugin_api_page() for name in authors)
    assert plugin_api_page().count("::: harness.registry.hookspecs.harness_") == 4


def test_every_field_of_a_result_is_in_the_reference() -> None:
    file = ROOT / "docs" / "result.schema.json"
    page = schema_page(file)

    def fields(schema: dict[str, dict[str, object]]) -> list[tuple[str, str]]:
        found = []
        for name, field in schema.get("properties", {}).items():
            found += [(name, str(field.get("description", ""))), *fields(field)]  # type: ignore[arg-type]
        return found

    expected = fields(json.loads(file.read_text()))
    assert len(expected) > 40
    for name, description in expected:
        assert re.search(rf"^\| `{re.escape(name)}` \| .* \| {re.escape(description)} \|$", page, re.MULTILINE), name


def test_a_notebook_becomes_a_page() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {"cell_type": "code", "source": "1 + 1", "outputs": [{"data": {"text/plain": ["2"]}}]},
        {"cell_type": "code", "source": "x", "outputs": [{"data": {"text/plain": "x", "text/html": "<b>x</b>"}}]},
        {"cell_type": "code", "source": "p", "outputs": [{"data": {"image/png": "AAA="}}, {"text": "printed\n"}]},
    ]
    page, images = notebook_page(json.dumps({"cells": cells}), "n.ipynb")
    assert page.startswith(
        "# Title\n\n[Download the notebook](n.ipynb)\n\nText.\n\n```python\n1 + 1\n```\n\n```text\n2\n```"
    )
    assert "<b>x</b>\n</div>" in page
    assert "![Output of the cell above](n-3.png)\n\n```text\nprinted\n```" in page
    assert images == {"n-3.png": b"\0\0"}
