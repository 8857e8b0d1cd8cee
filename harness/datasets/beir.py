"""Opens and validates a dataset folder in BEIR format; its ``dataset.toml`` states further properties."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.corpus import Corpus, open_corpus
from harness.datasets.duplicates import conflicting_ids
from harness.datasets.jsonl import open_to_read, read_groups, read_records
from harness.datasets.overlay import Overlay
from harness.datasets.unpacked import part, unpacked
from harness.metrics.clusters import Clusters, query_clusters
from harness.metrics.qrels import read_judgements
from harness.storage.atomic import content_key
from harness.storage.safe_load import read_toml
from harness.types import Progress, Qrels, Query, UserError

STATED = {
    "name": str,
    "split": str,
    "exclude_self": bool,
    "citation": str,
    "licence": str,
    "versions": dict,
    "query_group": str,
}
"""Keys of dataset.toml and their types. ``versions`` is written when a dataset is built; its entry ``missing`` becomes
part of the fingerprint. ``query_group`` names a field of the metadata in queries.jsonl."""
SHOWN = 5
"""Number of ids in a message."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A corpus, its judged queries and their qrels. Close it, or use ``with``, to release the corpus."""

    name: str
    folder: Path
    split: str
    exclude_self: bool
    """Whether a query's own id is removed from its ranking before the cut-off at k."""
    citation: str
    corpus: Corpus
    queries: list[Query]
    """The judged queries, in the order of queries.jsonl."""
    qrels: Qrels
    """Judgements of these queries. Documents missing from the corpus stay in: they count in the ideal ranking."""
    fingerprint: dict[str, Any]
    """What the metrics depend on: hashes of the corpus, the queries (with their order) and the qrels; exclude_self; and
    the documents missing from the source of a converted dataset, if any."""
    notes: list[str]
    """Messages about tolerated faults."""
    limit: int | None = None
    """Only this many judged queries, the first ones, were kept; None: all."""
    usual_split: str = "test"
    """The default split."""
    usual_exclude_self: bool | None = None
    """The dataset's own value of ``exclude_self``; None: the same as `exclude_self`."""
    source: str = ""
    """Identity of the dataset, independent of its content: the name of a registered one, or the folder's path."""
    groups: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Query id -> group, where dataset.toml declares groups of queries that are not independent."""
    judged: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), repr=False, compare=False)
    """Corpus row of every judged document [judgements], in the order of the judgements; -1 if it is missing."""
    overlay: Overlay | None = None
    """Judgements that were added to the dataset's own; they are in `qrels`."""
    _clusters: list[Clusters] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The name and the options that differ from the defaults: ``scifact:split=train,limit=50``."""
        unusual = self.exclude_self if self.unusual else None
        overlay = self.overlay.name if self.overlay else None
        return label(self.name, "" if self.split == self.usual_split else self.split, self.limit, unusual, overlay)

    @property
    def unusual(self) -> bool:
        """Whether ``exclude_self`` differs from the dataset's own value."""
        return self.usual_exclude_self not in (None, self.exclude_self)

    def described(self) -> dict[str, Any]:
        """The entry in a result's manifest."""
        unusual = [*(["exclude_self"] if self.unusual else []), *(["overlay"] if self.overlay else [])]
        return {
            "name": self.name,
            "source": self.source,
            "exclude_self": self.exclude_self,
            **({"unusual": unusual} if unusual else {}),
            **({"overlay": self.overlay.described()} if self.overlay else {}),
            "limit": self.limit,
            "citation": self.citation,
            "fingerprint": self.fingerprint,
            "notes": self.notes,
            "clusters": self.clusters().record(),
        }

    def clusters(self) -> Clusters:
        """The clusters of its judged queries, in the order of the judgements; computed once."""
        if not self._clusters:
            self._clusters.append(query_clusters(self.qrels, [*self.qrels], self.groups))
        return self._clusters[0]

    def dicts(self) -> tuple[dict[str, dict[str, str]], dict[str, str], Qrels]:
        """Corpus, queries and qrels as beir's GenericDataLoader returns them; the whole corpus is read into memory."""
        corpus = {document.id: {"title": document.title, "text": document.text} for document in self.corpus.iter()}
        return corpus, {query.id: query.text for query in self.queries}, self.qrels

    def close(self) -> None:
        """Releases the corpus."""
        self.corpus.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def label(
    name: str,
    unusual_split: str | None,
    limit: int | None,
    exclude_self: bool | None = None,
    overlay: str | None = None,
) -> str:
    """`Dataset.label` for a dataset that need not be on this machine; defaults are None or empty."""
    own = None if exclude_self is None else str(exclude_self).lower()
    stated = (("split", unusual_split), ("exclude_self", own), ("limit", limit), ("overlay", overlay))
    options = ",".join(f"{key}={value}" for key, value in stated if value)
    return f"{name}:{options}" if options else name


