"""Mining compared with a reference BM25, filters with hand-set scores, and resuming after a kill."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.beir import Dataset, open_dataset
from harness.registry.manager import Registry, load_registry
from harness.types import UserError
from harness_training.data import mining
from harness_training.data.miners import interleave
from harness_training.data.mining import MiningSettings, mine
from harness_training.data.triplets import TrainingSet, read
from tests.conftest import ROOT, Done, write_dataset

pytest.importorskip("bm25s", reason="BM25 needs the bm25 extra")
WORDS = [f"{a}o{b}" for a in "bdfgklmp" for b in "bdgkmp"]
"""Words that an English stemmer does not change."""


def collection(folder: Path, queries: int = 20, documents: int = 60) -> Path:
    """Random documents of random words; every query has two relevant documents and one judged not to be."""
    draw = random.Random(1)
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=draw.randint(5, 30))) for n in range(documents)}
    texts["twin"] = texts["d0"]
    asked = {f"q{n}": " ".join(draw.sample(WORDS, 4)) for n in range(queries)}
    judged = []
    for query in asked:
        one, two, not_one = draw.sample(sorted(texts), 3)
        judged += [(query, one, 1), (query, two, 2), (query, not_one, 0)]
    judged[0], judged[1] = ("q0", "d0", 1), ("q0", "gone", 1)
    return write_dataset(folder, texts, asked, judged, "train")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(collection(tmp_path / "words"), cache=tmp_path / "cache", split="train")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def bm25(dataset: Dataset, query: str, k1: float = 0.9, b: float = 0.4) -> list[str]:
    """Documents with a word of the query, best first, ties by id from the last: the formula in float64."""
    bags = {document.id: document.text.split() for document in dataset.corpus.iter()}
    mean = sum(map(len, bags.values())) / len(bags)
    scores: Counter[str] = Counter()
    for word in query.split():
        holding = [doc_id for doc_id, bag in bags.items() if word in bag]
        idf = math.log(1 + (len(bags) - len(holding) + 0.5) / (len(holding) + 0.5))
        for doc_id in holding:
            count, length = bags[doc_id].count(word), len(bags[doc_id])
            scores[doc_id] += idf * count / (count + k1 * (1 - b + b * length / mean))
    return sorted(scores, key=lambda doc_id: (round(scores[doc_id], 6), doc_id), reverse=True)


def test_negatives_are_bm25s_best_that_nobody_judged_relevant(
    dataset: Dataset, registry: Registry, tmp_path: Path
) -> None:
    settings = MiningSettings([registry.model("bm25")], depth=10, negatives=3, pick="top")
    made = mine(dataset, settings, tmp_path / "set", tmp_path)
    texts = {document.id: document.text for document in dataset.corpus.iter()}
    expected, counts = set(), Counter[str]()
    for query in dataset.queries:
        relevant = [d for d, grade in dataset.qrels[query.id].items() if grade > 0]
        found = bm25(dataset, query.text)[:10]
        left: list[str] = []
        for doc_id in found:
            taken = [texts[d] for d in [*relevant, *left] if d in texts]
            if doc_id not in relevant and texts[doc_id] not in taken:
                left.append(doc_id)
        here = [d for d in relevant if d in texts]
        for positive in here:
            judged = sum(d in relevant for d in found)
            counts.update(candidates=len(found), judged=judged, left=len(left))
            counts["duplicate"] += len(found) - judged - len(left)
            if len(left) >= 3:
                expected.add((query.text, texts[positive], *(texts[d] for d in left[:3])))
    assert set(made.iter()) == expected
    stated = made.record["counts"]
    assert {name: stated[name] for name in counts} == counts
    assert counts["judged"] > 0
    assert counts["duplicate"] > 0
    assert stated["no_positive"] == 1
    assert stated["candidates of bm25"] == stated["candidates"]
    assert stated["rows"] == made.rows == len(expected)
    assert stated["rows"] + stated["short"] + stated["no_positive"] == stated["positives"] == 40


def test_no_judged_positive_is_ever_a_negative(dataset: Dataset, registry: Registry, tmp_path: Path) -> None:
    made = mine(dataset, MiningSettings([registry.model("bm25")], negatives=2), tmp_path / "set", tmp_path)
    texts = {document.id: document.text for document in dataset.corpus.iter()}
    relevant = {
        query.text: {texts.get(d) for d, grade in dataset.qrels[query.id].items() if grade > 0}
        for query in dataset.queries
    }
    assert made.rows > 30
    for query, positive, *negatives in made.iter():
        assert positive in relevant[query]
        assert not relevant[query] & set(negatives)
        assert len({positive, *negatives}) == 3


def test_a_row_depends_on_the_seed_and_its_ids_alone(dataset: Dataset, registry: Registry, tmp_path: Path) -> None:
    def made(name: str, data: Dataset, **choice: Any) -> TrainingSet:
        return mine(data, MiningSettings([registry.model("bm25")], **choice), tmp_path / name, tmp_path)

    all_rows = list(made("a", dataset).iter())
    turned = collection(tmp_path / "turned")
    lines = (turned / "queries.jsonl").read_text().splitlines()
    (turned / "queries.jsonl").write_text("\n".join(lines[::-1]))
    reordered = made("b", open_dataset(turned, cache=tmp_path / "cache", split="train"))
    assert list(reordered.iter()) == all_rows
    assert list(made("c", dataset, limit=7).iter()) == all_rows[:7]
    other = list(made("d", dataset, seed=43).iter())
    assert sorted(row[:2] for row in other) == sorted(row[:2] for row in all_rows)
    assert sum(row in other for row in all_rows) < len(all_rows) / 2


def test_the_set_says_what_it_is_made_of(dataset: Dataset, registry: Registry, tmp_path: Path) -> None:
    made = mine(dataset, MiningSettings([registry.model("bm25:k1=1.2")], depth=9), tmp_path / "set", tmp_path)
    assert made.sources == [{"name": "words", "split": "train", "fingerprint": dataset.fingerprint}]
    (miner,) = made.record["miners"]
    assert (miner["model"], miner["depth"], miner["fingerprint"]["k1"]) == ("bm25:k1=1.2", 9, 1.2)
    assert made.record["seed"] == 42
    assert read(tmp_path / "set", tmp_path).record == made.record


def test_a_killed_run_goes_on_after_its_last_part(
    dataset: Dataset, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "PART", 4)
    settings = MiningSettings([registry.model("bm25")])
    mined: list[int] = []

    def killed(what: str, done: int, total: int) -> None:
        mined.extend([done] if what.startswith("mining") else [])
        if done == 10 and what.startswith("mining"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(dataset, settings, tmp_path / "set", tmp_path / "home", progress=killed)
    assert mined == list(range(1, 11))
    assert not (tmp_path / "set").exists()
    (work,) = [path for path in (tmp_path / "home" / "mining").iterdir() if path.is_dir()]
    assert sorted(path.name for path in work.glob("*.parquet")) == ["part-00000.parquet", "part-00001.parquet"]
    (work / "part-00000.parquet").write_bytes(b"corrupt")

    def watch(what: str, done: int, total: int) -> None:
        mined.extend([done] if what.startswith("mining") else [])

    mined.clear()
    made = mine(dataset, settings, tmp_path / "set", tmp_path / "home", progress=watch)
    assert mined == [*range(1, 5), *range(9, 21)]  # only the corrupt part is mined again
    assert not work.exists()
    straight = mine(dataset, settings, tmp_path / "other", tmp_path / "elsewhere")
    assert (made.key, made.record["counts"]) == (straight.key, straight.record["counts"])
    mined.clear()
    mine(dataset, settings, tmp_path / "set", tmp_path / "home", progress=watch)
    assert mined == []
    with pytest.raises(UserError, match="holds another training set"):
        mine(dataset, MiningSettings([registry.model("bm25")], seed=1), tmp_path / "set", tmp_path / "home")


def test_miners_take_turns() -> None:
    assert interleave([[1, 2, 3, 4], [2, 5], []]) == [1, 2, 5, 3, 4]


ANGLES = """
import re
import numpy as np
from harness import ModelSpec, Option, hookimpl

