"""Pages that report measurements state only numbers that are in the JSON and TOML files beside them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.compression import FACTOR, K, LadderRow
from harness.evaluation.compression_plot import drawing
from harness.search.compressed import bytes_per_vector
from harness_reports.analysis.compression_loss import FIGURES
from tests.conftest import ROOT

STUDIES = ROOT / "docs" / "studies"
NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(\d[\d,]*\.\d+)(?![\w.]*\.\d)")
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)
COMPRESSION = ROOT / "docs" / "compression.md"
SECTION = "## A worked comparison"


def text_of(page: Path, title: str = "") -> str:
    """A page, or one of its sections, without code and the targets of links."""
    text = page.read_text()
    if title:
        text = text[text.index(title) :].partition("\n## ")[0]
    return CODE.sub(" ", text)


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON or TOML document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def shown(value: float) -> Iterator[str]:
    """A number as pages show it: with one to four decimals, as it is or x 100, without a sign."""
    for factor in (1, 100):
        for digits in range(1, 5):
            yield f"{abs(value) * factor:,.{digits}f}"


def known(study: str) -> set[str]:
    """All numbers of the study's files, as pages may show them."""
    files = [json.loads(file.read_text()) for file in sorted((STUDIES / study).glob("*.json"))]
    files.append(tomllib.loads((STUDIES / f"{study}.toml").read_text()))
    return {text for file in files for value in numbers(file) for text in shown(value)}


@pytest.mark.parametrize(
    ("study", "page", "title"),
    [
        ("mpnet", STUDIES / "mpnet" / "README.md", ""),
        ("mpnet", ROOT / "docs" / "statistics.md", SECTION),
        ("mpnet-full", STUDIES / "mpnet-full" / "README.md", ""),
    ],
)
def test_every_number_is_in_the_files(study: str, page: Path, title: str) -> None:
    found = NUMBER.findall(text_of(page, title))
    assert len(found) > 40
    files = known(study)
    assert sorted(number for number in found if number not in files) == []


