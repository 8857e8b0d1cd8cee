"""Small sound files of every kind that the product reads, and hostile changes to them, both built in code."""

from __future__ import annotations

import copy
import gzip
import io
import json
import zipfile
from random import Random
from typing import Any

import numpy as np

NASTY: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e308, 10**30, 10**299, 2**63, -(2**63) - 1, 0.5, float("nan"), float("inf")),
    *("", "\0", "\x1b[31m", "../../x", "/etc", "a" * 300, "\ud800", "=1+1", "<script>", "[/x]", "|*_$", "é\u202e"),
    *([], {}, [[]], [None], {"": None}, [1, "a"], {"a": {"b": [0]}}, ["x"] * 40),
)
"""Values that take the place of sound ones."""
DOCUMENT = b'{"_id": "d1", "title": "T", "text": "one"}\n{"_id": 2, "text": "\\u00e9 two"}\n'
QRELS = b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\t2\t0\n"
RUN = b"q1 Q0 d1 1 2.5 t\nq1 Q0 d2 2 -1e3 t\nq2 Q0 d1 1 0 t\n"
RESULT: dict[str, Any] = {
    **{"schema": 1, "model": "m", "dataset": "d", "split": "test", "status": "ok", "partial": False},
    **{"in_domain": False, "reason": "", "command": "harness benchmark -m m -d d", "measures": {"nDCG@10": 0.5}},
    "geometry": {side: {"isotropy": 0.5, "mean_cosine": 0.1, "eigenvalues": [2.0, 1.0]} for side in ("documents",)},
    "seconds": {"encode": 1.5, "search": 0.25},
    "counts": {"documents": 2, "queries": 2, "judged": 2, "missing": 0, "document_tokens": 9},
    "manifest": {
        **{"key": "ab" * 32, "k": 10, "ties": "score", "files": {}, "source": {"revision": "r"}},
        "model": {
            **{"name": "m", "kind": "dense", "options": {"dtype": "auto"}, "passed": {}, "trained_on": ["msmarco"]},
            **{"fingerprint": {"dtype": "float32", "files": {"a": "b"}}, "similarity": "cosine"},
            "training": {"experiment": "e", "run": "e,seed1", "seed": 1, "settings_key": "k", "base": {"name": "b"}},
        },
        "dataset": {
            **{"name": "d", "exclude_self": False, "limit": None, "citation": "", "notes": ["n"]},
            "fingerprint": {"corpus": "00", "queries": "11", "qrels": "22", "exclude_self": False},
        },
        "run": {
            **{"started": "2025-01-01T00:00:00+00:00", "finished": "2025-01-01T00:00:09+00:00"},
            **{"peak_memory_bytes": 5, "machine": {"processor": "p", "cores": 2, "gpus": []}, "versions": {"x": "1"}},
            "search": {"memory": 1_000_000, "device": "cpu"},
        },
    },
}
RUN_RECORD: dict[str, Any] = {
    **{"format": 1, "experiment": "e", "run": "r", "status": "finished", "reason": "", "trained_on": ["msmarco"]},
    **{"base": {"path": "b", "name": "n"}, "finished": "2025-01-01T00:00:00", "settings": {"seed": 1}, "steps": 2},
    **{"curves": [{"step": 1, "loss": 1.5}], "dev": {"nDCG@10": 0.1}, "checkpoint_key": "k", "identity": {}},
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
WORDS = {"idx": 2, "name": "2", "path": "3_Words", "type": "sentence_transformers.models.WordEmbeddings"}
WHOLE = (b'{"trainer_state.json": [2, "' + b"0" * 64 + b'"]}', b'{"optimizer.pt": 5}', b'{"whole.json": 22}')
"""Lists of a training checkpoint's files."""
FILE = {"rfilename": "corpus.jsonl", "size": 3, "lfs": {"sha256": "ab" * 32, "size": 3, "pointerSize": 1}}
REPOSITORY = {"id": "a/b", "sha": "a" * 40, "siblings": [FILE, {"rfilename": "modules.json", "size": 2}]}
MTEB = {
    **{"task_name": "SciFact", "mteb_version": "2.1.0", "dataset_revision": "r", "evaluation_time": 1.5},
    "scores": {"test": [{"ndcg_at_10": 0.5, "recall_at_100": 0.9, "hf_subset": "default", "nauc": None}]},
}
KILT = {"id": "1", "output": [{"answer": "a", "provenance": [{"wikipedia_id": "7"}, {"wikipedia_id": 8}]}]}
SUITE = b'name = "mine"\ndatasets = ["scifact", "./folder"]\n'
DATASET = b'name = "n"\nsplit = "test"\nexclude_self = true\ncitation = "c"\n[versions]\nsource = "s"\n'
EXPERIMENT = b'base = "mpnet"\nisotropy_weight = 0.05\nbatch_size = 16\nfreeze_base = false\nloss = "triplet"\n'
CLAIMS = (
    b'title = "t"\nsource = "s"\non = ["d"]\nmeasure = "nDCG@10"\n[models]\nours = "m"\n[[expected]]\nmodel = "m"\n'
    b'values = { d = 50.0 }\n[[claim]]\nname = "c"\ncriterion = "ours > 0.4"\n'
)
TRIPLETS = b'{"query": "a", "positive": "b", "negative": "c"}\n'
EXPRESSIONS = (b"bm25:k1=0.9,b=0.4", b"rrf(bm25:k1=1,minilm):k=20", b"rerank(rrf(bm25,minilm)):model=x", b"st:a/b@c")


def dumped(value: Any) -> bytes:
    """As JSON, whatever a hostile value is."""
    return json.dumps(value).encode()


def npy(shape: tuple[int, ...] = (3, 2), dtype: str = "float32") -> bytes:
    """A file of numpy's."""
    stream = io.BytesIO()
    np.save(stream, np.ones(shape, dtype), allow_pickle=False)
    return stream.getvalue()


def safetensors(header: Any = None) -> bytes:
    """A file of safetensors' with one matrix."""
    stated = dumped(header or {"w": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}})
    return len(stated).to_bytes(8, "little") + stated + bytes(8)


