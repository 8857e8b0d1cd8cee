"""Which code the configuration of a model's folder may name: entries of fixed lists, and nothing else.

sentence-transformers, transformers and peft turn strings in a folder's JSON files into code: they import a dotted name,
take an attribute of torch or transformers, call a method of the model, or download a kernel. `trust_remote_code=False`
stops only some of that. So every such string is compared with a list here, before any of these libraries sees the
folder. What they look up in a table of their own (hidden_act, pooling_mode, model_type) needs no list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness import ModelError
from harness.storage.safe_load import read_json
from harness_plugins.model_folder.modules import Module

ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "LogSoftmax", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU", "Softmax", "Softplus"),
    *("Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)
"""Classes of torch.nn that a Dense module or a cross-encoder may name as its activation."""
ACTIVATION = rf"torch\.nn\.(?:modules\.(?:activation|linear)\.)?(?:{'|'.join(ACTIVATIONS)})"
DTYPE = r"auto|float(?:16|32|64)?|bfloat16|half|double|float8_e4m3fn|float8_e5m2|u?int8"
TOKENIZER = r"(?!Auto|Rag)\w+(?:Tokenizer|TokenizerFast)|(?:Tokenizers|Python|SentencePiece|MistralCommon)Backend"
WORDS = r"sentence_transformers\.(?:models|sentence_transformer\.modules)\.tokenizer(?:\.\w+)?\.(?:Whitespace|Phrase)"


class Rule(NamedTuple):
    """Allowed values of a key."""

    allowed: str
    """Regular expression that every string of the value must match in full."""
    what: str
    """Description of the allowed values."""
    why: str = "the code that a model's folder names is never run"


_ATTENTION = Rule("eager|sdpa|flex_attention", "eager, sdpa or flex_attention", "others may be downloaded as code")
_EXPERTS = Rule("eager|batched_mm|grouped_mm", "eager, batched_mm or grouped_mm", "others may be downloaded as code")
_ACTIVATION = Rule(rf"[\w-]*|{ACTIVATION}", "an activation function of torch.nn")
_DTYPE = Rule(DTYPE, "a dtype of torch")
_PROCESSOR = Rule(r"(?!Auto)\w+(?:Processor|ProcessorFast|ProcessorPil|FeatureExtractor)", "a processor's class")
_ELSEWHERE = "what lies elsewhere is not part of the model"
_WEIGHTS = Rule(r"[\w.-]+\.safetensors(?:\.index\.json)?", "a .safetensors file in the same folder", _ELSEWHERE)
_CONFIGS = Rule(r"(?:config|tokenizer)[\w.+-]*\.json", "a JSON file in the same folder", _ELSEWHERE)
_ADAPTERS = "no other kind of adapter is supported"
RULES: dict[str, Rule] = {
    **dict.fromkeys(("attn_implementation", "_attn_implementation", "_attn_implementation_internal"), _ATTENTION),
    **dict.fromkeys(
        ("experts_implementation", "_experts_implementation", "_experts_implementation_internal"), _EXPERTS
    ),
    **dict.fromkeys(("activation_fn", "sbert_ce_default_activation_function"), _ACTIVATION),
    **dict.fromkeys(("dtype", "torch_dtype", "router_dtype", "inference_state_dtype", "autocast_kernel_dtype"), _DTYPE),
    **dict.fromkeys(("tokenizer_class", "slow_tokenizer_class"), Rule(TOKENIZER, "a tokenizer's class")),
    **dict.fromkeys(
        ("processor_class", "image_processor_type", "video_processor_type", "feature_extractor_type"), _PROCESSOR
    ),
    **dict.fromkeys(("image_processor_class", "audio_processor_type"), _PROCESSOR),
    "transformers_weights": _WEIGHTS,
    "weight_map": _WEIGHTS,
    "configuration_files": _CONFIGS,
    "fast_tokenizer_files": _CONFIGS,
    "model_type": Rule(r"(?!timm)[\w.-]*", "a model type of transformers itself"),
    "peft_type": Rule("LORA|ADALORA|IA3|LOHA|LOKR", "LORA, ADALORA, IA3, LOHA or LOKR", _ADAPTERS),
    "init_lora_weights": Rule(
        r"gaussian|orthogonal|olora|pissa(?:_niter_\d+)?", "true, gaussian, olora or pissa", _ADAPTERS
    ),
    "megatron_core": Rule(r"megatron\.core", "megatron.core"),
}
"""Key of a JSON object, at any depth in `FILES` -> its rule."""
ABSENT = {
    "quantization_config": "quantised weights are not supported (they need a GPU and a package such as bitsandbytes); "
    "load the model where both are, call its dequantize(), and save it again",
    "megatron_config": "Megatron's layers are not supported",
    "gguf_file": "weights in GGUF are not supported",
    "corda_config": _ADAPTERS,
    "lora_ga_config": _ADAPTERS,
    "eva_config": _ADAPTERS,
}
"""Key -> why any value but an empty one is refused."""
FILES = (
    *("config.json", "config.*.json", "config_sentence_transformers.json", "sentence_*_config.json"),
    *("*tokenizer_config.json", "special_tokens_map.json", "*processor_config.json", "adapter_config.json"),
    *("router_config.json", "*.safetensors.index.json"),
)
"""Files searched for these keys in each module's folder."""
VOCABULARIES = ("BoW", "WordWeights")
"""Modules whose config.json has words as keys and names no code."""
TRANSFORMER = frozenset(
    (
        *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"),
        *("processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion"),
        *("tokenizer_name_or_path", "model_kwargs", "model_args", "processor_kwargs", "tokenizer_args"),
        *("config_kwargs", "config_args"),
    )
)
"""Allowed keys of sentence_bert_config.json, which become constructor arguments."""
METHOD = re.compile(r"forward|get_\w+_features")
"""Methods of the model that modality_config may name."""
_MODEL = frozenset(
    (
        *("add_pooling_layer", "attn_implementation", "dtype", "torch_dtype", "experts_implementation"),
        *("low_cpu_mem_usage", "output_attentions", "output_hidden_states", "trust_remote_code", "use_cache"),
        "use_safetensors",
    )
)
_PROCESSING = frozenset(
    (
        *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces", "do_lower_case"),
        *("fix_mistral_regex", "legacy", "model_max_length", "padding_side", "split_special_tokens"),
        *("strip_accents", "truncation_side", "trust_remote_code", "use_fast", "bos_token", "cls_token", "eos_token"),
        *("mask_token", "pad_token", "sep_token", "unk_token"),
    )
)
ARGUMENTS = {
    "model_kwargs": _MODEL,
    "model_args": _MODEL,
    "processor_kwargs": _PROCESSING,
    "tokenizer_args": _PROCESSING,
}
"""Key of sentence_bert_config.json -> the arguments that it may pass to from_pretrained."""
NOT_CONFIG = frozenset(
    (
        *("auto_map", "cache_dir", "code_revision", "force_download", "gguf_file", "local_files_only", "model_type"),
        *("name_or_path", "_name_or_path", "_configuration_file", "proxies", "quantization_config", "revision"),
        *("return_unused_kwargs", "subfolder", "token", "transformers_weights", "_from_auto", "_from_pipeline"),
    )
)
"""Arguments of from_pretrained that config_kwargs may not pass because they are not configuration fields."""


