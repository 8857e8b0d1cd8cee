"""``harness check``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli.flags import examples, show_trace
from harness.cli.main import State
from harness.cli.options import (
    completing,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    progress_bar,
)


@click.command(
    "check",
    **examples(
        "harness check bm25",
        "harness check mine --plugin mine.py",
    ),
)
@click.argument("model", shell_complete=completing("models"))
@offline_option
@plugin_option
@json_option
@pass_state
def command(state: State, /, model: str, offline: bool, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Prove a model plug-in sound: shape, dtype, determinism, batching, empty, long and Unicode texts, options.

    Exit code 1 when a check fails.
    """
    from harness.evaluation.conformance import check
    from harness.models.runner import Prepared

    with progress_bar() as progress:
        prepared = Prepared(state.registry(plugins).model(model), state.made_home, offline=offline, progress=progress)
        outcomes = list(check(prepared))
    for outcome in outcomes:
        show_trace(outcome.trace)
    if as_json:
        print_json([{"check": o.name, "passed": not o.fault, "fault": o.fault} for o in outcomes])
    else:
        for outcome in outcomes:
            click.echo(
                f"{'FAIL' if outcome.fault else 'ok  '}  {outcome.name}{': ' + outcome.fault if outcome.fault else ''}"
            )
    if any(outcome.fault for outcome in outcomes):
        sys.exit(1)
