"""Models of the Hugging Face hub without known hashes, as folders on this machine.

A model is in ``$HARNESS_HOME/models/hub/ORGANISATION--NAME/COMMIT``. A name without a commit means the commit that was
downloaded first, until `obtain` is called with ``renew``: a model must not change under its results. A copy in the
Hugging Face cache is used where it is.

Trade-off: unlike in `harness.download.pinned_models`, the hub is trusted for the content (large files are checked
against the SHA-256 that it states). A result's key holds the hash of every file, so other content is another key.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from harness.download.http import SourceFailed
from harness.download.hub import Repository, RepositoryFile
from harness.download.local_weights import hub_cache_folder
from harness.storage.atomic import disk_errors, whole_folder, write_json
from harness.storage.locks import exclusive
from harness.storage.safe_load import fields, read_json, read_text
from harness.storage.temporary_files import remove
from harness.types import Progress, UserError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""The files that are downloaded: weights, configuration and tokenizer."""
OTHER_FORMATS = ("onnx", "openvino")
"""Folders with the model in the formats of other programs."""


def obtain(
    repository: str,
    home: Path,
    *,
    offline: bool = False,
    renew: bool = False,
    progress: Progress = lambda *_: None,
) -> Path:
    """Returns the folder of a model, downloading it if it is not on this machine.

    Args:
        repository: ``organisation/name`` or ``organisation/name@commit``.
        home: $HARNESS_HOME.
        offline: Open no connection.
        renew: Ask the hub which commit the name means now.
        progress: Called with a text and the work done and in total.

    Raises:
        UserError: The model cannot be downloaded, or the name is not valid.
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
    folder = _model_folder(name, home)
    with exclusive(folder, progress):
        return (None if renew else find(repository, home)) or _download(name, revision or "main", folder, progress)


def find(repository: str, home: Path) -> Path | None:
    """The folder of a model if it is on this machine; UserError if the name is not valid."""
    if not NAME.fullmatch(repository) or ".." in repository:
        raise UserError(
            f"{repository!r} is not a repository of the hub; those are written organisation/name or "
            f"organisation/name@commit, as in -m st:sentence-transformers/all-MiniLM-L6-v2."
        )
    return next((folder for folder in _local_copies(repository, home) if _is_model(folder)), None)


def find_base(repository: str, home: Path) -> Path | None:
    """The folder of a base model, which need not be a sentence-transformers model, if it is on this machine.

    Args:
        repository: As in `obtain`; the organisation may be missing, as in the names of old models.
        home: $HARNESS_HOME.
    """
    return next((folder for folder in _local_copies(repository, home) if _is_model(folder, "config.json")), None)


def _local_copies(repository: str, home: Path) -> list[Path]:
    """Where a model may be on this machine, the places that name a commit first."""
    name, _, revision = repository.partition("@")
    own, cache = _model_folder(name, home), hub_cache_folder(name)
    known = [own / _revisions(own).get(revision or "main", "-"), cache / "snapshots" / _cached_commit(cache, revision)]
    return [*([own / revision, cache / "snapshots" / revision] if revision else []), *known]


def _download(name: str, revision: str, folder: Path, progress: Progress) -> Path:
    progress(f"{name} from the Hugging Face hub", 0, 0)
    scratch = folder / ".download"
    try:
        repository = Repository(f"{name}@{revision}", scratch, progress, "model")
        target = folder / repository.commit
        if not _is_model(target):
            with whole_folder(target) as temporary:
                fetch_model(repository, temporary)
    except SourceFailed as error:
        raise UserError(
            f"The model {name} could not be downloaded from the Hugging Face hub ({error}); fix that, or give a folder "
            f"that SentenceTransformer.save() wrote: -m path/to/folder"
        ) from error
    remove(scratch)
    write_json(folder / "revisions.json", _revisions(folder) | {revision: repository.commit})
    return target


def fetch_model(repository: Repository, folder: Path) -> None:
    """Downloads the files of a sentence-transformers model into ``folder``, under their paths in the repository.

    Raises:
        SourceFailed: A download failed, it is not such a model, or some of its weights exist only as a pickle.
    """
    wanted = _model_files(repository.files)
    repository.check_disk_space(wanted)
    for file in wanted:
        downloaded = repository.fetch(file)
        with disk_errors(folder):
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            downloaded.replace(folder / file.path)


def _model_files(files: list[RepositoryFile]) -> list[RepositoryFile]:
    wanted = {path: file for file in files if _is_wanted(path := PurePosixPath(file.path))}
    if PurePosixPath("modules.json") not in wanted:
        raise SourceFailed("it is not a sentence-transformers model: it has no modules.json")
    weights = [path for path in wanted if path.suffix == ".safetensors"]
    for pickled in (PurePosixPath(file.path) for file in files if fnmatch(file.path, "*pytorch_model*.bin")):
        if not any(path.parent == pickled.parent for path in weights):
            raise SourceFailed(f"the weights in {pickled} exist only as a pickle, which is never opened")
    if not weights:
        raise SourceFailed("it holds no .safetensors weights")
    return list(wanted.values())


def _is_wanted(path: PurePosixPath) -> bool:
    return path.parts[0] not in OTHER_FORMATS and any(fnmatch(path.name, pattern) for pattern in FILES)


def _model_folder(name: str, home: Path) -> Path:
    return home / "models" / "hub" / name.replace("/", "--")


def _revisions(folder: Path) -> dict[str, str]:
    """Branch or tag -> the commit that it was when it was downloaded."""
    with suppress(OSError, ValueError):
        return {key: str(value) for key, value in fields(read_json(folder / "revisions.json")).items()}
    return {}


def _cached_commit(cache: Path, revision: str) -> str:
    """The commit that the Hugging Face cache records for a branch or tag; "-" if none."""
    with suppress(OSError, ValueError):
        return read_text(cache / "refs" / (revision or "main")).strip() or "-"
    return "-"


def _is_model(folder: Path, required: str = "modules.json") -> bool:
    """Whether the folder holds a model; a snapshot in the Hugging Face cache may be incomplete."""
    return (folder / required).is_file() and any(folder.rglob("*.safetensors"))
