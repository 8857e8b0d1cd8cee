"""Models trained by ``harness train``: ``-m isotropy`` is the newest finished run of the experiment isotropy.

A run is a folder RUNS/EXPERIMENT/RUN with run.json, step0/ (the untrained model) and, once finished, checkpoint/, which
are loaded like any sentence-transformers folder. RUNS is $HARNESS_RUNS, else ./runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import ModelFacts, ModelFiles, ModelSpec, Option, UserError, Weights, hookimpl
from harness.storage.atomic import content_key
from harness.storage.records import read_record
from harness.storage.safe_load import read_json
from harness.types import Options
from harness_plugins.model_folder.files import incomplete
from harness_plugins.model_folder.pinned import MINILM, MPNET, TRAINED_ON
from harness_plugins.sentence_transformers import checkpoint

if TYPE_CHECKING:
    from harness_plugins.sentence_transformers.encoder import Encoder

EXPERIMENTS = ("baseline", "isotropy", "frozen")
FORMAT = 1
"""Of run.json."""
CHECKPOINT, START = "checkpoint", "step0"
"""Folders of a run: the best checkpoint of a finished one, and the untrained model."""
FILES = (f"{CHECKPOINT}_files", f"{START}_files")
"""Fields of run.json with the SHA-256 of every file in them."""
SHAPE: Mapping[str, type] = {
    **dict.fromkeys(("identity", "settings", "dev", "base", *FILES), dict),
    **dict.fromkeys(("trained_on", "curves"), list),
    **dict.fromkeys(("experiment", "run", "status", "reason", "checkpoint_key", "step0_key"), str),
    **dict.fromkeys(("started", "finished"), str),
}
"""What run.json holds where it holds it."""
BASES: Mapping[str, tuple[Weights, tuple[str, ...]]] = {
    "all-mpnet-base-v2": (MPNET, TRAINED_ON),
    "all-MiniLM-L6-v2": (MINILM, TRAINED_ON),
}
"""Bases with known training data: their weights, and the datasets whose judgements they were trained on."""


@hookimpl
def harness_models() -> Iterable[ModelSpec]:
    """Register one model per experiment, which can be run once trained."""
    for name in EXPERIMENTS:
        own = {
            "path": Option(None, "a folder of a run, or a checkpoint, instead of the newest run"),
            "run": Option(None, "name of a run instead of the newest; write + where the name has a comma"),
            "experiment": Option(name, "whose runs are looked through: an experiment of your own"),
            "step": Option("best", "0: the untrained model that the run started from", choices=("best", "0")),
        }
        yield checkpoint.folder_model(
            name,
            f"your newest finished run of the experiment {name}",
            ModelFacts(
                by_options="harness_plugins.model_folder.files:facts",
                training=f"{__name__}:training",
                dim=512,
                like="mpnet",
            ),
            own,
            load=f"{__name__}:load",
            fingerprint=f"{__name__}:fingerprint",
            files=ModelFiles(locate=f"{__name__}:locate"),
        )


class RunOnDisk(NamedTuple):
    """A run on disk, finished or unfinished."""

    folder: Path
    record: dict[str, Any]
    """run.json; empty when it cannot be read."""
    flaw: str = ""
    """Why it cannot be used, as a predicate ("is still running"); empty when it is finished and valid."""

    @property
    def checkpoint(self) -> Path:
        """Folder of the best checkpoint of a finished run."""
        return self.folder / CHECKPOINT

    def model(self, step: str) -> Path:
        """Folder of the best checkpoint, or of step 0; UserError when it cannot be used."""
        self.usable()
        if step != "0":
            return self.checkpoint
        start = self.folder / START
        if lacks := incomplete(start):
            earlier = (
                "was trained by a version that did not save step 0" if not start.exists() else f"is damaged: {lacks}"
            )
            raise UserError(f"broken: the run {self.folder} {earlier}; train it again with --fresh.")
        return start

    @property
    def finished(self) -> datetime | None:
        """Time of completion; None for an unfinished run."""
        if self.record.get("status") != "finished":
            return None
        when = datetime.fromisoformat(self.record["finished"])
        return when if when.tzinfo else when.replace(tzinfo=UTC)

    def usable(self) -> RunOnDisk:
        """Return the run; UserError when it cannot be used."""
        if self.flaw:
            raise UserError(f"broken: the run {self.folder} {self.flaw}; name another one, or train it again.")
        return self


def read_run(folder: Path) -> RunOnDisk:
    """Read the run in a folder and check its record and every file of its checkpoint."""
    try:
        record = read_record(folder / "run.json")
        if record["format"] != FORMAT:
            return RunOnDisk(
                folder, {}, f"has a run.json of format {record['format']}, and this version reads {FORMAT}"
            )
        if odd := [key for key, kind in SHAPE.items() if not isinstance(record.get(key), kind | None)]:
            return RunOnDisk(folder, {}, f"has a run.json in which {odd[0]} is not what it should be")
        if not all(isinstance(name, str) for name in record.get("trained_on") or ()):
            return RunOnDisk(folder, {}, "has a run.json in which trained_on is not what it should be")
        run = RunOnDisk(folder, record)
        if run.finished:
            lacks = incomplete(run.checkpoint)
            return run._replace(flaw=f"is damaged: {lacks}" if lacks else "")
        reason = f" ({record['reason']})" if record.get("reason") else ""
        states = {"running": "is still running, or was interrupted", "failed": f"failed{reason}"}
        return run._replace(flaw=states.get(record["status"], f"has the status {record['status']!r}"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return RunOnDisk(folder, {}, f"has no run.json that can be read ({type(error).__name__}: {error})")


def run_at(folder: Path) -> RunOnDisk | None:
    """The run of a run's folder, its checkpoint's or its step 0's; None for any other folder."""
    above = folder.resolve().parent if folder.resolve().name in (CHECKPOINT, START) else folder
    return next((read_run(place) for place in (folder, above) if (place / "run.json").is_file()), None)


