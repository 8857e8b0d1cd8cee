"""Attention of texts of one length: full, causal or local, with memory in proportion to the length.

In float32 torch's fused kernel computes all of it, a block of queries at a time where a window needs a mask. In narrow
dtypes that kernel has half the speed of matrix products and a softmax on a CPU, so those are used: at most `BUFFER`
scores, of some queries and some heads, exist at any time. Queries that share a key head are rows of one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LONG = 96
"""Texts of at least this many tokens are attended one by one, so that intermediate results stay in the cache."""
BUFFER = 1 << 22
"""Most attention scores at a time; those of a text of 512 tokens with 16 heads."""
ROWS = 256
"""Queries in a block of a text that has more scores."""
LANES, FEW = 32, 8
"""Numbers that torch's softmax takes at a time in a narrow dtype, and the rest of a row that is cheap one by one."""
LOCAL_ROWS = 128
"""Queries in a block of causal or local attention, so that few scores are computed in vain."""


class Window(NamedTuple):
    """Keys that a query attends to, by their distance; None: no limit."""

    back: int | None = None
    ahead: int | None = None

    def of(self, length: int) -> Window:
        """Without limits that a text of this length cannot reach."""
        back, ahead = (None if limit is None or limit >= length - 1 else limit for limit in self)
        return Window(back, ahead)

    def pairs(self, lengths: NDArray[np.float64]) -> float:
        """Number of pairs of a query and a key in texts of these lengths."""
        found = lengths.copy()
        for limit in self:
            reach = lengths - 1 if limit is None else np.minimum(limit, lengths - 1)
            found += reach * (reach + 1) / 2 + (lengths - 1 - reach) * reach
        return float(found.sum())


EVERYTHING = Window()


