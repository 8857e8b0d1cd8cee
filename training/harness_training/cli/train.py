"""``harness train``: the experiments."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import completing, examples
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, session_options
from harness.types import UserError

if TYPE_CHECKING:
    from harness.distributed.executor import WorkerPool, WorkerSpec
    from harness_training.experiment.plans import Plan
    from harness_training.experiment.train import Job

NEEDED = ("torch", "sentence_transformers", "accelerate", "datasets")


@click.command(
    "train",
    **examples(
        "harness train isotropy --data path/to/set",
        "harness train isotropy --data path/to/set --seeds 3",
    ),
)
@click.argument("experiments", nargs=-1, required=True, metavar="EXPERIMENT...")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A training set's folder, or a file of triplets; repeat to mix several.",
)
@click.option("--base", shell_complete=completing("models"), help="Model that is trained: a name or a folder [mpnet].")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting for every run, as in the files.")
@click.option(
    "--sweep", "sweeps", multiple=True, metavar="KEY=V1,V2", help="One run for each value; repeat for a grid."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of each, with seeds counted up."
)
@click.option("--match", type=click.Choice(["none", "gradient"]), help="Weight of a control: the setting `match`.")
@click.option("--limit", type=click.IntRange(1), help="Train on the first N rows: the setting `limit`.")
@click.option(
    "--dev", type=click.Path(path_type=Path), help="Folder in BEIR format whose split dev chooses the checkpoint."
)
@click.option(
    "--runs",
    "root",
    envvar="HARNESS_RUNS",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where runs are kept.",
)
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Go on with runs that are there, or start over."
)
@click.option(
    "--report-to",
    multiple=True,
    default=("tensorboard",),
    show_default=True,
    help="Where curves go, too; none: nowhere.",
)
@click.option("--one-per-gpu", is_flag=True, help="Several runs at a time, each on a GPU of its own.")
@click.option(
    "--executor",
    type=click.Choice(["in-process", "ray"]),
    default="in-process",
    show_default=True,
    help="Who starts the runs: this process, or workers of a Ray cluster, one run for each at a time.",
)
@click.option("--address", help="Of the Ray cluster; without it one is started here.")
@click.option("--cpus-per-task", type=click.IntRange(1), default=1, show_default=True, help="Cores of each worker.")
@click.option("--only", hidden=True, help="EXPERIMENT/RUN.")
@session_options
def command(
    session: Session,
    /,
    experiments: tuple[str, ...],
    base: str | None,
    sets: tuple[str, ...],
    sweeps: tuple[str, ...],
    seeds: int,
    match: str | None,
    limit: int | None,
    only: str | None,
    one_per_gpu: bool,
    executor: str,
    address: str | None,
    cpus_per_task: int,
    **choice: Any,
) -> int:
    """Train experiments.

    EXPERIMENT is baseline, isotropy, frozen, all (these three), an ablation of docs/training.md, or a file of your
    own (setting = value). An interrupted run resumes when the same command is started again; finished runs are
    kept. Under torchrun or accelerate launch, all processes train one run together.
    """
    from harness.distributed.process_pool import visible_gpus
    from harness_training.experiment.plans import plans

    given = {"base": base, "match": match, "limit": limit}
    sets = (*sets, *(f"{name}={value}" for name, value in given.items() if value))
    named = {(plan.experiment, plan.run): plan for text in experiments for plan in plans(text, sets, sweeps, seeds)}
    made = [plan for plan in named.values() if only is None or only == f"{plan.experiment}/{plan.run}"]
    gpus = visible_gpus()
    if not one_per_gpu and gpus and "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]  # else the trainer would split every batch over all of them
    _require()
    make_pool = _ray_pool(address, cpus_per_task) if executor == "ray" and only is None else None
    with session.progress_bar():
        jobs = _jobs(session, made, **choice)
        records = _run(
            jobs, gpus if one_per_gpu and only is None else [], make_pool, cpus_per_task, session.state.words
        )
    if int(os.environ.get("RANK", "0")) == 0:
        _report(records, choice["root"], session.as_json)
    return int(any(record.get("status") != "finished" for record in records))


def _ray_pool(address: str | None, cpus: int) -> Callable[[WorkerSpec], WorkerPool]:
    from harness.distributed.executor import Resources
    from harness.distributed.ray_pool import RayPool, connect

    return partial(RayPool, resources=Resources(cpus=cpus), owned=connect(address))


def _run(
    jobs: list[tuple[Plan, Job]],
    gpus: list[str],
    make_pool: Callable[[WorkerSpec], WorkerPool] | None,
    threads: int,
    words: Sequence[str],
) -> list[dict[str, Any]]:
    from harness_training.experiment.sweep import train_all, train_by, train_on_gpus

    def tell(text: str) -> None:
        click.echo(text, err=True)

    plans = [plan for plan, _ in jobs]
    if make_pool:
        return train_by(make_pool, plans, jobs[0][1], words, tell, threads=threads)
    if gpus:
        return train_on_gpus(plans, jobs[0][1], gpus, words, tell)
    return [record for plan, job in jobs for record in train_all([plan], job, tell)]


def _jobs(
    session: Session,
    made: list[Plan],
    *,
    data: tuple[Path, ...],
    dev: Path | None,
    root: Path,
    resume: bool,
    report_to: tuple[str, ...],
) -> list[tuple[Plan, Job]]:
    """Every run with what it is made of; training set and bases are opened once."""
    from harness_training.data.mixture import join
    from harness_training.data.triplets import read
    from harness_training.experiment.train import Job
    from harness_training.model.base_embeddings import open_base

    home, progress = session.home, session.progress
    reports = tuple(name for name in report_to if name != "none")
    names = dict.fromkeys(plan.settings.base for plan in made)
    refs = {name: session.registry.model(name) for name in names}
    opened = join([read(path.expanduser(), home, progress) for path in data], home, progress)
    jobs = {}
    for name, ref in refs.items():
        found = open_base(session.prepared(ref, tries=False))
        jobs[name] = Job(
            opened, found, home, root.expanduser(), dev and dev.expanduser(), reports, not resume, progress
        )
    return [(plan, jobs[plan.settings.base]) for plan in made]


def _require() -> None:
    import importlib.util

    from harness.registry.model_ref import missing_extra

    if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(missing_extra("harness train", lacking, "train"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _report(records: list[dict[str, Any]], root: Path, as_json: bool) -> None:
    if as_json:
        return print_json(records)
    rows = []
    for record in records:
        dev = record.get("dev", {})
        rows.append(
            {
                "run": f"{record['experiment']}/{record['run']}",
                "status": record["status"],
                "best step": f"{record['best_step']} of {record['steps']}" if record["best_step"] else "-",
                "dev nDCG@10": f"{dev['nDCG@10']:.4f}" if dev else "-",
                "isotropy": f"{dev['isotropy']:.3f}" if "isotropy" in dev else "-",
                "rows/s": f"{record.get('samples_per_second') or 0:.1f}",
            }
        )
    print_table(rows, disable_numparse=True)
    if any(record["status"] == "finished" for record in records):
        click.echo(f"\nEvaluate one with: harness benchmark -m {root}/EXPERIMENT/RUN/checkpoint", err=True)
