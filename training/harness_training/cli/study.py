"""``harness study``: a whole study from one file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import examples, json_option
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, session_options

if TYPE_CHECKING:
    from harness_training.study.definition import Study, StudyFolder
    from harness_training.study.forecast import Planner

FILE = click.argument("file", metavar="FILE.toml|NAME")
folder_option = click.option("-o", "--output", "output", default="", help="Folder of the study [studies/NAME].")


@click.group("study")
def command() -> None:
    """A whole study from one file: data, training, benchmarks, reports, claims."""


@command.command("run", **examples("harness study run small", "harness study run path/to/study.toml -o path/to/folder"))
@FILE
@folder_option
@click.option(
    "--executor",
    type=click.Choice(["auto", "in-process", "processes", "ray"]),
    default="auto",
    show_default=True,
    help="Who trains and evaluates: this process, one process per GPU, or a Ray cluster; auto: processes where there "
    "are several GPUs.",
)
@click.option("--address", help="Of the Ray cluster; without it one is started here.")
@click.option("--cpus-per-task", type=click.IntRange(1), help="Cores of each worker of a Ray cluster.")
@session_options
def run(
    session: Session,
    /,
    file: str,
    output: str,
    executor: str,
    address: str | None,
    cpus_per_task: int | None,
) -> int:
    """Do all that is left of a study.

    FILE is a study file, or one that comes with the harness (`harness study list`). An interrupted study resumes
    when the same command is run again. The exit code is 1 if a training, a cell or a report failed.
    """
    from harness.distributed.process_pool import visible_gpus
    from harness_training.study.commands import Parallel
    from harness_training.study.runner import Runner

    study, folder = _opened(session, file, output)
    if executor == "auto":
        executor = "processes" if len(visible_gpus()) > 1 else "in-process"
    runner = Runner(study, folder, session, Parallel(executor, address, cpus_per_task))
    code = runner.run(_planner(session, study, folder, None, None))
    _summary(folder, runner.failed, session.as_json)
    return code


@command.command("plan", **examples("harness study plan brief --device t4 --gpus 3", "harness study plan small"))
@FILE
@folder_option
@click.option("--device", help="Plan for t4, a100 or h100 instead of this machine.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that work in parallel.")
@click.option("--price", type=click.FloatRange(min=0), help="USD an hour and device (default: the device's).")
@session_options
def plan(session: Session, /, file: str, output: str, device: str | None, gpus: int, price: float | None) -> None:
    """Say what a study will take, before any of it is done: steps, tokens, hours, memory, disk and cost.

    Nothing is downloaded; datasets that are made on this machine are built, so that their sizes are known. Models
    that are not trained yet are planned like their base.
    """
    from harness_training.study.forecast import build_local
    from harness_training.study.timeline import stage_rows, total_rows

    study, folder = _opened(session, file, output)
    with session.progress_bar() as progress:
        build_local(study, session)
        timeline = _planner(session, study, folder, device, price).timeline()
        progress("", 0, 0)
    if session.as_json:
        totals = {str(count): timeline.seconds(devices=count) for count in dict.fromkeys((1, gpus))}
        return print_json({**asdict(timeline), "total_seconds": totals})
    rows = stage_rows(timeline)
    print_table(
        [{key: row[key] for key in row if any(each[key] for each in rows)} for row in rows], disable_numparse=True
    )
    click.echo()
    print_table(total_rows(timeline, gpus), disable_numparse=True)
    lacking = [f"unknown and not in the totals: {', '.join(timeline.unknown)}"] if timeline.unknown else []
    click.echo("\n" + "\n".join(f"- {note}" for note in (*lacking, *timeline.notes)))
    return None


@command.command("list", **examples("harness study list", "harness study list --json"))
@json_option
def list_(as_json: bool) -> None:
    """The studies that come with the harness."""
    from harness.storage.safe_load import read_text
    from harness_training.study.parser import SHIPPED

    studies = {file.stem: read_text(file).splitlines()[0].lstrip("# ") for file in sorted(SHIPPED.glob("*.toml"))}
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in studies.items()])
        return
    for name, summary in studies.items():
        click.echo(f"{name}: {summary}")


@command.command("show", **examples("harness study show small", "harness study show brief > path/to/study.toml"))
@FILE
def show(file: str) -> None:
    """Print a study file, to be copied and changed."""
    from harness.storage.safe_load import read_text
    from harness_training.study.parser import find_study

    click.echo(read_text(find_study(file)), nl=False)


def _opened(session: Session, file: str, output: str) -> tuple[Study, StudyFolder]:
    """The study, checked, and its folder."""
    from harness_training.study.forecast import place_of
    from harness_training.study.parser import find_study, read_study

    path = find_study(file)
    return read_study(path, session.registry), place_of(output, path.stem)


def _planner(session: Session, study: Study, folder: StudyFolder, device: str | None, price: float | None) -> Planner:
    from harness.planning import devices
    from harness_training.study.forecast import Planner

    target = devices.device(device) if device else None
    return Planner(study, folder, session, target, target.price if target and price is None else price)


def _summary(folder: StudyFolder, failed: list[str], as_json: bool) -> None:
    """Prints the tables, the verdicts and what failed."""
    content: dict[str, Any] = {"folder": str(folder.path), "failed": failed}
    if as_json:
        return print_json(content)
    for name in ("tables.md", "claims.md", "time.md"):
        if (file := folder.path / name).is_file():
            click.echo(_first_part(file))
    click.echo(f"All of it is in {folder.path}: {', '.join(sorted(_files(folder.path)))}")
    for sentence in failed:
        click.echo(f"failed: {sentence}", err=True)
    return None


def _first_part(file: Path) -> str:
    from harness.storage.safe_load import read_text

    return f"{read_text(file).strip()}\n"


def _files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
