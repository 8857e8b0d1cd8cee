"""Local sentence-transformers folders: the vectors that sentence-transformers itself gives, and the faults of folders.

Every folder is made here: tiny transformers with random weights, and a tokenizer with a vocabulary of a few words.
"""

from __future__ import annotations

import gzip
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
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import BoW, Pooling, StaticEmbedding

from harness.embeddings.encode import encode_texts
from harness.evaluation.record import model_record
from harness.registry.manager import ModelRef, load_registry
from harness.types import PluginError, TokenModel
from tests.tiny import DIM, LONGEST, tokenizer, transformer

TEXTS = [
    "",
    " ",
    "a",
    "The heart pumps blood.",
    "UPPER lower Straße café 東京 🙂 e\u0301",
    "tabs\tand\nnew\r\nlines \u200b \u00a0 end",
    "[CLS] is not a mark here [SEP] [PAD]",
    *("word " * n for n in (1, 5, 20, LONGEST - 3, LONGEST - 2, LONGEST - 1, LONGEST, 200)),
    *(" ".join(["blood", "moon", "bread"][i % 3] for i in range(n)) for n in (2, 3, 9, 31)),
    "x" * 500,
]


def static(seed: int = 0) -> StaticEmbedding:
    words = tokenizer({"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]"})
    weights = np.random.default_rng(seed).normal(size=(len(words), DIM)).astype(np.float32)
    return StaticEmbedding(words, embedding_weights=weights)


