"""Unpadded forward pass of encoders like BERT for GPUs, with FlexAttention.

Texts are concatenated in one matrix of a fixed number of rows. `UnpaddedModel` calls attention once per text length,
which suits a CPU's cache but gives a GPU too little work per kernel launch. Here each layer is one call of a constant
shape, so it is compiled once for all layers and batches. A block mask restricts attention to tokens of the same text;
MPNet's relative position bias is read from a table by the distance of two tokens (score_mod). Unused rows at the end
form texts of one block each, which cost almost nothing.

It has not run on a GPU yet. The tests compare it with transformers on a CPU, uncompiled in float32 and compiled with
inductor's C++ backend; speed, Triton kernels and streams are untested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness_plugins.forward.products import FeedForward, GatedFeedForward
from harness_plugins.forward.unpadded import FusedLayer, UnpaddedModel, add_and_normalise

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ROWS = 16_384
"""Tokens per batch: large enough for a GPU, about 1 GB of its memory with MPNet."""
BLOCK = 128
"""Block size of the mask, the one FlexAttention's kernels are designed for."""
MAX_PADDING = 2
"""Largest size of a batch padded for pooling, as a multiple of the rows."""


class BatchLayout(NamedTuple):
    """int32 arrays of a batch; their sizes depend only on the number of rows."""

    ids: Any
    """[rows], token ids."""
    places: Any
    """[rows], positions within the text."""
    texts: Any
    """[rows], number of each row's text; unused rows get further numbers."""
    some: Any
    """[blocks], number of key blocks that each query block attends to in part."""
    some_at: Any
    """[blocks, blocks], indices of key blocks, those first."""
    whole: Any
    """[blocks], number of key blocks that it attends to in full (both inside one text)."""
    whole_at: Any
    """[blocks, blocks], indices of key blocks, those first."""
    padded: Any
    """[MAX_PADDING * rows]; the first texts x longest hold the row of each text's tokens, -1 past its end."""

    @classmethod
    def size(cls, rows: int) -> int:
        """Total number of elements."""
        return sum(int(np.prod(shape)) for shape in cls.shapes(rows))

    @staticmethod
    def shapes(rows: int) -> list[tuple[int, ...]]:
        """Shapes of the fields, in order."""
        blocks = rows // BLOCK
        return [(rows,)] * 3 + [(blocks,), (blocks, blocks)] * 2 + [(MAX_PADDING * rows,)]

    @classmethod
    def of(cls, flat: Any, rows: int) -> BatchLayout:
        """Views of one flat array or tensor of `size`, which is copied in one piece."""
        shapes = cls.shapes(rows)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
        return cls(
            *(flat[a:b].reshape(shape) for a, b, shape in zip([0, *ends], ends, shapes, strict=False)),
        )


