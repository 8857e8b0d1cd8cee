"""Parse and validate the strings with which users configure approximate indexes, of FAISS and of other libraries."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from harness.registry.model_ref import missing_extra
from harness.search.index_libraries import library_of
from harness.types import UserError

ADVISED_PER_LIST = 39
"""Rows per centroid below which FAISS warns."""
PROBE_DIM = 720
"""Dimension for validating a factory string before the dimension of the model is known."""
EXAMPLE = (
    'as in --index IVF64,Flat --index-search nprobe=8, or --index HNSW32, or --index SQ8, or --index "OPQ48,PQ48np"'
)


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How to build and search an index."""

    factory: str
    """FAISS's index_factory string; or the name of another library, with parameters after commas."""
    search: str = ""
    """FAISS's ParameterSpace string, such as ``nprobe=16``, or the library's parameters; empty for the defaults."""
    lists: int = 0
    """Number of inverted lists of FAISS; 0 if there are none or the dimension must be known first."""

    @property
    def vectors(self) -> str:
        """The kind of vectors that it indexes: ``dense``, ``sparse`` or ``multivector``."""
        library = library_of(self.factory)
        return library.vectors if library else "dense"

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
    if library := library_of(factory):
        library.require()
        library.check(factory, search)
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
