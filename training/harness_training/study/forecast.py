"""The forecast of a study: the sizes of its data, the speeds of its models, and from them its timeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.cli.session import Session, search_limits
from harness.planning import workload
from harness.planning.cost_model import CostModel, cost_model, in_place_of, loadable
from harness.planning.devices import Device
from harness.planning.forecast import Conditions, Forecast, forecast, total
from harness.planning.stored import SharedParts, Stored, bases_of
from harness.planning.workload import Workload, workloads
from harness.registry.model_ref import ModelRef
from harness.types import ROLES, PluginError, UserError
from harness_training.data.triplets import RECORD, TrainingSet, read
from harness_training.experiment.settings import Settings
from harness_training.study.definition import START, Study, StudyFolder, TrainingData
from harness_training.study.timeline import Stage, Timeline
from harness_training.study.training_cost import BACKWARD, BaseCost, TrainingSetSize, training_cost
from harness_training.study.training_speed import SETTINGS, training_speed

SAMPLE = 1000
"""Rows from which the tokens of a training set are estimated."""
MSMARCO = TrainingSetSize(None, 10, 74)
"""Tokens of MS MARCO's queries and passages (336 characters)."""
MSMARCO_BYTES = 329e6
"""Download of its triplets from the hub."""
STEP = 0.02
"""Least seconds of a training step on a GPU, assumed: launching its kernels and the optimizer's memory traffic."""
HEAD_STEP = 0.005
"""Seconds of a step of the head alone on a GPU, assumed."""
QUERY = 0.002
"""Seconds per query for computing metrics and writing the run."""


