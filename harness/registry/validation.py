"""Checks of what plug-ins state in their descriptors, made when they are registered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from math import isfinite
from typing import Any, get_args, get_type_hints

from harness.types import (
    SIMILARITIES,
    Counts,
    DatasetSpec,
    ModelFacts,
    ModelFiles,
    ModelSpec,
    Option,
    OptionValue,
    Packages,
    PluginError,
    Role,
    Source,
    Weights,
)

NAME = re.compile(r"\w[\w.+-]*")
"""What stands after ``-m`` or ``-d`` and in folder names."""
TARGET = re.compile(r"\w+(\.\w+)*:\w+")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
TARGETS = (
    *("load", "fingerprint", "may_fall_back", "by_options", "repository", "becomes", "locate", "training", "endpoint"),
    *("build", "key"),
)
"""Fields that name code."""


def check_model(spec: ModelSpec) -> None:
    """PluginError, naming the field, where a model's descriptor is wrong."""
    who = f"the model {spec.name!r}"
    _require(isinstance(spec.name, str) and bool(NAME.fullmatch(spec.name)), who, "name", spec.name, _NAMED)
    _fields(who, spec)
    kinds = get_args(_hints("ModelSpec")["kind"])
    _require(spec.kind in kinds, who, "kind", spec.kind, f"one of {', '.join(kinds)}")
    known = SIMILARITIES.get(spec.kind, SIMILARITIES["dense"])
    stated = spec.similarity in known or spec.similarity == ModelSpec.__dataclass_fields__["similarity"].default
    _require(stated, who, "similarity", spec.similarity, f"one of {', '.join(known)}")
    _require(bool(spec.load), who, "load", spec.load, "'module:callable'")
    _require(isinstance(spec.options, Mapping), who, "options", spec.options, "a dict of Option by name")
    for name, option in spec.options.items():
        _check_option(who, name, option)
    for group, kind in (("packages", Packages), ("files", ModelFiles), ("facts", ModelFacts)):
        part = getattr(spec, group)
        _require(isinstance(part, kind), who, group, part, f"a {kind.__name__}")
        _fields(who, part)
    for field in ("path_option", "argument"):
        chosen = getattr(spec.files, field)
        _require(not chosen or chosen in spec.options, who, field, chosen, "the name of one of its options")
    weights = spec.files.weights
    _require(weights is None or isinstance(weights, Weights), who, "weights", weights, "a Weights")
    if weights is not None:
        _check_weights(who, weights)


def check_dataset(spec: DatasetSpec) -> None:
    """PluginError, naming the field, where a dataset's descriptor is wrong."""
    who = f"the dataset {spec.name!r}"
    parts = spec.name.split("/") if isinstance(spec.name, str) else []
    _require(0 < len(parts) < 3 and all(map(NAME.fullmatch, parts)), who, "name", spec.name, _NAMED)
    _fields(who, spec)
    _require(bool(NAME.fullmatch(spec.split)), who, "split", spec.split, _NAMED)
    for source in spec.sources:
        whose = f"a source of {who}"
        _require(isinstance(source, Source), who, "sources", spec.sources, "a tuple of Source")
        kinds = get_args(_hints("Source")["kind"])
        _require(source.kind in kinds, whose, "kind", source.kind, f"one of {', '.join(kinds)}")
        _fields(whose, source)
        _require(bool(source.place), whose, "place", source.place, "where to find it")
        _require(not source.md5 or _hexadecimal(source.md5, 32), whose, "md5", source.md5, "32 hexadecimal digits")
    _require(spec.counts is None or isinstance(spec.counts, Counts), who, "counts", spec.counts, "a Counts")
    if spec.counts is not None:
        _fields(f"the counts of {who}", spec.counts)
    if not (spec.build or spec.sources or spec.instructions):
        raise PluginError(f"{who} has no build, no sources and no instructions to get it")


_NAMED = "a name of letters, digits and . _ + - (it is typed, and names a folder)"


def _require(right: bool, who: str, field: str, value: object, wanted: str) -> None:
    if not right:
        raise PluginError(f"{field} of {who} is {value!r}; it must be {wanted}")


