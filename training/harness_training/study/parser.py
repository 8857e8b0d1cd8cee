"""Reads a study file and checks everything in it before any work starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from harness.datasets import catalog
from harness.registry.manager import Registry
from harness.registry.parser import is_folder
from harness.types import UserError
from harness_reports.claims.toml_positions import Keys, TomlFile
from harness_training.experiment.plans import plans
from harness_training.experiment.settings import OPTIONS, Settings, changed, parse
from harness_training.study.definition import START, Primary, Study, TrainingData, claim_files

SHIPPED = Path(__file__).parent / "shipped"
FILE_KEYS = ("title", "claims", "data", "settings", "experiments", "training", "evaluation", "primary", "claim")
TRAINING_KEYS = ("seeds", "dev")
EVALUATION_KEYS = ("models", "suites", "datasets", "step_0")
KINDS = ("set", "msmarco", "mine")


def find_study(text: str) -> Path:
    """The file of that path, or the shipped one of that name; UserError if there is neither."""
    path = catalog.as_path(text)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.toml")}
    if (name := text.removesuffix(".toml")) in shipped:
        return shipped[name]
    advice = f"those that come with the harness are {' and '.join(sorted(shipped))}; another is typed as its path."
    raise UserError(f"There is no study file {text}; {advice}")


def read_study(path: Path, registry: Registry) -> Study:
    """Reads a study file. UserError with line and column of what is wrong."""
    return _Reading(TomlFile(path), registry).study()


class _Reading:
    def __init__(self, file: TomlFile, registry: Registry) -> None:
        self.file, self.registry = file, registry

    def study(self) -> Study:
        file = self.file
        file.table((), FILE_KEYS)
        for section, allowed in (("training", TRAINING_KEYS), ("evaluation", EVALUATION_KEYS)):
            if file.get((section,), dict, {}):
                file.table((section,), allowed)
        experiments = self._experiments()
        study = Study(
            file=file.path,
            title=file.get(("title",), str, file.path.stem),
            data=self._data(),
            experiments=experiments,
            seeds=self._seeds(),
            dev=self._folder(("training", "dev")),
            baselines=self._models(),
            suites=self._places("suites"),
            datasets=self._places("datasets"),
            primary=self._primary(experiments),
            claims=tuple(self._path(text) for text in file.texts(("claims",))),
            own_claims=tuple(self.file.at(keys) for keys in file.tables("claim")),
            experiment_models=frozenset(
                name for name in experiments if name in self.registry.models and self._is_trained(name)
            ),
            step_0=self.file.get(("evaluation", "step_0"), bool, False),
        )
        if not study.entries:
            raise file.fault(("evaluation",), 'nothing is evaluated; add suites or datasets, as in suites = ["demo"]')
        self._check_primary(study)
        self._check_claims(study)
        return study

    def _data(self) -> tuple[TrainingData, ...]:
        tables = self.file.get(("data",), dict, {})
        if not tables:
            raise self.file.fault(("data",), 'no training set is named; add one, as in [data.mine] set = "path/to/set"')
        return tuple(self._training_set(name) for name in tables)

    def _training_set(self, name: str) -> TrainingData:
        keys: Keys = ("data", name)
        table = self.file.get(keys, dict, {})
        [kind, *more] = [kind for kind in KINDS if kind in table] or [""]
        if not kind or more:
            raise self.file.fault(keys, f"[data.{name}] needs exactly one of {', '.join(KINDS)}")
        if kind == "set":
            self.file.table(keys, ("set",))
            return TrainingData(name, path=self._folder((*keys, "set")))
        options = {key: value for key, value in table.items() if key != kind}
        if kind == "msmarco":
            words = ["data", "msmarco", "--triplets", str(int(self.file.number((*keys, kind))))]
        else:
            words = ["mine", "-d", self._dataset(self.file.get((*keys, kind), str, ""), (*keys, kind))]
        words += self._options(keys, options)
        self._parse(keys, words, options)
        return TrainingData(name, words=tuple(words), dataset=words[2] if kind == "mine" else "", options=dict(table))

    def _options(self, keys: Keys, options: Mapping[str, Any]) -> list[str]:
        """A table's further lines as options of the command that makes the set; lists repeat an option."""
        words = []
        for key, value in options.items():
            if isinstance(value, dict | bool) or not str(key).replace("_", "").isalpha():
                raise self.file.fault((*keys, key), f"{key} is not an option with a text or a number")
            for each in value if isinstance(value, list) else [value]:
                text = self._path(each) if key in ("from", "cross_encoder") else str(each)
                words += [f"--{key.replace('_', '-')}", text]
        return words

    def _parse(self, keys: Keys, words: list[str], options: Mapping[str, Any]) -> None:
        """Lets click parse the words, so that a wrong option is noticed now."""
        from harness_training.cli.data import msmarco
        from harness_training.cli.mine import command as mine

        command, rest = (mine, words[1:]) if words[0] == "mine" else (msmarco, words[2:])
        try:
            command.make_context(str(command.name), [*rest, "-o", "set"])
        except click.UsageError as error:
            said = error.format_message()
            named = (key for key in options if f"--{key.replace('_', '-')}" in said.partition("(")[0])
            raise self.file.fault((*keys, *list(named)[:1]), said) from error

    def _experiments(self) -> dict[str, Settings]:
        common = self._settings(("settings",), Settings(), {})
        tables = self.file.get(("experiments",), dict, {})
        if not tables:
            raise self.file.fault(("experiments",), "no experiment is named; add a line such as isotropy = {}")
        found = {}
        for name in tables:
            if not str(name).replace("-", "").replace("_", "").isalnum():
                raise self.file.fault(("experiments", name), f"{name!r} is no name; use letters, digits, - and _")
            try:
                shipped = plans(name, (), (), 1)
            except UserError:  # an experiment of the file's own
                shipped = []
            if len(shipped) > 1:
                raise self.file.fault(("experiments", name), f"{name} is a sweep; name each value as an experiment")
            start = changed(common, shipped[0].settings.differing(Settings())) if shipped else common
            found[name] = self._settings(("experiments", name), start, {"seed": "the number of seeds is [training]'s"})
        return found

    def _settings(self, keys: Keys, start: Settings, refused: Mapping[str, str]) -> Settings:
        values = self.file.get(keys, dict, {})
        for name, value in values.items():
            if name not in OPTIONS or name in refused or isinstance(value, dict | list):
                reason = refused.get(name) or catalog.unknown("setting", name, OPTIONS)
                raise self.file.fault((*keys, name), reason)
            try:
                parse(name, value)
            except UserError as error:
                raise self.file.fault((*keys, name), str(error)) from error
        if "base" in values:
            base = self._named(values["base"])
            self._model(base, (*keys, "base"))
            values = {**values, "base": base}
        return changed(start, values)

    def _seeds(self) -> int:
        seeds = self.file.number(("training", "seeds"), 1)
        if seeds < 1 or seeds != int(seeds):
            raise self.file.fault(("training", "seeds"), f"seeds is {seeds:g}, but it must be a number of runs")
        return int(seeds)

    def _models(self) -> dict[str, str]:
        keys = ("evaluation", "models")
        found = [self._named(text) for text in self.file.texts(keys)]
        return {text: self._model(text, keys) for text in found}

    def _named(self, text: str) -> str:
        """A model as the registry knows it; folders are relative to the file."""
        return text if text in self.registry.models else self._path(text)

    def _model(self, text: str, keys: Keys) -> str:
        """Checks a model; returns its label."""
        try:
            ref = self.registry.model(text)
            ref.require()
        except UserError as error:
            raise self.file.fault(keys, str(error)) from error
        return ref.label

    def _is_trained(self, name: str) -> bool:
        return bool(self.registry.models[name].spec.files.locate)

    def _places(self, key: str) -> tuple[str, ...]:
        keys = ("evaluation", key)
        found = []
        for text in self.file.texts(keys):
            if key == "datasets":
                found.append(self._dataset(text, keys))
                continue
            text = self._path(text) if text.endswith(".toml") else text
            try:
                catalog.suite(text)
            except UserError as error:
                raise self.file.fault(keys, str(error)) from error
            found.append(text)
        return tuple(found)

    def _dataset(self, text: str, keys: Keys) -> str:
        known = {*self.registry.datasets, *self.registry.groups}
        if text in known:
            return text
        path = self._path(text)
        if is_folder(path):
            return path
        raise self.file.fault(keys, catalog.unknown("dataset or folder", text, known))

    def _folder(self, keys: Keys) -> str:
        text = self.file.get(keys, str, "")
        path = self._path(text) if text else ""
        if text and not Path(path).exists():
            raise self.file.fault(keys, f"there is no {path}")
        return path

    def _path(self, text: str) -> str:
        """A path relative to the file, if something is there; else the text as it is."""
        path = self.file.path.parent / catalog.as_path(text)
        return str(path.resolve()) if path.exists() else text

    def _primary(self, experiments: Collection[str]) -> Primary:
        keys: Keys = ("primary",)
        names = [field.name for field in fields(Primary)]
        table = self.file.get(keys, dict, {})
        if not table:
            raise self.file.fault(keys, "[primary] is missing: name the comparison that decides, before it is made")
        self.file.table(keys, names)
        numbers = {name: self.file.number((*keys, name)) for name in names if name.endswith("spread") and name in table}
        texts = {name: self.file.get((*keys, name), str, "") for name in names if name in table and name not in numbers}
        if texts.get("on", "").endswith(".toml"):
            texts["on"] = self._path(texts["on"])
        for name in ("experiment", "against"):
            if not texts.get(name):
                raise self.file.fault(keys, f'[primary] needs {name}, as in experiment = "isotropy"')
        if texts["experiment"] not in experiments:
            raise self.file.fault(
                (*keys, "experiment"), catalog.unknown("experiment", texts["experiment"], experiments)
            )
        return replace(Primary(texts["experiment"], texts["against"], ""), **texts, **numbers)  # type: ignore[arg-type]

    def _check_primary(self, study: Study) -> None:
        primary, keys = study.primary, ("primary",)
        others = [*study.experiments, *study.baselines]
        if primary.against not in others or primary.against == primary.experiment:
            raise self.file.fault(
                (*keys, "against"), catalog.unknown("other model in this study", primary.against, others)
            )
        if primary.over not in ("datasets", "queries"):
            raise self.file.fault((*keys, "over"), f'over is {primary.over!r}, but it must be "datasets" or "queries"')
        places = [*study.suites, *(label for entry in study.entries for label in (entry, *catalog.labels(entry)))]
        if primary.on and primary.on not in places:
            raise self.file.fault((*keys, "on"), catalog.unknown("dataset or suite in this study", primary.on, places))

    def _check_claims(self, study: Study) -> None:
        from harness.metrics.geometry import DEFINITIONS
        from harness_reports.claims.parser import Known, check_claims, read_claims

        figures = {f"geometry.{side}.{name}" for side in ("documents", "queries") for name in DEFINITIONS}
        labels = {label for entry in study.entries for label in catalog.labels(entry)}
        own = {*study.experiments, *([START] if study.step_0 else [])}
        known = Known({*self.registry.models, *own}, {*self.registry.datasets, *labels}, figures)
        check_claims(self.file, replace(known, place=study.primary.on or study.entries[0]))
        for text in study.claims:
            try:
                paths = claim_files(replace(study, claims=(text,)))
            except UserError as error:
                raise self.file.fault(("claims",), str(error)) from error
            for path in paths.values():
                read_claims(path, known)
