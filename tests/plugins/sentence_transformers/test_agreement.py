"""Fast forward passes against SentenceTransformer.encode: vectors that would differ are made by encode() itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import CNN, LSTM, Pooling, WeightedLayerPooling, WordWeights

from harness.embeddings.encode import encode_texts
from harness.models.runner import Prepared
from harness.registry.load_fallback import Otherwise
from harness.registry.manager import ModelRef, load_registry
from harness.storage.atomic import content_key
from harness.storage.records import read_sealed
from harness.system.environment import versions
from harness.types import UserError
from harness_plugins.sentence_transformers.checkpoint import IMPLEMENTATIONS
from tests.folders import change, write_bi_encoder
from tests.tiny import DIM, transformer

TEXTS = ["", "a", "The heart pumps blood.", "moon bread " * 5, "UPPER 東京 lower", "word " * 60]


def write_layers(folder: Path) -> Path:
    """The mean of all layers' states: the unpadded pass provides only the last one."""
    write_bi_encoder(folder, between=[WeightedLayerPooling(DIM, num_hidden_layers=2, layer_start=0)])
    change(folder / "sentence_bert_config.json", config_kwargs={"output_hidden_states": True})
    return folder


def write_routed_head(folder: Path) -> Path:
    """A separate head for queries; our passes do not provide the task."""
    heads = Router.for_query_document([Dense(DIM, DIM)], [Dense(DIM, DIM)])
    return write_bi_encoder(folder, after=[heads])


def write_segments(folder: Path, family: str = "bert") -> Path:
    """A tokenizer that puts a text into the second segment."""
    base = folder.with_name(f"{folder.name}-base")
    transformer(base, family)
    content = json.loads((base / "tokenizer.json").read_text())
    for piece in content["post_processor"]["single"]:
        next(iter(piece.values()))["type_id"] = 1
    (base / "tokenizer.json").write_text(json.dumps(content))
    change(base / "tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    SentenceTransformer(modules=[Transformer(str(base), max_seq_length=48), Pooling(DIM, "mean")]).save(
        str(folder), create_model_card=False
    )
    return folder


def write_weights(folder: Path) -> Path:
    """A weight for each word, looked up by the token's id."""
    return write_bi_encoder(folder, between=[WordWeights([f"w{n}" for n in range(300)], {"w9": 7.0})])


def write_convolution(folder: Path) -> Path:
    return write_bi_encoder(folder, between=[CNN(DIM, 16, [1, 3])], width=32)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "layers": write_layers,
    "routed head": write_routed_head,
    "segments": write_segments,
    "weights": write_weights,
    "convolution": write_convolution,
    "plain": write_bi_encoder,
}
TAKEN = {"layers": "stock", "routed head": "encode", "segments": "encode", "weights": "stock"}
"""The pass used instead of the unpadded one."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("agreement"), dict[str, Path]()

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = WRITERS[name](root / name.replace(" ", "-"))
        return made[name]

    return folder


def ref(folder: Path, options: str = "") -> ModelRef:
    return load_registry().model(f"{folder}:device=cpu{options}")


def theirs(folder: Path, role: str) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu")
    encode = model.encode_query if role == "query" else model.encode_document
    return np.concatenate([encode([text]) for text in TEXTS])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", WRITERS)
def test_vectors_are_those_of_encode(folders, home: Path, name: str, dtype: str) -> None:
    folder = folders(name)
    model = Prepared(ref(folder, f",dtype={dtype}"), home)
    taken = TAKEN.get(name, "packed")
    assert model.ref.fingerprint["implementation"] == IMPLEMENTATIONS[taken]
    assert model.ref.label == ref(folder, f",dtype={dtype}").label  # the row's name stays
    assert ("because" if name in TAKEN else "") in model.ref.because
    for role in ("query", "document"):
        made = encode_texts(model.dense, "it", TEXTS, role)  # type: ignore[arg-type]
        expected = theirs(folder, role)
        if dtype == "float32":
            np.testing.assert_allclose(made, expected, atol=1e-5)
        else:
            cosines = (made * expected).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(expected, axis=1)
            assert cosines.min() > 0.99
    plain = encode_texts(Prepared(ref(folders("plain"), f",dtype={dtype}"), home).dense, "it", TEXTS, "query")
    if name in ("layers", "segments"):  # what the unpadded pass would have given
        assert np.abs(plain - theirs(folder, "query")).max() > 0.05


def test_a_convolution_does_not_read_the_padding_of_a_batch(folders, tmp_path: Path) -> None:
    """Two of them: the first one's output is not zero where there is padding."""
    twice = write_bi_encoder(tmp_path / "twice", between=[CNN(DIM, 16, [1, 3]), CNN(32, 16, [1, 5])], width=32)
    for folder in (folders("convolution"), twice):
        stock = ref(folder, ",dtype=float32,forward=stock")
        assert stock.fingerprint["implementation"] == IMPLEMENTATIONS["stock with CNN"]
        for made in (stock.load(), ref(folder, ",dtype=float32,forward=packed").load()):
            np.testing.assert_allclose(made.encode(TEXTS, role="query"), theirs(folder, "query"), atol=1e-5)


