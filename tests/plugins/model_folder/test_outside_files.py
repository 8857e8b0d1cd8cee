"""Files outside a model's folder: part of its key where they are read, and never fetched."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

from sentence_transformers import SentenceTransformer

from harness.embeddings.encode import encode_texts
from harness.registry.manager import ModelRef, load_registry
from harness.types import UserError
from harness_plugins.model_folder.outside_files import with_local_bases
from tests.folders import change, write_bi_encoder, write_cross

TEXTS = ["the heart", "moon", "bread and blood"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("outside")
    return {"bi": write_bi_encoder(root / "bi"), "cross": write_cross(root / "cross")}


def ref(folder: Path) -> ModelRef:
    return load_registry().model(f"{folder}:dtype=float32,device=cpu")


def refused(folder: Path, words: str) -> None:
    with pytest.raises(UserError, match=words):
        _ = ref(folder).key


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def adapter(folders: dict[str, Path], place: Path, *, base: str) -> Path:
    """A folder as sentence-transformers saves a model with an adapter: the base's weights are not in it."""
    folder = shutil.copytree(folders["bi"], place)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    change(folder / "adapter_config.json", base_model_name_or_path=base, peft_type="LORA", r=4)
    return folder


@pytest.mark.parametrize("written", ["absolute", "relative"])
def test_the_base_of_an_adapter_is_part_of_its_key(
    folders: dict[str, Path], tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(folders["bi"], tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    folder = adapter(folders, tmp_path / "adapter", base=str(base) if written == "absolute" else "./base")
    before = ref(folder)
    names = before.fingerprint["files"]
    assert {f"base_model_name_or_path/{name}" for name in ("config.json", "model.safetensors")} <= names.keys()
    (base / "README.md").write_text("card")
    assert ref(folder).key == before.key
    for file in ("model.safetensors", "config.json"):
        kept = (base / file).read_bytes()
        flip(base / file) if file == "model.safetensors" else change(base / file, layer_norm_eps=0.5)
        assert ref(folder).key != before.key
        (base / file).write_bytes(kept)
    assert ref(folder).key == before.key
    moved = base.rename(tmp_path / "moved")
    change(folder / "adapter_config.json", base_model_name_or_path=str(moved))
    assert ref(folder).fingerprint["files"].keys() == names.keys()


@pytest.mark.parametrize("base", ["sentence-transformers/all-MiniLM-L6-v2", "./gone", "/gone/base", ""])
def test_a_base_that_is_not_here_is_refused_with_where_it_was_looked_for(
    harness, folders: dict[str, Path], tmp_path: Path, toy: Path, base: str
) -> None:
    folder = adapter(folders, tmp_path / "adapter", base=base)
    for words in (("benchmark", "-m", folder, "-d", toy), ("check", folder)):
        done = harness(*words)
        assert done.code == 2, done.err
        [told] = [line for line in done.err.splitlines() if line.startswith("harness: ")]
        assert f"names {base!r} as base_model_name_or_path, which is not a folder on this machine" in told
        assert f"looked for {(Path.cwd() / base).absolute()}" in told
        assert "merge_and_unload" in told
        assert "huggingface.co" not in done.err


@pytest.mark.parametrize("place", ["models/hub/lab--base/0ff1ce", "cache/models--lab--base/snapshots/0ff1ce"])
def test_a_base_of_the_hub_with_a_copy_on_this_machine_is_part_of_the_key(
    folders: dict[str, Path], home: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "cache"))
    folder = adapter(folders, tmp_path / "adapter", base="lab/base")
    refused(folder, r"which is not a folder on this machine .*; type: hf download lab/base \(or ")
    base = shutil.copytree(folders["bi"], home / place)
    (home / "models/hub/lab--base").mkdir(parents=True, exist_ok=True)
    (home / "models/hub/lab--base/revisions.json").write_text('{"main": "0ff1ce"}')
    (home / "cache/models--lab--base/refs").mkdir(parents=True, exist_ok=True)
    (home / "cache/models--lab--base/refs/main").write_text("0ff1ce")
    (base / "modules.json").unlink()  # a base need not be a sentence-transformers model
    before = ref(folder)
    assert "base_model_name_or_path/model.safetensors" in before.fingerprint["files"]
    flip(base / "model.safetensors")
    assert ref(folder).key != before.key
    change(folder / "adapter_config.json", base_model_name_or_path=str(base))
    with with_local_bases(folder) as same:
        assert same == folder
    change(folder / "adapter_config.json", base_model_name_or_path="lab/base")
    with with_local_bases(folder) as links:
        assert json.loads((links / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
        for name in ("adapter_model.safetensors", "1_Pooling/config.json"):
            assert (links / name).read_bytes() == (folder / name).read_bytes()
    assert not links.exists()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "lab/base"


def test_a_base_is_examined_as_the_folder_is(folders: dict[str, Path], tmp_path: Path) -> None:
    base = shutil.copytree(folders["bi"], tmp_path / "base")
    folder = adapter(folders, tmp_path / "adapter", base=str(base))
    change(base / "config.json", attn_implementation="some/kernel")
    refused(folder, r"base/config\.json sets attn_implementation to 'some/kernel'")
    change(base / "config.json", attn_implementation=None)
    change(base / "adapter_config.json", base_model_name_or_path=str(folder))
    refused(folder, "which is an adapter itself")


def test_pickled_adapters_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = adapter(folders, tmp_path / "adapter", base=str(folders["bi"]))
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    refused(folder, r"adapter_model\.bin is pickled, and pickled weights are never opened")


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="adapters need peft")
def test_an_adapters_vectors_are_those_of_sentence_transformers(
    folders: dict[str, Path], home: Path, tmp_path: Path
) -> None:
    import peft

    base = shutil.copytree(folders["bi"], tmp_path / "base")
    model = SentenceTransformer(str(base), device="cpu")
    settings = {"r": 4, "target_modules": ["query", "value"], "init_lora_weights": False}
    model.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", **settings))
    model.save(str(tmp_path / "adapter"), create_model_card=False)
    expected = SentenceTransformer(str(tmp_path / "adapter"), device="cpu").encode_document(TEXTS)
    made = encode_texts(ref(tmp_path / "adapter").load(), "it", TEXTS, "document")
    np.testing.assert_allclose(made, expected, atol=1e-5)
    shutil.copytree(base, home / "models/hub/lab--base/0ff1ce")
    (home / "models/hub/lab--base/revisions.json").write_text('{"main": "0ff1ce"}')
    change(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="lab/base")
    np.testing.assert_array_equal(encode_texts(ref(tmp_path / "adapter").load(), "it", TEXTS, "document"), made)
    assert np.abs(made - SentenceTransformer(str(base), device="cpu").encode_document(TEXTS)).max() > 0.01


def test_a_tokenizer_elsewhere_is_part_of_the_key_and_used(folders: dict[str, Path], tmp_path: Path) -> None:
    folder, words = shutil.copytree(folders["bi"], tmp_path / "model"), tmp_path / "words"
    words.mkdir()
    shutil.copy(folder / "config.json", words)
    for file in folder.glob("token*"):
        file.rename(words / file.name)
    change(folder / "sentence_bert_config.json", tokenizer_name_or_path=str(words))
    before = ref(folder)
    assert "tokenizer_name_or_path/tokenizer.json" in before.fingerprint["files"]
    vectors = encode_texts(before.load(), "it", TEXTS, "document")
    content = json.loads((words / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["heart"], vocabulary["moon"] = vocabulary["moon"], vocabulary["heart"]
    (words / "tokenizer.json").write_text(json.dumps(content))
    after = ref(folder)
    assert after.key != before.key
    assert np.abs(encode_texts(after.load(), "it", TEXTS, "document") - vectors).max() > 0.01
    change(folder / "sentence_bert_config.json", tokenizer_name_or_path="google-bert/bert-base-uncased")
    refused(folder, "as tokenizer_name_or_path, which is not a folder on this machine")


@pytest.mark.parametrize(
    "name",
    [
        *("cnn_config.json", "lstm_config.json", "wordembedding_config.json", "config.4.0.0.json", "bpe.codes"),
        *("additional_chat_templates/a.jinja", "entity_vocab.json", "source.spm", "tekken.json", "spiece.model"),
    ],
)
def test_whatever_the_libraries_may_read_in_the_folder_is_part_of_the_key(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(folders["bi"], tmp_path / "model")
    before = ref(folder).key
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    assert ref(folder).key != before


def test_what_a_link_leads_to_is_part_of_the_key(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bi"], tmp_path / "model")
    plain = ref(folder).key
    for name in ("model.safetensors", "1_Pooling"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert ref(folder).key == plain
    flip(tmp_path / "model.safetensors")
    changed = ref(folder).key
    assert changed != plain
    change(tmp_path / "1_Pooling" / "config.json", pooling_mode="cls")
    assert ref(folder).key != changed


def test_a_cross_encoders_files_are_those_of_its_module(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["cross"], tmp_path / "cross")
    typed = f"rerank(bm25):model={folder}"
    root = load_registry().model(typed).own_fingerprint["files"]
    assert "model.safetensors" in root
    inside = folder / "0_Transformer"
    inside.mkdir()
    for file in [*folder.glob("*token*"), folder / "config.json", folder / "sentence_bert_config.json"]:
        shutil.copy(file, inside)
    shutil.copy(folder / "model.safetensors", inside)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    before = load_registry().model(typed).own_key
    assert "0_Transformer/model.safetensors" in load_registry().model(typed).own_fingerprint["files"]
    flip(inside / "model.safetensors")
    assert load_registry().model(typed).own_key != before


def test_a_release_holds_all_that_it_needs(folders: dict[str, Path], tmp_path: Path) -> None:
    from harness_training.release.release import safe_files

    folder = adapter(folders, tmp_path / "adapter", base=str(folders["bi"]))
    with pytest.raises(UserError, match=r"reads .*bi as well \(base_model_name_or_path\); merge it"):
        safe_files(folder)
