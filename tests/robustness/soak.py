"""``python -m tests.robustness.soak [--hours N]``: one process that evaluates, fails, is interrupted and reports for
hours.

Each round makes up a dataset and evaluates sound and broken models on it and on two datasets that stay (so that cells
are made, reused and forced), is interrupted by SIGINT at some call of the progress, and reports. Every minute it notes
resident memory, open files, threads and what lies around; each sample is in ``samples.jsonl`` at once, and a soak that
was killed is summed up by ``--samples FILE``. The home is emptied now and then, so that the disk does not fill.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from harness.cli.main import cli
from harness.datasets.beir import open_dataset
from harness.evaluation.pipeline import Settings, benchmark
from harness.registry.manager import load_registry
from harness.results.store import ResultStore
from harness.search.index_config import parse_index_config
from harness_plugins.bm25.analysis import term
from tests.robustness.toy import SYLLABLES, write_dataset, write_plugin

MODELS = ("toy", "bm25", "rrf(toy,bm25)", "whiten(toy)", "toy:fault=raises", "toy:fault=nan")
FORMS = ("markdown", "latex", "html", "json", "csv")
WARM = 0.25
"""The share of the samples at the beginning that no slope is made of: imports, pools and caches fill up then."""
FLAT = {"MB": 4.0, "files": 1.0, "threads": 1.0}
"""The slope an hour up to which a figure counts as flat: a page or two a round would be tens of MB."""
FLOOR = 5
"""Samples of which the one with the least memory counts: what was needed for a moment is returned when a model is let
go of, by chance after a sample or before it. What is lost raises the least, too."""
FRESH_HOME = 25
"""Rounds after which the home is emptied."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds at one moment, after a garbage collection."""

    seconds: float
    rounds: int
    cells: int
    failed: int
    interrupted: int
    MB: float
    peak_MB: float
    files: int
    threads: int
    temporary: int
    locks: int


class Interruption:
    """A progress that sends SIGINT to this process at one of its calls."""

    def __init__(self, call: int) -> None:
        self.call = call

    def __call__(self, what: str, done: int, total: int) -> None:
        """One call."""
        self.call -= 1
        if self.call == 0:
            signal.raise_signal(signal.SIGINT)


class Soak:
    """The rounds."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.chance, self.count = place, random.Random(seed), Counter[str]()
        self.plugin = write_plugin(place)
        self.staying = [write_dataset(place / f"staying{n}", n, 150 + 100 * n) for n in range(2)]
        for word in product(SYLLABLES, repeat=3):
            term("".join(word))  # BM25 remembers 200,000 words: hours of growth that ends, and would hide another
        self.start = time.monotonic()

    def round(self) -> None:
        """Everything once."""
        if self.count["rounds"] % FRESH_HOME == 0:
            for name in ("home", "results"):
                shutil.rmtree(self.place / name, ignore_errors=True)
        fresh = write_dataset(self.place / "fresh", self.chance.getrandbits(32), self.chance.randint(20, 900))
        for folders, options in (
            ([fresh, *self.staying], {}),
            ([self.staying[0]], {"force": True}),
            ([fresh], {"force": True, "progress": Interruption(self.chance.randint(1, 60))}),
            ([fresh], {"indexes": (parse_index_config("HNSW8"),)}),
        ):
            try:
                self.evaluate(folders, **options)
            except KeyboardInterrupt:
                self.count["interrupted"] += 1
        self.report()
        shutil.rmtree(fresh)
        for folder in (self.place / "results").glob("*/fresh"):
            shutil.rmtree(folder)
        self.count["rounds"] += 1

    def evaluate(self, folders: list[Path], **options: object) -> None:
        """One benchmark, as the command would have it."""
        home = self.place / "home"
        registry = load_registry([self.plugin])
        settings = Settings(home, ResultStore(self.place / "results"), offline=True, **options)  # type: ignore[arg-type]
        models = [registry.model(name) for name in MODELS]
        with contextlib.ExitStack() as stack:
            datasets = [stack.enter_context(open_dataset(folder, cache=home / "corpora")) for folder in folders]
            for cell in benchmark(models, datasets, settings):
                self.count["cells"] += 1
                self.count["failed"] += cell.status == "failed"
                assert (cell.status == "failed") == ("fault" in cell.model), (cell.model, cell.reason)

    def report(self) -> None:
        """One of the formats, by the command itself."""
        form = FORMS[self.count["rounds"] % len(FORMS)]
        # Into a file: click keeps every stream that ever stood in for stdout, with what was written to it.
        words = ["report", "--results", str(self.place / "results"), "--format", form, "-o", str(self.place / "report")]
        with contextlib.suppress(SystemExit):
            cli.main(args=words, prog_name="harness", standalone_mode=False)
        assert (self.place / "report").stat().st_size

    def sample(self) -> Sample:
        """Now."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        left = [path for path in self.place.rglob(".*") if path.suffix in (".tmp", ".old", ".lock")]
        locks = sum(path.suffix == ".lock" for path in left)
        return Sample(
            seconds=round(time.monotonic() - self.start, 1),
            **{name: self.count[name] for name in ("rounds", "cells", "failed", "interrupted")},
            MB=round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2),
            peak_MB=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 2),
            files=len(list(Path("/proc/self/fd").iterdir())),
            threads=threading.active_count(),
            temporary=len(left) - locks + len(list(Path(tempfile.gettempdir()).iterdir())),
            locks=locks,
        )


