"""The hooks a plug-in may implement. Descriptors only: listing models must cost nothing."""

from __future__ import annotations

from collections.abc import Iterable

import click
import pluggy

from harness.types import DatasetSpec, ModelSpec

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def harness_models() -> Iterable[ModelSpec]:
    """Models this plug-in offers.

    A complete plug-in (mine.py; run it with ``--plugin mine.py -m mine``)::

    import numpy as np
    from harness import ModelSpec, hookimpl

    class Mine:
        dim = 64
        def encode(self, texts, *, role):
            counts = [np.bincount(np.frombuffer(t.encode(), np.uint8) % 64, minlength=64) for t in texts]
            return np.array(counts, np.float32)

    def load(options):
        return Mine()

    @hookimpl
    def harness_models():
        yield ModelSpec(name="mine", kind="dense", load=f"{__name__}:load", summary="byte counts")
    """
    raise NotImplementedError  # pluggy never runs a specification


@hookspec
def harness_datasets() -> Iterable[DatasetSpec]:
    """Datasets this plug-in offers, in BEIR format."""
    raise NotImplementedError


@hookspec
def harness_commands(group: click.Group) -> None:
    """Adds click commands to the ``harness`` group: ``group.add_command(mine)``. Import heavy things inside."""


@hookspec(firstresult=True)
def harness_object(thing: object) -> ModelSpec | None:
    """Describes an object that `harness.evaluate` is given as a model; None for objects of other kinds.

    ``load`` and ``fingerprint`` of the descriptor get the object with ``harness.registry.objects.held(options)``.
    """
    raise NotImplementedError
