"""What is known of one model's speed, on this machine or on a named device, and what is missing to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.download import hub_models
from harness.download.local_weights import locate
from harness.errors import described
from harness.models.runner import Prepared
from harness.planning.devices import Device
from harness.planning.speed import Encoding, Indexing, Scanning, encoding, indexing, scanning
from harness.registry.model_ref import ModelRef
from harness.types import PluginError, Progress, UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """One model as a plan sees it. What is None (or 0) is not known, and ``note`` says why and what to type."""

    label: str
    kind: str
    encoding: Encoding | None = None
    indexing: Indexing | None = None
    scanning: Scanning | None = None
    dim: int = 0
    weights_bytes: int = 0
    """Of its files."""
    download_bytes: int = 0
    """Of its files, where they are not here."""
    note: str = ""


def prepared(ref: ModelRef, home: Path, progress: Progress, *, tries: bool = True) -> Prepared | str:
    """The model ready to be loaded, or the sentence that says what it lacks; nothing is fetched.

    ``tries`` is that of `Prepared`.

    UserError where what is here is damaged, as `harness benchmark` would say.
    """
    try:
        ref.require()
    except UserError as error:
        return str(error)
    if ref.spec.files.weights and not ref.options.get("path") and locate(ref.spec.files.weights, home) is None:
        return f"not measured: harness fetch {ref.spec.name}"
    if ref.spec.files.repository and hub_models.find(ref.repository, home) is None:
        return f"not measured: harness fetch st:{ref.repository}"
    return Prepared(ref, home, offline=True, progress=progress, tries=tries)


def pace(
    ref: ModelRef,
    model: Prepared | str,
    home: Path,
    device: Device | None,
    progress: Progress,
    search_device: str = "cpu",
) -> Pace:
    """The model's pace; PluginError where it fails when measured.

    A named device is believed to reach its stated share of its peaks, in encoding and in exact search; what the
    processor does (lexical models, the geometry, a search's distances in float64) is taken as on this machine in either
    case. Without one, ``search_device`` is where exact search runs here.
    """
    label, lacks = ref.label, model if isinstance(model, str) else ""
    kind: str = ref.spec.kind
    size = _size(ref)
    absent = ref.spec.files.weights.bytes if ref.spec.files.weights and lacks.startswith("not measured") else 0
    if kind == "lexical":
        speed = None if isinstance(model, str) else _measured(label, lambda: indexing(model, home, progress))
        return Pace(label, kind, indexing=speed, note=lacks)
    if kind != "dense":
        return Pace(label, kind)
    found, note = None, lacks
    if device is not None:
        found, note = _assumed(ref, device)
    elif not isinstance(model, str):
        found = _measured(label, lambda: encoding(model, home, progress))
    exact = scanning(home, progress, "cpu" if device else search_device)
    if device is not None:
        exact = replace(exact, flops=device.float32 * device.utilisation, origin="assumed")
    dim = found.dim if found and found.dim else int(ref.figures.get("dim", 0))
    return Pace(label, kind, found, None, exact, dim, size, absent, note)


def _assumed(ref: ModelRef, device: Device) -> tuple[Encoding | None, str]:
    flops, dim = ref.figures.get("flops_per_token"), int(ref.figures.get("dim", 0))
    if not flops or not dim:
        return None, f"speed unknown: {ref.spec.name} states no {'dim' if flops else 'flops_per_token'}"
    return Encoding(device.flops * device.utilisation / flops, dim, "assumed"), ""


def _measured(label: str, measure: Callable[[], T]) -> T:
    try:
        return measure()
    except (UserError, PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the plug-in boundary: whatever its code raises is its fault, and is named
        raise PluginError(f"{label} could not be measured: {described(error)}") from error


def _size(ref: ModelRef) -> int:
    """Bytes of the weights, stated or on disk; 0: not known."""
    folder = ref.options.get(ref.spec.files.path_option or "path")
    files = Path(str(folder)).rglob("*.safetensors") if folder else ()
    return sum(file.stat().st_size for file in files) or (ref.spec.files.weights.bytes if ref.spec.files.weights else 0)
