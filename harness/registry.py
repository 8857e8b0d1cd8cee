"""Plug-ins: found one by one, a broken one listed with its reason while the rest keep working."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import pluggy

from harness import catalog, hookspecs
from harness.atomic import content_key, sha256_file
from harness.catalog import unknown
from harness.spec import DatasetSpec, ModelSpec, Options, OptionValue, PluginError, UserError, resolve

DISTRIBUTION = "retrieval-harness"
PLUGIN_FILE = "__harness_plugin_file__"
"""Attribute that marks a module as loaded by ``--plugin``."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that could not be loaded, and why."""

    plugin: str
    reason: str


@dataclass(frozen=True)
class ModelRef:
    """A model with its options settled: what a cell is made of."""

    spec: ModelSpec
    options: Mapping[str, OptionValue]
    passed: Mapping[str, OptionValue]
    plugin: str = ""

    @property
    def label(self) -> str:
        """Row name and folder name: the model and every option that was passed; for a checkpoint, its folder's name
        and six digits of its key, so that another checkpoint in a folder of the same name is another row."""
        passed = dict(self.passed)
        name = self.spec.name
        if self.spec.path_option and passed.get(self.spec.path_option):
            name = f"{Path(str(passed.pop(self.spec.path_option))).resolve().name}@{self.key[:6]}"
        extras = ",".join(f"{key}={value}" for key, value in sorted(passed.items()))
        return f"{name}:{extras}" if extras else name

    def replace(self, **options: OptionValue) -> ModelRef:
        """The same model with some options changed silently (not part of its label)."""
        return ModelRef(self.spec, {**self.options, **options}, self.passed, self.plugin)

    def passing(self, **options: OptionValue) -> ModelRef:
        """The same model as if the user had passed these options too (an option already passed stays)."""
        added = {**options, **self.passed}
        return ModelRef(self.spec, {**self.options, **added}, added, self.plugin)

    def located(self) -> ModelRef:
        """The same model with its folder settled, where it is one to be found; UserError when there is none."""
        return self.replace(path=_call(self.plugin, self.spec.locate, self.options)) if self.spec.locate else self

    @cached_property
    def training(self) -> dict[str, Any]:
        """How it was trained, as far as that is on record."""
        return dict(_call(self.plugin, self.spec.training, self.options)) if self.spec.training else {}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the datasets whose judgements the model saw."""
        return tuple(dict.fromkeys([*self.spec.trained_on, *self.training.get("trained_on", ())]))

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What determines the model's output; never its name alone. Computed without loading it."""
        if self.spec.fingerprint:
            own = dict(_call(self.plugin, self.spec.fingerprint, self.options))
        else:
            options = {key: self.options[key] for key in sorted(self.options)}
            own = {"source": sha256_file(_source(self.spec)), "options": options}
        return {"model": self.spec.name if not self.spec.path_option else "", "kind": self.spec.kind, **own}

    @cached_property
    def key(self) -> str:
        """Hex SHA-256 of the fingerprint."""
        return content_key(self.fingerprint)

    @cached_property
    def figures(self) -> dict[str, float]:
        """``dim`` and ``flops_per_token``, as far as they are stated; known without loading the model."""
        stated = {"dim": self.spec.dim, "flops_per_token": self.spec.flops_per_token}
        read = _call(self.plugin, self.spec.figures, self.options) if self.spec.figures else {}
        return {name: float(value) for name, value in (stated | dict(read)).items() if value}

    def missing(self) -> list[str]:
        """Modules the model needs and this environment lacks."""
        return [name for name in self.spec.requires if importlib.util.find_spec(name) is None]

    def load(self) -> Any:
        """The model itself; UserError when an extra is missing, PluginError when the plug-in's own code fails."""
        if lacking := self.missing():
            raise UserError(missing_extra(self.spec.name, lacking, self.spec.extra))
        return _call(self.plugin, self.spec.load, self.options)


