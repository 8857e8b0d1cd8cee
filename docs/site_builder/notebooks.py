"""Notebooks: run (``python -m site_builder.notebooks`` stores the outputs), and shown as pages.

The code cells of a notebook run one after another in this process, without a kernel. What is kept of each cell is what
it prints to stdout and the value of its last expression as Jupyter would show it.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def notebook_page(text: str, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its images by file name."""
    parts, images = [], {}
    for number, cell in enumerate(json.loads(text)["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            title, _, rest = source.partition("\n")
            parts += [title, f"[Download the notebook]({name})", rest] if number == 0 else [source]
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                image = f"{Path(name).stem}-{number}.png"
                images[image] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({image})")
            elif "text/html" in data:
                parts.append(f'<div class="output" markdown="0">\n{"".join(data["text/html"]).strip()}\n</div>')
            elif "text/markdown" in data:
                quoted = "".join(data["text/markdown"]).replace("\n#", "\n###").replace("\n", "\n> ")
                parts.append(f"> ###{quoted}" if quoted.startswith("#") else f"> {quoted}")
            else:
                shown = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", images


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Runs the code cells in the current folder; the outputs of each, in nbformat's form."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_run("".join(cell["source"]), names) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _run(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    body = ast.parse(code).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) and not code.rstrip().endswith(";") else None
    printed = io.StringIO()
    value = None
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": _shown(value)})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"text/plain": _lines(repr(value))}
    for kind, method in (("text/html", "_repr_html_"), ("text/markdown", "_repr_markdown_")):
        if (made := getattr(value, method, None)) and (text := made()):
            data[kind] = _lines(text)
    if figure := getattr(value, "figure", None):
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=80, metadata={"Software": None})
        data = {"text/plain": ["<Axes>"], "image/png": base64.b64encode(image.getvalue()).decode()}
    return data


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@contextmanager
def _empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["HARNESS_HOME"] = f"{folder}/home"
        try:
            yield
        finally:
            os.chdir(before)


def main() -> None:
    """Runs every notebook in an empty folder and stores its outputs in it."""
    os.environ["MPLBACKEND"] = "Agg"
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        with _empty_folder():
            outputs = iter(run(notebook))
        for count, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
            cell["outputs"], cell["execution_count"] = next(outputs), count
        file.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{file.name}: {count} cells", file=sys.stderr)


if __name__ == "__main__":
    main()
