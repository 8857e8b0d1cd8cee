"""What `harness.evaluate` takes as models and datasets: names, paths, descriptors, objects and data in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.datasets import in_memory
from harness.datasets.beir import Dataset, open_dataset
from harness.evaluation.open_datasets import open_all
from harness.registry.manager import Registry
from harness.registry.model_ref import ModelRef
from harness.registry.objects import holding, object_model
from harness.registry.validation import check_model
from harness.types import ModelSpec, UserError

NAME = re.compile(r"\w[\w.+@/-]*")
"""What a caller may call a model: it names a row, a folder and the run."""
Named = Sequence[tuple[str, Any]]
"""What is given, one by one, each with its name; an empty name for those that have none."""


def named(given: Any, what: str) -> Named:
    """The models or datasets, whether one, a list or a dict of them is given."""
    one = what == "dataset" and in_memory.as_parts(given) is not None
    if isinstance(given, Mapping) and not one:
        found = [(str(name), each) for name, each in given.items()]
    elif isinstance(given, list | tuple) and not one:
        found = [("", each) for each in given]
    else:
        found = [("", given)]
    if not found:
        raise UserError(f"No {what} is named; give one, as in harness.evaluate('bm25', 'pydocs').")
    return found


def models_of(given: Named, registry: Registry, stack: ExitStack) -> Iterator[ModelRef]:
    """The models. Objects among them can be used until the stack is closed."""
    for name, thing in given:
        if isinstance(thing, str | os.PathLike) and not name:
            yield from map(registry.model, registry.texts([_text(thing)]))
            continue
        ref = _model(name, thing, registry, stack)
        if ref.spec.kind == "reranker" and not ref.members:
            raise UserError(
                f"{ref.label} reranks the results of another model; give both as a pair: models=[('bm25', reranker)]."
            )
        yield ref


def _model(name: str, thing: Any, registry: Registry, stack: ExitStack) -> ModelRef:
    if name and not NAME.fullmatch(name):
        raise UserError(f"The model name {name!r} is not one of letters, digits and . _ + - @ /; choose another.")
    if isinstance(thing, tuple) and len(thing) == 2:
        first, second = _model("", thing[0], registry, stack), _model(name, thing[1], registry, stack)
        if second.spec.kind != "reranker" or second.members:
            raise UserError(
                f"{second.label} is not a reranker; a pair is a model and a reranker such as a CrossEncoder."
            )
        return replace(second, members=(first,))
    if isinstance(thing, str | os.PathLike):
        return replace(registry.model(_text(thing)), named=name)
    if isinstance(thing, ModelSpec):
        check_model(thing)
        defaults = {key: option.default for key, option in thing.options.items()}
        return ModelRef(thing, defaults, {}, "python", named=name)
    [number] = stack.enter_context(holding([thing]))
    return object_model(number, name, registry)


def datasets_of(given: Named, registry: Registry, home: Path, **choice: Any) -> Iterator[Dataset]:
    """Opens the datasets; ``choice`` as for `open_all`."""
    for name, thing in given:
        if isinstance(thing, Dataset):
            yield thing
        elif parts := in_memory.as_parts(thing):
            name, folder = in_memory.write(parts, name, home)
            own = {key: value for key, value in choice.items() if key != "offline"}
            yield open_dataset(folder, cache=home / "corpora", name=name, source=f"in-memory:{name}", **own)
        elif not isinstance(thing, str | os.PathLike):
            raise UserError(
                f"An object of the class {type(thing).__name__} is not a dataset; give a name, the path of a "
                f"folder, or a triple (corpus, queries, qrels) of dicts or DataFrames."
            )
        elif name and name != _text(thing):
            raise UserError(f"The dataset {_text(thing)!r} keeps its own name; give it without the name {name!r}.")
        else:
            yield from open_all([_text(thing)], (), registry, home, **choice)


def distinct(what: str, labels: Sequence[str]) -> None:
    """UserError if two of the models or datasets have one label."""
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise UserError(
            f"Two {what} are called {twice!r}; give them names, as in {what}={{'first': ..., 'second': ...}}."
        )


def _text(thing: str | os.PathLike[str]) -> str:
    """What stands after ``-m`` or ``-d``; a path begins with ``./``, so that it is not taken for a name."""
    text = os.fspath(thing)
    bare = not isinstance(thing, str) and "/" not in text and not text.startswith((".", "~"))
    return f"./{text}" if bare else text