def is_start(folder: Path) -> bool:
    """Whether the folder is a run's step 0."""
    return folder.resolve().name == START and run_at(folder) is not None


def checkpoint_at(folder: Path, step: str = "best") -> Path:
    """Resolve a run's, checkpoint's or step 0's folder to the model's; UserError for an unfinished or damaged run."""
    run = run_at(folder)
    return run.model("0" if is_start(folder) else step) if run else folder


def locate(options: Options) -> str:
    """The checkpoint's folder: the option ``path``, the named run's, or the newest finished run's.

    Raises:
        UserError: There is no such run, or the newest one is damaged; older runs are never substituted.
    """
    step = str(options["step"])
    if given := options["path"]:
        return str(checkpoint_at(Path(str(given)).expanduser(), step))
    experiment = str(options["experiment"])
    root = Path(os.environ.get("HARNESS_RUNS") or "runs").expanduser() / experiment
    runs = [read_run(file.parent) for file in sorted(root.glob("*/run.json")) if not file.parent.name.startswith(".")]
    if options["run"]:
        return str(_named(str(options["run"]), runs, root).model(step))
    if finished := [run for run in runs if run.finished]:
        return str(max(finished, key=lambda run: (run.finished, run.folder.name)).model(step))
    unfinished = "; ".join(f"{run.folder.name} {run.flaw}" for run in runs)
    raise UserError(f"not trained yet{unfinished and f' ({unfinished})'}: harness train {experiment}")


def _named(name: str, runs: list[RunOnDisk], root: Path) -> RunOnDisk:
    plain = {run.folder.name.replace(",", "+"): run for run in runs}
    if found := plain.get(name.replace(",", "+")):
        return found
    there = f"there are {', '.join(sorted(plain))}" if plain else f"there is none: harness train {root.name}"
    raise UserError(f"no run is called {name} in {root}; {there}")


