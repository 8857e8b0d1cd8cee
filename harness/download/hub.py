"""Repositories of the Hugging Face hub: their files, downloaded as they are. No code of a repository is ever run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

from harness.download.http import SourceFailed, download, matches
from harness.storage.atomic import disk_errors
from harness.storage.safe_load import read_json
from harness.types import Progress, UserError

ENDPOINT = "https://huggingface.co"
"""Overridden, as for the hub's own client, by the environment's HF_ENDPOINT."""
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
OTHER_FORMATS = ("onnx", "openvino")
"""Folders of a model's repository that hold the model for other programs."""
PATH = re.compile(r"(?!/)(?!(?:.*/)?\.{0,2}(?:/|$))[^\0-\x1f\\]{1,200}")
"""Of a file in a repository: it leads nowhere but below the folder it is put into, and is no folder itself."""
PART = re.compile(r"-[0-9]{5}-of-[0-9]{5}$|^(?:part-?)?[0-9]+$")
"""What follows a split's name in the name of a Parquet file, where it is one of several; or its whole name."""
SHA256 = re.compile(r"(?:[0-9a-f]{64})?")
LIST_LIMIT = 1 << 26


class _File(NamedTuple):
    path: str
    size: int
    sha256: str
    """Of files kept in large-file storage, as the hub states it; else empty."""


def bring(place: str, what: str, patterns: tuple[str, ...], scratch: Path, progress: Progress) -> list[Path]:
    """Files of a dataset's repository (``organisation/name``, with ``@commit`` to pin it), in ``scratch``: those of the
    first pattern that matches any. Raises SourceFailed where none can be had; ``what`` they hold is for its message."""
    return Repository(place, scratch, progress).bring(what, patterns)


def bring_model(place: str, folder: Path, scratch: Path, progress: Progress) -> None:
    """Puts a sentence-transformers model's files into ``folder``: safetensors, configuration and tokenizer, as they lie
    in the repository ``organisation/name@commit``. Pickled weights, other programs' formats and code are left there.

    Raises SourceFailed where it cannot be had, is no such model, or has a part whose weights are pickled only.
    """
    files = Repository(place, scratch, progress, "models")
    wanted = {PurePosixPath(file.path): file for file in files.files if _of_model(PurePosixPath(file.path))}
    if PurePosixPath("modules.json") not in wanted:
        raise SourceFailed("it is no sentence-transformers model: it has no modules.json")
    for pickled in (PurePosixPath(f.path) for f in files.files if fnmatch(f.path, "*pytorch_model*.bin")):
        if not any(path.parent == pickled.parent and path.suffix == ".safetensors" for path in wanted):
            raise SourceFailed(f"the weights in {pickled} are pickled, which are never opened, and nowhere else")
    if not any(path.suffix == ".safetensors" for path in wanted):
        raise SourceFailed("it holds no .safetensors weights")
    files.require_room(wanted.values())
    for path, file in wanted.items():
        brought = files.fetch(file)
        with disk_errors(folder):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            brought.replace(folder / path)


def commit_of(name: str, revision: str, scratch: Path) -> str:
    """The commit that a branch, a tag or a commit of a model's repository is; SourceFailed where that is not told."""
    url = f"{_address()}/api/models/{quote(name)}/revision/{quote(revision, safe='')}"
    told = scratch / ".revision.json"
    told.unlink(missing_ok=True)
    download(url, told, limit=LIST_LIMIT)
    try:
        commit = str(read_json(told)["sha"])
    except (ValueError, LookupError, TypeError) as error:
        raise SourceFailed(f"{url} names no commit") from error
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise SourceFailed(f"{url} names no commit")
    return commit


def _of_model(path: PurePosixPath) -> bool:
    plain = not path.is_absolute() and ".." not in path.parts and path.parts[0] not in OTHER_FORMATS
    return plain and any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)


def _address() -> str:
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


class Repository:
    """A repository's files, as the hub lists them, downloaded into ``scratch``."""

    def __init__(self, place: str, scratch: Path, progress: Progress, kind: str = "datasets") -> None:
        self.name, _, commit = place.partition("@")
        self.commit, self.progress = commit or "main", progress
        self.scratch = scratch / self.name.replace("/", "--") / self.commit
        self.api = f"{_address()}/api/{kind}/{quote(self.name)}"
        self.web = f"{_address()}/{'' if kind == 'models' else f'{kind}/'}{quote(self.name)}"
        self.files = list(self._list())

    def _list(self) -> Iterator[_File]:
        listing = self.scratch / ".files.json"
        listing.unlink(missing_ok=True)
        url = f"{self.api}/tree/{quote(self.commit)}?recursive=true"
        download(url, listing, limit=LIST_LIMIT)
        try:
            for entry in read_json(listing):
                if entry["type"] == "file":
                    path, sha256 = entry["path"], (entry.get("lfs") or {}).get("oid", "")
                    if not SHA256.fullmatch(sha256):
                        raise ValueError(f"the hash {sha256!r}")
                    if type(entry["size"]) is not int or entry["size"] < 0:
                        raise ValueError(f"the size {entry['size']!r}")
                    if PATH.fullmatch(path):  # any other is not taken
                        yield _File(path, entry["size"], sha256)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise SourceFailed(f"{url} gave no list of files") from error

    def bring(self, what: str, patterns: tuple[str, ...], split: str = "") -> list[Path]:
        """The files of the first pattern that matches any, downloaded; of Parquet files those of the split."""
        for pattern in patterns:
            if found := sorted(file for file in self.files if fnmatch(file.path, pattern)):
                chosen = self._of_split(what, found, split) if split and pattern.endswith(".parquet") else found
                self.require_room(chosen)
                return [self.fetch(file) for file in chosen]
        raise SourceFailed(f"the repository {self.name} holds no {what} (no {' nor '.join(patterns)})")

    def _of_split(self, what: str, files: list[_File], split: str) -> list[_File]:
        """Those of the split, else those of the only split there is, whatever it is called."""
        splits: dict[str, list[_File]] = {}
        for file in files:
            path = PurePosixPath(file.path)
            splits.setdefault("/".join(filter(None, [*path.parts[1:-1], PART.sub("", path.stem)])), []).append(file)
        if split not in splits and len(splits) > 1:
            raise SourceFailed(f"the {what} of {self.name} are of the splits {', '.join(splits)}, none is {split}")
        return splits.get(split, files)

    def require_room(self, files: Iterable[_File]) -> None:
        """UserError where these files, by the sizes that the hub states, are more than the disk has room for."""
        total, free = sum(file.size for file in files), shutil.disk_usage(self.scratch).free
        if total > free:
            raise UserError(
                f"{self.name} takes {total / 1e9:.2f} GB and {free / 1e9:.2f} GB is free at {self.scratch}; "
                f"free some space, or set HARNESS_HOME to a larger disk, and run the same command again."
            )

    def fetch(self, file: _File) -> Path:
        """Downloaded, of the size that the hub states and, where it states one, of that SHA-256."""
        target = self.scratch / file.path.replace("/", "--")
        checksum = ("sha256", file.sha256) if file.sha256 else None
        if target.is_file() and target.stat().st_size == file.size and matches(target, checksum):
            return target
        url = f"{self.web}/resolve/{quote(self.commit)}/{quote(file.path)}"
        download(url, target, checksum=checksum, limit=file.size, progress=self.progress)
        if (size := target.stat().st_size) != file.size:
            target.unlink()
            raise SourceFailed(f"{url} is {size:,} bytes, not the {file.size:,} that the hub lists")
        return target
