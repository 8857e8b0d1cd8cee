"""``harness models``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.flags import one_line, show_trace
from harness.cli.main import State
from harness.cli.options import examples, json_option, pass_state, plugin_option
from harness.cli.output import print_json, print_table
from harness.types import PluginError, UserError


@click.command(
    "models",
    **examples(
        "harness models --options",
        "harness models --plugin mine.py",
    ),
)
@click.option("--options", "with_options", is_flag=True, help="List each model's options too.")
@plugin_option
@json_option
@pass_state
def command(state: State, /, with_options: bool, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List models, their status, and the plug-ins that failed to load.

    Status: ready; needs fetch (weights not downloaded yet); not trained yet (with the command); needs install (a
    package is missing); broken (with the reason).
    """
    from harness.registry.model_ref import options_of

    registry = state.registry(plugins)
    rows: list[dict[str, Any]] = []
    for name, ref in sorted(registry.models.items()):
        options = {
            key: {"default": o.default, "help": o.help, "choices": list(o.choices)}
            for key, o in options_of(ref.spec).items()
        }
        status, summary = _status(ref, state.home), ref.spec.summary
        rows.append(_row(name, ref.spec.kind, status, summary, plugin=ref.plugin, options=options))
    for broken in registry.broken:
        show_trace(broken.trace)
        rows.append(_row(broken.plugin, "plug-in", "broken", broken.reason, plugin=broken.plugin, options={}))
    if as_json:
        print_json(rows)
        return
    print_table([{key: row[key] for key in ("name", "kind", "status", "summary")} for row in rows])
    if with_options:
        for name, ref in sorted(registry.models.items()):
            click.echo(f"\n{name}")
            for key, option in options_of(ref.spec).items():
                shown = "unset" if option.default is None else option.default
                click.echo(f"  {key}={shown}: {option.help}")


def _row(name: str, kind: str, status: str, summary: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "status": status, "summary": one_line(summary), **more}


def _status(ref: Any, home: Path) -> str:
    from harness.download.local_weights import present

    try:
        if ref.missing():
            return "needs install"
        ref.located()
    except (UserError, PluginError) as error:
        return one_line(str(error))
    return "ready" if ref.spec.files.weights is None or present(ref.spec.files.weights, home) else "needs fetch"
