"""Transforms of stored vectors compared with brute force in float64, closed forms and invariants."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.datasets.beir import open_dataset
from harness.embeddings.derived import Derived
from harness.embeddings.store import Vectors, VectorStore
from harness.embeddings.transform import fit, mean_and_covariance, transformed
from harness.metrics.geometry import measure_geometry
from harness.metrics.ranking import read_run
from harness.models.runner import Prepared, dataset_vectors
from harness.registry.manager import load_registry
from harness.registry.model_ref import ModelRef
from harness.types import PluginError, UserError
from harness_plugins.transforms import Center, PrincipalComponents, Whiten
from tests.conftest import write_dataset

D = 12
PLUGIN = """
import json
import numpy as np
from pathlib import Path
from harness import ModelFacts, ModelSpec, hookimpl

CALLS = Path(__file__).with_name("calls")

class Table:
    dim = {dim}
    similarity = "{similarity}"
    def encode(self, texts, *, role):
        CALLS.open("a").write(role + " ")
        return np.array([json.loads(text) for text in texts], np.float32)

def load(options):
    return Table()

def fingerprint(options):
    return {{"name": "table", "similarity": "{similarity}"}}

@hookimpl
def harness_models():
    yield ModelSpec("table", "dense", f"{{__name__}}:load", "vectors as texts", similarity="{similarity}",
                    fingerprint=f"{{__name__}}:fingerprint", facts=ModelFacts(dim={stated}))
"""


def skewed(n: int, seed: int, d: int = D) -> np.ndarray:
    """Anisotropic, off centre, on a grid fine enough that no two distances tie."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n, d)) * np.geomspace(8, 0.5, d) + np.linspace(3, -3, d)
    return (np.round(rows * 4096) / 4096).astype(np.float32)


class Case:
    """A dataset whose texts are vectors, and a model that reads them."""

    def __init__(self, folder: Path, similarity: str = "euclidean", n: int = 150, q: int = 20, stated: int = 0):
        self.documents, self.queries = skewed(n, 1), skewed(q, 2)
        documents = {f"d{i:03}": json.dumps(row.tolist()) for i, row in enumerate(self.documents)}
        queries = {f"q{i:02}": json.dumps(row.tolist()) for i, row in enumerate(self.queries)}
        judged = [(f"q{i:02}", f"d{(7 * i + j) % n:03}", 1) for i in range(q) for j in range(3)]
        self.folder = write_dataset(folder / "table", documents, queries, judged)
        self.plugin = folder / "table_model.py"
        self.plugin.write_text(PLUGIN.format(dim=D, similarity=similarity, stated=stated))

    @property
    def calls(self) -> int:
        return len((self.plugin.parent / "calls").read_text().split())

    def benchmark(self, harness, *models: str) -> list[dict]:
        named = [word for model in models for word in ("-m", model)]
        done = harness("benchmark", *named, "-d", self.folder, "--plugin", self.plugin, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    def ranking(self, model: str) -> dict[str, list[str]]:
        from harness.results.store import slug

        runs = read_run(Path("results") / slug(model) / "table" / "run.trec.gz")
        return {ranking.query_id: ranking.doc_ids for ranking in runs}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def brute(documents: np.ndarray, queries: np.ndarray, similarity: str) -> dict[str, list[str]]:
    """Rankings in float64; ids break ties downwards."""
    if similarity == "cosine":
        documents, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (documents, queries))
    found = {}
    for i, query in enumerate(queries):
        scores = documents @ query if similarity == "dot" else -np.linalg.norm(documents - query, axis=1)
        order = sorted(range(len(documents)), key=lambda row: (scores[row], row), reverse=True)
        found[f"q{i:02}"] = [f"d{row:03}" for row in order]
    return found


