"""What the process that `tests.forked` forks from imports; what is not installed is left out."""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

for name in (
    *(
        "bm25s",
        "faiss",
        "numba",
        "pandas",
        "pyarrow.parquet",
        "pytest",
        "pytrec_eval",
        "regex",
        "rich.progress",
        "tabulate",
    ),
    *("sentence_transformers", "datasets", "accelerate", "transformers"),
    *("harness.cli.main", "harness.cli.benchmark", "harness.evaluation.pipeline"),
    *("harness_plugins.sentence_transformers.encoder", "harness_training.experiment.train"),
):
    with suppress(ImportError):
        importlib.import_module(name)
with suppress(ImportError):
    importlib.import_module("torch").set_num_threads(1)
gc.collect()
gc.freeze()  # what is imported is in no later collection