def open_dataset(
    folder: Path,
    *,
    cache: Path,
    name: str | None = None,
    usual_split: str | None = None,
    split: str | None = None,
    exclude_self: bool | None = None,
    usual_exclude_self: bool | None = None,
    limit: int | None = None,
    source: str = "",
    rehash: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Opens a folder in BEIR format. Arguments take precedence over its dataset.toml.

    Args:
        folder: Holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv. corpus.jsonl.gz and queries.jsonl.gz are read if
            the plain file does not exist.
        cache: Folder for corpus indexes and for unpacked copies of gzipped files.
        name: Name of the dataset.
        usual_split: The default split, which the label does not mention.
        split: Split of the qrels.
        exclude_self: Whether a query's own document is removed from its ranking.
        usual_exclude_self: The default of ``exclude_self``, which the label does not mention.
        limit: Keep only this many judged queries.
        source: As in `Dataset.source`; default: the folder's path.
        rehash: Hash the corpus even if its index says that the file is unchanged.
        progress: Called with a text and the work done and in total.

    Raises:
        UserError: A file is missing or malformed, or a judged query is not in queries.jsonl.
    """
    corpus_file, queries_file = _parts(folder)
    stated = _stated(folder / "dataset.toml")
    name = name or stated.get("name") or folder.resolve().name
    usual_split = usual_split or stated.get("split") or "test"
    split = split or usual_split
    usual = stated.get("exclude_self", False) if usual_exclude_self is None else usual_exclude_self
    exclude_self = usual if exclude_self is None else exclude_self
    notes: list[str] = []
    qrels = _judgements(folder, split, notes)
    with unpacked(queries_file, cache, rehash=rehash) as plain:
        queries = _judged_queries(plain, qrels, split, notes)
        groups = read_groups(plain, stated["query_group"], qrels) if "query_group" in stated else {}
    if limit is not None:
        if limit < 1:
            raise UserError(f"A limit of {limit} queries leaves nothing to measure; give 1 or more.")
        if limit < len(queries):
            notes.append(f"of {len(queries)} judged queries only the first {limit} are measured")
        queries = queries[:limit]
        qrels = {query.id: qrels[query.id] for query in queries}
    with unpacked(corpus_file, cache, progress or (lambda *_: None), rehash=rehash) as plain:
        packed = corpus_file if plain != corpus_file else None
        corpus = open_corpus(plain, cache, progress, rehash=rehash, packed=packed)
        judged = corpus.rows([doc_id for judgements in qrels.values() for doc_id in judgements])
        if (count := corpus.repeated) > 0:
            notes.append(f"{count} lines of {plain.name} repeat an earlier document word for word; they count once")
        _note_dangling(corpus, qrels, judged, split, notes)
    fingerprint = {
        "corpus": corpus.sha256,
        "queries": content_key([list(query) for query in queries]),
        "qrels": content_key(qrels),
        "exclude_self": exclude_self,
    }
    if missing := stated.get("versions", {}).get("missing"):
        fingerprint["missing"] = missing
    citation = stated.get("citation", "")
    content = (corpus, queries, qrels, fingerprint, notes)
    usually = (usual_split, usual, source or str(folder.resolve()))
    return Dataset(name, folder, split, exclude_self, citation, *content, limit, *usually, groups, judged)


def with_overlay(dataset: Dataset, overlay: Overlay) -> Dataset:
    """The dataset with further judgements, which are part of its label and its fingerprint."""
    qrels = overlay.over(dataset.qrels, dataset.label)
    judged = dataset.corpus.rows([doc_id for judgements in qrels.values() for doc_id in judgements])
    fingerprint = {**dataset.fingerprint, "qrels": content_key(qrels)}
    return replace(dataset, qrels=qrels, judged=judged, fingerprint=fingerprint, overlay=overlay)


def splits(folder: Path) -> list[str]:
    """Sorted names of the splits that the folder has qrels for."""
    return sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))


def dangling(qrels: Qrels, rows: NDArray[np.int64]) -> list[str]:
    """Distinct judged documents that are not in the corpus; ``rows`` as in `Dataset.judged`."""
    judged = (doc_id for judgements in qrels.values() for doc_id in judgements)
    return list(dict.fromkeys(compress(judged, (rows < 0).tolist())))


def some(ids: list[str]) -> str:
    """The first few ids, for a message."""
    return ", ".join(ids[:SHOWN]) + (" ..." if len(ids) > SHOWN else "")


def _parts(folder: Path) -> tuple[Path, Path]:
    """Paths of the corpus and the queries, plain or gzipped; UserError if a part is missing."""
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}; give a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, "
            f"or one of the names that `harness datasets` lists."
        )
    corpus, queries = (part(folder, name) for name in ("corpus.jsonl", "queries.jsonl"))
    found = {"corpus.jsonl": corpus, "queries.jsonl": queries, "qrels/SPLIT.tsv": splits(folder)}
    missing = [name for name, held in found.items() if not held]
    if missing or not corpus or not queries:
        raise UserError(
            f"{folder} is not a dataset in BEIR format: it lacks {' and '.join(missing)}; add what is missing, or give "
            f"one of the names that `harness datasets` lists."
        )
    return corpus, queries


def _stated(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        stated = read_toml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not TOML ({error}); fix it, or remove it to use the defaults.") from error
    for key, value in stated.items():
        if key not in STATED:
            raise UserError(f"{path} has an unknown key {key!r}; the keys are {', '.join(STATED)}.")
        if not isinstance(value, STATED[key]):
            wanted = {str: 'text ("...")', bool: "true or false", dict: "a table"}[STATED[key]]
            raise UserError(f"{path}: {key} is {value!r}, but it must be {wanted}; fix that line.")
    return stated


def _judgements(folder: Path, split: str, notes: list[str]) -> Qrels:
    path = folder / "qrels" / f"{split}.tsv"
    if split not in splits(folder) or not path.is_file():
        raise UserError(
            f"{folder} has no judgements for the split {split!r}; it has {', '.join(splits(folder))}: "
            f"name one of them with --split."
        )
    found = read_judgements(path, header=True)
    notes += found.notes
    return found.qrels


def _judged_queries(path: Path, qrels: Qrels, split: str, notes: list[str]) -> list[Query]:
    found: dict[str, tuple[int, str]] = {}
    repeated, different = 0, dict[str, tuple[int, int]]()
    with open_to_read(path) as stream:
        for number, _, record in read_records(stream, path):
            earlier, text = found.setdefault(record.id, (number, record.text))
            if text != record.text:
                different.setdefault(record.id, (earlier, number))
            repeated += earlier != number and text == record.text
    if different:
        raise conflicting_ids(path, [(each, *lines) for each, lines in different.items()])
    if repeated:
        notes.append(f"{repeated} lines of {path.name} repeat an earlier query word for word; they count once")
    if missing := [query_id for query_id in qrels if query_id not in found]:
        quoted = [f'"{each}"' for each in missing if f'"{each}"' in found]
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(qrels)} queries that qrels/{split}.tsv judges ({some(missing)}); "
            + (_quotes(split, quoted) if quoted else "add them, or remove their judgements.")
        )
    return [Query(each, text) for each, (_, text) in found.items() if each in qrels]


def _note_dangling(corpus: Corpus, qrels: Qrels, judged: NDArray[np.int64], split: str, notes: list[str]) -> None:
    lost, count = dangling(qrels, judged), int((judged < 0).sum())
    if not count:
        return
    quoted = [f'"{each}"' for each in lost]
    if found := [each for each, row in zip(quoted, corpus.rows(quoted).tolist(), strict=True) if row >= 0]:
        raise UserError(f"{corpus.path} lacks {len(found)} judged documents; {_quotes(split, found)}")
    if count == len(judged):
        raise UserError(
            f"None of the {len(lost)} judged documents ({some(lost)}) is in {corpus.path}, whose ids look like "
            f"{some(corpus.ids(slice(0, 2)))}; use a corpus and qrels of the same dataset."
        )
    names = "judgements name documents" if count > 1 else "judgement names a document"
    notes.append(
        f"{count} {names} not in the corpus ({some(lost)}); measured as never retrieved, as trec_eval 10.0 does"
    )


def _quotes(split: str, ids: list[str]) -> str:
    """Message for ids that contain the quotes which are stripped when qrels are read."""
    doubled = '"' + ids[0].replace('"', '""') + '"'
    return (
        f"ids in double quotes are read without them from qrels, as BEIR does, but here the quotes belong to the id "
        f"({some(ids)}): write {doubled} in qrels/{split}.tsv, and all others likewise."
    )
