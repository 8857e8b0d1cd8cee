"""A run's folder: RUNS/EXPERIMENT/RUN with run.json, checkpoint/, steps/ and logs/.

run.json is written atomically, states the run's inputs and progress, and has the status ``finished`` only once
checkpoint/ is complete. A run started again is resumed, found finished, or refused if its inputs differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.storage.atomic import content_key, recover, write_json
from harness.storage.locks import exclusive
from harness.storage.records import read_record, seal
from harness.storage.safe_load import fields
from harness.storage.temporary_files import remove
from harness.system.environment import machine, versions
from harness.types import Progress, UserError
from harness_training.experiment.plans import Plan
from harness_training.experiment.settings import FORMERLY

FORMAT = 1
REVISION = 1
"""Increased when a change to the training can change a weight."""

Status = Literal["running", "finished", "failed"]


@dataclass
class Run:
    """One run and the content of its run.json."""

    folder: Path
    plan: Plan
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint of a finished run."""
        return self.folder / "checkpoint"

    @property
    def start(self) -> Path:
        """The untrained model, step 0."""
        return self.folder / "step0"

    @property
    def steps(self) -> Path:
        """Folder of the trainer's checkpoints."""
        return self.folder / "steps"

    @property
    def logs(self) -> Path:
        """Folder of TensorBoard's logs."""
        return self.folder / "logs"

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        recover(self.checkpoint)
        return self.record.get("status") == "finished" and (self.checkpoint / "modules.json").is_file()

    def save(self, status: Status, **news: Any) -> None:
        """Write run.json with these fields updated."""
        self.record |= {"status": status, "reason": "", **news}
        write_json(self.folder / "run.json", seal(self.record))

    def drop(self) -> None:
        """Remove the run's folder."""
        remove(self.folder)
        self.record = {}

    def check(self, identity: Mapping[str, Any]) -> None:
        """UserError that lists the differences if the folder holds a run with other inputs."""
        if self.record and self.record.get("settings_key") != _key(identity):
            raise UserError(
                f"{self.folder} was started with other inputs "
                f"({_differences(self.record.get('identity') or {}, identity)}); "
                f"restore them, keep this run elsewhere with --runs, or start over with --fresh."
            )

    def begin(self, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write run.json of a new or resumed run."""
        if not self.record:
            header = {"format": FORMAT, "experiment": self.plan.experiment, "run": self.plan.run, "status": "running"}
            settings = {"settings": {}, "settings_key": _key(identity), "identity": dict(identity)}
            progress: dict[str, Any] = {
                "seed": self.plan.settings.seed,
                "steps": 0,
                "best_step": None,
                "dev": {},
                "curves": [],
            }
            self.record = {**header, "reason": "", **settings, **about, **progress, "seconds": 0.0}
            self.record |= {"started": now(), "finished": None, "versions": versions(), "machine": machine()}
        self.save("running", settings=asdict(self.plan.settings), finished=None)


def _key(identity: Mapping[str, Any]) -> str:
    return content_key({**identity, "revision": REVISION})


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    flat = [{**one, **FORMERLY, **_table(one.get("settings")), "settings": None} for one in (before, after)]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    found = [f"{name} {_brief(flat[0].get(name))}, now {_brief(flat[1].get(name))}" for name in names]
    return "; ".join(found) or "by another version of this program"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _brief(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)


def now() -> str:
    """Current time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_run(root: Path, plan: Plan) -> Run:
    """Read a run; its record is empty where it does not exist. UserError for an invalid run.json."""
    run = Run(root / plan.experiment / plan.run, plan)
    file = run.folder / "run.json"
    try:
        run.record = fields(read_record(file), format=int, status=str)
        optional = {"identity": dict, "settings": dict, "seconds": float, "curves": list, "dev": dict}
        fields(run.record, **{name: kind for name, kind in optional.items() if run.record.get(name) is not None})
        if run.record["format"] != FORMAT:
            raise ValueError(f"format {run.record['format']}")
    except FileNotFoundError:
        run.record = {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} is not a run's record, or is damaged ({error}); remove {run.folder}, or start over with --fresh."
        ) from None
    return run


@contextmanager
def locked_run(root: Path, plan: Plan, progress: Progress, *, leader: bool = True) -> Iterator[Run]:
    """Lock the run against other processes, which wait. In distributed training only the leader locks it."""
    run = Run(root / plan.experiment / plan.run, plan)
    if not leader:
        yield run
        return
    with exclusive(run.folder, progress, f"trains {plan.experiment}/{plan.run}"):
        yield run
