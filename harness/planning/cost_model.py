"""Cost model of a model: its speed on this machine or a named device, its size, and the same of its members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from harness.download import hub_models
from harness.download.local_weights import locate
from harness.embeddings.transform import fit
from harness.errors import described
from harness.models.runner import Prepared
from harness.planning.devices import Device
from harness.planning.reranking import Scoring, recorded_scoring, scoring
from harness.planning.speed import (
    Encoding,
    Indexing,
    PoolingSpeed,
    Scanning,
    SearchSpeed,
    encoding,
    indexing,
    pooling_speed,
    recorded_encoding,
    scanning,
    search_speed,
)
from harness.planning.stored import parts_made
from harness.registry.model_ref import ModelRef
from harness.registry.protocols import Transform
from harness.types import PluginError, Progress, UserError

T = TypeVar("T")
UNUSED_ENDPOINT = "the speed of the endpoint is unknown until it has been used"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is known of a server that texts are sent to."""

    address: str
    price: float | None
    """US dollars per million tokens; None: not stated."""
    max_chars: int = 0
    """Characters sent of a text; 0: all."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Speed and size of one model. None (or 0) means unknown; ``note`` says why and which command helps."""

    label: str
    kind: str
    encoding: Encoding | None = None
    indexing: Indexing | None = None
    scanning: Scanning | None = None
    dim: int = 0
    """Dimensions of the vectors as they are compared."""
    weights_bytes: int = 0
    """Size of the weight files."""
    download_bytes: int = 0
    """Size of the weight files if they are not on this machine."""
    files: str = ""
    """Name of the weight files, which several models may share; empty: they have none of that kind."""
    note: str = ""
    longest: int = 0
    """Tokens read of a text, or of a reranker's pair; 0: as many as the model's folder says."""
    search_speed: SearchSpeed | None = None
    """Search of sparse or token vectors."""
    endpoint: Endpoint | None = None
    """Of a model behind a server."""
    base: CostModel | None = None
    """Of a transform or a pooling: the model whose stored vectors it changes."""
    pooling: PoolingSpeed | None = None
    """Of a pooling."""
    stored_dim: int = 0
    """Dimensions of the vectors as they are stored, if the model uses only the first of them; 0: ``dim``."""
    members: tuple[CostModel, ...] = ()
    """Of a fusion: the models that it fuses; of a reranker: its first stage."""
    depth: int = 0
    """Hits of each member that a fusion or a reranker reads; 0: not known."""
    scoring: Scoring | None = None
    """Of a reranker."""
    repeated: tuple[tuple[str, str], ...] = ()
    """Of a member: what an earlier member of the same model stores of all that it needs, as (model, part)."""

    @property
    def parts(self) -> tuple[CostModel, ...]:
        """Those of the members and their members, then itself."""
        return (*(part for member in self.members for part in member.parts), self)


class _Step(NamedTuple):
    """A transform whose member is not here."""

    label: str
    transform: Transform


def loadable(ref: ModelRef, home: Path, progress: Progress, *, tries: bool = True) -> Prepared | str:
    """Prepare a model for loading without downloading anything.

    Args:
        ref: the model.
        home: where weights are looked up.
        progress: receives the progress.
        tries: as for `Prepared`.

    Returns:
        The model, or a sentence that says what is missing.

    Raises:
        UserError: the files on this machine are corrupt.
    """
    try:
        ref.require()
    except UserError as error:
        return str(error)
    return _not_here(ref, home) or Prepared(ref, home, offline=True, progress=progress, tries=tries)


def _not_here(ref: ModelRef, home: Path) -> str:
    """The sentence for files of the model or a member that are not on this machine; empty if all are."""
    if ref.spec.files.weights and not ref.options.get("path") and locate(ref.spec.files.weights, home) is None:
        return f"not measured: harness fetch {ref.spec.name}"
    if ref.spec.files.repository and hub_models.find(ref.repository, home) is None:
        return f"not measured: harness fetch st:{ref.repository}"
    return next(filter(None, (_not_here(member, home) for member in ref.members)), "")


