"""Exact search: FAISS proposes in float32, float64 disposes.

FAISS computes |q|^2 + |x|^2 - 2 q.x in float32, which on anisotropic vectors loses the small differences that rank
documents, and differently for different block sizes. So both sides are centred by the corpus mean first (distances do
not change), more candidates than k are taken, and the candidates' distances are computed again in float64 from the
vectors themselves. A query whose k-th distance is too near the last candidate's to exclude a miss is searched again
with twice the margin. The result is the float64 brute-force ranking, whatever the block sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.spec import Hits, Similarity
from harness.vectors import Vectors

QUERY_BLOCK = 1024
"""Queries per FAISS call; fixed, so that its arithmetic does not depend on how many queries there are, and large enough
for its matrix products (FAISS computes pair by pair below 128,000 query elements, several times slower)."""


def search(
    queries: NDArray[np.float32],
    documents: Vectors,
    centre: NDArray[np.float64],
    k: int,
    similarity: Similarity,
    *,
    margin: int | None = None,
    block_rows: int = 65_536,
) -> Iterator[Hits]:
    """Per query, its k nearest documents and every further one that ties with the k-th, best first.

    Args:
        queries: float32 [q, d], of unit length already where the similarity is cosine.
        documents: n vectors of d dimensions.
        centre: float64 [d], the documents' mean.
        k: how many; more than n gives all n.
        similarity: cosine is Euclidean search over unit vectors; dot ranks by inner product.
        margin: further candidates taken in float32 (default: k/8 + 64).
        block_rows: documents per FAISS call.

    Yields:
        Hits with scores -|q - x| (Euclidean, cosine) or q.x (dot), float64.
    """
    n = len(documents)
    wanted = min(k, n)
    take = min(n, wanted + (k // 8 + 64 if margin is None else margin))
    found: dict[int, Hits] = {}
    todo = np.arange(len(queries))
    while len(todo):
        near, rows, reach = _candidates(queries[todo], documents, centre, take, similarity, block_rows)
        unsure = []
        for place, query in enumerate(todo.tolist()):
            hits = _exact(queries[query], rows[place], documents, similarity)
            kth = hits.scores[wanted - 1]
            # Squared distance (or negated inner product) that a document outside the candidates is at least away.
            outside = near[place, -1] - reach[place]
            if take < n and not (-kth if similarity == "dot" else kth * kth) < outside:
                unsure.append(query)
                continue
            tied = int(np.searchsorted(-hits.scores, -kth, side="right"))
            found[query] = Hits(hits.rows[:tied], hits.scores[:tied])
        todo, take = np.asarray(unsure, np.int64), min(n, take * 2)
    for query in range(len(queries)):
        yield found.pop(query)


def _candidates(
    queries: NDArray[np.float32],
    documents: Vectors,
    centre: NDArray[np.float64],
    take: int,
    similarity: Similarity,
    block_rows: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Float32 nearest ``take``: squared distances or negated inner products, ascending; rows; error bound per query."""
    import faiss

    dot = similarity == "dot"
    metric = faiss.METRIC_INNER_PRODUCT if dot else faiss.METRIC_L2
    # Inner products are ranked by q.(x - centre) = q.x - a constant of the query: only documents are centred.
    middle = centre.astype(np.float32)  # any point will do, if both sides are moved by the same
    asked = queries if dot else queries - middle
    heaps = [faiss.ResultHeap(len(part), take, keep_max=dot) for part in _parts(asked)]
    start, longest = 0, 0.0
    for block in documents.blocks(block_rows):
        centred = block - middle
        longest = max(longest, float(np.sqrt(np.einsum("ij,ij->i", centred, centred).max())))
        for part, heap in zip(_parts(asked), heaps, strict=True):
            distances, ids = faiss.knn(part, centred, min(take, len(centred)), metric=metric)
            heap.add_result(distances, ids + start)
        start += len(block)
    for heap in heaps:
        heap.finalize()
    values = np.concatenate([heap.D for heap in heaps]).astype(np.float64)
    rows = np.concatenate([heap.I for heap in heaps]).astype(np.int64)
    norms = np.sqrt(np.square(asked, dtype=np.float64).sum(axis=1))
    # Worst case of a float32 inner product of d terms (gamma_d ~ d u), of both norms, and of the centring itself.
    unit = np.finfo(np.float32).eps / 2
    longest *= 1 + queries.shape[1] * unit
    shift = float(np.sqrt(np.square(centre).sum()))
    reach = unit * (queries.shape[1] + 8) * (norms + longest) ** 2 + 4 * unit * shift * (norms + longest)
    if dot:
        values = -(values + (queries.astype(np.float64) @ middle.astype(np.float64))[:, None])
    return values, rows, reach


def _parts(queries: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [np.ascontiguousarray(queries[i : i + QUERY_BLOCK]) for i in range(0, len(queries), QUERY_BLOCK)]


def _exact(query: NDArray[np.float32], rows: NDArray[np.int64], documents: Vectors, similarity: Similarity) -> Hits:
    """The candidates in float64, best first. Rows are summed one by one alike, so equal vectors get equal scores."""
    vectors = documents.gather(rows).astype(np.float64)
    wide = query.astype(np.float64)
    scores = (vectors * wide).sum(axis=1) if similarity == "dot" else -np.sqrt(np.square(vectors - wide).sum(axis=1))
    order = np.lexsort((rows, -scores))
    return Hits(rows[order], scores[order])
