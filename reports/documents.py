"""The documents behind a cell: those a run puts first, and their texts where the corpus is on this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from harness.bounded import lines, open_gzip, read_json
from harness.corpus import open_corpus
from harness.run import rank
from harness.spec import Document, UserError


def first_documents(run: Path, queries: Collection[str], count: int) -> dict[str, list[str]]:
    """Query id -> its first documents, best first, from a packed TREC run, of which only these queries' lines are
    taken apart. UserError with the reason where the file is missing, damaged or no run."""
    wanted = {query.encode(): query for query in queries}
    found: dict[str, dict[str, float]] = {}
    try:
        with open_gzip(run) as stream:
            for line in lines(stream, run):
                if (query := wanted.get(line.split(maxsplit=1)[0] if line.strip() else b"")) is not None:
                    _, _, document, _, score, _ = line.decode().split()
                    found.setdefault(query, {})[document] = float(score)
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be read ({error}); make it again with harness benchmark") from error
    return {
        query: rank(query, list(scores), np.array(list(scores.values()), np.float32), count).doc_ids
        for query, scores in found.items()
    }


def local_documents(corpora: Path, sha256: str, ids: Iterable[str]) -> dict[str, Document]:
    """Documents by id from a corpus of that checksum which this machine has read before; empty where there is none.

    ``corpora`` is the folder of corpus indices: each names its corpus file. Nothing is fetched and nothing indexed.
    """
    for index in sorted(corpora.glob("*/index.json")):
        try:
            stated = read_json(index)
            path = Path(stated["path"])
            facts = path.stat()
            if (stated["sha256"], stated["size"], stated["mtime_ns"]) != (sha256, facts.st_size, facts.st_mtime_ns):
                continue
            with open_corpus(path, corpora) as corpus:
                names = list(dict.fromkeys(ids))
                rows = corpus.rows(names).tolist()
                return {name: corpus[row] for name, row in zip(names, rows, strict=True) if row >= 0}
        except (OSError, ValueError, KeyError, TypeError, UserError):  # not at hand after all
            continue
    return {}