@pytest.mark.parametrize("name", ["layers", "segments"])
def test_a_note_says_so_and_the_vectors_have_a_key_of_their_own(
    harness, folders, toy: Path, home: Path, name: str
) -> None:
    words = ("benchmark", "-m", f"{folders(name)}:dtype=float32,device=cpu", "-d", toy, "--json")
    done = harness(*words)
    assert done.code == 0, done.err
    [cell] = json.loads(done.out)
    taken = TAKEN[name]
    [(label, reason)] = cell["manifest"]["run"]["fallbacks"].items()
    assert label == cell["model"]
    before = {"stock": "packed", "encode": "stock"}[taken]
    assert reason.startswith(f"taken with forward={taken}, because its vectors by forward={before} are not those of")
    assert f"note: {label} is {reason}\n" in done.err
    own = ref(folders(name), f",dtype=float32,forward={taken}")
    assert cell["manifest"]["model"]["fingerprint"] == own.fingerprint
    assert [place.name for place in (home / "vectors").iterdir()] == [own.key[:32]]
    assert json.loads(harness(*words).out)[0]["cell"] == "cached"


def test_the_three_passes_never_share_a_key(folders) -> None:
    keys = {ref(folders("plain"), f",forward={forward}").key for forward in ("packed", "stock", "encode")}
    assert len(keys) == 3
    assert ref(folders("plain")).key == ref(folders("plain"), ",forward=packed").key


def test_stored_vectors_of_plain_models_keep_their_key(folders) -> None:
    """Keys did not change when the comparison was introduced."""
    found = ref(folders("plain"), ",dtype=float32").fingerprint
    assert found == {
        "model": "",
        "kind": "dense",
        "files": found["files"],
        "implementation": "texts end to end, bf16/fp16 matrix products, fp32 LayerNorm, residuals, pooling, undecided "
        "texts; 2",
        "dtype": "float32",
        "max_seq_length": 0,
        "query_prompt": None,
        "document_prompt": None,
    }
    assert set(found["files"]) == {
        *("1_Pooling/config.json", "config.json", "config_sentence_transformers.json", "model.safetensors"),
        *("modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"),
    }
    assert ref(folders("plain"), ",forward=stock").fingerprint["implementation"] == (
        "sentence-transformers padded batches, bf16/fp16 linear layers under autocast, fp32 pooling; 1"
    )