def table(text: str, first: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has that title."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    cells = [[cell.strip(" *") for cell in line.strip().strip("|").split("|")] for line in lines[start:]]
    rows = cells[2 : next((at for at, row in enumerate(cells) if row == [""]), None)]
    return [dict(zip(cells[0], row, strict=True)) for row in rows]


@pytest.mark.parametrize("study", ["mpnet", "mpnet-full"])
def test_the_table_of_scores_is_that_of_the_results(study: str) -> None:
    """Every cell by its row and column, not only somewhere in the files."""
    scores = json.loads((STUDIES / study / "scores.json").read_text())
    rows = table(text_of(STUDIES / study / "README.md"), "model")
    assert len(rows) == len(scores)
    for row in rows:
        found = scores[row.pop("model")]
        for dataset, value in found["nDCG@10"].items():
            assert row.pop(dataset) == f"{100 * value:.2f}"
        mean = sum(found["nDCG@10"].values()) / len(found["nDCG@10"])
        assert row.pop("mean") == f"{100 * mean:.2f}"
        assert row.pop("isotropy") == ("-" if found["isotropy"] is None else f"{found['isotropy']:.2f}")
        assert not row


def test_the_table_of_the_datasets_that_were_added_later_is_that_of_their_file() -> None:
    folder = STUDIES / "mpnet-full"
    first, later = (json.loads((folder / f"{name}.json").read_text()) for name in ("scores", "later-scores"))
    rows = table(text_of(folder / "README.md"), "evaluated later")
    assert len(rows) == len(later)
    for row in rows:
        name = row.pop("evaluated later")
        added = {dataset: later[name][dataset] for dataset in ("vaswani", "medquad")}
        every = [*first[name]["nDCG@10"].values(), *added.values()]
        found = {**added, "mean of six": sum(every) / len(every)}
        assert row == {column: f"{100 * value:.2f}" for column, value in found.items()}


def test_the_table_of_the_seeds_that_were_added_is_that_of_their_file() -> None:
    folder = STUDIES / "mpnet-full"
    scores = json.loads((folder / "again-scores.json").read_text())["scores"]
    rows = table(text_of(folder / "README.md"), "on MedQuAD")
    assert [row["on MedQuAD"] for row in rows] == ["no-term", "sigreg"]
    for row in rows:
        name = row.pop("on MedQuAD")
        found = {seed: scores[f"isotropy:experiment={name},run=seed{seed}"]["nDCG@10"] for seed in (45, 46, 47)}
        assert row == {f"seed {seed}": f"{100 * value:.2f}" for seed, value in found.items()}


def short(label: str) -> str:
    """A model's name in the tables of a study's page."""
    found = re.sub(r" \(mean of .*\)|:max_seq_length=\d+$", "", label)
    return "PCA to 512" if found.startswith("pca(") else "step 0" if found.endswith("step=0") else found


def stated(difference: float, *intervals: Sequence[float]) -> tuple[str, ...]:
    """A difference and its intervals, in points."""
    return f"{100 * difference:+.2f}", *(f"{100 * low:+.2f} to {100 * high:+.2f}" for low, high in intervals)


@pytest.mark.parametrize("study", ["mpnet", "mpnet-full"])
def test_the_tables_of_differences_are_those_of_the_comparisons(study: str) -> None:
    """Every row by its models: over the datasets, and on each where the page states that."""
    files = [json.loads(file.read_text()) for file in (STUDIES / study).glob("*.json")]
    compared = [one for one in files if "contrasts" in one]
    over = {
        (short(one["model"]), short(one["against"]), *stated(one["difference"], one["here"], one["elsewhere"]))
        for file in compared
        for one in file["overall"]
        if one["elsewhere"]  # not with a single dataset
    }
    alone = {
        (one["dataset"], short(one["model"]), short(one["against"]), *stated(one["difference"], one["interval"]))
        for file in compared
        for one in file["contrasts"]
    }
    lines = text_of(STUDIES / study / "README.md").splitlines()
    rows = [tuple(line.strip("| ").split(" | ")) for line in lines if re.match(r"\|.*\d to [+-]", line)]
    assert len(rows) > 8
    assert [row for row in rows if row not in over and row[:5] not in alone] == []


def ladders() -> dict[tuple[str, str], list[LadderRow]]:
    """Model and dataset -> the rows of docs/compression.json."""
    found: dict[tuple[str, str], list[LadderRow]] = {}
    for model, dataset, dim, precision, how, score, change, *ends in measured()["rows"]:
        row = LadderRow(dim, precision, how, bytes_per_vector(dim, precision), score, change, (ends[0], ends[1]), 0.0)
        found.setdefault((model, dataset), []).append(row)
    return found


def measured() -> Any:
    return json.loads(COMPRESSION.with_suffix(".json").read_text())


def test_every_number_of_the_page_on_compression_is_in_its_file() -> None:
    known = {text for value in numbers(measured()) for text in shown(value)}
    found = NUMBER.findall(text_of(COMPRESSION))
    assert len(found) > 200
    assert sorted(number for number in found if number not in known) == []


@pytest.mark.parametrize(("model", "dim"), [("minilm", 384), ("mpnet", 768)])
def test_the_tables_on_compression_are_the_rows_of_the_file(model: str, dim: int) -> None:
    found = {
        (dataset, row.dim, row.precision, bool(row.rescoring)): row
        for (name, dataset), rows in ladders().items()
        for row in rows
        if name == model
    }
    lines = table(text_of(COMPRESSION), f"{model}: vectors")
    assert len(lines) == 15
    assert {row.dim for row in found.values()} == {dim, dim // 2, dim // 4, dim // 8}
    for line in lines:
        vectors, stated = line.pop(f"{model}: vectors"), line.pop("bytes")
        size, precision = vectors.removesuffix(", rescored").split()
        for dataset, cell in line.items():
            row = found[dataset, int(size), precision, "rescored" in vectors]
            assert stated == f"{row.bytes:,}"
            assert row.interval is not None
            change = [100 * value for value in (row.difference, *row.interval)]
            compared = f"; {change[0]:+.1f} [{change[1]:+.1f}, {change[2]:+.1f}]" if any(change) else ""
            assert cell == f"{100 * row.score:.2f}{compared}"


def test_the_correlations_with_the_loss_are_those_of_the_file() -> None:
    lines, losses = table(text_of(COMPRESSION), "lost by"), measured()["losses"]
    assert len(lines) == len(losses)
    for line, one in zip(lines, losses, strict=True):
        assert (line["lost by"], line["figure"]) == (one["by"], FIGURES[one["figure"]])
        assert line["rank correlation"] == f"{one['rho']:+.2f}"
        assert line["95% interval"] == f"{one['low']:+.2f} to {one['high']:+.2f}"
        assert line["p (Holm)"] == f"{one['holm']:.3f}"


def test_the_plot_on_compression_is_drawn_from_the_file() -> None:
    drawn = drawing([(model, dataset, rows) for (model, dataset), rows in ladders().items()])
    assert (ROOT / "docs" / "images" / "compression.svg").read_text() == drawn
    assert f"orders the {FACTOR * K} best documents again" in COMPRESSION.read_text()
