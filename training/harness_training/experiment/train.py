"""Trains one run of an experiment: sets up data, model, objective and trainer, resumes and finishes it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.storage.atomic import content_key, sha256_file
from harness.system.environment import peak_memory
from harness.system.log import NOTE
from harness.types import Progress, UserError
from harness_plugins.model_folder.files import files_of
from harness_plugins.sentence_transformers.prompts import default_prompt
from harness_training.data.memory import Split, TrainingRows, read_rows, split
from harness_training.data.triplets import TrainingSet
from harness_training.experiment import dev_set as dev_sets
from harness_training.experiment.balance import notes
from harness_training.experiment.checkpoints import damaged_file, newest
from harness_training.experiment.dev_set import DevSet, Encode
from harness_training.experiment.plans import Plan
from harness_training.experiment.run_record import Run, locked_run, now, read_run
from harness_training.experiment.settings import Settings
from harness_training.experiment.trainer import Collator, DevEvaluator, Diverged, Trainer
from harness_training.experiment.trainer_args import make_arguments, make_objective, several_cpus
from harness_training.model.base_embeddings import Base, BaseEmbeddings
from harness_training.model.frozen_base import Embedded, embed_rows, head_encoder
from harness_training.model.head import (
    add_head,
    check_sizes,
    head,
    head_pattern,
    load_base,
    projection,
    save_model,
    share_weights,
)
from harness_training.model.unpadded import use_unpadded_forward

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PER_DIMENSION = 10
"""Passages that initialise the head, per dimension of the base."""


@dataclass(frozen=True)
class Job:
    """Inputs of a run besides its settings."""

    data: TrainingSet
    base: Base
    home: Path
    root: Path
    dev_folder: Path | None = None
    report_to: tuple[str, ...] = ("tensorboard",)
    fresh: bool = False
    progress: Progress = lambda *_: None
    noted: set[str] = field(default_factory=set)
    """Notes on experiments that were shown: they are the same for every seed."""

    @cached_property
    def rows(self) -> TrainingRows:
        """The training set, read once for all runs of a sweep."""
        return read_rows(self.data)


@dataclass
class _Components:
    """The model, its dev set encoder, and base embeddings when only the head is trained."""

    model: SentenceTransformer
    encode: Encode
    embedded: Embedded | None = None


def train(plan: Plan, job: Job) -> dict[str, Any]:
    """Train one run, or resume it, or find it finished. Supports torchrun and accelerate.

    Returns:
        The content of run.json.

    Raises:
        UserError: Invalid settings.
        Diverged: The loss became NaN or infinite; run.json has the status ``failed``.
    """
    leader = int(os.environ.get("RANK", "0")) == 0
    plan = replace(plan, settings=_resolved(plan.settings))
    with locked_run(job.root, plan, job.progress, leader=leader) as run:
        if leader and job.fresh:
            run.drop()
        parted = split(job.rows, plan.settings, hold_out=job.dev_folder is None)
        dev = (
            dev_sets.held_out(parted, plan.settings)
            if job.dev_folder is None
            else dev_sets.from_folder(job.dev_folder, job.home, job.progress)
        )
        if leader:
            run.record = read_run(job.root, plan).record
            _begin(run, job, dev, len(parted.train))
        _processes().wait_for_everyone()
        run.record = read_run(job.root, plan).record
        return run.record if run.finished else _train(run, job, parted, dev, leader)


def _begin(run: Run, job: Job, dev: DevSet, rows: int) -> None:
    identity = {
        "settings": run.plan.settings.lasting(),
        "training_set": job.data.key,
        "base": content_key(job.base.files),
        "dev": dev.key,
    }
    about = {
        "training_set": dict(job.data.record),
        "rows": rows,
        "trained_on": list(dict.fromkeys([*job.data.trained_on, *job.base.trained_on])),
        "base": job.base.record,
        "dev_set": dev_sets.record(dev),
    }
    run.check(identity)
    if not run.finished:
        run.begin(identity, about)


def _resolved(settings: Settings) -> Settings:
    """Resolve ``auto`` for this machine."""
    cuda = torch.cuda.is_available()
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and not cuda:
        raise UserError("fp16 trains on a GPU only, and this machine has none; set precision to fp32 or bf16.")
    return replace(settings, precision=precision)


def _processes() -> Any:
    """Accelerate's state of the distributed processes; CPU training must be requested explicitly."""
    from accelerate import PartialState

    return PartialState(cpu=several_cpus())


