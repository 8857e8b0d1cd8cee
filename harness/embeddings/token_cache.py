"""Tokens on disk, from the first model of a benchmark that makes them to the last that makes the same.

Models are loaded one after another, and several often share a tokenizer: a base and checkpoints trained from it. Those
take part that state ``tokens_key(role)``, a hash of all that their ``tokenize`` depends on; empty: it cannot be told.

They are a run's scratch: written only for a model still to come, dropped as the last one reads them, and swept away
after a kill. Meanwhile they take 2 bytes a token, a sixth of what float32 vectors of 768 take for texts of 256 tokens.
For SciFact's 5,183 documents that is 3 MB; making them takes 2.9 processor seconds, 0.3% of MPNet's forward pass on a
CPU, and reading them back 0.08. Texts are read and cut again for every model: 0.05 seconds. The workers of a
distributed benchmark keep none.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np

from harness.embeddings.sharding import Chunk
from harness.storage.atomic import scratch_folder
from harness.storage.regular_files import open_regular
from harness.storage.safe_load import parse_array
from harness.storage.temporary_files import sweep
from harness.types import DenseModel, Role, TokenModel

Tokens = list[list[int]]
"""Token ids of each text."""


class TokenStore:
    """The tokens of one benchmark in one process. Use ``with``: at its end they are gone."""

    def __init__(self, home: Path) -> None:
        self._home, self._open = home, ExitStack()
        self._checksums: dict[str, str] = {}
        """Of every file, by name: in memory, for they are this process's alone."""

    def __enter__(self) -> TokenStore:
        sweep(self._home)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checksums.clear()
        self._open.close()

    @cached_property
    def _folder(self) -> Path:
        return self._open.enter_context(scratch_folder(self._home / "tokens"))

    def tokenizer(self, model: DenseModel, role: Role, *, keep: bool) -> Callable[[Chunk], Tokens] | None:
        """What gives a chunk's tokens: kept ones if there are any, else the model's own. None where the model is to
        tokenise as if there were no store.

        With ``keep`` they are there for the next model, without it they are dropped. To be called by one thread.
        """
        stated = getattr(model, "tokens_key", None)
        if not isinstance(model, TokenModel) or stated is None or not (keep or self._checksums):
            return None
        if not (key := str(stated(role))):
            return None

        def tokens(chunk: Chunk) -> Tokens:
            name = hashlib.sha256(f"{key} {chunk.key}".encode()).hexdigest()
            found = self._kept(name, len(chunk.texts))
            made = found if found is not None else model.tokenize(chunk.texts, role=role)
            if not keep:
                self._drop(name)
            elif found is None and len(made) == len(chunk.texts):
                self._keep(name, made)
            return made

        return tokens

    def _kept(self, name: str, texts: int) -> Tokens | None:
        """The tokens of so many texts, if their file is there and undamaged."""
        if name not in self._checksums:
            return None
        try:
            with open_regular(self._folder / name) as stream:
                data = stream.read()
            if hashlib.sha256(data).hexdigest() != self._checksums[name]:
                return None
            numbers = parse_array(data)
        except (OSError, ValueError):
            return None
        ids, ends = numbers[texts:].tolist(), np.cumsum(numbers[:texts], dtype=np.int64).tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _keep(self, name: str, tokens: Sequence[Sequence[int]]) -> None:
        """Writes the number of ids of every text, then all ids, in the least type that holds them."""
        numbers = np.fromiter(chain(map(len, tokens), chain.from_iterable(tokens)), np.int64)
        least = np.min_scalar_type(numbers.max(initial=0)) if numbers.min(initial=0) >= 0 else numbers.dtype
        buffer = io.BytesIO()
        np.save(buffer, numbers.astype(least), allow_pickle=False)
        with suppress(OSError):  # what cannot be written is made again
            (self._folder / name).write_bytes(buffer.getvalue())
            self._checksums[name] = hashlib.sha256(buffer.getvalue()).hexdigest()

    def _drop(self, name: str) -> None:
        if self._checksums.pop(name, None):
            (self._folder / name).unlink(missing_ok=True)
