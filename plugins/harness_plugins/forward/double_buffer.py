"""Batches through a GPU one after another: while it computes one, the next is made and copied, and the last one's
vectors come back.

Two stations take turns, each with a page-locked array here and its copy there. Token ids, positions and masks travel
in one piece on a stream of their own; vectors return on the computing one into page-locked memory, and an event tells
when they are there. A station is waited for only when its turn comes again, with the other one's batch under way. On a
processor, where torch's streams and events do nothing, the same lines run one after another. No GPU has run them yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.registry.load_fallback import Otherwise
from harness_plugins.forward.flex_attention import ROWS, Flexed, Sheet
from harness_plugins.forward.unpadded import Packed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness_plugins.forward.outlier_tokens import Border

STATIONS = 2
BACKEND = "inductor"
"""Of torch.compile."""
ALIKE = 0.99
"""Least mean cosine of hidden states to those of the float32 pass: bfloat16 has 0.999, a pass without bias, mask or
positions 0.8 and less."""


class Station:
    """Where one batch is at a time."""

    def __init__(self, forward: Flexed, side: Any) -> None:
        import torch

        size, device = Sheet.size(forward.rows), forward.device
        self._forward, self._side, self._api = forward, side, torch.get_device_module(device)
        self._here = torch.zeros(size, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._there = torch.empty(size, dtype=torch.int32, device=device)
        self._copied, self._done = self._api.Event(), self._api.Event()
        self._done.record(self._api.current_stream(device))  # the memory may have had another use on that stream
        self._result: Tensor | None = None

    def start(self, tokens: Sequence[Sequence[int]], vectors: Callable[[Tensor, Tensor, list[Tensor]], Tensor]) -> None:
        """Has a batch computed; waits for nothing but what this station did before."""
        self._done.synchronize()  # also after an error, which may have left a batch uncollected
        count, width = self._forward.lay(tokens, self._here.numpy())
        stream = self._api.current_stream(self._forward.device)
        with self._api.stream(self._side):
            self._there.copy_(self._here, non_blocking=True)
            self._copied.record(self._side)
        stream.wait_event(self._copied)
        spreads: list[Tensor] = []
        state = self._forward.states(self._there, spreads)
        rows = Sheet.of(self._there, self._forward.rows).padded[: count * width].view(count, width)
        self._result = vectors(state, rows, spreads).to("cpu", non_blocking=True)
        self._done.record(stream)

    def collect(self) -> NDArray[np.float32]:
        """What ``vectors`` gave for the batch started last, once it is here."""
        self._done.synchronize()
        assert self._result is not None
        found: NDArray[np.float32] = self._result.numpy()
        self._result = None
        return found


class Conveyor:
    """Tokens to vectors."""

    def __init__(self, forward: Flexed, pooled: Callable[[dict[str, Any]], Tensor], border: Border | None) -> None:
        """``pooled`` makes vectors [n, dim] of padded token embeddings and their mask, on the device."""
        import torch

        self._forward, self._pooled, self._border, self.rows = forward, pooled, border, forward.rows
        api: Any = torch.get_device_module(forward.device)
        side = api.Stream(forward.device) if forward.device.type != "cpu" else api.Stream()
        self._stations = [Station(forward, side) for _ in range(STATIONS)]

    def __call__(self, tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.float32], list[int]]:
        """float32 [n, dim], and which of them are of undecided texts; longest first is quickest."""
        found = np.concatenate([*self._collected(tokens)])
        return np.ascontiguousarray(found[:, :-1]), np.flatnonzero(found[:, -1]).tolist()

    def _collected(self, tokens: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        import torch

        under_way: deque[Station] = deque()
        with torch.inference_mode():
            for number, part in enumerate(self._forward.batches([len(text) for text in tokens])):
                if len(under_way) == STATIONS:
                    yield under_way.popleft().collect()
                station = self._stations[number % STATIONS]
                station.start(tokens[part.start : part.stop], self._vectors)
                under_way.append(station)
            while under_way:
                yield under_way.popleft().collect()

    def _vectors(self, state: Tensor, rows: Tensor, spreads: list[Tensor]) -> Tensor:
        """float32 [n, dim + 1] of states [rows, hidden]: the vectors, and a 1 behind that of an undecided text.

        ``rows`` [n, longest] are where each text's tokens are, and -1 past its end.
        """
        import torch

        there, at = rows >= 0, rows.clamp(min=0).long()
        padded = state[at] * there[..., None]
        vectors = self._pooled({"token_embeddings": padded, "attention_mask": there.long()})
        if self._border is None:
            undecided = vectors.new_zeros(len(rows), 1)
        else:
            undecided = (self._border.between(spreads)[at] & there).any(1, keepdim=True).float()
        return torch.cat([vectors, undecided], 1)


def conveyor(
    model: Any,
    dtype: torch.dtype,
    plain: Packed,
    tokens: Sequence[Sequence[int]],
    pooled: Callable[[dict[str, Any]], Tensor],
    border: Border | None,
) -> Conveyor:
    """The conveyor of an encoder, compiled and compared with its float32 pass on a few texts.

    Raises Otherwise where it cannot be compiled, or its states are others.
    """
    import torch

    try:
        forward = Flexed(model, dtype, rows=ROWS, backend=BACKEND)
        with torch.inference_mode():
            alike = float(torch.cosine_similarity(forward(tokens), plain(tokens)).mean())
    except Exception as error:  # of compilers, kernels and drivers, which have no common class
        cause = " ".join(str(error).split())[:200]
        reason = f"could not be compiled here ({type(error).__name__}: {cause})"
    else:
        if alike >= ALIKE:
            return Conveyor(forward, pooled, border)
        reason = f"gave other hidden states than the float32 pass (mean cosine {alike:.3f})"
    raise Otherwise(f"the packed forward pass for GPUs {reason}", forward="stock")
