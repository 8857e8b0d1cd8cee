"""The other measurements of ``python -m benchmarks`` can be run."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.__main__ import OTHERS


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_has_its_main(name: str) -> None:
    if name == "profile":
        pytest.importorskip("torch", reason="it profiles torch")
    assert callable(importlib.import_module(f"benchmarks.studies.{name}").main)
