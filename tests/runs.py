"""Runs as `harness train` leaves them, written by hand around a tiny checkpoint."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.storage.atomic import content_key, sha256_file
from harness_training.release import verify
from tests.tiny import DIM, transformer


def write_checkpoint(folder: Path, seed: int = 0) -> Path:
    """MPNet, mean pooling and a head, compared by distance: what training makes, small."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling

    base = transformer(folder.with_name(f"{folder.name}-base"), "mpnet", seed)
    torch.manual_seed(seed)
    modules = [base, Pooling(DIM, "mean"), Dense(DIM, 24)]
    SentenceTransformer(modules=modules, similarity_fn_name="euclidean").save(str(folder), create_model_card=False)
    return folder


def write_run(folder: Path, checkpoint: Path | None, **changes: Any) -> Path:
    """A finished run of ``folder``'s name, or one with the changes."""
    record = {
        "format": 1,
        "experiment": folder.parent.name,
        "run": folder.name,
        "status": "finished",
        "reason": "",
        "settings": {
            "batch_size": 512,
            "isotropy_weight": 1.0,
            "limit": 480,
            "loss": {"name": "infonce", "scale": 0.05},
            "triplets": "/home/somebody/sets/a",
        },
        "training_set": {
            "name": "sample",
            "rows": 500_000,
            "sources": [{"name": "msmarco", "split": "train", "fingerprint": {}}],
            "miners": [{"model": "bm25", "key": "0", "fingerprint": {}, "depth": 100}, "minilm"],
        },
        "trained_on": ["msmarco"],
        "base": {"path": "/home/somebody/models/mpnet", "fingerprint": "0"},
        "seed": 42,
        "steps": 900,
        "best_step": 800,
        "dev": {"nDCG@10": 0.4567},
        "curves": [{"step": 100, "loss": 1.5}],
        "seconds": 60.5,
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T00:01:00+00:00",
    }
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is not None:
        copy = shutil.copytree(checkpoint, folder / "checkpoint")
        weights = {file.relative_to(copy).as_posix(): sha256_file(file) for file in copy.rglob("*.safetensors")}
        record["checkpoint_key"] = content_key(weights)
    (folder / "run.json").write_text(json.dumps(record | changes))
    return folder


def load_here(*folders: Path) -> Any:
    """What `verify` learns in a process of its own, which takes seconds to start: in this one."""
    out = io.StringIO()
    words = ["-c", json.dumps(verify.TEXTS), "[]", *map(str, folders)]
    with patch.object(sys, "argv", words), contextlib.redirect_stdout(out):
        exec(verify.PROGRAM, {})
    return json.loads(out.getvalue().splitlines()[-1])
