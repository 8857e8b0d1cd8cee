"""A leaderboard as one HTML page to explore: no network, no other file, no script but its own.

Plots are Vega-Lite's, whose JavaScript comes from the Python package vl-convert-python and is copied into the page.
Names and texts reach the page as JSON alone, and its script puts them into text nodes; should one get past that, the
page's Content-Security-Policy lets no script run whose hash it does not hold, and nothing be fetched. Vega's
expressions are interpreted (``ast``), not compiled, so that no ``unsafe-eval`` is needed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from harness.registry.model_ref import missing_extra
from harness.types import UserError
from harness_reports.data.leaderboard import Leaderboard
from harness_reports.html.tables import escape, html_tables
from harness_reports.tables.model import Report

if TYPE_CHECKING:
    from harness_reports.data.per_query import Evidence

SCRIPTS = (
    *("page.js", "page_names.js", "page_state.js", "page_grid.js", "page_leaderboard.js", "page_results.js"),
    *("page_charts.js", "page_plots.js", "page_queries.js", "page_start.js"),
)
"""In this order, as one script."""
LIBRARY = "window.vegaEmbed=vegaEmbed;"


def page(
    board: Leaderboard,
    evidence: Evidence | None,
    *,
    report: Report | None = None,
    runs: Path | None = None,
    suite: str = "",
    title: str = "",
) -> str:
    """The whole page; UserError without the extra ``page``.

    Per-query scores need ``evidence``, training curves a folder of ``runs``. From the ``report`` come intervals, ranks
    and marks beside the scores, the notes, and the scores as a plain table for readers without JavaScript. Without a
    ``title`` the page is called after the ``suite``.
    """
    from harness_reports.html.page_data import embedded, plain_json

    library, version = _library()
    data, blocks = embedded(board, evidence, report.content() if report else None, runs)
    script = "\n".join(_asset(name) for name in SCRIPTS)
    style = _asset("page.css")
    title = title.strip() or (f"Leaderboard: {suite}" if suite else "Retrieval leaderboard")
    parts = {
        "policy": policy([library, script], style),
        "title": escape(title),
        "style": style,
        "library": library,
        "tables": html_tables(_scores(report)) if report else "",
        "script": script,
        "data": plain_json({"title": title, "library": version, **data}),
        "blocks": "\n".join(
            f'<script type="text/plain" id="block-{place}">{block}</script>' for place, block in enumerate(blocks)
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def _scores(report: Report) -> Report:
    return Report([table for table in report.tables if table.key.startswith("scores")], report.notes)


def _asset(name: str) -> str:
    return files("harness_reports.html").joinpath(name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand inside a script element, and their versions."""
    try:
        import vl_convert
    except ImportError as error:
        sentence = missing_extra("harness report --format html", ["vl_convert"], "page")
        raise UserError(f"{sentence} (no page was written)") from error
    bundle = vl_convert.javascript_bundle(LIBRARY).replace("</script", "<\\/script").replace("<!--", "<\\!--")
    # a module, whose names must not become the page's
    script = f'(()=>{{"use strict";{bundle}\n}})();'
    return script, f"Vega {vl_convert.get_vega_version()} and Vega-Lite {vl_convert.get_vegalite_versions()[-1]}"


def policy(scripts: list[str], style: str) -> str:
    """Nothing is fetched, nothing runs but these very texts."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    none = "'none'"
    return (
        f"default-src 'none'; script-src {' '.join(map(hashed, scripts)) or none}; style-src {hashed(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
