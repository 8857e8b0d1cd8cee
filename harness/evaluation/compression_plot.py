"""Bytes of a vector against nDCG@10 as an SVG: a panel for each dataset and model, a line for each precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, floor, log2

from harness.evaluation.compression import MEASURE, PRECISIONS, LadderRow

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 300, 230, 52, 48, 12, 38
"""Of a panel, and its margins, in pixels."""
LEGEND = 30
COLOURS = dict(zip(PRECISIONS, ("#222222", "#0072b2", "#009e73", "#d55e00"), strict=True))
Found = Sequence[tuple[str, str, Sequence[LadderRow]]]


def drawing(found: Found) -> str:
    """The plot of models, datasets and rows; the same text for the same rows."""
    models = list(dict.fromkeys(model for model, _, _ in found))
    datasets = list(dict.fromkeys(dataset for _, dataset, _ in found))
    width, height = WIDTH * len(datasets), LEGEND + HEIGHT * len(models)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img">',
        f"<title>{MEASURE} by bytes of a vector</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(found),
    ]
    for model, dataset, rows in found:
        x, y = WIDTH * datasets.index(dataset), LEGEND + HEIGHT * models.index(model)
        parts += [f'<g transform="translate({x},{y})">', *_panel(model, dataset, rows), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(found: Found) -> Iterator[str]:
    x = LEFT
    for precision, colour in COLOURS.items():
        yield f'<circle cx="{x}" cy="15" r="4" fill="{colour}"/><text x="{x + 9}" y="19">{precision}</text>'
        x += 70
    how = sorted({row.rescoring for _, _, rows in found for row in rows if row.rescoring})
    if how:
        yield f'<circle cx="{x}" cy="15" r="4" fill="white" stroke="#222222" stroke-width="1.5"/>'
        yield f'<text x="{x + 9}" y="19">rescored ({", ".join(how)})</text>'


def _panel(model: str, dataset: str, rows: Sequence[LadderRow]) -> Iterator[str]:
    low, high = min(row.score for row in rows), max(row.score for row in rows)
    step = next(size for size in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if (high - low) / size <= 5)
    bottom, top = step * floor(low / step + 1e-9), step * ceil(high / step - 1e-9)
    top = top if top > bottom else bottom + step
    first, last = (log2(pick(row.bytes for row in rows)) for pick in (min, max))

    def at(row: LadderRow) -> tuple[float, float]:
        across = (log2(row.bytes) - first) / ((last - first) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), _height(row.score, bottom, top)

    yield f'<text x="{LEFT}" y="{TOP - 28}" font-weight="bold">{escape(dataset)}</text>'
    yield f'<text x="{LEFT}" y="{TOP - 13}">{escape(model)}: {MEASURE}</text>'
    for number in range(round((top - bottom) / step) + 1):
        value = bottom + number * step
        y = _height(value, bottom, top)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>'
    for power in range(ceil(first), floor(last) + 1, 2):
        x = LEFT + (power - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{2**power:,}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">bytes of a vector</text>'
    for precision, colour in COLOURS.items():
        for rescored in (False, True):
            own = [row for row in rows if row.precision == precision and bool(row.rescoring) == rescored]
            yield from _line(sorted(map(at, own)), colour, hollow=rescored)


def _line(points: Sequence[tuple[float, float]], colour: str, *, hollow: bool) -> Iterator[str]:
    if len(points) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="4 3"' if hollow else ""
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-opacity="0.6"{dashes}/>'
    fill = "white" if hollow else colour
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'


def _height(value: float, bottom: float, top: float) -> float:
    return HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
