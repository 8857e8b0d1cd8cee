"""The documentation against the code: what it shows exists and works, and nothing is left out."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest

from harness.cli.main import State, cli
from harness.datasets.catalog import catalogue, suite
from harness.registry import hookspecs
from harness.registry.parser import parse
from harness.types import UserError
from tests.conftest import ROOT
from tests.documentation import (
    CHECKPOINT,
    COLBERT,
    COMPLETION,
    DOCS,
    FOLDER,
    HARNESS,
    INLINE,
    LINES,
    PAGES,
    README,
    REGISTRY,
    blocks,
    commands,
    documented,
    named,
    parsed,
    plugin_files,
    shown_files,
    words,
)

pytest.importorskip("faiss", reason="the documented commands need the dense extra")
pytest.importorskip("bm25s", reason="the documented commands need the bm25 extra")


def test_blocks_and_commands_are_found() -> None:
    text = """
First, do this:

```sh
harness models   # a comment
# another
make demo

harness benchmark \\
  -m bm25
```
Then that, with `harness suites`:
```console
$ harness suites
| name |
```
```python
x = 1
```
"""
    sh, console, python = blocks(text)
    assert (sh.before, console.before) == ("First, do this:", "Then that, with `harness suites`:")
    assert commands(sh) == ["harness models # a comment", "make demo", "harness benchmark -m bm25"]
    assert commands(console) == ["harness suites"]
    assert python.code == "x = 1\n"
    assert words("A=1 harness report --format csv > x.csv  # made") == ["report", "--format", "csv"]


def test_every_line_is_one_that_is_tested() -> None:
    """A kind of command that this file does not know must not go unnoticed."""
    assert len(HARNESS) > 10
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][\w-]*)", DOCS)) <= targets
    for line in LINES:
        if line not in (*HARNESS, *COMPLETION):
            program, *rest = shlex.split(line, comments=True)
            if program == "pip":
                [project, extra] = re.fullmatch(r"([\w-]+)\[(\w+)\]", rest[-1]).groups()  # type: ignore[union-attr]
                assert extra in distribution(project).metadata.get_all("Provides-Extra")
                continue
            assert program == "make", f"no test knows what to do with: {line}"
            assert set(rest) <= targets, f"{line}: the Makefile has {sorted(targets)}"


@pytest.mark.parametrize("line", dict.fromkeys([*HARNESS, *INLINE]))
def test_commands_and_options_exist(line: str) -> None:
    try:
        parsed(line)
    except (UserError, click.ClickException) as error:
        pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("line", dict.fromkeys(HARNESS))
def test_names_exist(line: str) -> None:
    found = named(line)
    for model in found["models"]:
        own = parse(model)[0] in (CHECKPOINT, *plugin_files()) or COLBERT in model
        assert own or model in REGISTRY.models or REGISTRY.model(model)
    shown = {path.partition("/")[0] for path in shown_files()}
    assert set(found["datasets"]) <= {FOLDER, *shown, *REGISTRY.datasets, *REGISTRY.groups}
    assert set(found["suites"]) <= set(catalogue().suites)


def examples() -> dict[str, str]:
    docstring = inspect.getdoc(hookspecs.harness_models) or ""
    [name] = re.findall(r"\((\w+)\.py;", docstring)
    return {**plugin_files(), name: docstring.partition("::\n")[2]}


@pytest.mark.parametrize("name", examples())
def test_a_complete_plugin_is_sound_and_short(name: str, harness, toy: Path, tmp_path: Path) -> None:
    code = inspect.cleandoc(examples()[name])
    body = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(body) <= 10 or name in ("overlap", "pairs", "words", "shared", "counting", "trigrams"), (
        "ten lines for a dense model"
    )
    file = tmp_path / f"{name}.py"
    file.write_text(code)
    model, dataset = (name, toy) if "ModelSpec" in code else ("bm25", name)
    if '"reranker"' in code:
        model = f"{name}(bm25)"
    if dataset == toy:
        checked = harness("check", model, "--plugin", file, "--json")
        assert checked.code == 0, checked.out + checked.err
        assert all(outcome["passed"] for outcome in json.loads(checked.out))
    else:
        assert harness("doctor", name, "--plugin", file).code == 0
    done = harness("benchmark", "-m", model, "--plugin", file, "-d", dataset, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["measures"]["nDCG@10"] > (0 if dataset == toy else 0.9)


def test_every_kind_of_plugin_has_an_example() -> None:
    code = "\n".join(examples().values())
    assert all(f'"{kind}"' in code for kind in ("dense", "lexical", "sparse", "multivector", "reranker"))
    assert "DatasetSpec(" in code


def test_the_dataset_toml_that_is_shown_is_accepted(harness, toy: Path) -> None:
    shown = [block for block in documented("toml") if "`dataset.toml`" in block.before]
    assert shown
    for block in shown:
        (toy / "dataset.toml").write_text(block.code)
        done = harness("benchmark", "-m", "bm25", "-d", toy, "--json")
        assert done.code == 0, done.err
        [name] = re.findall(r'^name = "(.*)"', block.code, re.MULTILINE)
        assert json.loads(done.out)[0]["dataset"] == name


def test_the_suites_that_are_shown_are_suites(tmp_path: Path) -> None:
    shown = [block for block in documented("toml") if "`--suite " in block.before]
    assert shown
    for block in shown:
        (tmp_path / "shown.toml").write_text(block.code)
        found = suite(str(tmp_path / "shown.toml"))
        assert f'name = "{found.name}"' in block.code
        assert set(found.datasets[:-1]) <= {*REGISTRY.datasets, *REGISTRY.groups}


def test_every_dataset_and_suite_is_documented() -> None:
    known = catalogue()
    for name in (*known.suites, *known.groups, *known.datasets):
        assert name.startswith("nano-") or "/" in name or f"`{name}`" in DOCS, name


def test_every_hook_is_documented_with_its_arguments() -> None:
    hooks = [f for name, f in vars(hookspecs).items() if name.startswith("harness_")]
    assert len(hooks) >= 3
    for hook in hooks:
        assert f"`{hook.__name__}({', '.join(inspect.signature(hook).parameters)})`" in DOCS


def test_every_command_is_documented() -> None:
    context = click.Context(cli, obj=State())
    for name in cli.list_commands(context):
        assert re.search(rf"\bharness {name}\b", DOCS), f"harness {name} is not in the documentation"


@pytest.mark.parametrize("name", REGISTRY.models)
def test_every_option_of_a_built_in_model_is_documented(name: str) -> None:
    rows = [line for line in DOCS.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row for row in rows)
    for key in REGISTRY.models[name].spec.options:
        assert any(f"`{key}`" in row for row in rows), f"option {key} of {name} is not in the documentation"


def test_every_environment_variable_is_documented() -> None:
    sources = [file.read_text() for room in ("harness", "plugins", "reports") for file in (ROOT / room).rglob("*.py")]
    for name in set(re.findall(r"\bHARNESS_[A-Z_]+[A-Z]\b", "\n".join(sources))):
        assert name in DOCS, f"{name} is not in the documentation"


def slugs(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if not re.match(r"\w+:", target):
            there = page.parent / path if path else page
            assert there.exists(), target
            assert not anchor or anchor in slugs(there.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_was_left_to_fill_in(page: Path) -> None:
    assert not re.findall(r"^[A-Z]{4,}$|\b(?:TODO|FIXME|TBD|XXX)\b", page.read_text(), re.MULTILINE)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150
