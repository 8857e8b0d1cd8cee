"""Smoke-loads a model folder in a clean subprocess: sentence-transformers alone, without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from harness.types import UserError

TOLERANCE = 1e-6
"""Largest accepted difference of a vector component between copy and source."""
TEXTS = ("what pumps blood", "The heart pumps blood through the body.", "ÜBER 東京 🙂 " * 200)
OURS = ("harness", "harness_plugins", "harness_reports", "harness_training")
PROGRAM = """
import json, sys
texts, ours, folders = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
sys.modules.update(dict.fromkeys(ours))  # makes importing them fail
from sentence_transformers import SentenceTransformer
found = []
for folder in folders:
    model = SentenceTransformer(folder, device="cpu", trust_remote_code=False, local_files_only=True)
    methods = model.encode_query, model.encode_document
    vectors = [encode(texts, show_progress_bar=False).tolist() for encode in methods]
    prompts = {name: prompt for name, prompt in model.prompts.items() if prompt}
    length = model.max_seq_length
    facts = [model.get_embedding_dimension(), length if length is None else int(length), model.similarity_fn_name]
    found.append([vectors, facts, prompts, sum(p.numel() for p in model.parameters())])
print("\\n" + json.dumps(found))
"""


class Loaded(NamedTuple):
    """Properties of a loaded model."""

    dim: int
    max_seq_length: int | None
    similarity: str
    prompts: dict[str, str]
    parameters: int
    difference: float
    """Largest difference of a vector component to the source."""


def load_cleanly(copy: Path, source: Path) -> Loaded:
    """Load both folders and compare their vectors of `TEXTS`; UserError when they differ or loading fails."""
    import numpy as np

    copied, original = _run(copy, source)
    vectors, (dim, length, similarity), prompts, parameters = copied
    ours, theirs = np.asarray(vectors, np.float64), np.asarray(original[0], np.float64)
    if ours.shape != (2, len(TEXTS), dim) or not np.isfinite(ours).all() or not np.abs(ours).sum(-1).all():
        raise UserError(f"{source} gives vectors that are not finite, or zero; nothing was written: train it again.")
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    if not difference <= TOLERANCE or copied[1:] != original[1:]:
        raise UserError(
            f"The copy of {source} differs from it (vectors by {difference:.1e}): a file that decides them is not "
            "among those sentence-transformers states; nothing was written: save the model again with "
            "SentenceTransformer(...).save(folder)."
        )
    return Loaded(dim, length, similarity, prompts, parameters, difference)


def _run(*folders: Path) -> Any:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HF_", "TRANSFORMERS_", "HARNESS_"))}
    words = [json.dumps(TEXTS), json.dumps(OURS), *(str(folder.resolve()) for folder in folders)]
    with tempfile.TemporaryDirectory() as empty:
        offline = {"HF_HOME": empty, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, *words], env=kept | offline, cwd=empty, capture_output=True, text=True
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300]
        raise UserError(
            f"{folders[-1]} could not be loaded by sentence-transformers alone ({reason}); nothing was written: "
            "save it again with SentenceTransformer(...).save(folder), made of its own modules only."
        )
    return json.loads(done.stdout.splitlines()[-1])
