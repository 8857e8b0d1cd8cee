"""`harness check`: sound plug-ins pass, and each kind of unsound one is told what is wrong with it."""

from __future__ import annotations

import json

import pytest

from tests.conftest import BYTE_COUNTS

SOUND = """
import itertools
import json
import random

import numpy as np

from harness import Hits, ModelSpec, Option, hookimpl


class Model:
    '''Counts of bytes; every unsound model below breaks it in one place.'''

    dim = 256

    def one(self, text):
        return np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256).astype(np.float32)

    def encode(self, texts, *, role):
        return np.stack([self.one(text) for text in texts])


class Tokens(Model):
    def tokenize(self, texts, *, role):
        return [list(text.encode()) for text in texts]

    def encode_tokens(self, tokens, *, role):
        return np.stack([np.bincount(ids, minlength=256).astype(np.float32) for ids in tokens])


class Words:
    '''Counts of shared words, in a file.'''

    def build(self, documents, directory):
        (directory / 'words.json').write_text(json.dumps([document.text.split() for document in documents]))

    def search(self, directory, queries, k):
        documents = json.loads((directory / 'words.json').read_text())
        for query in queries:
            yield self.hits([len(set(words) & set(query.text.split())) for words in documents], k)

    def hits(self, scores, k):
        scores = np.array(scores, np.float64)
        rows = np.argsort(-scores, kind='stable')
        rows = rows[scores[rows] > 0]
        if len(rows) > k:
            rows = rows[scores[rows] >= scores[rows[k - 1]]]
        return Hits(rows, scores[rows])


def load(options):
    return Checked()


def fingerprint(options):
    return {'version': 1}


class Checked(BASE):
    BODY


@hookimpl
def harness_models():
    yield ModelSpec('checked', KIND, f'{__name__}:load', '', fingerprint=f'{__name__}:fingerprint', MORE)
"""


@pytest.fixture
def check(harness, home):
    """Checks a model made of a sound one and what breaks it; gives the exit code and the fault of each check."""

    def run(base: str, body: str = "pass", more: str = "", after: str = "") -> tuple[int, dict[str, str]]:
        kind = "'lexical'" if base == "Words" else "'dense'"
        lines = body.replace("\n", "\n    ")
        source = SOUND.replace("BASE", base).replace("BODY", lines).replace("KIND", kind).replace("MORE", more)
        plugin = home / "checked_model.py"
        plugin.write_text(source.replace("@hookimpl", f"{after}\n\n@hookimpl"))
        done = harness("check", "checked", "--plugin", plugin, "--json")
        return done.code, {row["check"]: row["fault"] for row in json.loads(done.out)}

    return run


@pytest.mark.parametrize("base", ["Model", "Tokens", "Words"])
def test_the_sound_models_that_the_unsound_ones_are_made_from_pass(check, base: str) -> None:
    code, faults = check(base)
    assert not any(faults.values()), faults
    assert code == 0
    assert len(faults) >= 9


@pytest.mark.parametrize(
    ("model", "package"),
    [(["bm25"], "bm25s"), (["byte-counts", "--plugin", BYTE_COUNTS], "numpy"), (["bm25:fields=multifield"], "bm25s")],
)
def test_real_models_pass_and_every_check_is_listed(harness, model: list[object], package: str) -> None:
    pytest.importorskip(package)
    done = harness("check", *model)
    assert done.code == 0, done.out
    lines = done.out.splitlines()
    assert len(lines) >= 9
    assert all(line.startswith("ok ") for line in lines)


