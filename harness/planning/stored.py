"""What of a plan is stored already, or will be by the time a row needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness.datasets.beir import Dataset
from harness.models.runner import Prepared, pooling_store, transform_store
from harness.planning.workload import Workload
from harness.registry.model_ref import ModelRef
from harness.search.lexical import index_folder, index_owner
from harness.storage.bundles import belongs
from harness.types import ROLES, PluginError, Role, UserError

Stored = dict[tuple[str, str], frozenset[str]]
"""(model, dataset) -> what is stored: vectors ("document", "query") or "index"."""


def stored_parts(model: Prepared | str, work: Sequence[Workload], home: Path) -> Stored:
    """What is stored of a model and of those whose vectors it changes, of datasets that are on this machine."""
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
    """The model, and for a transform or a pooling those that it is made of."""
    yield model
    if model.ref.spec.kind in ("transform", "pooling"):
        yield from _sources(model.members[0])


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


class SharedVectors:
    """Vectors that the rows of a plan compute, so that later rows with the same vectors count them as stored."""

    def __init__(self) -> None:
        """No row yet."""
        self._made: set[tuple[str, Role, str]] = set()

    def of(self, ref: ModelRef, work: Iterable[Workload]) -> Stored:
        """The vectors that earlier rows compute, of the model or of the one whose vectors it changes."""
        base = base_of(ref)
        found: Stored = {}
        for each in work:
            made = [role for role in ROLES if (_vectors_key(base, role), role, each.label) in self._made]
            found[base.label, each.label] = frozenset(made)
        return found

    def add(self, ref: ModelRef, dataset: str) -> None:
        """Record that a row computes the vectors of a dataset."""
        if ref.vectors:
            self._made |= {(_vectors_key(base_of(ref), role), role, dataset) for role in ROLES}


def base_of(ref: ModelRef) -> ModelRef:
    """The model whose vectors a transform or a pooling changes; any other model itself."""
    return base_of(ref.members[0]) if ref.spec.kind in ("transform", "pooling") else ref


def _vectors_key(ref: ModelRef, role: Role) -> str:
    with suppress(UserError, PluginError):  # its files are not here
        return f"{ref.side_key(role)} {ref.storage if role == 'document' else ''}"
    return ref.label