class FlexAttentionModel(UnpaddedModel):
    """`UnpaddedModel` with FlexAttention, for texts of any lengths in any order."""

    _reorder = False

    def __init__(self, model: Any, dtype: torch.dtype, *, rows: int = ROWS, backend: str | None = "inductor") -> None:
        """``rows`` is rounded up to full blocks and the longest text; ``backend`` is torch.compile's, None: eager."""
        import torch

        super().__init__(model, dtype)
        own = self.network
        self.rows = -(-max(rows, own.positions.num_embeddings) // BLOCK) * BLOCK
        self._table = None if own.bias is None else self._distances(own.bias)
        self._weights = [self._tensors(*pair) for pair in zip(self._layers, map(self._feed, own.layers), strict=True)]
        after = own.layers[0].fed.after
        assert after is not None
        self._eps = after.eps
        self._filler = own.padding or 0
        self._compute = (
            _layer if backend is None else torch.compile(_layer, backend=backend, dynamic=False, fullgraph=True)
        )

    def __call__(self, tokens: Sequence[Sequence[int]], spreads: list[Tensor] | None = None) -> Tensor:
        """Return float32 [all tokens, hidden] in the order given; ``spreads`` as in `UnpaddedModel`."""
        import torch

        found, spread = [], []
        for part in self.batches([len(text) for text in tokens]):
            flat = np.zeros(BatchLayout.size(self.rows), np.int32)
            count = sum(len(tokens[row]) for row in part)
            self.fill_layout(tokens[part.start : part.stop], flat)
            with torch.inference_mode(False):  # an inference tensor would trigger a second compilation
                there = torch.tensor(flat, device=self.device)
            own: list[Tensor] = []
            found.append(self.states(there, own)[:count])
            spread.append([one[:count] for one in own])
        if spreads is not None:
            spreads.extend(map(torch.cat, zip(*spread, strict=True)))
        return torch.cat(found)

    @staticmethod
    def _tensors(layer: FusedLayer, feed: FeedForward | GatedFeedForward) -> tuple[Tensor, ...]:
        """The weights and biases that `_layer` takes."""
        parts = (layer.attention, layer.mixed, feed.widened, feed.narrowed, layer.attended.after, layer.fed.after)
        tensors = [tensor for part in parts if part is not None for tensor in (part.weight, part.bias)]
        return tuple(tensor.detach() for tensor in tensors if tensor is not None)

    def batches(self, lengths: Sequence[int]) -> Iterator[range]:
        """Ranges of consecutive texts that fit the rows and, padded to the longest, `MAX_PADDING` times the rows."""
        first = total = longest = 0
        for row, length in enumerate(lengths):
            widest = max(longest, length)
            if row > first and (total + length > self.rows or widest * (row + 1 - first) > MAX_PADDING * self.rows):
                yield range(first, row)
                first, total, widest = row, 0, length
            total, longest = total + length, widest
        yield range(first, len(lengths))

    def fill_layout(self, tokens: Sequence[Sequence[int]], flat: NDArray[np.int32]) -> tuple[int, int]:
        """Write a batch into a flat `BatchLayout`; returns its number of texts and the longest length."""
        layout, every = BatchLayout.of(flat, self.rows), np.arange(self.rows, dtype=np.int32)
        lengths = np.fromiter(map(len, tokens), np.int32, len(tokens))
        stops = np.cumsum(lengths, dtype=np.int32)
        starts, total = stops - lengths, int(lengths.sum())
        layout.ids[:total] = np.fromiter(chain.from_iterable(tokens), np.int32, total)
        layout.ids[total:] = self._filler
        layout.texts[:] = len(tokens) + every // BLOCK
        layout.texts[:total] = np.repeat(np.arange(len(tokens), dtype=np.int32), lengths)
        first = np.maximum(every // BLOCK * BLOCK, total)
        first[:total] = np.repeat(starts, lengths)
        last = (every // BLOCK + 1) * BLOCK
        last[:total] = np.repeat(stops, lengths)
        layout.places[:] = self._counted(layout.ids, first)
        self._mask(layout, first[::BLOCK] // BLOCK, (last[BLOCK - 1 :: BLOCK] - 1) // BLOCK)
        width = int(lengths.max(initial=1))
        across = np.arange(width, dtype=np.int32)
        rows = np.where(across < lengths[:, None], starts[:, None] + across, np.int32(-1))
        layout.padded[: rows.size] = rows.ravel()
        return len(tokens), width

    def _counted(self, ids: NDArray[np.int32], first: NDArray[np.int32]) -> NDArray[np.int32]:
        """`UnpaddedModel._positions` for all rows at once; ``first`` is the first row of each row's text."""
        if self.network.padding is None:
            return np.arange(len(ids), dtype=np.int32) - first
        counted = (ids != self._filler).astype(np.int32)
        before = np.concatenate([[0], np.cumsum(counted)])
        return np.asarray((before[1:] - before[first]) * counted + self._filler, np.int32)

    @staticmethod
    def _mask(layout: BatchLayout, low: NDArray[np.int32], high: NDArray[np.int32]) -> None:
        """Fill in the block mask: query block i attends to key blocks ``low[i]`` to ``high[i]``.

        The result of create_block_mask, without evaluating every pair of tokens.
        """
        blocks = np.arange(len(low))
        owner = layout.texts[::BLOCK]
        alone = owner == layout.texts[BLOCK - 1 :: BLOCK]
        seen = (blocks >= low[:, None]) & (blocks <= high[:, None])
        whole = seen & alone & alone[:, None] & (owner == owner[:, None])
        for chosen, count, at in ((seen & ~whole, layout.some, layout.some_at), (whole, layout.whole, layout.whole_at)):
            count[:] = chosen.sum(1)
            at[:] = np.argsort(~chosen, axis=1, kind="stable")

    def states(self, flat: Tensor, spreads: list[Tensor]) -> Tensor:
        """float32 [rows, hidden] of a filled layout on the device; needs inference_mode, does not synchronise."""
        layout = BatchLayout.of(flat, self.rows)
        state = self._embed(layout.ids, layout.places)
        blocks = tuple(part[None, None] for part in (layout.some, layout.some_at, layout.whole, layout.whole_at))
        for weights in self._weights:
            state, spread = self._compute(
                state, layout.texts, blocks, self._table, weights, self.network.heads, self._eps
            )
            spreads.append(spread)
        found: Tensor = state
        return found

    def _distances(self, bias_of: Callable[[int], Tensor]) -> Tensor:
        """MPNet's bias as float32 [heads, 2 reach + 1], indexed by the distance from query to key (-reach to reach).

        Larger distances have the bias of the nearer end.
        """
        import torch

        bias = bias_of(self.network.positions.num_embeddings)[0].float()
        ahead, back = bias[:, 0, :], bias[:, :, 0]
        moves = ((ahead != ahead[:, -1:]) | (back != back[:, -1:])).any(0).nonzero()
        reach = int(moves.max()) + 1 if len(moves) else 0
        return torch.cat([back[:, 1 : reach + 1].flip(1), ahead[:, : reach + 1]], 1).contiguous()


def _layer(
    state: Tensor,
    texts: Tensor,
    blocks: tuple[Tensor, ...],
    table: Tensor | None,
    weights: tuple[Tensor, ...],
    heads: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """One layer as a function of tensors and numbers alone, so that it is compiled once for all layers."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    from torch.nn.functional import gelu, linear

    fused, fused_bias, mixed, mixed_bias, wide, wide_bias, narrow, narrow_bias, *norms = weights

    def same_text(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return texts[query] == texts[key]

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert table is not None
        reach = table.shape[1] // 2  # also of pairs in different texts: the mask is applied afterwards
        return score + table[head, (key - query).clamp(-reach, reach) + reach]

    some, some_at, whole, whole_at = blocks
    mask = BlockMask.from_kv_blocks(
        some, some_at, whole, whole_at, BLOCK_SIZE=BLOCK, mask_mod=same_text, compute_q_blocks=False
    )
    rows, hidden = state.shape
    given = linear(state.to(fused.dtype), fused, fused_bias).view(1, rows, 3, heads, hidden // heads)
    query, key, value = given.permute(2, 0, 3, 1, 4)
    found: Any = flex_attention(query, key, value, score_mod=None if table is None else biased, block_mask=mask)
    found = found.transpose(1, 2).reshape(rows, hidden)
    state, _ = add_and_normalise(state, linear(found, mixed, mixed_bias), norms[0], norms[1], eps)
    found = gelu(linear(state.to(wide.dtype), wide, wide_bias))
    return add_and_normalise(state, linear(found, narrow, narrow_bias), norms[2], norms[3], eps)