def zipped(names: tuple[str, ...] = ("t/corpus.jsonl", "t/queries.jsonl", "t/qrels/test.tsv")) -> bytes:
    """An archive in BEIR's layout."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, QRELS if name.endswith(".tsv") else DOCUMENT)
    return stream.getvalue()


def parquet() -> bytes:
    """Per-query scores."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    table = pyarrow.table({"query_id": ["q1", "q2"], "query": ["a", "b"], "relevant": [1, 1], "nDCG@10": [0.5, 0.5]})
    pyarrow.parquet.write_table(table, stream, compression="zstd", store_schema=False)
    return stream.getvalue()


def parquets() -> tuple[bytes, ...]:
    """The same in every encoding and form of pages that other programs write."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": ["x", "xy", None] * 20, "n": [1, 2, 3] * 20})
    made = []
    for form in (
        {"compression": "none", "use_dictionary": False},
        {"compression": "snappy", "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}},
        {"compression": "gzip", "data_page_size": 16, "row_group_size": 7, "store_schema": False},
    ):
        stream = io.BytesIO()
        pyarrow.parquet.write_table(table, stream, **form)
        made.append(stream.getvalue())
    return tuple(made)


def parquet_bomb(random: Random | None = None) -> bytes:
    """Some kilobytes that stand for gigabytes: a text or a number in millions of rows, a large text in thousands."""
    import pyarrow
    import pyarrow.parquet

    rows, size = (random or Random(0)).choice([(20_000_000, 1), (20_000, 1 << 20), (200, 20 << 20)])
    one = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), pyarrow.array(["q" * size]))
    columns = {"query_id": one, "query": one, "relevant": np.ones(rows, np.int64), "nDCG@10": np.full(rows, 0.5)}
    columns |= dict.fromkeys(("_id", "title", "text", "positive", "negative"), columns["query"])
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, compression="zstd", store_schema=False)
    return stream.getvalue()


def gzip_bomb(content: bytes = b"a" * 4096) -> bytes:
    """Some 300 kilobytes that unpack to 300 MB: the same member over and over, which is gzip too."""
    member = gzip.compress(content * ((1 << 20) // len(content)), mtime=0)
    return member * 300


def packed(content: bytes) -> bytes:
    """As gzip has it."""
    return gzip.compress(content, mtime=0)


def spoilt(data: bytes, random: Random) -> bytes:
    """Bytes with one to three hostile changes; where they are JSON, mostly to a value in it."""
    if random.random() < 0.7:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            pass
        else:
            for _ in range(random.randint(1, 3)):
                value = changed(value, random)
            deep = random.choice((90, 300, 900, 5000)) if random.random() < 0.1 else 0
            return dumped(value).replace(b"null", b"[" * deep + b"]" * deep, 1) if deep else dumped(value)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((0, 1, 2, 8, 64)))
        put = random.choice((b"", b"\0", b"\xff", b"\n", b"\t", b" ", b'"', b"[" * 2000, b"9" * 5000, b"\xed\xa0\x80"))
        put = random.choice((put, random.randbytes(random.randint(1, 4)), data[at // 2 : end]))
        data = data[:at] + put + data[end:]
    return data


def changed(value: Any, random: Random) -> Any:
    """A copy in which one value, at any depth, is a nasty one, is gone or has another key."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return copy.deepcopy(random.choice(NASTY))
    made = value.copy()
    key: Any = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
    chance = random.random()
    if chance < 0.1:
        del made[key]
    elif chance < 0.15 and isinstance(made, dict):
        made[random.choice(["", "\0", "../x", "<b>", "a" * 300])] = made.pop(key)
    else:
        made[key] = changed(value[key], random)
    return made


LADDER = {
    "key": "k",
    "processor": "p",
    "rows": [
        {"dim": 8, "precision": "int8", "rescoring": "", "bytes": 8, "score": 0.5, "difference": -0.1}
        | {"interval": [-0.2, 0.0], "queries_per_second": 10.0}
    ],
}
"""Rows of `harness compress`."""
