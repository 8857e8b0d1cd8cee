"""Named datasets, groups and suites, from ``catalog.toml`` and from suite files of the user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.errors import described
from harness.storage.atomic import content_key
from harness.storage.safe_load import parse_toml, read_toml
from harness.types import Counts, DatasetSpec, PluginError, Source, UserError, resolve

FILE = Path(__file__).with_name("catalog.toml")
NAMED = 20
"""Number of known names in a message."""
IR_DATASETS = "irds:"
"""What a name begins with that is one of the package ir_datasets."""
Status = Literal["ready", "built on first use", "needs fetch", "needs licence"]


class Suite(NamedTuple):
    """A named list of datasets with one average."""

    name: str
    datasets: tuple[str, ...]
    """Names of datasets and groups; in a suite of the user also paths of folders."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The datasets, groups and suites of the harness itself, without plug-ins."""

    datasets: dict[str, DatasetSpec]
    """Includes the members of groups (``cqadupstack/android``)."""
    groups: dict[str, tuple[str, ...]]
    """Group -> its datasets. A group counts as one dataset: their unweighted mean."""
    suites: dict[str, tuple[str, ...]]
    """Suite -> names of datasets and groups."""


@cache
def catalogue() -> Catalogue:
    """The catalogue that comes with the harness."""
    return parse(FILE.read_text(encoding="utf-8"))


def parse(text: str) -> Catalogue:
    """Parses a catalogue; KeyError or TypeError if it does not have the form that ``catalog.toml`` describes."""
    content = parse_toml(text)
    datasets = {name: _spec(name, entry) for name, entry in content["datasets"].items()}
    groups: dict[str, tuple[str, ...]] = {}
    for group, entry in content.get("groups", {}).items():
        members = {f"{group}/{name}": entry | figures for name, figures in entry.pop("members").items()}
        for member in members.values():
            member["summary"] = f"one of {len(members)} in {group}: {entry['summary']}"
        datasets |= {name: _spec(name, member) for name, member in members.items()}
        groups[group] = tuple(members)
    suites = {name: tuple(members) for name, members in content["suites"].items()}
    return Catalogue(datasets, groups, suites)


def _spec(name: str, entry: Mapping[str, Any]) -> DatasetSpec:
    sources = []
    if "zip" in entry:
        sources.append(Source("zip", entry["zip"], md5=entry.get("md5", ""), bytes=entry.get("bytes", 0), root=name))
    if "hub" in entry:
        sources.append(Source("hub", entry["hub"], judgements=entry.get("judgements_hub", "")))
    if "ir_datasets" in entry:
        _, _, member = name.partition("/")
        sources.append(Source("ir_datasets", f"{entry['ir_datasets']}/{member}".rstrip("/")))
    same = ("summary", "split", "exclude_self", "citation", "licence", "tokens", "corpus", "instructions")
    return DatasetSpec(
        name=name,
        sources=tuple(sources),
        counts=Counts(entry["documents"], entry["queries"], entry["judgements"]),
        **{key: entry[key] for key in same if key in entry},
    )


def suite(text: str) -> Suite:
    """A suite by name or from a file; UserError with similar names if there is none."""
    suites = catalogue().suites
    if text in suites:
        return Suite(text, suites[text])
    if text.endswith(".toml") or looks_like_path(text):
        return _read_suite(as_path(text))
    raise UserError(unknown("suite", text, suites) + " A suite of your own is a file: --suite path/to/suite.toml.")


