"""Where the uncertainty of a difference comes from, and what would reduce it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.metrics.clusters import Codes
from harness.metrics.significance import ALPHA, as_one
from harness.metrics.variance import Part, Spread, Values, over_runs, spread
from harness_reports.data.paired import POWER, Place, places, squared_error

RUNS, DATASETS = 3, 2
"""More of them that a remedy considers."""


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """The parts of the variance of one model's average minus another's, on datasets like these."""

    model: str
    against: str
    datasets: int
    error: float
    """Standard error: the root of the sum of the parts."""
    shares: Mapping[str, float]
    """``queries`` (as if independent), ``clusters`` (what sharing documents adds), ``datasets`` and ``runs`` -> their
    share of the variance."""
    smallest_effect: float
    """Difference that is shown with a chance of `POWER`, at the level that all pairs together ask for; inf if none."""
    remedy: str
    """What would reduce it most."""
    smallest_then: float
    """The smallest effect with the remedy, if nothing else changes."""


def components(
    scores: Mapping[str, Mapping[str, Values]],
    models: Sequence[str],
    codes: Mapping[str, Codes | None] | None = None,
) -> list[VarianceComponents]:
    """Of every pair of models over the datasets both have; arguments as for `harness_reports.data.paired.family`."""
    pairs = [(model, against) for against, model in combinations(models, 2)]
    found = {pair: [*held.values()] for pair in pairs if (held := places(scores, *pair, codes))}
    return [_components(*pair, held, ALPHA / len(found)) for pair, held in found.items()]


def _components(model: str, against: str, held: Sequence[Place], alpha: float) -> VarianceComponents:
    first, second = zip(*(place.by_cluster() for place in held), strict=True)
    whole = spread([first, [-values for values in second]], new_datasets=True)
    queries = sum(squared_error(over_runs(a) - over_runs(b)) for a, b in zip(first, second, strict=True))
    queries /= len(held) ** 2
    independent = sum(squared_error(as_one(_differences(place))) for place in held) / len(held) ** 2
    between = sum(part.variance for part in whole.parts if part.source == "datasets")
    runs = sum(max(0.0, part.variance - noise) for part, noise in _runs(whole, first, second))
    variances = {
        "queries": min(independent, queries),
        "clusters": max(0.0, queries - independent),
        "datasets": max(0.0, between - queries),
        "runs": runs,
    }
    total = sum(variances.values())
    now = whole.smallest_effect(power=POWER, alpha=alpha)
    effects = {
        remedy: then.smallest_effect(power=POWER, alpha=alpha) for remedy, then in _remedies(whole, queries).items()
    }
    best = min(effects, key=effects.__getitem__)
    shares = {name: variance / total if total else 0.0 for name, variance in variances.items()}
    return VarianceComponents(model, against, len(held), total**0.5, shares, now, best, effects[best])


def _differences(place: Place) -> list[Values]:
    return [over_runs(a) - over_runs(b) for a, b in zip(place.first, place.second, strict=True)]


def _runs(whole: Spread, first: Sequence[Values], second: Sequence[Values]) -> list[tuple[Part, float]]:
    """The parts of runs, each with what the noise of single runs on queries adds to it: that is no spread of runs."""
    noises = []
    for side in (first, second):
        count = max(len(values) if values.ndim > 1 else 1 for values in side)
        if count > 1:
            apart = [values - values.mean(axis=0) for values in side if values.ndim > 1]
            each = sum(float((own.var(axis=1, ddof=1) / own.shape[1]).mean()) for own in apart)
            noises.append(each / len(side) ** 2 / (count - 1))
    return [*zip([part for part in whole.parts if part.source == "runs"], noises, strict=True)]


def _remedies(whole: Spread, queries: float) -> dict[str, Spread]:
    """What could be added -> the spread then."""
    found = {"twice as many queries": Spread(whole.mean, tuple(_with_queries(part, queries) for part in whole.parts))}
    for source, more in (("datasets", DATASETS), ("runs", RUNS)):
        if any(part.source == source for part in whole.parts):
            parts = [_with_more(part, more) if part.source == source else part for part in whole.parts]
            unit = f"{more} more {'seeds' if source == 'runs' else source}"
            found[unit + (" of each model that has several" if source == "runs" else "")] = Spread(
                whole.mean, tuple(parts)
            )
    return found


def _with_queries(part: Part, queries: float) -> Part:
    """With half the variance of the queries, which is contained in that of the datasets."""
    if part.source == "queries":
        return Part(part.source, part.variance / 2, 2 * part.freedom)
    reduced = max(part.variance / 2, part.variance - queries / 2) if part.source == "datasets" else part.variance
    return Part(part.source, reduced, part.freedom)


def _with_more(part: Part, more: int) -> Part:
    count = part.freedom + 1
    return Part(part.source, part.variance * count / (count + more), part.freedom + more)