@cache
def _hints(kind: str) -> dict[str, Any]:
    """Field -> its type, of a descriptor's class by name."""
    return get_type_hints(globals()[kind])


def _fields(who: str, descriptor: object) -> None:
    """Every field whose type alone says what is right."""
    for field, kind in _hints(type(descriptor).__name__).items():
        value: Any = getattr(descriptor, field)
        if kind is str:
            _require(isinstance(value, str), who, field, value, "a string")
            fits = field not in TARGETS or not value or bool(TARGET.fullmatch(value))
            _require(fits, who, field, value, "'module:callable'")
        elif kind is bool:
            _require(isinstance(value, bool), who, field, value, "True or False")
        elif kind in (int, float):
            number = isinstance(value, int | kind) and not isinstance(value, bool)
            _require(number and isfinite(value) and value >= 0, who, field, value, "a number, 0 or more")
        elif kind == tuple[str, ...]:
            named = isinstance(value, tuple | list) and all(isinstance(each, str) and each for each in value)
            _require(named, who, field, value, "a tuple of strings")
        elif field == "sources":
            _require(isinstance(value, tuple | list), who, field, value, "a tuple of Source")


def _check_option(who: str, name: object, option: object) -> None:
    whose = f"the option {name!r} of {who}"
    _require(isinstance(name, str) and bool(re.fullmatch(r"\w+", name)), who, "options", name, "named by letters")
    if not isinstance(option, Option):
        raise PluginError(f"{whose} is of type {type(option).__name__}; it must be an Option")
    default: Any = option.default
    _require(isinstance(default, OptionValue), whose, "default", default, "text, a number, True, False or None")
    _require(not isinstance(default, float) or isfinite(default), whose, "default", default, "finite")
    _require(isinstance(option.help, str), whose, "help", option.help, "a string")
    _require(option.role in (None, *get_args(Role)), whose, "role", option.role, "query, document or None")
    listed = isinstance(option.choices, tuple | list)
    _require(listed, whose, "choices", option.choices, "a tuple, () where any value will do")
    kind = str if default is None else type(default)
    alike = all(type(choice) in ((int, float) if kind is float else (kind,)) for choice in option.choices)
    _require(alike, whose, "choices", option.choices, f"values of the default's type, {kind.__name__}")
    among = default is None or not option.choices or default in option.choices
    _require(among, whose, "default", default, f"one of its choices, {', '.join(map(str, option.choices))}")
    counted = isinstance(default, int | float) and not isinstance(default, bool)
    for field in ("minimum", "maximum"):
        bound: Any = getattr(option, field)
        number = isinstance(bound, int | float) and not isinstance(bound, bool) and isfinite(bound)
        _require(bound is None or number, whose, field, bound, "a number or None")
        _require(bound is None or counted, whose, field, bound, "None, for its default is not a number")
    least, most = option.minimum, option.maximum
    if counted:
        fits = (least is None or default >= least) and (most is None or default <= most)
        _require(fits, whose, "default", default, f"from {least} to {most}, its minimum and maximum")


def _check_weights(who: str, weights: Weights) -> None:
    whose = f"the weights of {who}"
    _fields(whose, weights)
    _require(bool(NAME.fullmatch(weights.name)), whose, "name", weights.name, _NAMED)
    _require(bool(REPOSITORY.fullmatch(weights.hub)), whose, "hub", weights.hub, "'organisation/name@commit'")
    stated = isinstance(weights.sha256, Mapping) and weights.sha256
    _require(bool(stated), whose, "sha256", weights.sha256, "a dict of file -> SHA-256, with every file")
    for file, digest in weights.sha256.items():
        inside = isinstance(file, str) and file and not file.startswith("/") and ".." not in file.split("/")
        _require(bool(inside), whose, "sha256", file, "keyed by files inside the folder")
        _require(_hexadecimal(digest, 64), whose, f"sha256 of {file}", digest, "64 hexadecimal digits")


def _hexadecimal(text: object, digits: int) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(rf"[0-9a-f]{{{digits}}}", text))