class QueryBlock(NamedTuple):
    """Queries ``start`` to ``stop`` and the keys ``low`` to ``high`` that some of them attend to."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Attention:
    """softmax(scale x query x key' + bias) x value."""

    scale: float
    window: Window = EVERYTHING
    aligned: bool = False
    """Whether keys without weight fill rows of scores up to a multiple of `LANES` where that is faster. It changes the
    last digit of few scores, so families whose vectors may be stored do without it. Not with a bias."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
        """Fill ``out``.

        Args:
            query: [texts, heads, length, size].
            key: [texts, key heads, length, size]; a key head serves several adjacent heads.
            value: The same.
            out: [texts, heads, length, size] of the dtype of the products.
            bias: [1, heads, length, length], only where the window has no limits.
        """
        import torch

        length = query.shape[2]
        own = Attention(self.scale, self.window.of(length), self.aligned)
        if out.dtype == torch.float32:
            own._exact(query, key, value, out, bias)
            return
        together = 1 if length >= LONG else len(query)
        for start in range(0, len(query), together):
            texts = slice(start, start + together)
            asked = query[texts].to(out.dtype, memory_format=torch.contiguous_format)
            keys, values = (own._filled(part[texts], out.dtype) for part in (key, value))
            own._narrow(asked, keys, values, out[texts], bias)

    def _filled(self, part: Tensor, dtype: torch.dtype) -> Tensor:
        """Keys or values, contiguous, with zeros after the last where rows of scores are filled up."""
        import torch

        length = part.shape[2]
        if not self.aligned or length % LANES <= FEW:
            return part.to(dtype, memory_format=torch.contiguous_format)
        found = part.new_empty(*part.shape[:2], -(-length // LANES) * LANES, part.shape[3], dtype=dtype)
        found[:, :, :length].copy_(part)
        found[:, :, length:].zero_()
        return found

    def _exact(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor, bias: Tensor | None) -> None:
        from torch.nn.functional import scaled_dot_product_attention

        length, shared = query.shape[2], query.shape[1] // key.shape[1]
        if shared > 1:
            key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
        if self.window.back is None and self.window.ahead in (None, 0):
            mask = None if bias is None else bias.expand(len(query), -1, -1, -1)
            causal = self.window.ahead == 0
            found = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, scale=self.scale)
            out.copy_(found)
            return
        for block in self._blocks(length, LOCAL_ROWS):
            rows, keys = slice(block.start, block.stop), slice(block.low, block.high)
            mask = self._hide(query.new_zeros(block.stop - block.start, block.high - block.low), block)
            found = scaled_dot_product_attention(
                query[:, :, rows], key[:, :, keys], value[:, :, keys], attn_mask=mask, scale=self.scale
            )
            out[:, :, rows].copy_(found)

    def _narrow(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Attention by products in a narrow dtype; at most `BUFFER` scores exist at a time."""
        import torch

        texts, heads, length, size = query.shape
        items, shared = texts * key.shape[1], heads // key.shape[1]
        query = query.reshape(items, shared, length, size)
        filled = key.shape[2]
        key, value = key.reshape(items, filled, size), value.reshape(items, filled, size)
        out = out.view(texts, -1, shared, length, size)
        for block in self._blocks(length, self._rows(length, filled, texts * heads, shared)):
            rows, high = slice(block.start, block.stop), filled if block.high == length else block.high
            keys = slice(block.low, high)
            added = None if bias is None else bias[:, :, rows, keys].expand(texts, -1, -1, -1)
            added = None if added is None else added.reshape(items, block.stop - block.start, -1)
            together = max(1, BUFFER // (shared * (block.stop - block.start) * (high - block.low)))
            parts = [
                self._weighted(query[part, :, rows], key[part, keys], value[part, keys], block, added, part)
                for part in (slice(first, first + together) for first in range(0, items, together))
            ]
            found = parts[0] if len(parts) == 1 else torch.cat(parts)
            out[:, :, :, rows].copy_(found.view(texts, -1, shared, block.stop - block.start, size))

    def _weighted(
        self, query: Tensor, key: Tensor, value: Tensor, block: QueryBlock, bias: Tensor | None, part: slice
    ) -> Tensor:
        """Of some items: query [items, shared, rows, size], key and value [items, keys, size] -> as query."""
        import torch

        items, shared, rows, size = query.shape
        query = query.reshape(items, shared * rows, size)
        if bias is None:
            scores = torch.baddbmm(query.new_empty(1), query, key.mT, beta=0, alpha=self.scale)
        else:
            scores = torch.baddbmm(bias[part], query, key.mT, alpha=self.scale)
        self._hide(scores.view(items, shared, rows, -1), block)
        scores[:, :, block.high - block.low :].fill_(float("-inf"))
        return torch.bmm(torch.softmax(scores, -1, out=scores), value).view(items, shared, rows, size)

    def _rows(self, length: int, filled: int, heads: int, shared: int) -> int:
        """Queries in a block of a text with so many keys; `BUFFER` holds the scores of at least one key head."""
        whole = heads * length * filled <= BUFFER or length < LONG
        rows = LOCAL_ROWS if self.window != EVERYTHING else length if whole else ROWS
        return rows if whole else min(rows, max(1, BUFFER // (shared * filled)))

    def _blocks(self, length: int, rows: int) -> Iterator[QueryBlock]:
        back, ahead = self.window
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            low = 0 if back is None else max(0, start - back)
            yield QueryBlock(start, stop, low, length if ahead is None else min(length, stop + ahead))

    def _hide(self, scores: Tensor, block: QueryBlock) -> Tensor:
        """Set scores [..., rows, keys] of keys outside of the window to minus infinity: a triangle on either side."""
        import torch

        back, ahead = self.window
        rows, keys = scores.shape[-2:]
        if ahead is not None and (first := block.start + ahead + 1 - block.low) < keys:
            hidden = scores.new_ones(rows, keys - first, dtype=torch.bool).triu()
            scores[..., first:].masked_fill_(hidden, float("-inf"))
        if back is not None:
            reach = block.start - back - block.low  # row i does not see keys below reach + i
            if (count := min(keys, reach + rows - 1)) > 0:
                hidden = scores.new_ones(rows, count, dtype=torch.bool).tril(reach - 1)
                scores[..., :count].masked_fill_(hidden, float("-inf"))
        return scores
