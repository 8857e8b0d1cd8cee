"""A comparison as Markdown and as JSON; both hold the same values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import inf, isfinite
from typing import Any

from harness.metrics.significance import Interval
from harness_reports.compare.compare import Comparison, Found, Move
from harness_reports.data.paired import ALPHA, POWER
from harness_reports.render.markdown import escape

FEW = 6
"""Datasets below which an interval over them cannot reach 95%."""
WIDTH = 70
"""Characters of a document that are shown."""


def content(comparison: Comparison) -> dict[str, Any]:
    """Everything in full precision; intervals are [low, high], and None stands for what is not known."""
    contrasts = [asdict(each) | {"interval": each.interval.ends, "real": each.real} for each in comparison.contrasts]
    overall = [
        each._asdict() | {"here": each.here.ends, "elsewhere": each.elsewhere.ends if each.elsewhere else None}
        for each in comparison.overall
    ]
    moves = [
        move._asdict()
        | {side: [found._asdict() for found in getattr(move, side)] for side in ("first", "first_against")}
        for move in comparison.moves
    ]
    named = {name: getattr(comparison, name) for name in ("models", "datasets", "measure", "warnings")}
    whole = named | {"alpha": ALPHA, "power": POWER, "contrasts": contrasts, "overall": overall, "moves": moves}
    finite: dict[str, Any] = _finite(whole)
    return finite


def markdown(comparison: Comparison) -> str:
    """The whole comparison, in GitHub's Markdown."""
    real, number = sum(each.real for each in comparison.contrasts), len(comparison.contrasts)
    title = f"# {escape(comparison.measure)} of {', '.join(map(escape, comparison.models[1:]))} against "
    verdict = (
        f"{real} of {number} differences {'is' if real == 1 else 'are'} shown to be real: by the randomisation test at "
        f"{ALPHA:.0%}, with Holm's correction over all {number}."
        if number > 1
        else f"The difference is {'' if real else 'not '}shown to be real by the randomisation test at {ALPHA:.0%}."
    )
    sections = [
        title + escape(comparison.models[0]),
        *(f"> **Warning:** {escape(warning)}." for warning in comparison.warnings),
        verdict,
        *_contrasts(comparison),
        *_overall(comparison),
        *_moves(comparison),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(comparison)),
    ]
    return "\n\n".join(sections) + "\n"


def _contrasts(comparison: Comparison) -> Iterator[str]:
    head = ["dataset", "model", "against", "queries", "mean of against", "mean", "difference", "95% interval", "d_z"]
    head += ["wins/ties/losses", "p", "p (Holm)", "p of t", "p of t (Holm)", "smallest effect"]
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
                "-" if each.effect_size is None else f"{each.effect_size:+.2f}",
                f"{each.wins}/{each.ties}/{each.losses}",
                *map(_chance, (each.p_randomisation, each.holm_randomisation, each.p_t, each.holm_t)),
                f"{100 * each.smallest_effect:.2f}" if 0 < each.smallest_effect < inf else "-",
            ]
        )
    yield "## Dataset by dataset"
    yield _table(head, rows)


def _overall(comparison: Comparison) -> Iterator[str]:
    rows = [
        [
            escape(each.model),
            escape(each.against),
            str(len(each.datasets)),
            f"{100 * each.difference:+.2f}",
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
    yield "In bold what is shown to be real: p (Holm) of the randomisation test below 0.05; all rows are one family."
    yield "p: two-sided paired randomisation test (random signs of the differences). p of t: paired t-test."
    yield "95% interval: of the mean difference, by bootstrap of the queries, each for itself (no correction)."
    yield r"d\_z: mean difference over the standard deviation of the differences (0.2 is small, 0.8 large)."
    yield (
        f"Smallest effect: the difference that these queries would have shown as real with a chance of {POWER:.0%}; "
        f"where nothing is found, smaller ones may well be there."
    )
    if any(len(each.datasets) > 1 for each in comparison.overall):
        yield (
            "Over the datasets: the unweighted mean of the differences, a group such as cqadupstack once. On these "
            "datasets: only the queries are drawn anew. On datasets like these: the datasets too."
        )
    if any(1 < len(each.datasets) < FEW for each in comparison.overall):
        yield f"Fewer than {FEW} datasets say little about others: that interval then covers less often than 95%."
    if any(move.first or move.first_against for move in comparison.moves) and not any(
        found.text for move in comparison.moves for found in (*move.first, *move.first_against)
    ):
        yield (
            "The documents' titles are not shown, since this machine has not read their corpora: "
            "`harness doctor DATASET` reads one."
        )


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
