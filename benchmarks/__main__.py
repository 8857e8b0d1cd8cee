"""``python -m benchmarks [NAME ...]``: runs the named comparisons (all by default) and prints a Markdown table;
``python -m benchmarks approximate [MODEL [DATASET ...]]``: what approximate indexes find, cost and take;
``python -m benchmarks cluster [MODEL [DEVICE [SUITE]]]``: how a suite scales with workers, simulated;
``python -m benchmarks report``: how long reports of a large results folder take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from tabulate import tabulate

from benchmarks import approximate, bm25, cluster, encode, report, search, train
from harness.manifest import machine

Contest = dict[str, Callable[[], object]]
"""Contestant -> the work; the first is ours, the others are peers doing the same work."""
CONTESTS: dict[str, Callable[[], Contest]] = {
    "bm25": bm25.contest,
    "encode": encode.contest,
    "search": search.contest,
    "train": train.contest,
}
ROUNDS = 3


def measure(contest: Contest) -> dict[str, list[float]]:
    """Seconds of each contestant, in turn, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for turn in range(ROUNDS + 1):
        for name, work in contest.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main(names: list[str]) -> None:
    """Prints the table."""
    rows = []
    for name in names or list(CONTESTS):
        seconds = measure(CONTESTS[name]())
        ours = statistics.median(next(iter(seconds.values())))
        for contestant, values in seconds.items():
            spread = f"{min(values):.2f} to {max(values):.2f}"
            rows.append(
                [
                    name,
                    contestant,
                    f"{statistics.median(values):.2f}",
                    spread,
                    f"{statistics.median(values) / ours:.2f}",
                ]
            )
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores, {', '.join(about['features'])}; medians of {ROUNDS} rounds\n")
    print(
        tabulate(rows, ["work", "contestant", "seconds", "range", "times ours"], tablefmt="pipe", disable_numparse=True)
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["approximate"]:
        approximate.main(*sys.argv[2:])
    elif sys.argv[1:2] == ["cluster"]:
        cluster.main(*sys.argv[2:])
    elif sys.argv[1:2] == ["report"]:
        report.main(*sys.argv[2:])
    else:
        main(sys.argv[1:])
