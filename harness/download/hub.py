"""Files of a repository on the Hugging Face hub. No code of a repository is ever run.

huggingface_hub resolves the revision and lists the files; `harness.download.http` downloads them from their plain
addresses. ``hf_hub_download`` is not used: as of version 2.4 a later process cannot resume the download of a file (the
partial file has a random name and is deleted), a file is written to disk in full before its size is compared with the
stated one, and redirects may leave https.

The listing comes from ``repo_info``, which is a single request with a timeout (``list_repo_tree`` has none). The size
of that answer is not limited: the server that HF_ENDPOINT names is trusted that far.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from harness.download import http
from harness.download.http import SourceFailed, brief, download, matches
from harness.types import Progress, UserError

ENDPOINT = "https://huggingface.co"
"""Used unless the environment variable HF_ENDPOINT names another server."""
TIMEOUT = 10.0
"""Seconds the hub may be silent before it sends the listing."""
PATH = re.compile(r"(?!/)(?!(?:.*/)?\.{0,2}(?:/|$))[^\0-\x1f\\]{1,200}")
"""A path of a file that stays inside the folder it is written to."""
PART = re.compile(r"-[0-9]{5}-of-[0-9]{5}$|^(?:part-?)?[0-9]+$")
"""The suffix after a split's name when its Parquet data is in several files; or the whole name of such a file."""
SHA256 = re.compile(r"(?:[0-9a-f]{64})?")
COMMIT = re.compile(r"[0-9a-f]{40}")


class RepositoryFile(NamedTuple):
    """A file as the hub lists it."""

    path: str
    size: int
    sha256: str
    """Stated for files in large-file storage; otherwise empty."""


class Repository:
    """The files of a repository at one commit, downloaded into a scratch folder.

    Interrupted downloads resume when the same scratch folder is given again. HF_TOKEN, if set, is sent to the hub;
    no other stored token is.
    """

    def __init__(
        self, place: str, scratch: Path, progress: Progress, repo_type: Literal["dataset", "model"] = "dataset"
    ) -> None:
        """Asks the hub for the commit and the list of files.

        Args:
            place: ``organisation/name`` or ``organisation/name@revision``; the default revision is main.
            scratch: Folder for the downloads.
            progress: Called with a text and the bytes done and in total.
            repo_type: Kind of repository.

        Raises:
            SourceFailed: The hub cannot be reached, or its answer is not a commit and a list of files.
        """
        self.name, _, revision = place.partition("@")
        self.progress = progress
        info = _repository_info(self.name, revision or "main", repo_type)
        self.commit, self.files = _commit(info.sha, self.name, revision), _files(info.siblings, self.name)
        self.scratch = scratch / self.name.replace("/", "--") / self.commit
        self.scratch.mkdir(parents=True, exist_ok=True)
        prefix = "datasets/" if repo_type == "dataset" else ""
        self._url = f"{_endpoint()}/{prefix}{quote(self.name)}/resolve/{self.commit}"

    def fetch_matching(self, what: str, patterns: Iterable[str], split: str = "") -> list[Path]:
        """Downloads the files of the first pattern that matches any.

        Args:
            what: What the files hold, for error messages.
            patterns: Glob patterns in order of preference.
            split: Of Parquet files, take only those of this split.

        Returns:
            The downloaded files, sorted by their path in the repository.

        Raises:
            SourceFailed: No file matches, or a download failed.
            UserError: The disk has too little free space.
        """
        for pattern in patterns:
            if found := sorted(file for file in self.files if fnmatch(file.path, pattern)):
                chosen = self._of_split(what, found, split) if split and pattern.endswith(".parquet") else found
                self.check_disk_space(chosen)
                return [self.fetch(file) for file in chosen]
        raise SourceFailed(f"the repository {self.name} holds no {what} (no {' nor '.join(patterns)})")

    def _of_split(self, what: str, files: list[RepositoryFile], split: str) -> list[RepositoryFile]:
        """The files of the split; if the repository has a single split, those, whatever its name is."""
        splits: dict[str, list[RepositoryFile]] = {}
        for file in files:
            path = PurePosixPath(file.path)
            splits.setdefault("/".join(filter(None, [*path.parts[1:-1], PART.sub("", path.stem)])), []).append(file)
        if split not in splits and len(splits) > 1:
            raise SourceFailed(f"the {what} of {self.name} have the splits {', '.join(splits)}, but not {split}")
        return splits.get(split, files)

    def check_disk_space(self, files: Iterable[RepositoryFile]) -> None:
        """Raises UserError if the files, by their stated sizes, do not fit on the disk."""
        total, free = sum(file.size for file in files), shutil.disk_usage(self.scratch).free
        if total > free:
            raise UserError(
                f"{self.name} takes {total / 1e9:.2f} GB and {free / 1e9:.2f} GB is free at {self.scratch}; "
                f"free some space, or set HARNESS_HOME to a larger disk, and run the same command again."
            )

    def fetch(self, file: RepositoryFile) -> Path:
        """Downloads one file and checks its size and, where the hub states one, its SHA-256."""
        target = self.scratch / file.path.replace("/", "--")
        checksum = ("sha256", file.sha256) if file.sha256 else None
        if target.is_file() and target.stat().st_size == file.size and matches(target, checksum):
            return target
        url = f"{self._url}/{quote(file.path)}"
        download(url, target, checksum=checksum, limit=file.size, token=_token(), progress=self.progress)
        if (size := target.stat().st_size) != file.size:
            target.unlink()
            raise SourceFailed(f"{url} is {size:,} bytes, not the {file.size:,} that the hub lists")
        return target


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def _token() -> str:
    return os.environ.get("HF_TOKEN", "").strip()


