"""``python -m tests.robustness.faults``: faults of every kind happen to a small suite, and nothing may be lost.

Seeded: ``--seed``, a kind and the number of a case decide everything but the moment at which a process is when a signal
reaches it. What fails is kept, one JSON object a line, with the command that repeats it.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from tabulate import tabulate

from tests.robustness.faults import shim
from tests.robustness.faults.kinds import KINDS
from tests.robustness.faults.suite import Skipped, Suite, Verdict

MEMORY = Path("/dev/shm")
"""A disk in memory, where there is one: what survives a kill does not depend on what has reached the platter."""


def run_case(suite: Suite, kind: str, seed: int, number: int) -> Verdict:
    """One case, in a place of its own that is removed if nothing was lost."""
    place = suite.root / f"{kind.replace(' ', '-')}-{number}"
    chance = random.Random(f"{seed}/{kind}/{number}")
    try:
        verdict = KINDS[kind].work(suite, chance, place)
    finally:
        shutil.rmtree(suite.root / "logs", ignore_errors=True)
    if not verdict.wrong:
        shutil.rmtree(place, ignore_errors=True)
    return verdict


def run_kind(suite: Suite, kind: str, seed: int, numbers: range, failures: Path) -> list[object]:
    """All cases of a kind, until as many faults have happened as there are numbers; its row of the table."""
    done, lost, faults, start = 0, 0, 0, time.monotonic()
    try:
        for number in numbers:
            if faults >= len(numbers):
                break
            verdict = run_case(suite, kind, seed, number)
            done, faults, lost = done + 1, faults + verdict.faults, lost + bool(verdict.wrong)
            if verdict.wrong:
                again = f'python -m tests.robustness.faults --seed {seed} --only "{kind}" --case {number}'
                with failures.open("a") as stream:
                    stream.write(
                        json.dumps({"kind": kind, "case": number, "wrong": verdict.wrong, "again": again}) + "\n"
                    )
                click.echo(f"{kind} {number}: {verdict.wrong}", err=True)
            if done % 50 == 0:
                click.echo(f"{kind}: {done} cases, {faults} faults, {lost} lost", err=True)
    except Skipped as reason:
        return [kind, "-", "-", f"skipped: {reason}", ""]
    seconds = time.monotonic() - start
    return [kind, f"{done:,}", f"{faults:,}", f"{done - lost:,} / {done:,}", f"{seconds / max(1, done):.2f}"]


@click.command("faults")
@click.option("--seed", default=0, show_default=True)
@click.option("--kills", default=1000, show_default=True, help="SIGKILLs; the other kinds in proportion.")
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="This kind alone.")
@click.option("--case", type=int, help="This case alone.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where it happens (default: in memory).")
@click.option("--failures", type=click.Path(path_type=Path), default=Path("faults.jsonl"), show_default=True)
def campaign(
    seed: int, kills: int, only: tuple[str, ...], case: int | None, folder: Path | None, failures: Path
) -> None:
    """Makes faults happen and prints survived / total by kind; exit 1 where anything was lost."""
    base = folder or (MEMORY if MEMORY.is_dir() else None)
    root = Path(tempfile.mkdtemp(prefix="faults-", dir=base)).resolve()
    try:
        suite = Suite(root)
        rows = []
        for kind in only or KINDS:
            count = max(1, round(KINDS[kind].share * kills / 1000))
            numbers = range(case, case + 1) if case is not None else range(count)
            rows.append(run_kind(suite, kind, seed, numbers, failures))
            click.echo(tabulate(rows[-1:], tablefmt="plain"), err=True)
    finally:
        if not any(root.glob("*-*/results")):
            shutil.rmtree(root, ignore_errors=True)
    titles = ["fault", "cases", "faults", "survived", "seconds a case"]
    click.echo(f"seed {seed}\n\n{tabulate(rows, titles, tablefmt='pipe', disable_numparse=True)}")
    sys.exit(any("skipped" not in str(row[3]) and len(set(str(row[3]).split(" / "))) > 1 for row in rows))


def main(words: list[str]) -> None:
    """The command, in a process of its own."""
    shim.preload(words)
    campaign(words)


if __name__ == "__main__":
    main(sys.argv[1:])
