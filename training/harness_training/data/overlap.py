"""Exact and near duplicates of a test set's queries and relevant documents among training texts.

Texts are compared as lists of words in lower case, without punctuation. Exact duplicates have the same words. Near
duplicates have a Jaccard similarity of their word pairs of at least a threshold. MinHash (Broder 1997) with locality
sensitive hashing proposes candidates, and their exact similarity is computed; with `BANDS` bands of `ROWS` rows a pair
of similarity 0.8 is missed with a probability below 1e-7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice, pairwise
from typing import Any, NamedTuple

from harness.datasets.beir import Dataset
from harness.results.overlap import Overlap
from harness.types import Progress, UserError

BANDS, ROWS = 32, 4
BATCH = 1000
"""Training texts that are hashed at a time."""
EXAMPLES = 100
"""Duplicates whose texts are kept, the most similar ones."""
WORD = re.compile(r"\w+")


class TrainingTexts(NamedTuple):
    """The texts of a training set, with what identifies it."""

    name: str
    key: str
    trained_on: Sequence[str]
    texts: Iterable[str]
    total: int
    """How many."""


class Match(NamedTuple):
    """The training text most similar to a text of the test set."""

    similarity: float
    text: str
    exact: bool


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation."""
    return tuple(WORD.findall(text.casefold()))


def shingles(found: Sequence[str]) -> frozenset[str]:
    """The pairs of neighbouring words; the word itself where there is one."""
    return frozenset(f"{one} {other}" for one, other in pairwise(found)) or frozenset(found)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over that of the union; 0 for two empty sets."""
    return len(one & other) / (len(one | other) or 1)


@dataclass
class DuplicateSearch:
    """Searches training texts for duplicates of known texts."""

    threshold: float
    best: dict[str, Match] = field(default_factory=dict)
    """Key of a known text -> its most similar training text, if one is a duplicate."""
    _exact: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _sets: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        datasketch = _datasketch()
        self._hashes = datasketch.MinHash
        self._index = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))

    def add(self, texts: Iterable[tuple[str, str]]) -> None:
        """Adds known texts with their keys; a key may have several texts. Texts without words are left out."""
        known = [(key, found) for key, text in texts if (found := words(text))]
        sets = [shingles(found) for _, found in known]
        for (key, found), own, signature in zip(known, sets, self._signatures(sets), strict=True):
            self._exact.setdefault(found, []).append(key)
            self._index.insert(len(self._sets), signature, check_duplication=False)
            self._sets.append((key, own))

    def search(self, texts: Iterable[str]) -> None:
        """Compares training texts with all known texts; equal texts once."""
        fresh = ((text, found) for text in texts if (found := self._unseen(text)))
        while batch := list(islice(fresh, BATCH)):
            sets = [shingles(found) for _, found in batch]
            for (text, found), own, signature in zip(batch, sets, self._signatures(sets), strict=True):
                for key in self._exact.get(found, ()):
                    self.best[key] = Match(1.0, text, exact=True)
                for place in self._index.query(signature):
                    key, other = self._sets[place]
                    similarity = jaccard(own, other)
                    before = self.best.get(key)
                    if similarity >= self.threshold and (before is None or similarity > before.similarity):
                        self.best[key] = Match(similarity, text, exact=False)

    def _unseen(self, text: str) -> tuple[str, ...]:
        """The words of a text that was not searched before; empty for one that was."""
        found = words(text)
        digest = blake2b(" ".join(found).encode(), digest_size=16).digest()
        if digest in self._seen:
            return ()
        self._seen.add(digest)
        return found

    def _signatures(self, sets: Sequence[frozenset[str]]) -> Iterator[Any]:
        encoded = ([each.encode() for each in own] for own in sets)
        return iter(self._hashes.generator(encoded, num_perm=BANDS * ROWS, seed=1))


def find_overlap(
    training: TrainingTexts, dataset: Dataset, threshold: float = 0.8, progress: Progress = lambda *_: None
) -> Overlap:
    """Looks for a test set's judged queries and their relevant documents among training texts.

    A relevant document counts as seen if the training set has it with or without its title.
    """
    relevant = {query: [doc for doc, grade in judged.items() if grade > 0] for query, judged in dataset.qrels.items()}
    ids = list(dict.fromkeys(doc for docs in relevant.values() for doc in docs))
    documents = {
        doc: dataset.corpus[row] for doc, row in zip(ids, dataset.corpus.rows(ids).tolist(), strict=True) if row >= 0
    }
    duplicates = DuplicateSearch(threshold)
    progress(f"hashing {dataset.label}", 0, 0)
    duplicates.add((f"q{query.id}", query.text) for query in dataset.queries)
    duplicates.add((f"d{doc}", document.content) for doc, document in documents.items())
    duplicates.add((f"d{doc}", document.text) for doc, document in documents.items() if document.title)
    duplicates.search(_counted(training, progress))
    queries = {query.id: match for query in dataset.queries if (match := duplicates.best.get(f"q{query.id}"))}
    found = {doc: match for doc in documents if (match := duplicates.best.get(f"d{doc}"))}
    seen = {query: "document" for query, docs in relevant.items() if not found.keys().isdisjoint(docs)}
    seen |= {query: _kind(match) for query, match in queries.items()}
    texts = {query.id: query.text for query in dataset.queries}
    examples = [_example("query", query, texts[query], match) for query, match in queries.items()]
    examples += [_example("document", doc, documents[doc].content, match) for doc, match in found.items()]
    return Overlap(
        training=training.name,
        training_key=training.key,
        trained_on=list(training.trained_on),
        dataset=dataset.name,
        split=dataset.split,
        corpus=dataset.corpus.sha256,
        threshold=threshold,
        queries=_counts(len(dataset.queries), queries.values()),
        documents=_counts(len(documents), found.values()),
        seen=seen,
        examples=sorted(examples, key=lambda each: -each["similarity"])[:EXAMPLES],
    )


def _counted(training: TrainingTexts, progress: Progress) -> Iterator[str]:
    for number, text in enumerate(training.texts):
        if number % BATCH == 0:
            progress(f"comparing the texts of {training.name} (texts)", number, training.total)
        yield text


def _kind(match: Match) -> str:
    return "exact" if match.exact else "near"


def _counts(total: int, matches: Iterable[Match]) -> dict[str, int]:
    exact = [match.exact for match in matches]
    return {"total": total, "exact": sum(exact), "near": len(exact) - sum(exact)}


def _example(side: str, key: str, text: str, match: Match) -> dict[str, Any]:
    return {"side": side, "id": key, "similarity": match.similarity, "text": text, "training_text": match.text}


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError:
        raise UserError(
            "Near duplicates are found with the package datasketch, which is not installed; type pip install "
            '"retrieval-harness[overlap]".'
        ) from None
    return datasketch
