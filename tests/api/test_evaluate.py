"""`harness.evaluate` does what ``harness benchmark`` does: the same results, to the byte, and the same sentences."""

from __future__ import annotations

import copy
import gzip
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pytest

import harness as api
from harness.adapters import offline_here
from harness.registry.manager import load_registry
from harness.registry.objects import cacheable, holding, object_model
from tests.conftest import Done

pytest.importorskip("bm25s", reason="needs the bm25 extra")
Command = Callable[..., Done]
LETTERS = """
import numpy as np
from harness import ModelSpec, hookimpl

class Letters:
    dim = 256
    def encode(self, texts, *, role):
        counts = [np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256) for t in texts]
        return np.asarray(counts, np.float32)

def load(options):
    return Letters()

@hookimpl
def harness_models():
    yield ModelSpec("letters", "dense", load=f"{__name__}:load", summary="letter counts", similarity="cosine")
"""


class Letters:
    """The same model as an object."""

    def encode(self, texts: list[str]) -> list[Any]:
        return [np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256) for t in texts]


def stored(folder: Path) -> dict[str, Any]:
    """result.json without what changes from run to run."""
    content = json.loads((folder / "result.json").read_text())
    for name in ("command", "seconds", "sha256", "checksum", "seal"):
        content.pop(name, None)
    content["manifest"].pop("run")
    return content