def _train(run: Run, job: Job, parted: Split, dev: DevSet, leader: bool) -> dict[str, Any]:
    settings = run.plan.settings
    if leader:
        for sentence in notes(settings):
            note = f"{NOTE}{run.plan.experiment}: {sentence}"
            if note not in job.noted:
                job.noted.add(note)
                job.progress(note, 0, 0)
    parts = _start(settings, job, parted, dev)
    if leader and not (run.start / "modules.json").is_file():
        _save_start(run, job, parts)
    trainer = _trainer(run, job, parts, parted.train, dev, leader)
    with _processes().main_process_first():  # the main process removes damaged checkpoints
        resumed = newest(run.steps, job.progress)
    trainer.args.eval_on_start = resumed is None
    try:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except Diverged as error:
        if leader:
            run.save("failed", reason=str(error), **_progress(trainer, run))
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"A batch of {settings.batch_size} does not fit into memory; set mini_batch_size=8, which computes the "
            f"same batch in pieces."
        ) from error
    if leader:
        _finish(run, job, parts, trainer)
    _processes().wait_for_everyone()
    return read_run(job.root, run.plan).record


def _tell(run: Run, job: Job, note: str) -> None:
    job.progress(f"{NOTE}{run.plan.experiment}/{run.plan.run}: {note}", 0, 0)


def _start(settings: Settings, job: Job, parted: Split, dev: DevSet) -> _Components:
    """The initial model; one process computes base embeddings, which the others then load."""
    state = _processes()
    embeddings = BaseEmbeddings(job.base, settings, job.home, str(state.device), job.progress)
    encoder = load_base(job.base.folder, str(state.device), settings.max_seq_length)
    width = int(encoder.get_embedding_dimension() or 0)
    sample = parted.passages[: settings.init_texts or PER_DIMENSION * width]
    check_sizes(encoder, job.base.name, settings.dim, len(sample))
    with state.main_process_first():
        vectors = embeddings.of(parted.train.text(sample.tolist()), "document")
        layers = head(*projection(torch.from_numpy(vectors), settings.dim, settings.init, settings.seed))  # type: ignore[arg-type]
        if not settings.freeze_base:
            model = add_head(encoder, layers)
            use_unpadded_forward(model)
            return _Components(model, _encode(model))
        embedded = embed_rows(parted.train, embeddings)
        alone = _head_alone(layers, str(state.device))
        return _Components(alone, head_encoder(alone, dev, embeddings), embedded)


def _head_alone(layers: list[torch.nn.Module], device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=layers, device=device, similarity_fn_name="euclidean")


def _encode(model: SentenceTransformer) -> Encode:
    def encode(texts: list[str], role: str) -> Any:
        return model.encode(texts, prompt=default_prompt(model, role), batch_size=64, show_progress_bar=False).astype(
            "float32"
        )

    return encode


