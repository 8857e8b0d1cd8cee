"""Speed of a reranker: from the records of stored scores, else measured with pairs of the sample and cached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

from harness.models.runner import Prepared
from harness.planning import speed
from harness.planning.workload import tokens
from harness.search.rerank import ScoreStore, score_pairs
from harness.types import Progress


@dataclass(frozen=True, slots=True)
class Scoring:
    """How fast a reranker scores pairs of a query and a document."""

    tokens_per_second: float
    """Tokens of both texts together."""
    origin: str
    reliable: bool = True
    """Whether the machine was otherwise idle during the measurement."""


def recorded_scoring(key: str, home: Path) -> Scoring | None:
    """Speed recorded with the stored scores of a reranker; None if there are too few or they have no tokens."""
    parts = [part for part in ScoreStore(home, key).records() if part.tokens and part.seconds]
    count, seconds = sum(part.tokens for part in parts), sum(part.seconds for part in parts)
    return Scoring(count / seconds, "recorded") if count >= speed.RECORDED_TOKENS else None


def scoring(model: Prepared, home: Path, progress: Progress) -> Scoring:
    """Speed of a reranker: recorded, else cached, else measured with the loaded model in about 20 s."""
    if found := recorded_scoring(model.ref.own_key, home):
        return found
    tell = partial(progress, f"measuring {model.label} on a small sample", 0, 0)
    what, names = f"reranking {model.ref.own_key}", ("tokens_per_second",)
    figures, reliable = speed.cached_measurement(home, what, names, lambda: _score(model), tell)
    return Scoring(figures["tokens_per_second"], "measured", reliable)


def _score(model: Prepared) -> dict[str, float]:
    """Tokens as the reranker counts them; estimated from the lengths of the texts where it does not."""
    pairs, seconds, read = _sample_pairs(1), 0.0, 0

    def work() -> None:
        nonlocal read
        read = score_pairs(model, pairs)[1]

    work()  # warm-up
    while seconds < speed.ENOUGH_ENCODING and len(pairs) < speed.MOST_TEXTS:
        pairs = _sample_pairs(2 * len(pairs))
        seconds = speed.timed(work)
    total = float(read) or sum(tokens(len(text)) for pair in pairs for text in pair)
    return {"tokens_per_second": total / speed.median_seconds(work, seconds)}


def _sample_pairs(count: int) -> list[tuple[str, str]]:
    return list(zip(cycle(speed.sample_queries()), speed.sample_texts(count), strict=False))
