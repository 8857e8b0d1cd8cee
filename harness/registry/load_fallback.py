"""Models of which only loading tells how they can be had: settled once, and remembered, before anything is keyed.

$HARNESS_HOME/trials/KEY.json holds what came of it, keyed by the model's own key and the versions of what loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.registry.model_ref import ModelRef
from harness.storage.atomic import content_key, write_json
from harness.storage.records import read_sealed, seal
from harness.storage.safe_load import fields
from harness.system.environment import versions
from harness.system.log import NOTE, note
from harness.types import ModelError, OptionValue, PluginError, Progress, UserError


class Otherwise(ModelError):
    """Raised by a plug-in's ``load``: not with these options, but with those given here, can the model be had.

    Where the descriptor's ``trial`` says beforehand that this may be, the harness takes the model so: under the label
    that it was asked for by, under the key of the options that it got, and saying why. Anywhere else it is a UserError
    that tells which options to type.
    """

    def __init__(self, reason: str, **options: OptionValue) -> None:
        """``reason`` is a clause, such as "this model's layers are not the usual ones"."""
        self.reason, self.options = reason, options
        super().__init__(
            f"{reason[:1].upper()}{reason[1:]}; type {as_typed(options)}, as in -m 'NAME:{as_typed(options)}'."
        )


class Refused(ModelError):
    """Raised by a plug-in's ``load``: with these options the model cannot be had, even if vectors of it are stored."""


FORMAT = 2
"""Of trials: 2 compares final vectors, which 1 did not."""


class TrialOutcome(NamedTuple):
    """What came of a trial."""

    options: dict[str, OptionValue]
    """Other ones, with which the model can be had; none: it is as it was asked for."""
    reason: str = ""


def settle(ref: ModelRef, home: Path, load: Callable[[], object], progress: Progress) -> ModelRef:
    """The model as it can be had. ``load`` loads it as it is; called the first time only.

    A model that cannot be loaded is returned unchanged: its error is reported when it runs. `Refused` is raised at
    once.
    """
    if not ref.on_trial:
        return ref
    typed_options = {name: value for name, value in ref.passed.items() if name != ref.spec.files.path_option}
    key = content_key([FORMAT, ref.own_key, versions(), typed_options])
    file = home / "trials" / f"{key[:32]}.json"
    verdict = _remembered(file, key)
    if verdict is None:
        try:
            verdict = _tried(load)
        except Refused:
            raise
        except (UserError, PluginError):
            return ref
        with suppress(UserError):  # a read-only home costs time, not correctness
            write_json(file, seal({"of": key, **verdict._asdict()}))
    if not verdict.options:
        return ref
    found = ref.instead(f"taken with {as_typed(verdict.options)}, because {verdict.reason}", verdict.options)
    progress(f"{NOTE}{found.label} is {found.because}", 0, 0)
    note("fallback", model=found.label, reason=found.because)
    return found


def as_typed(options: dict[str, OptionValue]) -> str:
    """Options as a user types them."""
    return ",".join(f"{name}={value}" for name, value in options.items())


def _tried(load: Callable[[], object]) -> TrialOutcome:
    try:
        load()
    except Otherwise as other:
        return TrialOutcome(other.options, other.reason)
    return TrialOutcome({})


def _remembered(file: Path, key: str) -> TrialOutcome | None:
    with suppress(OSError, ValueError):  # none yet, damaged, or another's: it is tried again
        found = fields(read_sealed(file), of=str, options=dict, reason=str)
        if found["of"] == key:
            return TrialOutcome(found["options"], found["reason"])
    return None
