"""The driver: alternation, pauses, faults, memory; and the table of results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, no_quality
from benchmarks.runner.driver import Process, Unable
from benchmarks.runner.rounds import Standing, compete
from benchmarks.runner.table import heading, render

TASKS = "tests.benchmarks.tasks"
MIB = 1 << 20


def contest(*competitors: Competitor, quality: Any = no_quality) -> Contest:
    return Contest("A contest", competitors, quality, rate=("texts", 100))


def finished(given: Contest, folder: Path, rounds: int = 2) -> Sequence[Standing]:
    *_, last = compete(given, Plan(work=folder), rounds, lambda text: None, folder)
    return last


def diarist(name: str, folder: Path, **settings: Any) -> Competitor:
    return Competitor(name, f"{TASKS}:Diary", {"name": name, "diary": str(folder / "diary"), **settings})


def broken(where: str) -> Competitor:
    return Competitor(where, f"{TASKS}:Broken", {"where": where})


def test_rounds_alternate_and_one_works_at_a_time(tmp_path: Path) -> None:
    given = contest(*(diarist(name, tmp_path) for name in "abc"))
    standings = finished(given, tmp_path, rounds=3)
    lines = (tmp_path / "diary").read_text().split("\n")[:-1]
    assert lines[:6] == [f"{what} {name}" for name in "abc" for what in ("ready", "warm")]
    order = "abc" + "cba" + "abc"
    assert lines[6:] == [f"{what} {name}" for name in order for what in ("ready", "begin", "end")]
    assert [len(each.rounds) for each in standings] == [3, 3, 3]
    assert [each.load["note"] for each in standings] == ["1 thread"] * 3


def test_seconds_are_of_the_work_alone(tmp_path: Path) -> None:
    [one] = finished(contest(diarist("a", tmp_path, seconds=0.2)), tmp_path, rounds=1)
    assert 0.2 <= one.rounds[0]["seconds"] < 5
    assert one.rounds[0]["processor"] < 0.1  # asleep


def test_who_waits_does_nothing(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with Process(
        Competitor("a", f"{TASKS}:Background", {"diary": str(diary)}), Plan(tmp_path), tmp_path / "log"
    ) as one:
        one.load(20)
        time.sleep(0.05)  # the signal has come by then
        before = diary.read_text()
        time.sleep(0.2)
        assert diary.read_text() == before
        one.ask(20, do="work")
        time.sleep(0.05)
        assert len(diary.read_text()) > len(before)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_nothing_survives_the_driver(tmp_path: Path) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    settings = {"words": ["{python}", "-c", script], "first": True}
    with Process(
        Competitor("a", "benchmarks.runner.command:Command", settings), Plan(tmp_path), tmp_path / "log"
    ) as one:
        with pytest.raises(Unable, match="no answer within"):
            one.load(3)
        child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < until


def _runs(process: int) -> bool:
    """Whether the process exists and is not a zombie."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("where", "rounds"), [("load", 0), ("warm", 0), ("second round", 1)])
def test_who_fails_is_listed_with_the_reason_and_keeps_what_it_had(where: str, rounds: int, tmp_path: Path) -> None:
    failed, sound = finished(contest(broken(where), diarist("sound", tmp_path)), tmp_path, rounds=3)
    assert len(sound.rounds) == 3
    assert not sound.reason
    assert len(failed.rounds) == rounds
    assert failed.reason.endswith(f"ValueError: no luck: {where}")
    text = render(contest(broken(where), diarist("sound", tmp_path)), [failed, sound])
    assert f"- {where} did not finish: {failed.reason}" in text
    assert f"\n| {where} " in text


def test_who_dies_is_listed_too(tmp_path: Path) -> None:
    dead, sound = finished(contest(broken("death"), diarist("sound", tmp_path)), tmp_path, rounds=3)
    assert dead.reason == "work: it ended with status 7"
    assert (len(dead.rounds), len(sound.rounds)) == (1, 3)


