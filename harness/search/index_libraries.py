"""The libraries that ``--index`` names, FAISS apart: whether they can run here, and their parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Literal, NamedTuple

from harness.registry.model_ref import missing_extra
from harness.types import UserError


class Value(NamedTuple):
    """What a parameter may be."""

    words: str
    pattern: str


NUMBER = Value("a number", r".*")
COUNT = Value("a whole number above 0", r"[1-9]\d*")
BITS = Value("1, 2, 4 or 8", r"[1248]")


@dataclass(frozen=True, slots=True)
class Library:
    """A library of approximate indexes."""

    name: str
    """Of the index; also that of the extra."""
    package: str
    """Its distribution."""
    vectors: Literal["sparse", "multivector"]
    """The kind of vectors that it indexes."""
    building: Mapping[str, Value]
    searching: Mapping[str, Value]
    example: str
    compiled_for: str = ""
    """A distribution of which it works with one version alone; with another, importing it crashes the process."""

    def require(self) -> None:
        """Raise UserError if it is not installed, or not for the installed version of ``compiled_for``."""
        try:
            found, other = distribution(self.package), self.compiled_for and version(self.compiled_for)
        except PackageNotFoundError as error:
            raise UserError(missing_extra(f"--index {self.name}", [str(error.name)], self.name)) from None
        if not other:
            return
        from packaging.requirements import Requirement

        for needed in map(Requirement, found.requires or ()):
            if needed.name != self.compiled_for or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            if not needed.specifier.contains(other, prereleases=True):
                wanted = f"{needed.name}{needed.specifier}"
                raise UserError(
                    f"--index {self.name}: {self.package} {found.version} is compiled for {wanted} and would crash "
                    f'with {needed.name} {other}, which is installed; type: pip install "{wanted}"'
                )

    def check(self, factory: str, search: str) -> None:
        """Raise UserError for parameters that it does not have, or not with these values."""
        for text, known in ((factory, self.building), (search, self.searching)):
            for name, value in self._written(text).items():
                if name not in known:
                    raise UserError(f"{name} is not one of {', '.join(known)}; type them {self.example}.")
                if not re.fullmatch(known[name].pattern, value):
                    raise UserError(f"{name} is {known[name].words}, not {value}; type it {self.example}.")

    def numbers(self, text: str) -> dict[str, int | float]:
        """The parameters in ``NAME,key=2,key=0.5`` or in ``key=2,key=0.5``; UserError for anything else."""
        return {name: float(value) if "." in value else int(value) for name, value in self._written(text).items()}

    def _written(self, text: str) -> dict[str, str]:
        parts = [part.strip() for part in text.split(",")] if text else []
        found: dict[str, str] = {}
        for part in parts[1:] if parts[:1] == [self.name] else parts:
            matched = re.fullmatch(r"(\w+)=(\d{1,9}(?:\.\d{1,9})?)", part)
            if not matched:
                raise UserError(f"{part!r} is no parameter with a number; type them {self.example}.")
            found[matched[1]] = matched[2]
        return found


SEISMIC = Library(
    "seismic",
    "pyseismic-lsr",
    "sparse",
    dict.fromkeys(
        ("n_postings", "centroid_fraction", "min_cluster_size", "summary_energy", "max_fraction", "doc_cut"), NUMBER
    ),
    dict.fromkeys(("query_cut", "heap_factor"), NUMBER),
    "as in --index seismic, or --index seismic,n_postings=2000 --index-search query_cut=10,heap_factor=0.7",
)
PLAID = Library(
    "plaid",
    "fast-plaid",
    "multivector",
    {"nbits": BITS, **dict.fromkeys(("kmeans_niters", "max_points_per_centroid", "n_samples_kmeans"), COUNT)},
    dict.fromkeys(("n_ivf_probe", "n_full_scores"), COUNT),
    "as in --index plaid, or --index plaid,nbits=2 --index-search n_ivf_probe=16,n_full_scores=8192",
    compiled_for="torch",
)
LIBRARIES = {library.name: library for library in (SEISMIC, PLAID)}


def library_of(factory: str) -> Library | None:
    """The library that a factory string names; None for one of FAISS."""
    return LIBRARIES.get(factory.partition(",")[0])
