"""Strings in a model's folder that the libraries would run as code are refused before loading."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="checkpoints need sentence-transformers (the dense extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

import torch
from sentence_transformers.base.modules import Dense

from harness.types import UserError
from harness_plugins.cross_encoder import folder_of as cross_folder_of
from harness_plugins.model_folder import load
from harness_plugins.model_folder.code import ACTIVATIONS
from harness_plugins.model_folder.files import folder_of
from harness_plugins.model_folder.modules import (
    CLASSES,
    MULTI_VECTOR_CLASSES,
    MULTI_VECTOR_TYPE,
    SPARSE_CLASSES,
    SPARSE_TYPE,
    TYPE,
)
from tests.conftest import write_dataset
from tests.folders import change, write_bi_encoder, write_cross
from tests.runs import write_run
from tests.server import Site

CALLED = "torch.distributed.run.main"
"""A function of torch that runs the file which the first word of the command line names."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("code")
    return {"bi": write_bi_encoder(root / "bi", after=[Dense(32, 32)]), "cross": write_cross(root / "cross")}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A bi-encoder with a Dense module, for modification."""
    return shutil.copytree(folders["bi"], tmp_path / "model")


@pytest.fixture
def cross(folders: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(folders["cross"], tmp_path / "cross")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        folder_of({"path": str(folder)})
    return str(raised.value)


def nested(*keys: str, value: object) -> object:
    for key in reversed(keys):
        value = {key: value}
    return value


def test_sound_folders_pass(folder: Path, cross: Path) -> None:
    assert folder_of({"path": str(folder)}) == folder
    assert cross_folder_of({"model": str(cross)}) == cross


@pytest.mark.parametrize("command", [("benchmark", "-d", "ds"), ("check",)])
def test_an_activation_of_a_cross_encoder_runs_nothing(cross: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Like a cloned repository: a model's folder, and a file that torch's program would run."""
    change(cross / "config.json", sentence_transformers={"activation_fn": CALLED, "version": "5.0.0"})
    write_dataset(tmp_path / "ds", {"a": "heart", "b": "moon"}, {"q": "heart"}, [("q", "a", 1)])
    for name in ("benchmark", "check"):
        (tmp_path / name).write_text("open('ran', 'w').close()\n")
    model = "rerank(bm25):model=./cross"
    line = [command[0], *(("-m", model) if command[0] == "benchmark" else (model,)), *command[1:]]
    program = "import sys; from harness.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (2 if command[0] == "benchmark" else 1), done.stdout + done.stderr
    assert f"cross/config.json sets activation_fn to '{CALLED}', which is not allowed" in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [CALLED, "os.system", "torch.nn.functional.relu", "torch.nn.Module.cuda", "a.B"])
@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("config.json", ("sentence_transformers", "activation_fn")),
        ("config.json", ("sbert_ce_default_activation_function",)),
        ("config_sentence_transformers.json", ("activation_fn",)),
    ],
)
def test_every_place_of_a_cross_encoders_activation(cross: Path, file: str, keys: tuple[str, ...], value: str) -> None:
    change(cross / file, **{keys[0]: nested(*keys[1:], value=value)})
    with pytest.raises(UserError, match=f"sets {keys[-1]} to .*it must be an activation function of torch.nn"):
        cross_folder_of({"model": str(cross)})
    change(cross / file, **{keys[0]: nested(*keys[1:], value="torch.nn.modules.linear.Identity")})
    assert cross_folder_of({"model": str(cross)}) == cross


