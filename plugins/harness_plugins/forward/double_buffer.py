"""Double-buffered GPU encoding: the next batch is prepared and copied while the current one is computed.

Two slots alternate, each with a pinned host buffer and a device buffer. Token ids, positions and masks are copied as
one array on a separate stream; vectors are copied back into pinned memory on the compute stream, and an event marks
their arrival. A slot is only waited for when it is reused. On a CPU, where torch's streams and events do nothing, the
same code runs sequentially. It has not run on a GPU yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.registry.load_fallback import Otherwise
from harness_plugins.forward.flex_attention import ROWS, BatchLayout, FlexAttentionModel
from harness_plugins.forward.unpadded import UnpaddedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness_plugins.forward.outlier_tokens import OutlierLayer

SLOTS = 2
BACKEND = "inductor"
"""Backend of torch.compile."""
MIN_COSINE = 0.99
"""Lowest accepted mean cosine similarity to the float32 hidden states.

bfloat16 reaches 0.999, a pass without bias, mask or positions at most 0.8.
"""


class Slot:
    """Pinned host buffer and device buffer of one batch."""

    def __init__(self, forward: FlexAttentionModel, side: Any) -> None:
        import torch

        size, device = BatchLayout.size(forward.rows), forward.device
        self._forward, self._side, self._api = forward, side, torch.get_device_module(device)
        self._host = torch.zeros(size, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device_copy = torch.empty(size, dtype=torch.int32, device=device)
        self._copied, self._done = self._api.Event(), self._api.Event()
        self._done.record(self._api.current_stream(device))  # the memory may have been used before on that stream
        self._result: Tensor | None = None

    def start(self, tokens: Sequence[Sequence[int]], vectors: Callable[[Tensor, Tensor, list[Tensor]], Tensor]) -> None:
        """Start a batch without waiting for the result; waits only for the slot's previous batch."""
        self._done.synchronize()  # also after an error that left a batch uncollected
        count, width = self._forward.fill_layout(tokens, self._host.numpy())
        stream = self._api.current_stream(self._forward.device)
        with self._api.stream(self._side):
            self._device_copy.copy_(self._host, non_blocking=True)
            self._copied.record(self._side)
        stream.wait_event(self._copied)
        spreads: list[Tensor] = []
        state = self._forward.states(self._device_copy, spreads)
        rows = BatchLayout.of(self._device_copy, self._forward.rows).padded[: count * width].view(count, width)
        self._result = vectors(state, rows, spreads).to("cpu", non_blocking=True)
        self._done.record(stream)

    def collect(self) -> NDArray[np.float32]:
        """Wait for the batch started last and return its vectors."""
        self._done.synchronize()
        assert self._result is not None
        found: NDArray[np.float32] = self._result.numpy()
        self._result = None
        return found


class DoubleBuffer:
    """Encode token ids to vectors on a GPU."""

    def __init__(
        self,
        forward: FlexAttentionModel,
        pooled: Callable[[dict[str, Any]], Tensor],
        outlier_layer: OutlierLayer | None,
    ) -> None:
        """``pooled`` maps padded token embeddings and their mask to vectors [n, dim] on the device."""
        import torch

        self._forward, self._pooled, self._outlier_layer, self.rows = forward, pooled, outlier_layer, forward.rows
        api: Any = torch.get_device_module(forward.device)
        side = api.Stream(forward.device) if forward.device.type != "cpu" else api.Stream()
        self._slots = [Slot(forward, side) for _ in range(SLOTS)]

    def __call__(self, tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.float32], list[int]]:
        """Return float32 [n, dim] and the rows of undecided texts; texts sorted by falling length are fastest."""
        found = np.concatenate([*self._collected(tokens)])
        return np.ascontiguousarray(found[:, :-1]), np.flatnonzero(found[:, -1]).tolist()

    def _collected(self, tokens: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        import torch

        pending: deque[Slot] = deque()
        with torch.inference_mode():
            for number, part in enumerate(self._forward.batches([len(text) for text in tokens])):
                if len(pending) == SLOTS:
                    yield pending.popleft().collect()
                slot = self._slots[number % SLOTS]
                slot.start(tokens[part.start : part.stop], self._vectors)
                pending.append(slot)
            while pending:
                yield pending.popleft().collect()

    def _vectors(self, state: Tensor, rows: Tensor, spreads: list[Tensor]) -> Tensor:
        """Pool states [rows, hidden] to float32 [n, dim + 1]; the last column is 1 for undecided texts.

        ``rows`` [n, longest] holds the row of each token of each text, -1 past its end.
        """
        import torch

        there, at = rows >= 0, rows.clamp(min=0).long()
        padded = state[at] * there[..., None]
        vectors = self._pooled({"token_embeddings": padded, "attention_mask": there.long()})
        if self._outlier_layer is None:
            undecided = vectors.new_zeros(len(rows), 1)
        else:
            undecided = (self._outlier_layer.borderline(spreads)[at] & there).any(1, keepdim=True).float()
        return torch.cat([vectors, undecided], 1)


def make_double_buffer(
    model: Any,
    dtype: torch.dtype,
    plain: UnpaddedModel,
    tokens: Sequence[Sequence[int]],
    pooled: Callable[[dict[str, Any]], Tensor],
    outlier_layer: OutlierLayer | None,
) -> DoubleBuffer:
    """Compile the double-buffered encoder and compare it with the float32 pass on a few texts.

    Raises:
        Otherwise: It cannot be compiled, or its hidden states differ.
    """
    import torch

    try:
        forward = FlexAttentionModel(model, dtype, rows=ROWS, backend=BACKEND)
        with torch.inference_mode():
            cosine = float(torch.cosine_similarity(forward(tokens), plain(tokens)).mean())
    except Exception as error:  # compilers, kernels and drivers share no base class
        cause = " ".join(str(error).split())[:200]
        reason = f"could not be compiled here ({type(error).__name__}: {cause})"
    else:
        if cosine >= MIN_COSINE:
            return DoubleBuffer(forward, pooled, outlier_layer)
        reason = f"gave other hidden states than the float32 pass (mean cosine {cosine:.3f})"
    raise Otherwise(f"the unpadded forward pass for GPUs {reason}", forward="stock")