def same(first: Path, second: Path, *, but: tuple[str, ...] = ()) -> None:
    """The two results have the same files, and the same record but for these entries of the dataset's."""
    for name in ("run.trec.gz", "per_query.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    both = [stored(folder) for folder in (first, second)]
    for each in both:
        for name in but:
            each["manifest"]["dataset"].pop(name)
    assert both[0] == both[1]


def parts(toy: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, dict[str, int]]]:
    """What beir's GenericDataLoader returns for the folder."""
    records = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    corpus = {r["_id"]: {"title": r["title"], "text": r["text"]} for r in records}
    queries = {r["_id"]: r["text"] for r in map(json.loads, (toy / "queries.jsonl").read_text().splitlines())}
    qrels: dict[str, dict[str, int]] = {}
    for line in (toy / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return corpus, queries, qrels


def test_names_and_folders_give_the_results_of_the_command(harness: Command, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(LETTERS)
    words = ("-m", "bm25:k1=2", "-m", "letters", "-d", "./toy", "--limit", 3, "--measures", "nDCG@3 R@100")
    assert harness("benchmark", *words, "--plugin", "letters.py", "--results", "typed").code == 0
    options: dict[str, Any] = {"metrics": ["nDCG@3", "R@100"], "limit": 3, "plugins": ["letters.py"]}
    found = api.evaluate(["bm25:k1=2", "letters"], "./toy", results="called", **options)
    for model in ("bm25+k1=2.0", "letters"):
        same(Path("typed") / model / "toy+limit=3", Path("called") / model / "toy+limit=3")
    typed, called = (json.loads(next(Path(name).rglob("result.json")).read_text()) for name in ("typed", "called"))
    line = "harness benchmark -m bm25:k1=2 -m letters -d ./toy --limit 3 --measures 'nDCG@3 R@100' --results called"
    assert called["command"] == line
    assert typed["measures"] == called["measures"]
    assert [cell.status for cell in found.cells] == ["ok", "ok"]
    again = api.evaluate(["bm25:k1=2"], Path("toy"), metrics="nDCG@3", limit=3, results="called", progress=False)
    assert again.cells[0].status == "cached"


@pytest.mark.parametrize("form", ["dicts", "named parts", "frames"])
def test_data_in_memory_gives_the_results_of_its_folder(form: str, harness: Command, toy: Path, tmp_path: Path) -> None:
    assert harness("benchmark", "-m", "bm25", "-d", toy, "--results", "typed").code == 0
    corpus, queries, qrels = parts(toy)
    data: Any = (corpus, queries, qrels)
    if form == "named parts":
        data = {"corpus": corpus, "queries": queries, "qrels": qrels}
    if form == "frames":
        documents = pandas.DataFrame([{"docno": key, **value} for key, value in corpus.items()])
        judged = [(query, doc, grade) for query, inner in qrels.items() for doc, grade in inner.items()]
        data = (
            documents,
            pandas.DataFrame(queries.items(), columns=["qid", "query"]),
            pandas.DataFrame(judged, columns=["qid", "docno", "label"]),
        )
    api.evaluate("bm25", {"toy": data}, results="called", progress=False)
    same(Path("typed/bm25/toy"), Path("called/bm25/toy"), but=("source",))
    [label] = api.evaluate("bm25", data, results="called", progress=False).frame()["dataset"]
    assert label.startswith("data-")


def test_an_opened_dataset_is_taken_and_stays_open(home: Path, toy: Path) -> None:
    with api.load_dataset(toy, limit=2, progress=False) as data:
        found = api.evaluate("bm25", data, progress=False)
        assert found.frame()["dataset"].tolist() == ["toy:limit=2"]
        corpus, queries, qrels = data.dicts()
    assert corpus == parts(toy)[0]
    assert list(queries) == ["q1", "q2"] == list(qrels)


def test_an_object_with_encode_gives_the_results_of_the_plugin(harness: Command, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(LETTERS)
    assert harness("benchmark", "-m", "letters", "-d", toy, "--plugin", "letters.py").code == 0
    found = api.evaluate({"object": Letters()}, toy, progress=False)
    assert (Path("results/object/toy/per_query.parquet")).read_bytes() == (
        Path("results/letters/toy/per_query.parquet")
    ).read_bytes()
    assert found.frame()["isotropy"].item() == stored(Path("results/letters/toy"))["geometry"]["documents"]["isotropy"]


def test_an_object_of_unknown_weights_is_not_cached(home: Path, toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = (api.evaluate(Letters(), toy) for _ in range(2))
    assert [each.cells[0].status for each in (first, second)] == ["ok", "ok"]
    assert first.cells[0].model == "Letters"
    assert "Letters: its weights are unknown, so its vectors and results are not reused" in capfd.readouterr().err
    assert not [*(home / "vectors").glob("*")]
    known = Letters()
    known.fingerprint = "1"  # type: ignore[attr-defined]
    assert [api.evaluate({"known": known}, toy, progress=False).cells[0].status for _ in range(2)] == ["ok", "cached"]


class Beir:
    """A model as beir has them."""

    def encode_queries(self, queries: list[str], batch_size: int = 8, **_: Any) -> Any:
        return np.array(Letters().encode(queries), np.float32)

    def encode_corpus(self, corpus: list[dict[str, str]], batch_size: int = 8, **_: Any) -> Any:
        return self.encode_queries([f"{each['title']} {each['text']}".strip() for each in corpus])


def test_a_model_of_beir_runs(home: Path, toy: Path) -> None:
    found = api.evaluate({"beir": Beir(), "letters": Letters()}, toy, progress=False).frame()
    assert found["nDCG@10"].nunique() == 1


def test_a_lexical_and_a_reranking_object_run(home: Path, toy: Path) -> None:
    class Reverse:
        depth = 12

        def score(self, pairs: list[tuple[str, str]]) -> api.Scored:
            return api.Scored(np.arange(len(pairs), dtype=np.float32))

    found = api.evaluate(["bm25", ("bm25", Reverse())], toy, progress=False).frame()
    assert found["model"].tolist() == ["bm25", "Reverse(bm25)"]
    assert found["R@100"].nunique() == 1
    assert found["nDCG@10"].nunique() == 2


def test_a_descriptor_runs(home: Path, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_here")
    module.load = lambda options: type("Dense", (), {"dim": 256, "encode": _encode})()  # type: ignore[attr-defined]
    module.key = lambda options: {"version": 1}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_here", module)
    spec = api.ModelSpec("mine", "dense", "made_here:load", "mine", fingerprint="made_here:key", similarity="cosine")
    found = api.evaluate([spec, Letters()], toy, progress=False).frame()
    assert found["model"].tolist() == ["mine", "Letters"]
    assert found["nDCG@10"].nunique() == 1


def _encode(self: object, texts: list[str], *, role: str) -> Any:
    return np.array(Letters().encode(texts), np.float32)


class Tiny(NamedTuple):
    """A model, as an object and as its folder."""

    model: Any
    folder: Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    pytest.importorskip("sentence_transformers", reason="needs the dense extra")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from tests.tiny import DIM, transformer

    place = tmp_path_factory.mktemp("tiny")
    modules = [transformer(place / "base"), Pooling(DIM, "mean")]
    model = SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": ""}, device="cpu")
    model.save(str(place / "model"), create_model_card=False)
    return Tiny(model, place / "model")


def test_a_sentence_transformer_gives_the_results_of_its_folder(tiny: Tiny, harness: Command, toy: Path) -> None:
    weights = copy.deepcopy(tiny.model.state_dict())
    assert harness("benchmark", "-m", tiny.folder, "-d", toy, "--results", "typed").code == 0
    found = api.evaluate(tiny.model, toy, results="called", progress=False)
    [typed], [called] = ([*Path(name).glob("*/toy")] for name in ("typed", "called"))
    assert called.parent.name.startswith("SentenceTransformer@")
    first_run, second_run = (gzip.decompress((folder / "run.trec.gz").read_bytes()) for folder in (typed, called))
    assert re.sub(rb" \S+\n", b"\n", first_run) == re.sub(rb" \S+\n", b"\n", second_run)  # but for the tag
    assert (typed / "per_query.parquet").read_bytes() == (called / "per_query.parquet").read_bytes()
    first, second = stored(typed), stored(called)
    assert first["geometry"] == second["geometry"]
    assert (
        first["manifest"]["model"]["fingerprint"]["implementation"]
        == (second["manifest"]["model"]["fingerprint"]["implementation"])
    )
    assert first["manifest"]["key"] != second["manifest"]["key"]
    assert all(bool((weights[name] == tensor).all()) for name, tensor in tiny.model.state_dict().items())
    again = api.evaluate(copy.deepcopy(tiny.model), toy, results="called", progress=False)
    assert (again.cells[0].status, again.cells[0].model) == ("cached", found.cells[0].model)


def test_another_sentence_transformer_has_another_key(tiny: Tiny, home: Path) -> None:
    import torch

    weights, prompts, length, hooked = (copy.deepcopy(tiny.model) for _ in range(4))
    with torch.no_grad():
        next(weights.parameters()).view(-1)[0] += 1
    prompts.prompts["query"] = "q: "
    length.max_seq_length = 7
    hooked[0].register_forward_hook(lambda *_: None)
    things = (tiny.model, copy.deepcopy(tiny.model), weights, prompts, length, hooked, hooked)
    registry = load_registry()
    with holding(things) as numbers:
        refs = [object_model(number, "", registry) for number in numbers]
        assert [cacheable(ref) for ref in refs] == [True] * 5 + [False] * 2  # a hook may do anything
        keys = [ref.own_key for ref in refs]
    assert keys[0] == keys[1]
    assert len({*keys}) == 6


def test_a_cross_encoder_gives_the_results_of_its_folder(harness: Command, toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the dense extra")
    from sentence_transformers import CrossEncoder

    from tests.cross_encoders import write_cross_encoder

    folder = write_cross_encoder(tmp_path / "cross", {"bread", "planet", "blood"})
    typed = f"rerank(bm25):model={folder},depth=5"
    assert harness("benchmark", "-m", typed, "-d", toy, "--results", "typed").code == 0
    reranker = CrossEncoder(str(folder), device="cpu")
    found = api.evaluate([("bm25:k1=2", reranker)], toy, results="called", progress=False)
    assert found.cells[0].model.startswith("CrossEncoder@")
    assert harness("benchmark", "-m", f"rerank(bm25:k1=2):model={folder}", "-d", toy, "--results", "typed2").code == 0
    [first], [second] = ([*Path(name).glob("*/toy")] for name in ("typed2", "called"))
    assert (first / "per_query.parquet").read_bytes() == (second / "per_query.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "models", "datasets", "named"),
    [
        (["-m", "bm52", "-d", "toy"], "bm52", "./toy", {}),
        (["-m", "bm25:k2=1", "-d", "toy"], "bm25:k2=1", "./toy", {}),
        (["-m", "bm25", "-d", "tyo"], "bm25", "tyo", {}),
        (["-m", "bm25", "-d", "./none"], "bm25", "./none", {}),
        (["-m", "bm25", "-d", "./toy", "--measures", "nDGC@10"], "bm25", "./toy", {"metrics": "nDGC@10"}),
        (["-m", "bm25", "-d", "./toy", "--split", "dev"], "bm25", "./toy", {"split": "dev"}),
        (["-m", "none/here/at/all", "-d", "./toy"], "none/here/at/all", "./toy", {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_the_sentence_of_the_command(
    words: list[str], models: Any, datasets: Any, named: dict[str, Any], harness: Command, toy: Path
) -> None:
    done = harness("benchmark", *words)
    assert done.code == 2
    with pytest.raises(api.UserError) as error:
        api.evaluate(models, datasets, progress=False, **named)
    assert done.err.splitlines()[-1] == f"harness: {error.value}"


@pytest.mark.parametrize(
    ("models", "datasets", "said"),
    [
        ([], "toy", "No model is named"),
        ("bm25", [], "No dataset is named"),
        (object(), "./toy", "An object of the class object is not a model"),
        ("bm25", object(), "An object of the class object is not a dataset"),
        ([Letters(), Letters()], "./toy", "Two models are called 'Letters'; give them names"),
        (("bm25", "bm25"), "./toy", "Two models are called 'bm25'"),
        ("bm25", ({}, {}, {}), "The dataset has no documents"),
        ("bm25", ({"d": "x"}, {"q": 1}, {"q": {"d": 1}}), "holds '1', not a text"),
        ("bm25", ({"d d": "x"}, {"q": "x"}, {"q": {"d d": 1}}), "is not text without white space"),
        ("bm25", ({"d": "x"}, {"q": "x"}, {"q": {"d": 0.5}}), "is not an integer"),
        ("bm25", (pandas.DataFrame({"x": [1]}), {"q": "x"}, {"q": {"d": 1}}), "has no column _id or id or doc_id"),
        ({"a b": "bm25"}, "./toy", "The model name 'a b'"),
        ([(Letters(), "bm25")], "./toy", "bm25 is not a reranker"),
    ],
)
def test_other_mistakes_are_one_sentence(models: Any, datasets: Any, said: str, home: Path, toy: Path) -> None:
    with pytest.raises(api.UserError, match=said):
        api.evaluate(models, datasets, progress=False)
    assert not Path("results").exists()


def test_a_model_that_fails_leaves_the_others(home: Path, toy: Path) -> None:
    class Broken:
        def encode(self, texts: list[str]) -> Any:
            raise KeyError("boom")

    found = api.evaluate({"broken": Broken(), "bm25": "bm25"}, toy, progress=False)
    assert found.frame()["status"].tolist() == ["failed", "ok"]
    assert "KeyError: 'boom'" in found.cells[0].reason
    assert "boom" in found._repr_html_()


def test_ir_datasets_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Text(NamedTuple):
        doc_id: str
        text: str

    class Fields(NamedTuple):
        doc_id: str
        headline: str
        body: str

        def default_text(self) -> str:
            return f"{self.headline} {self.body}"

    class Asked(NamedTuple):
        query_id: str
        text: str

    class Judged(NamedTuple):
        query_id: str
        doc_id: str
        relevance: int

    loaded = types.SimpleNamespace(
        docs_iter=lambda: [Text("1", "bread"), Fields("2", "Moon", "the earth")],
        queries_iter=lambda: [Asked("q", "moon")],
        qrels_iter=lambda: [Judged("q", "2", 1)],
    )
    monkeypatch.setitem(sys.modules, "ir_datasets", types.SimpleNamespace(load={"tiny/test": loaded}.__getitem__))
    data = api.load_dataset("irds:tiny/test", progress=False)
    assert [document.text for document in data.corpus.iter()] == ["bread", "Moon the earth"]
    assert (data.label, data.qrels) == ("irds:tiny/test", {"q": {"2": 1}})
    assert api.evaluate("bm25", "irds:tiny/test", progress=False).frame()["nDCG@10"].item() == 1
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(api.UserError, match="ir_datasets is not installed: pip install ir_datasets"):
        api.evaluate("bm25", "irds:other", progress=False)


def test_scifact_has_the_published_score(shared: Path, home: Path) -> None:
    found = api.evaluate("bm25", shared / "data" / "scifact", progress=False)
    assert round(found.frame()["nDCG@10"].item(), 4) == 0.6789  # Pyserini's


def test_offline_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert offline_here()


def test_a_name_whose_weights_are_not_here_yet_is_told_as_by_the_command(
    harness: Command, home: Path, toy: Path
) -> None:
    """Its fingerprint, which is of the weights, must not be asked for before they are there."""
    assert cacheable(load_registry().model("minilm"))
    typed = harness("benchmark", "-m", "minilm", "-d", toy, "--offline", "--results", "typed", "--json")
    assert typed.code == 2
    with pytest.raises(api.UserError) as refused:
        api.evaluate("minilm", toy, results="called", offline=True, progress=False)
    assert typed.err.splitlines()[-1] == f"harness: {refused.value}"
    assert "minilm:path=FOLDER" in typed.err