def _read_suite(path: Path) -> Suite:
    """Reads ``name`` and ``datasets`` of a TOML file; folders are relative to the file."""
    wanted = 'it needs two lines such as name = "mine" and datasets = ["scifact", "./folder"]'
    try:
        content = read_toml(path)
    except OSError as error:
        raise UserError(f"The suite {path} cannot be read ({error.strerror}); {wanted}.") from error
    except ValueError as error:
        raise UserError(f"The suite {path} is not TOML ({error}); {wanted}.") from error
    name, members = content.pop("name", path.stem), content.pop("datasets", None)
    named = isinstance(name, str) and bool(name.strip())
    listed = isinstance(members, list) and bool(members) and all(isinstance(each, str) for each in members)
    if not named or not listed or content:
        raise UserError(f"The suite {path} is not valid ({_fault(content)}); {wanted}.")
    known = {*catalogue().datasets, *catalogue().groups}
    found = [m if m in known or not looks_like_path(m) else str(path.parent / as_path(m)) for m in members]
    return Suite(name, tuple(dict.fromkeys(found)))


def _fault(rest: Mapping[str, Any]) -> str:
    return f"unknown key {next(iter(rest))!r}" if rest else "its name or its list of datasets is missing or wrong"


def labels(entry: str) -> tuple[str, ...]:
    """The dataset names, as in results, of an entry of a suite: a group's members, or a folder's name."""
    if entry in catalogue().groups:
        return catalogue().groups[entry]
    if entry in catalogue().datasets or not looks_like_path(entry):
        return (entry,)
    folder = Path(entry)
    try:
        stated = read_toml(folder / "dataset.toml").get("name")
    except (OSError, ValueError):  # reported when the dataset is opened
        stated = None
    return (stated if isinstance(stated, str) and stated else folder.resolve().name,)


def as_path(text: str) -> Path:
    """The path that a user typed, with ~ expanded; UserError if ~user does not exist."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"The path {text[:80]!r} cannot be found ({error}); type it without the ~.") from None


def looks_like_path(text: str) -> bool:
    """Whether the text has the form of a path. A known name takes precedence."""
    return ("/" in text or os.sep in text or text.startswith((".", "~"))) and not text.startswith(IR_DATASETS)


def from_ir_datasets(text: str) -> DatasetSpec | None:
    """The dataset of ``irds:IDENTIFIER``, which the package ir_datasets downloads; None for another text."""
    identifier = text.removeprefix(IR_DATASETS)
    if identifier == text or not identifier:
        return None
    return DatasetSpec(text, f"{identifier} of ir_datasets", sources=(Source("ir_datasets", identifier),))


def place(spec: DatasetSpec, home: Path) -> Path:
    """The folder of a named dataset: its name and a key of everything that its content depends on.

    The content of a dataset under licence depends on the original files: the latest conversion is used.
    """
    if spec.key:
        return home / "datasets" / f"{spec.name}-{call(spec, spec.key)}"
    if not spec.sources:
        stated = (home / "datasets").glob(f"{spec.name}-{'[0-9a-f]' * 12}/dataset.toml")
        last = max(stated, key=lambda file: file.stat().st_mtime_ns, default=None)
        return last.parent if last else home / "datasets" / spec.name
    counts = asdict(spec.counts) if spec.counts else {}
    first = spec.sources[0]
    key = content_key([counts, spec.split, spec.exclude_self, first.place, first.md5])[:12]
    return home / "datasets" / f"{spec.name}-{key}"


def status(spec: DatasetSpec, home: Path) -> Status:
    """The status of a named dataset on this machine."""
    if place(spec, home).is_dir():
        return "ready"
    if spec.build:
        return "built on first use"
    return "needs fetch" if spec.sources else "needs licence"


def call(spec: DatasetSpec, target: str, *given: Path) -> Any:
    """Calls the code of a dataset; any error that it raises becomes a PluginError with the name of the dataset."""
    try:
        return resolve(target)(*given)
    except (UserError, PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:  # plug-in code may raise anything
        reason = described(error, target.partition(":")[0])
        raise PluginError(f"dataset {spec.name}: {target} failed: {reason}") from error


def unknown(what: str, name: str, known: Iterable[str], note: str = "") -> str:
    """The error message for an unknown name, with similar names."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:NAMED]) or 'none'}{rest}."
    return f"There is no {what} {name!r}{note}; {hint}"