def cost_model(
    ref: ModelRef,
    model: Prepared | str,
    home: Path,
    device: Device | None,
    progress: Progress,
    search_device: str = "cpu",
) -> CostModel:
    """Measure or estimate the costs of a model.

    A named device is assumed to reach a fixed share of its peak in encoding and exact search. The work of the CPU
    (lexical models, geometry, rescoring in float64) is always measured on this machine.

    Args:
        ref: the model.
        model: the result of `loadable`.
        home: measurements are cached there.
        device: the device to plan for; None for this machine.
        progress: receives the progress.
        search_device: device of exact search on this machine.

    Raises:
        PluginError: the model failed while it was measured.
    """
    label, kind, missing = ref.label, ref.spec.kind, model if isinstance(model, str) else ""
    if kind in ("fusion", "reranker"):
        return _of_members(ref, model, home, device, progress, search_device)
    if ref.endpoint:
        return _of_endpoint(ref, missing, home, progress, search_device)
    if kind == "lexical":
        speed = None if isinstance(model, str) else _measured(label, lambda: indexing(model, home, progress))
        return CostModel(label, kind, indexing=speed, note=missing)
    if kind == "transform":
        return _of_transform(ref, model, home, device, progress, search_device)
    if kind == "pooling":
        return _of_pooling(ref, model, home, device, progress)
    costs = _of_encoder(ref, model, home, device, progress)
    if kind != "dense":
        ranked = None if isinstance(model, str) else _measured(label, lambda: search_speed(model, home, progress))
        return replace(costs, search_speed=ranked)
    exact = scanning(home, progress, "cpu" if device else search_device)
    if device is not None:
        exact = replace(exact, flops=device.float32 * device.utilisation, origin="assumed")
    return replace(costs, scanning=exact)


def _of_encoder(
    ref: ModelRef, model: Prepared | str, home: Path, device: Device | None, progress: Progress
) -> CostModel:
    """The costs of a model with vectors, those of its search apart."""
    note = model if isinstance(model, str) else ""
    absent = ref.spec.files.weights.bytes if ref.spec.files.weights and note.startswith("not measured") else 0
    found = None
    if device is not None:
        found, note = _assumed(ref, device)
    elif not isinstance(model, str):
        found = _measured(ref.label, lambda: encoding(model, home, progress))
    whole = found.dim if found else int(_uncut(ref).figures.get("dim", 0))
    return CostModel(
        ref.label,
        ref.spec.kind,
        found,
        dim=min(whole, ref.truncate_dim or whole),
        stored_dim=whole,
        weights_bytes=_size(ref),
        download_bytes=absent,
        files=ref.spec.files.weights.name if ref.spec.files.weights else "",
        note=note,
        longest=int(ref.options.get("max_seq_length") or 0),
    )


def _of_transform(
    ref: ModelRef, model: Prepared | str, home: Path, device: Device | None, progress: Progress, search_device: str
) -> CostModel:
    """Those of the model that the transforms start from, with the dimensions that they map its vectors to."""
    base_ref, steps = _chain(ref)
    start = model if isinstance(model, str) else model.chain[0]
    base = cost_model(base_ref if isinstance(start, str) else start.ref, start, home, device, progress, search_device)
    dim = 0
    if base.dim:
        loaded = [_Step(step.label, step.load()) for step in steps] if isinstance(model, str) else model.chain[1]
        dim = len(fit(loaded, np.zeros(base.dim), np.eye(base.dim)).offset)
    return replace(base, label=ref.label, kind="transform", dim=dim, stored_dim=0, base=base)


def _chain(ref: ModelRef) -> tuple[ModelRef, list[ModelRef]]:
    """The model that transforms start from, and the transforms, the first applied first."""
    if ref.spec.kind != "transform":
        return ref, []
    base, before = _chain(ref.members[0])
    return base, [*before, ref]


def _of_pooling(
    ref: ModelRef, model: Prepared | str, home: Path, device: Device | None, progress: Progress
) -> CostModel:
    """Those of the model whose token vectors are pooled; pooling and the search of its result are measured."""
    member = model if isinstance(model, str) else model.members[0]
    of = _of_pooling if ref.members[0].spec.kind == "pooling" else _of_encoder
    base = of(ref.members[0] if isinstance(member, str) else member.ref, member, home, device, progress)
    costs = replace(base, label=ref.label, kind="pooling", base=base)
    if isinstance(model, str):
        return costs
    speed = _measured(ref.label, lambda: pooling_speed(model, home, progress))
    return replace(costs, pooling=speed, search_speed=_measured(ref.label, lambda: search_speed(model, home, progress)))


def _uncut(ref: ModelRef) -> ModelRef:
    """The same model without truncate_dim, which says what its stored vectors are like."""
    return replace(ref, truncate_dim=0)


def _of_endpoint(ref: ModelRef, missing: str, home: Path, progress: Progress, search_device: str) -> CostModel:
    """A model behind a server is not measured, because that may cost money: its speed is as recorded, or unknown."""
    found = recorded_encoding(ref.side_key("document"), home)
    whole = found.dim if found else int(_uncut(ref).figures.get("dim", 0))
    dim = min(whole, ref.truncate_dim or whole)
    note = missing if missing or found else UNUSED_ENDPOINT
    exact = scanning(home, progress, search_device)
    return CostModel(ref.label, "dense", found, None, exact, dim, stored_dim=whole, note=note, endpoint=_endpoint(ref))