def load(options: Options) -> Encoder:
    """As for a checkpoint; what only has a head on an untouched base shares its base's stored embeddings."""
    from harness_plugins.sentence_transformers.encoder import TokenEncoder

    encoder = checkpoint.load(options)
    base = frozen_base(Path(str(options["path"])))
    if base and isinstance(encoder, TokenEncoder):
        encoder.share_base(checkpoint.base_key(options, encoder, base), keeps=True)
    return encoder


def frozen_base(folder: Path) -> str:
    """Key of the base's files if a run left the base as it was (`freeze_base`, or step 0); else empty."""
    run = run_at(folder)
    if run is None or not ((run.record.get("settings") or {}).get("freeze_base") or is_start(folder)):
        return ""
    return str((run.record.get("identity") or {}).get("base") or "")


def fingerprint(options: Options) -> dict[str, Any]:
    """As for a checkpoint; UserError when its weights differ from the run's record."""
    found = checkpoint.fingerprint(options)
    check_weights(Path(str(options["path"])), found["files"])
    return found


def check_weights(folder: Path, files: Mapping[str, str]) -> None:
    """UserError when the files (name -> SHA-256) of a run's checkpoint or step 0 differ from its run.json."""
    run = run_at(folder)
    record = run.record if run else {}
    part = START if is_start(folder) else CHECKPOINT
    stated, listed = record.get(f"{part}_key"), record.get(f"{part}_files")
    if stated and stated != content_key({k: v for k, v in files.items() if k.endswith(".safetensors")}):
        raise UserError(
            f"The weights in {folder} are not those that the run.json beside it was written for; "
            "train that run again, or put them into a folder of their own and type its path."
        )
    if listed and (odd := sorted(name for name, digest in listed.items() if files.get(name) != digest)):
        raise UserError(
            f"{folder / odd[0]} is missing, damaged or was changed since the run was finished; "
            "train that run again, or put the files into a folder of their own and type its path."
        )


def training(options: Options) -> dict[str, Any]:
    """How the checkpoint in ``path`` was trained, from its run.json or a released folder's manifest.

    The curves are omitted and the base's path is reduced to its last component, since results are shared.
    ``trained_on`` includes the base's training data; of a run's step 0 it is these alone, and ``step`` is 0.

    Returns:
        The record; {} for other checkpoints.
    """
    folder = Path(str(options["path"])).expanduser()
    if (run := run_at(folder)) and run.record:
        record = {key: value for key, value in run.record.items() if key not in ("curves", *FILES)}
        if isinstance(base := record.get("base"), dict) and "path" in base:
            record["base"] = {**base, "path": Path(str(base["path"])).name}
        own = () if is_start(folder) else record.get("trained_on") or ()
        seen = {"trained_on": list(dict.fromkeys([*own, *seen_by_base(run.record)]))}
        return record | seen | ({"step": 0} if is_start(folder) else {})
    try:
        released = read_json(folder / "manifest.json")["training"]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    named = released.get("trained_on", ()) if isinstance(released, dict) else None
    return released if isinstance(named, list | tuple) and all(isinstance(name, str) for name in named) else {}


def known_base(record: Mapping[str, Any]) -> str:
    """Name in `BASES` of a run's base, found by its file hashes or name; empty for any other."""
    base = record.get("base") or {}
    names = {re.split("[@:]", str(base.get("name")))[0], Path(str(base.get("path"))).name}
    for name, (weights, _) in BASES.items():
        hashes = {content_key(dict(weights.sha256)), weights.sha256["model.safetensors"]}
        if names & {name, weights.hub.partition("@")[0], weights.name} or any(h in json.dumps(base) for h in hashes):
            return name
    return ""


def seen_by_base(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Datasets whose judgements the base of a run was trained on, as far as known."""
    if name := known_base(record):
        return BASES[name][1]
    path = (record.get("base") or {}).get("path")
    with suppress(OSError, ValueError, RuntimeError, RecursionError):  # an invalid path, or one that leads back here
        return tuple(training({"path": path}).get("trained_on", ())) if path else ()
    return ()
