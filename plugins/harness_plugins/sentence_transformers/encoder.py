"""Dense models of sentence-transformers: encode texts, or token ids, as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import Role, UserError
from harness.embeddings.encode import batches
from harness.registry.load_fallback import Otherwise
from harness.system.environment import has_amx
from harness.system.heap import keep_freed_memory
from harness.types import Similarity
from harness_plugins.forward import int8
from harness_plugins.forward.architectures import FAMILIES, network
from harness_plugins.forward.calibration import TEXTS
from harness_plugins.forward.double_buffer import DoubleBuffer, make_double_buffer
from harness_plugins.forward.outlier_tokens import find_outlier_layer
from harness_plugins.forward.unpadded import UnpaddedModel
from harness_plugins.sentence_transformers.agreement import AGREEMENT
from harness_plugins.sentence_transformers.limits import affordable, finite, limit_of
from harness_plugins.sentence_transformers.prompts import default_prompt

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_SIMILARITIES: Mapping[str, Similarity] = {"cosine": "cosine", "dot": "dot", "euclidean": "euclidean"}
FLEX_ATTENTION_DEVICES = ("cuda",)
"""Devices on which the unpadded pass uses FlexAttention."""
_PROBES = ("a", "Two words, a comma.", "ÜBER 東京 🙂 'quoted'  spaces\tand\nlines " * 100)


class Encoder:
    """`DenseModel` that calls SentenceTransformer.encode; works with any modules."""

    def __init__(self, model: SentenceTransformer, dtype: str, prompts: Mapping[str, Any]) -> None:
        import torch

        self.model = model
        if model.similarity_fn_name not in _SIMILARITIES:
            raise UserError(
                f"This checkpoint compares vectors by {model.similarity_fn_name}, which exact search here does not do; "
                f"set similarity_fn_name to one of {', '.join(_SIMILARITIES)} and save it again."
            )
        self.similarity: Similarity = _SIMILARITIES[model.similarity_fn_name]
        given = {role: prompts.get(role) for role in ("query", "document")}
        self.prompts = {role: default_prompt(model, role) if own is None else str(own) for role, own in given.items()}
        self.dtype, self._wanted = torch.float32, getattr(torch, dtype)  # see `narrow`

    def narrow(self) -> None:
        """Switch the matrix products to the requested dtype; float32 vectors are not possible afterwards."""
        import torch

        self.dtype = self._wanted
        if self.dtype != torch.float32:
            # Linear weights are cast once; LayerNorm, softmax, the residual stream and pooling stay float32
            # (smallest cosine to float32 over SciFact 0.9999; casting everything: 0.9998).
            for module in self.model[0].modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(self.dtype)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """Encode texts as float32 [n, dim]."""
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        with self._precision():
            vectors = encode(list(texts), prompt=self.prompts[role], batch_size=8, show_progress_bar=False)
        return finite(np.asarray(vectors, np.float32), self.dtype, "vectors")

    def _precision(self) -> Any:
        import torch

        return torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype != torch.float32)


class TokenEncoder(Encoder):
    """`TokenModel` that encodes padded batches of similar lengths, which the harness groups."""

    NAME, FALLBACK = "stock", "encode"
    """Names of this forward pass and of its fallback."""
    PADDING_SIDES: tuple[str, ...] = ("right",)
    """Of the tokenizers of models that this pass supports."""

    def share_base(self, base_key: str, *, keeps: bool) -> None:
        """Become a `HeadModel`, whose embeddings before the modules that follow Pooling are stored under this key.

        Args:
            base_key: Hash of everything that the embeddings depend on.
            keeps: Whether this model stores them too, or only uses those of others.
        """
        from sentence_transformers import SentenceTransformer

        base = copy(self)
        base.model = SentenceTransformer(modules=list(self.model)[:2], device=str(self.model.device))
        self.base_key, self.base, self.keeps_base = base_key, base, keeps

    def apply_head(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of the base -> vectors, by the modules after Pooling."""
        import torch

        features: dict[str, Any] = {"sentence_embedding": torch.from_numpy(embeddings).to(self.model.device)}
        with torch.inference_mode():
            for module in list(self.model)[2:]:
                features = module(features)
            vectors = features["sentence_embedding"].float()[..., : self.model.truncate_dim]
            return finite(vectors.cpu().numpy(), self.dtype, "vectors")

    @property
    def token_budget(self) -> int:
        """Tokens per batch: few enough for a CPU's cache, enough to saturate a GPU."""
        return 1024 if self.model.device.type == "cpu" else 32_768

    @property
    def products(self) -> tuple[str, str]:
        """Dtype and device of the matrix products."""
        return str(self.dtype).removeprefix("torch."), str(self.model.device)

    def flops(self, lengths: Sequence[int]) -> float:
        """Floating-point operations for texts of these lengths; 0 for families without an unpadded pass.

        Two per token and parameter of the linear layers without the unused pooler, plus four per dimension, layer and
        pair of tokens that attention computes.
        """
        import torch

        transformer: Any = self.model[0].model
        if transformer.config.model_type not in FAMILIES:
            return 0.0
        own = network(transformer)
        linear: int = sum(
            module.weight.numel()
            for name, module in transformer.named_modules()
            if isinstance(module, torch.nn.Linear) and "pooler" not in name
        )
        counts = np.asarray(lengths, np.float64)
        pairs = sum(layer.window.pairs(counts) for layer in own.layers)
        return 2.0 * linear * float(counts.sum()) + 4.0 * own.heads * own.size * pairs

    def agrees(self) -> bool:
        """Whether `tokenize` gives the token ids of the model's own preprocessing (plain text transformers only)."""
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        first = self.model[0]
        pooled = [m for m in self.model if isinstance(m, Pooling)]
        if type(first) is not Transformer or getattr(first.tokenizer, "padding_side", "") not in self.PADDING_SIDES:
            return False
        if len(pooled) != 1 or not (pooled[0].include_prompt or not any(self.prompts.values())):
            return False
        roles: tuple[Role, ...] = ("query", "document")
        for role in roles:
            for probe in _PROBES:
                features = self.model.preprocess([probe], prompt=self.prompts[role] or None, task=role)
                if set(features) - {"input_ids", "attention_mask", "token_type_ids", "modality", "prompt_length"}:
                    return False
                if features["input_ids"][0].tolist() != self.tokenize([probe], role=role)[0]:
                    return False
        return True

    def tokenize(self, texts: Sequence[str], *, role: Role) -> list[list[int]]:
        """Token ids per text."""
        ids = self.model.tokenizer(
            [self.prompts[role] + text for text in texts],
            truncation=True,
            max_length=limit_of(self.model.max_seq_length),
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return ids  # type: ignore[no-any-return]

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """Encode texts as one batch: float32 [n, dim]."""
        return self.encode_tokens(self.tokenize(texts, role=role), role=role)

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        """Encode token ids as one padded batch: float32 [n, dim]."""
        import torch

        width, device = affordable(max(map(len, tokens)), self.model.max_seq_length), self.model.device
        ids = np.full((len(tokens), width), self.model.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
        }
        with torch.inference_mode():
            with self._precision():
                features = self.model[0](features)
            return self._pooled({**features, "token_embeddings": features["token_embeddings"].float()})

    def _pooled(self, features: dict[str, Any]) -> NDArray[np.float32]:
        return finite(self._vectors(features).cpu().numpy(), self.dtype, "vectors")

    def _vectors(self, features: dict[str, Any]) -> Tensor:
        """Run the modules after the transformer; the vectors stay on the device.

        Padding is zero before every module but Pooling, which masks it itself: a convolution would read it, and a text
        encoded alone has zeros beyond its ends.
        """
        from sentence_transformers.sentence_transformer.modules import Pooling

        for module in list(self.model)[1:]:
            if "sentence_embedding" not in features and not isinstance(module, Pooling):
                mask = features["attention_mask"][..., None]
                features["token_embeddings"] = features["token_embeddings"] * mask
            features = module(features)
        vectors: Tensor = features["sentence_embedding"].float()
        return vectors[..., : self.model.truncate_dim]


class UnpaddedEncoder(TokenEncoder):
    """`TokenEncoder` with the unpadded forward pass instead of the transformer; later modules are the folder's."""

    NAME, FALLBACK = "packed", "stock"
    PADDING_SIDES = ("right", "left")

    def share_base(self, base_key: str, *, keeps: bool) -> None:
        """As above; not on a GPU, whose double buffer computes the vectors of the whole model."""
        if self._double_buffer is None:
            super().share_base(base_key, keeps=keeps)

    def __init__(self, model: SentenceTransformer, dtype: str, prompts: Mapping[str, Any]) -> None:
        import torch

        super().__init__(model, dtype, prompts)
        self._double_buffer: DoubleBuffer | None = None
        self._token_budget = 0
        keep_freed_memory()
        self._ids = [model.tokenizer(text, truncation=True, max_length=64)["input_ids"] for text in _PROBES]
        try:
            plain = UnpaddedModel(model[0].model, torch.float32)
            apart = plain.distance(model[0], self._ids)
        except (AttributeError, TypeError, RuntimeError) as error:  # transformers may rename or reshape its parts
            raise Otherwise(f"the unpadded forward pass does not fit its parts ({error})", forward="stock") from error
        if not apart <= AGREEMENT:
            raise Otherwise(
                f"this model's own forward pass differs from the unpadded one by {apart:.2g}, so it is not the plain "
                f"encoder that its config.json says",
                forward="stock",
            )
        self._plain = self._forward = plain
        self._outlier_layer = find_outlier_layer(plain, self._ids)

    @property
    def token_budgets(self) -> tuple[int, ...]:
        """Tokens per batch to choose from: larger batches are faster until they leave a CPU's cache.

        AVX-512 is at its best at 2,048; with AMX the size is measured. The double buffer splits its input itself and
        receives many batches at once.
        """
        if self._double_buffer is not None:
            return (1 << 20,)
        if self.model.device.type != "cpu":
            return (32_768,)
        return (2048, 4096, 8192, 16_384) if str(self.dtype) == "torch.bfloat16" and has_amx() else (2048,)

    @property
    def token_budget(self) -> int:
        """Tokens per batch."""
        return self._token_budget or self.token_budgets[0]

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        self._token_budget = tokens

    def advice(self) -> str:
        """How much faster the products in int8 are than in bfloat16, where that is a quarter or more."""
        if str(self.dtype) != "torch.bfloat16" or (gain := int8.gain(self._plain)) < 1.25:
            return ""
        return (
            f"its feed-forward layers would be {gain:.1f} times as fast with dtype=int8 on this processor, and the "
            f"vectors less exact (docs/numbers.md); they are computed in bfloat16"
        )

    def narrow(self) -> None:
        """Switch to the requested dtype or to the GPU's pass; the float32 pass is kept for undecided texts."""
        import torch

        self.dtype = self._wanted
        encoder = self.model[0].model
        if self.model.device.type in FLEX_ATTENTION_DEVICES:
            undecided = self._outlier_layer if self.dtype != torch.float32 else None
            self._double_buffer = make_double_buffer(
                encoder, self.dtype, self._plain, self._ids, self._vectors, undecided
            )
        elif self.dtype != torch.float32:
            self._forward = self._narrowed(encoder)

    def _narrowed(self, encoder: Any) -> UnpaddedModel:
        import torch

        if self.dtype != torch.int8:
            return UnpaddedModel(encoder, self.dtype)
        seen = [self.model.tokenizer(text, truncation=True, max_length=self.model.max_seq_length) for text in TEXTS]
        return UnpaddedModel(encoder, torch.bfloat16, int8.feeds(self._plain, [text["input_ids"] for text in seen]))

    def encode_tokens(self, tokens: Sequence[Sequence[int]], *, role: Role) -> NDArray[np.float32]:
        """Encode token ids as one batch, texts of equal length adjacent: float32 [n, dim]."""
        if self._double_buffer is None:
            return self._from_states(tokens)
        vectors, again = self._double_buffer(tokens)
        for part in batches([len(tokens[row]) for row in again], self._double_buffer.rows, 1 << 30):
            rows = [again[at] for at in part]
            vectors[rows] = self._from_states([tokens[row] for row in rows])
        return finite(vectors, self.dtype, "vectors")

    def _from_states(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        lengths = [len(text) for text in tokens]
        with torch.inference_mode():
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            state = pad_sequence(self._states(tokens, lengths), batch_first=True)
            return self._pooled({"token_embeddings": state, "attention_mask": mask.long().to(state.device)})

    def _states(self, tokens: Sequence[Sequence[int]], lengths: list[int]) -> list[Tensor]:
        """Hidden states of each text; undecided texts use the float32 pass."""
        import torch

        spreads: list[Tensor] = []
        states = [*torch.split(self._forward(tokens, spreads), lengths)]
        if self._forward is not self._plain and self._outlier_layer is not None:
            again = [row for row, text in enumerate(self._outlier_layer.undecided(spreads, lengths)) if text]
            if again:
                chosen = self._plain([tokens[row] for row in again])
                for row, state in zip(again, torch.split(chosen, [lengths[row] for row in again]), strict=True):
                    states[row] = state
        return states
