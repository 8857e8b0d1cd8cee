"""How much the score of a model depends on the prompt put before queries: rows, spread and intervals over prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.clusters import Codes, per_cluster
from harness.metrics.significance import Interval, mean_interval
from harness.registry.model_ref import ModelRef
from harness.registry.option_values import read_option_values
from harness.storage.safe_load import content_of
from harness.types import UserError

MEASURE = "nDCG@10"
OPTION = "query_prompt"
OTHERS = ("prompt_name", f"{OPTION}_name")
"""Options that state a query's prompt, too."""
LARGEST = 1_000_000
"""Bytes of a file of prompts."""
Floats = NDArray[np.float64]


def read_prompts(path: Path) -> list[str]:
    r"""The prompts in a file in UTF-8, one a line; each once, in order.

    Blanks at the ends of a line belong to the prompt, its line break (LF or CR LF) does not. ``\n`` stands for a line
    break and ``\\`` for a backslash; a line that begins with a quotation mark is a JSON string. Lines that are empty or
    hold blanks alone are skipped; the empty prompt is written ``""``.

    Raises:
        UserError: The file cannot be read, or holds no prompt.
    """
    try:
        text = content_of(path, LARGEST).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({why}); name a text file in UTF-8 with one prompt a line.") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    found = dict.fromkeys(_prompt(line, path) for line in lines if line.strip())
    if not found:
        raise UserError(f'{path} holds no prompt; write one a line, the empty one as "".')
    return [*found]


def _prompt(line: str, path: Path) -> str:
    if line.startswith('"'):
        return str(read_option_values(line, f"{line} of {path}", files=False))
    return "\\".join(part.replace("\\n", "\n") for part in line.split("\\\\"))


def with_prompts(ref: ModelRef, prompts: Sequence[str]) -> list[ModelRef]:
    """The model as it is named, then with each of the prompts; UserError if it takes none."""
    if OPTION not in ref.spec.options:
        raise UserError(f"{ref.label} takes no prompt for queries: its plug-in has no option {OPTION}.")
    kept = {name: value for name, value in ref.passed.items() if name not in OTHERS}
    plain = {**ref.options, **{name: ref.spec.options[name].default for name in OTHERS if name in ref.spec.options}}
    return [ref, *(_prompted(ref, plain, kept, prompt) for prompt in prompts)]


def _prompted(ref: ModelRef, options: dict[str, Any], passed: dict[str, Any], prompt: str) -> ModelRef:
    return replace(ref, options={**options, OPTION: prompt}, passed={**passed, OPTION: prompt})


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt."""

    prompt: str | None
    """None for the model as it was named."""
    model: str
    score: float
    difference: float | None
    """From the model as it was named; None for itself."""
    interval: Interval | None
    """Of the difference, paired by query."""


@dataclass(frozen=True, slots=True)
class PromptSpread:
    """The rows of a model on a dataset, and what they say together; the default row counts in none but differences."""

    rows: tuple[PromptRow, ...]
    least: float
    greatest: float
    deviation: float | None
    """Standard deviation over prompts (divided by n - 1); None for one prompt."""
    mean: float
    interval: Interval
    """Of the mean over prompts and queries like these: both are draws."""
    another: Interval
    """Where the score of another prompt like these lies, on these queries (Student's t, scores taken as normal)."""
    best: PromptRow
    best_interval: Interval
    """Of the best prompt against the default, simultaneous over all prompts (Bonferroni), as it was chosen by score."""

    def content(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**asdict(row), "interval": row.interval and row.interval.ends} for row in self.rows]
        return {
            "rows": rows,
            "min": self.least,
            "max": self.greatest,
            "standard_deviation": self.deviation,
            "mean": self.mean,
            "interval_over_prompts_and_queries": self.interval.ends,
            "interval_of_another_prompt": self.another.ends,
            "best": {"prompt": self.best.prompt, "model": self.best.model, "difference": self.best.difference}
            | {"simultaneous_interval": self.best_interval.ends},
        }


def prompt_spread(
    prompts: Sequence[str], models: Sequence[str], values: Sequence[Floats], codes: Codes | None
) -> PromptSpread:
    """Compare prompts on one dataset.

    Args:
        prompts: The prompts.
        models: Labels: of the model as it was named, then with each prompt.
        values: `MEASURE` of each of ``models`` [queries].
        codes: The cluster of each query; None if every query is its own.
    """
    rows = [PromptRow(None, models[0], float(values[0].mean()), None, None)]
    for prompt, model, own in zip(prompts, models[1:], values[1:], strict=True):
        change = own - values[0]
        rows.append(PromptRow(prompt, model, float(own.mean()), float(change.mean()), _paired(change, codes)))
    best = max(range(1, len(rows)), key=lambda place: rows[place].score)
    level = 1 - 0.05 / len(prompts)
    scores = np.array([row.score for row in rows[1:]])
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else None
    over = mean_interval([per_cluster(np.stack(values[1:]), codes)], new_datasets=False)
    return PromptSpread(
        tuple(rows),
        float(scores.min()),
        float(scores.max()),
        deviation,
        float(scores.mean()),
        over,
        _another(scores, deviation),
        rows[best],
        _paired(values[best] - values[0], codes, level),
    )


def _paired(difference: Floats, codes: Codes | None, level: float = 0.95) -> Interval:
    return mean_interval([per_cluster(difference, codes)], level=level)


def _another(scores: Floats, deviation: float | None) -> Interval:
    from scipy.special import stdtrit

    if deviation is None:
        return Interval(-np.inf, np.inf)
    half = float(stdtrit(len(scores) - 1, 0.975)) * deviation * sqrt(1 + 1 / len(scores))
    return Interval(float(scores.mean()) - half, float(scores.mean()) + half)


def shown_rows(found: PromptSpread) -> Iterator[dict[str, str]]:
    """The rows of a table."""
    for row in found.rows:
        change = (
            "-" if row.difference is None or row.interval is None else f"{row.difference:+.4f} {ends(row.interval)}"
        )
        name = "(as named)" if row.prompt is None else row.prompt or '""'
        yield {"prompt": name, MEASURE: f"{row.score:.4f}", "difference [95% interval]": change}


def ends(interval: Interval, form: str = "+.4f") -> str:
    """An interval as shown."""
    return "[-]" if interval.ends is None else f"[{interval.low:{form}}, {interval.high:{form}}]"
