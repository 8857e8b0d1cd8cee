"""``harness claims``: checks the claims of a paper against stored results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note
from harness.cli.folding import shown
from harness.cli.options import examples, plugin_option, results_option
from harness.cli.output import end_with_skipped

if TYPE_CHECKING:
    from harness_reports.claims.evaluate import Verdict
    from harness_reports.claims.model import Claims
    from harness_reports.claims.parser import Known
    from harness_reports.data.leaderboard import Leaderboard


@click.command(
    "claims",
    **examples(
        "harness claims published",
        "harness claims path/to/claims.toml --model ours=minilm",
    ),
)
@click.argument("file", metavar="FILE.toml|NAME")
@results_option
@click.option(
    "--model",
    "mapped",
    multiple=True,
    metavar="NAME=LABEL",
    help="What the file calls NAME is LABEL in the results; several labels for one name are seeds, averaged.",
)
@click.option("--all", "everything", is_flag=True, help="List expected values that were not measured one by one.")
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    results: Path,
    mapped: tuple[str, ...],
    everything: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """A paper's claims, from a file or by name (brief, published): met, not met or not measured.

    A claim that is not met is not an error. Results that cannot be read are named on stderr; the exit code is then 1.
    """
    from harness.cli.main import State
    from harness.storage.atomic import dump_json
    from harness_reports.claims.evaluate import judge
    from harness_reports.claims.evidence import ClaimEvidence
    from harness_reports.claims.model import find_claims
    from harness_reports.claims.parser import read_claims
    from harness_reports.data.leaderboard import read_leaderboard

    path, registry = find_claims(file), ctx.ensure_object(State).registry(plugins)
    board = read_leaderboard(results)
    stated = read_claims(path, _known(board, registry.models, registry.datasets), mapped)
    measured = ClaimEvidence(board, stated.models, ctx.ensure_object(State).home)
    judged, expected = judge(stated, measured)
    if measured.evidence.lacking:
        note(measured.evidence.lacking)
    skipped = [*board.skipped, *measured.evidence.skipped.values()]
    if as_json:
        content = _content(stated, judged, expected) | {
            "skipped": [{"path": one.place, "reason": one.reason} for one in skipped]
        }
        click.echo(dump_json(content).decode(), nl=False)
    else:
        click.echo(shown("\n\n".join(filter(None, _sections(stated, judged, expected, everything)))))
    end_with_skipped(skipped)


def _known(board: Leaderboard, models: Any, datasets: Any) -> Known:
    """Names of the plug-ins and of the results."""
    from harness.metrics import sparse_geometry
    from harness.metrics.geometry import DEFINITIONS
    from harness_reports.claims.parser import Known
    from harness_reports.data.rows import rows

    names = {**DEFINITIONS, **sparse_geometry.DEFINITIONS}
    panel = {f"geometry.{side}.{name}" for side in ("documents", "queries") for name in names}
    return Known({*models, *board.models}, {*datasets, *board.datasets}, panel | {*rows(board)[0]})


def _content(stated: Claims, judged: Sequence[Verdict], expected: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "title": stated.title,
        "source": stated.source,
        "models": {name: list(labels) for name, labels in stated.models.items()},
        "claims": [_entry(v, ("name", "text", "typed", "measure", "place", "over", "note")) for v in judged],
        "expected": [
            _entry(v, ("model", "place", "measure", "tolerance", "reproduction", "source", "note")) for v in expected
        ],
    }


def _entry(verdict: Verdict, keys: Sequence[str]) -> dict[str, Any]:
    names = {"typed": "criterion"}
    return {
        **{names.get(key, key): getattr(verdict.stated, key) for key in keys},
        "line": verdict.stated.at.line,
        "verdict": verdict.state,
        "beyond_noise": not verdict.hedged if verdict.interval else None,
        "value": verdict.value,
        "relation": verdict.relation,
        "threshold": verdict.threshold,
        "interval": list(verdict.interval.ends or ()) if verdict.interval else None,
        "values": verdict.models,
        "need": verdict.need,
        "notes": verdict.notes,
    }


def _sections(
    stated: Claims, judged: Sequence[Verdict], expected: Sequence[Verdict], everything: bool
) -> Iterator[str]:
    from harness_reports.render.markdown import escape

    yield f"# {escape(stated.title)}" + (f"\n\n{escape(stated.source)}" if stated.source else "")
    if judged:
        yield f"## Claims\n\n{_tally(judged)}"
        yield _table([_claim_row(verdict) for verdict in judged])
        yield _told(judged)
    if expected:
        shown = [v for v in expected if everything or v.state != "not measured"]
        yield f"## Expected values\n\n{_tally(expected)}"
        if shown:
            yield _table([_expected_row(verdict) for verdict in shown])
            yield _told(shown)
        absent = Counter(str(getattr(v.stated, "model", "")) for v in expected if v.state == "not measured")
        if absent and not everything:
            listed = ", ".join(f"{escape(model)} {count}" for model, count in absent.items())
            yield f"Not measured: {absent.total()} of {len(expected)} values ({listed}); --all lists them."


def _tally(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.words for verdict in verdicts)
    return "; ".join(f"{count} {words}" for words, count in sorted(counts.items())) + "."


def _claim_row(verdict: Verdict) -> dict[str, str]:
    from harness_reports.render.markdown import escape

    claim: Any = verdict.stated
    return {
        "claim": escape(claim.name),
        "criterion": _code(claim.typed.replace("|", r"\|")) if claim.typed else escape(claim.text),
        "verdict": verdict.words,
        "measured": _number(verdict, verdict.value),
        "95% interval": _interval(verdict),
    }


def _expected_row(verdict: Verdict) -> dict[str, str]:
    from harness_reports.render.markdown import escape

    stated: Any = verdict.stated
    gap = None if verdict.value is None else verdict.value - stated.value
    return {
        "model": escape(stated.model),
        "dataset": escape(stated.place),
        "measure": escape(stated.measure),
        "expected": f"{'' if stated.relation == '=' else '>= '}{_number(verdict, stated.value)}",
        "measured": _number(verdict, verdict.value),
        "difference": "-" if gap is None else re.sub(r"^(?!-)|^-(?=[0.]*$)", "+", _number(verdict, gap)),
        "95% interval": _interval(verdict),
        "verdict": verdict.words,
        "source": escape(stated.source),
    }


def _told(verdicts: Sequence[Verdict]) -> str:
    """Lines below a table: what verdicts rest on, and what it would take to be sure; each said once."""
    from harness_reports.render.markdown import escape

    said: dict[str, list[str]] = {}
    for verdict in verdicts:
        stated: Any = verdict.stated
        models = [f"{model} {_number(verdict, value)}" for model, value in verdict.models.items()]
        notes = [", ".join(models)] if len(models) > 1 else []
        notes += [note for note in (stated.note, *verdict.notes) if note]
        needs = [_code(need) if need.startswith("harness ") else escape(need) for need in verdict.need]
        parts = [*map(escape, notes), *([f"needed: {'; '.join(needs)}"] if needs else [])]
        name = getattr(stated, "name", "") or f"{stated.model} on {stated.place}"
        if parts:
            said.setdefault(". ".join(parts), []).append(escape(name))
    return "\n".join(f"- {'; '.join(dict.fromkeys(names))}: {text}." for text, names in said.items())


def _code(text: str) -> str:
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))  # longer than any in the text
    return f"{fence}{line}{fence}"


def _number(verdict: Verdict, value: float | None) -> str:
    from harness_reports.claims.criteria import Coverage
    from harness_reports.claims.model import scale

    if value is None:
        return "-"
    if isinstance(getattr(verdict.stated, "criterion", None), Coverage):
        return f"{value:.0f} of {verdict.threshold:.0f}"
    return format(value, ".2f" if scale(verdict.stated.measure) > 1 else ".4f")


def _interval(verdict: Verdict) -> str:
    ends = verdict.interval and verdict.interval.ends
    return f"{_number(verdict, ends[0])} to {_number(verdict, ends[1])}" if ends else "-"


def _table(rows: list[dict[str, str]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)
