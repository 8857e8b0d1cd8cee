"""Fixtures of the reports' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets.catalog import catalogue
from tests.reports.factory import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


@pytest.fixture
def trio(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A suite of three, whose order is not the alphabet's, and no other but demo."""
    suites = catalogue().suites
    for name in [*suites]:
        if name != "demo":
            monkeypatch.delitem(suites, name)
    monkeypatch.setitem(suites, "trio", ("scifact", "arguana", "fiqa"))
    return suites["trio"]
