"""A comparison as Markdown and as JSON; both hold the same values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from harness.metrics.significance import ALPHA, Interval
from harness_reports.compare import unjudged
from harness_reports.compare.compare import Comparison, Found, Move
from harness_reports.data.paired import POWER
from harness_reports.render.markdown import escape

WIDTH = 70
"""Characters of a document that are shown."""


def content(comparison: Comparison) -> dict[str, Any]:
    """Everything in full precision; intervals are [low, high], and None stands for what is not known."""
    contrasts, clean = (
        [asdict(each) | {"interval": each.interval.ends, "real": each.real} for each in found]
        for found in (comparison.contrasts, comparison.clean)
    )
    overall = [
        each._asdict()
        | {"here": each.here.ends, "elsewhere": each.elsewhere.ends if each.elsewhere else None, "real": each.real}
        for each in comparison.overall
    ]
    moves = [
        move._asdict()
        | {side: [found._asdict() for found in getattr(move, side)] for side in ("first", "first_against")}
        for move in comparison.moves
    ]
    named = {name: getattr(comparison, name) for name in ("models", "datasets", "measure", "warnings", "notes")}
    whole = named | {"alpha": ALPHA, "power": POWER, "contrasts": contrasts, "overall": overall, "moves": moves}
    whole |= {"unjudged": [each.content() for each in comparison.unjudged.pairs], "clean": clean}
    whole["variance"] = [asdict(each) for each in comparison.variance]
    finite: dict[str, Any] = _finite(whole)
    return finite


def markdown(comparison: Comparison) -> str:
    """The whole comparison, in GitHub's Markdown."""
    real, number = sum(each.real for each in comparison.contrasts), len(comparison.contrasts)
    title = f"# {escape(comparison.measure)} of {', '.join(map(escape, comparison.models[1:]))} against "
    verdict = (
        f"{real} of {number} differences {'is' if real == 1 else 'are'} shown to be real: by {_test(comparison)} at "
        f"{ALPHA:.0%}, with Holm's correction over all {number}."
        if number > 1
        else f"The difference is {'' if real else 'not '}shown to be real by {_test(comparison)} at {ALPHA:.0%}."
    )
    sections = [
        title + escape(comparison.models[0]),
        *(f"> **Warning:** {escape(warning)}." for warning in comparison.warnings),
        verdict,
        *_contrasts(comparison),
        *_clean(comparison),
        *_overall(comparison),
        *_variance(comparison),
        *unjudged.markdown(comparison.unjudged),
        *_moves(comparison),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(comparison)),
    ]
    return "\n\n".join(sections) + "\n"


def _test(comparison: Comparison) -> str:
    several = any(max(each.runs) > 1 for each in comparison.contrasts)
    return "the t-test over queries and runs" if several else "the randomisation test"


def _contrasts(comparison: Comparison) -> Iterator[str]:
    head = ["dataset", "model", "against", "queries", "mean of against", "mean", "difference", "95% interval", "d_z"]
    head += ["wins/ties/losses", "p", "p (Holm)", "p of t", "p of t (Holm)", "smallest effect"]
    clustered = any(each.design_effect != 1 for each in comparison.contrasts)
    head[8:8] = ["design effect"] if clustered else []
    rows = []
    for each in comparison.contrasts:
        difference = f"{100 * each.difference:+.2f}"
        rows.append(
            [
                *map(escape, (each.dataset, each.model, each.against)),
                f"{each.queries} (of {each.queries + each.left_out})" if each.left_out else str(each.queries),
                f"{100 * each.mean_against:.2f}",
                f"{100 * each.mean:.2f}",
                f"**{difference}**" if each.real else difference,
                _interval(each.interval),
                *([f"{each.design_effect:.2f}"] if clustered else []),
                "-" if each.effect_size is None else f"{each.effect_size:+.2f}",
                f"{each.wins}/{each.ties}/{each.losses}",
                *map(_chance, (each.p_randomisation, each.holm_randomisation, each.p_t, each.holm_t)),
                _effect(each.smallest_effect),
            ]
        )
    yield "## Dataset by dataset"
    yield _table(head, rows)


def _clean(comparison: Comparison) -> Iterator[str]:
    if comparison.clean:
        yield "## Clean queries"
        yield (
            "Without the queries that the training set of one of the models has, or of which it has a relevant "
            "document (`harness overlap`). Corrected for the rows of this table alone."
        )
        yield [*_contrasts(replace(comparison, contrasts=comparison.clean))][-1]


def _overall(comparison: Comparison) -> Iterator[str]:
    rows = [
        [
            escape(each.model),
            escape(each.against),
            str(len(each.datasets)),
            f"**{100 * each.difference:+.2f}**" if each.real else f"{100 * each.difference:+.2f}",
            _interval(each.here),
            _interval(each.elsewhere),
        ]
        for each in comparison.overall
    ]
    if all(len(each.datasets) < 2 for each in comparison.overall):
        return
    head = ["model", "against", "datasets", "difference", "95% on these datasets", "95% on datasets like these"]
    yield "## Over the datasets both have"
    yield _table(head, rows)
    if not any(each.real for each in comparison.overall):
        yield "On datasets like these nothing can be told apart: every such interval spans 0."


