"""A model of the Hugging Face hub that no hash is known of, as a folder on this machine.

It lies in ``$HARNESS_HOME/models/hub/ORGANISATION--NAME/COMMIT``. A name without a commit means the one that was
brought first, until `renew`: a model must not change under its results. What the Hugging Face cache holds is used where
it lies.

Trade-off accepted: unlike `harness.download.pinned_weights`, the hub is believed for what it sends (large files against
the SHA-256 that it states). The row's key holds the hash of every file, so another content is another key.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from harness.download.http import SourceFailed
from harness.download.hub import bring_model, commit_of
from harness.download.weights import hub_cache
from harness.storage.atomic import whole_folder, write_json
from harness.storage.locks import exclusive
from harness.storage.safe_load import fields, read_json, read_text
from harness.storage.temporary_files import remove
from harness.types import Progress, UserError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


def obtain(
    repository: str,
    home: Path,
    *,
    offline: bool = False,
    renew: bool = False,
    progress: Progress = lambda *_: None,
) -> Path:
    """The folder of the model ``organisation/name`` or ``organisation/name@commit``, brought if it is not here.

    ``renew`` asks the hub what the name without a commit means now. UserError where it cannot be had.
    """
    found = find(repository, home)
    if found is not None and (offline or not renew):
        return found
    if offline:
        raise UserError(
            f"The model {repository} is not on this machine and the network is switched off; type, without --offline: "
            f"harness fetch st:{repository} (or give a folder: -m path/to/folder)"
        )
    name, _, revision = repository.partition("@")
    place = _place(name, home)
    with exclusive(place, progress):
        return (None if renew else find(repository, home)) or _bring(name, revision or "main", place, progress)


def find(repository: str, home: Path) -> Path | None:
    """The model's folder if it is here; UserError for what cannot be a repository's name."""
    if not NAME.fullmatch(repository) or ".." in repository:
        raise UserError(
            f"{repository!r} is no repository of the hub; those are written organisation/name or "
            f"organisation/name@commit, as in -m st:sentence-transformers/all-MiniLM-L6-v2."
        )
    name, _, revision = repository.partition("@")
    place, cache = _place(name, home), hub_cache(name)
    known = [place / _known(place).get(revision or "main", "-"), cache / "snapshots" / _reference(cache, revision)]
    pinned = [place / revision, cache / "snapshots" / revision] if revision else []
    return next((folder for folder in [*pinned, *known] if _is_model(folder)), None)


def _bring(name: str, revision: str, place: Path, progress: Progress) -> Path:
    progress(f"{name} from the Hugging Face hub", 0, 0)
    scratch = place / ".download"
    try:
        commit = commit_of(name, revision, scratch)
        if not _is_model(place / commit):
            with whole_folder(place / commit) as folder:
                bring_model(f"{name}@{commit}", folder, scratch, progress)
    except SourceFailed as error:
        raise UserError(
            f"The model {name} could not be had from the Hugging Face hub ({error}); mend that, or give a folder "
            f"that SentenceTransformer.save() wrote: -m path/to/folder"
        ) from error
    remove(scratch)
    write_json(place / "revisions.json", _known(place) | {revision: commit})
    return place / commit


def _place(name: str, home: Path) -> Path:
    return home / "models" / "hub" / name.replace("/", "--")


def _known(place: Path) -> dict[str, str]:
    """Branch or tag -> the commit it was when it was brought."""
    with suppress(OSError, ValueError):
        return {key: str(value) for key, value in fields(read_json(place / "revisions.json")).items()}
    return {}


def _reference(cache: Path, revision: str) -> str:
    with suppress(OSError, ValueError):
        return read_text(cache / "refs" / (revision or "main")).strip() or "-"
    return "-"


def _is_model(folder: Path) -> bool:
    """Whether it is there; of a folder of the Hugging Face cache, which may be half brought, what shows that."""
    return (folder / "modules.json").is_file() and any(folder.rglob("*.safetensors"))
