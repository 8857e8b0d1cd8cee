"""What most commands open before they work: plug-ins, home folder, progress bar, models and datasets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from harness.cli.flags import note
from harness.cli.main import State
from harness.cli.options import json_option, offline_option, pass_state, plugin_option
from harness.cli.output import progress_bar
from harness.types import Progress, Storage, UserError

if TYPE_CHECKING:
    from harness.datasets.beir import Dataset
    from harness.evaluation.pipeline import Settings
    from harness.models.runner import Prepared
    from harness.registry.manager import Registry
    from harness.registry.model_ref import ModelRef
    from harness.search.exact import Limits

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """The state of one command and its options ``--offline``, ``--plugin`` and ``--json``."""

    state: State
    offline: bool
    plugins: tuple[Path, ...]
    as_json: bool
    progress: Progress = lambda *_: None
    """Shown while `progress_bar` is open."""

    @cached_property
    def registry(self) -> Registry:
        """Every plug-in, those of ``--plugin`` included."""
        return self.state.registry(self.plugins)

    @property
    def home(self) -> Path:
        """$HARNESS_HOME, created if it does not exist."""
        return self.state.made_home

    @contextmanager
    def progress_bar(self) -> Iterator[Progress]:
        """Shows progress while the block runs."""
        with progress_bar() as self.progress:
            yield self.progress

    def models(
        self, names: Sequence[str], dtype: str | None = None, storage: Storage = "float32", *, planned: bool = False
    ) -> list[ModelRef]:
        """The models that ``-m`` names, each once, with what ``--dtype`` and ``--storage`` say.

        With ``planned``, a model that does not exist yet is accepted if a plan can do without it.

        Raises:
            UserError: If none is named.
        """
        if not names:
            raise UserError("No model is named; add -m NAME or -m path/to/checkpoint (`harness models` lists names).")
        find = self._planned if planned else self.registry.model
        refs = [find(text) for text in self.registry.texts(names)]
        return [(ref.passing(dtype=dtype) if dtype else ref).stored(storage) for ref in refs]

    def _planned(self, text: str) -> ModelRef:
        try:
            return self.registry.model(text)
        except UserError:
            ref = self.registry.model(text, located=False)
            if not (ref.missing_folder and ref.spec.facts.like):
                raise
            return ref

    def dense_model(self, name: str) -> ModelRef:
        """One model whose packages are installed; UserError if it has no vectors."""
        ref = self.registry.model(name)
        if not ref.has_vectors:
            raise UserError(f"{name} is a {ref.spec.kind} model, which has no vectors; name a dense one with -m.")
        ref.require()
        return ref

    def prepared(self, ref: ModelRef, **more: Any) -> Prepared:
        """The model, to be loaded when it is first used."""
        from harness.models.runner import Prepared

        return Prepared(ref, self.home, offline=self.offline, progress=self.progress, **more)

    def open_dataset(self, name: str, **choice: Any) -> Dataset:
        """The dataset of that name or path, downloaded or built if need be; ``choice``: of `dataset_choice`."""
        from harness.evaluation.open_datasets import open_named

        return open_named(name, self.registry, self.home, offline=self.offline, progress=self.progress, **choice)

    def open_datasets(self, names: Sequence[str], suites: Sequence[str], **choice: Any) -> list[Dataset]:
        """The datasets that ``-d`` and ``--suite`` name."""
        from harness.evaluation.open_datasets import open_all

        opening: dict[str, Any] = {"offline": self.offline, "progress": self.progress, "note": note, **choice}
        return open_all(names, suites, self.registry, self.home, **opening)

    def settings(self, results: Path, **more: Any) -> Settings:
        """Settings of a benchmark that writes to the folder ``results``, which is created if it does not exist."""
        from harness.evaluation.pipeline import Settings
        from harness.results.store import ResultStore
        from harness.system.paths import make_folder

        store = ResultStore(make_folder(results, "choose another folder with --results"))
        common: dict[str, Any] = {"offline": self.offline, "command": self.state.command, "progress": self.progress}
        return Settings(self.state.home, store, **common, **more)


def pass_session(command: F) -> F:
    """Gives the command a `Session` as its first argument, in place of what these three options say."""

    def wrapped(
        state: State, /, *args: Any, offline: bool, plugins: tuple[Path, ...], as_json: bool, **others: Any
    ) -> Any:
        return command(Session(state, offline, plugins, as_json), *args, **others)

    return cast(F, pass_state(functools.update_wrapper(wrapped, command)))


def session_options(command: F) -> F:
    """``--offline``, ``--plugin`` and ``--json``; the command's first argument is a `Session`."""
    return offline_option(plugin_option(json_option(pass_session(command))))


def required(refs: Iterable[ModelRef]) -> None:
    """UserError where a model needs a package that is not installed; to be called before a dataset is opened."""
    for ref in refs:
        ref.require()


def search_limits(memory: int, search_device: str) -> Limits:
    """What `search_options` mean on this machine."""
    from harness.search.exact import Limits

    return Limits(memory, _gpu() if search_device == "auto" else search_device)


def _gpu() -> str:
    """``cuda`` if torch can use a GPU; the driver is asked first, because importing torch takes seconds."""
    from harness.system.environment import machine

    if not machine()["gpus"]:
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
