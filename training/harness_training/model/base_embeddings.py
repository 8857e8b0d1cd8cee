"""Cached embeddings of the frozen base model: float32 shards under $HARNESS_HOME/vectors, keyed by content.

They initialise the head of every run and are the input of the frozen experiment. The forward pass is the one that
evaluation of the base uses: the unpadded one on a CPU, if it gives the base's own vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.encode import encode_collection
from harness.embeddings.sharding import chunks
from harness.embeddings.store import Vectors, VectorStore
from harness.models.runner import Prepared
from harness.registry.load_fallback import Otherwise
from harness.storage.atomic import content_key
from harness.types import Progress, Role, UserError
from harness_plugins.sentence_transformers.checkpoint import IMPLEMENTATIONS, make_encoder, resolve_forward
from harness_plugins.sentence_transformers.encoder import TokenEncoder, UnpaddedEncoder
from harness_plugins.sentence_transformers.trained import fingerprint
from harness_training.experiment.settings import Settings
from harness_training.model.head import load_base

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Base:
    """A base model, located and verified."""

    name: str
    folder: Path
    trained_on: tuple[str, ...]
    forward: str = "auto"
    """The option of the registered model: its forward pass."""

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file that determines its vectors."""
        options = {"path": str(self.folder), "dtype": "float32", "device": "cpu", "forward": "stock"}
        empty = dict.fromkeys(("max_seq_length", "query_prompt", "document_prompt"))
        return dict(fingerprint({**options, **empty})["files"])

    @property
    def record(self) -> dict[str, Any]:
        """Its entry in run.json."""
        return {"name": self.name, "path": str(self.folder), "fingerprint": content_key(self.files)}


def open_base(prepared: Prepared) -> Base:
    """The base of a registered model; UserError where it is not a sentence-transformers folder."""
    folder = prepared.ref.options.get("path")
    if prepared.ref.spec.kind != "dense" or not folder:
        raise UserError(f"{prepared.label} has no weights to train; give --base mpnet, minilm or a model's folder.")
    forward = str(prepared.ref.options.get("forward", "stock"))
    return Base(prepared.label, Path(str(folder)), prepared.ref.trained_on, forward)


class BaseEmbeddings:
    """Mean-pooled, unnormalised embeddings [n, h] of texts, computed if they are not stored."""

    def __init__(self, base: Base, settings: Settings, home: Path, device: str, progress: Progress) -> None:
        self._base, self._settings, self._home = base, settings, home
        self._device, self._progress = device, progress

    @cached_property
    def key(self) -> str:
        """Hash of everything that the embeddings depend on; loads the base, which tells its forward pass."""
        return content_key(
            {
                "files": self._base.files,
                "implementation": f"{IMPLEMENTATIONS[self._encoder.NAME]}, before Normalize",
                "dtype": self._settings.precision,
                "max_seq_length": self._settings.max_seq_length,
            }
        )

    @cached_property
    def _encoder(self) -> TokenEncoder:
        folder, dtype = self._base.folder, DTYPES[self._settings.precision]
        asked = {"forward": self._base.forward, "device": self._device, "dtype": dtype}
        if resolve_forward(asked, folder) == "packed":
            with suppress(Otherwise):
                fast = make_encoder(self._load(), dtype, {}, folder, "packed", named=False)
                if isinstance(fast, UnpaddedEncoder):
                    return fast
        stock = TokenEncoder(self._load(), dtype, {})
        stock.narrow()
        return stock

    def _load(self) -> SentenceTransformer:
        model = load_base(self._base.folder, self._device, self._settings.max_seq_length).eval()
        model.similarity_fn_name = "euclidean"
        return model

    def of(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        """Embed texts: float32 [len(texts), h]."""
        store = VectorStore(self._home, self.key, role)
        found = [store.get(chunk.key) for chunk in chunks(texts)]
        shards = [shard for shard in found if shard is not None]
        if len(shards) < len(found):
            shards = encode_collection(self._encoder, self._base.name, texts, len(texts), store, role, self._progress)
        return Vectors.open(store, shards).gather(np.arange(len(texts)))