def test_nor_is_an_activation_made_that_got_past(cross: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_plugins.cross_encoder import load

    change(cross / "config.json", sentence_transformers={"activation_fn": "torch.cuda.is_available"})
    monkeypatch.setattr("harness_plugins.cross_encoder.require_valid", lambda *_: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("it was called"))
    load({"model": str(cross), "depth": 5, "dtype": "float32", "device": "cpu", "max_length": 0})


EVIL: dict[str, tuple[str, dict[str, object], str]] = {
    "activation of Dense": ("2_Dense/config.json", {"activation_function": CALLED}, "activation_function"),
    "another activation of Dense": ("2_Dense/config.json", {"activation_function": "my.Act"}, "activation_function"),
    "attention from the hub": ("config.json", {"attn_implementation": "some/kernel:run"}, "attn_implementation"),
    "the same by its other name": ("config.json", {"_attn_implementation": "some/kernel"}, "_attn_implementation"),
    "attention of a part": (
        "config.json",
        {"text_config": {"attn_implementation": {"": "sdpa", "x": "some/kernel"}}},
        "attn_implementation",
    ),
    "attention as an argument": (
        "sentence_bert_config.json",
        {"model_kwargs": {"attn_implementation": "kernels-community/flash-attn2"}},
        "attn_implementation",
    ),
    "experts": ("config.json", {"experts_implementation": "deepgemm"}, "experts_implementation"),
    "a dtype of no dtype": ("config.json", {"dtype": "load"}, "dtype"),
    "the same by its old name": ("config.json", {"torch_dtype": "hub"}, "torch_dtype"),
    "a dtype of a part": ("config.json", {"text_config": {"router_dtype": "load"}}, "router_dtype"),
    "tokenizer class": ("tokenizer_config.json", {"tokenizer_class": "AutoModel"}, "tokenizer_class"),
    "tokenizer class of the model": ("config.json", {"tokenizer_class": "pipeline"}, "tokenizer_class"),
    "processor class": ("tokenizer_config.json", {"processor_class": "RagRetriever"}, "processor_class"),
    "processor class of a file of its own": ("processor_config.json", {"processor_class": "pipeline"}, "processor"),
    "a processor inside": (
        "processor_config.json",
        {"audio": {"image_processor_type": "pipeline", "model": ".", "trust_remote_code": True}},
        "image_processor_type",
    ),
    "image processor": ("preprocessor_config.json", {"image_processor_type": "Trainer"}, "image_processor_type"),
    "kernels as an argument": ("sentence_bert_config.json", {"model_kwargs": {"use_kernels": True}}, "'use_kernels'"),
    "weights as an argument": ("sentence_bert_config.json", {"model_args": {"gguf_file": "x"}}, "gguf_file"),
    "a file as an argument": (
        "sentence_bert_config.json",
        {"processor_kwargs": {"tokenizer_file": "/etc/passwd"}},
        "'tokenizer_file'",
    ),
    "code as an argument": ("sentence_bert_config.json", {"config_kwargs": {"auto_map": {}}}, "'auto_map'"),
    "an unknown argument": ("sentence_bert_config.json", {"processor_name": "/tmp"}, "'processor_name'"),
    "a method": (
        "sentence_bert_config.json",
        {"modality_config": {"text": {"method": "save_pretrained", "method_output_name": None}}},
        "'save_pretrained'",
    ),
    "quantised": ("config.json", {"quantization_config": {"quant_method": "hqq"}}, "quantised weights are not"),
    "weights elsewhere": ("config.json", {"transformers_weights": "../x.safetensors"}, "transformers_weights"),
    "a configuration elsewhere": ("config.json", {"configuration_files": ["../config.9.json"]}, "configuration_files"),
    "shards elsewhere": ("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}, "weight_map"),
    "shards that are pickled": ("model.safetensors.index.json", {"weight_map": {"a": "x.bin"}}, "weight_map"),
    "a package's models": ("config.json", {"model_type": "timm_wrapper"}, "model_type"),
    "an adapter's modules": ("adapter_config.json", {"megatron_config": {"x": 1}}, "megatron_config"),
    "an adapter's module": ("adapter_config.json", {"megatron_core": "antigravity"}, "megatron_core"),
    "an adapter's kind": ("adapter_config.json", {"peft_type": "PROMPT_TUNING"}, "peft_type"),
    "an adapter's pickle": ("adapter_config.json", {"corda_config": {"cache_file": "/tmp/x"}}, "corda_config"),
    "an adapter's start": ("adapter_config.json", {"init_lora_weights": "corda"}, "init_lora_weights"),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_names_code_or_files_elsewhere_is_refused(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, fields, words = EVIL[name]
    monkeypatch.setattr(load, "load_model", lambda *_, **__: pytest.fail("it was opened"))
    change(folder / file, **fields)
    if file == "adapter_config.json":
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    told = refusal(folder)
    assert words in told
    assert str(folder / file) in told
    assert told.endswith(".")


def test_what_is_allowed_exists_and_is_a_class() -> None:
    for name in ACTIVATIONS:
        assert issubclass(getattr(torch.nn, name), torch.nn.Module), name
        getattr(torch.nn, name)()


@pytest.mark.parametrize("package", ["models", "base.modules", "sentence_transformer.modules"])
def test_module_classes_resolve_to_modules_of_sentence_transformers(package: str) -> None:
    module = importlib.import_module(f"sentence_transformers.{package}")
    known = [name for name in CLASSES if hasattr(module, name)]
    assert "Transformer" in known
    for name in known:
        assert TYPE.fullmatch(f"sentence_transformers.{package}.{name}")
        assert issubclass(getattr(module, name), torch.nn.Module)


@pytest.mark.parametrize("package", ["models", "modules"])
def test_classes_of_sparse_encoders_are_modules(package: str) -> None:
    module = importlib.import_module(f"sentence_transformers.sparse_encoder.{package}")
    for name in SPARSE_CLASSES:
        assert SPARSE_TYPE.fullmatch(f"sentence_transformers.sparse_encoder.{package}.{name}")
        assert issubclass(getattr(module, name), torch.nn.Module)
    for name in ("splade_pooling.torch", "SparseEncoder", "SpladePooling.load", "SpladePooling\n"):
        assert not SPARSE_TYPE.fullmatch(f"sentence_transformers.sparse_encoder.{package}.{name}")


def test_classes_of_multi_vector_encoders_are_modules() -> None:
    package = "sentence_transformers.multi_vector_encoder.modules"
    for name in MULTI_VECTOR_CLASSES:
        found = getattr(importlib.import_module(package), name)
        assert issubclass(found, torch.nn.Module)
        assert MULTI_VECTOR_TYPE.fullmatch(f"{package}.{name}")
        assert MULTI_VECTOR_TYPE.fullmatch(f"{found.__module__}.{name}")
    for name in ("LambdaTokenPooling", "token_pooling.torch", "MultiVectorMask.load", "MultiVectorMask\n"):
        assert not MULTI_VECTOR_TYPE.fullmatch(f"{package}.{name}")
    for name in ("pylate.models.ColBERT", "pylate.models.Dense.Dense.load", "pylate_models.Dense.Dense"):
        assert not MULTI_VECTOR_TYPE.fullmatch(name)


@pytest.mark.parametrize(
    "kind",
    [
        *("sentence_transformers.base.model.torch", "sentence_transformers.util.misc.importlib", "os.system"),
        *("sentence_transformers.models.Transformer.load", "sentence_transformers.SentenceTransformer", "modeling.X"),
        *("sentence_transformers.base.modules.Transformer\n", "sentence_transformers.models.", "", "Pooling"),
    ],
)
@pytest.mark.parametrize("router", ["", "router_config.json", "config.json"])
def test_other_classes_than_modules_are_not_imported(folder: Path, kind: str, router: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    if router:
        modules[2]["type"] = "sentence_transformers.base.modules.router.Router"
        (folder / "2_Dense" / "a").mkdir()
        (folder / "2_Dense" / router).write_text(json.dumps({"types": {"a": kind}, "structure": {"query": ["a"]}}))
    else:
        modules[2]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules))
    assert "which is not one of sentence-transformers' own; the code that" in refusal(folder)


def test_a_tokenizer_class_of_word_embeddings(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[2] |= {"type": "sentence_transformers.models.WordEmbeddings"}
    (folder / "modules.json").write_text(json.dumps(modules))
    config = folder / "2_Dense" / "wordembedding_config.json"
    prefix = "sentence_transformers.sentence_transformer.modules.tokenizer"
    for name in (f"{prefix}.whitespace.WhitespaceTokenizer", "sentence_transformers.models.tokenizer.PhraseTokenizer"):
        change(config, tokenizer_class=name)
        assert folder_of({"path": str(folder)}) == folder
    for name in ("sentence_transformers.base.model.torch", "os.path", f"{prefix}.word.os"):
        change(config, tokenizer_class=name)
        assert "it must be a tokenizer of sentence-transformers" in refusal(folder)


def entry_points(folder: Path, toy: Path) -> dict[str, Callable[[], object]]:
    """Everything that loads a model's folder, except the commands."""
    from harness_training.data.filters import CrossEncoding
    from harness_training.model.head import load_base
    from harness_training.release.release import checkpoint_of

    return {
        "training": lambda: load_base(folder),
        "release": lambda: checkpoint_of(folder),
        "filter": lambda: CrossEncoding(folder, 0.0),
    }


@pytest.mark.parametrize("entry", ["folder", "hub", "run", "training", "release", "filter", "rerank"])
def test_every_way_in_is_guarded(
    harness, folder: Path, cross: Path, entry: str, home: Path, site: Site, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.plugins.sentence_transformers.test_hub import publish

    monkeypatch.setenv("HF_HUB_CACHE", str(home / "cache"))
    monkeypatch.delenv("HARNESS_RUNS", raising=False)
    for path in (folder, cross):
        change(path / "config.json", attn_implementation="some/kernel:run")
    sentence = "sets attn_implementation to 'some/kernel:run', which is not allowed"
    if entry in ("training", "release", "filter"):
        with pytest.raises(UserError, match=sentence):
            entry_points(cross if entry == "filter" else folder, toy)[entry]()
        return
    publish(site, folder)
    write_run(Path("runs/isotropy/seed1"), folder)
    models = {
        "folder": str(folder),
        "hub": "st:someone/words",
        "run": "isotropy",
        "rerank": f"rerank(bm25):model={cross}",
    }
    done = harness("benchmark", "-m", models[entry], "-d", toy)
    assert done.code == 2, done.err
    assert sentence in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_pickle_is_not_opened_beside_weights_of_another_name(folder: Path) -> None:
    """sentence-transformers takes model.safetensors, and opens pytorch_model.bin where there is none of that name."""
    weights = folder / "2_Dense" / "model.safetensors"
    weights.rename(weights.with_name("other.safetensors"))
    weights.with_name("pytorch_model.bin").write_bytes(b"pickle")
    assert "pytorch_model.bin is pickled, and pickled weights are never opened" in refusal(folder)
