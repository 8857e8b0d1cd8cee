"""Renders standings as a Markdown table with a description of the machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from benchmarks.runner.contest import ROOT, Contest, Plan
from benchmarks.runner.rounds import Standing
from harness.system.environment import git_state, machine

NONE = "—"


def heading(name: str, plan: Plan, rounds: int) -> str:
    """The page's title, machine and method."""
    about, commit = machine(), git_state(ROOT)
    code = f"{commit['commit'][:10]}{' with changes' if commit['dirty'] else ''}" if commit else "no checkout"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    lines = [
        f"# {name}",
        "",
        f"{about['processor']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB"
        f"{''.join(f', {gpu}' for gpu in about['gpus'])}; {', '.join(about['features'])}; {about['system']}. "
        f"{plan.threads} threads each; size {plan.size!r}; load average {load} before it began; code {code}.",
        "",
        f"Every competitor is a process of its own; only one works at a time, the others are stopped. One round that "
        f"does not count, then up to {rounds} alternating rounds: medians of seconds and of the processor's seconds; "
        f"*times ours* is the median over rounds of the competitor's seconds divided by ours in that round (over 1: "
        f"ours is faster). Peak memory is resident memory of the process, while loading and while working.",
        "",
    ]
    return "\n".join(lines)


def render(contest: Contest, standings: Sequence[Standing]) -> str:
    """Section of one comparison."""
    columns = list(dict.fromkeys(column for each in standings for column in each.quality))
    headers = ["competitor", "seconds", "range", "times ours", "CPU s"]
    headers += [f"{contest.rate[0]}/s"] if contest.rate else []
    headers += ["load s", "peak MiB, load", "peak MiB, work", *columns]
    rows = [_row(contest, each, standings[0], columns) for each in standings]
    counted = max((len(each.rounds) for each in standings), default=0)
    lines = [f"## {contest.title}", "", f"{counted} {'round' if counted == 1 else 'rounds'}.", ""]
    lines += [tabulate(rows, headers, tablefmt="pipe", disable_numparse=True), ""]
    absent = [f"- {each.name} did not finish: {each.reason}" for each in standings if each.reason]
    noted = [f"- {each.name}: {text}" for each in standings if (text := _about(each))]
    lines += [*absent, *noted, *(f"- {note}" for note in contest.notes), ""]
    return "\n".join(lines)


def _row(contest: Contest, one: Standing, ours: Standing, columns: list[str]) -> list[str]:
    seconds = [figures["seconds"] for figures in one.rounds]
    cells = [one.name, *[NONE] * 4]
    if seconds:
        span = f"{_short(min(seconds))} to {_short(max(seconds))}" if len(seconds) > 1 else "one round"
        ratios = [a / b["seconds"] for a, b in zip(seconds, ours.rounds, strict=False)]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else NONE
        middle = statistics.median(seconds)
        cells = [one.name, _short(middle), span, ratio, _short(statistics.median(f["processor"] for f in one.rounds))]
    if contest.rate:
        cells.append(f"{contest.rate[1] / statistics.median(seconds):,.1f}" if seconds else NONE)
    cells += [_short(one.load["seconds"]), _mebibytes([one.load])] if one.load else [NONE, NONE]
    return [*cells, _mebibytes(one.rounds), *(one.quality.get(column, NONE) for column in columns)]


def _short(seconds: float) -> str:
    """Format with three digits."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}"


def _mebibytes(figures: Sequence[dict[str, Any]]) -> str:
    return f"{max(each['peak'] for each in figures) / 2**20:,.0f}" if figures else NONE


def _about(one: Standing) -> str:
    """Versions and the competitor's note."""
    versions = ", ".join(f"{name} {version}" for name, version in one.load.get("versions", {}).items())
    return "; ".join(filter(None, [versions, one.load.get("note", "")]))
