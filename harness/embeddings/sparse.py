"""The sparse vectors of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embeddings.rows import StoredRows


class SparseVectors(StoredRows):
    """Rows of term weights, scipy.sparse.csr_array float32 [n, dim]."""

    def starts(self, rows: Any) -> NDArray[Any]:
        """As `StoredRows.starts`."""
        return rows.indptr  # type: ignore[no-any-return]

    def joined(self, parts: Sequence[Any]) -> Any:
        """As `StoredRows.joined`."""
        import scipy.sparse

        if len(parts) == 1:
            return parts[0]
        return scipy.sparse.vstack([scipy.sparse.csr_array((0, self.dim), dtype=np.float32), *parts], format="csr")
