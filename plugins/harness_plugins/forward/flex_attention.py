"""The packed forward pass for GPUs: texts end to end in one matrix of a fixed number of rows, in FlexAttention.

`Packed` calls attention once for every length of a batch, and torch's operations one by one: right for a processor's
cache, and too little work per launch for a GPU. Here a batch is one call per layer, of one shape for good, so that each
kind of layer is compiled once for all layers and batches. A token attends to those of its own text (the block mask);
MPNet's relative position bias is read from a table by the distance of two tokens (the score's modification). The rows
left over at the end are texts of their own, of one block each, which cost next to nothing.

No GPU has run this yet: what tests compare with transformers is the same code on a processor, uncompiled in float32
and compiled by dynamo and inductor's C++; speed, Triton's kernels and streams are untried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness_plugins.forward.unpadded import Packed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ROWS = 16_384
"""Tokens of a batch: products large enough for a GPU, and some 1 GB of its memory in MPNet."""
BLOCK = 128
"""Rows and columns of a block of the mask: what FlexAttention's kernels are made for."""
ROOM = 2
"""Times the rows, the most that the texts of a batch are when padded to the longest, as pooling has them."""


class Sheet(NamedTuple):
    """A batch as int32, of a size that depends on the number of rows alone."""

    ids: Any
    """[rows] of tokens."""
    places: Any
    """[rows], positions within the text."""
    texts: Any
    """[rows], which text each row is of; the rows left over count on."""
    some: Any
    """[blocks], how many blocks of columns each block of rows sees in part."""
    some_at: Any
    """[blocks, blocks], first those."""
    whole: Any
    """[blocks], how many it sees wholly: both are inside one text."""
    whole_at: Any
    """[blocks, blocks], first those."""
    padded: Any
    """[ROOM * rows], of which the first texts x longest are the row of each token of each text, and -1 past its end."""

    @classmethod
    def size(cls, rows: int) -> int:
        """Numbers altogether."""
        return sum(int(np.prod(shape)) for shape in cls.shapes(rows))

    @staticmethod
    def shapes(rows: int) -> list[tuple[int, ...]]:
        """Of every part."""
        blocks = rows // BLOCK
        return [(rows,)] * 3 + [(blocks,), (blocks, blocks)] * 2 + [(ROOM * rows,)]

    @classmethod
    def of(cls, flat: Any, rows: int) -> Sheet:
        """Views of one array or tensor of `size`, so that it travels in one piece."""
        shapes = cls.shapes(rows)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
        return cls(
            *(flat[a:b].reshape(shape) for a, b, shape in zip([0, *ends], ends, shapes, strict=False)),
        )


