"""Where the time of encoding goes: ``python -m benchmarks profile [--whole] [MODEL [DATASET]]``.

Encodes documents of DATASET (scifact) with MODEL (mpnet, in the unpadded forward pass) as `harness benchmark` does:
256 drawn at random (seed 0), or all with --whole. Prints two Markdown tables from torch's profiler: the share of each
part of the forward pass in the whole time, and the operations that took the most.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile, record_function

from harness.cli.main import State
from harness.embeddings.encode import Tally, encode_collection
from harness.embeddings.store import VectorStore
from harness.evaluation.open_datasets import open_named
from harness.models.runner import Prepared
from harness.registry.manager import load_registry
from harness.system.environment import machine
from harness.types import PluginError
from harness_plugins.forward import products, unpadded
from harness_plugins.sentence_transformers.encoder import UnpaddedEncoder

SAMPLE = 256
PARTS: dict[str, tuple[Any, str]] = {
    "matrix products": (products.Product, "__call__"),
    "attention": (unpadded.UnpaddedModel, "_attend"),
    "residuals and LayerNorm": (unpadded, "add_and_normalise"),
    "embedding": (unpadded.UnpaddedModel, "_embedded"),
}
"""Name of a part -> its function; no function calls another."""
OPERATIONS = 12


@contextmanager
def labelled() -> Any:
    """The functions of `PARTS` and the whole forward pass, each labelled in the profile."""
    every = {**PARTS, "network": (unpadded.UnpaddedModel, "__call__"), "batch": (UnpaddedEncoder, "encode_tokens")}
    before = {label: getattr(*where) for label, where in every.items()}
    for label, (owner, name) in every.items():
        setattr(owner, name, _timed(label, before[label]))
    try:
        yield
    finally:
        for label, (owner, name) in every.items():
            setattr(owner, name, before[label])


def _timed(label: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **more: Any) -> Any:
        with record_function(f"part: {label}"):
            return work(*args, **more)

    return timed


def run(model: Prepared, texts: Sequence[str]) -> tuple[dict[str, float], list[tuple[str, float, int]], float, Tally]:
    """Seconds of each part, the operations (name, own seconds, calls), seconds of the whole, and what was encoded."""
    if not isinstance(model.dense, UnpaddedEncoder):
        raise PluginError(f"{model.label} does not use the unpadded forward pass, which this profiles.")
    model.dense.encode(list(texts[:8]), role="document")  # exclude the cost of the first call
    tally = Tally()
    with tempfile.TemporaryDirectory() as place, labelled(), profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        store = VectorStore(Path(place), "profile", "document")
        encode_collection(model.dense, model.label, texts, len(texts), store, "document", lambda *_: None, tally)
        whole = time.perf_counter() - start
    averages = found.key_averages()
    labels = {event.key: event.cpu_time_total / 1e6 for event in averages if event.key.startswith("part: ")}
    parts = {label: labels[f"part: {label}"] for label in PARTS}
    network, batch = labels["part: network"], labels["part: batch"]
    parts["other operations of the network"] = network - sum(parts.values())
    parts["pooling, normalising"] = batch - network
    parts["waiting for tokenisation, forming batches, storing"] = whole - batch
    own = [(event.key, event.self_cpu_time_total / 1e6, int(event.count)) for event in averages]
    operations = sorted((row for row in own if row[0].startswith(("aten::", "mkldnn::"))), key=lambda row: -row[1])
    return parts, operations[:OPERATIONS], whole, tally


def main(*words: str) -> None:
    """Print the tables."""
    names = [word for word in words if word != "--whole"]
    name, dataset = (*names, *("mpnet", "scifact")[len(names) :])
    registry, home = load_registry(), State().home
    model = Prepared(registry.model(name), home)
    texts = [document.content for document in open_named(dataset, registry, home).corpus.iter()]
    if "--whole" not in words:
        chosen = np.random.default_rng(0).permutation(len(texts))[:SAMPLE]
        texts = [texts[row] for row in sorted(chosen.tolist())]
    parts, operations, whole, tally = run(model, texts)
    about, dtype = machine(), model.dense.products[0]  # type: ignore[attr-defined]
    share = (parts["matrix products"] + parts["attention"]) / whole
    print(
        f"{model.label} on {tally.texts:,} documents of {Path(dataset).name}, {tally.tokens:,} tokens, {dtype}; "
        f"{about['processor']}, {torch.get_num_threads()} threads, {', '.join(about['features'])}\n\n"
        f"{whole:.1f} s ({tally.tokens / whole:,.0f} tokens a second under the profiler), "
        f"{share:.1%} of it inside matrix products and attention.\n"
    )
    rows = [[label, f"{spent:.2f}", f"{spent / whole:.1%}"] for label, spent in parts.items()]
    print(_table(rows, ["part", "seconds", "share"]))
    rows = [[f"`{key}`", f"{spent:.2f}", f"{spent / whole:.1%}", f"{count:,}"] for key, spent, count in operations]
    print("\n" + _table(rows, ["operation", "seconds", "share", "calls"]))


def _table(rows: list[list[str]], headers: list[str]) -> str:
    sides = ["left", *("right" for _ in headers[1:])]
    return cast("str", tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=sides))
