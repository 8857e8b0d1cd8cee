"""sentence-transformers' Trainer, taught what this study needs: rows as numbers, an objective with its own parameters,
checkpoints that resume exactly, and an end when the loss is no number."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from harness.download.http import brief
from harness.types import UserError
from harness_training.data.memory import Rows
from harness_training.experiment.checkpoints import all_in, is_complete, mark_complete, rotate, step_of
from harness_training.experiment.dev_set import DevSet, Encode
from harness_training.losses.objective import Objective
from harness_training.model.frozen_base import Embedded

WEIGHTS = "weights.safetensors"


class Diverged(Exception):
    """The loss or a weight is NaN or infinite."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"the {what} became NaN or infinite at step {step}")
        self.step = step


@dataclass
class Collator:
    """Rows of places -> features: tokens of their texts, or their base embeddings."""

    model: SentenceTransformer
    rows: Rows
    embedded: Embedded | None = None
    valid_label_columns: list[str] = field(default_factory=list)
    """None: what the trainer asks every collator for."""

    def __call__(self, batch: list[dict[str, int]]) -> dict[str, Any]:
        """Features of each column, their names put before theirs."""
        features: dict[str, Any] = {}
        for column in self.rows.columns:
            places = [row[column] for row in batch]
            if self.embedded is not None:
                found: dict[str, Any] = {"sentence_embedding": self.embedded(column, places)}
            else:
                role = "query" if column == self.rows.columns[0] else "document"
                found = self.model.preprocess(self.rows.text(places), prompt=prompt_of(self.model, role), task=role)
            features |= {f"{column}_{name}": value for name, value in found.items()}
        return features


def prompt_of(model: SentenceTransformer, role: str) -> str | None:
    """As encode_query and encode_document choose."""
    names = ("query",) if role == "query" else ("document", "passage", "corpus")
    name = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return model.prompts.get(name or "") or None


class DevEvaluator(BaseEvaluator):
    """The dev set's figures, for the trainer to call and log."""

    def __init__(self, dev: DevSet, encode: Encode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dev, self._encode = dev, encode

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """nDCG@10 and geometry."""
        return self._dev.measure(self._encode)


class Trainer(SentenceTransformerTrainer):
    """See the module."""

    def __init__(self, *, objective: Objective, on_update: Callable[[Trainer], None], **settings: Any) -> None:
        self._objective = objective
        self._sampler: Any = None
        self.earlier = 0.0
        """Seconds of training before this process took over."""
        super().__init__(loss=objective, **settings)
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)
        self.step_callback = StepCallback(self, on_update)
        self.add_callback(self.step_callback)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card is written while training."""

    def get_batch_sampler(self, *given: Any, **settings: Any) -> Any:
        """The stock one, remembered: see `StepCallback.on_epoch_begin`."""
        self._sampler = super().get_batch_sampler(*given, **settings)
        return self._sampler

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """A learnt scale does not decay either."""
        return [name for name in super().get_decay_parameter_names(model) if not name.startswith("task.")]

    def training_step(self, *given: Any, **settings: Any) -> torch.Tensor:
        """One step; `Diverged` where its loss is no number, before the weights are touched."""
        loss: torch.Tensor = super().training_step(*given, **settings)
        if not torch.isfinite(loss):
            raise Diverged(self.state.global_step + 1, "loss")
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the isotropy term as it is before it is weighted, which is measured at weight 0 too."""
        if "loss" in logs and "isotropy" in self._objective.parts:
            logs = {**logs, "regulariser": float(self._objective.parts["isotropy"])}
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights of the model and of the objective itself; the rest of a checkpoint is the trainer's."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        weights |= {f"task.{name}": value for name, value in self._objective.task.state_dict().items()}
        if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
            raise Diverged(self.state.global_step, f"weight {bad[0]}")
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        self.load_weights(Path(resume_from_checkpoint))

    def load_weights(self, checkpoint: Path) -> None:
        """Puts a checkpoint's weights into the model and the objective."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "task": {}}
        for name, value in load_file(checkpoint / WEIGHTS).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self._objective.task.load_state_dict(parts["task"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        steps = Path(str(self.args.output_dir))
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                mark_complete(steps / f"checkpoint-{self.state.global_step}")
                rotate(steps, [self.state.best_global_step or 0])
        except (OSError, RuntimeError, SafetensorError, UserError) as error:
            kept = [step_of(path) for path in all_in(steps) if is_complete(path)]
            last = f"the one of step {kept[-1]} is kept" if kept else "there is none before it"
            raise UserError(
                f"The checkpoint of step {self.state.global_step} could not be written to {steps} "
                f"({brief(str(error)).rstrip('.')}); {last}: free some space and run the same command again."
            ) from error


class StepCallback(TrainerCallback):
    """What must happen at a step: resuming what the stock trainer leaves out, saving what was measured, telling."""

    def __init__(self, trainer: Trainer, on_update: Callable[[Trainer], None]) -> None:
        self._trainer, self._on_news = trainer, on_update
        self.seconds, self.steps, self._mark = 0.0, 0, 0.0
        """Of training alone: measuring and saving apart."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The slices go on where they were."""
        self._trainer._objective.step = state.global_step
        self._mark = time.perf_counter()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The order of rows is the epoch's, also where several processes resume in the middle of it: the stock trainer
        does not reach a sampler behind two wrappers."""
        per_epoch = max(1, state.max_steps // max(1, state.num_train_epochs))
        self._trainer._sampler.set_epoch(state.global_step // per_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """What is measured is saved, so that the best can be had back."""
        now = time.perf_counter()
        self.seconds, self.steps, self._mark = self.seconds + now - self._mark, self.steps + 1, now
        if control.should_evaluate:
            control.should_save = control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Tells."""
        self._on_news(self._trainer)

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Measuring does not count as training."""
        self._mark = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Nor does saving."""
        self._mark = time.perf_counter()
