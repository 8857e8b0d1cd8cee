"""The two published models as descriptors; with local weights, also the weights' own settings."""

from __future__ import annotations

import json
import re
from types import ModuleType

import pytest

from harness.cli.main import State
from harness.download.local_weights import locate
from harness.types import Weights, resolve
from harness_plugins.model_folder.pinned import MINILM, MPNET
from harness_plugins.sentence_transformers import minilm, mpnet


@pytest.mark.parametrize(("plugin", "name"), [(mpnet, "mpnet"), (minilm, "minilm")])
def test_descriptor(plugin: ModuleType, name: str) -> None:
    (spec,) = plugin.harness_models()
    assert (spec.name, spec.kind, spec.similarity) == (name, "dense", "cosine")
    assert callable(resolve(spec.load))
    assert callable(resolve(spec.fingerprint))
    assert spec.options["path"].default is None
    assert {"msmarco", "nq", "quora"} <= set(spec.trained_on)
    assert spec.files.weights is not None
    assert spec.files.weights.name == name  # `harness fetch NAME` in the messages must be a name that the harness knows
    assert re.fullmatch(r"sentence-transformers/[\w-]+@[0-9a-f]{40}", spec.files.weights.hub)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in spec.files.weights.sha256.values())
    assert {"model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json"} <= set(
        spec.files.weights.sha256
    )


@pytest.mark.parametrize(("weights", "tokens", "dim"), [(MPNET, 384, 768), (MINILM, 256, 384)])
def test_the_pinned_files_are_the_model_that_the_summary_promises(weights: Weights, tokens: int, dim: int) -> None:
    folder = locate(weights, State().home)
    if folder is None:
        pytest.skip(f"the weights are not on this machine; type: harness fetch {weights.name}")

    def read(file: str) -> dict[str, object]:
        return json.loads((folder / file).read_text())  # type: ignore[no-any-return]

    assert read("sentence_bert_config.json")["max_seq_length"] == tokens
    pooling = read("1_Pooling/config.json")
    assert pooling["word_embedding_dimension"] == read("config.json")["hidden_size"] == dim
    assert [mode for mode, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens"]
    kinds = [module["type"].rpartition(".")[2] for module in json.loads((folder / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
