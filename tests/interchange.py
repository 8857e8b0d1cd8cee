"""Small data and models that we and others are given alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.conftest import write_dataset

DIM = 128
WORD = re.compile(r"\w+")


class Texts(NamedTuple):
    """A dataset as beir holds it, and the folder that holds the same."""

    folder: Path
    corpus: dict[str, dict[str, str]]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def scifact_slice(shared: Path, folder: Path, queries: int = 40, others: int = 200) -> Texts:
    """The first judged claims of SciFact, their documents, and the corpus's first documents."""
    source = shared / "data" / "scifact"
    lines = (source / "qrels" / "test.tsv").read_text().splitlines()[1:]
    qrels: dict[str, dict[str, int]] = {}
    for query, document, grade in (line.split("\t") for line in lines):
        if query in qrels or len(qrels) < queries:
            qrels.setdefault(query, {})[document] = int(grade)
    wanted = {document for judged in qrels.values() for document in judged}
    corpus: dict[str, dict[str, str]] = {}
    for number, line in enumerate((source / "corpus.jsonl").open()):
        record = json.loads(line)
        if number < others or record["_id"] in wanted:
            corpus[record["_id"]] = {"title": record["title"], "text": record["text"]}
    texts = {r["_id"]: r["text"] for r in map(json.loads, (source / "queries.jsonl").open()) if r["_id"] in qrels}
    judged = [(q, d, grade) for q, documents in qrels.items() for d, grade in documents.items()]
    write_dataset(folder, {i: (d["title"], d["text"]) for i, d in corpus.items()}, texts, judged)
    return Texts(folder, corpus, texts, qrels)


def write_encoder(folder: Path, words: Iterable[str], seed: int = 0) -> Path:
    """A sentence-transformers model with a random vector for each word, averaged; by cosine, with a prompt for queries.

    It finds documents that share words with the query, so that its scores are neither 0 nor 1.
    """
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = dict.fromkeys(["[UNK]", "[PAD]", *sorted({word.lower() for text in words for word in WORD.findall(text)})])
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")
    vectors = np.random.default_rng(seed).normal(size=(len(known), DIM)).astype(np.float32)
    prompts = {"query": "claim: ", "document": ""}
    modules = [StaticEmbedding(tokenizer, embedding_weights=vectors)]
    model = SentenceTransformer(modules=modules, similarity_fn_name="cosine", prompts=prompts)
    model.save(str(folder), create_model_card=False)
    return folder