def test_an_environment_that_is_not_made_is_a_reason(tmp_path: Path) -> None:
    plan = Plan(work=tmp_path, peers=tmp_path / "nowhere")
    given = contest(Competitor("peer", f"{TASKS}:Diary", {}, "absent"), diarist("ours", tmp_path))
    *_, (absent, ours) = compete(given, plan, 1, lambda text: None, tmp_path)
    assert absent.reason == "its environment nowhere/absent is not made; type: make bench-peers"
    assert len(ours.rounds) == 1


def test_whoever_takes_too_long_is_given_up(tmp_path: Path) -> None:
    slow = diarist("slow", tmp_path, seconds=30)
    with Process(slow, Plan(work=tmp_path), tmp_path / "log") as process:
        process.load(20)
        with pytest.raises(Unable, match=r"work: no answer within 0 s"):
            process.ask(0.1, do="work")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak of memory")
def test_peak_memory_is_by_phase(tmp_path: Path) -> None:
    hungry = Competitor("hungry", f"{TASKS}:Hungry", {"load": 200 * MIB, "work": 100 * MIB})
    sated = Competitor("sated", f"{TASKS}:Hungry", {"load": 1, "work": 1})
    hungry_one, sated_one = finished(contest(hungry, sated), tmp_path, rounds=1)
    assert 200 * MIB < hungry_one.load["peak"] < 290 * MIB
    assert 300 * MIB < hungry_one.rounds[0]["peak"] < 390 * MIB
    assert sated_one.rounds[0]["peak"] < 90 * MIB


def test_there_is_a_standing_after_every_round(tmp_path: Path) -> None:
    given = contest(diarist("a", tmp_path))
    counts = [len(one.rounds) for [one] in compete(given, Plan(work=tmp_path), 3, lambda text: None, tmp_path)]
    assert counts == [0, 1, 2, 3]


def mean(answers: Mapping[str, Answer]) -> Quality:
    return {name: {"mean": f"{answer['value'].mean():.1f}"} for name, answer in answers.items()}


def test_quality_stands_beside_the_seconds(tmp_path: Path) -> None:
    given = contest(diarist("a", tmp_path, value=2.5), broken("load"), quality=mean)
    header, _, ours, peer = [line for line in render(given, finished(given, tmp_path)).splitlines() if line[:1] == "|"]
    assert [cell.strip() for cell in header.split("|")][-2] == "mean"
    assert [cell.strip() for cell in ours.split("|")][-2] == "2.5"
    assert [cell.strip() for cell in peer.split("|")][-2] == "—"


def test_a_fault_in_judging_loses_no_figures(tmp_path: Path) -> None:
    def faulty(answers: Mapping[str, Answer]) -> Quality:
        raise KeyError("reference")

    news: list[str] = []
    given = contest(diarist("a", tmp_path), quality=faulty)
    *_, [one] = compete(given, Plan(work=tmp_path), 2, news.append, tmp_path)
    assert len(one.rounds) == 2
    assert any("KeyError: 'reference'" in text for text in news)


def test_the_table_has_medians_ranges_and_ratios_by_round() -> None:
    def standing(name: str, seconds: list[float]) -> Standing:
        rounds = [{"seconds": each, "processor": 2 * each, "peak": 50 * MIB} for each in seconds]
        return Standing(name, load={"seconds": 1.234, "peak": 40 * MIB, "versions": {"thing": "1.2"}}, rounds=rounds)

    given = contest(Competitor("ours", ""), Competitor("peer", ""))
    text = render(given, [standing("ours", [1.0, 2.0, 4.0]), standing("peer", [3.0, 4.0, 20.0])])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[1] == ["ours", "2.00", "1.00 to 4.00", "1.00", "4.00", "50.0", "1.23", "40", "50"]
    assert rows[2] == ["peer", "4.00", "3.00 to 20.0", "3.00", "8.00", "25.0", "1.23", "40", "50"]
    assert "- peer: thing 1.2" in text


def test_the_heading_describes_the_machine() -> None:
    text = heading("Search", Plan(work=Path(), threads=2, size="small"), 3)
    assert text.startswith("# Search\n")
    for part in ("cores", "GiB", "2 threads each", "size 'small'", "load average", "up to 3 alternating rounds"):
        assert part in text