def test_packed_by_name_is_refused_even_where_vectors_are_stored(
    harness, folders, toy: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = f"{folders('layers')}:dtype=float32,device=cpu,forward=packed"
    words = ("benchmark", "-m", typed, "-d", toy, "--json")
    with monkeypatch.context() as before:  # as before the comparison was introduced
        before.setattr("harness_plugins.sentence_transformers.checkpoint.require_agreement", lambda *_: None)
        before.setattr("harness_plugins.sentence_transformers.checkpoint.trial", lambda options: False)
        assert harness(*words).code == 0
    for _ in range(2):  # detected, then remembered
        done = harness(*words)
        assert done.code == 2
        assert "Its vectors by forward=packed are not those of encode()" in done.err.splitlines()[-1]
        assert "type forward=stock" in done.err.splitlines()[-1]
    wrong = harness("benchmark", "-m", typed.replace(",forward=packed", ""), "-d", toy, "--json")
    assert json.loads(wrong.out)[0]["cell"] == "ok"  # the stored ones are not taken for its own


def test_what_was_found_without_a_comparison_is_found_again(folders, home: Path) -> None:
    from harness.storage.atomic import write_json
    from harness.storage.records import seal

    model = ref(folders("layers"), ",dtype=float32")
    old = home / "trials" / f"{content_key([model.own_key, versions()])[:32]}.json"
    old.parent.mkdir(parents=True)
    write_json(old, seal({"options": {}, "reason": ""}))
    assert read_sealed(old)["options"] == {}
    assert Prepared(model, home).ref.options["forward"] == "stock"


def test_packed_by_name_needs_a_model_whose_texts_can_be_tokenised_apart(tmp_path: Path, home: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model", prompts={"query": "q: ", "document": "d: "})
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    auto = ref(folder).load()
    assert not hasattr(auto, "tokenize")
    with pytest.raises(UserError, match="This model prepares texts in a way of its own; type forward=stock"):
        ref(folder, ",forward=packed").load()


def test_modules_that_do_not_fit_together_are_told_in_one_sentence(harness, tmp_path: Path, toy: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model", between=[LSTM(DIM, 16)], width=32)
    done = harness("benchmark", "-m", folder, "-d", toy)
    assert done.code == 2
    assert "cannot be run by sentence-transformers itself: encode() raises KeyError: 'sentence_lengths'" in done.err
    assert "Traceback" not in done.err


def test_stock_falls_back_as_well(folders, home: Path) -> None:
    for name in ("segments", "routed head"):
        with pytest.raises(Otherwise, match="Its vectors by forward=stock"):
            ref(folders(name), ",forward=stock").load()
        assert Prepared(ref(folders(name), ",forward=stock"), home).ref.options["forward"] == "encode"


def test_only_models_that_may_differ_are_loaded_to_know(folders, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with ordinary files and the stock pass need not be loaded to find its results."""
    loaded: list[Any] = []
    monkeypatch.setattr(
        "harness_plugins.sentence_transformers.checkpoint._load", lambda folder, options: loaded.append(folder)
    )
    for name, tried in (("plain", 0), ("layers", 1), ("segments", 1), ("weights", 1), ("routed head", 1)):
        loaded.clear()
        Prepared(ref(folders(name), ",forward=stock"), home)
        assert len(loaded) == tried, name


def test_a_model_whose_weights_are_not_all_there_is_refused(folders, tmp_path: Path, harness, toy: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders("plain"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    pooled = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(pooled, folder / "model.safetensors", metadata={"format": "pt"})
    ref(folder).load()  # nothing is computed with the pooler
    kept = {name: tensor for name, tensor in pooled.items() if "encoder.layer.1.output" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    done = harness("benchmark", "-m", folder, "-d", toy)
    assert done.code == 2
    assert f"{folder} lacks 4 of its model's weights (encoder.layer.1.output.LayerNorm.bias and others)" in done.err
    assert "random values" in done.err


def test_int8_has_no_slower_pass_to_fall_back_to(folders) -> None:
    with pytest.raises(
        UserError, match=r"cannot be run with dtype=int8: its vectors by forward=packed .*omit the dtype"
    ):
        ref(folders("layers"), ",dtype=int8").load()
