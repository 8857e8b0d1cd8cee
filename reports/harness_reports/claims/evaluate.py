"""Checks claims against results: met, not met or not measured, and what would decide them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import Literal

import numpy as np

from harness.datasets import catalog
from harness.metrics.significance import Interval, as_one, smallest_effect
from harness_reports.claims.criteria import ComparisonCriterion, Coverage, Relation
from harness_reports.claims.evidence import ClaimEvidence, Missing, Values, combined, flat, folded, interval
from harness_reports.claims.model import Claim, Claims, Expected, entries, scale

State = Literal["met", "not met", "not measured", "not decidable"]
SLACK = 1e-9
"""Tolerance for rounding errors at a threshold."""
SHOWN = 5
"""How many datasets a sentence names."""
MOST = 1000
"""Times the data there are: beyond that, no number of further queries is worth naming."""


@dataclass(slots=True)
class Verdict:
    """The verdict on a claim or an expected value."""

    stated: Claim | Expected
    state: State
    value: float | None = None
    threshold: float | None = None
    relation: Relation | None = None
    interval: Interval | None = None
    models: dict[str, float] = field(default_factory=dict)
    """The value of each model."""
    need: list[str] = field(default_factory=list)
    """What would decide it."""
    notes: list[str] = field(default_factory=list)
    hedged: bool = False
    """Whether the interval contains the threshold, so that the value may be on this side of it by chance."""

    @property
    def words(self) -> str:
        """The state as text."""
        return f"{self.state}, but not beyond noise" if self.hedged else self.state


def judge(claims: Claims, measured: ClaimEvidence) -> tuple[list[Verdict], list[Verdict]]:
    """Verdicts on the claims and on the expected values, in the file's order."""
    return [_claim(claim, claims, measured) for claim in claims.claims], [
        _expected(each, measured) for each in claims.expected
    ]


def holds(value: float, relation: Relation, threshold: float, tolerance: float = 0.0) -> bool:
    """Whether the relation holds between the numbers as they are."""
    gap = value - threshold
    if relation == "=":
        return abs(gap) <= tolerance + SLACK
    slack = tolerance + SLACK if relation in (">=", "<=") else -SLACK
    return gap >= -slack if relation in (">", ">=") else gap <= slack


def _claim(claim: Claim, claims: Claims, measured: ClaimEvidence) -> Verdict:
    criterion = claim.criterion
    if criterion is None:
        return Verdict(claim, "not decidable", notes=["no stored result decides this; a reader must"])
    if isinstance(criterion, Coverage):
        return _coverage(claim, [name.text for name in criterion.models] or [*claims.models], measured)
    return _comparison(claim, criterion, measured)


def _coverage(claim: Claim, names: Sequence[str], measured: ClaimEvidence) -> Verdict:
    lacking = {name: measured.seeds(name, flat(claim.place), claim.measure)[1] for name in names}
    missing = {label: datasets for lack in lacking.values() for label, datasets in lack.items()}
    verdict = Verdict(claim, "not met" if missing else "met", relation=">=")
    parts = [{*catalog.labels(entry)} for entry in entries(claim.place)]
    verdict.threshold = float(len(names) * len(parts))
    gone = [part for lack in lacking.values() for part in parts if any(part & {*d} for d in lack.values())]
    verdict.value = verdict.threshold - len(gone)
    _lacking(verdict, missing, measured)
    return verdict


def _comparison(claim: Claim, criterion: ComparisonCriterion, measured: ClaimEvidence) -> Verdict:
    verdict = Verdict(claim, "not measured", threshold=criterion.threshold, relation=criterion.relation)
    seeds = _seeds(verdict, [*criterion.factors], claim.place, claim.measure, measured)
    if not seeds:
        return verdict
    verdict.models = {name: measured.mean(own, claim.place, claim.measure) for name, own in seeds.items()}
    verdict.value = sum(factor * verdict.models[name] for name, factor in criterion.factors.items())
    verdict.state = "met" if holds(verdict.value, criterion.relation, criterion.threshold) else "not met"
    factors = [*criterion.factors.values()]
    every = [label for own in seeds.values() for label in own]
    if all(len(own) == 1 for own in seeds.values()) and measured.trained(every):
        verdict.notes.append("one training run each: how much another would differ is not in the interval")
    new_datasets = claim.over == "datasets" and len(entries(claim.place)) > 1
    queries = measured.queries([*seeds.values()], claim.place, claim.measure)
    if queries is None:
        queries = _figures(claim, [*seeds.values()], measured) if new_datasets else None
    if queries is None:
        per_query = scale(claim.measure) > 1
        reason = "scores per query are missing or damaged" if per_query else "it is one figure per dataset and model"
        verdict.notes.append(f"no interval: {reason}")
        return verdict
    _weigh(verdict, interval(factors, queries, new_datasets=new_datasets))
    _dependence(verdict, factors, seeds, claim, measured)
    if verdict.hedged:
        verdict.need += _needed(verdict, combined(factors, queries), new_datasets=new_datasets)
    return verdict


def _expected(stated: Expected, measured: ClaimEvidence) -> Verdict:
    verdict = Verdict(stated, "not measured", threshold=stated.value, relation=stated.relation)
    seeds = _seeds(verdict, [stated.model], stated.place, stated.measure, measured)
    if not seeds:
        return verdict
    verdict.value = measured.mean(seeds[stated.model], stated.place, stated.measure)
    met = holds(verdict.value, stated.relation, stated.value, stated.tolerance)
    verdict.state = "met" if met else "not met"
    queries = measured.queries([seeds[stated.model]], stated.place, stated.measure)
    if queries is not None:
        found = interval([1.0], queries, new_datasets=False)
        verdict.interval = found if found.ends else None
        low, high = stated.value - stated.tolerance, stated.value + stated.tolerance
        spans = found.low <= low <= found.high if stated.relation == ">=" else found.low <= high and found.high >= low
        # a value within the tolerance agrees, whatever its interval
        verdict.hedged = not stated.reproduction and found.ends is not None and spans
        verdict.hedged &= stated.relation == ">=" or not met
    return verdict