@dataclass
class Planner:
    """Forecasts one study."""

    study: Study
    folder: StudyFolder
    session: Session
    device: Device | None
    """The device to plan for; None for this machine."""
    price: float | None

    def timeline(self) -> Timeline:
        """The forecast of the whole study, whatever of it is done already."""
        data = [self._data(one) for one in self.study.data]
        stages = (*data, *self._training(), *self._evaluation())
        name = self.device.name if self.device else "this machine"
        return Timeline(name, self.price, stages, tuple(self._notes()))

    def _rows(self, one: TrainingData, longest: int) -> TrainingSetSize:
        """The size of a training set that exists or will be made; texts are cut at so many tokens."""
        place = self.folder.data(one)
        if one.path or (place / RECORD).is_file():
            found = _measured(read(place, self.session.home, self.session.progress), longest)
            return replace(found, documents=self._mined(one).documents) if one.dataset else found
        if one.words[0] == "data":
            return replace(MSMARCO, rows=int(one.words[3]))
        opened, options = self._mined(one).dataset, one.options or {}
        if opened is None:
            return replace(MSMARCO, rows=options.get("limit"))
        rows = min(len(opened.queries), options.get("limit") or len(opened.queries))
        places = range(0, len(opened.corpus), max(1, len(opened.corpus) // SAMPLE))
        queries = _tokens((query.text for query in opened.queries), longest)
        passages = _tokens((opened.corpus[place].content for place in places), longest)
        return TrainingSetSize(rows, queries, passages, options.get("negatives", 1), documents=len(opened.corpus))

    def _mined(self, one: TrainingData) -> Workload:
        """The dataset that a set is mined from, with its training queries."""
        options = one.options or {}
        split = str(options.get("split", "train"))
        [work] = workloads([one.dataset], (), self.session.registry, self.session.home, split=split)
        return work

    def _data(self, one: TrainingData) -> Stage:
        if one.path:
            return Stage("data", one.name, jobs=(0.0,), note="exists")
        if one.words[0] == "data":
            note = "" if "--from" in one.words else f"download of {MSMARCO_BYTES / 1e6:.0f} MB, not in the time"
            return Stage("data", one.name, jobs=(0.0,), disk=MSMARCO_BYTES, note=note)
        work, options = self._mined(one), one.options or {}
        if work.queries and (limit := options.get("limit")):
            work = replace(work, queries=min(work.queries, limit))
        miners = options.get("miner", "bm25")
        refs = [self.session.registry.model(name) for name in ([miners] if isinstance(miners, str) else miners)]
        cells = [forecast(self._cost(ref), work, Conditions(depth=int(options.get("depth", 100)))) for ref in refs]
        seconds = [cell.total_seconds for cell in cells]
        known = tuple(each for each in seconds if each is not None)
        return Stage(
            "data",
            one.name,
            jobs=known if len(known) == len(seconds) else None,
            memory=max((cell.memory_bytes or 0 for cell in cells), default=0),
            disk=float(sum(cell.stored_bytes or 0 for cell in cells)),
            note="; ".join(dict.fromkeys(cell.note for cell in cells if cell.note)),
        )

    def _training(self) -> Iterator[Stage]:
        embedded: set[tuple[Any, ...]] = set()
        for name, settings in self.study.experiments.items():
            longest = settings.max_seq_length or workload.LONGEST
            rows = _joined([self._rows(one, longest) for one in self.study.data])
            held_out = 0 if self.study.dev else min(settings.dev_queries, (rows.rows or 0) // 10)
            cost = training_cost(
                name, settings, replace(rows, held_out=held_out), self._encoder(settings), self.study.seeds
            )
            shared = (settings.base, settings.max_seq_length, settings.freeze_base)
            once = cost.shared_seconds if shared not in embedded else 0.0
            embedded.add(shared)
            jobs = None if cost.seconds is None else (cost.seconds + once, *[cost.seconds] * (cost.runs - 1))
            tokens = None if cost.tokens is None else cost.tokens * (1 if settings.freeze_base else cost.runs)
            reason = "" if jobs else self._base_cost(settings.base).note or "the size of the training set is unknown"
            yield Stage(
                "training", name, cost.runs, cost.steps, tokens, jobs, memory=cost.memory, disk=cost.disk, note=reason
            )

    def _encoder(self, settings: Settings) -> BaseCost:
        ref, cost = self._ref(settings.base), self._base_cost(settings.base)
        forward = cost.encoding.tokens_per_second if cost.encoding else 0.0
        flops = ref.figures.get("flops_per_token", 0.0)
        size = (cost.dim, flops, cost.weights_bytes // 4, forward)
        if self.device is not None:
            return BaseCost(*size, forward / BACKWARD, STEP, HEAD_STEP, added=False)
        ready = loadable(ref, self.session.home, self.session.progress, tries=False)
        if isinstance(ready, str):
            return BaseCost(cost.dim, flops, cost.weights_bytes // 4, 0.0, 0.0, 0.0, 0.0)
        key = tuple(getattr(settings, name) for name in SETTINGS)
        if key not in self._speeds:
            self._speeds[key] = training_speed(ready, settings, self.session.home, self.session.progress)
        found, _ = self._speeds[key]
        return BaseCost(*size, found["tokens_per_second"], found["step_seconds"], found["head_step_seconds"])

    @cached_property
    def _speeds(self) -> dict[tuple[Any, ...], tuple[dict[str, float], bool]]:
        """Measured speeds of training steps, and whether the machine was idle then."""
        return {}

    def _ref(self, name: str) -> ModelRef:
        return self.session.registry.model(name)

    def _base_cost(self, name: str) -> CostModel:
        if name not in self._costs:
            self._costs[name] = self._cost(self._ref(name))
        return self._costs[name]

    @cached_property
    def _costs(self) -> dict[str, CostModel]:
        return {}

    def _cost(self, ref: ModelRef) -> CostModel:
        searcher = search_limits(Conditions().search_bytes, "auto").device
        ready = loadable(ref, self.session.home, self.session.progress, tries=self.device is None)
        try:
            return cost_model(ref, ready, self.session.home, self.device, self.session.progress, searcher)
        except PluginError as error:  # its cells will fail, which does not stop the others
            return CostModel(ref.label, ref.spec.kind, note=str(error))

    @cached_property
    def _works(self) -> list[Workload]:
        return workloads(self.study.entries, (), self.session.registry, self.session.home)

    def _evaluation(self) -> Iterator[Stage]:
        """The trained models, then the untrained ones: a frozen base is encoded with the first head on it."""
        encoded: set[tuple[str, int]] = set()
        for name, settings in self.study.experiments.items():
            like, ref = self._base_cost(settings.base), self._ref(settings.base)
            cost = replace(in_place_of(ref, like, settings.dim), note=like.note, longest=settings.max_seq_length)
            base = _texts_key(ref, settings.max_seq_length)
            seeds = self.study.seeds
            yield self._evaluated(name, cost, seeds, int(base not in encoded) if settings.freeze_base else seeds)
            encoded |= {base} if settings.freeze_base else set()
            if self.study.step_0 and name == self.study.primary.experiment:
                yield self._evaluated(START, cost, 1, int(base not in encoded))
                encoded.add(base)
        shared = SharedParts()
        for text in self.study.baselines:
            ref, cost = self._ref(text), self._base_cost(text)
            stored, bases = shared.of(ref, self._works), bases_of(ref)
            for one in bases:
                if _texts_key(one) in encoded:
                    stored |= {(one.label, work.label): frozenset(ROLES) for work in self._works}
            have = [stored[one.label, work.label] >= {*ROLES} for one in bases for work in self._works]
            yield self._evaluated(text, cost, 1, int(not bases or not all(have)), stored)
            for work in self._works:
                shared.add(ref, work.label)

    def _evaluated(self, name: str, cost: CostModel, runs: int, encodings: int, stored: Stored | None = None) -> Stage:
        """The evaluation of a model on every dataset, once for each run; so many of the runs encode the texts."""
        cells = [forecast(cost, work, Conditions(self.price, stored=stored or {})) for work in self._works]
        whole = total(name, cells)
        queries = sum(work.queries or 0 for work in self._works)
        known = sum(cell.seconds is not None for cell in cells)
        each = (whole.total_seconds or 0.0) + QUERY * queries
        encoded_before = each - (whole.seconds or {}).get("encode", 0.0)
        return Stage(
            "evaluation",
            name,
            runs,
            tokens=None if whole.tokens is None else float(whole.tokens * encodings),
            jobs=(each,) * encodings + (encoded_before,) * (runs - encodings) if known else None,
            divisible=True,
            memory=whole.memory_bytes,
            disk=float((whole.stored_bytes or 0) * runs),
            note=_evaluation_note(cells, known),
        )

    @property
    def _busy(self) -> bool:
        """Whether other work took the processor while a speed was measured."""
        parts = [part for cost in self._costs.values() for part in cost.parts]
        found = [speed for part in parts for speed in (part.encoding, part.scoring) if speed]
        return not all([*(one.reliable for one in found), *(reliable for _, reliable in self._speeds.values())])

    def _notes(self) -> Iterator[str]:
        parts = {part.label: part for whole in self._costs.values() for part in whole.parts}
        for cost in parts.values():
            if cost.encoding:
                yield f"{cost.label}: {cost.encoding.tokens_per_second:,.0f} tokens a second, {cost.encoding.origin}"
            elif cost.scoring:
                speed = f"{cost.scoring.tokens_per_second:,.0f} tokens of pairs a second"
                yield f"{cost.label}: {speed}, {cost.scoring.origin}"
        if self.device:
            device = self.device
            yield (
                f"{device.name} ({device.summary}): {device.flops / 1e12:,.0f} TFLOP/s {device.dtype} at an assumed "
                f"utilisation of {device.utilisation:.2f}; a training step takes {BACKWARD} forward passes, and at "
                f"least {STEP * 1000:.0f} ms"
            )
        elif self._busy:
            yield "other work took the processor while speeds were measured; they are measured again next time"
        if self.price is not None:
            yield f"{self.price:.2f} USD an hour and device: set yours with --price"
        yield "not included: downloads, building of datasets, loading of models, and reports"


def _measured(found: TrainingSet, longest: int) -> TrainingSetSize:
    """The size of a training set, its tokens estimated from the first rows."""
    sample = [*islice(found.iter(), SAMPLE)]
    queries = _tokens((row[0] for row in sample), longest)
    return TrainingSetSize(
        found.rows, queries, _tokens((text for row in sample for text in row[1:]), longest), found.negatives
    )


def _tokens(texts: Iterable[str], longest: int) -> float:
    """The mean number of tokens of texts that are cut at ``longest``."""
    return fmean(min(longest, workload.tokens(len(text))) for text in texts)


def _joined(sets: list[TrainingSetSize]) -> TrainingSetSize:
    """The mixture of several sets."""
    if len(sets) == 1 or any(one.rows is None for one in sets):
        return sets[0] if len(sets) == 1 else replace(sets[0], rows=None)
    rows = sum(one.rows or 0 for one in sets)
    query, passage = (
        sum((one.rows or 0) * getattr(one, name) for one in sets) / rows for name in ("query_tokens", "passage_tokens")
    )
    return TrainingSetSize(rows, query, passage, sets[0].negatives)


def _texts_key(ref: ModelRef, longest: int | None = None) -> tuple[str, int]:
    """What the vectors of a model's texts depend on: its files, and the tokens that it reads of a text."""
    most = int(ref.options.get("max_seq_length") or 0) if longest is None else longest
    return str(ref.options.get("path") or ref.spec.name), most


def _evaluation_note(cells: list[Forecast], known: int) -> str:
    notes: Mapping[str, None] = dict.fromkeys(cell.note for cell in cells if cell.note)
    lacking = [] if known == len(cells) else [f"{known} of {len(cells)} datasets known"]
    listed = [*lacking, *islice(notes, 1)] if lacking or known < len(cells) else lacking
    return "; ".join(listed)


def build_local(study: Study, session: Session) -> None:
    """Builds the datasets that are made on this machine without a download, so that their sizes are known."""
    from harness.datasets.acquire import obtain

    registry = session.registry
    mined = [one.dataset for one in study.data if one.dataset]
    for name in (*study.entries, *mined):
        spec = registry.datasets.get(name)
        if spec and spec.build:
            obtain(spec, session.home, offline=True, known=registry.datasets.values(), progress=session.progress)


def place_of(text: str, name: str) -> StudyFolder:
    """The study's folder: the one that was typed, or studies/NAME."""
    try:
        return StudyFolder(Path(text).expanduser() if text else Path("studies") / name)
    except RuntimeError as error:
        raise UserError(f"The folder {text!r} cannot be found ({error}).") from None