DENSE = {
    "random": (
        "def one(self, text): return np.random.default_rng().normal(size=256).astype(np.float32)",
        "the same texts give the same vectors",
        "calling it twice changes a vector",
    ),
    "counts its calls": (
        "calls = itertools.count()\ndef one(self, text): return super().one(text) + next(self.calls)",
        "the same texts give the same vectors",
        "calling it twice changes a vector",
    ),
    "centres its batch": (
        "def encode(self, texts, *, role):\n"
        "    made = super().encode(texts, role=role)\n"
        "    return made - made.mean(0)",
        "batch size does not matter",
        "encoding one text at a time changes a vector",
    ),
    "numbers its batch": (
        "def encode(self, texts, *, role):\n"
        "    return super().encode(texts, role=role) + np.arange(len(texts), dtype=np.float32)[:, None]",
        "batch order does not matter",
        "reversing the texts changes a vector",
    ),
    "sorts its batch": (
        "def encode(self, texts, *, role): return super().encode(sorted(texts), role=role)",
        "batch order does not matter",
        "reversing the texts changes a vector",
    ),
    "constant": (
        "def one(self, text): return np.ones(256, np.float32)",
        "different texts give different vectors",
        "different texts give one vector",
    ),
    "no words known": (
        "def one(self, text): return np.full(256, [len(text.split())], np.float32)",
        "different texts give different vectors",
        "different texts give one vector: 'Red moons are old.' and 'New banks got wet.'; does the model know their",
    ),
    "no empty text": (
        "def one(self, text): return super().one(text) if text else np.ones(0)[7]",
        "an empty text gives a finite vector",
        "raised IndexError",
    ),
    "unit length of an empty text": (
        "def one(self, text):\n    made = super().one(text)\n    return made / np.linalg.norm(made)",
        "an empty text gives a finite vector",
        "NaN or infinity",
    ),
    "overflows": (
        "def one(self, text): return super().one(text) if len(text) < 9999 else np.full(256, np.inf, np.float32)",
        "a very long text gives a finite vector",
        "NaN or infinity",
    ),
    "ascii alone": (
        "def one(self, text): return super().one(text) if text.encode('ascii') or True else None",
        "any Unicode gives finite vectors",
        "raised UnicodeEncodeError",
    ),
    "float64": (
        "def one(self, text): return super().one(text).astype(np.float64)",
        "document: float32, one finite row per text",
        "returned float64; return float32",
    ),
    "a list": (
        "def encode(self, texts, *, role): return super().encode(texts, role=role).tolist()",
        "document: float32, one finite row per text",
        "returned a list, not a numpy array",
    ),
    "one row short": (
        "def encode(self, texts, *, role): return super().encode(texts[1:], role=role)",
        "document: float32, one finite row per text",
        "returned shape (7, 256) for 8 texts of dimension 256",
    ),
    "another width": (
        "dim = 255",
        "document: float32, one finite row per text",
        "shape (8, 256) for 8 texts of dimension 255",
    ),
    "no queries": (
        "def encode(self, texts, *, role): return {'document': super().encode}[role](texts, role=role)",
        "query: float32, one finite row per text",
        "raised KeyError: 'query'",
    ),
    "a width that is no number": ("dim = None", "it loads", "dim is None; it must be a positive integer"),
    "an unknown similarity": (
        "similarity = 'manhattan'",
        "it loads",
        "'manhattan', which is none of euclidean, cosine",
    ),
    "no encoder": ("encode = None", "it loads", "gave no model with dim and encode"),
}


@pytest.mark.parametrize("fault", DENSE)
def test_an_unsound_dense_model_is_told(check, fault: str) -> None:
    body, name, words = DENSE[fault]
    code, faults = check("Model", body)
    assert words in faults[name], faults
    assert code == 1


@pytest.mark.parametrize(
    "body",
    [
        "def encode_tokens(self, tokens, *, role): return super().encode_tokens(tokens, role=role) * 1.5",
        "def tokenize(self, texts, *, role): return [ids[:9] for ids in super().tokenize(texts, role=role)]",
    ],
)
def test_tokenising_apart_must_give_what_encode_gives(check, body: str) -> None:
    code, faults = check("Tokens", body)
    assert "tokenising apart changes a vector" in faults["tokenize() and encode_tokens() together are encode()"]
    assert code == 1