def _repository_info(name: str, revision: str, repo_type: str) -> Any:
    """huggingface_hub's description of a repository at a revision, with its files; temporary errors are retried."""
    endpoint = _endpoint()
    http.check_address(endpoint)
    try:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise SourceFailed(f"the Python package {error.name} is not installed") from error
    # Otherwise it downloads a list of agent programs and caches it in HF_HOME. The environment variable of this name is
    # read at import only, which may have happened long before.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    api = HfApi(endpoint=endpoint, token=_token() or False, headers={"user-agent": http.USER_AGENT})
    for attempt in range(http.ATTEMPTS):
        try:
            return api.repo_info(name, revision=revision, repo_type=repo_type, timeout=TIMEOUT, files_metadata=True)
        except HfHubHTTPError as error:
            answer = error.response
            if answer.status_code not in http.RETRY_STATUSES or attempt == http.ATTEMPTS - 1:
                words = f"the server answers {answer.status_code} {answer.reason_phrase}"
                raise SourceFailed(f"{endpoint}: {words} about {name} at {revision}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _malformed(name, error) from error
        except Exception as error:  # the errors of its HTTP client share no base class with others
            raise SourceFailed(f"{endpoint}: {brief(str(error) or type(error).__name__)}") from error
        time.sleep(http.RETRY_DELAY * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _commit(sha: object, name: str, revision: str) -> str:
    if not isinstance(sha, str) or not COMMIT.fullmatch(sha):
        raise SourceFailed(f"the hub names no commit for {name} at {revision or 'main'}")
    if COMMIT.fullmatch(revision) and sha != revision:
        raise SourceFailed(f"the hub names the commit {sha} for {name} at {revision}")
    return sha


def _files(siblings: Iterable[Any], name: str) -> list[RepositoryFile]:
    """The listed files; those with a path that leads out of its folder are left out."""
    found = []
    try:
        for entry in siblings:
            path, size, sha256 = entry.rfilename, entry.size, entry.lfs.sha256 if entry.lfs else ""
            if not SHA256.fullmatch(sha256):
                raise ValueError(f"the hash {sha256!r}")
            if type(size) is not int or size < 0:
                raise ValueError(f"the size {size!r}")
            if PATH.fullmatch(path):
                found.append(RepositoryFile(path, size, sha256))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _malformed(name, error) from error
    return found


def _malformed(name: str, error: Exception) -> SourceFailed:
    return SourceFailed(f"the hub's answer about {name} is not a list of files: {brief(str(error))}")
