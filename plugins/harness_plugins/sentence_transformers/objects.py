"""`SentenceTransformer`, `SparseEncoder`, `MultiVectorEncoder` and `CrossEncoder` objects as models.

They run as a folder with the same weights would: a copy runs, because the matrix products of a model are cast in place.
Its key is a hash of all weights and of the configuration of all modules. It is unknown for models with code of their
own, hooks or adapters, which are not cached.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from harness import ModelFacts, ModelSpec, Option, Reranker, UserError, hookimpl
from harness.registry import objects
from harness.types import Options
from harness_plugins.cross_encoder import IMPLEMENTATION, LogitReranker
from harness_plugins.forward import architectures
from harness_plugins.sentence_transformers import multivector, sparse
from harness_plugins.sentence_transformers.checkpoint import IMPLEMENTATIONS, OPTIONS, make_encoder, resolve_dtype

if TYPE_CHECKING:
    import torch

    from harness_plugins.sentence_transformers.encoder import Encoder

LIBRARIES = ("torch", "transformers", "sentence_transformers")
"""Packages whose modules keep all that determines their output in weights and configuration."""
DTYPE = replace(OPTIONS["dtype"], choices=("auto", "float32", "bfloat16", "float16"))
DEVICE = Option("auto", "auto: where the object is; or cpu, cuda, cuda:1, mps")
HERE = "harness_plugins.sentence_transformers.objects"


@hookimpl
def harness_object(thing: object) -> ModelSpec | None:
    """Describe objects of the four classes, without importing the library that they are from."""
    library = sys.modules.get("sentence_transformers")
    if library is None:
        return None
    if isinstance(thing, library.SentenceTransformer):
        return ModelSpec(
            name="SentenceTransformer",
            kind="dense",
            load=f"{HERE}:load",
            fingerprint=f"{HERE}:fingerprint",
            facts=ModelFacts(may_fall_back=f"{HERE}:may_fall_back"),
            summary="a SentenceTransformer object",
            options={"dtype": DTYPE, "device": DEVICE, "forward": OPTIONS["forward"]},
        )
    if isinstance(thing, library.SparseEncoder):
        return _encoder("SparseEncoder", "sparse")
    if isinstance(thing, library.MultiVectorEncoder):
        return _encoder("MultiVectorEncoder", "multivector")
    if isinstance(thing, library.CrossEncoder):
        return ModelSpec(
            name="CrossEncoder",
            kind="reranker",
            load=f"{HERE}:load_reranker",
            fingerprint=f"{HERE}:reranker_fingerprint",
            summary="a CrossEncoder object",
            options={
                "depth": Option(100, "how many of the member's hits are scored", minimum=1),
                "dtype": DTYPE,
                "device": DEVICE,
            },
        )
    return None


def _encoder(name: str, kind: Literal["sparse", "multivector"]) -> ModelSpec:
    return ModelSpec(
        name=name,
        kind=kind,
        load=f"{HERE}:load_{kind}",
        fingerprint=f"{HERE}:{kind}_fingerprint",
        summary=f"a {name} object",
        options={"dtype": DTYPE, "device": DEVICE},
    )


def fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the vectors."""
    state, model = state_of(str(options[objects.OPTION])), objects.held(options)
    return {
        **({"state": state} if state else objects.unknown_weights(options)),
        "implementation": IMPLEMENTATIONS[_forward(options)],
        "dtype": resolve_dtype(str(options["dtype"]), _device(model, options)),
    }


def reranker_fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the scores."""
    state, model = state_of(str(options[objects.OPTION])), objects.held(options)
    return {
        **({"state": state} if state else objects.unknown_weights(options)),
        "implementation": IMPLEMENTATION,
        "dtype": resolve_dtype(str(options["dtype"]), _device(model, options)),
        "depth": options["depth"],
    }


def sparse_fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the weights of terms."""
    return _encoder_fingerprint(options, sparse.IMPLEMENTATION)


def multivector_fingerprint(options: Options) -> dict[str, Any]:
    """Everything that determines the token vectors."""
    return _encoder_fingerprint(options, multivector.IMPLEMENTATION)


def _encoder_fingerprint(options: Options, implementation: str) -> dict[str, Any]:
    state, model = state_of(str(options[objects.OPTION])), objects.held(options)
    return {
        **({"state": state} if state else objects.unknown_weights(options)),
        "implementation": implementation,
        "dtype": resolve_dtype(str(options["dtype"]), _device(model, options)),
    }


def may_fall_back(options: Options) -> bool:
    """Whether loading may reveal that the chosen forward pass gives other vectors than encode()."""
    return _forward(options) != "encode"


