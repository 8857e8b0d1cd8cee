"""A gate's outcome as one line, as JSON and as GitHub's Markdown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness_reports.gate.gate import Check, Gate
from harness_reports.render.markdown import escape


def content(gate: Gate) -> dict[str, Any]:
    """Everything in full precision; an undefined interval is None."""
    return {
        "passed": gate.passed,
        "measure": gate.measure,
        "worse_than": 100 * gate.worse_than,
        "undecided": gate.undecided,
        "checks": [check.content() | {"fails": gate.fails(check)} for check in gate.checks],
        "warnings": list(gate.warnings),
    }


def line(gate: Gate) -> str:
    """The outcome in one line: the verdicts' numbers, and the checks that fail or the mean of the first model."""
    counts = Counter(check.verdict for check in gate.checks)
    numbers = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    shown = [check for check in gate.checks if gate.fails(check)] or list(gate.checks[-1:])
    told = "; ".join(_told(check) for check in shown)
    return f"{'pass' if gate.passed else 'FAIL'} (margin {100 * gate.worse_than:g} points): {numbers}; {told}"


def summary(gate: Gate) -> str:
    """A section for GitHub's summary of a job."""
    from tabulate import tabulate

    head = ["", "model", "baseline", "dataset", "difference", "95% interval", "verdict"]
    rows = [
        [
            ":x:" if gate.fails(check) else ":warning:" if check.verdict == "undecided" else ":white_check_mark:",
            escape(check.model),
            escape(check.baseline),
            escape(check.dataset) or "mean over datasets",
            *_values(check),
            check.verdict,
        ]
        for check in gate.checks
    ]
    title = f"## {escape(gate.measure)} against the baseline: {'passed' if gate.passed else 'failed'}"
    told = (
        f"Differences x 100, model minus baseline. Worse: lower by more than {100 * gate.worse_than:g} points beyond "
        f"chance. No worse: a loss of more than {100 * gate.worse_than:g} points is excluded. Undecided: the queries "
        f"cannot tell, which counts as {'passed' if gate.undecided == 'pass' else 'failed'}."
    )
    warnings = [f"> **Warning:** {escape(warning)}." for warning in gate.warnings]
    table = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    return "\n\n".join([title, *warnings, table, told]) + "\n"


def _told(check: Check) -> str:
    where = f"on {check.dataset}" if check.dataset else "over the datasets"
    return f"{check.model} {where} {' '.join(value for value in (*_values(check), check.verdict) if value != '-')}"


def _values(check: Check) -> tuple[str, str]:
    """Difference and interval as text."""
    ends = check.interval.ends if check.interval else None
    difference = "-" if check.difference is None else f"{100 * check.difference:+.2f}"
    return difference, f"[{100 * ends[0]:+.2f}, {100 * ends[1]:+.2f}]" if ends else "-"