LEXICAL = {
    "rows out of range": (
        "def hits(self, scores, k): return Hits(np.arange(k), np.ones(k))",
        "k larger than the corpus",
        "rows repeat or lie outside the corpus",
    ),
    "negative rows": (
        "def hits(self, scores, k):\n"
        "    found = super().hits(scores, k)\n"
        "    return Hits(found.rows - 1, found.scores)",
        "k larger than the corpus",
        "outside the corpus: [-1",
    ),
    "a row twice": (
        "def hits(self, scores, k):\n"
        "    found = super().hits(scores, k)\n"
        "    return Hits(np.repeat(found.rows, 2), np.repeat(found.scores, 2))",
        "k larger than the corpus",
        "rows repeat",
    ),
    "rows without scores": (
        "def hits(self, scores, k): return Hits(super().hits(scores, k).rows, np.ones(1))",
        "k larger than the corpus",
        "not every row has a finite score",
    ),
    "NaN": (
        "def hits(self, scores, k):\n"
        "    found = super().hits(scores, k)\n"
        "    return Hits(found.rows, found.scores * np.nan)",
        "k larger than the corpus",
        "not every row has a finite score: [nan",
    ),
    "worst first": (
        "def hits(self, scores, k): return super().hits([-score + 99 for score in scores], k)",
        "a document's own text finds it",
        "searching a document's own text does not find it first",
    ),
    "cuts ties": (
        "def hits(self, scores, k):\n    rows, scores = super().hits(scores, k)\n    return Hits(rows[:k], scores[:k])",
        "documents that tie with the last one are all given",
        "of the equal documents [0, 17] it gives [0]",
    ),
    "one answer short": (
        "def search(self, directory, queries, k): return list(super().search(directory, queries, k))[1:]",
        "an empty, an unknown and a Unicode query",
        "gave 8 answers for 9 queries",
    ),
    "no empty query": (
        "def search(self, directory, queries, k):\n"
        "    assert all(query.text for query in queries)\n"
        "    return super().search(directory, queries, k)",
        "an empty, an unknown and a Unicode query",
        "raised AssertionError",
    ),
    "random": (
        "def hits(self, scores, k): return super().hits([score + random.random() / 9 for score in scores], k)",
        "the same query gives the same hits",
        "two searches differ",
    ),
    "keeps its index to itself": (
        "def build(self, documents, directory):\n"
        "    super().build(documents, directory)\n"
        "    self.own = directory\n"
        "def search(self, directory, queries, k): return super().search(self.own, queries, k)",
        "a document's own text finds it",
        "raised AttributeError",
    ),
    "remembers where its index was built": (
        "def build(self, documents, directory):\n"
        "    super().build(documents, directory)\n"
        "    (directory / 'where').write_text(str(directory))\n"
        "def search(self, directory, queries, k):\n"
        "    return super().search(type(directory)((directory / 'where').read_text()), queries, k)",
        "a document's own text finds it",
        "raised FileNotFoundError",
    ),
    "writes nothing": (
        "def build(self, documents, directory): pass",
        "it indexes empty, very long and Unicode documents",
        "build() wrote nothing",
    ),
    "cannot stand an empty document": (
        "def build(self, documents, directory):\n"
        "    super().build((d for d in documents if d.text.split()[0]), directory)",
        "it indexes empty, very long and Unicode documents",
        "raised IndexError",
    ),
}


@pytest.mark.parametrize("fault", LEXICAL)
def test_an_unsound_lexical_model_is_told(check, fault: str) -> None:
    body, name, words = LEXICAL[fault]
    code, faults = check("Words", body)
    assert words in faults[name], faults
    assert code == 1


@pytest.mark.parametrize(
    "default", ["query: ", " q", "a, b", 'say "no"', "a\nb\t", "@x", ")(", "\\", "\u200b", "", "東京"]
)
def test_every_text_survives_being_written_and_read_again(check, default: str) -> None:
    code, faults = check("Model", more=f"options={{'prompt': Option({default!r}, 'put before texts')}}")
    assert faults["options survive being written and read again"] == ""
    assert code == 0


def test_a_value_that_is_read_as_another_is_told(check, monkeypatch) -> None:
    monkeypatch.setattr("harness.registry.option_values.written", str)  # as if nothing were quoted
    code, faults = check("Model", more="options={'prompt': Option('@x', 'put before texts')}")
    assert "@x" in faults["options survive being written and read again"]
    assert code == 1


@pytest.mark.parametrize(
    ("after", "name", "words"),
    [
        ("def fingerprint(options): return {'at': random.random()}", "the fingerprint is the same twice", "differs"),
        ("def fingerprint(options): raise OSError('gone')", "the fingerprint is the same twice", "OSError: gone"),
        ("def load(options): raise OSError('no such device')", "it loads", "no such device"),
        ("def load(options): return 7", "it loads", "gave no model with dim and encode"),
    ],
)
def test_what_goes_wrong_before_the_first_text_is_told(check, after: str, name: str, words: str) -> None:
    code, faults = check("Model", after=after)
    assert words in faults[name]
    assert code == 1


def test_a_fault_stands_beside_its_check_in_the_table_too(harness, home) -> None:
    plugin = home / "constant.py"
    plugin.write_text(BYTE_COUNTS.read_text().replace("np.asarray(counts, np.float32)", "np.ones((len(texts), 256))"))
    done = harness("check", "byte-counts", "--plugin", plugin)
    assert done.code == 1
    faults = [line for line in done.out.splitlines() if not line.startswith("ok ")]
    assert any(line.startswith("FAIL  document: float32") and "float64; return float32" in line for line in faults)
    assert "Traceback" not in done.err
