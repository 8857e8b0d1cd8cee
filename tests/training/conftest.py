"""One torch thread: these tests use tiny tensors, for which several threads are slower."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
    torch.set_num_threads(1)