PROMPTS = {"query": "query: ", "document": "passage: "}
Stack = Callable[[Path], SentenceTransformer]
STACKS: dict[str, Stack] = {
    "mean": lambda base: SentenceTransformer(modules=[transformer(base), Pooling(DIM, "mean")]),
    "cls": lambda base: SentenceTransformer(modules=[transformer(base), Pooling(DIM, "cls")]),
    "last": lambda base: SentenceTransformer(modules=[transformer(base), Pooling(DIM, "lasttoken")]),
    "two": lambda base: SentenceTransformer(modules=[transformer(base), Pooling(DIM, ("cls", "mean"))]),
    "euclidean": lambda base: SentenceTransformer(
        modules=[transformer(base, "mpnet"), Pooling(DIM, "mean"), Dense(DIM, 24)], similarity_fn_name="euclidean"
    ),
    "cosine": lambda base: SentenceTransformer(
        modules=[transformer(base, "mpnet"), Pooling(DIM, "mean"), Normalize()], similarity_fn_name="cosine"
    ),
    "dot": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean")], similarity_fn_name="dot"
    ),
    "prompts": lambda base: SentenceTransformer(modules=[transformer(base), Pooling(DIM, "mean")], prompts=PROMPTS),
    "default prompt": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean")], prompts={"all": "the "}, default_prompt_name="all"
    ),
    "prompt not pooled": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean", include_prompt=False)], prompts=PROMPTS
    ),
    "truncated": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean"), Normalize()], truncate_dim=8
    ),
    "truncated, prompt not pooled": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean", include_prompt=False)], prompts=PROMPTS, truncate_dim=8
    ),
    "truncated beyond": lambda base: SentenceTransformer(
        modules=[transformer(base), Pooling(DIM, "mean")], truncate_dim=2 * DIM
    ),
    "truncated static": lambda base: SentenceTransformer(modules=[static()], truncate_dim=8),
    "words": lambda base: SentenceTransformer(modules=[BoW(["heart", "moon", "a", "word"])]),
    "static": lambda base: SentenceTransformer(modules=[static()]),
    "routed": lambda base: SentenceTransformer(
        modules=[Router({"query": [static(1)], "document": [static(2)]}, default_route="document")]
    ),
}
PLAIN = {"static", "routed", "prompt not pooled", "truncated, prompt not pooled", "truncated static", "words"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a list of modules, saved once."""
    root = tmp_path_factory.mktemp("folders")

    def folder(name: str) -> Path:
        path = root / name.replace(" ", "-").replace(",", "")
        if not path.exists():
            STACKS[name](root / f"{path.name}-base").save(str(path), create_model_card=False)
        return path

    return folder


@pytest.fixture
def copy(folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy to corrupt."""
    return lambda name: shutil.copytree(folders(name), tmp_path / "copy")


def ref(folder: Path, options: str = "dtype=float32") -> ModelRef:
    return load_registry().model(f"{folder}:{options}" if options else str(folder))


def ours(folder: Path, role: str, options: str = "dtype=float32") -> np.ndarray:
    return encode_texts(ref(folder, options).load(), "it", TEXTS, role)  # type: ignore[arg-type]


def theirs(model: SentenceTransformer, role: str, texts: list[str] = TEXTS, **settings: Any) -> np.ndarray:
    encode = model.encode_query if role == "query" else model.encode_document
    return encode(texts, show_progress_bar=False, **settings)


@pytest.mark.parametrize("role", ["query", "document"])
@pytest.mark.parametrize("stack", STACKS)
def test_vectors_are_those_of_sentence_transformers(folders, stack: str, role: str) -> None:
    folder = folders(stack)
    model = SentenceTransformer(str(folder), device="cpu")
    expected = theirs(model, role)
    loaded = ref(folder, "dtype=float32,device=cpu").load()
    assert isinstance(loaded, TokenModel) == (stack not in PLAIN)
    assert loaded.dim == expected.shape[1]
    made = encode_texts(loaded, "it", TEXTS, role)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert loaded.similarity == {"euclidean": "euclidean", "dot": "dot"}.get(stack, "cosine")
    if stack in ("prompts", "prompt not pooled"):
        bare = theirs(model, role, prompt="")
        assert np.abs(made - bare).max() > 0.01  # the prompt does make a difference


@pytest.mark.parametrize("stack", ["mean", "euclidean"])
def test_half_the_precision_is_nearly_the_same(folders, stack: str) -> None:
    exact = ours(folders(stack), "document")
    made = ours(folders(stack), "document", "dtype=bfloat16")
    assert made.dtype == np.float32
    assert not np.array_equal(made, exact)
    cosines = (made * exact).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize("stack", ["mean", "prompts", "prompt not pooled"])
def test_texts_are_cut_where_the_option_says(folders, stack: str) -> None:
    model = SentenceTransformer(str(folders(stack)), device="cpu")
    model.max_seq_length = 16
    made = ours(folders(stack), "document", "dtype=float32,max_seq_length=16")
    np.testing.assert_allclose(made, theirs(model, "document"), atol=1e-5)
    assert np.abs(made - ours(folders(stack), "document")).max() > 0.01


@pytest.mark.parametrize("prompt", ["", "the heart: ", "heart"])
def test_prompts_given_as_options_win_to_the_last_space(folders, prompt: str) -> None:
    model = SentenceTransformer(str(folders("prompts")), device="cpu")
    options = f"dtype=float32,document_prompt={prompt}"
    assert ref(folders("prompts"), options).options["document_prompt"] == prompt
    made = ours(folders("prompts"), "document", options)
    np.testing.assert_allclose(made, theirs(model, "document", prompt=prompt), atol=1e-5)


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: flip(folder / "model.safetensors"),
    "a head's weights": lambda folder: flip(folder / "2_Dense" / "model.safetensors"),
    "tokenizer": lambda folder: change(folder / "tokenizer.json", truncation={"max_length": 9}),
    "tokenizer settings": lambda folder: change(folder / "tokenizer_config.json", padding_side="left"),
    "architecture": lambda folder: change(folder / "config.json", layer_norm_eps=0.5),
    "pooling": lambda folder: change(folder / "1_Pooling" / "config.json", pooling_mode="cls"),
    "prompts": lambda folder: change(folder / "config_sentence_transformers.json", prompts={"query": "q: "}),
    "similarity": lambda folder: change(folder / "config_sentence_transformers.json", similarity_fn_name="dot"),
    "length": lambda folder: change(folder / "sentence_bert_config.json", max_seq_length=9),
    "modules": lambda folder: (folder / "modules.json").write_text(
        json.dumps(json.loads((folder / "modules.json").read_text())[:2])
    ),
    "another tokenizer file": lambda folder: (folder / "added_tokens.json").write_text("{}"),
    "an adapter": lambda folder: adapted(folder),
}


