"""Runs a study: every command in order, each doing what is left of its work, so that any interruption is resumed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from harness.cli.flags import note
from harness.cli.main import State, cli
from harness.cli.session import Session
from harness.datasets.catalog import status
from harness.evaluation.open_datasets import expand
from harness.planning.workload import workloads
from harness.storage.atomic import write_file
from harness.storage.locks import exclusive
from harness.types import PluginError, UserError
from harness_plugins.sentence_transformers.trained import read_run
from harness_training.study import commands
from harness_training.study.clock import StageClock
from harness_training.study.commands import Parallel
from harness_training.study.definition import Study, StudyFolder
from harness_training.study.forecast import Planner
from harness_training.study.methods import paragraph
from harness_training.study.registration import check_registered, independent_queries, register
from harness_training.study.timeline import Timeline, took


@dataclass
class Runner:
    """One study in its folder."""

    study: Study
    folder: StudyFolder
    session: Session
    parallel: Parallel
    failed: list[str] = field(default_factory=list)
    """Sentences about what did not work."""

    def run(self, planner: Planner) -> int:
        """Do all that is left. Returns 1 if a training, a cell or a report failed, else 0.

        Args:
            planner: Forecasts the study, before its first step.
        """
        study, folder = self.study, self.folder
        folder.path.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.path, _tell, "runs this study"):
            check_registered(study, folder)
            commands.write_inputs(study, folder)
            self.clock = StageClock(folder.path / "seconds.json")
            with self.clock.running("data"):
                self._fetch()
                register(study, folder, self._queries())
            if not folder.plan.exists():
                with self.session.progress_bar():
                    planner.timeline().save(folder.plan)
            with self.clock.running("data"):
                for one in study.data:
                    if not one.path:
                        self._command(f"data-{one.name}", commands.data_words(one, folder))
            with self.clock.running("training"):
                self._command("train", commands.train_words(study, folder, self.parallel))
            with self.clock.running("evaluation"):
                self._command("benchmark", commands.benchmark_words(study, folder, self._trained(), self.parallel))
            with self.clock.running("reports"):
                self._reports()
            if planned := Timeline.read(folder.plan):
                _write(folder.path / "time.md", took(planned, self.clock.seconds))
        return int(bool(self.failed))

    def _fetch(self) -> None:
        """Downloads and builds everything first, so that it is missed before hours are spent."""
        study, registry, home = self.study, self.session.registry, self.session.home
        bases = [settings.base for settings in study.experiments.values()]
        weighty = [name for name in (*study.baselines, *bases) if name in registry.models]
        names = [name for name in weighty if registry.models[name].spec.files.weights]
        mined = [one.dataset for one in study.data if one.dataset]
        for name in expand([*study.entries, *mined], registry):
            spec = registry.datasets.get(name)
            if spec and (name in study.datasets or status(spec, home) != "needs licence"):
                names.append(name)
        if names:
            self._command("fetch", ["fetch", *dict.fromkeys(names)])

    def _queries(self) -> dict[str, float | None]:
        found = workloads(self.study.entries, (), self.session.registry, self.session.home)
        return {
            work.label: independent_queries(work.dataset.clusters()) if work.dataset else work.queries for work in found
        }

    def _trained(self) -> list[str]:
        """The labels of the runs that are finished."""
        found = []
        for plan in self.study.plans:
            run = read_run(self.folder.runs / plan.experiment / plan.run)
            if run.flaw:
                note(f"{plan.experiment}/{plan.run} is not evaluated: it {run.flaw}")
            else:
                found.append(self.study.label(plan))
        start = self.study.start
        return [*found, start] if self.study.step_0 and start.removesuffix(",step=0") in found else found

    def _reports(self) -> None:
        folder = self.folder
        for words in commands.report_words(self.study, folder):
            self._report(words, None)
        for file, words in commands.claims_words(self.study, folder):
            self._report(words, file)
        _write(folder.path / "methods.md", paragraph(self.study, folder))

    def _report(self, words: Sequence[str], file: Path | None) -> None:
        """One report; what it cannot say because results are missing does not stop the others."""
        try:
            self._command(words[0], words, file)
        except UserError as error:
            self.failed.append(str(error))

    def _command(self, name: str, words: Sequence[str], file: Path | None = None) -> None:
        """Runs a command of ``harness`` in this process; what it prints goes to a file.

        Raises:
            UserError: As the command does.
        """
        _tell(f"study: {name}")
        file = file or self.folder.path / "log" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        state = self.session.state
        plugins = [word for path in (*state.plugins, *self.session.plugins) for word in ("--plugin", str(path))]
        typed = [*plugins, *words]
        own = State(words=typed, debug=state.debug, verbose=state.verbose, quiet=state.quiet)
        with _environment(HARNESS_RUNS=str(self.folder.runs.absolute()), **_offline(self.session)):
            made = file.with_name(f".{file.name}.new")
            with made.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
                code = _exit_code(typed, own)
            made.replace(file)
        _free_memory()
        if code:
            self.failed.append(f"harness {words[0]} ended with exit code {code}; see {file} and the messages above")


def _exit_code(words: Sequence[str], state: State) -> int:
    try:
        code = cli.main(args=list(words), prog_name="harness", standalone_mode=False, obj=state)
    except SystemExit as end:
        code = end.code
    except (UserError, PluginError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise UserError(text) from error
    return code if isinstance(code, int) else 0


def _free_memory() -> None:
    """Frees what a command left on the GPU, before the next one."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables while the block runs; what the block changes is undone."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _offline(session: Session) -> Mapping[str, str]:
    return {"HARNESS_OFFLINE": "1"} if session.offline else {}


def _tell(sentence: str, *_: Any) -> None:
    click.echo(sentence, err=True)


def _write(path: Path, text: str) -> None:
    write_file(path, lambda stream: stream.write(text.encode()))
