"""``python -m benchmarks.gpu.part NAME SETUP RESULT``: one part, in a process of its own.

The result is rewritten after every row, so that a part that is stopped or fails keeps what it has measured.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.runner.worker import die_with_parent


@dataclass(frozen=True, slots=True)
class Setup:
    """What a part works with."""

    scratch: str
    """For models that are joined or made."""
    device: str = "cuda"
    small: bool = False
    """Tiny models and few texts: a rehearsal."""
    weights: str = ""
    """Folder of the models' weights; see `benchmarks.gpu.models`."""

    def pick(self, small: int, usual: int) -> int:
        """Select a value by size."""
        return small if self.small else usual


@dataclass
class Record:
    """The rows of a part's table, notes below it, and the checks that failed."""

    file: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    finished: bool = False

    def add(self, **values: Any) -> None:
        """A row: column -> value."""
        self.rows.append(values)
        self.save()

    def note(self, text: str) -> None:
        """A sentence below the table."""
        self.notes.append(text)
        self.save()

    def fail(self, text: str) -> None:
        """A check that did not pass; the part continues."""
        self.failures.append(text)
        self.save()

    def save(self) -> None:
        """Replace the file."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({name: value for name, value in asdict(self).items() if name != "file"}))
        new.replace(self.file)


def use_gpu_pass(setup: Setup) -> None:
    """Make the CPU of a rehearsal take the forward pass for GPUs, uncompiled."""
    from harness_plugins.forward import double_buffer, flex_attention
    from harness_plugins.sentence_transformers import encoder

    if setup.device == "cpu":
        encoder.FLEX_ATTENTION_DEVICES = ("cpu",)
        double_buffer.ROWS, double_buffer.BACKEND = flex_attention.BLOCK, "eager"


def main(name: str, setup: str, result: str) -> None:
    """Run one part."""
    die_with_parent()
    given, record = Setup(**json.loads(Path(setup).read_text())), Record(Path(result))
    try:
        importlib.import_module(name if "." in name else f"benchmarks.gpu.{name}").run(given, record)
        record.finished = True
    except (Exception, SystemExit) as error:  # a part may fail in any way, and is reported
        traceback.print_exc()
        record.failures.append(f"{type(error).__name__}: {error}".strip().splitlines()[0][:300])
    record.save()
    sys.exit(bool(record.failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
