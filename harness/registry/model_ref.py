"""A model as it was asked for: its descriptor with options settled, its label, its key, and how it is loaded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import described
from harness.registry.option_values import printed, written
from harness.storage.atomic import content_key, sha256_file
from harness.types import ModelError, ModelSpec, Options, OptionValue, PluginError, Storage, UserError, resolve

DISTRIBUTION = "retrieval-harness"
FACTS = ("dim", "flops_per_token", "parameters", "max_tokens", "licence")
"""What a descriptor states of a model for plans and reports."""


@dataclass(frozen=True)
class ModelRef:
    """A model with its options settled: what a cell is made of."""

    spec: ModelSpec
    options: Mapping[str, OptionValue]
    passed: Mapping[str, OptionValue]
    plugin: str = ""
    members: tuple[ModelRef, ...] = ()
    """What a fusion, a reranker or a transform is made of."""
    storage: Storage = "float32"
    """How a dense model's document vectors are kept."""
    named: str = ""
    """Its label where that is not of its own making: the one it was asked for by before it got other options."""
    because: str = ""
    """What those are, and why."""

    @property
    def label(self) -> str:
        """Name of the row and of its folder: the model, its members and every option that was passed.

        For a checkpoint, its folder's name and six digits of its key, so that another checkpoint in a folder of the
        same name is another row.
        """
        if self.named:
            return self.named
        passed = dict(self.passed) | ({"storage": self.storage} if self.storage != "float32" else {})
        name, path = self.spec.name, self.spec.files.path_option
        if path and passed.get(path):
            passed[path] = self._folder(str(passed[path]))
            name = name if self.members else str(passed.pop(path))
        if passed.get(self.spec.files.argument):
            name += f":{passed.pop(self.spec.files.argument)}"
        name += f"({','.join(member.label for member in self.members)})" if self.members else ""
        extras = ",".join(f"{key}={written(value)}" for key, value in sorted(passed.items()))
        return f"{name}:{extras}" if extras else name

    def _folder(self, path: str) -> str:
        """A folder's name with six digits of the key; the path alone where its files cannot be read."""
        with suppress(ModelError, PluginError):
            return f"{printed(Path(path).expanduser().resolve().name)}@{self.own_key[:6]}"
        return printed(path)

    @property
    def has_vectors(self) -> bool:
        """Whether it is searched by vectors: its own, or those of a model that it transforms."""
        return self.spec.kind in ("dense", "transform")

    @property
    def vectors(self) -> str:
        """The kind of vectors that it is searched by: ``dense``, ``sparse`` or another kind; empty if by none."""
        if self.has_vectors:
            return "dense"
        return self.spec.kind if self.spec.kind == "sparse" else ""

    def replace(self, **options: OptionValue) -> ModelRef:
        """The same model with some options changed silently (not part of its label)."""
        return replace(self, options={**self.options, **options})

    def instead(self, because: str, options: Options) -> ModelRef:
        """The same model under the same label, with options that it can be had with."""
        return replace(self, options={**self.options, **options}, named=self.label, because=because)

    @property
    def fallbacks(self) -> dict[str, str]:
        """Label -> why, of itself and its members where they are not as they were asked for."""
        members = {label: why for member in self.members for label, why in member.fallbacks.items()}
        return members | ({self.label: self.because} if self.because else {})

    @property
    def on_trial(self) -> bool:
        """Whether only loading tells if it can be had with these options."""
        return bool(self.spec.facts.may_fall_back and _call(self.plugin, self.spec.facts.may_fall_back, self.options))

    def passing(self, **options: OptionValue) -> ModelRef:
        """The same model with these options passed as well, as far as it has them, and its members likewise.

        An option that was passed already keeps its value.
        """
        known = {key: value for key, value in options.items() if key in self.spec.options}
        added = {**known, **self.passed}
        members = tuple(member.passing(**options) for member in self.members)
        return replace(self, options={**self.options, **added}, passed=added, members=members)

    def stored(self, storage: Storage) -> ModelRef:
        """The same model, its document vectors (or those of its members) kept so."""
        members = tuple(member.stored(storage) for member in self.members)
        return replace(self, members=members, storage=storage if self.spec.kind == "dense" else self.storage)

    def of_folder(self) -> ModelRef:
        """The same model with the descriptor that runs its folder, where only the folder tells the kind.

        UserError for an option that models of this kind do not have.
        """
        spec: ModelSpec | None = None
        if self.spec.files.becomes and self.options.get("path"):
            spec = _call(self.plugin, self.spec.files.becomes, self.options)
        if spec is None:
            return self
        if odd := [name for name in self.passed if name not in spec.options]:
            known = ", ".join(name for name in spec.options if name not in ("path", "name"))
            raise UserError(f"{self.label} is a {spec.kind} model, which has no option {odd[0]}; it has {known}.")
        options = {name: self.options.get(name, option.default) for name, option in spec.options.items()}
        storage: Storage = self.storage if spec.kind == "dense" else "float32"
        return replace(self, spec=spec, options=options, storage=storage)

    def located(self) -> ModelRef:
        """The same model with its folder settled, where it is one to be found; UserError when there is none."""
        return (
            self.replace(path=_call(self.plugin, self.spec.files.locate, self.options))
            if self.spec.files.locate
            else self
        )

    @property
    def missing_folder(self) -> bool:
        """Whether it is a model to be found that was not looked for, or does not exist yet."""
        return bool(self.spec.files.locate) and not self.options.get("path")

    @property
    def repository(self) -> str:
        """The repository of the hub that holds its files, with the commit where one is asked for; empty: none."""
        return str(_call(self.plugin, self.spec.files.repository, self.options)) if self.spec.files.repository else ""

    @cached_property
    def training(self) -> dict[str, Any]:
        """How it was trained, as far as that is on record."""
        return dict(_call(self.plugin, self.spec.facts.training, self.options)) if self.spec.facts.training else {}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the datasets whose judgements the model or any member saw."""
        members = (name for member in self.members for name in member.trained_on)
        return tuple(dict.fromkeys([*self.spec.trained_on, *self.training.get("trained_on", ()), *members]))

    @cached_property
    def own_fingerprint(self) -> dict[str, Any]:
        """What determines the model's output, members and storage apart; never its name alone. Known unloaded."""
        if self.spec.fingerprint:
            own = dict(_call(self.plugin, self.spec.fingerprint, self.options))
        else:
            options = {key: self.options[key] for key in sorted(self.options)}
            own = {"source": sha256_file(_source(self.spec)), "options": options}
        return {"model": self.spec.name if not self.spec.files.path_option else "", "kind": self.spec.kind, **own}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What determines the model's output, its members' keys and how its vectors are kept included."""
        members = {"members": [member.key for member in self.members]} if self.members else {}
        return {**self.own_fingerprint, **members, **({"storage": "float16"} if self.storage == "float16" else {})}

    @property
    def own_key(self) -> str:
        """Hex SHA-256 of the fingerprint without members and storage: that of the vectors as computed."""
        return content_key(self.own_fingerprint)

    @property
    def key(self) -> str:
        """Hex SHA-256 of the fingerprint."""
        return content_key(self.fingerprint)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``dim``, ``flops_per_token``, ``parameters``, ``max_tokens`` and ``licence``, as far as they are stated.

        They are known without loading the model.
        """
        facts = self.spec.facts
        stated = {name: getattr(facts, name) for name in FACTS}
        read = _call(self.plugin, facts.by_options, self.options) if facts.by_options else {}
        return {name: value for name, value in (stated | dict(read)).items() if value}

    @property
    def figures(self) -> dict[str, float]:
        """``dim`` and ``flops_per_token``, as far as they are stated."""
        return {name: float(self.facts[name]) for name in ("dim", "flops_per_token") if name in self.facts}

    @cached_property
    def _required(self) -> tuple[tuple[str, ...], str]:
        """The modules it needs with these options, and the extra that installs them."""
        if not self.spec.packages.by_options:
            return self.spec.packages.modules, self.spec.packages.extra
        modules, extra = _call(self.plugin, self.spec.packages.by_options, self.options)
        return tuple(modules), str(extra)

    def missing(self) -> list[str]:
        """Modules the model needs and this environment lacks."""
        return [name for name in self._required[0] if not _installed(name)]

    def require(self) -> None:
        """UserError where it or a member needs a package that is not installed."""
        if lacking := self.missing():
            raise UserError(missing_extra(self.spec.name, lacking, self._required[1]))
        for member in self.members:
            member.require()

    def load(self) -> Any:
        """The loaded model.

        UserError if a package is missing, ModelError if the plug-in cannot load the model, PluginError if its code
        fails.
        """
        self.require()
        try:
            return _call(self.plugin, self.spec.load, self.options)
        except ModelError:
            raise
        except UserError as error:
            raise ModelError(str(error)) from error


def missing_extra(what: str, lacking: Sequence[str], extra: str) -> str:
    """The sentence for packages that are not installed, with the pip line to type."""
    line = f'"{DISTRIBUTION}[{extra}]"' if extra else " ".join(lacking)
    listed = " and ".join(filter(None, [", ".join(lacking[:-1]), lacking[-1]]))
    return (
        f"{what} needs {listed}, which {'is' if len(lacking) == 1 else 'are'} not installed; type: pip install {line}"
    )


def _installed(module: str) -> bool:
    with suppress(ImportError):  # of the package that the module is in
        return importlib.util.find_spec(module) is not None
    return False


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
    except BaseException as error:  # the plug-in boundary
        reason = described(error, target.partition(":")[0])
        raise PluginError(f"plug-in {plugin or target}: {target} failed: {reason}") from error
