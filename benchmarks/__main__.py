"""``python -m benchmarks [NAME ...]``: compares the harness with other programs in alternating runs.

``python -m benchmarks OTHER [ARGUMENT ...]``: other measurements, see `OTHERS`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.runner.contest import ROOT, Plan
from benchmarks.runner.rounds import compete
from benchmarks.runner.table import heading, render
from harness.storage.atomic import write_file

CONTESTS = {
    "encode": "encoding SciFact with MPNet",
    "families": "encoding SciFact with other encoders",
    "mteb": "SciFact with MPNet end to end, cold and again",
    "search": "exact search",
    "sparse": "exact search of sparse vectors, and a sparse model on SciFact",
    "maxsim": "exact search of token vectors",
    "measures": "measures per query",
    "moments": "moments of a set of vectors",
    "bm25": "BM25, index and search",
    "train": "a training step",
    "start": "start-up and reuse",
}
"""Name -> description; ``benchmarks/contests/NAME.py`` has its ``contests``."""
OTHERS = {
    "approximate": "what approximate indexes find, cost and take: [MODEL [DATASET ...]]",
    "cluster": "how a suite scales with workers, simulated: [MODEL [DEVICE [SUITE]]]",
    "false_alarms": "how often marks, ranks and intervals are wrong, simulated: [TABLES [CHECKOUT]]",
    "profile": "where the time of encoding goes: [MODEL [FOLDER]]",
    "report": "how long reports of a large results folder take",
}
"""Name -> description and arguments; ``benchmarks/studies/NAME.py`` has its ``main``."""
ROUNDS = 3


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(1), help="Measured rounds.")
@click.option("--whole", "size", flag_value="whole", help="All of every collection: hours.")
@click.option("--small", "size", flag_value="small", help="As little as shows that everything runs.")
@click.option("--only", multiple=True, help="Of the peers, those with this in their names.")
@click.option("--sample", type=click.IntRange(2), help="Documents of SciFact to encode (encode, mteb).")
@click.option("--threads", default=cores(), show_default=True, type=click.IntRange(1), help="Of every competitor.")
@click.option("--data", default=Plan(Path()).data, type=click.Path(path_type=Path), help="Folders in BEIR format.")
@click.option("--peers", default=Plan(Path()).peers, type=click.Path(path_type=Path), help="The peers' environments.")
@click.option("--work", type=click.Path(path_type=Path), help="For synthetic data (5 GB) and exported models.")
@click.option("--output", default=ROOT / "benchmarks" / "results", type=click.Path(path_type=Path), help="For tables.")
def main(
    names: tuple[str, ...], rounds: int, only: tuple[str, ...], work: Path | None, output: Path, **given: object
) -> None:
    """Measure the NAMEd contests (all by default) and write one table each."""
    if unknown := [name for name in names if name not in CONTESTS]:
        raise click.UsageError(f"There is no contest {unknown[0]!r}; the contests are {', '.join(CONTESTS)}.")
    kept = work or ROOT / ".venv-peers" / "work"
    kept.mkdir(parents=True, exist_ok=True)
    plan = Plan(work=kept.resolve(), **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    output.mkdir(parents=True, exist_ok=True)
    try:
        for name in names or CONTESTS:
            page = output / f"{name}.md"
            run(name, plan, rounds, page, only)
            click.echo(page.read_text())
    finally:
        shutil.rmtree(plan.work / "synthetic", ignore_errors=True)


def run(name: str, plan: Plan, rounds: int, page: Path, only: tuple[str, ...] = ()) -> None:
    """Rewrite the page after every round, so that an interrupted run keeps its results."""
    head, sections = heading(f"{CONTESTS[name].capitalize()}", plan, rounds), list[str]()

    def news(text: str) -> None:
        click.echo(f"{name}: {text}", err=True)

    for contest in importlib.import_module(f"benchmarks.contests.{name}").contests(plan):
        contest = contest.among(only)
        sections.append("")
        with tempfile.TemporaryDirectory(dir=plan.work, prefix=f"{name}-") as folder:
            for standings in compete(contest, plan, rounds, news, Path(folder)):
                sections[-1] = render(contest, standings)
                text = "\n".join([head, *sections])
                write_file(page, lambda stream, text=text: stream.write(text.encode()))  # type: ignore[misc]


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        importlib.import_module(f"benchmarks.studies.{sys.argv[1]}").main(*sys.argv[2:])
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the competitors are terminated
        main()
