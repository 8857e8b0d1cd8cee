"""Parse and validate the strings with which users configure approximate indexes: those of FAISS, and Seismic's."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from harness.registry.model_ref import missing_extra
from harness.types import UserError

ADVISED_PER_LIST = 39
"""Rows per centroid below which FAISS warns."""
PROBE_DIM = 720
"""Dimension for validating a factory string before the dimension of the model is known."""
EXAMPLE = (
    'as in --index IVF64,Flat --index-search nprobe=8, or --index HNSW32, or --index SQ8, or --index "OPQ48,PQ48np"'
)


SEISMIC = "seismic"
BUILDING = ("n_postings", "centroid_fraction", "min_cluster_size", "summary_energy", "max_fraction", "doc_cut")
SEARCHING = ("query_cut", "heap_factor")
"""Parameters of Seismic."""
SEISMIC_EXAMPLE = (
    "as in --index seismic, or --index seismic,n_postings=2000 --index-search query_cut=10,heap_factor=0.7"
)


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How to build and search an index."""

    factory: str
    """FAISS's index_factory string; or ``seismic``, with parameters after commas."""
    search: str = ""
    """FAISS's ParameterSpace string, such as ``nprobe=16``, or Seismic's parameters; empty for the defaults."""
    lists: int = 0
    """Number of inverted lists of FAISS; 0 if there are none or the dimension must be known first."""

    @property
    def vectors(self) -> str:
        """The kind of vectors that it indexes: ``dense`` or ``sparse``."""
        return "sparse" if self.factory.partition(",")[0] == SEISMIC else "dense"

    def label(self, model: str) -> str:
        """Label of a model with this index. The index is inserted before the options, whose values may contain bars."""
        name, colon, options = model.partition(":")
        return "|".join(filter(None, (name, self.factory, self.search))) + colon + options

    def check(self, documents: int, where: str) -> None:
        """Raise UserError if there are fewer documents than inverted lists."""
        if self.lists > documents:
            fewer = max(1, documents // ADVISED_PER_LIST)
            raise UserError(
                f"{self.factory} has {self.lists} inverted lists, but {where} has {documents} vectors to train them "
                f"on; name at most {documents} lists (well trained: {fewer}), as in --index IVF{fewer},Flat."
            )


def parse_index_config(factory: str, search: str = "") -> IndexConfig:
    """Parse a factory string and search parameters, and validate them as far as possible without the dimension.

    Raises:
        UserError: The library rejects them, or is not installed.
    """
    factory, search = factory.strip(), search.strip()
    if factory.partition(",")[0] == SEISMIC:
        if importlib.util.find_spec("seismic") is None:
            raise UserError(missing_extra("--index seismic", ["pyseismic-lsr"], "seismic"))
        for given, known in ((factory, BUILDING), (search, SEARCHING)):
            if wrong := next((name for name in seismic_numbers(given) if name not in known), None):
                raise UserError(f"{wrong} is not one of {', '.join(known)}; type them {SEISMIC_EXAMPLE}.")
        return IndexConfig(factory, search)
    if importlib.util.find_spec("faiss") is None:
        raise UserError(missing_extra("--index", ["faiss"], "dense"))
    import faiss

    if not re.fullmatch(r"[\w,()+.-]+", factory) or re.search(r"\d{8}", factory):
        raise UserError(f"{factory!r} is not a FAISS factory string; type one {EXAMPLE}.")
    if search and not re.fullmatch(r"\w+=\d+(\.\d+)?(,\w+=\d+(\.\d+)?)*", search):
        raise UserError(f"{search!r} is not what FAISS calls search parameters; type some {EXAMPLE}.")
    try:
        index = faiss.index_factory(PROBE_DIM, factory)
    except RuntimeError as error:
        if re.search("could not parse|unbalanced|stoi", str(error)):
            raise refused(factory, error) from error
        return IndexConfig(factory, search)  # other errors may depend on the dimension
    inverted = faiss.try_extract_index_ivf(index)
    set_parameters(index, search, factory)
    return IndexConfig(factory, search, inverted.nlist if inverted else 0)


def seismic_numbers(text: str) -> dict[str, int | float]:
    """The parameters in ``seismic,name=2,name=0.5`` or in ``name=2,name=0.5``; UserError for anything else."""
    parts = [part.strip() for part in text.split(",")] if text else []
    found: dict[str, int | float] = {}
    for part in parts[1:] if parts[:1] == [SEISMIC] else parts:
        matched = re.fullmatch(r"(\w+)=(\d{1,9}(\.\d{1,9})?)", part)
        if not matched:
            raise UserError(f"{part!r} is no parameter with a number; type them {SEISMIC_EXAMPLE}.")
        found[matched[1]] = float(matched[2]) if matched[3] else int(matched[2])
    return found


def set_parameters(index: Any, search: str, factory: str) -> None:
    """Set search parameters on an index. UserError if FAISS rejects them."""
    import faiss

    try:
        faiss.ParameterSpace().set_index_parameters(index, search)  # type: ignore[arg-type]  # as overloads are stubbed
    except RuntimeError as error:
        message = reason(error).removeprefix("ParameterSpace::set_index_parameter:")
        raise UserError(f"FAISS cannot search {factory} with {search!r} ({message}); type some {EXAMPLE}.") from error


def reason(error: RuntimeError) -> str:
    """The error message of FAISS without the source location."""
    text = re.sub(r"^Error in .* at \S+:\d+: ", "", str(error).strip(), flags=re.DOTALL)
    return re.sub(r"^Error: '.*?' failed:? ?", "", text) or str(error)


def refused(factory: str, error: RuntimeError, dim: int = 0, documents: int = 0) -> UserError:
    """The UserError for a factory string that FAISS rejects."""
    few = re.search(r"as large as number of clusters \((\d+)\)", str(error))
    if few:
        return UserError(
            f"{factory} learns {few[1]} centroids, but there are only {documents} vectors to train them on; "
            f"name an index with fewer (PQ48x4 has 16 a part), or one without training, as in --index HNSW32 or SQ8."
        )
    at = f" of {dim} dimensions" if dim else ""
    return UserError(f"FAISS makes no index {factory!r}{at} ({reason(error)}); type one {EXAMPLE}.")
