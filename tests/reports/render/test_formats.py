"""Markdown, LaTeX and HTML say what the JSON says, cell by cell, whatever a model is called."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness_reports.cli.report import command, render
from harness_reports.data.per_query import Evidence
from harness_reports.html.tables import html_tables
from harness_reports.render.latex import PACKAGES, latex
from harness_reports.render.markdown import markdown
from harness_reports.tables.model import SIGNS
from harness_reports.tables.sections import report
from tests.reports.factory import Results
from tests.reports.render.formats import read_html, read_latex
from tests.reports.rendering import rendered

HOSTILE = [
    r"a_b*<script>alert(1)</script>\input{x}|$%#&~^",
    r"\write18{ls} \end{tabular} -- ,, ``q'' ?` $x_1$ \\",
    "</td></table><img src=x onerror=alert(1)> & \"q\" 'q'",
    "[l](javascript:x) **b** `t` ~~s~~ \n two lines \t end",
    "é ÿ ß 東京 😀 ± \u202e \x07 ‘’",
]


@pytest.fixture
def full(results: Results, trio: tuple[str, ...]) -> Results:
    """A folder with some of everything, under names that mean something to every format."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(HOSTILE):
        for dataset in (*trio, f"data {name}"):
            if (place, dataset) == (2, "fiqa"):
                continue
            values = np.clip(rng.normal(0.4 + 0.1 * place, 0.2, 60), 0, 1).tolist()
            results.add_queries(name, dataset, values, in_domain=place == 1, command=f"harness {name}")
            if place == 3:
                results.add(name, "other", 0.5, imported="mteb")
    results.add(HOSTILE[0], "fiqa", reason=HOSTILE[2])
    results.add(HOSTILE[2], "fiqa:limit=5", 0.5)
    return results


def told(results: Results) -> dict[str, Any]:
    board = results.read()
    return json.loads(render(board, "json", Evidence(board), HOSTILE[0]))


def one_line(text: str) -> str:
    return " ".join(text.split())