def whitening(documents: np.ndarray, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and matrix by a singular value decomposition, unlike the implementation."""
    wide = documents.astype(np.float64)
    mean = wide.mean(axis=0)
    _, s, vt = np.linalg.svd(wide - mean, full_matrices=False)
    values = s**2 / (len(wide) - 1)
    return mean, vt.T @ np.diag(values ** (-exponent / 2))


@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_whitening_ranks_as_brute_force_in_float64(harness, tmp_path: Path, similarity: str, exponent: float) -> None:
    case = Case(tmp_path, similarity)
    label = f"whiten(table):exponent={exponent}"
    [cell] = case.benchmark(harness, label)
    assert cell["manifest"]["model"]["similarity"] == similarity
    documents, queries = case.documents.astype(np.float64), case.queries.astype(np.float64)
    if similarity == "cosine":
        documents, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (documents, queries))
    mean, matrix = whitening(documents, exponent)
    assert case.ranking(label) == brute((documents - mean) @ matrix, (queries - mean) @ matrix, similarity)


def test_a_chain_is_its_steps_one_after_the_other(harness, case: Case) -> None:
    label = "whiten(pca(center(table)):dim=5):exponent=0.5"
    case.benchmark(harness, label)
    documents, queries = case.documents.astype(np.float64), case.queries.astype(np.float64)
    mean, rotation = whitening(documents, 0)
    first, asked = ((x - mean) @ rotation[:, :5] for x in (documents, queries))
    middle, matrix = whitening(first, 0.5)
    assert case.ranking(label) == brute((first - middle) @ matrix, (asked - middle) @ matrix, "euclidean")


def test_what_must_not_change_ranks_does_not(harness, case: Case) -> None:
    """Distances are invariant to translation and rotation."""
    labels = ["table", "center(table)", "whiten(table):exponent=0.0", f"pca(table):dim={D}"]
    cells = case.benchmark(harness, *labels)
    assert len({json.dumps(cell["measures"]) for cell in cells}) == 1
    plain = case.ranking("table")
    assert all(case.ranking(label) == plain for label in labels[1:])
    assert len({round(cell["geometry"]["documents"]["isotropy"], 6) for cell in cells}) == 1


def test_cosine_does_know_where_the_origin_is(harness, tmp_path: Path) -> None:
    case = Case(tmp_path, "cosine")
    cells = case.benchmark(harness, "table", "center(table)", "center(table):similarity=euclidean")
    cosines = [cell["geometry"]["documents"]["mean_cosine"] for cell in cells]
    assert cosines[0] > 0.1 > abs(cosines[1])
    assert cells[2]["manifest"]["model"]["similarity"] == "euclidean"
    assert case.ranking("table") == case.ranking("center(table):similarity=euclidean") != case.ranking("center(table)")


def test_whole_whitening_makes_the_documents_covariance_the_identity(case: Case, home: Path) -> None:
    registry = load_registry([case.plugin])
    dataset = open_dataset(case.folder, cache=home)
    both = dataset_vectors(Prepared(registry.model("whiten(table)"), home), dataset)
    documents = both["document"][0].gather(np.arange(len(case.documents)))
    np.testing.assert_allclose(np.cov(documents.astype(np.float64), rowvar=False), np.eye(D), atol=1e-6)
    np.testing.assert_allclose(documents.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    assert both["query"][0].dim == D


def test_nothing_is_encoded_again(harness, case: Case) -> None:
    case.benchmark(harness, "table")
    before = case.calls
    cells = case.benchmark(harness, "table", "whiten(table)", "pca(whiten(table)):dim=3", "whiten(table)")
    assert case.calls == before
    assert [cell["cell"] for cell in cells] == ["cached", "ok", "ok"]
    assert [cell["cell"] for cell in case.benchmark(harness, "whiten(table)")] == ["cached"]
    assert cells[1]["manifest"]["model"]["fingerprint"]["fitted_on"] == "the dataset's documents"
    assert cells[1]["geometry"]["documents"]["isotropy"] == pytest.approx(1, abs=1e-6)
    assert cells[2]["geometry"]["documents"]["d"] == 3


def test_another_corpus_gives_another_map_and_other_vectors(harness, case: Case, tmp_path: Path) -> None:
    case.benchmark(harness, "whiten(table)")
    records = (case.folder / "corpus.jsonl").read_text().splitlines(keepends=True)
    (case.folder / "corpus.jsonl").write_text("".join(records[:100]))
    case.documents = case.documents[:100]
    [cell] = case.benchmark(harness, "whiten(table)")
    assert cell["cell"] == "ok"
    mean, matrix = whitening(case.documents, 1)
    wide = case.documents.astype(np.float64), case.queries.astype(np.float64)
    assert case.ranking("whiten(table)") == brute(*((x - mean) @ matrix for x in wide), "euclidean")


def test_it_is_a_member_an_index_and_a_panel_like_any_dense_model(harness, case: Case) -> None:
    pytest.importorskip("faiss")
    [fused] = case.benchmark(harness, "rrf(table,whiten(table))")
    assert set(fused["manifest"]["model"]["members"][1]["members"][0]) >= {"key", "label"}
    named = ["-m", "pca(table):dim=4", "-d", case.folder, "--plugin", case.plugin]
    done = harness("benchmark", *named, "--index", "Flat", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[1]["index"]["recall@100"] == 1
    done = harness("isotropy", *named, "--json")
    assert json.loads(done.out)["documents"]["d"] == 4


class Named:
    """One step of a chain."""

    def __init__(self, transform: object) -> None:
        self.label, self.transform = "it", transform


def spread(n: int, d: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((n, d)) * np.geomspace(5, 0.2, d)).astype(np.float32)


def test_whitened_by_another_sample_isotropy_reaches_its_ceiling_in_expectation() -> None:
    """The ceiling is what n draws of an isotropic Gaussian reach: whitening fitted on very many others makes them that.

    Whitening fitted on the very documents makes every eigenvalue 1, which no draw does: the score is then 1.
    """
    d, n = 32, 400
    many = Vectors.of(spread(60_000, d, 1))
    whole = fit([Named(Whiten(None, 1.0))], *mean_and_covariance(many))
    scores = []
    for seed in range(2, 10):
        rows = (spread(n, d, seed) @ whole.matrix + whole.offset).astype(np.float32)
        panel = measure_geometry([rows], n)
        scores.append(panel["isotropy"])
    assert np.mean(scores) == pytest.approx(panel["isotropy_ceiling"], abs=0.02)
    own = Vectors.of(spread(n, d, 2))
    matrix, offset = fit([Named(Whiten(None, 1.0))], *mean_and_covariance(own))
    assert measure_geometry([(spread(n, d, 2) @ matrix + offset).astype(np.float32)], n)["isotropy"] > 0.9999


@pytest.mark.parametrize("step", [Whiten(None, 1.0), Whiten(None, 0.25), PrincipalComponents(None, 20)])
def test_directions_without_variance_are_left_out_not_blown_up(step: object) -> None:
    """Ten documents span nine dimensions; the others contain float32 noise."""
    rows = spread(10, 20, 3) + np.float32(100)
    matrix, offset = fit([Named(Center(None)), Named(step)], *mean_and_covariance(Vectors.of(rows)))
    new = rows.astype(np.float64) @ matrix + offset
    assert np.linalg.matrix_rank(matrix, tol=1e-9) <= 9
    if isinstance(step, Whiten):
        spectrum = np.sort(np.linalg.eigvalsh(np.cov(new, rowvar=False)))[::-1]
        own = np.sort(np.linalg.eigvalsh(np.cov(rows.astype(np.float64), rowvar=False)))[::-1]
        np.testing.assert_allclose(spectrum[:9], np.sort(own[:9] ** (1 - step.exponent))[::-1], rtol=1e-6)
        np.testing.assert_allclose(spectrum[9:], 0, atol=1e-9)


def test_blocks_and_interruptions_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.embeddings.transform.SHARD_ROWS", 64)
    rows = spread(300, 8, 4)
    source = Vectors.of(rows[:123], rows[123:])
    affine = fit([Named(Whiten(None, 0.5))], *mean_and_covariance(source))
    asked = []

    def once() -> object:
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return affine

    def make() -> Vectors:
        store = VectorStore(tmp_path, "a" * 64, "document")
        shards = transformed(source, once, Derived(store, "c", "euclidean", lambda done, total: None))
        return Vectors.open(store, shards)

    with pytest.raises(KeyboardInterrupt):
        make()
    asked[:] = [0] * 10
    found = make()
    assert len(asked) == 12, "the three finished shards are kept"
    expected = (rows.astype(np.float64) @ affine.matrix + affine.offset).astype(np.float32)
    np.testing.assert_array_equal(found.gather(np.arange(300)), expected)
    make()
    assert len(asked) == 12


def test_documents_all_alike_cannot_be_whitened() -> None:
    mean, covariance = mean_and_covariance(Vectors.of(np.ones((5, 4), np.float32)))
    with pytest.raises(PluginError, match="all alike"):
        fit([Named(Whiten(None, 1.0))], mean, covariance)
    matrix, offset = fit([Named(Center(None))], mean, covariance)
    np.testing.assert_array_equal(np.ones((5, 4)) @ matrix + offset, 0)


def test_a_transform_that_gives_no_map_is_named() -> None:
    class Wrong:
        def fit(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full((4, 4), np.nan), mean

    with pytest.raises(PluginError, match="it: fit"):
        fit([Named(Wrong())], np.zeros(4), np.eye(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whiten", "whiten changes the vectors of one model, not of 0"),
        ("whiten(bm25,bm25:k1=1.0)", "not of 2"),
        ("whiten(bm25)", "bm25 is a lexical model, which has none"),
        ("whiten(rrf(bm25,bm25:k1=1.0))", "is a fusion model, which has none"),
        ("whiten(minilm):exponent=-1", "below 0"),
    ],
)
def test_mistakes_are_told_at_once(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_registry().model(text)


def test_too_many_components_are_told_before_any_work(harness, tmp_path: Path) -> None:
    case = Case(tmp_path, stated=D)
    done = harness("benchmark", "-m", "pca(whiten(table)):dim=13", "-d", case.folder, "--plugin", case.plugin)
    assert done.code == 2
    assert "pca cannot keep 13 of 12 dimensions" in done.err
    assert not (case.plugin.parent / "calls").exists()


def test_it_is_checked_as_every_model_is(harness, case: Case, tmp_path: Path) -> None:
    plugin = tmp_path / "bytes_model.py"
    plugin.write_text(
        PLUGIN.format(dim=256, similarity="cosine", stated=0).replace(
            "json.loads(text) for", "np.bincount(np.frombuffer(text.encode() or b'a', np.uint8), minlength=256) for"
        )
    )
    for model, code in (("whiten(pca(table):dim=7):exponent=0.5", 0), ("pca(table):dim=300", 1)):
        done = harness("check", model, "--plugin", plugin)
        assert done.code == code, done.out + done.err


def test_labels_keep_what_was_passed() -> None:
    ref: ModelRef = load_registry().model("pca(whiten(center(minilm)):exponent=0.5):dim=64,similarity=cosine")
    assert ref.label == "pca(whiten(center(minilm)):exponent=0.5):dim=64,similarity=cosine"
    assert load_registry().model(ref.label).label == ref.label
    assert ref.trained_on == load_registry().model("minilm").trained_on
