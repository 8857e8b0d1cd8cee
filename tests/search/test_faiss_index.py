"""Approximate indexes: against brute force in float64, against FAISS itself, and against damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.embeddings.store import Vectors
from harness.search.ann_eval import index_costs, recall
from harness.search.faiss_index import INDEX, IndexRecord, build_index, load_index, search_index, summarise
from harness.search.faiss_index import hits as hits_of
from harness.search.index_config import IndexConfig, parse_index_config
from harness.search.index_record import StoredIndex
from harness.types import Hits, Similarity, UserError

faiss = pytest.importorskip("faiss", reason="approximate indexes need faiss (the dense extra)")

N, D, QUERIES = 3000, 48, 40


def clustered(n: int, seed: int) -> NDArray[np.float32]:
    """float32 [n, D] of unit length, in fifty clusters."""
    centres = np.random.default_rng(0).standard_normal((50, D))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, 50, n)] + 1.2 * generator.standard_normal((n, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


DOCUMENTS, ASKED = clustered(N, 1), clustered(QUERIES, 2)
VECTORS = Vectors.of(DOCUMENTS[:700], DOCUMENTS[700:1000], DOCUMENTS[1000:])


def brute_force(similarity: Similarity, documents: NDArray[np.float32] = DOCUMENTS) -> NDArray[np.float64]:
    """float64 [QUERIES, n] scores, greater is better."""
    x, q = documents.astype(np.float64), ASKED.astype(np.float64)
    return q @ x.T if similarity == "dot" else -np.sqrt(np.square(q[:, None] - x[None]).sum(axis=2))


def made(
    config: IndexConfig, home: Path, vectors: Vectors = VECTORS, similarity: Similarity = "cosine"
) -> StoredIndex[IndexRecord]:
    return build_index(config, vectors, summarise(vectors), similarity, home, lambda *_: None)


def found(config: IndexConfig, home: Path, k: int, similarity: Similarity = "cosine") -> list[Hits]:
    built = made(config, home, similarity=similarity)
    index = load_index(built, config)
    return hits_of(search_index(index, ASKED, k), similarity, ASKED, index)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_flat_is_brute_force(similarity: Similarity, tmp_path: Path) -> None:
    scores = brute_force(similarity)
    for own, hits in zip(scores, found(parse_index_config("Flat"), tmp_path, 100, similarity), strict=True):
        assert len(np.unique(hits.rows)) == 100
        np.testing.assert_allclose(own[hits.rows], -np.sort(-own)[:100], atol=1e-6)  # order, up to float32
        np.testing.assert_allclose(hits.scores, own[hits.rows], atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "parameters", "least", "trained"),
    [
        ("IVF32,Flat", "nprobe=32", 0.999, N),
        ("IVF32,Flat", "nprobe=8", 0.9, N),
        ("HNSW32", "efSearch=128", 0.97, 0),
        ("SQ8", "", 0.97, N),
        ("PQ24x6np", "", 0.5, N),
        ("IVF32,PQ24x6np", "nprobe=16", 0.5, N),
        ("PCA24,SQ8", "", 0.5, N),
    ],
)
def test_kinds_of_indexes_find_what_is_near(factory, parameters, least, trained, tmp_path: Path) -> None:
    config = parse_index_config(factory, parameters)
    built = made(config, tmp_path)
    index = load_index(built, config)
    hits = hits_of(search_index(index, ASKED, 10), "cosine", ASKED, index)
    near = np.argsort(-brute_force("cosine"), axis=1)[:, :10]
    own = np.mean([len({*one.rows.tolist()} & {*true.tolist()}) / 10 for one, true in zip(hits, near, strict=True)])
    assert own >= least
    exact = [Hits(true, np.sort(-s)[:10] * -1) for true, s in zip(near, brute_force("cosine"), strict=True)]
    assert recall(hits, exact, 10) == pytest.approx(own, abs=1e-12)
    assert built.record.train_rows == trained
    assert built.record.bytes == (built.folder / INDEX).stat().st_size
    assert built.record.build_seconds >= built.record.train_seconds >= 0
    assert (built.record.documents, built.record.dim, built.record.faiss) == (N, D, faiss.__version__)
    assert faiss.read_index(str(built.folder / INDEX)).ntotal == N


def test_more_probes_find_more_in_one_and_the_same_file(tmp_path: Path) -> None:
    near = np.argsort(-brute_force("cosine"), axis=1)[:, :10]
    shares = []
    for probes in (1, 4, 32):
        hits = found(parse_index_config("IVF32,Flat", f"nprobe={probes}"), tmp_path, 10)
        shares.append(np.mean([np.isin(true, one.rows).mean() for one, true in zip(hits, near, strict=True)]))
    assert shares[0] < shares[1] <= shares[2]
    assert shares[2] > 0.999
    assert len(list((tmp_path / "faiss").iterdir())) == 1


def test_too_few_candidates_are_dropped_not_invented(tmp_path: Path) -> None:
    hits = found(parse_index_config("IVF32,Flat", "nprobe=1"), tmp_path, N)
    assert 0 < min(len(one.rows) for one in hits) <= max(len(one.rows) for one in hits) < N
    assert all(one.rows.min() >= 0 and len(one.rows) == len(one.scores) for one in hits)
    assert len(found(parse_index_config("Flat"), tmp_path, 2 * N)[0].rows) == N


@pytest.mark.parametrize("factory", ["Flat", "IVF32,PQ12x4np"])
def test_no_digit_of_a_search_depends_on_the_number_of_threads(factory: str, tmp_path: Path, monkeypatch) -> None:
    index = load_index(made(config := parse_index_config(factory), tmp_path), config)
    asked = clustered(4000, 3)  # so many that FAISS multiplies matrices
    before, answers = faiss.omp_get_max_threads(), []
    try:
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            monkeypatch.setattr("harness.search.faiss_index.cores", lambda threads=threads: threads)
            answers.append([array.tobytes() for block in search_index(index, asked, 20) for array in block])
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("factory", ["HNSW16", "IVF32,PQ12x4np", "PCA24,SQ8"])
def test_the_same_vectors_give_the_same_file(factory: str, tmp_path: Path) -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        files = [made(parse_index_config(factory), tmp_path / name).folder / INDEX for name in ("a", "b")]
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_sample_is_drawn_as_stated(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("harness.search.faiss_index.TRAIN_ROWS", 500)
    monkeypatch.setattr("harness.search.faiss_index.ROWS_PER_LIST", 20)
    asked = []
    monkeypatch.setattr(VECTORS, "gather", lambda rows: asked.append(rows) or DOCUMENTS[rows], raising=False)
    assert made(parse_index_config("SQ8"), tmp_path).record.train_rows == 500
    assert made(parse_index_config("IVF32,Flat"), tmp_path).record.train_rows == 640
    assert made(parse_index_config("HNSW8"), tmp_path).record.train_rows == 0
    assert [len(np.unique(rows)) for rows in asked] == [500, 640]
    assert asked[0].tolist() == sorted(np.random.default_rng(0).choice(N, 500, replace=False).tolist())


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", "HNSW16"])
def test_a_zero_vector_has_cosine_0(factory: str, tmp_path: Path) -> None:
    documents, asked = DOCUMENTS.copy(), ASKED.copy()
    documents[[5, 70, 900]], asked[3] = 0, 0
    built = made(
        config := parse_index_config(factory, "nprobe=8" if "IVF" in factory else ""), tmp_path, Vectors.of(documents)
    )
    index = load_index(built, config)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    cosines = asked.astype(np.float64) @ documents.astype(np.float64).T
    for query, hits in enumerate(hits_of(search_index(index, asked, N), "cosine", asked, index)):
        np.testing.assert_allclose(1 - hits.scores**2 / 2, cosines[query, hits.rows], atol=1e-6)
    index = load_index(made(config, tmp_path, VECTORS), config)
    hits = hits_of(search_index(index, asked, 10), "cosine", asked, index)
    assert index.metric_type == faiss.METRIC_L2
    assert (hits[3].scores == -np.sqrt(2)).all()


@pytest.mark.parametrize("exponent", [-60, 60])
def test_vectors_beyond_the_range_of_float32_squares_are_refused(exponent: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="omit --index"):
        made(parse_index_config("Flat"), tmp_path, Vectors.of(np.ldexp(DOCUMENTS, exponent)), "euclidean")


def test_a_stored_index_is_reused_while_it_is_whole(tmp_path: Path) -> None:
    config = parse_index_config("IVF32,Flat")
    built = made(config, tmp_path)
    file, record = built.folder / INDEX, built.folder / "record.json"
    whole, first = file.read_bytes(), file.stat().st_mtime_ns
    assert made(config, tmp_path) == built
    assert file.stat().st_mtime_ns == first
    file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(UserError, match="changed while it was in use"):
        load_index(built, config)  # FAISS is never given a file that is not the recorded one
    assert made(config, tmp_path).record.sha256 == built.record.sha256
    assert file.read_bytes() == whole
    for damage in (b"", b"{}", b"[1]", record.read_bytes().replace(b'"bytes"', b'"octets"')):
        record.write_bytes(damage)
        assert made(config, tmp_path).record.bytes == len(whole)
        assert json.loads(record.read_bytes())["sha256"] == built.record.sha256


def test_other_vectors_factories_and_similarities_are_other_indexes(tmp_path: Path) -> None:
    config, changed = parse_index_config("Flat"), DOCUMENTS.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], 2)
    folders = {
        made(config, tmp_path).folder,
        made(config, tmp_path, Vectors.of(changed)).folder,
        made(config, tmp_path, similarity="dot").folder,
        made(parse_index_config("SQfp16"), tmp_path).folder,
    }
    assert len(folders) == 4
    assert made(config, tmp_path, Vectors.of(DOCUMENTS)).folder in folders  # shards do not matter


def test_recall_counts_ties_by_score_and_few_documents_as_all() -> None:
    exact = [Hits(np.array([4, 7, 9, 2]), np.array([0.9, 0.5, 0.5, 0.1]))]
    one = np.array([1.0, 1.0])
    assert recall([Hits(np.array([4, 9]), one)], exact, 2) == 1.0  # 9 ties with 7, the second
    assert recall([Hits(np.array([4, 2]), one)], exact, 2) == 0.5
    assert recall([Hits(np.array([2, 4, 7]), np.ones(3))], exact, 2) == 0.5  # only the first two count
    assert recall([Hits(np.array([4, 7]), one)], exact, 10) == 0.5
    assert recall([Hits(np.array([], np.int64), np.array([]))], exact, 1) == 0.0


def test_cost_is_exact_minus_approximate() -> None:
    told = index_costs({"served": {"nDCG@10": 0.25}}, {"nDCG@10": 0.5, "R@100": 0.75}, {"nDCG@10": 0.5, "R@100": 1.0})
    assert told["cost"] == {"nDCG@10": 0.0, "R@100": 0.25}
    assert told["served"]["cost"] == {"nDCG@10": 0.25}
    assert told["exact"] == {"nDCG@10": 0.5, "R@100": 1.0}


@pytest.mark.parametrize(
    ("factory", "parameters", "said"),
    [
        ("Bogus", "", "could not parse index string Bogus"),
        ("IVF64(", "", "unbalanced"),
        ("", "", "'' is not a FAISS factory string"),
        ("IVF64,Flat; rm", "", "not a FAISS factory string"),
        ("IVF99999999999,Flat", "", "not a FAISS factory string"),
        ("IVF64,Flat", "efSearch=3", "could not set parameter efSearch"),
        ("Flat", "nprobe=3", "could not set parameter nprobe"),
        ("IVF64,Flat", "nprobe=-1", "not what FAISS calls search parameters"),
        ("IVF64,Flat", "nprobe", "not what FAISS calls search parameters"),
    ],
)
def test_a_bad_string_is_named_before_any_work(factory: str, parameters: str, said: str) -> None:
    with pytest.raises(UserError, match="--index HNSW32") as raised:
        parse_index_config(factory, parameters)
    assert said in str(raised.value)
    assert "/project" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "rows", "said"),
    [
        ("PQ7", N, r"'PQ7' of 48 dimensions \(The dimension of the vector \(d\) should be a multiple"),
        ("IVF64,Flat", 50, "has 50 vectors .* at most 50 lists .* --index IVF1,Flat"),
        ("PQ8np", 200, "learns 256 centroids, but there are only 200 vectors"),
        ("IDMap,Flat", N, "add does not make sense with IndexIDMap"),
        ("PCA64,Flat", N, "of 48 dimensions"),
    ],
)
def test_what_does_not_fit_the_vectors_is_said_in_one_sentence(factory, rows, said, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        made(parse_index_config(factory), tmp_path, Vectors.of(DOCUMENTS[:rows]))
    assert not list(tmp_path.rglob(INDEX))


def test_no_probe_at_all_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FAISS could not search"):
        found(parse_index_config("IVF32,Flat", "nprobe=0"), tmp_path, 10)


def test_a_full_disk_is_said_to_be_full(monkeypatch, tmp_path: Path) -> None:
    real = faiss.write_index
    monkeypatch.setattr(faiss, "write_index", lambda index, path: real(index, "/dev/full"))
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match="The disk is full"):
        made(parse_index_config("Flat"), tmp_path)
    assert not list(tmp_path.rglob("record.json"))


def test_labels_are_unlike_any_models_with_options() -> None:
    index = parse_index_config("IVF64,Flat", "nprobe=8")
    assert index.label("minilm") == "minilm|IVF64,Flat|nprobe=8"
    assert index.label("minilm:dtype=float32") == "minilm|IVF64,Flat|nprobe=8:dtype=float32"
    assert parse_index_config("Flat").label("minilm:query_prompt=x") != "minilm:query_prompt=x|Flat"
