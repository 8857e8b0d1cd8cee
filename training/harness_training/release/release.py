"""Prepares a checkpoint for the hub: its files, a model card and a manifest in one folder, written atomically.

Only measured and recorded facts are written, without local paths, and nothing is uploaded.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

from harness.storage.atomic import sha256_file, whole_folder, write_file, write_json
from harness.storage.regular_files import open_regular
from harness.system.environment import versions
from harness.types import Progress, UserError
from harness_plugins.model_folder.files import files_of, incomplete
from harness_plugins.model_folder.modules import modules
from harness_plugins.model_folder.outside_files import outside
from harness_plugins.sentence_transformers.trained import check_weights, checkpoint_at, is_start, training
from harness_training.release.model_card import card
from harness_training.release.stored_scores import StoredScores, measured
from harness_training.release.verify import Loaded, load_cleanly

FORMAT = 1
PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npz"}
"""Suffixes of files that may contain pickles, which run code when loaded."""
PICKLES = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
"""Magic bytes of pickles and torch archives, whatever the file is called."""
NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]{0,95}", re.ASCII)
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, slots=True)
class Release:
    """A folder ready for the hub."""

    folder: Path
    manifest: dict[str, Any]
    """Content of manifest.json."""

    @property
    def upload(self) -> list[str]:
        """The upload command, for the user to run."""
        name = str(self.manifest["name"])
        return ["hf", "upload", name if "/" in name else f"ORG/{name}", str(self.folder)]


def release(
    source: Path, output: Path, results: Path, *, name: str = "", licence: str = "apache-2.0", progress: Progress
) -> Release:
    """Create the folder ``output`` from a run's or checkpoint's folder and its results.

    Args:
        source: Folder of a run or checkpoint.
        output: New folder.
        results: Stored results.
        name: NAME or ORG/NAME on the hub; by default the name of ``output``.
        licence: Identifier of the licence.
        progress: Called with each stage.

    Raises:
        UserError: The run is unfinished or damaged, there are pickles or links out of the folder, or
            sentence-transformers alone does not reproduce the vectors; nothing is left behind.
    """
    checkpoint = checkpoint_of(source)
    name = name or output.resolve().name
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a valid name for the hub; give --name NAME or ORG/NAME, of letters, digits, - _ and ."
        )
    if not LICENCE.fullmatch(licence):
        raise UserError(f"{licence!r} is not a licence identifier; give one such as apache-2.0, mit or cc-by-nc-4.0.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} already exists; name another folder with -o, or remove it first.")
    files = safe_files(checkpoint)
    record = without_paths(training({"path": str(checkpoint)}))
    with whole_folder(output) as folder:
        progress("copying", 0, 0)
        hashes = {file: _copied(checkpoint / file, folder / file) for file in files}
        check_weights(checkpoint, hashes)
        cells = measured(results, hashes, record.get("trained_on") or ())
        progress("loading it with sentence-transformers alone", 0, 0)
        loaded = load_cleanly(folder, checkpoint)
        text = card(name, licence, record, cells, loaded)
        write_file(folder / "README.md", lambda stream: stream.write(text.encode()))
        manifest = _manifest(folder, name, licence, record, cells, loaded)
        write_json(folder / "manifest.json", manifest)
    return Release(output, manifest)


def checkpoint_of(source: Path) -> Path:
    """Resolve a run's or checkpoint's folder to a complete checkpoint; UserError where there is none."""
    if not source.is_dir():
        raise UserError(f"There is no folder {source}; name a run (runs/EXPERIMENT/RUN) or a checkpoint's folder.")
    checkpoint = checkpoint_at(source)
    if is_start(checkpoint):
        raise UserError(f"{checkpoint} is the untrained start of a run, which is not released; name {source.parent}.")
    if lacks := incomplete(checkpoint):
        raise UserError(f"{checkpoint} cannot be released: {lacks}; name a complete checkpoint.")
    return checkpoint


def safe_files(checkpoint: Path) -> list[str]:
    """Files that sentence-transformers reads, sorted by name; UserError for unsafe or outside files."""
    for path in sorted(checkpoint.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(checkpoint.resolve()):
            raise UserError(f"{path} is a link that leads out of the checkpoint; put the file itself in its place.")
        if path.suffix.lower() in PICKLED or (path.is_file() and _begins_as_a_pickle(path)):
            raise UserError(
                f"{path} may be a pickle, which runs code when it is opened; save the model again with "
                "SentenceTransformer(...).save(folder), which writes safetensors, and release that folder."
            )
    for prefix, place in outside(modules(checkpoint), checkpoint).items():
        raise UserError(f"{checkpoint} reads {place} as well ({prefix}); merge it into the checkpoint and save that.")
    return [file.relative_to(checkpoint).as_posix() for file in files_of(checkpoint)]


def _begins_as_a_pickle(path: Path) -> bool:
    with open_regular(path) as stream:
        start = stream.read(4)
    return path.suffix != ".safetensors" and start.startswith(PICKLES)


def _copied(source: Path, target: Path) -> str:
    """Copy a file; returns the SHA-256 of the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return sha256_file(target)


def without_paths(content: Any) -> Any:
    """Replace every local path in JSON content by its last component."""
    if isinstance(content, dict):
        return {key: without_paths(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_paths(value) for value in content]
    if not isinstance(content, str):
        return content
    bare = content.removeprefix("file://")
    if re.match(r"[~/\\.]|[A-Za-z]:[\\/]", bare) and re.search(r"[/\\]", bare):
        return PureWindowsPath(bare).name  # splits at both kinds of slashes
    return re.sub(r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\\"']+[/\\])+([^\s/\\\"']*)", r"\1", content)


def _manifest(
    folder: Path, name: str, licence: str, record: dict[str, Any], cells: list[StoredScores], loaded: Loaded
) -> dict[str, Any]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        "format": FORMAT,
        "name": name,
        "licence": licence,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "loaded": loaded._asdict(),
        "training": record,
        "results": [cell._asdict() for cell in cells],
        "files": {
            file.relative_to(folder).as_posix(): {"sha256": sha256_file(file), "bytes": file.stat().st_size}
            for file in files
        },
    }
