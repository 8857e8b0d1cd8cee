"""The files at the root: complete, consistent with each other, and naming only what exists."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import tomllib
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

import harness
from tests.conftest import ROOT

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the Apache License 2.0 as the Apache Software Foundation publishes it."""
HOLDER = "The retrieval-harness developers"
FILES = (
    *("LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "SECURITY.md"),
    *("CODE_OF_CONDUCT.md", "AGENTS.md", "Makefile", "constraints.txt", "pyproject.toml", "setup.py", ".ci/run"),
)
GUIDES = ("AGENTS.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDERS = ("harness", "plugins", "training", "reports", "benchmarks", "tests", "docs", ".github", ".ci")
PACKAGES = ("harness", "harness_plugins", "harness_training", "harness_reports")
FORMS = ("bug_report.yml", "feature_request.yml", "wrong_number.yml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def parsed(name: str) -> Any:
    return pytest.importorskip("yaml").safe_load(text(name))


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_there(name: str) -> None:
    assert text(name).strip()


def test_the_licence_is_apache_2() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert PROJECT["license"] == "Apache-2.0"
    assert re.fullmatch(rf"retrieval-harness\nCopyright \d{{4}} {HOLDER}\n", text("NOTICE"))


def test_the_citation_is_valid_and_of_this_version() -> None:
    citation = parsed("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": HOLDER}]
    assert citation["version"] == harness.__version__
    assert citation["license"] == PROJECT["license"]


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", text("CHANGELOG.md"), re.MULTILINE)
    releases = [heading for heading in headings if heading != "Unreleased"]
    assert headings[:1] == ["Unreleased"]
    assert releases[:1] in ([], [harness.__version__])  # empty until the first release has a heading


def test_the_workflow_runs_make_test_on_every_supported_python() -> None:
    workflow = parsed(".github/workflows/test.yml")
    assert {"push", "pull_request"} <= workflow[True].keys()  # YAML 1.1 reads the key "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    supported = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(20) if supported.contains(f"3.{minor}.1")]
    for job in workflow["jobs"].values():
        assert job["strategy"]["matrix"]["python"] == minors
        assert job["runs-on"] == "ubuntu-latest"
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all("@" in step["uses"] for step in job["steps"] if "uses" in step)
    assert "make test PYTHON=python" in [step.get("run") for step in workflow["jobs"]["test"]["steps"]]


def test_the_workflow_of_the_site_runs_make_docs_and_the_tests_that_need_its_packages() -> None:
    workflow = parsed(".github/workflows/docs.yml")
    [job] = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read"}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[0] == "make docs PYTHON=python"
    assert commands[-1].endswith("-m pytest tests/docs -n 0")


@pytest.mark.parametrize("name", FORMS)
def test_an_issue_form_is_valid(name: str) -> None:
    form = parsed(f".github/ISSUE_TEMPLATE/{name}")
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    for field in form["body"]:
        needed = {"markdown": "value", "checkboxes": "options", "dropdown": "options"}.get(field["type"], "label")
        assert field["type"] in ("markdown", "input", "textarea", "dropdown", "checkboxes")
        assert field["attributes"][needed]
    assert all(re.fullmatch(r"[\w-]+", field["id"]) and field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def test_the_hooks_before_a_commit_need_no_download() -> None:
    repositories = parsed(".pre-commit-config.yaml")["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    for hook in repositories[0]["hooks"]:
        assert {"id", "name", "entry", "language"} <= hook.keys()
        assert hook["language"] in ("system", "pygrep")


def quoted(name: str) -> list[str]:
    """The code in back-quotes of a page, its fenced blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text(name), flags=re.M | re.S))


def exists(name: str) -> bool:
    """Whether there is such a module, or such an attribute of a module."""
    module, _, attribute = name.rpartition(".")
    if not module:
        return importlib.util.find_spec(name) is not None
    return exists(module) and (
        importlib.util.find_spec(name) is not None or hasattr(importlib.import_module(module), attribute)
    )


# The guides describe the packages harness/{storage,metrics,...}, plugins/harness_plugins, training/harness_training,
# reports/harness_reports and tests/robustness: this fails where the code does not have these packages yet.
@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_names_only_what_exists(page: str) -> None:
    targets = re.findall(r"^([a-z][\w-]*):", text("Makefile"), re.MULTILINE)
    words = [word for token in quoted(page) for word in token.split() if "NAME" not in word]
    paths = [word for word in words if "/" in word and word.partition("/")[0] in FOLDERS]
    dotted = [word for word in words if re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", word)]
    made = [token.split()[1] for token in quoted(page) if token.startswith("make ")]
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text(page)) if ":" not in link]
    assert words
    assert [path for path in (*paths, *links) if not any(ROOT.glob(path.rstrip("/")))] == []
    assert [name for name in dotted if not exists(name)] == []
    assert [target for target in made if target not in targets] == []


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_in_a_guide_exist(page: str) -> None:
    from tests.documentation import parsed as parsed_command

    for line in quoted(page):
        if re.match(r"harness [a-z]+ \S", line):  # with arguments; a bare `harness verify` names the command
            parsed_command(line)


@pytest.mark.parametrize("section", ["Terms of this project", "Terms of the field, as used here"])
def test_the_glossary_is_sorted_and_every_term_is_explained(section: str) -> None:
    [body] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text("docs/glossary.md"), re.M | re.S)
    entries = re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=^- |\Z)", body, re.M | re.S)
    terms = [term.casefold() for term, _ in entries]
    assert len(terms) == body.count("\n- ")
    assert terms == sorted(set(terms))
    assert all(meaning.strip().endswith(".") for _, meaning in entries)
