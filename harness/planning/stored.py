"""What of a plan is stored already, or will be by the time a row needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from harness.datasets.beir import Dataset
from harness.embeddings.formats import FORMATS
from harness.models.runner import Prepared, pooling_store, transform_store
from harness.planning.workload import Workload
from harness.registry.model_ref import ModelRef
from harness.search.lexical import index_folder, index_owner
from harness.storage.bundles import belongs
from harness.types import ROLES, PluginError, Role, UserError

Stored = dict[tuple[str, str], frozenset[str]]
"""(model, dataset) -> what is stored: vectors ("document", "query") or "index"."""


def stored_parts(model: Prepared | str, work: Sequence[Workload], home: Path) -> Stored:
    """What is stored of a model and of those that it is made of, of datasets that are on this machine."""
    found: Stored = {}
    for each in work:
        if isinstance(model, str) or each.dataset is None:
            continue
        for one in _sources(model):
            here = {role for role in ROLES if _is_stored(one, each.dataset, role)}
            corpus = each.dataset.corpus
            index = {"index"} if belongs(index_folder(one, corpus, home), index_owner(one, corpus)) else set()
            found[one.label, each.label] = frozenset(here | index)
    return found


def _sources(model: Prepared) -> Iterator[Prepared]:
    """The model and those that it is made of, as far as something is stored for them."""
    if model.ref.spec.kind not in ("fusion", "reranker"):
        yield model
    for member in model.members:
        yield from _sources(member)


def _is_stored(model: Prepared, dataset: Dataset, role: Role) -> bool:
    """Whether the vectors of one side are stored; those that a transform starts from count for it, too."""
    collections: dict[Role, str] = {"document": dataset.corpus.sha256, "query": dataset.fingerprint["queries"]}
    if model.ref.spec.kind == "transform":
        listed = model.chain[0].store("document").read_list(collections["document"])
        if listed is None or not _is_stored(model.chain[0], dataset, role):
            return False
        store = transform_store(model, collections["document"], role, normalised=listed[1] == "cosine")
    elif model.ref.spec.kind == "pooling":
        store = pooling_store(model) if role == "document" else model.bases[0].store(role)
    else:
        store = model.store(role)
    return store.read_list(collections[role]) is not None


class Part(NamedTuple):
    """Something that is stored for a model and a dataset."""

    model: str
    """Label of the model that `Stored` names it by."""
    what: str
    """A side of its vectors, or ``index``."""
    key: str
    """The same for all models that it serves."""


def parts_made(ref: ModelRef) -> Iterator[Part]:
    """All that is stored when a model is evaluated, of its members as well."""
    kind = ref.spec.kind
    if kind == "lexical":
        yield Part(ref.label, "index", _key(ref, lambda: ref.key))
    elif kind in FORMATS:
        for role in ROLES:
            yield Part(ref.label, role, _vectors_key(ref, role))
    elif kind in ("transform", "pooling"):
        for role in ROLES if kind == "transform" else ("document",):
            yield Part(ref.label, role, ref.label)
        yield from parts_made(base_of(ref) if kind == "transform" else ref.members[0])
    else:
        for member in ref.members:
            yield from parts_made(member)


class SharedParts:
    """Vectors and indexes that the rows of a plan make, so that later rows count them as stored."""

    def __init__(self) -> None:
        """No row yet."""
        self._made: set[tuple[str, str, str]] = set()

    def of(self, ref: ModelRef, work: Iterable[Workload]) -> Stored:
        """What earlier rows make of all that the model needs."""
        needed = [*parts_made(ref)]
        found: Stored = {}
        for each in work:
            for label in {part.model for part in needed}:
                own = (part for part in needed if part.model == label)
                made = [part.what for part in own if (part.what, part.key, each.label) in self._made]
                found[label, each.label] = frozenset(made)
        return found

    def add(self, ref: ModelRef, dataset: str) -> None:
        """Record that a row makes all that the model needs of a dataset."""
        self._made |= {(part.what, part.key, dataset) for part in parts_made(ref)}


def base_of(ref: ModelRef) -> ModelRef:
    """The model whose vectors a transform or a pooling changes; any other model itself."""
    return base_of(ref.members[0]) if ref.spec.kind in ("transform", "pooling") else ref


def bases_of(ref: ModelRef) -> list[ModelRef]:
    """The models with vectors of their own that a model is made of, itself included."""
    return [ref] if ref.spec.kind in FORMATS else [base for member in ref.members for base in bases_of(member)]


def _vectors_key(ref: ModelRef, role: Role) -> str:
    return _key(ref, lambda: f"{ref.side_key(role)} {ref.storage if role == 'document' else ''}")


def _key(ref: ModelRef, key: Callable[[], str]) -> str:
    with suppress(UserError, PluginError):
        return key()
    passed = {name: value for name, value in ref.passed.items() if name != "truncate_dim"}
    return replace(ref, passed=passed).label  # its files are not here
