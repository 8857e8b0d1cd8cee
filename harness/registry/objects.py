"""Python objects as models: a `SentenceTransformer` in memory, or anything with ``encode``.

A descriptor names code and holds no objects, so an object is registered under a number while it is evaluated. The
option ``object`` of its descriptor has that number, and `held` returns the object. What a plug-in knows how to run, it
describes by the hook ``harness_object``; this module describes the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, plugin_code
from harness.registry.manager import Registry
from harness.registry.model_ref import ModelRef
from harness.registry.protocols import Reranker
from harness.registry.validation import check_model
from harness.types import (
    SIMILARITIES,
    DenseModel,
    EncoderModel,
    LexicalModel,
    ModelSpec,
    Options,
    Role,
    Similarity,
)

OPTION = "object"
"""Option with the number of the object."""
METHODS: Mapping[Role, tuple[str, ...]] = {
    "query": ("encode_query", "encode_queries"),
    "document": ("encode_document", "encode_corpus"),
}
"""Methods for texts of one role, as sentence-transformers and beir call them; without one, ``encode``."""
_OBJECTS: dict[str, Any] = {}
_NUMBERS = count(1)
_PROCESS = uuid4().hex


def held(options: Options) -> Any:
    """The object that the options of a model name."""
    return _OBJECTS[str(options[OPTION])]


@contextmanager
def holding(things: Sequence[object]) -> Iterator[list[str]]:
    """Registers the objects while the block runs; yields a number for each."""
    numbers = [f"{next(_NUMBERS)}" for _ in things]
    _OBJECTS.update(zip(numbers, things, strict=True))
    try:
        yield numbers
    finally:
        for number in numbers:
            _OBJECTS.pop(number, None)


def object_model(number: str, name: str, registry: Registry) -> ModelRef:
    """The model that a registered object is.

    Args:
        number: Of the object.
        name: Label of the model. If empty: the name of its class, with six digits of its key if its weights are known.
        registry: Its plug-ins are asked first.

    Raises:
        UserError: If the object cannot be evaluated.
    """
    thing = _OBJECTS[number]
    kind = type(thing).__name__
    with plugin_code(f"harness_object({kind}) raised"):
        spec = registry.manager.hook.harness_object(thing=thing) or _described(thing)
    if spec is None:
        raise UserError(
            f"An object of the class {kind} is not a model: it has no encode(texts); give the name of a "
            f"model, the path of a folder, or an object with encode()."
        )
    check_model(spec)
    defaults = {key: option.default for key, option in spec.options.items()}
    ref = ModelRef(spec, {**defaults, OPTION: number}, {}, "python")
    if not name:
        name = f"{kind}@{ref.own_key[:6]}" if cacheable(ref) else kind
    return replace(ref, spec=replace(spec, name=name))


def cacheable(ref: ModelRef) -> bool:
    """Whether the key of a model depends on its weights: that of an object whose weights are unknown is a number."""
    own = OPTION not in ref.options or OPTION not in ref.own_fingerprint  # of a name, the weights may not be there yet
    return own and all(cacheable(member) for member in ref.members)


def unknown_weights(options: Options) -> dict[str, Any]:
    """Fingerprint of an object whose weights are unknown: no two evaluations share it."""
    return {OPTION: f"{_PROCESS}-{options[OPTION]}"}


def fingerprint(options: Options) -> dict[str, Any]:
    """Fingerprint of an object with ``encode``: its attribute ``fingerprint``, a text, if it has one."""
    stated = getattr(held(options), "fingerprint", None)
    return (
        {"stated": stated, "class": type(held(options)).__qualname__}
        if isinstance(stated, str)
        else unknown_weights(options)
    )


def load(options: Options) -> Any:
    """The object, as a dense model if it only has some method ``encode``."""
    thing = held(options)
    dense = isinstance(thing, DenseModel) and "role" in _parameters(thing.encode)
    return thing if dense or isinstance(thing, LexicalModel | Reranker) else ObjectEncoder(thing)


def _described(thing: Any) -> ModelSpec | None:
    encodes = any(callable(getattr(thing, name, None)) for name in ("encode", *METHODS["query"]))
    kind: Any = "lexical" if isinstance(thing, LexicalModel) else "reranker" if isinstance(thing, Reranker) else ""
    if getattr(thing, "kind", "") in SIMILARITIES and isinstance(thing, EncoderModel):
        kind = thing.kind  # type: ignore[attr-defined]
    if (not kind and not encodes) or isinstance(thing, type):
        return None
    return ModelSpec(
        name=type(thing).__name__,
        kind=kind or "dense",
        load="harness.registry.objects:load",
        fingerprint="harness.registry.objects:fingerprint",
        summary=f"an object of the class {type(thing).__qualname__}",
        similarity="cosine" if kind in ("", "dense") else "euclidean",
    )


class ObjectEncoder:
    """`DenseModel` of an object with ``encode(texts)``, or with a method for each role."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing
        stated: Any = getattr(thing, "similarity_fn_name", None) or getattr(thing, "similarity", None)
        self.similarity: Similarity = stated if stated in SIMILARITIES["dense"] else "cosine"
        self._dim = 0

    @property
    def dim(self) -> int:
        """Length of the vectors, that of one text."""
        self._dim = self._dim or self.encode(["a"], role="document").shape[-1]
        return self._dim

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """float32 [len(texts), dim]."""
        name = next((name for name in METHODS[role] if callable(getattr(self._thing, name, None))), "encode")
        method = getattr(self._thing, name)
        given: list[Any] = list(texts)
        if name == "encode_corpus":  # beir's
            given = [{"title": "", "text": text} for text in given]
        known = _parameters(method)
        named: dict[str, Any] = {"role": role} if "role" in known else {}
        if "show_progress_bar" in known:
            named["show_progress_bar"] = False
        return as_array(method(given, **named))


def as_array(vectors: Any) -> NDArray[np.float32]:
    """An array of numpy, of tensors or lists, too."""
    if isinstance(vectors, list | tuple) and vectors and hasattr(vectors[0], "detach"):
        return np.stack([as_array(each) for each in vectors])
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().float().cpu().numpy()
    return np.asarray(vectors, np.float32)


def _parameters(method: Any) -> Mapping[str, Any]:
    with suppress(TypeError, ValueError):  # built-in functions
        return inspect.signature(method).parameters
    return {}
