"""The methods paragraph of studies that tests do not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness_plugins.sentence_transformers.trained import RunOnDisk
from harness_training.study.methods import _training


def run(**settings: Any) -> RunOnDisk:
    """A run of 100 of 120 rows, as its record says."""
    own = {"dim": 64, "init": "pca-rotation", "loss": "infonce", "learning_rate": 1e-5, "head_learning_rate": 5e-4}
    own |= {"schedule": "linear", "warmup": 0.1, "batch_size": 16, "epochs": 2, "precision": "bf16"}
    sources = [{"name": "squad", "split": "train"}]
    training_set = {"rows": 120, "columns": ["query", "positive"], "sources": sources, "miners": []}
    record = {
        "experiment": "baseline",
        "settings": own | settings,
        "rows": 100,
        "training_set": training_set,
        "base": {"name": "mpnet"},
        "dev_set": {"name": "held-out", "queries": 20, "documents": 500},
        "seed": 42,
        "seconds": 60,
        "machine": {"processor": "AMD EPYC", "cores": 1},
        "versions": {"torch": "2.13.0"},
    }
    return RunOnDisk(Path("run"), record)


def test_a_frozen_base_is_not_said_to_be_fine_tuned() -> None:
    said = " ".join(_training([run(freeze_base=True, max_seq_length=128), run(freeze_base=True, max_seq_length=128)]))
    assert "fine-tuned" not in said
    assert (
        "We trained a linear projection to 64 dimensions, which starts as the rotation to the principal components, of "
        "the frozen mpnet on 100 of 120 training rows from squad (split train)"
    ) in said
    assert "Texts were cut to 128 tokens." in said
    assert "AdamW with a learning rate of 0.0005, linear decay" in said
    assert "(base)" not in said
    assert "on AMD EPYC with 1 core (torch 2.13.0)" in said


def test_a_base_that_one_experiment_trains_is_fine_tuned() -> None:
    said = " ".join(_training([run(freeze_base=True), run(freeze_base=False, init="random")]))
    assert "We fine-tuned mpnet with a linear projection to 64 dimensions" in said
    assert "learning rates of 1e-05 (base) and 0.0005 (projection)" in said
