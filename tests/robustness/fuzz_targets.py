"""The parsers that are fuzzed, by name, and sound files for each."""

from __future__ import annotations

from typing import NamedTuple

from tests.robustness import fuzz_parsers as read
from tests.robustness import fuzz_seeds as seed
from tests.robustness.fuzz_parsers import GOOD, Parser

__all__ = ["GOOD", "TARGETS", "Target"]


class Target(NamedTuple):
    """A parser, and sound files for it."""

    parse: Parser
    seeds: tuple[bytes, ...]


_RESULT = (seed.dumped(seed.RESULT),)
TARGETS: dict[str, Target] = {
    "corpus": Target(read.file("corpus.jsonl", read.corpus), (seed.DOCUMENT,)),
    "corpus.gz": Target(read.file("corpus.jsonl.gz", read.corpus), (seed.packed(seed.DOCUMENT),)),
    "queries": Target(read.dataset("queries.jsonl"), (b'{"_id": "q1", "text": "a"}\n',)),
    "dataset-qrels": Target(read.dataset("qrels/test.tsv"), (seed.QRELS,)),
    "dataset.toml": Target(read.dataset("dataset.toml"), (seed.DATASET,)),
    "run": Target(read.file("a.trec", read.run), (seed.RUN, seed.packed(seed.RUN))),
    "qrels": Target(read.file("a.qrels", read.qrels), (seed.QRELS, b"q1 0 d1 1\n")),
    "suite": Target(read.file("suite.toml", read.suite), (seed.SUITE,)),
    "experiment": Target(read.file("mine.toml", read.experiment), (seed.EXPERIMENT,)),
    "claims": Target(read.file("claims.toml", read.claims), (seed.CLAIMS,)),
    "result.json": Target(read.results, _RESULT),
    "per_query": Target(read.per_query, (seed.parquet(),)),
    "shard": Target(
        read.shard, (seed.npy(), b'{"key": "ab", "rows": 3}', b'{"similarity": "dot", "shards": [["ab", 3]]}')
    ),
    "npy": Target(read.file("a.npy", read.npy), (seed.npy(), seed.npy((2, 3), "float16"))),
    "zip": Target(read.archive, (seed.zipped(), seed.zipped(("t/corpus.jsonl", "../x", "/etc/x")))),
    "modules.json": Target(read.checkpoint("modules.json"), (seed.dumped(seed.MODULES),)),
    "config.json": Target(read.checkpoint("config.json"), (b'{"model_type": "bert", "hidden_size": 2}',)),
    "settings": Target(
        read.checkpoint("config_sentence_transformers.json"),
        (b'{"model_type": "SentenceTransformer", "truncate_dim": 8, "prompts": {"query": "q: "}}',),
    ),
    "transformer": Target(
        read.checkpoint("sentence_bert_config.json"),
        (
            b'{"transformer_task": "feature-extraction", "modality_config": {"text": {"method": "forward"}}, '
            b'"model_kwargs": {"dtype": "float32"}, "tokenizer_name_or_path": null}',
        ),
    ),
    "tokenizer_config.json": Target(
        read.checkpoint("tokenizer_config.json"), (b'{"tokenizer_class": "BertTokenizer", "model_max_length": 512}',)
    ),
    "adapter_config.json": Target(
        read.checkpoint("adapter_config.json"), (b'{"base_model_name_or_path": "/", "peft_type": "LORA", "r": 4}',)
    ),
    "index.json": Target(
        read.checkpoint("model.safetensors.index.json"), (b'{"weight_map": {"a": "model.safetensors"}}',)
    ),
    "router_config.json": Target(
        read.checkpoint("router_config.json"),
        (b'{"types": {"a": "sentence_transformers.models.Dense"}, "structure": {"query": ["a"]}}',),
    ),
    "tokenizer.json": Target(
        read.checkpoint("tokenizer.json"),
        (b'{"post_processor": {"single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]}, "model": {"vocab": {}}}',),
    ),
    "special_tokens_map.json": Target(
        read.checkpoint("special_tokens_map.json"), (b'{"cls_token": {"content": "c"}}',)
    ),
    "dense": Target(
        read.checkpoint("2_Dense/config.json", seed.DENSE),
        (b'{"in_features": 2, "out_features": 1, "activation_function": "torch.nn.modules.linear.Identity"}',),
    ),
    "wordembedding_config.json": Target(
        read.checkpoint("3_Words/wordembedding_config.json", seed.WORDS),
        (
            b'{"tokenizer_class": "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer", '
            b'"update_embeddings": false, "max_seq_length": 9}',
        ),
    ),
    "bare": Target(
        read.checkpoint("config.json", bare=True),
        (b'{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "num_labels": 1}',),
    ),
    "safetensors": Target(read.checkpoint("model.safetensors"), (seed.safetensors(),)),
    "run.json": Target(read.file("runs/e/r/run.json", read.run_record), (seed.dumped(seed.RUN_RECORD),)),
    "whole.json": Target(read.file("steps/checkpoint-2/whole.json", read.whole_json), seed.WHOLE),
    "trainer_state.json": Target(
        read.file("steps/checkpoint-2/trainer_state.json", read.trainer_state),
        (b'{"best_global_step": 1, "global_step": 2, "log_history": [{"loss": 1.5}]}',),
    ),
    "part.json": Target(read.part_json, (seed.dumped({"url": read.ADDRESS, "size": 10, "tag": '"a"', "date": ""}),)),
    "answer": Target(read.answer, (read.ANSWER, read.WHOLE, b"HTTP/1.0 302 x\r\nLocation: http://a/b\r\n\r\n")),
    "parquet": Target(read.file("a.parquet", read.parquet), seed.parquets()),
    "value": Target(read.value, (b'"a, \\"b\\""', b"query: ", b"@x", b"$'a\\nb' c", b"a(b), c)")),
    "hub": Target(read.hub, (seed.dumped(seed.REPOSITORY), seed.parquet())),
    "mteb": Target(read.file("mteb/a__b/r/SciFact.json", read.mteb), (seed.dumped(seed.MTEB),)),
    "kilt": Target(read.file("a.jsonl", read.kilt), (seed.dumped(seed.KILT),)),
    "expression": Target(read.expression, seed.EXPRESSIONS),
    "prompts": Target(read.file("prompts.txt", read.prompts), (b'query: \r\n\n"a, \\u0062\\n"\n\\n \\\\n\n',)),
    "compression.json": Target(read.file("m/d/compression.json", read.ladder), (seed.dumped(seed.LADDER),)),
    "gated": Target(read.file("a", read.gated), (b'{"id": 1}\n', seed.packed(b'{"id": 1}\n'), b"\x1f\x9d\x90a\x00b")),
    "triplets": Target(read.file("a.jsonl", read.triplets), (seed.TRIPLETS,)),
    "triplets.tsv": Target(read.file("a.tsv", read.triplets), (b"query\tpositive\tnegative\na\tb\tc\n",)),
    "triplets.parquet": Target(read.file("a.parquet", read.triplets), (seed.parquet(),)),
    "training-set.json": Target(
        read.file("set/training-set.json", lambda p: read.triplets(p.parent)), (b'{"format": 1}',)
    ),
}
