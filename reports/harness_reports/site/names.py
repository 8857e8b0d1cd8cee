"""Where the pages of a site are: one safe file name for each label, links between pages, and links in tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from harness.results.store import slug
from harness_reports.html.tables import Links

Pair = tuple[str, str]
"""Two models: one, and the one it is compared against."""


def file_names(labels: Iterable[str]) -> dict[str, str]:
    """A file name without a suffix for each label, distinct also where upper and lower case are the same."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for label in sorted({*labels}):
        name = slug(label)
        if name.casefold() in taken:
            name += f"-{sha256(label.encode()).hexdigest()[:8]}"
        taken.add(name.casefold())
        found[label] = name
    return found


@dataclass(frozen=True, slots=True)
class PageNames:
    """The file names of all pages."""

    models: Mapping[str, str]
    datasets: Mapping[str, str]
    comparisons: Mapping[Pair, str]

    @classmethod
    def of(cls, models: Iterable[str], datasets: Iterable[str], pairs: Iterable[Pair]) -> PageNames:
        """The place of a comparison does not depend on which of the two is the better one."""
        joined = {pair: ":vs:".join(sorted(pair)) for pair in pairs}
        names = file_names(joined.values())
        return cls(file_names(models), file_names(datasets), {pair: names[text] for pair, text in joined.items()})

    def links(self, up: str = "../") -> Links:
        """Column and text of a table's cell -> address, from a page whose way to the site's root is ``up``."""
        return {
            **{("model", label): address(up, "models", name) for label, name in self.models.items()},
            **{("dataset", label): address(up, "datasets", name) for label, name in self.datasets.items()},
            **{("comparison", said(pair)): address(up, "comparisons", n) for pair, n in self.comparisons.items()},
        }


def said(pair: Pair) -> str:
    """A comparison in words."""
    return f"{pair[0]} against {pair[1]}"


def address(up: str, folder: str, name: str, suffix: str = ".html") -> str:
    """A relative link."""
    return f"{up}{folder}/{quote(name)}{suffix}"
