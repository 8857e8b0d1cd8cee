"""Which dataset a stored result is of, so that it is replaced only by a result of the same one.

A dataset is recognised by its content (the fingerprint) or by where it is from (`Dataset.source`): a folder that its
user has edited, and a registered dataset of another version, are the same dataset still, and their results may be
replaced. A result without a source is an earlier version's; its command line tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.datasets import catalog
from harness.datasets.beir import Dataset
from harness.registry.option_values import command_words
from harness.results.schema import Result
from harness.results.store import ResultStore, Unreadable, read_result
from harness.types import UserError

FLAGS = {"--exclude-self": True, "--include-self": False}


def refuse_another(store: ResultStore, model: str, dataset: Dataset, *, imported: bool = False) -> Result | None:
    """The finished result that a new one of this model and dataset would replace, None where there is none.

    Args:
        store: where results are kept.
        model: the row's label.
        dataset: of the new result.
        imported: whether the new result is an imported one.

    Raises UserError where it is a result of another dataset with the same label, or an imported one beside a new one
    that is not.
    """
    folder = store.folder(model, dataset.label)
    found = read_result(folder)
    named = not isinstance(found, Unreadable) and (found["model"], found["dataset"]) == (model, dataset.label)
    if isinstance(found, Unreadable) or not named or found["status"] != "ok":
        return None
    if found.get("imported") and not imported:
        raise UserError(
            f"{folder} holds an imported result of {model} on {dataset.label}, which a measured one would replace; "
            f"import it again under another name (--model), or keep the new results elsewhere with --results. If it is "
            f"no longer needed, delete {folder}."
        )
    if (record := found["manifest"].get("dataset")) and not _same(record, str(found["command"]), dataset):
        was = record.get("source") or "made by an earlier version"
        raise UserError(
            f"{folder} holds the result of {model} on another dataset called {dataset.label!r} ({was}), which that on "
            f'{dataset.source} would replace; put name = "..." into the dataset.toml of one of them, or keep the new '
            f"results elsewhere with --results. If the stored result is no longer needed, delete {folder}."
        )
    return found


def _same(record: Any, command: str, dataset: Dataset) -> bool:
    """Whether a manifest's record is of this dataset, even if its content has changed."""
    if not isinstance(record, dict) or not (stated := record.get("fingerprint")):
        return True  # MTEB's results do not say which data they are of
    if stated == dataset.fingerprint:
        return True
    if source := record.get("source"):
        return bool(source == dataset.source)
    flags = {FLAGS[word] for word in FLAGS.keys() & {*command.split()}}
    if flags - {dataset.exclude_self}:  # then an earlier version kept two kinds of results under one label
        return False
    with suppress(OSError, ValueError, RuntimeError, UserError):  # a command line may hold anything
        folders = [folder for folder in command_folders(command) if catalog.looks_like_path(folder)]
        if not Path(dataset.source).is_absolute():
            return dataset.name not in {Path(folder).name for folder in folders}
        return dataset.folder.resolve() in {Path(folder).expanduser().resolve() for folder in folders}
    return False


def command_folders(command: str) -> Iterator[str]:
    """Every path after ``-d`` on a command line, and those in the suite files it names."""
    try:
        words = command_words(command)
    except ValueError:  # not a command line
        return
    for before, word in zip(["", *words], words, strict=False):
        option, _, value = word.partition("=")
        text = word if before in ("-d", "--dataset", "--suite") else value if option.startswith("--") else word[2:]
        if before in ("-d", "--dataset") or option == "--dataset" or (word[:2] == "-d" and text):
            yield text
        elif (before == "--suite" or option == "--suite") and Path(text).is_file():
            yield from catalog.suite(text).datasets