def slope(samples: list[Sample], name: str) -> tuple[float, float]:
    """Least squares over the samples after the warm-up: change of a figure an hour, and its standard error."""
    kept = samples[int(WARM * len(samples)) :]
    hours = np.array([sample.seconds / 3600 for sample in kept])
    values = np.array([getattr(sample, name) for sample in kept], float)
    if len(kept) < 3:
        return 0.0, float("inf")
    spread = hours - hours.mean()
    rise = float(spread @ values / (spread @ spread))
    rest = values - values.mean() - rise * spread
    return rise, float(np.sqrt(rest @ rest / (len(kept) - 2) / (spread @ spread)))


def summary(samples: list[Sample]) -> str:
    """A Markdown table of the figures and their slopes, and the verdict."""
    last, rows, flat = samples[-1], [], len(samples) >= 8 * FLOOR
    groups = [samples[at : at + FLOOR] for at in range(0, len(samples), FLOOR)]
    floor = [min(group, key=lambda sample: sample.MB) for group in groups]
    for title, name, taken in (
        ("MB", "MB", samples),
        (f"MB, least of {FLOOR}", "MB", floor),
        ("files", "files", samples),
        ("threads", "threads", samples),
    ):
        rise, error = slope(taken, name)
        values = [getattr(sample, name) for sample in taken[int(WARM * len(taken)) :]]
        flat = flat and (title == "MB" or rise <= FLAT[name])
        shown = [f"{value:g}" for value in (values[0], statistics.median(values), max(values), values[-1])]
        rows.append([title, *shown, f"{rise:+.2f} ± {error:.2f}"])
    for name in ("temporary", "locks"):
        values = [getattr(sample, name) for sample in samples]
        flat = flat and values[-1] == 0
        rows.append([name, *map(str, (values[0], statistics.median(values), max(values), values[-1])), ""])
    titles = ["figure", "after warm-up", "median", "most", "last", "an hour"]
    done = f"{last.rounds:,} rounds, {last.cells:,} cells ({last.failed:,} failed on purpose)"
    return (
        f"{last.seconds / 3600:.2f} hours, {done}, {last.interrupted:,} interrupted, {len(samples)} samples; "
        f"peak memory {last.peak_MB:,.0f} MB\n\n"
        f"{tabulate(rows, titles, tablefmt='pipe', disable_numparse=True)}\n\nverdict: {'flat' if flat else 'not flat'}"
    )


@click.command("soak")
@click.option("--hours", default=2.0, show_default=True)
@click.option("--every", default=60.0, show_default=True, help="Seconds between samples.")
@click.option("--seed", default=0, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where it works and leaves samples.jsonl.")
@click.option("--samples", type=click.Path(path_type=Path, exists=True), help="Sum up these, and do nothing else.")
def command(hours: float, every: float, seed: int, folder: Path | None, samples: Path | None) -> None:
    """Evaluates for hours in one process and says whether it grew."""
    if samples:
        click.echo(summary([Sample(**json.loads(line)) for line in samples.read_text().splitlines()]))
        return
    place = (folder or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    (place / "tmp").mkdir(parents=True)
    tempfile.tempdir = str(place / "tmp")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what goes on in the background without it
    soak, taken, end = Soak(place, seed), list[Sample](), time.monotonic() + 3600 * hours
    with (place / "samples.jsonl").open("a") as kept:
        while time.monotonic() < end:
            soak.round()
            if not taken or time.monotonic() - soak.start - taken[-1].seconds >= every:
                taken.append(soak.sample())
                kept.write(json.dumps(asdict(taken[-1])) + "\n")
                kept.flush()
                click.echo(json.dumps(asdict(taken[-1])), err=True)
    click.echo(summary(taken))
    sys.exit("not flat" in summary(taken))


def main(*words: str) -> None:
    """The command's words."""
    command(list(words))


if __name__ == "__main__":
    main(*sys.argv[1:])
