"""Reads experiments by name or from files and expands sweeps into runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.catalog import looks_like_path, unknown
from harness.storage.safe_load import read_toml
from harness.types import UserError
from harness_training.experiment.settings import Settings, assignments, changed, parse

OWN = Path(__file__).with_name("experiments.toml")
DEFAULTS, ALL = "defaults", "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of an experiment."""

    experiment: str
    run: str
    """Settings that differ from the experiment, then the seed: ``isotropy_weight=0.05,seed42``."""
    settings: Settings


def plans(text: str, sets: tuple[str, ...], sweeps: tuple[str, ...], seeds: int) -> list[Plan]:
    """The runs of some experiments: every combination of the swept values with every seed.

    Args:
        text: An experiment's name, ``all``, or a TOML file.
        sets: ``key=value``, for every run.
        sweeps: ``key=value,value...``.
        seeds: Number of seeds, counted from the setting ``seed``.
    """
    fixed = assignments(sets, "--set")
    axes = {name: _values(name, values) for name, values in assignments(sweeps, "--sweep").items()}
    if seeds > 1 and "seed" in axes:
        raise UserError("Seeds are given twice; omit --seeds or --sweep seed=....")
    found: dict[tuple[str, str], Plan] = {}
    for name, experiment in _experiments(text).items():
        start = changed(experiment, fixed, "--set")
        for combination in itertools.product(*axes.values()):
            swept = changed(start, dict(zip(axes, combination, strict=True)), "--sweep")
            for seed in range(swept.seed, swept.seed + seeds):
                settings = changed(swept, {"seed": seed})
                plan = Plan(name, _name(settings, experiment), settings)
                found.setdefault((name, plan.run), plan)
    return list(found.values())


def _values(name: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",") if value.strip()]
    if not values:
        raise UserError(f"--sweep {name}= names no values; type it as in --sweep isotropy_weight=0,0.05,0.2.")
    for value in values:
        parse(name, value, "--sweep")
    return values


def _name(settings: Settings, experiment: Settings) -> str:
    """Readable name that is valid as a folder name."""
    different = settings.differing(experiment)
    parts = [f"{name}={_short(value)}" for name, value in different.items() if name != "seed"]
    return ",".join([*parts, f"seed{settings.seed}"])


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.+-]", "_", Path(text).name if "/" in text else text)


def _experiments(text: str) -> dict[str, Settings]:
    own = _read(OWN)
    defaults = changed(Settings(), own.pop(DEFAULTS), OWN.name)
    named = {name: changed(defaults, values, OWN.name) for name, values in own.items()}
    if text in named:
        return {text: named[text]}
    if text == ALL:
        return named
    if text.endswith(".toml") or looks_like_path(text):
        file = Path(text).expanduser()
        return {file.stem: changed(defaults, _flat(file), str(file))}
    raise UserError(f"{unknown('experiment', text, [*named, ALL])} One of your own is a file: harness train mine.toml.")


def _flat(file: Path) -> Mapping[str, Any]:
    values = _read(file)
    if tables := [name for name, value in values.items() if isinstance(value, dict)]:
        raise UserError(f"{file} holds the table [{tables[0]}]; an experiment's file is plain lines: setting = value.")
    return values


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file)
    except FileNotFoundError:
        raise UserError(
            f"There is no file {file}; name baseline, isotropy, frozen, all or a file of your own."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); write lines such as isotropy_weight = 0.05.") from None
