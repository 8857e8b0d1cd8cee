"""Prompts from options: ``query_prompt=TEXT``; by name, ``query_prompt_name=NAME``; by task, ``prompt_name=NAME``.

Of a task, queries get the prompt that the folder stores as NAME-query, else that of NAME itself; documents get that of
NAME-document or NAME-passage, else what the folder says of documents. (These are the names that MTEB looks up.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.storage.safe_load import read_json
from harness.types import Options, UserError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FILE = "config_sentence_transformers.json"
"""File of a sentence-transformers folder with its prompts."""
TASK: Mapping[str, tuple[str, ...]] = {"query": ("{}-query", "{}"), "document": ("{}-document", "{}-passage")}
"""Role -> names under which a folder stores the prompt of a task, the first found counts."""


def chosen(options: Options, folder: Path) -> dict[str, str | None]:
    """Role -> the prompt that the options give; None for the folder's own.

    Raises:
        UserError: Both text and name are given, or the folder has no prompt of that name or task.
    """
    return {role: _chosen(role, options, folder) for role in ("query", "document")}


def _chosen(role: str, options: Options, folder: Path) -> str | None:
    text, name = options.get(f"{role}_prompt"), options.get(f"{role}_prompt_name")
    if name is None:
        return _of_task(role, options, folder) if text is None else str(text)
    if text is not None:
        raise UserError(f"Both {role}_prompt and {role}_prompt_name are given; give one of them.")
    stored = _stored(folder)
    if name not in stored:
        raise UserError(
            f"{folder} stores no prompt of the name {name!r}: {_known(stored)}; or give {role}_prompt=TEXT."
        )
    return stored[str(name)]


def _of_task(role: str, options: Options, folder: Path) -> str | None:
    """The prompt of the task that ``prompt_name`` names, for one role."""
    task = options.get("prompt_name")
    if task is None:
        return None
    stored = _stored(folder)
    sides = {side: [name.format(task) for name in names] for side, names in TASK.items()}
    if not any(name in stored for names in sides.values() for name in names):
        raise UserError(f"{folder} stores no prompt of the task {task!r}: {_known(stored)}; or give query_prompt=TEXT.")
    return next((stored[name] for name in sides[role] if name in stored), None)


def _known(stored: Mapping[str, str]) -> str:
    return f"it has {', '.join(sorted(stored))}" if stored else f"its {FILE} has none"


def _stored(folder: Path) -> dict[str, str]:
    try:
        prompts = read_json(folder / FILE)["prompts"]
        return {str(name): text for name, text in prompts.items() if isinstance(text, str)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def default_prompt(model: SentenceTransformer, role: str) -> str:
    """The prompt of encode_query or encode_document: an empty one of that role hides the model's default prompt."""
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    name = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return str(model.prompts.get(name or "") or "")
