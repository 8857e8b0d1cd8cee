"""How deep runs are, and which metrics they are deep enough for.

A metric with a cutoff beyond the run's depth, or with none at all, would be computed as if no further document was
relevant. That is right where the run holds the whole corpus, and else not what the metric's name says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.types import UserError

DEPTH = 1000
"""Usual depth of a run: documents kept for each query."""
CUT = re.compile(r"@(\d+)$")
UNCUT = re.compile(r"(AP|nDCG|RR)(\(.*\))?")
"""Metrics that have a form with a cutoff and stand here without one."""
WHOLE = re.compile(r"(Bpref|infAP|IPrec|Set[PRF]|NumRet|NumRelRet)\b")
"""Metrics that look at a whole run and have no form with a cutoff."""


def depth_label(model: str, depth: int) -> str:
    """A model's row at a depth: its label, where the depth is unusual with that. Before the model's options, whose
    values may hold anything, bars included."""
    if depth == DEPTH:
        return model
    name, colon, options = model.partition(":")
    return f"{name}|depth={depth}{colon}{options}"


def fits(metric: str, depth: int, documents: int) -> bool:
    """Whether runs of that depth over so many documents give what the metric's name says."""
    cut = CUT.search(metric)
    return documents <= depth or (int(cut[1]) <= depth if cut else not UNCUT.fullmatch(metric))


def over_whole_runs(metric: str) -> bool:
    """Whether the metric depends on how deep the run is, and its name does not say how deep that was."""
    return bool(UNCUT.fullmatch(metric) or WHOLE.match(metric))


def depth_notes(metrics: Sequence[str], depth: int, documents: int, dataset: str) -> list[str]:
    """What to say of metrics that look at whole runs and cannot be cut; arguments as of `check_depth`."""
    found = [metric for metric in metrics if WHOLE.match(metric) and documents > depth]
    return [
        f"{metric} has no cutoff: it is over runs {depth:,} deep, and {dataset} has {documents:,} documents"
        for metric in found
    ]


def check_depth(metrics: Sequence[str], depth: int, documents: int, dataset: str) -> None:
    """Raises UserError for the first metric that runs of that depth do not give.

    Args:
        metrics: canonical names.
        depth: of the runs.
        documents: how many documents a ranking can hold: the corpus, less a query's own where that is left out.
        dataset: for the message.
    """
    for metric in metrics:
        if fits(metric, depth, documents):
            continue
        if cut := CUT.search(metric):
            wanted, instead = min(int(cut[1]), documents), f"{metric[: cut.start()]}@{depth}"
        else:
            wanted, instead = documents, f"{metric}@{depth}"
        what = "looks at" if cut else "has no cutoff: it looks at all of"
        number = f"{int(cut[1]):,} documents" if cut else f"the {documents:,} documents"
        raise UserError(
            f"{metric} {what} {number} for each query, but a run on {dataset} is {depth:,} deep; type {instead}, or "
            f"keep more documents: --depth {wanted}"
        )
