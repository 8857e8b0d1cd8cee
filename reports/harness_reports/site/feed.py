"""The changes of a results folder as an Atom feed (RFC 4287): one entry for each model and day, the newest first.

Dates are those of the results. Links are relative, as the site does not know where it will lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

from harness_reports.data.leaderboard import MEASURE, Cell
from harness_reports.html.tables import escape
from harness_reports.site.names import PageNames, address

ENTRIES = 100
"""How many entries are kept."""
EPOCH = "1970-01-01T00:00:00+00:00"
"""The date of a feed none of whose results has one, since a feed needs a date."""


def finished(cell: Cell) -> str:
    """When the result was finished, ISO 8601; empty if that is not known."""
    return str(cell.get("manifest", "run", "finished") or "")


def newest(cells: Sequence[Cell]) -> str:
    """The date of the newest result; empty if none has one."""
    return max(map(finished, cells), default="")


def feed(title: str, cells: Sequence[Cell], places: PageNames) -> str:
    """The feed of these results; those without a date are left out."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if date := finished(cell):
            groups.setdefault((date[:10], cell.model), []).append(cell)
    latest = sorted(groups.items(), key=lambda item: (newest(item[1]), item[0]), reverse=True)[:ENTRIES]
    entries = "".join(_entry(day, model, own, places) for (day, model), own in latest)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        f"<title>{escape(title)}</title>\n<id>{_identifier(title)}</id>\n"
        f"<updated>{escape(newest(cells) or EPOCH)}</updated>\n<author><name>retrieval-harness</name></author>\n"
        f'<link rel="self" href="feed.xml"/>\n<link href="index.html"/>\n{entries}</feed>\n'
    )


def _entry(day: str, model: str, cells: Sequence[Cell], places: PageNames) -> str:
    known = f"{len(cells)} result{'s' if len(cells) > 1 else ''}"
    link = f'<link href="{escape(address("", "models", places.models[model]))}"/>\n' if model in places.models else ""
    return (
        f"<entry>\n<title>{escape(f'{model}: {known}')}</title>\n<id>{_identifier(f'{day}/{model}')}</id>\n"
        f"<updated>{escape(newest(cells))}</updated>\n{link}"
        f"<summary>{escape('; '.join(map(_line, cells)))}</summary>\n</entry>\n"
    )


def _line(cell: Cell) -> str:
    if cell.score is None:
        return f"{cell.dataset}: {cell.get('status') if not cell.ok else f'without {MEASURE}'}"
    return f"{cell.dataset}: {MEASURE} x 100 = {100 * cell.score:.2f}"


def _identifier(text: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'retrieval-harness/{text}')}"