class Flexed(Packed):
    """As `Packed`, for batches of any lengths in any order."""

    _lay_out = False

    def __init__(self, model: Any, dtype: torch.dtype, *, rows: int = ROWS, backend: str | None = "inductor") -> None:
        """``rows`` are rounded up to whole blocks and to the longest text; ``backend`` is torch.compile's, or None."""
        import torch

        super().__init__(model, dtype)
        parts = self._embeddings
        self.rows = -(-max(rows, parts.position_embeddings.num_embeddings) // BLOCK) * BLOCK
        self.device: torch.device = parts.word_embeddings.weight.device
        self._table = None if self._bert else self._distances()
        self._weights = [
            tuple(
                part.detach()
                for each in (one.attention, one.mixed, feed.widened, feed.narrowed, one.after_attention, one.after)
                for part in (each.weight, each.bias)
            )
            for one, feed in zip(self._layers, map(self._feed, model.encoder.layer), strict=True)
        ]
        self._eps = float(self._layers[0].after.eps)
        self._filler = 0 if self._bert else int(parts.padding_idx)
        self._compute = (
            _layer if backend is None else torch.compile(_layer, backend=backend, dynamic=False, fullgraph=True)
        )

    def __call__(self, tokens: Sequence[Sequence[int]], spreads: list[Tensor] | None = None) -> Tensor:
        """float32 [all tokens, hidden], texts in the order given; ``spreads`` as `Packed` gives them."""
        import torch

        found, spread = [], []
        for part in self.batches([len(text) for text in tokens]):
            flat = np.zeros(Sheet.size(self.rows), np.int32)
            count = sum(len(tokens[row]) for row in part)
            self.lay(tokens[part.start : part.stop], flat)
            with torch.inference_mode(False):  # a tensor of another kind would have everything compiled once more
                there = torch.tensor(flat, device=self.device)
            own: list[Tensor] = []
            found.append(self.states(there, own)[:count])
            spread.append([one[:count] for one in own])
        if spreads is not None:
            spreads.extend(map(torch.cat, zip(*spread, strict=True)))
        return torch.cat(found)

    def batches(self, lengths: Sequence[int]) -> Iterator[range]:
        """Texts side by side that fill the rows, and padded to their longest not more than `ROOM` times as many."""
        first = total = longest = 0
        for row, length in enumerate(lengths):
            widest = max(longest, length)
            if row > first and (total + length > self.rows or widest * (row + 1 - first) > ROOM * self.rows):
                yield range(first, row)
                first, total, widest = row, 0, length
            total, longest = total + length, widest
        yield range(first, len(lengths))

    def lay(self, tokens: Sequence[Sequence[int]], flat: NDArray[np.int32]) -> tuple[int, int]:
        """Writes one of `batches` into an array of `Sheet.size`; how many texts, and tokens of the longest."""
        sheet, every = Sheet.of(flat, self.rows), np.arange(self.rows, dtype=np.int32)
        lengths = np.fromiter(map(len, tokens), np.int32, len(tokens))
        stops = np.cumsum(lengths, dtype=np.int32)
        starts, total = stops - lengths, int(lengths.sum())
        sheet.ids[:total] = np.fromiter(chain.from_iterable(tokens), np.int32, total)
        sheet.ids[total:] = self._filler
        sheet.texts[:] = len(tokens) + every // BLOCK
        sheet.texts[:total] = np.repeat(np.arange(len(tokens), dtype=np.int32), lengths)
        first = np.maximum(every // BLOCK * BLOCK, total)
        first[:total] = np.repeat(starts, lengths)
        last = (every // BLOCK + 1) * BLOCK
        last[:total] = np.repeat(stops, lengths)
        sheet.places[:] = self._counted(sheet.ids, first)
        self._mask(sheet, first[::BLOCK] // BLOCK, (last[BLOCK - 1 :: BLOCK] - 1) // BLOCK)
        width = int(lengths.max(initial=1))
        across = np.arange(width, dtype=np.int32)
        rows = np.where(across < lengths[:, None], starts[:, None] + across, np.int32(-1))
        sheet.padded[: rows.size] = rows.ravel()
        return len(tokens), width

    def _counted(self, ids: NDArray[np.int32], first: NDArray[np.int32]) -> NDArray[np.int32]:
        """`Packed._positions` for all rows at once, ``first`` being the first row of each one's text."""
        if self._bert:
            return np.arange(len(ids), dtype=np.int32) - first
        counted = (ids != self._filler).astype(np.int32)
        before = np.concatenate([[0], np.cumsum(counted)])
        return np.asarray((before[1:] - before[first]) * counted + self._filler, np.int32)

    @staticmethod
    def _mask(sheet: Sheet, low: NDArray[np.int32], high: NDArray[np.int32]) -> None:
        """The blocks that see each other, from the ``low``est to the ``high``est of each block of rows.

        What create_block_mask finds by asking for every pair of tokens; texts that lie end to end need no asking.
        """
        blocks = np.arange(len(low))
        owner = sheet.texts[::BLOCK]
        alone = owner == sheet.texts[BLOCK - 1 :: BLOCK]
        seen = (blocks >= low[:, None]) & (blocks <= high[:, None])
        whole = seen & alone & alone[:, None] & (owner == owner[:, None])
        for chosen, count, at in ((seen & ~whole, sheet.some, sheet.some_at), (whole, sheet.whole, sheet.whole_at)):
            count[:] = chosen.sum(1)
            at[:] = np.argsort(~chosen, axis=1, kind="stable")

    def states(self, flat: Tensor, spreads: list[Tensor]) -> Tensor:
        """float32 [rows, hidden] of what `lay` wrote, on the device, under inference_mode; nothing is waited for."""
        sheet = Sheet.of(flat, self.rows)
        parts = self._embeddings
        state = parts.word_embeddings(sheet.ids)
        if self._bert:
            state = state + parts.token_type_embeddings.weight[0]
        state = parts.LayerNorm(state + parts.position_embeddings(sheet.places))
        blocks = tuple(part[None, None] for part in (sheet.some, sheet.some_at, sheet.whole, sheet.whole_at))
        for weights in self._weights:
            state, spread = self._compute(state, sheet.texts, blocks, self._table, weights, self._heads, self._eps)
            spreads.append(spread)
        found: Tensor = state
        return found

    def _distances(self) -> Tensor:
        """MPNet's bias as float32 [heads, 2 reach + 1] of the distance from query to key, -reach to reach; beyond it
        every distance has the same."""
        import torch

        longest = self._embeddings.position_embeddings.num_embeddings
        room = torch.empty(1, longest, 0, device=self._embeddings.word_embeddings.weight.device)
        bias = self._encoder.compute_position_bias(room)[0].detach().float()
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
    """One layer: tensors and numbers alone, so that what is compiled for the first serves all."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    from torch.nn.functional import gelu, linear

    fused, fused_bias, mixed, mixed_bias, wide, wide_bias, narrow, narrow_bias, *norms = weights

    def together(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return texts[query] == texts[key]

    def biased(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert table is not None
        reach = table.shape[1] // 2  # blocks hold pairs of other texts, too: the mask comes after this
        return score + table[head, (key - query).clamp(-reach, reach) + reach]

    some, some_at, whole, whole_at = blocks
    mask = BlockMask.from_kv_blocks(
        some, some_at, whole, whole_at, BLOCK_SIZE=BLOCK, mask_mod=together, compute_q_blocks=False
    )
    rows, hidden = state.shape
    given = linear(state.to(fused.dtype), fused, fused_bias).view(1, rows, 3, heads, hidden // heads)
    query, key, value = given.permute(2, 0, 3, 1, 4)
    found: Any = flex_attention(query, key, value, score_mod=None if table is None else biased, block_mask=mask)
    found = found.transpose(1, 2).reshape(rows, hidden)
    state, _ = _summed(state, linear(found, mixed, mixed_bias), norms[0], norms[1], eps)
    found = gelu(linear(state.to(wide.dtype), wide, wide_bias))
    return _summed(state, linear(found, narrow, narrow_bias), norms[2], norms[3], eps)


def _summed(state: Tensor, news: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The LayerNorm of a sum in float32, and the standard deviation that it divided each row by."""
    import torch

    normed, _, inverse = torch.native_layer_norm(state + news.float(), [state.shape[1]], weight, bias, eps)
    return normed, inverse[:, 0].reciprocal()
