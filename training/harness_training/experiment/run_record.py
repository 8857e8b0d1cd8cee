"""A run's folder: RUNS/EXPERIMENT/RUN with run.json, checkpoint/, steps/ and logs/.

run.json is whole or absent, says what the run is made of and how it went, and says ``finished`` only once checkpoint/
is in place. A run that is started again goes on, is found finished, or is refused because it was another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.storage.atomic import alone, content_key, recover, write_json
from harness.storage.records import read_record, seal
from harness.storage.safe_load import fields
from harness.storage.temporary_files import remove
from harness.system.environment import machine, versions
from harness.types import Progress, UserError
from harness_training.experiment.plans import Plan

FORMAT = 1
REVISION = 1
"""Raised when a change to the training can change a weight."""

Status = Literal["running", "finished", "failed"]


@dataclass
class Run:
    """One run, and what run.json says of it."""

    folder: Path
    plan: Plan
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, once finished."""
        return self.folder / "checkpoint"

    @property
    def steps(self) -> Path:
        """The trainer's own checkpoints."""
        return self.folder / "steps"

    @property
    def logs(self) -> Path:
        """TensorBoard's."""
        return self.folder / "logs"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        recover(self.checkpoint)
        return self.record.get("status") == "finished" and (self.checkpoint / "modules.json").is_file()

    def save(self, status: Status, **news: Any) -> None:
        """Writes run.json with these fields renewed."""
        self.record |= {"status": status, "reason": "", **news}
        write_json(self.folder / "run.json", seal(self.record))

    def drop(self) -> None:
        """Removes everything."""
        remove(self.folder)
        self.record = {}

    def check(self, identity: Mapping[str, Any]) -> None:
        """UserError, saying what differs, where the folder holds a run that was made of other things."""
        if self.record and self.record.get("settings_key") != _key(identity):
            raise UserError(
                f"{self.folder} was started otherwise ({_differences(self.record.get('identity') or {}, identity)}); "
                f"set that back, keep this run elsewhere with --runs, or start over with --fresh."
            )

    def begin(self, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Writes run.json as of a run that goes on, or begins."""
        if not self.record:
            stated = {"format": FORMAT, "experiment": self.plan.experiment, "run": self.plan.run, "status": "running"}
            settings = {"settings": {}, "settings_key": _key(identity), "identity": dict(identity)}
            figures: dict[str, Any] = {
                "seed": self.plan.settings.seed,
                "steps": 0,
                "best_step": None,
                "dev": {},
                "curves": [],
            }
            self.record = {**stated, "reason": "", **settings, **about, **figures, "seconds": 0.0}
            self.record |= {"started": now(), "finished": None, "versions": versions(), "machine": machine()}
        self.save("running", settings=asdict(self.plan.settings), finished=None)


def _key(identity: Mapping[str, Any]) -> str:
    return content_key({**identity, "revision": REVISION})


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    flat = [{**one, **_table(one.get("settings")), "settings": None} for one in (before, after)]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    found = [f"{name} {_brief(flat[0].get(name))}, now {_brief(flat[1].get(name))}" for name in names]
    return "; ".join(found) or "by another version of this program"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _brief(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else str(value)


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_run(root: Path, plan: Plan) -> Run:
    """The run as it stands; an empty record where there is none. UserError where run.json is not ours, or damaged."""
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
    """The run, which no other process trains meanwhile: it waits. Of processes that train together, one is leader."""
    run = Run(root / plan.experiment / plan.run, plan)
    if not leader:
        yield run
        return
    with alone(run.folder, progress, f"trains {plan.experiment}/{plan.run}"):
        yield run
