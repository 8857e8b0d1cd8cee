"""The verdict of a soak: on memory that comes and goes, and on memory that is lost."""

from __future__ import annotations

import numpy as np
import pytest

from tests.robustness.soak import Sample, summary


def samples(hourly: float, files: float = 0.0) -> list[Sample]:
    """Two hours, a minute apart: memory that grows by so much an hour, and one time in three holds 70 MB more."""
    chance = np.random.default_rng(0)
    return [
        Sample(
            seconds=60.0 * n,
            **dict.fromkeys(("rounds", "cells", "failed", "interrupted"), n),
            MB=240 + hourly * n / 60 + chance.normal(0, 2) + 70 * (chance.random() < 1 / 3),
            peak_MB=330,
            files=13 + int(files * n / 60),
            threads=1,
            temporary=0,
            locks=0,
        )
        for n in range(120)
    ]


@pytest.mark.parametrize(
    ("hourly", "files", "verdict"), [(0, 0, "flat"), (10, 0, "not flat"), (-10, 0, "flat"), (0, 3, "not flat")]
)
def test_what_is_lost_raises_the_least(hourly: float, files: float, verdict: str) -> None:
    assert summary(samples(hourly, files)).endswith(f"verdict: {verdict}")


def test_a_few_samples_are_no_soak() -> None:
    assert summary(samples(0)[:30]).endswith("verdict: not flat")
