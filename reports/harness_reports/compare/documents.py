"""The first documents of a run, and their texts if the corpus is on this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from harness.datasets.corpus import open_corpus
from harness.metrics.ranking import read_run
from harness.storage.atomic import file_state
from harness.storage.safe_load import read_json
from harness.types import Document, UserError


def first_documents(run: Path, queries: Collection[str], count: int) -> dict[str, list[str]]:
    """Query id -> its first documents, best first, from a gzipped TREC run.

    Only these queries' lines are parsed. UserError with the reason if the file is missing, corrupt or not a run.
    """
    try:
        return {found.query_id: list(found.doc_ids[:count]) for found in read_run(run, known=queries, only=queries)}
    except UserError as error:
        raise UserError(f"it cannot be read ({error}); make it again with harness benchmark") from error


def local_documents(corpora: Path, sha256: str, ids: Iterable[str]) -> dict[str, Document]:
    """Documents by id from a corpus of that checksum which this machine has read before; empty if there is none.

    ``corpora`` is the folder of corpus indices: each names its corpus file. Nothing is fetched and nothing indexed.
    """
    for index in sorted(corpora.glob("*/index.json")):
        try:
            stated = read_json(index)
            path = Path(stated["path"])
            facts = file_state(path.stat())
            if stated["sha256"] != sha256 or any(stated[name] != value for name, value in facts.items()):
                continue
            with open_corpus(path, corpora) as corpus:
                names = list(dict.fromkeys(ids))
                rows = corpus.rows(names).tolist()
                return {name: corpus[row] for name, row in zip(names, rows, strict=True) if row >= 0}
        except (OSError, ValueError, KeyError, TypeError, UserError):  # not at hand after all
            continue
    return {}