class Angles:
    dim = 2
    def encode(self, texts, *, role):
        found = [re.search(r"angle (\\d+) norm (\\d+)", text) for text in texts]
        return np.array([
            [int(m[2]) * np.cos(np.radians(int(m[1]))), int(m[2]) * np.sin(np.radians(int(m[1])))] for m in found
        ], np.float32)

class Inner(Angles):
    similarity = "dot"

@hookimpl
def harness_models():
    yield ModelSpec(name="angles", kind="dense", load="angles:load", summary="vectors as the text says")
    yield ModelSpec(name="inner", kind="dense", load="angles:inner", summary="the same, by inner product")

def load(options):
    return Angles()

def inner(options):
    return Inner()
"""


@pytest.fixture
def angles(tmp_path: Path) -> Registry:
    pytest.importorskip("faiss", reason="dense search needs the dense extra")
    (tmp_path / "angles.py").write_text(ANGLES)
    return load_registry([tmp_path / "angles.py"])


def compass(folder: Path, documents: dict[str, tuple[int, int]], positives: list[str]) -> Dataset:
    texts = {key: f"{key} angle {angle} norm {norm}" for key, (angle, norm) in documents.items()}
    judged = [("q", key, 1) for key in positives]
    write_dataset(folder, texts, {"q": "angle 0 norm 1"}, judged, "train")
    return open_dataset(folder, cache=folder.parent / "cache", split="train")


def test_candidates_too_near_beside_the_positive_are_dropped(angles: Registry, tmp_path: Path) -> None:
    """cos 20 = .9397, 95 % of it .8927: the cosine of 26.8 degrees. By distance, norms apart, the order is another."""
    documents = {"p": (20, 3), "near": (10, 9), "in": (26, 1), "out": (27, 1), "far": (80, 1), "own": (60, 2)}
    dataset = compass(tmp_path / "north", documents, ["p", "own"])
    model = angles.model("angles")
    settings = MiningSettings([model], score_model=model, pick="top")
    made = mine(dataset, settings, tmp_path / "set", tmp_path)
    rows = {row[1].split()[0]: row[2].split()[0] for row in made.iter()}
    assert rows == {"p": "out", "own": "far"}  # cos 60 = .5: of the candidates only "far" is below .475
    counts = made.record["counts"]
    assert counts["candidates"] == 12
    assert counts["judged"] == 4
    assert counts["positive_aware"] == 2 + 3
    assert counts["left"] == 2 + 1
    (stated,) = made.record["filters"]
    assert (stated["model"], stated["margin"]) == ("angles", 0.05)


def test_what_is_relevant_to_the_same_question_is_no_negative(angles: Registry, tmp_path: Path) -> None:
    """A query text with two ids and one relevant document each."""
    texts = {key: f"{key} angle {angle} norm 1" for key, angle in {"a": 10, "b": 20, "c": 30}.items()}
    asked = {"q1": "angle 0 norm 1", "q2": "angle 0 norm 1 ", "q3": "angle 1 norm 1"}
    judged = [("q1", "a", 1), ("q2", "b", 1), ("q3", "c", 1)]
    write_dataset(tmp_path / "twice", texts, asked, judged, "train")
    dataset = open_dataset(tmp_path / "twice", cache=tmp_path / "cache", split="train")
    made = mine(dataset, MiningSettings([angles.model("angles")], pick="top"), tmp_path / "set", tmp_path)
    rows = {(row[0], *(text[0] for text in row[1:])) for row in made.iter()}
    assert rows == {(asked["q1"], "a", "c"), (asked["q2"], "b", "c"), (asked["q3"], "c", "a")}
    assert made.record["counts"]["judged"] == 5


def test_inner_products_are_compared_as_they_are(angles: Registry, tmp_path: Path) -> None:
    documents = {"p": (60, 10), "long": (0, 6), "short": (0, 4), "behind": (180, 1)}
    dataset = compass(tmp_path / "north", documents, ["p"])
    model = angles.model("inner")
    made = mine(
        dataset, MiningSettings([model], score_model=model, negatives=2, pick="top"), tmp_path / "set", tmp_path
    )
    assert [text.split()[0] for text in next(made.iter())] == ["angle", "p", "short", "behind"]  # 6 > 4.75 > 4


def test_a_negative_similarity_leaves_less_not_more(angles: Registry, tmp_path: Path) -> None:
    documents = {"p": (120, 1), "same": (121, 1), "less": (122, 1)}  # cosines -.5, -.515, -.530; the bound is -.525
    dataset = compass(tmp_path / "north", documents, ["p"])
    model = angles.model("angles")
    made = mine(dataset, MiningSettings([model], score_model=model), tmp_path / "set", tmp_path)
    assert next(made.iter())[2].split()[0] == "less"


def test_a_row_with_too_few_candidates_is_left_out(angles: Registry, tmp_path: Path) -> None:
    documents = {"p": (20, 1), "alone": (30, 1), "worse": (50, 1), "own": (40, 1)}
    dataset = compass(tmp_path / "north", documents, ["p", "own"])
    model = angles.model("angles")
    made = mine(dataset, MiningSettings([model], score_model=model, negatives=2), tmp_path / "set", tmp_path)
    assert [row[1].split()[0] for row in made.iter()] == ["p"]
    assert (made.record["counts"]["short"], made.record["counts"]["rows"]) == (1, 1)
    with pytest.raises(UserError, match="No triplet is left"):
        mine(dataset, MiningSettings([model], negatives=3), tmp_path / "none", tmp_path)


def test_a_union_of_miners(angles: Registry, tmp_path: Path) -> None:
    documents = {"p": (20, 1), "near": (5, 1), "next": (30, 1), "long": (80, 99), "longer": (70, 99)}
    dataset = compass(tmp_path / "north", documents, ["p"])
    both = [angles.model("angles"), angles.model("inner")]
    made = mine(dataset, MiningSettings(both, depth=3, negatives=4, pick="top"), tmp_path / "set", tmp_path)
    # by distance near, p, next; by inner product longer, long, near
    assert [text.split()[0] for text in next(made.iter())] == ["angle", "p", "near", "longer", "long", "next"]
    counts = made.record["counts"]
    assert (counts["candidates"], counts["candidates of angles"], counts["candidates of inner"]) == (5, 3, 3)


def test_a_querys_own_document_is_no_candidate(angles: Registry, tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "self",
        {"q": "me angle 0 norm 1", "p": "p angle 9 norm 1", "n": "n angle 20 norm 1"},
        {"q": "angle 0 norm 1"},
        [("q", "p", 1)],
        "train",
    )
    (tmp_path / "self" / "dataset.toml").write_text("exclude_self = true\n")
    dataset = open_dataset(tmp_path / "self", cache=tmp_path / "cache", split="train")
    made = mine(dataset, MiningSettings([angles.model("angles")], depth=2, pick="top"), tmp_path / "set", tmp_path)
    assert [text.split()[0] for text in next(made.iter())] == ["angle", "p", "n"]
    assert made.record["counts"]["candidates"] == 2


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder with random weights."""
    transformers = pytest.importorskip("transformers", reason="a cross-encoder needs the dense extra")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("cross")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(tokens), num_labels=1, initializer_range=2.0, **shape)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_a_cross_encoder_drops_what_it_finds_relevant(
    dataset: Dataset, registry: Registry, cross_encoder: Path, tmp_path: Path
) -> None:
    import torch
    import transformers

    model = transformers.BertForSequenceClassification.from_pretrained(cross_encoder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(cross_encoder)

    def logit(query: str, text: str) -> float:
        with torch.no_grad():
            return float(model(**tokenizer(query, text, return_tensors="pt")).logits[0, 0])

    plain = MiningSettings([registry.model("bm25")], depth=8, pick="top")
    with_filter = MiningSettings(
        [registry.model("bm25")], depth=8, pick="top", cross_encoder=cross_encoder, cross_margin=0.5
    )
    before = mine(dataset, plain, tmp_path / "before", tmp_path)
    after = mine(dataset, with_filter, tmp_path / "after", tmp_path)
    for query, positive, negative in after.iter():
        assert logit(query, negative) <= logit(query, positive) - 0.5 + 1e-4
    unfiltered = {row[:2]: row[2] for row in before.iter()}
    filtered = {row[:2]: row[2] for row in after.iter()}
    for row, negative in unfiltered.items():
        if logit(row[0], negative) <= logit(*row) - 0.5 - 1e-4:
            assert filtered[row] == negative  # the first stays first
    counts = after.record["counts"]
    assert 0 < counts["cross_encoder"] == before.record["counts"]["left"] - counts["left"]
    assert "model.safetensors" in after.record["filters"][0]["files"]


def command(harness: Callable[..., Done], *words: object) -> Done:
    return harness("mine", *words)


def test_the_command_reports_what_was_removed(harness: Callable[..., Done], tmp_path: Path) -> None:
    words = ("-d", collection(tmp_path / "words"), "--depth", 10, "--negatives", 2, "-o", tmp_path / "set")
    done = command(harness, *words)
    assert done.code == 0, done.err
    assert "rows of query, positive, negative_1, negative_2" in done.out
    assert "removed: judged relevant" in done.out
    again = json.loads(command(harness, *words, "--json").out)
    assert again["counts"]["rows"] == read(tmp_path / "set", tmp_path).rows == again["rows"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "dev"], "has no judgements for the split 'dev'; it has train"),
        (["--miner", "bm52"], "bm25"),
        (["--relative-margin", "0.1"], "add --score-model"),
        (["--score-model", "bm25"], "no vectors to filter by"),
        (["--ce-margin", "1"], "add --cross-encoder"),
        (["--cross-encoder", "."], "not a cross-encoder that can be run here (it has no config.json of a model)"),
        (["--negatives", "0"], "--help"),
        (["-o", "words"], "already exists; give another folder with -o"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], sentence: str, harness: Callable[..., Done], tmp_path: Path
) -> None:
    collection(tmp_path / "words")
    done = command(harness, "-d", "./words", "-o", tmp_path / "set", *words)
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "set").exists()


def test_a_dataset_without_a_train_split_names_those_it_has(harness: Callable[..., Done], toy: Path) -> None:
    done = command(harness, "-d", toy, "-o", toy.parent / "set")
    assert (done.code, "no judgements for the split 'train'; it has test" in done.err) == (2, True)


def test_help_of_the_training_commands_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    program = (
        "import sys\nfrom harness_training.cli import data, mine, release, train\n"
        "assert not {'torch', 'pyarrow', 'faiss', 'datasets', 'bm25s'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
