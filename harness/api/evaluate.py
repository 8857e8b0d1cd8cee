"""`evaluate` and `load_dataset`: what ``harness benchmark`` does, called from Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.adapters import offline_here
from harness.api.arguments import Named, datasets_of, distinct, models_of, named
from harness.api.results import Results
from harness.cli.benchmark import chosen_measures, dataset_notes, tell
from harness.cli.endpoint_options import EndpointOptions
from harness.cli.output import progress_bar
from harness.cli.session import required, search_limits
from harness.datasets.beir import Dataset
from harness.download.local_weights import clear_hash_cache
from harness.evaluation.cells import Settings
from harness.evaluation.pipeline import benchmark
from harness.metrics.depth import DEPTH
from harness.registry.manager import load_registry
from harness.registry.model_ref import ModelRef
from harness.registry.objects import cacheable
from harness.registry.option_values import command_line
from harness.results.store import ResultStore
from harness.search.exact import MEMORY
from harness.storage.temporary_files import remove
from harness.system.log import NOTE
from harness.system.paths import make_folder, make_home_folder
from harness.types import Progress, UserError


def evaluate(
    models: Any,
    datasets: Any,
    *,
    metrics: str | Iterable[str] | None = None,
    results: str | os.PathLike[str] = "results",
    limit: int | None = None,
    split: str | None = None,
    exclude_self: bool | None = None,
    depth: int = DEPTH,
    device: str | None = None,
    dtype: str | None = None,
    force: bool = False,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    offline: bool | None = None,
    plugins: Iterable[str | os.PathLike[str]] = (),
    progress: bool = True,
) -> Results:
    """Evaluates every model on every dataset, as ``harness benchmark`` does, and stores the same results.

    Finished results are reused when nothing that they depend on has changed.

    Args:
        models: One model, a list of them, or a dict from names to them. A model is what stands after ``-m``
            (``"bm25:k1=1.2"``, a folder's path), a `ModelSpec`, or an object: a `SentenceTransformer`, or anything
            with ``encode(texts)``. A pair of a model and a `CrossEncoder` reranks the results of the model.
        datasets: One dataset, a list of them, or a dict from names to them. A dataset is what stands after ``-d`` (a
            name, a folder's path, ``"irds:vaswani"``), a triple (corpus, queries, qrels) of dicts as beir has them, or
            of DataFrames, a dict with the keys ``corpus``, ``queries`` and ``qrels``, or what `load_dataset` returns.
        metrics: Names as in ir_measures; default: nDCG@10, R@100, R@1000, AP@1000 and RR@10.
        results: The folder of results.
        limit: Only this many judged queries, the first ones; the results are marked partial.
        split: Which judgements (default: what the dataset says, else test).
        exclude_self: Whether a query's own document is left out (default: what the dataset says).
        depth: Documents kept for each query.
        device: Where models run: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, as a model's option ``device``; default:
            the first GPU, else the CPU; for an object, where it is.
        dtype: Of the matrix products of dense models: ``float32``, ``bfloat16`` or ``float16``.
        force: Compute finished results again; stored vectors are still used.
        max_tokens: Tokens that endpoints are sent at most.
        max_cost: US dollars that endpoints may cost, by the option ``price`` of each model.
        offline: Open no connection; default: what $HARNESS_OFFLINE says.
        plugins: Plug-in files to load, too.
        progress: Show a progress bar and notes, on stderr or in the notebook.

    Returns:
        The results, with a DataFrame, a leaderboard, a plot and a report of them.

    Raises:
        UserError: A mistake of the caller, in the sentence that the command prints.
        PluginError: All models fail before anything is computed; a model that fails later fails its own results.

    Example:
        >>> import harness
        >>> corpus = {"d1": "Bread is baked from flour.", "d2": "The moon circles the earth."}
        >>> queries, qrels = {"q1": "baked bread"}, {"q1": {"d1": 1}}
        >>> found = harness.evaluate("bm25", {"tiny": (corpus, queries, qrels)}, progress=False)
        >>> found.frame()[["model", "dataset", "nDCG@10"]].to_dict("records")
        [{'model': 'bm25', 'dataset': 'tiny', 'nDCG@10': 1.0}]
    """
    if depth < 1:
        raise UserError(f"A depth of {depth} documents leaves nothing to measure; give 1 or more.")
    registry = load_registry([Path(file) for file in plugins])
    names = chosen_measures(_listed(metrics), depth)
    choice = {"limit": limit, "split": split, "exclude_self": exclude_self}
    options = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    named_models, named_datasets = named(models, "model"), named(datasets, "dataset")
    command = _command(named_models, named_datasets, options, names if metrics else None, choice, depth, results, force)
    with ExitStack() as stack:
        refs = [ref.passing(**options) for ref in models_of(named_models, registry, stack)]
        distinct("models", [ref.label for ref in refs])
        required(refs)
        budget = EndpointOptions(None, max_tokens, max_cost).budget(refs)
        home, report = make_home_folder(), stack.enter_context(_progress(progress))
        if force:
            clear_hash_cache(home)
        stack.callback(_forget, refs, home)
        common: dict[str, Any] = {"offline": offline_here() if offline is None else offline, "progress": report}
        opened = []
        for dataset in datasets_of(named_datasets, registry, home, rehash=force, **choice, **common):
            opened.append(dataset)
            if all(dataset is not thing for _, thing in named_datasets):
                stack.callback(dataset.close)
        distinct("datasets", [dataset.label for dataset in opened])
        for sentence in [*dataset_notes(opened, names, depth), *_uncached(refs)]:
            report(f"{NOTE}{sentence}", 0, 0)
        store = ResultStore(make_folder(Path(results).expanduser(), "choose another folder with results="))
        limits = search_limits(MEMORY, "auto" if device is None else device if device.startswith("cuda") else "cpu")
        settings = Settings(home, store, names, depth, limits, force=force, command=command, budget=budget, **common)
        cells = []
        for cell in benchmark(refs, opened, settings):
            cells.append(cell)
            if progress:
                tell(cell)
    return Results(store.root, tuple(cells))


def load_dataset(
    dataset: Any,
    *,
    split: str | None = None,
    exclude_self: bool | None = None,
    limit: int | None = None,
    offline: bool | None = None,
    progress: bool = True,
) -> Dataset:
    """Opens a dataset: what `evaluate` takes as one; missing ones are downloaded.

    Args:
        dataset: As for `evaluate`.
        split: As for `evaluate`.
        exclude_self: As for `evaluate`.
        limit: As for `evaluate`.
        offline: As for `evaluate`.
        progress: Show a progress bar.

    Returns:
        The dataset. It has ``corpus`` (documents by row), ``queries``, ``qrels``, and ``dicts()``, the triple of beir.

    Raises:
        UserError: There is no such dataset, or it is not valid.

    Example:
        >>> import harness
        >>> data = harness.load_dataset(({"d1": "Bread is baked."}, {"q1": "bread"}, {"q1": {"d1": 1}}), progress=False)
        >>> len(data.corpus), data.queries, data.qrels
        (1, [Query(id='q1', text='bread')], {'q1': {'d1': 1}})
    """
    choice: dict[str, Any] = {"split": split, "exclude_self": exclude_self, "limit": limit}
    with _progress(progress) as report:
        choice |= {"offline": offline_here() if offline is None else offline, "progress": report}
        found = [*datasets_of(named(dataset, "dataset"), load_registry(), make_home_folder(), **choice)]
    if len(found) != 1:
        raise UserError(f"{len(found)} datasets are named; load_dataset() opens one.")
    return found[0]


def _listed(metrics: str | Iterable[str] | None) -> str | None:
    return metrics if metrics is None or isinstance(metrics, str) else " ".join(map(str, metrics))


def _uncached(refs: Iterable[ModelRef]) -> Iterator[str]:
    for ref in refs:
        if not cacheable(ref):
            yield (
                f"{ref.label}: its weights are unknown, so its vectors and results are not reused; an attribute "
                f"'fingerprint', a text that changes with the weights, would allow it"
            )


def _forget(refs: Iterable[ModelRef], home: Path) -> None:
    """Removes vectors and indexes that no later evaluation can find."""
    for ref in refs:
        _forget(ref.members, home)
        if not cacheable(ref):
            for folder in ("vectors", "indexes"):
                for key in {ref.key[:32], ref.own_key[:32]}:
                    if (home / folder / key).exists():
                        remove(home / folder / key)


def _in_notebook() -> bool:
    """Whether rich can draw a bar in the notebook that this runs in."""
    from rich.console import Console

    return "IPython" in sys.modules and Console().is_jupyter and find_spec("ipywidgets") is not None


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    if not shown:
        yield lambda *_: None
        return
    with progress_bar(notebook=_in_notebook()) as report:
        yield report


def _command(
    models: Named,
    datasets: Named,
    options: Mapping[str, str],
    metrics: Sequence[str] | None,
    choice: Mapping[str, Any],
    depth: int,
    results: str | os.PathLike[str],
    force: bool,
) -> str:
    """The command that makes the same results, recorded with them; a Python call if no command can."""
    plain = [each for _, each in (*models, *datasets)]
    if (
        any(name for name, _ in models)
        or not all(isinstance(each, str | os.PathLike) for each in plain)
        or options.get("device")
    ):
        listed = [
            name or (each if isinstance(each, str) else type(each).__name__) for name, each in (*models, *datasets)
        ]
        return f"harness.evaluate({', '.join(map(repr, listed))})"
    words = ["harness", "benchmark"]
    for flag, given in (("-m", models), ("-d", datasets)):
        words += [word for _, each in given for word in (flag, os.fspath(each))]
    stated: dict[str, Any] = {"--split": choice["split"], "--limit": choice["limit"], "--dtype": options.get("dtype")}
    stated |= {"--measures": " ".join(metrics) if metrics else None, "--depth": depth if depth != DEPTH else None}
    stated |= {"--results": os.fspath(results) if os.fspath(results) != "results" else None}
    words += [word for flag, value in stated.items() if value is not None for word in (flag, str(value))]
    own = {True: ["--exclude-self"], False: ["--include-self"], None: []}
    return command_line([*words, *own[choice["exclude_self"]], *(["--force"] if force else [])])