def missing_extra(what: str, lacking: Iterable[str], extra: str) -> str:
    """The sentence for a package that is not installed, with the pip line to type."""
    wanted = []
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        package, _, marker = requirement.partition(";")
        if extra and f'extra == "{extra}"' in marker.replace("'", '"'):
            wanted.append(f'"{package.strip()}"' if any(c in package for c in "<>,") else package.strip())
    line = " ".join(wanted) or " ".join(lacking)
    return f"{what} needs {', '.join(lacking)}, which is not installed; type: pip install {line}"


def _source(spec: ModelSpec) -> Path:
    module = spec.load.partition(":")[0]
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None) or getattr(importlib.util.find_spec(module), "origin", None)
    if not file:
        raise PluginError(f"{spec.name}: {spec.load!r} names no source file; give the model a fingerprint.")
    return Path(file)


def _call(plugin: str, target: str, options: Options) -> Any:
    try:
        return resolve(target)(options)
    except (UserError, PluginError, KeyboardInterrupt):
        raise
    except Exception as error:  # the plug-in boundary: whatever its code raises is its fault, and is named
        raise PluginError(f"plug-in {plugin or target}: {target} failed ({type(error).__name__}: {error})") from error


@dataclass(slots=True)
class Registry:
    """Every model, dataset and command on offer. Made once per process and passed along."""

    manager: pluggy.PluginManager
    models: dict[str, ModelRef] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    """The catalogue's and the plug-ins'."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> the datasets it stands for, measured one by one."""
    broken: list[Broken] = field(default_factory=list)

    def model(self, text: str) -> ModelRef:
        """Resolves ``name``, ``name:key=value,...``, ``path/to/folder`` or ``path/to/folder:key=value``."""
        name, passed = split_options(text)
        looks_like_path = "/" in name or os.sep in name or name.startswith((".", "~"))
        if name in self.models and not looks_like_path:
            ref, given = self.models[name], {}
        elif looks_like_path or Path(name).is_dir():
            folder = Path(name).expanduser()
            if not folder.is_dir():
                raise UserError(f"There is no folder {name}; `harness models` lists the models known by name.")
            owner = next((m for m in self.models.values() if m.spec.path_option), None)
            if owner is None:
                raise UserError(
                    f"No plug-in opens model folders such as {name}; `harness models` lists what is installed."
                )
            ref, given = owner, {owner.spec.path_option: str(folder)}
        else:
            failed = ", ".join(b.plugin for b in self.broken)
            note = f" (plug-ins that failed to load: {failed})" if failed else ""
            raise UserError(unknown("model", name, self.models, note))
        values = {**given, **parse_options(ref.spec, passed)}
        if ref.spec.path_option and not values.get(ref.spec.path_option):
            raise UserError(f"{name} needs a folder; type -m path/to/folder.")
        made = ModelRef(ref.spec, {**ref.options, **values}, values, ref.plugin)
        try:
            return made.located()  # now: what is found later may be another one
        except UserError as error:
            raise UserError(f"{made.spec.name}: {error}") from error

    def add_commands(self, group: click.Group) -> list[Broken]:
        """Lets every plug-in add its commands; returns those that failed at it, each with its reason."""
        named, failed = self.manager.list_name_plugin(), []
        for name, plugin in named:
            others = [other for _, other in named if other is not plugin]
            try:
                self.manager.subset_hook_caller("harness_commands", others)(group=group)
            except Exception as error:  # the plug-in boundary
                failed.append(Broken(name, f"{type(error).__name__}: {error}"))
        return failed


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """``bm25:k1=0.9,b=0.4`` -> ("bm25", {"k1": "0.9", "b": "0.4"}). A colon without ``key=`` after it belongs to a path
    or, further on, to a value (``device=cuda:1``)."""
    found = re.search(r":(?=\s*\w+\s*=)", text)
    if not found:
        return text, {}
    name, rest = text[: found.start()], text[found.end() :]
    options = {}
    for item in rest.split(","):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{item!r} in {text!r} is not an option; options are written NAME:key=value,key=value.")
        options[key.strip()] = value
    return name, options


def parse_options(spec: ModelSpec, texts: Mapping[str, str]) -> dict[str, OptionValue]:
    """Typed values of the options a user passed; UserError names the option and what it takes."""
    values: dict[str, OptionValue] = {}
    for key, text in texts.items():
        if key not in spec.options:
            raise UserError(unknown(f"option of {spec.name}", key, spec.options))
        option = spec.options[key]
        prose = option.default is None and not option.choices  # a prompt's last space is part of it
        try:
            values[key] = option.parse(text if prose else text.strip())
        except ValueError as error:
            raise UserError(f"Option {key} of {spec.name}: {error}; it is {spec.options[key].help}.") from None
    return values


def load_registry(files: Iterable[Path] = ()) -> Registry:
    """Loads the catalogue, entry points of group ``harness`` and the given plug-in files, each on its own.

    HARNESS_STRICT_PLUGINS=1 raises instead of listing. A file given on the command line must load: it was asked for.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    known = catalog.catalogue()
    registry = Registry(manager, datasets=dict(known.datasets), groups=dict(known.groups))
    for entry in sorted(importlib.metadata.entry_points(group=hookspecs.PROJECT), key=lambda e: e.name):
        try:
            _register(registry, entry.name, entry.load())
        except Exception as error:  # the plug-in boundary: one broken plug-in never breaks the rest
            if os.environ.get("HARNESS_STRICT_PLUGINS") == "1":
                raise
            registry.broken.append(Broken(entry.name, f"{type(error).__name__}: {error}"))
    for file in files:
        _register_file(registry, file)
    return registry


def _register_file(registry: Registry, file: Path) -> None:
    if not file.is_file():
        raise UserError(f"There is no plug-in file {file}; --plugin takes a Python file.")
    name = file.stem
    namesake = None if hasattr(sys.modules.get(name), PLUGIN_FILE) else importlib.util.find_spec(name)
    if namesake is not None and namesake.origin != str(file.resolve()):
        raise UserError(f"{file} has the name of an installed module ({name}); rename the file.")
    found = importlib.util.spec_from_file_location(name, file.resolve())
    if found is None or found.loader is None:
        raise UserError(f"{file} is not a Python file; --plugin takes a file that ends in .py.")
    module = importlib.util.module_from_spec(found)
    setattr(module, PLUGIN_FILE, file)
    sys.modules[name] = module  # "module:callable" strings of the file must resolve
    try:
        found.loader.exec_module(module)
        _register(registry, name, module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise UserError(
            f"The plug-in file {file} failed ({type(error).__name__}: {error}); mend it and run again."
        ) from error


def _register(registry: Registry, name: str, plugin: Any) -> None:
    """Registers one plug-in and takes its descriptors; whatever is wrong with them is its own failure."""
    manager = registry.manager
    others = list(manager.get_plugins())
    manager.register(plugin, name)
    try:
        manager.check_pending()  # a misspelt hook is an error, not silence
        models = _descriptors(manager, "harness_models", others, ModelSpec)
        datasets = _descriptors(manager, "harness_datasets", others, DatasetSpec)
        for spec in [*models, *datasets]:
            if spec.name in (registry.models if isinstance(spec, ModelSpec) else registry.datasets):
                raise PluginError(f"the name {spec.name!r} is already taken")
        for each in datasets:
            if not (each.build or each.sources or each.instructions):
                raise PluginError(f"the dataset {each.name!r} has no build, no sources and no instructions to get it")
    except BaseException:
        manager.unregister(plugin)
        raise
    for model in models:
        defaults = {key: option.default for key, option in model.options.items()}
        registry.models[model.name] = ModelRef(model, defaults, {}, name)
    registry.datasets.update({d.name: d for d in datasets})


def _descriptors(manager: pluggy.PluginManager, hook: str, others: list[Any], kind: type) -> list[Any]:
    """What the newest plug-in alone yields: asked with the others, a failure could not be laid at anyone's door."""
    specs = [spec for specs in manager.subset_hook_caller(hook, others)() for spec in specs or ()]
    for spec in specs:
        if not isinstance(spec, kind):
            raise PluginError(f"{hook} gave a {type(spec).__name__}, not a {kind.__name__}")
    return specs
