"""The notebooks run from top to bottom, and show what they give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from site_builder.notebooks import NOTEBOOKS, run

pytest.importorskip("bm25s", reason="the notebooks need the bm25 extra")
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def text(output: dict[str, object]) -> str:
    """What is shown, without the time at which a result was stored; of a plot nothing, as it depends on fonts."""
    data = output.get("data", {})
    assert isinstance(data, dict)
    shown = data.get("text/html") or data.get("text/plain") or output.get("text") or ""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "TIME", "".join(shown))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_gives_the_outputs_that_it_shows(file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "matplotlib" in file.read_text():
        pytest.importorskip("matplotlib", reason="the plots of notebooks need the plot extra")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    notebook = json.loads(file.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 4
    for cell, outputs in zip(cells, run(notebook), strict=True):
        assert [text(output) for output in outputs] == [text(output) for output in cell["outputs"]], cell["source"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_valid(file: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the validity of notebooks is checked where the extra docs is")
    nbformat.validate(nbformat.read(file, as_version=4), relax_add_props=False)
    assert file.read_text().endswith("}\n")


def test_an_error_in_a_cell_is_raised() -> None:
    cells = [{"cell_type": "code", "source": "x = 1"}, {"cell_type": "code", "source": "x / 0"}]
    with pytest.raises(ZeroDivisionError):
        run({"cells": cells})


def test_outputs_are_those_of_jupyter() -> None:
    code = "class Both:\n    def __repr__(self): return 'plain'\n    def _repr_html_(self): return '<b>html</b>'\n"
    sources = ["print('a')\n1 + 1", "None", "2;", code + "Both()"]
    outputs = run({"cells": [{"cell_type": "code", "source": source} for source in sources]})
    assert outputs[0] == [
        {"output_type": "stream", "name": "stdout", "text": ["a\n"]},
        {"output_type": "display_data", "metadata": {}, "data": {"text/plain": ["2"]}},
    ]
    assert outputs[1:3] == [[], []]
    assert outputs[3][0]["data"] == {"text/plain": ["plain"], "text/html": ["<b>html</b>"]}
