"""The timeline of a study: its stages with hours, memory, disk and dollars, on one device or several at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Any

from harness.cli.quantity import amount, duration, size
from harness.storage.atomic import write_json
from harness.storage.safe_load import fields, read_json

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of the timeline. None: unknown, and ``note`` says why."""

    stage: str
    """``data``, ``training`` or ``evaluation``."""
    what: str
    runs: int = 1
    steps: int | None = None
    """Of one run."""
    tokens: float | None = None
    """Of all runs."""
    jobs: tuple[float, ...] | None = ()
    """Seconds of each piece of work that one device does; None: unknown."""
    divisible: bool = False
    """Whether the work is divided evenly among devices, whatever its pieces."""
    memory: float | None = None
    disk: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float | None:
        """Seconds on one device."""
        return None if self.jobs is None else sum(self.jobs)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All stages, for a device with a price."""

    device: str
    price: float | None
    """USD per hour and device."""
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = field(default=())

    def seconds(self, stage: str = "", devices: int = 1) -> float:
        """Wall time of a stage, or of all of them, with so many devices; unknown work counts as none.

        Training runs are taken in order by the next free device; the evaluation is divided evenly; data are made by
        one process.
        """
        names = [stage] if stage else ["data", "training", "evaluation"]
        return sum(self._stage(name, devices) for name in names)

    def _stage(self, name: str, devices: int) -> float:
        stages = [each for each in self.stages if each.stage == name]
        jobs = [job for each in stages for job in each.jobs or () if not each.divisible]
        even = sum(each.seconds or 0.0 for each in stages if each.divisible)
        return makespan(jobs, devices if name == "training" else 1) + even / devices

    def cost(self, devices: int = 1) -> float | None:
        """USD for so many devices, for as long as the study takes."""
        return None if self.price is None else self.price * devices * self.seconds(devices=devices) / 3600

    @property
    def unknown(self) -> list[str]:
        """What the totals lack."""
        return [stage.what for stage in self.stages if stage.jobs is None]

    def save(self, file: Path) -> None:
        """Write the timeline as JSON."""
        write_json(file, asdict(self))

    @classmethod
    def read(cls, file: Path) -> Timeline | None:
        """A saved timeline; None if there is none, or it cannot be read."""
        try:
            content = fields(read_json(file), stages=list, device=str)
            stages = [Stage(**{**one, "jobs": one["jobs"] and tuple(one["jobs"])}) for one in content["stages"]]
            return cls(content["device"], content["price"], tuple(stages), tuple(content["notes"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None


def makespan(jobs: Sequence[float], devices: int) -> float:
    """When the last job ends, if each is started in order on the next free device."""
    free = [0.0] * max(1, devices)
    heapify(free)
    for seconds in jobs:
        heapreplace(free, free[0] + seconds)
    return max(free)


def stage_rows(timeline: Timeline) -> list[dict[str, str]]:
    """A row for each stage, and their total."""
    total = replace(
        Stage("total", "", runs=0),
        jobs=tuple(stage.seconds or 0.0 for stage in timeline.stages),
        tokens=sum(stage.tokens or 0.0 for stage in timeline.stages),
        memory=max((stage.memory or 0.0 for stage in timeline.stages), default=0.0),
        disk=sum(stage.disk or 0.0 for stage in timeline.stages),
    )
    return [_row(timeline, stage) for stage in (*timeline.stages, total)]


def _row(timeline: Timeline, stage: Stage) -> dict[str, str]:
    cost = None if stage.seconds is None or timeline.price is None else timeline.price * stage.seconds / 3600
    return {
        "stage": stage.stage,
        "what": stage.what,
        "runs": str(stage.runs or ""),
        "steps of a run": "" if stage.steps is None else f"{stage.steps:,}",
        "tokens": amount(None if stage.tokens is None else round(stage.tokens)),
        "time on one": duration(stage.seconds),
        "memory": size(round(stage.memory)) if stage.memory else "",
        "disk": size(round(stage.disk)) if stage.disk else "",
        "USD": "" if cost is None else f"{cost:.2f}",
        "note": stage.note,
    }


def total_rows(timeline: Timeline, devices: int) -> list[dict[str, str]]:
    """Wall time by stage, and the cost, with one device and with several."""
    rows = []
    for count in dict.fromkeys((1, devices)):
        stages = {name: duration(timeline.seconds(name, count)) for name in ("data", "training", "evaluation")}
        days, cost = timeline.seconds(devices=count) / DAY, timeline.cost(count)
        row = {"devices": f"{count} x {timeline.device}", **stages, "days": f"{days:.2f}"}
        rows.append({**row, "USD": "" if cost is None else f"{cost:.2f}"})
    return rows


def took(planned: Timeline, seconds: Mapping[str, float]) -> str:
    """The plan beside what the study really took, as Markdown."""
    from tabulate import tabulate

    rows: list[dict[str, Any]] = []
    for name in ("data", "training", "evaluation", "reports"):
        forecast, spent = planned.seconds(name) if name != "reports" else None, seconds.get(name)
        ratio = f"{spent / forecast:.2f}" if spent is not None and forecast else ""
        rows.append({"stage": name, "planned": duration(forecast), "took": duration(spent), "ratio": ratio})
    whole = sum(seconds.get(name, 0.0) for name in ("data", "training", "evaluation", "reports"))
    ratio = f"{whole / planned.seconds():.2f}" if planned.seconds() else ""
    rows.append({"stage": "total", "planned": duration(planned.seconds()), "took": duration(whole), "ratio": ratio})
    table = tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)
    note = f"Planned for {planned.device}, one device. What was repeated after an interruption counts too."
    lacking = f" Not planned: {', '.join(planned.unknown)}." if planned.unknown else ""
    return f"# Time\n\n{note}{lacking}\n\n{table}\n"