def require_known_code(modules: Iterable[Module]) -> None:
    """ModelError where a file of these modules names code that is not on a list. Reads only JSON files."""
    for module in dict.fromkeys(modules):
        for file, content in _contents(module.place, FILES) if module.name not in VOCABULARIES else ():
            _examine(file, content)
        if module.name in ("Transformer", "CLIPModel", "MLMTransformer"):
            for file, content in _contents(module.place, ("sentence_*_config.json",)):
                _arguments(file, content)
        if module.name == "Dense":
            for file, content in _contents(module.place, ("config.json",)):
                _match(
                    file, "activation_function", content.get("activation_function"), Rule(ACTIVATION, _ACTIVATION.what)
                )
        if module.name == "SparseStaticEmbedding":
            for file, content in _contents(module.place, ("config.json",)):
                if content.get("path"):
                    raise ModelError(f"{file} sets path: {_ELSEWHERE}; load the model and save it again.")
        if module.name == "WordEmbeddings":
            for file, content in _contents(module.place, ("wordembedding_config.json",)):
                rule = Rule(f"{WORDS}Tokenizer", "a tokenizer of sentence-transformers")
                _match(file, "tokenizer_class", content.get("tokenizer_class"), rule)


def _contents(place: Path, patterns: tuple[str, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted({file for pattern in patterns for file in place.glob(pattern) if file.is_file()}):
        try:
            content = read_json(file)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{file} cannot be read ({type(error).__name__}: {error}); save the model again."
            ) from None
        if not isinstance(content, dict):
            raise ModelError(f"{file} is not a JSON object; save the model again.")
        yield file, content


def _examine(file: Path, content: object) -> None:
    """Check every key of a JSON value, at any depth."""
    if isinstance(content, list):
        for value in content:
            _examine(file, value)
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if value and (why := ABSENT.get(key)):
            raise ModelError(f"{file} sets {key}: {why}.")
        if rule := RULES.get(key):
            _match(file, key, value, rule)
        _examine(file, value)


def _match(file: Path, key: str, value: object, rule: Rule) -> None:
    for text in _strings(value):
        if not re.fullmatch(rule.allowed, text):
            raise ModelError(
                f"{file} sets {key} to {text[:100]!r}, which is not allowed: it must be {rule.what}, since {rule.why}."
            )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _arguments(file: Path, content: dict[str, Any]) -> None:
    """Check the arguments that sentence_bert_config.json passes on."""

    def allow(given: object, allowed: frozenset[str], where: str) -> None:
        for name in given if isinstance(given, Mapping) else ():
            if (name in allowed) == (allowed is NOT_CONFIG):
                raise ModelError(f"{file} passes {name!r} to {where}, which is not allowed; remove that key.")

    allow(content, TRANSFORMER, "sentence-transformers")
    for key, allowed in ARGUMENTS.items():
        allow(content.get(key), allowed, f"transformers by {key}")
    for key in ("config_kwargs", "config_args"):
        allow(content.get(key), NOT_CONFIG, f"transformers by {key}")
    modalities = content.get("modality_config")
    for modality in modalities.values() if isinstance(modalities, Mapping) else ():
        method = modality.get("method", "forward") if isinstance(modality, Mapping) else "forward"
        if not METHOD.fullmatch(str(method)):
            raise ModelError(
                f"{file} has texts put through the method {str(method)[:100]!r} of the model, which is not allowed: "
                f"it must be forward or a get_..._features."
            )
