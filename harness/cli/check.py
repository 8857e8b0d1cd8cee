"""``harness check``."""

from __future__ import annotations

import sys

import click

from harness.cli.flags import show_trace
from harness.cli.options import completing, examples
from harness.cli.output import print_json
from harness.cli.session import Session, session_options


@click.command(
    "check",
    **examples(
        "harness check bm25",
        "harness check mine --plugin mine.py",
    ),
)
@click.argument("model", shell_complete=completing("models"))
@session_options
def command(session: Session, /, model: str) -> None:
    """Test a model plug-in: shape, dtype, determinism, batching, empty, long and Unicode texts, options.

    Exit code 1 when a check fails.
    """
    from harness.evaluation.conformance import check

    with session.progress_bar():
        outcomes = list(check(session.prepared(session.registry.model(model))))
    for outcome in outcomes:
        show_trace(outcome.trace)
    if session.as_json:
        print_json([{"check": o.name, "passed": not o.fault, "fault": o.fault} for o in outcomes])
    else:
        for outcome in outcomes:
            verdict, reason = ("FAIL", f": {outcome.fault}") if outcome.fault else ("ok  ", "")
            click.echo(f"{verdict}  {outcome.name}{reason}")
    if any(outcome.fault for outcome in outcomes):
        sys.exit(1)
