"""Run depth, and which metrics a run of some depth supports.

A metric with a cutoff beyond the depth of the run, or without a cutoff, would be computed as if no further document
were relevant. That is correct only if the run contains the whole corpus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.types import UserError

DEPTH = 1000
"""Default depth of a run: documents per query."""
CUT = re.compile(r"@(\d+)$")
UNCUT = re.compile(r"(AP|nDCG|RR)(\(.*\))?")
"""Metrics without a cutoff that also exist with one."""
WHOLE = re.compile(r"(Bpref|infAP|IPrec|Set[PRF]|NumRet|NumRelRet)\b")
"""Metrics of whole runs that do not exist with a cutoff."""


def depth_label(model: str, depth: int) -> str:
    """Label of a model at a depth; the depth is included if it is not the default.

    It is inserted before the options of the model, whose values may contain bars.
    """
    if depth == DEPTH:
        return model
    name, colon, options = model.partition(":")
    return f"{name}|depth={depth}{colon}{options}"


def fits(metric: str, depth: int, documents: int) -> bool:
    """Whether a run of this depth over this many documents determines the metric."""
    cut = CUT.search(metric)
    return documents <= depth or (int(cut[1]) <= depth if cut else not UNCUT.fullmatch(metric))


def over_whole_runs(metric: str) -> bool:
    """Whether the metric depends on the depth of the run without naming it."""
    return bool(UNCUT.fullmatch(metric) or WHOLE.match(metric)) or "judged_only=True" in metric


def depth_notes(metrics: Sequence[str], depth: int, documents: int, dataset: str) -> list[str]:
    """Notes about metrics that cannot have a cutoff; arguments as for `check_depth`."""
    found = [metric for metric in metrics if WHOLE.match(metric) and documents > depth]
    return [
        f"{metric} has no cutoff: it is over runs {depth:,} deep, and {dataset} has {documents:,} documents"
        for metric in found
    ]


def check_depth(metrics: Sequence[str], depth: int, documents: int, dataset: str) -> None:
    """Raise UserError for the first metric that a run of this depth does not determine.

    Args:
        metrics: canonical names.
        depth: depth of the runs.
        documents: largest length of a ranking: the corpus, without a query's own document if that is excluded.
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