def expected(content: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Name of a table -> rows as they should be shown, from the JSON."""
    signs = dict(SIGNS)
    return {
        table["table"]: [
            [one_line(column["name"]) for column in table["columns"]],
            *(
                [one_line(cell["text"] + "".join(signs[m] for m in cell.get("marks", ()))) for cell in row]
                for row in table["rows"]
            ),
        ]
        for table in content["tables"]
    }


def test_the_json_is_about_everything(full: Results) -> None:
    content = told(full)
    assert [table["table"] for table in content["tables"]] == ["scores", "partial", "geometry", "cost", "provenance"]
    cells = [cell for table in content["tables"] for row in table["rows"] for cell in row]
    assert {mark for cell in cells for mark in cell.get("marks", ())} == {"in-domain", "better", "imported"}
    assert {cell["absence"] for cell in cells if "absence" in cell} >= {"failed", "missing", "partial", "incomplete"}
    names = [column["name"] for column in content["tables"][0]["columns"]]
    assert {"95% interval", "rank", "trio (3 of 3)"} <= {*names}


def test_shown_is_the_value(full: Results) -> None:
    """What the JSON shows of a value is that value, to the last digit shown."""
    numbers = 0
    for table in told(full)["tables"]:
        for row in table["rows"]:
            for column, cell in zip(table["columns"], row, strict=True):
                assert cell["text"], "no cell is blank"
                if not column["format"]:
                    continue
                assert ("absence" in cell) == (cell["value"] is None)
                if cell["value"] is not None:
                    ends = cell["value"] if isinstance(cell["value"], list) else [cell["value"]]
                    shown = [float(text.replace(",", "")) for text in cell["text"].split(" to ")]
                    digits = int((re.findall(r"\.(\d)", column["format"]) or ["0"])[0])
                    assert len(shown) == len(set(ends) if shown[0] == shown[-1] else ends)
                    for value, text in zip(ends, shown, strict=False):
                        assert abs(value * column["scale"] - text) <= 0.5 * 10.0**-digits * (1 + 1e-9)
                        numbers += 1
    assert numbers > 100


def shown(text: str) -> str:
    """Without what a terminal would obey."""
    return text.replace("\x07", "\ufffd").replace("\u202e", "\ufffd")


def test_markdown_says_what_the_json_says(full: Results) -> None:
    content, board = told(full), full.read()
    tables, words = rendered(markdown(report(board, baseline=HOSTILE[0])))
    titles = {table["table"]: table["title"] for table in content["tables"]}
    for key, rows in expected(content).items():
        assert [tables[titles[key]].header, *tables[titles[key]].rows] == [[shown(c) for c in row] for row in rows]
    best = {
        (shown(one_line(row[0]["text"])), table["columns"][place]["name"])
        for table in content["tables"]
        for row in table["rows"]
        for place, cell in enumerate(row)
        if cell.get("best")
    }
    assert {(name, column) for table in tables.values() for name, column in table.bold} == {
        (name, shown(one_line(column))) for name, column in best
    }
    assert all(shown(one_line(note)) in words for note in content["notes"])


def test_html_says_what_the_json_says(full: Results) -> None:
    content = told(full)
    page = read_html(html_tables(report(full.read(), baseline=HOSTILE[0])))
    assert {
        key: [[one_line(c.replace("\ufffd", " ")) for c in row] for row in rows] for key, rows in page.tables.items()
    } == {
        f"table-{key}": [[one_line(c.replace("\x07", " ").replace("\u202e", " ")) for c in row] for row in rows]
        for key, rows in expected(content).items()
    }
    assert not {*page.tags} & {"script", "img", "style", "a"}
    assert page.captions == [
        table["caption"].replace("\x07", "\ufffd").replace("\u202e", "\ufffd") for table in content["tables"]
    ]
    assert {*page.scopes} == {"col", "row"}
    for table in content["tables"]:
        for row, values in zip(table["rows"], page.values[f"table-{table['table']}"][1:], strict=True):
            for column, cell, value in zip(table["columns"], row, values, strict=True):
                known = column["format"] and cell["value"] is not None
                ends = cell["value"] if isinstance(cell["value"], list) else [cell["value"]]
                assert (list(map(float, value.split())) if value else None) == (ends if known else None)
    assert [title for title in page.titles if "scifact, no date, key unknown: harness" in title]


def test_latex_says_what_the_json_says(full: Results) -> None:
    content = told(full)
    tables, bold = read_latex(latex(report(full.read(), baseline=HOSTILE[0])))

    def as_ascii(text: str) -> str:
        shown = "".join(c if c.isprintable() else " " for c in text)
        return one_line(
            "".join(c if c.isascii() or "À" <= c <= "ÿ" or c in "†‡§±°‖¶" else f"U+{ord(c):04X}" for c in shown)
        )

    for key, rows in expected(content).items():
        assert tables[key] == [[as_ascii(cell) for cell in row] for row in rows]
    best = {
        (as_ascii(row[0]["text"]), cell["text"])
        for table in content["tables"]
        for row in table["rows"]
        for cell in row
        if cell.get("best")
    }
    assert bold == best


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="there is no pdflatex here (Debian: texlive-latex-recommended)"
)
def test_latex_compiles(full: Results, tmp_path: Path) -> None:
    for n in range(50):
        full.add(f"m{n}", "own", 0.5)
    text = latex(report(full.read(), baseline=HOSTILE[0]))
    assert r"\begin{longtable}" in text
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    (tmp_path / "x.tex").write_text(r"\errmessage{a model's name was read}")
    lines = [r"\documentclass{article}", PACKAGES, r"\begin{document}", r"\input{tables}", r"\end{document}"]
    (tmp_path / "paper.tex").write_text("\n".join(lines))
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")


@pytest.mark.parametrize("form", ["markdown", "latex", "json"])
def test_forms_of_the_command(results: Results, form: str) -> None:
    results.add_queries("m", "a", [0.5, 0.25])
    ended = CliRunner().invoke(command, ["--results", str(results.store.root), "--format", form])
    assert ended.exit_code == 0, ended.output
    assert "37.50" in ended.stdout


def test_json_option_is_the_json_form(results: Results) -> None:
    results.add_queries("m", "a", [0.5, 0.25])
    root = ["--results", str(results.store.root)]
    assert CliRunner().invoke(command, [*root, "--json"]).stdout == (
        CliRunner().invoke(command, [*root, "--format", "json"]).stdout
    )


def test_every_cell_knows_its_command_key_and_age(results: Results) -> None:
    results.add(
        "m", "a", 0.5, command="harness benchmark -m m", manifest={"run": {"finished": "2026-01-02T03:04:05+00:00"}}
    )
    board = results.read()
    content = json.loads(render(board, "json", Evidence(board)))
    cell = content["tables"][0]["rows"][0][1]
    [source] = [content["sources"][place] for place in cell["sources"]]
    assert source == {
        "command": "harness benchmark -m m",
        "key": "",
        "finished": "2026-01-02T03:04:05+00:00",
        "folder": "m/a",
    }
    [row] = content["rows"]
    assert (row["command"], row["manifest.run.finished"]) == (source["command"], source["finished"])
    assert 'title="m/a, 2026-01-02T03:04:05+00:00, key unknown: harness benchmark -m m"' in html_tables(report(board))
    assert rendered(markdown(report(board)))[0]["Provenance"].rows == [
        ["harness benchmark -m m", "1", "2026-01-02", "-", "-"]
    ]
