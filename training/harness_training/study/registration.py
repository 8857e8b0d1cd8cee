"""The registration: what a study compares and what it can show, written before its first training and never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from harness import __version__
from harness.datasets import catalog
from harness.metrics.clusters import Clusters
from harness.metrics.significance import smallest_effect_by_error
from harness.storage.atomic import write_json
from harness.storage.records import read_sealed, seal
from harness.types import UserError
from harness_training.experiment.run_record import now
from harness_training.study.definition import Primary, Study, StudyFolder

CLUSTER_CORRELATION = 0.3
"""Assumed correlation of differences between two models within a cluster; 0.15 to 0.4 on SQuAD dev."""


def independent_queries(clusters: Clusters) -> float:
    """As many independent queries as these clustered ones are worth: n / (1 + rho (sum of squared sizes / n - 1))."""
    sizes = clusters.sizes
    n = int(sizes.sum())
    return n / (1 + CLUSTER_CORRELATION * (float(sizes @ sizes) / n - 1)) if n else 0.0


def register(study: Study, folder: StudyFolder, queries: Mapping[str, float | None]) -> dict[str, Any]:
    """Write the registration, or check that it is that of this study.

    Args:
        study: The study.
        folder: Its folder.
        queries: Dataset -> number of judged queries, as `independent_queries` counts clusters; None: unknown.

    Raises:
        UserError: The study was registered otherwise, or its registration was changed.
    """
    stated = json.loads(json.dumps(study.registered()))
    if folder.registration.exists():
        return check_registered(study, folder)
    content = {
        "title": study.title,
        "registered": now(),
        "version": __version__,
        "study": stated,
        "primary": sentence(study),
        **_power(study, queries),
    }
    write_json(folder.registration, seal(content))
    return content


def check_registered(study: Study, folder: StudyFolder) -> dict[str, Any]:
    """The registration; {} if there is none. UserError where it is of another study, or was changed."""
    try:
        content: dict[str, Any] = read_sealed(folder.registration)
        before = content["study"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.registration} was changed or is damaged ({error}); restore it, or run the study in another "
            f"folder with -o."
        ) from None
    stated = json.loads(json.dumps(study.registered()))
    if changed := [section for section in stated if stated[section] != before.get(section)]:
        raise UserError(
            f"{study.file} no longer states what was registered on {content['registered']} ({', '.join(changed)} "
            f"changed); restore it, or run the new study in another folder with -o."
        )
    return content


def sentence(study: Study) -> str:
    """The primary comparison in words."""
    primary = study.primary
    place = primary.on or "all datasets of the study"
    sample = "datasets like these" if primary.over == "datasets" and len(_parts(study)) > 1 else "these datasets"
    return f"{primary.measure} of {primary.experiment} against {primary.against} on {place} (about {sample})"


def _parts(study: Study) -> list[tuple[str, ...]]:
    """The datasets of each entry that the primary comparison averages over."""
    on = study.primary.on
    entries: Sequence[str] = catalog.suite(on).datasets if on in study.suites else [on] if on else study.entries
    return [catalog.labels(entry) for entry in entries]


def _power(study: Study, queries: Mapping[str, float | None]) -> dict[str, Any]:
    """The smallest effect that the comparison could show, and what it was computed from."""
    primary = study.primary
    trained = [name for name in (primary.experiment, primary.against) if name in study.experiments]
    parts = [[queries.get(label) for label in part] for part in _parts(study)]
    assumed = {
        "seeds": study.seeds,
        "queries": round(sum(count or 0 for part in parts for count in part)),
        "datasets": len(parts),
        "power": 0.8,
        "alpha": 0.05,
        "spread of queries": primary.query_spread,
        "spread of runs": primary.run_spread,
        "spread of datasets": primary.dataset_spread if primary.over == "datasets" and len(parts) > 1 else None,
    }
    if not all(count for part in parts for count in part):
        return {"smallest_effect": None, "assumed": assumed}
    counts = [[count or 0 for count in part] for part in parts]
    found = smallest_effect(primary, counts, len(trained), study.seeds)
    return {"smallest_effect": round(found, 3), "assumed": assumed}


def smallest_effect(primary: Primary, queries: Sequence[Sequence[float]], trained: int, seeds: int) -> float:
    """The smallest difference in points that is found with 80% power at the 5% level.

    The variance of the mean difference has three parts: queries within datasets, training runs, and, if the comparison
    is about datasets like these, datasets.

    Args:
        primary: The comparison and the assumed spreads.
        queries: Independent queries of the members of each entry.
        trained: Number of sides that are means over seeds.
        seeds: Number of seeds.
    """
    entries = len(queries)
    variance = primary.query_spread**2 * sum(sum(1 / n for n in part) / len(part) ** 2 for part in queries) / entries**2
    variance += primary.run_spread**2 * trained / seeds
    freedom = round(sum(map(sum, queries))) - 1
    if primary.over == "datasets" and entries > 1:
        variance += primary.dataset_spread**2 / entries
        freedom = entries - 1
    return smallest_effect_by_error(sqrt(variance), max(1, freedom))