def adapted(folder: Path) -> None:
    base = shutil.copytree(folder, folder.with_name("adapted-base"))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change(path: Path, **fields: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | fields))


@pytest.mark.parametrize("what", CHANGES)
def test_the_key_changes_with_everything_that_decides_the_vectors(copy, what: str) -> None:
    folder = copy("euclidean")
    before = ref(folder).key
    CHANGES[what](folder)
    assert ref(folder).key != before


def test_the_key_changes_with_weights_that_a_router_leads_to(copy) -> None:
    folder = copy("routed")
    before = ref(folder).key
    flip(next(folder.glob("query_0_*/model.safetensors")))
    assert ref(folder).key != before


def test_the_key_changes_with_the_options_and_not_with_cards_logs_exports_or_the_folders_name(
    copy, tmp_path: Path
) -> None:
    folder = copy("euclidean")
    before = ref(folder).key
    others = ["dtype=bfloat16", "max_seq_length=9", "query_prompt=q", "document_prompt=q", "query_prompt="]
    keys = {ref(folder, f"dtype=float32,{option}").key for option in others[1:]} | {ref(folder, others[0]).key, before}
    assert len(keys) == 6
    for name in ("README.md", "train.log", "onnx/model.onnx", "checkpoint-5/model.safetensors", "eval/results.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("something else")
    assert ref(folder).key == before
    moved = folder.rename(tmp_path / "renamed")
    assert ref(moved).key == before
    assert ref(moved, "").label == f"renamed@{ref(moved, '').key[:6]}"
    assert ref(moved).label == f"renamed@{before[:6]}:dtype=float32"


def ranking(path: Path, query: str) -> list[str]:
    with gzip.open(path, "rt") as lines:
        return [line.split()[2] for line in lines if line.split()[0] == query]


@pytest.mark.parametrize("similarity", ["euclidean", "cosine", "dot"])
def test_a_folder_is_benchmarked_without_a_plug_in(harness, folders, toy: Path, similarity: str) -> None:
    folder = folders(similarity)
    done = harness("benchmark", "-m", folder, "--dtype", "float32", "-d", toy, "--json")
    assert done.code == 0, done.err
    (result,) = json.loads(done.out)
    assert result["manifest"]["model"]["similarity"] == similarity
    assert result["model"].startswith(f"{similarity}@")
    model = SentenceTransformer(str(folder), device="cpu")
    documents = [json.loads(line) for line in (toy / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (toy / "queries.jsonl").read_text().splitlines()]
    texts = [f"{document['title']} {document['text']}".strip() for document in documents]
    x = theirs(model, "document", texts).astype(np.float64)
    for query in queries:
        q = theirs(model, "query", [query["text"]])[0].astype(np.float64)
        scores = {
            "euclidean": -np.linalg.norm(x - q, axis=1),
            "dot": x @ q,
            "cosine": x @ q / np.linalg.norm(x, axis=1) / np.linalg.norm(q),
        }[similarity]
        place = {document["_id"]: score for document, score in zip(documents, scores, strict=True)}
        (run,) = Path("results").glob("*/toy/run.trec.gz")
        found = [place[name] for name in ranking(run, query["_id"])]
        assert len(found) == len(documents)
        assert np.diff(found).max() < 1e-5  # never rises


def test_a_checkpoint_passes_the_check(harness, folders) -> None:
    for stack, count in (("prompts", 13), ("static", 12)):  # tokenising apart is one check more
        done = harness("check", folders(stack))
        assert done.code == 0, done.out
        assert len(done.out.splitlines()) == count


@pytest.mark.parametrize("forward", ["packed", "stock", "encode"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dimension_that_the_folder_states_is_that_of_every_forward_pass(folders, forward: str, dtype: str) -> None:
    folder = folders("truncated")
    loaded = ref(folder, f"dtype={dtype},device=cpu,forward={forward}").load()
    assert loaded.dim == 8
    for role in ("query", "document"):
        made = encode_texts(loaded, "it", TEXTS, role)
        expected = theirs(SentenceTransformer(str(folder), device="cpu"), role)
        assert made.shape == expected.shape == (len(TEXTS), 8)
        np.testing.assert_allclose(made, expected, atol=1e-5 if dtype == "float32" else 0.05)


def test_a_folder_that_states_a_dimension_is_benchmarked(harness, folders, toy: Path) -> None:
    done = harness("benchmark", "-m", folders("truncated"), "-d", toy, "--json")
    assert done.code == 0, done.err
    [result] = json.loads(done.out)
    assert result["geometry"]["documents"]["d"] == 8
    assert harness("check", folders("truncated")).code == 0


@pytest.mark.parametrize("stated", [0, -8, 8.5, "8", True])
def test_a_dimension_that_is_none_is_refused(harness, copy, toy: Path, stated: object) -> None:
    folder = copy("mean")
    change(folder / "config_sentence_transformers.json", truncate_dim=stated)
    done = harness("benchmark", "-m", folder, "-d", toy)
    assert done.code == 2
    assert "sets truncate_dim to something other than a positive integer" in done.err.splitlines()[-1]


@pytest.mark.parametrize("stack", ["mean", "two", "euclidean", "cosine", "static", "routed", "truncated"])
def test_figures_for_plans_are_the_loaded_models(folders, stack: str) -> None:
    """Read from headers and settings alone; the layers' matrices counted in the model that was loaded."""
    model, figures = SentenceTransformer(str(folders(stack)), device="cpu"), ref(folders(stack)).figures
    if stack not in ("static", "routed"):
        assert figures["dim"] == model.get_embedding_dimension()
    matrices = [p for name, p in model[0].named_parameters() if ".layer." in name and p.ndim == 2]
    assert figures.get("flops_per_token", 0) == 2 * sum(p.numel() for p in matrices)


@pytest.mark.parametrize("stack", ["mean", "two", "static", "routed"])
def test_facts_for_reports_are_the_loaded_models(copy, stack: str) -> None:
    folder = copy(stack)
    model = SentenceTransformer(str(folder), device="cpu")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: 'apache-2.0'\n---\nlicense: of something else\n")
    recorded = model_record(ref(folder))["facts"]
    assert recorded["parameters"] == sum(p.numel() for p in model.parameters())
    assert recorded["licence"] == "apache-2.0"
    assert recorded.get("max_tokens", model.max_seq_length) == model.max_seq_length
    assert "flops_per_token" not in recorded
    (folder / "README.md").write_text("no header\nlicense: mit\n")
    assert "licence" not in model_record(ref(folder))["facts"]


def test_the_parameters_of_the_pinned_models_are_those_of_their_architectures() -> None:
    def layers(number: int, dim: int) -> int:  # four attention and two feed-forward matrices, biases, two norms
        return number * (12 * dim**2 + 13 * dim)

    minilm, mpnet = (load_registry().model(name).facts["parameters"] for name in ("minilm", "mpnet"))
    # word pieces, positions, segments, norm; layers; relative positions of 12 heads; pooler
    assert minilm == (30522 + 512 + 2 + 2) * 384 + layers(6, 384) + 384**2 + 384
    assert mpnet == (30527 + 514 + 2) * 768 + layers(12, 768) + 32 * 12 + 768**2 + 768


def pickled(folder: Path, module: str) -> None:
    import torch
    from safetensors.torch import load_file

    file = folder / module / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()


def truncated(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


CORRUPT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no modules.json": (lambda f: (f / "modules.json").unlink(), "not a sentence-transformers folder"),
    "modules.json is no JSON": (lambda f: truncated(f / "modules.json", 20), "is not a list of modules"),
    "modules.json is no list": (lambda f: (f / "modules.json").write_text("{}"), "it is empty"),
    "modules.json lacks paths": (lambda f: (f / "modules.json").write_text('[{"idx": 0}]'), "is not a list of modules"),
    "modules.json names no module": (lambda f: (f / "modules.json").write_text("[]"), "it is empty"),
    "pickled weights": (lambda f: [pickled(f, module) for module in (".", "2_Dense")], "pickled weights are never"),
    "a pickled head": (lambda f: pickled(f, "2_Dense"), "pickled weights are never"),
    "a pickled transformer": (lambda f: pickled(f, "."), "pickled weights are never"),
    "a truncated transformer": (lambda f: truncated(f / "model.safetensors", 3000), "could not be loaded"),
    "an empty transformer": (lambda f: truncated(f / "model.safetensors", 0), "could not be loaded"),
    "a truncated head": (lambda f: truncated(f / "2_Dense" / "model.safetensors", 300), "could not be loaded"),
    "a head of another size": (lambda f: change(f / "2_Dense" / "config.json", in_features=16), "could not be loaded"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("*token*")], "holds no tokenizer"),
    "half a tokenizer": (lambda f: truncated(f / "tokenizer.json", 900), "could not be loaded"),
    "no config": (lambda f: (f / "config.json").unlink(), "could not be loaded"),
    "code of its own": (lambda f: own_code(f), "names is never run"),
    "only ONNX": (lambda f: only_onnx(f), "(only weights for ONNX, which is not supported)"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "(no *.safetensors at all)"),
    "a head without weights": (lambda f: (f / "2_Dense" / "model.safetensors").unlink(), "2_Dense holds no .safe"),
    "another's tokenizer": (lambda f: wrong_words(f), "knows no word: its vocabulary is not among the files there"),
    "code for its transformer": (lambda f: custom(f), "code that a model's folder names is never run"),
    "8 bits": (
        lambda f: change(f / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "they need a GPU and a package such as bitsandbytes",
    ),
    "a package of the future": (
        lambda f: change(f / "config_sentence_transformers.json", requirements={"sentence-transformers": ">=99"}),
        'Install compatible versions with: pip install -U "sentence-transformers>=99"); install what is named there.',
    ),
    "an unknown similarity": (
        lambda f: change(f / "config_sentence_transformers.json", similarity_fn_name="manhattan"),
        "manhattan",
    ),
}


def only_onnx(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx" / "model.onnx")


def wrong_words(folder: Path) -> None:
    """A vocabulary of another kind of tokenizer, from which transformers builds one with special tokens only."""
    for file in folder.glob("token*"):
        file.unlink()
    change(folder / "tokenizer_config.json", tokenizer_class="MPNetTokenizer")
    (folder / "spiece.model").write_bytes(b"words")


def custom(folder: Path) -> None:
    maps = {"AutoModel": "modeling_own.Own", "AutoConfig": "configuration_own.Own"}
    change(folder / "config.json", auto_map=maps, model_type="own")
    for name in ("modeling_own.py", "configuration_own.py"):
        (folder / name).write_text(f"open({str(folder / 'it ran')!r}, 'w')\n")


def own_code(folder: Path) -> None:
    """A module whose class is in the folder: loading it would run the author's code."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "own.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "own.py").write_text(f"open({str(folder / 'it ran')!r}, 'w')\nclass Own: pass\n")


@pytest.mark.parametrize("fault", CORRUPT)
def test_a_folder_that_is_no_sound_model_is_told_in_one_sentence(harness, copy, toy: Path, fault: str) -> None:
    folder = copy("euclidean")
    corrupt, words = CORRUPT[fault]
    corrupt(folder)
    done = harness("benchmark", "-m", folder, "-d", toy)
    assert done.code == 2, done.err
    told = [line for line in done.err.splitlines() if line.startswith("harness: ")]
    assert len(told) == 1
    assert done.err.splitlines()[-1:] == told
    assert words in told[0]
    assert "Traceback" not in done.err
    assert "trust_remote_code" not in told[0]
    assert ("never opened" in told[0]) == ("pickled" in fault)
    assert not (folder / "it ran").exists()


def test_what_is_no_folder_at_all(harness, toy: Path, home: Path) -> None:
    for path in (home / "nothing", toy / "corpus.jsonl"):
        done = harness("benchmark", "-m", path, "-d", toy)
        assert done.code == 2
        assert "There is no folder" in done.err


@pytest.mark.parametrize(
    ("stack", "option", "words"),
    [
        ("static", "max_seq_length=9", "cannot be held to 9 tokens"),
        ("mean", "max_seq_length=100", "cannot be held to 100 tokens"),  # it has 80 positions
        ("mean", "device=meta:9:9", "device meta:9:9 cannot be used"),
        ("mean", "device=abacus", "device abacus cannot be used"),
    ],
)
def test_options_that_the_model_or_the_machine_cannot_follow(
    harness, folders, toy: Path, stack: str, option: str, words: str
) -> None:
    done = harness("benchmark", "-m", f"{folders(stack)}:{option}", "-d", toy)
    assert done.code == 2
    assert words in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_tokenizer_without_a_limit_cuts_nothing_as_sentence_transformers_does(tmp_path: Path) -> None:
    """T5 has no longest text, and transformers states 10^30 tokens, which no tokenizer takes for a length."""
    from sentence_transformers.base.modules import Transformer
    from transformers import T5Config, T5EncoderModel

    words = tokenizer({"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]"})
    words.model_max_length = 10**30
    config = T5Config(vocab_size=len(words), d_model=DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    model = SentenceTransformer(modules=[Transformer(str(tmp_path / "base")), Pooling(DIM, "mean")], device="cpu")
    model.save(str(tmp_path / "model"), create_model_card=False)
    assert SentenceTransformer(str(tmp_path / "model"), device="cpu").max_seq_length == 10**30
    loaded = ref(tmp_path / "model", "dtype=float32,device=cpu").load()
    assert isinstance(loaded, TokenModel)
    assert len(loaded.tokenize(["word " * 900], role="query")[0]) == 902
    np.testing.assert_allclose(ours(tmp_path / "model", "query"), theirs(model, "query"), atol=1e-5)
    with pytest.raises(PluginError, match=r"a text of 12,002 tokens is not cut.*type a limit, such as max_seq_length"):
        loaded.encode(["word " * 12_000], role="document")
    cut = ref(tmp_path / "model", "dtype=float32,max_seq_length=9").load()
    assert len(cut.tokenize(["word " * 900], role="query")[0]) == 9


def test_what_float16_is_too_narrow_for_is_told_with_what_to_type(harness, copy, toy: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy("mean")
    weights = load_file(folder / "model.safetensors")
    loud = {name: tensor * 10_000 if name.endswith("dense.weight") else tensor for name, tensor in weights.items()}
    save_file(loud, folder / "model.safetensors", metadata={"format": "pt"})
    for forward in ("packed", "stock", "encode"):
        typed = f"{folder}:device=cpu,forward={forward},dtype="
        done = harness("benchmark", "-m", f"{typed}float16", "-d", toy)
        assert done.code == 1
        assert "vectors hold NaN or infinity in float16, whose largest number is 65,504; type dtype=bf" in done.err
        assert "PluginError" not in done.err
        assert harness("benchmark", "-m", f"{typed}float32", "-d", toy).code == 0