def _endpoint(ref: ModelRef) -> Endpoint:
    price = float(ref.options.get("price") or 0) if "price" in ref.passed else None
    return Endpoint(ref.endpoint, price, int(ref.options.get("max_chars") or 0))


def _of_members(
    ref: ModelRef, model: Prepared | str, home: Path, device: Device | None, progress: Progress, search_device: str
) -> CostModel:
    """A fusion or a reranker, from its members; each without what an earlier one stores already."""
    members: list[CostModel] = []
    made: set[tuple[str, str]] = set()
    for number, member in enumerate(ref.members):
        if isinstance(model, str):
            ready = loadable(member, home, progress, tries=device is None)
        else:
            ready = model.members[number]
        one = member if isinstance(ready, str) else ready.ref
        costs, parts = cost_model(one, ready, home, device, progress, search_device), [*parts_made(one)]
        repeated = dict.fromkeys((part.model, part.what) for part in parts if (part.what, part.key) in made)
        members.append(replace(costs, repeated=tuple(repeated)))
        made |= {(part.what, part.key) for part in parts}
    whole = CostModel(ref.label, ref.spec.kind, members=tuple(members), depth=_depth(ref, model))
    return whole if ref.spec.kind == "fusion" else _with_reranker(whole, ref, model, home, device, progress)


def _depth(ref: ModelRef, model: Prepared | str) -> int:
    """As the options say; the model is loaded only where they do not."""
    stated = ref.options.get("depth")
    if isinstance(stated, int) and stated > 0:
        return stated
    return 0 if isinstance(model, str) else _measured(ref.label, lambda: model.depth)


def _with_reranker(
    costs: CostModel, ref: ModelRef, model: Prepared | str, home: Path, device: Device | None, progress: Progress
) -> CostModel:
    """Those of the first stage, with the reranker's own."""
    note = model if isinstance(model, str) else ""
    if ref.endpoint:
        found = recorded_scoring(ref.own_key, home)
        return replace(costs, scoring=found, endpoint=_endpoint(ref), note=note or ("" if found else UNUSED_ENDPOINT))
    if device is not None:
        flops = ref.figures.get("flops_per_token")
        found = Scoring(device.flops * device.utilisation / flops, "assumed") if flops else None
        note = "" if flops else f"speed unknown: {ref.spec.name} states no flops_per_token"
    elif isinstance(model, str):
        found = recorded_scoring(ref.own_key, home)
    else:
        found = _measured(ref.label, lambda: scoring(model, home, progress))
    longest = int(ref.options.get("max_length") or ref.facts.get("max_tokens") or 0)
    return replace(costs, scoring=found, weights_bytes=_size(ref), longest=longest, note=note)


def in_place_of(ref: ModelRef, like: CostModel, dim: int = 0) -> CostModel:
    """The costs of a model that does not exist yet, from those of one with the same architecture.

    Args:
        ref: the model.
        like: the costs of the other one.
        dim: dimensions of the vectors; 0 for what the model's descriptor says, else those of the other one.
    """
    whole = dim or ref.spec.facts.dim or like.stored_dim or like.dim
    cut = min(whole, ref.truncate_dim or whole)
    speed = like.encoding and replace(like.encoding, dim=whole)
    note = "; ".join(filter(None, [f"does not exist yet: planned like {like.label}", like.note]))
    return replace(
        like, label=ref.label, encoding=speed, dim=cut, stored_dim=whole, download_bytes=0, files="", note=note
    )


def _assumed(ref: ModelRef, device: Device) -> tuple[Encoding | None, str]:
    figures = _uncut(ref).figures
    flops, dim = figures.get("flops_per_token"), int(figures.get("dim", 0))
    if not flops or not dim:
        return None, f"speed unknown: {ref.spec.name} states no {'dim' if flops else 'flops_per_token'}"
    return Encoding(device.flops * device.utilisation / flops, dim, "assumed"), ""


def _measured(label: str, measure: Callable[[], T]) -> T:
    try:
        return measure()
    except (UserError, PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:  # plug-in code may raise anything
        raise PluginError(f"{label} could not be measured: {described(error)}") from error


def _size(ref: ModelRef) -> int:
    """Bytes of the weights, stated or on disk; 0: not known."""
    folder = ref.options.get(ref.spec.files.path_option or "path")
    files = Path(str(folder)).rglob("*.safetensors") if folder else ()
    return sum(file.stat().st_size for file in files) or (ref.spec.files.weights.bytes if ref.spec.files.weights else 0)