def load(options: Options) -> Encoder:
    """A copy of the object as a `DenseModel`."""
    model, forward = objects.held(options), _forward(options)
    device = _device(model, options)
    dtype = resolve_dtype(str(options["dtype"]), device)
    named = options["forward"] == forward
    return make_encoder(_copied(model, device), dtype, {}, "The SentenceTransformer", forward, named=named)


def load_sparse(options: Options) -> sparse.SparseTextEncoder:
    """A copy of the object as a `SparseModel`."""
    model = objects.held(options)
    device = _device(model, options)
    return sparse.SparseTextEncoder(_copied(model, device), resolve_dtype(str(options["dtype"]), device), {})


def load_multivector(options: Options) -> multivector.TokenVectorEncoder:
    """A copy of the object as a `MultiVectorModel`."""
    model = objects.held(options)
    device = _device(model, options)
    return multivector.TokenVectorEncoder(_copied(model, device), resolve_dtype(str(options["dtype"]), device), {})


def load_reranker(options: Options) -> Reranker:
    """A copy of the object as a `Reranker`."""
    import torch

    model = objects.held(options)
    if model.num_labels != 1:
        raise UserError(f"The CrossEncoder gives {model.num_labels} scores, not one, so it cannot rank documents.")
    if model.default_prompt_name:
        raise UserError("The CrossEncoder puts a prompt before its texts, which is not done here; take another one.")
    device = _device(model, options)
    dtype, length = getattr(torch, resolve_dtype(str(options["dtype"]), device)), int(model.max_seq_length or 512)
    return LogitReranker(_copied(model, device), int(options["depth"] or 0), length, dtype)


def _copied(model: Any, device: str) -> Any:
    return copy.deepcopy(model).float().eval().to(device)


def _device(model: Any, options: Options) -> str:
    return str(model.device) if options["device"] == "auto" else str(options["device"])


def _forward(options: Options) -> str:
    """The forward pass, chosen as for a folder: ``packed``, ``stock`` or ``encode``."""
    from sentence_transformers.base.modules import Transformer

    model, asked = objects.held(options), str(options["forward"])
    first = model[0]
    config = getattr(getattr(first, "model", None), "config", None)
    family = architectures.family_of(config.to_dict()) if type(first) is Transformer and config is not None else None
    device = _device(model, options)
    own = _changed(model) or model.truncate_dim is not None
    fits = family is not None and architectures.runs_on(family, device) and not own
    if asked == "packed" and not fits:
        raise UserError(architectures.unsupported("The object", device))
    packs = fits and (asked == "packed" or (asked == "auto" and device == "cpu"))
    return "packed" if packs else "encode" if asked == "encode" or own else "stock"


def _changed(model: torch.nn.Module) -> bool:
    """Whether some module is of another package's class, or was changed by hooks or by assigned methods."""
    return any(
        type(module).__module__.partition(".")[0] not in LIBRARIES
        or bool(module._forward_hooks or module._forward_pre_hooks)
        or not {"forward", "encode"}.isdisjoint(vars(module))
        for module in model.modules()
    )


@cache
def state_of(number: str) -> str:
    """Hex SHA-256 of the weights and the configuration of a registered object; empty if they are unknown."""
    model = objects.held({objects.OPTION: number})
    if _changed(model):
        return ""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
        digest.update(_bytes(tensor))
    described = json.dumps(_configuration(model), sort_keys=True, default=repr)
    if " at 0x" in described:  # an object without a description
        return ""
    digest.update(described.encode())
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


def _configuration(model: Any) -> list[Any]:
    """What the files of a saved model state besides its weights."""
    stated = ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "max_seq_length")
    found: list[Any] = [{name: getattr(model, name, None) for name in stated}]
    if (active := getattr(model, "max_active_dims", None)) is not None:
        found.append({"max_active_dims": active})
    for name, module in model.named_modules():
        entry: dict[str, Any] = {"class": f"{type(module).__module__}.{type(module).__qualname__}"}
        if hasattr(module, "get_config_dict"):
            entry["config"] = module.get_config_dict()
        config: Any = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            entry["model"] = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
        if (tokenizer := vars(module).get("tokenizer") or getattr(module, "tokenizer", None)) is not None:
            entry["tokenizer"] = _tokenizer(tokenizer)
        found.append([name, entry])
    return found


def _tokenizer(tokenizer: Any) -> list[Any]:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())
    sides = [getattr(tokenizer, name, None) for name in ("padding_side", "truncation_side", "model_max_length")]
    return [type(tokenizer).__qualname__, words, sides, getattr(tokenizer, "special_tokens_map", None)]