def _seeds(
    verdict: Verdict, names: Sequence[str], place: str, measure: str, measured: ClaimEvidence
) -> dict[str, tuple[str, ...]]:
    """Model -> its results that count; empty, and the verdict says why, where they do not suffice."""
    datasets = flat(place)
    found = {name: measured.seeds(name, datasets, measure) for name in names}
    missing = {label: lacking for _, lack in found.values() for label, lacking in lack.items()}
    if missing:
        _lacking(verdict, missing, measured)
        return {}
    seeds = {name: whole for name, (whole, _) in found.items()}
    every = [label for own in seeds.values() for label in own]
    if apart := measured.apart(every, datasets):
        verdict.notes.append(f"the models saw different versions of {', '.join(apart)}, which cannot be compared")
        verdict.need += measured.commands(dict.fromkeys(every, apart), measure)
        return {}
    for name, own in seeds.items():
        left = [label for label in measured.labels(name) if label not in own]
        if len(own) > 1:
            verdict.notes.append(f"{name} is the mean of {len(own)} results: {', '.join(own)}")
        if left:
            verdict.notes.append(f"left out because datasets are missing: {', '.join(left)}")
    if inside := measured.in_domain(every, datasets):
        verdict.notes.append(f"in-domain, trained on: {', '.join(folded(inside))}")
    return seeds


def _lacking(verdict: Verdict, missing: Missing, measured: ClaimEvidence) -> None:
    """Adds what is missing, the commands that measure it, and which datasets need a licence."""
    if not missing:
        return
    stated = verdict.stated
    whole = entries(stated.place)
    together: dict[str, list[str]] = {}
    for label, datasets in missing.items():
        names = folded(datasets)
        what = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        what = f"all of {stated.place}" if len(whole) > 1 and {*datasets} == {*flat(stated.place)} else what
        together.setdefault(what, []).append(label)
        for dataset in datasets:
            cell = measured.board.cells.get((label, dataset))
            if cell and not cell.ok:
                verdict.notes.append(f"{label} failed on {dataset}: {cell.get('reason') or 'no reason was recorded'}")
    verdict.notes += [f"not measured: {', '.join(labels)} on {what}" for what, labels in together.items()]
    verdict.need += measured.commands(missing, stated.measure)
    known = catalog.catalogue().datasets
    every = dict.fromkeys(dataset for datasets in missing.values() for dataset in datasets if dataset in known)
    if gated := [dataset for dataset in every if not known[dataset].sources]:
        verdict.need.append(f"a licence for {', '.join(gated)} (harness fetch {gated[0]} says how to get it)")


def _figures(claim: Claim, seeds: Sequence[Sequence[str]], measured: ClaimEvidence) -> list[list[Values]]:
    """Per model and entry one figure, [1] or [seeds, 1]: datasets are the only sample there is."""
    every: list[list[Values]] = []
    for own in seeds:
        rows = [[measured.mean([seed], entry, claim.measure) for seed in own] for entry in entries(claim.place)]
        every.append([np.array(row)[:, None] if len(row) > 1 else np.array(row) for row in rows])
    return every


def _dependence(
    verdict: Verdict,
    factors: Sequence[float],
    seeds: Mapping[str, tuple[str, ...]],
    claim: Claim,
    measured: ClaimEvidence,
) -> None:
    """Adds what widens the interval: queries that are not independent, and models with two runs."""
    if scale(claim.measure) > 1 and (
        effect := measured.design_effect(factors, [*seeds.values()], claim.place, claim.measure)
    ):
        verdict.notes.append(f"design effect {effect:.2f}: queries that share relevant documents count as clusters")
    if few := [name for name, own in seeds.items() if len(own) == 2]:
        verdict.notes.append(f"{', '.join(few)}: two runs say little about how much runs differ")


def _weigh(verdict: Verdict, found: Interval) -> None:
    if not found.ends:
        verdict.notes.append("no interval: there is but one query")
        return
    verdict.interval = found
    verdict.hedged = found.low <= (verdict.threshold or 0.0) <= found.high and found.low < found.high


def _needed(verdict: Verdict, differences: list[Values], *, new_datasets: bool) -> list[str]:
    """How much more of the same would narrow the interval to the threshold, and the least that these data could show.

    An interval's width goes with one over the square root of the sample.
    """
    threshold, found = verdict.threshold or 0.0, verdict.interval
    if verdict.value is None or found is None:
        return []
    sample = np.array([each.mean() for each in differences]) if new_datasets else as_one(differences)
    unit = "datasets" if new_datasets else "queries"
    margin = abs(verdict.value - threshold)
    reach = verdict.value - found.low if verdict.value >= threshold else found.high - verdict.value
    times = (reach / margin) ** 2 if margin > 0 else float("inf")
    if times <= MOST:
        more = f"about {_count(len(sample) * (times - 1))} more {unit} like these, if the value stays as it is"
    else:
        more = f"the value is so close to it that no number of further {unit} is worth naming"
    said = [f"the interval spans the threshold: {more}"]
    least = smallest_effect(sample)
    if isfinite(least):
        said.append(f"the smallest effect that these {len(sample)} {unit} show with 80% power is {least:.3g}")
    return said


def _count(number: float) -> str:
    """Rounded up to two digits: it is an estimate."""
    whole = max(1, ceil(number))
    step = 10 ** max(0, len(str(whole)) - 2)
    return f"{-(-whole // step) * step:,}"