def _variance(comparison: Comparison) -> Iterator[str]:
    if not comparison.variance:
        return
    sources = [name for name in comparison.variance[0].shares if any(each.shares[name] for each in comparison.variance)]
    rows = [
        [
            escape(each.model),
            escape(each.against),
            str(each.datasets),
            f"{100 * each.error:.2f}",
            *(f"{each.shares[name]:.0%}" for name in sources),
            _effect(each.smallest_effect),
            each.remedy,
            _effect(each.smallest_then),
        ]
        for each in comparison.variance
    ]
    head = ["model", "against", "datasets", "standard error", *sources, "smallest effect", "what reduces it most"]
    yield "## Where the uncertainty comes from"
    yield _table([*head, "smallest effect then"], rows)


def _effect(value: float) -> str:
    return f"{100 * value:.2f}" if value > 0 and isfinite(value) else "-"


def _moves(comparison: Comparison) -> Iterator[str]:
    if comparison.moves:
        yield "## Queries that moved most"
    before: tuple[str, ...] = ()
    for move in comparison.moves:
        if before != (before := (move.dataset, move.model, move.against)):
            yield f"### {escape(move.dataset)}: {escape(move.model)} against {escape(move.against)}"
        yield (
            f"{100 * (move.value - move.value_against):+.2f} (from {100 * move.value_against:.2f} to "
            f"{100 * move.value:.2f}), query {escape(move.query_id)}: {escape(move.text) or 'its text is not kept'}"
        )
        if move.first or move.first_against:
            yield _documents(move)


def _documents(move: Move) -> str:
    places = range(max(len(move.first), len(move.first_against)))
    sides = [[_found(side, place) for place in places] for side in (move.first_against, move.first)]
    rows = [[str(place + 1), *pair] for place, *pair in zip(places, *sides, strict=True)]
    return _table(["place", escape(move.against), escape(move.model)], rows, left=2)


def _found(side: Sequence[Found], place: int) -> str:
    if place >= len(side):
        return "-"
    found = side[place]
    text = found.text if len(found.text) <= WIDTH else found.text[: WIDTH - 3].rstrip() + "..."
    return escape(found.id) + (f": {escape(text)}" if text else "")


def _notes(comparison: Comparison) -> Iterator[str]:
    yield "All values x 100. A difference is that of model minus against, on the queries that all models named have."
    runs, clustered = (
        any(max(each.runs) > 1 for each in comparison.contrasts),
        any(each.design_effect != 1 for each in comparison.contrasts),
    )
    units = "clusters" if clustered else "queries"
    yield f"In bold what is shown to be real: p (Holm) of {_test(comparison)} below 0.05; all rows are one family."
    yield (
        f"p: two-sided paired randomisation test (random signs of the {'clusters' if clustered else 'differences'}). "
        "p of t: paired t-test."
    )
    yield f"95% interval: of the mean difference, by bootstrap of the {units}, each for itself (no correction)."
    if runs:
        yield (
            "Rows over seeds: both p and the interval are those of t over queries and training runs (Banerjee's "
            "interval), so they say what other runs would show."
        )
    if clustered:
        yield (
            "Design effect: the variance of the difference over that of as many independent queries. Queries that "
            "share relevant documents are drawn and flipped together, as clusters."
        )
    if comparison.variance:
        yield (
            "Where the uncertainty comes from: shares of the variance of the difference, over datasets like these if "
            "there are several. Queries: as if they were independent; clusters: what sharing documents adds; runs: how "
            "training runs differ. The last column is the smallest effect if only that is added."
        )
    yield from (f"{escape(note)}." for note in comparison.notes)
    yield r"d\_z: mean difference over the standard deviation of the differences (0.2 is small, 0.8 large)."
    yield (
        f"Smallest effect: the difference that these queries would have shown as real with a chance of {POWER:.0%}; "
        f"where nothing is found, smaller ones may well be there."
    )
    if any(len(each.datasets) > 1 for each in comparison.overall):
        yield (
            f"Over the datasets: the unweighted mean of the differences, a group such as cqadupstack once. On these "
            f"datasets: only the {units} are a sample. On datasets like these: the datasets are, and the intervals of "
            f"all pairs hold simultaneously (t, Bonferroni); in bold what excludes 0."
        )
    if any(move.first or move.first_against for move in comparison.moves) and not any(
        found.text for move in comparison.moves for found in (*move.first, *move.first_against)
    ):
        yield (
            "The documents' titles are not shown, since this machine has not read their corpora: "
            "`harness doctor DATASET` reads one."
        )
    yield from unjudged.notes(comparison.unjudged)


def _table(headers: list[str], rows: list[list[str]], left: int = 3) -> str:
    from tabulate import tabulate

    sides = ["left" if place < left or len(headers) == 3 else "right" for place in range(len(headers))]
    return tabulate(rows, headers, tablefmt="pipe", colalign=sides, disable_numparse=True)


def _interval(interval: Interval | None) -> str:
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}" if interval and interval.ends else "-"


def _chance(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value
