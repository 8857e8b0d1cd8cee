"""A small suite that is made up: models without weights, and datasets of a few hundred short texts.

For what is measured over and over: a soak (`tests.robustness.soak`) and a fault campaign (`tests.robustness.faults`).
"""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

PLUGIN = '''
"""Dense models of counted words: one sound, one that fails at the queries, one that gives NaN."""

import hashlib
import time
import zlib

import numpy as np
from safetensors.numpy import load, save

from harness import DatasetSpec, ModelFacts, ModelFiles, ModelSpec, Option, Weights, hookimpl

FILE = save({"embedding": np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)})
WEIGHTS = Weights("weighed", "toy/weighed", {"model.safetensors": hashlib.sha256(FILE).hexdigest()})


class Counts:
    dim = 32
    similarity = "cosine"

    def __init__(self, seed, fault, pause):
        self.seed, self.fault, self.pause = seed, fault, pause

    def encode(self, texts, *, role):
        time.sleep(self.pause)
        if self.fault == "raises" and role == "query":
            raise RuntimeError("out of order")
        made = np.full((len(texts), self.dim), 0.01, np.float32)
        for row, text in zip(made, texts):
            for word in text.split():
                row[zlib.crc32(word.encode(), self.seed) % self.dim] += 1
        return made * np.nan if self.fault == "nan" else made


class Weighed:
    dim = 32

    def __init__(self, folder):
        self.rows = load(open(f"{folder}/model.safetensors", "rb").read())["embedding"]

    def encode(self, texts, *, role):
        return np.stack([self.rows[[zlib.crc32(word.encode()) % 64 for word in t.split()]].mean(0) for t in texts])


def load_counts(options):
    return Counts(options["seed"], options["fault"], options["pause"])


def load_weighed(options):
    return Weighed(options["path"])


def build(folder):
    from tests.robustness.toy import write_dataset

    write_dataset(folder, 3, 60)


@hookimpl
def harness_datasets():
    yield DatasetSpec("made-up", "a dataset that is built", build=f"{__name__}:build")


@hookimpl
def harness_models():
    options = {"seed": Option(0, "of the hash"), "fault": Option("none", "what goes wrong", ("none", "raises", "nan"))}
    options["pause"] = Option(0.0, "seconds that it waits in every batch")
    facts = ModelFacts(dim=32)
    yield ModelSpec("toy", "dense", f"{__name__}:load_counts", "counts of words, hashed", options=options, facts=facts)
    path = {"path": Option(None, "the folder of the weights")}
    loads = f"{__name__}:load_weighed"
    files = ModelFiles(weights=WEIGHTS)
    yield ModelSpec("weighed", "dense", loads, "means of rows", options=path, facts=facts, files=files)
'''
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def write_plugin(folder: Path) -> Path:
    """The plug-in file of the model ``toy``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toy_models.py"
    file.write_text(PLUGIN)
    return file


def write_weights(plugin: Path, home: Path) -> None:
    """The weights of the model ``weighed``, as if they had been fetched."""
    spec = importlib.util.spec_from_file_location("toy_models_once", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (folder := home / "models" / "weighed").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(module.FILE)


def write_dataset(folder: Path, seed: int, documents: int, queries: int = 8) -> Path:
    """A folder in BEIR format; each query is made of words of the one document that answers it."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(SYLLABLES, k=3)) for _ in range(400)]
    texts = [" ".join(chance.choices(words, k=chance.randint(5, 40))) for _ in range(documents)]
    answers = chance.sample(range(documents), queries)
    asked = [" ".join(chance.sample(texts[at].split(), 3)) for at in answers]
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in corpus))
    records = [{"_id": f"q{n}", "text": text} for n, text in enumerate(asked)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{at}\t1" for n, at in enumerate(answers))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder
