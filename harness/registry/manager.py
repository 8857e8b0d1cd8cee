"""Plug-ins: found one by one, a broken one listed with its reason while the rest keep working."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import pluggy

from harness.datasets import catalog
from harness.datasets.catalog import unknown
from harness.errors import described, trace
from harness.registry import hookspecs
from harness.registry.model_ref import ModelRef, options_of
from harness.registry.option_values import Exact
from harness.registry.parser import check_members, is_folder, parse, several
from harness.registry.protocols import KINDS as COMPOSITES
from harness.registry.validation import REPOSITORY, check_dataset, check_model
from harness.types import DatasetSpec, ModelSpec, OptionValue, PluginError, UserError

PLUGIN_FILE = "__harness_plugin_file__"
"""Attribute that marks a module as loaded by ``--plugin``."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that could not be loaded, and why."""

    plugin: str
    reason: str
    trace: str = ""
    """The traceback."""


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

    def texts(self, texts: Iterable[str]) -> list[str]:
        """What stands after ``-m``, each model once: ``bm25,minilm`` names two, where all of its parts are models."""
        return list(dict.fromkeys(each for text in texts for each in self._parts(text)))

    def _parts(self, text: str) -> list[str]:
        parts = [text] if is_folder(text) else several(text)
        names = [parse(part).name for part in parts] if len(parts) > 1 else []
        known = all(name in self.models or is_folder(name) or name.partition(":")[0] in self.models for name in names)
        return parts if known or not any(re.search(r"[\s:]", part) for part in parts) else [text]

    def model(self, text: str, *, located: bool = True) -> ModelRef:
        """Resolves ``name``, ``path/to/folder`` and ``name(member,member)``, any of them with ``:key=value,...``.

        Without ``located`` the folder of a model that is to be found (a trained one) is not looked for.
        """
        name, inside, passed = parse(text)
        ref, given = self._named(name)
        if ref.spec.files.otherwise and ref.spec.files.otherwise[0] in passed:
            ref = self.models[ref.spec.files.otherwise[1]]
        ref = replace(ref, options={**ref.options, **given}).of_folder() if ref.spec.files.becomes else ref
        check_members(ref.spec, inside, text)
        members = tuple(self.model(member) for member in inside or ())
        if len({member.label for member in members}) < len(members):
            raise UserError(f"{text} names a model twice; leave one out, or give it other options.")
        if ref.spec.kind == "transform" and not members[0].has_vectors:
            kind = members[0].spec.kind
            raise UserError(
                f"{name} changes vectors, and {members[0].label} is a {kind} model, which has none of its own."
            )
        if ref.spec.kind == "pooling" and not (members[0].vectors == "multivector" or members[0].undecided):
            raise UserError(
                f"{name} changes token vectors, and {members[0].label} is a {members[0].spec.kind} model; name a "
                f"multi-vector one."
            )
        values = {**given, **parse_options(ref.spec, passed)}
        if ref.spec.files.argument and not values.get(ref.spec.files.argument):
            raise UserError(f"{ref.spec.name} needs a name after a colon; type -m {ref.spec.name}:organisation/name.")
        if ref.spec.files.path_option and not values.get(ref.spec.files.path_option):
            typed = f"{text}:{ref.spec.files.path_option}=path/to/folder" if members else "-m path/to/folder"
            raise UserError(f"{name} needs a folder; type {typed}.")
        own = {key: value for key, value in values.items() if key in ref.spec.options}
        cut = int(values.get("truncate_dim") or 0) if "truncate_dim" not in own else 0
        made = replace(ref, options={**ref.options, **own}, passed=values, members=members, truncate_dim=cut)
        try:
            return made.located() if located else made  # now: what is found later may be another one
        except UserError as error:
            raise UserError(f"{made.spec.name}: {error}") from error

    def _named(self, name: str) -> tuple[ModelRef, dict[str, OptionValue]]:
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self.models and (argument := self.models[prefix].spec.files.argument):
            if rest and self.models[prefix].spec.files.repository and is_folder(str(catalog.as_path(rest))):
                return self._named(rest if "/" in rest or rest.startswith("~") else f"./{rest}")
            return self.models[prefix], {argument: rest}
        looks_like_path = "/" in name or os.sep in name or name.startswith((".", "~"))
        if name in self.models and not looks_like_path:
            return self.models[name], {}
        if looks_like_path or is_folder(name):
            folder = catalog.as_path(name)
            if not is_folder(str(folder)):
                return self._of_hub(name)
            # A reranker's folder is an option like any other: no model is made of a folder alone by it.
            opens = (m for m in self.models.values() if m.spec.files.path_option and m.spec.kind not in COMPOSITES)
            owner = next(opens, None)
            if owner is None:
                raise UserError(
                    f"No plug-in opens model folders such as {name}; `harness models` lists what is installed."
                )
            return owner, {owner.spec.files.path_option: str(folder)}
        raise UserError(self._unknown(name))

    def _of_hub(self, name: str) -> tuple[ModelRef, dict[str, OptionValue]]:
        """The model of that name on the Hugging Face hub, where it can be one; UserError for a missing folder."""
        place = name.partition("/")[0]
        opens = next((m for m in self.models.values() if m.spec.files.repository and m.spec.files.argument), None)
        could = opens is not None and REPOSITORY.fullmatch(name) and not place.startswith(".")
        if opens is None or not could or is_folder(place):  # then a folder in it was meant
            hint = f"; for a model of the hub, type -m {opens.spec.name}:{name}" if opens and could else ""
            raise UserError(f"There is no folder {name}{hint}; `harness models` lists the models known by name.")
        return opens, {opens.spec.files.argument: name}

    def _unknown(self, name: str) -> str:
        """The sentence for a name that no model has: the nearest ones, or how a model of the hub is named."""
        prefix = next(
            (m.spec.name for m in self.models.values() if m.spec.files.repository and m.spec.files.argument), ""
        )
        pinned = {
            ref.spec.files.weights.hub.partition("@")[0]: ref.spec.name
            for ref in self.models.values()
            if ref.spec.files.weights
        }
        bare = {hub.rpartition("/")[2].lower(): hub for hub in pinned}
        if prefix and (near := difflib.get_close_matches(name.lower(), bare, n=1, cutoff=0.8)):
            hub = bare[near[0]]
            same = f"the same weights are -m {pinned[hub]}"
            return f"There is no model {name!r}; type -m {prefix}:{hub} ({same})."
        failed = ", ".join(b.plugin for b in self.broken)
        note = f" (plug-ins that failed to load: {failed})" if failed else ""
        sentence = unknown("model", name, self.models, note)
        if not prefix or "did you mean" in sentence:
            return sentence
        return f"{sentence} For a model of the hub, type -m {prefix}:organisation/name."

    def add_commands(self, group: click.Group) -> list[Broken]:
        """Lets every plug-in add its commands; returns those that failed at it, each with its reason."""
        named, failed = self.manager.list_name_plugin(), []
        for name, plugin in named:
            others = [other for _, other in named if other is not plugin]
            try:
                self.manager.subset_hook_caller("harness_commands", others)(group=group)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the plug-in boundary
                failed.append(Broken(name, described(error, _module(plugin)), trace(error)))
        return failed


def parse_options(spec: ModelSpec, texts: Mapping[str, str]) -> dict[str, OptionValue]:
    """Typed values of the options a user passed; UserError names the option and what it takes."""
    values: dict[str, OptionValue] = {}
    known = options_of(spec)
    for key, text in texts.items():
        if key not in known:
            raise UserError(unknown(f"option of {spec.name}", key, known))
        option = known[key]
        prose = isinstance(option.default, str | None) and not option.choices  # a prompt's last space is part of it
        try:
            values[key] = option.parse(str(text) if prose or isinstance(text, Exact) else text.strip())
        except ValueError as error:
            raise UserError(f"Option {key} of {spec.name}: {error}; it is {option.help}.") from None
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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the plug-in boundary: one broken plug-in never breaks the rest
            if os.environ.get("HARNESS_STRICT_PLUGINS") == "1":
                raise
            registry.broken.append(Broken(entry.name, _why(error, entry.module), trace(error)))
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
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise UserError(f"The plug-in file {file} failed: {_why(error, name)}; fix it and run again.") from error


def _register(registry: Registry, name: str, plugin: Any) -> None:
    """Registers one plug-in and takes its descriptors; a wrong descriptor is a failure of the plug-in."""
    manager = registry.manager
    others = list(manager.get_plugins())
    manager.register(plugin, name)
    try:
        manager.check_pending()  # a misspelt hook is an error, not silence
        if not manager.get_hookcallers(plugin):
            raise PluginError("no function in it is marked @hookimpl, as in: @hookimpl def harness_models(): ...")
        models = _descriptors(manager, "harness_models", others, ModelSpec)
        datasets = _descriptors(manager, "harness_datasets", others, DatasetSpec)
        for model in models:
            check_model(model)
        for dataset in datasets:
            check_dataset(dataset)
        for named, known in ((models, registry.models), (datasets, registry.datasets)):
            names = [spec.name for spec in named]
            if taken := next((each for each in names if each in known or names.count(each) > 1), None):
                raise PluginError(f"the name {taken!r} is already taken")
    except BaseException:
        manager.unregister(plugin)
        raise
    for model in models:
        defaults = {key: option.default for key, option in model.options.items()}
        registry.models[model.name] = ModelRef(model, defaults, {}, name)
    registry.datasets.update({d.name: d for d in datasets})


def _why(error: BaseException, module: str) -> str:
    """Why a plug-in cannot be registered: what is wrong with its descriptors, or what its code raised, and where."""
    return str(error) if isinstance(error, PluginError) else described(error, module)


def _module(plugin: Any) -> str:
    return str(getattr(plugin, "__name__", "") or type(plugin).__module__)


def _descriptors(manager: pluggy.PluginManager, hook: str, others: list[Any], kind: type) -> list[Any]:
    """What the newest plug-in alone yields: asked with the others, a failure could not be laid at anyone's door."""
    specs = [spec for specs in manager.subset_hook_caller(hook, others)() for spec in specs or ()]
    for spec in specs:
        if not isinstance(spec, kind):
            raise PluginError(f"{hook} gave a {type(spec).__name__}, not a {kind.__name__}")
    return specs
