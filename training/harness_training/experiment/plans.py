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
STUDY = ("baseline", "isotropy", "frozen")
"""The experiments that ``all`` means."""


Axes = Mapping[str, list[Any]]
"""Setting -> the values that it is swept over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of an experiment."""

    experiment: str
    run: str
    """Settings that differ from the experiment, then the seed: ``isotropy_weight=0.05,seed42``."""
    settings: Settings


def plans(text: str, sets: tuple[str, ...], sweeps: tuple[str, ...], seeds: int) -> list[Plan]:
    """The runs of some experiments: every combination of the swept values with every seed.

    An experiment's own lists of values are swept too, unless ``sets`` or ``sweeps`` give that setting.

    Args:
        text: An experiment's name, ``all``, or a TOML file.
        sets: ``key=value``, for every run.
        sweeps: ``key=value,value...``.
        seeds: Number of seeds, counted from the setting ``seed``.
    """
    fixed = assignments(sets, "--set")
    typed: Axes = {name: _values(name, values) for name, values in assignments(sweeps, "--sweep").items()}
    if seeds > 1 and "seed" in typed:
        raise UserError("Seeds are given twice; omit --seeds or --sweep seed=....")
    found: dict[tuple[str, str], Plan] = {}
    for name, (experiment, own) in _experiments(text).items():
        axes = {key: values for key, values in own.items() if key not in fixed} | dict(typed)
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


def _experiments(text: str) -> dict[str, tuple[Settings, Axes]]:
    """Name -> settings and own sweeps of the experiments that a name, ``all`` or a file stands for."""
    own = _read(OWN)
    defaults = changed(Settings(), own.pop(DEFAULTS), OWN.name)
    if text in own or text == ALL:
        return {name: _experiment(defaults, own[name], OWN.name) for name in (STUDY if text == ALL else (text,))}
    if text.endswith(".toml") or looks_like_path(text):
        file = Path(text).expanduser()
        return {file.stem: _experiment(defaults, _flat(file), str(file))}
    raise UserError(f"{unknown('experiment', text, [*own, ALL])} One of your own is a file: harness train mine.toml.")


def _experiment(defaults: Settings, values: Mapping[str, Any], where: str) -> tuple[Settings, Axes]:
    axes = {name: value for name, value in values.items() if isinstance(value, list)}
    for name, swept in axes.items():
        if not swept:
            raise UserError(f"{where}: {name} is an empty list; give the values to sweep, or one value.")
        for value in swept:
            parse(name, value, where)
    return changed(defaults, {name: value for name, value in values.items() if name not in axes}, where), axes


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