def _trainer(run: Run, job: Job, parts: _Components, rows: TrainingRows, dev: DevSet, leader: bool) -> Trainer:
    from datasets import Dataset

    settings, processes = run.plan.settings, int(_processes().num_processes)
    if settings.batch_size % processes:
        raise UserError(f"A batch of {settings.batch_size} is not divisible by {processes} processes; choose another.")
    objective = make_objective(settings, parts.model, processes)
    rates = {head_pattern(parts.model): settings.head_learning_rate}
    if any(True for _ in objective.task.parameters()):
        rates[r"^task\."] = settings.head_learning_rate

    def on_update(trainer: Trainer) -> None:
        state = trainer.state
        job.progress(f"training {run.plan.experiment}/{run.plan.run} (steps)", state.global_step, state.max_steps)
        if leader and any("eval_nDCG@10" in entry for entry in state.log_history[-1:]):
            run.save("running", **_progress(trainer, run))

    try:
        trainer = Trainer(
            model=parts.model,
            objective=objective,
            on_update=on_update,
            tell=partial(_tell, run, job) if leader else lambda _: None,
            args=make_arguments(run, len(rows), rates, processes, job.report_to),
            train_dataset=Dataset.from_dict({name: rows.ids[:, place] for place, name in enumerate(rows.columns)}),
            evaluator=DevEvaluator(dev, parts.encode),
            data_collator=Collator(parts.model, rows, parts.embedded),
        )
    except (ValueError, ImportError, RuntimeError) as error:  # from the libraries, about --report-to or precision
        raise UserError(f"The training cannot be set up: {' '.join(str(error).split())}") from error
    trainer.earlier_seconds = float(run.record.get("seconds", 0.0))
    return trainer


def _progress(trainer: Trainer, run: Run) -> dict[str, Any]:
    """The fields of run.json that record the progress."""
    curves: dict[float, dict[str, Any]] = {}
    for entry in trainer.state.log_history:
        wanted = {name.removeprefix("eval_"): value for name, value in entry.items() if name not in _OMITTED}
        if "train_loss" not in entry:
            curves.setdefault(entry["step"], {}).update(wanted)
    best = trainer.state.best_global_step
    step_callback = trainer.step_callback
    return {
        "steps": trainer.state.global_step,
        "best_step": best,
        "dev": {name: curves[best][name] for name in ("nDCG@10", "isotropy") if name in curves[best]} if best else {},
        "curves": [curves[step] for step in sorted(curves)],
        "seconds": round(trainer.earlier_seconds + step_callback.seconds, 3),
        "samples_per_second": round(step_callback.steps * run.plan.settings.batch_size / step_callback.seconds, 3)
        if step_callback.seconds
        else None,
        **({"first_gradients": first} if (first := trainer.gradients.first) else {}),
        **({"matched_weight": trainer.gradients.matched_weight} if trainer.gradients.matched_weight else {}),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory(),
    }


_OMITTED = ("epoch", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


def _finish(run: Run, job: Job, parts: _Components, trainer: Trainer) -> None:
    """Save the best weights as the final checkpoint, update run.json, and remove the trainer's checkpoints."""
    fields = _progress(trainer, run)
    best = run.steps / f"checkpoint-{fields['best_step']}"
    if fault := damaged_file(best):
        raise UserError(
            f"{best / fault} is damaged or missing, and that checkpoint is the best; run the same command again, which "
            f"resumes before it."
        )
    trainer.load_weights(best)
    save_model(_whole(run, job, trainer.model), run.checkpoint)
    run.save("finished", **fields, **_contents(run.checkpoint, "checkpoint"), finished=now())
    with suppress(OSError):
        shutil.rmtree(run.steps)


def _save_start(run: Run, job: Job, parts: _Components) -> None:
    """Save the untrained model as a checkpoint of its own; runs with the same base share the file of its weights."""
    save_model(_whole(run, job, parts.model), run.start)
    share_weights(run.start, job.root.glob("*/*/step0"))
    run.save("running", **_contents(run.start, "step0"))


def _whole(run: Run, job: Job, model: SentenceTransformer) -> SentenceTransformer:
    """The model with its base; where only the head is trained, that of a copy."""
    if not run.plan.settings.freeze_base:
        return model
    base = load_base(job.base.folder, "cpu", run.plan.settings.max_seq_length)
    return add_head(base, [deepcopy(layer).cpu() for layer in model])


def _contents(folder: Path, name: str) -> dict[str, Any]:
    """Key of the weights in a model's folder and the hashes of its files, for run.json."""
    files = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files_of(folder)}
    weights = {file.relative_to(folder).as_posix(): sha256_file(file) for file in folder.rglob("*.safetensors")}
    return {f"{name}_key": content_key(weights), f"{name}_files": files}
