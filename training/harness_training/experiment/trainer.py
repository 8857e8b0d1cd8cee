"""sentence-transformers' Trainer, extended for this study.

Rows are text indices, the objective has parameters of its own, checkpoints resume exactly, and training stops when the
loss is NaN or infinite.
"""

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
from harness_plugins.sentence_transformers.prompts import default_prompt
from harness_training.data.memory import TrainingRows
from harness_training.experiment.balance import GradientCallback
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
    """Rows of text indices -> features: tokens, or base embeddings."""

    model: SentenceTransformer
    rows: TrainingRows
    embedded: Embedded | None = None
    valid_label_columns: list[str] = field(default_factory=list)
    """Required of collators by the trainer; unused."""

    def __call__(self, batch: list[dict[str, int]]) -> dict[str, Any]:
        """Features of each column, prefixed with the column's name."""
        features: dict[str, Any] = {}
        for column in self.rows.columns:
            places = [row[column] for row in batch]
            if self.embedded is not None:
                found: dict[str, Any] = {"sentence_embedding": self.embedded(column, places)}
            else:
                role = "query" if column == self.rows.columns[0] else "document"
                found = self.model.preprocess(
                    self.rows.text(places), prompt=default_prompt(self.model, role) or None, task=role
                )
            features |= {f"{column}_{name}": value for name, value in found.items()}
        return features


class DevEvaluator(BaseEvaluator):
    """Evaluates the dev set for the trainer."""

    def __init__(self, dev: DevSet, encode: Encode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dev, self._encode = dev, encode

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return nDCG@10 and geometry values."""
        return self._dev.measure(self._encode)


class Trainer(SentenceTransformerTrainer):
    """Trainer with exact resuming and divergence detection; see the module."""

    def __init__(
        self,
        *,
        objective: Objective,
        on_update: Callable[[Trainer], None],
        tell: Callable[[str], None] = lambda _: None,
        **settings: Any,
    ) -> None:
        self._objective = objective
        self._sampler: Any = None
        self.earlier_seconds = 0.0
        """Training time before this process resumed the run."""
        super().__init__(loss=objective, **settings)
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)
        self.gradients = GradientCallback(objective, tell)
        self.step_callback = StepCallback(self, on_update)
        for own in (self.gradients, self.step_callback):
            self.add_callback(own)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Do not write model cards during training."""

    def get_batch_sampler(self, *given: Any, **settings: Any) -> Any:
        """Keep a reference to the sampler: see `StepCallback.on_epoch_begin`."""
        self._sampler = super().get_batch_sampler(*given, **settings)
        return self._sampler

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Exclude the learnt scale from weight decay too."""
        return [name for name in super().get_decay_parameter_names(model) if not name.startswith("task.")]

    def training_step(self, *given: Any, **settings: Any) -> torch.Tensor:
        """One step; raises `Diverged` for a NaN or infinite loss, before the weights are updated."""
        loss: torch.Tensor = super().training_step(*given, **settings)
        if not torch.isfinite(loss):
            raise Diverged(self.state.global_step + 1, "loss")
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the unweighted isotropy term, measured here even at weight 0, and the gradients of both terms too."""
        if "loss" in logs and "isotropy" in self._objective.parts:
            logs = {**logs, "regulariser": float(self._objective.parts["isotropy"]), **self._objective.gradients}
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the weights of model and objective; the trainer saves the rest of a checkpoint."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        weights |= {f"task.{name}": value for name, value in self._objective.task.state_dict().items()}
        if self._objective.reference:
            weights["objective.factor"] = torch.tensor(self._objective.factor, dtype=torch.float64)
        if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
            raise Diverged(self.state.global_step, f"weight {bad[0]}")
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        self.load_weights(Path(resume_from_checkpoint))

    def load_weights(self, checkpoint: Path) -> None:
        """Load a checkpoint's weights into the model and the objective."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "task": {}, "objective": {}}
        for name, value in load_file(checkpoint / WEIGHTS).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self._objective.task.load_state_dict(parts["task"])
        if "factor" in parts["objective"]:
            self._objective.factor = float(parts["objective"]["factor"])

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
            last = f"the one of step {kept[-1]} is kept" if kept else "there is no earlier one"
            raise UserError(
                f"The checkpoint of step {self.state.global_step} could not be written to {steps} "
                f"({brief(str(error)).rstrip('.')}); {last}: free some space and run the same command again."
            ) from error


class StepCallback(TrainerCallback):
    """Completes the trainer's resuming, saves evaluated steps, measures time and reports progress."""

    def __init__(self, trainer: Trainer, on_update: Callable[[Trainer], None]) -> None:
        self._trainer, self._on_news = trainer, on_update
        self.seconds, self.steps, self._mark = 0.0, 0, 0.0
        """Training time without evaluation and saving."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Continue the sequence of slices when resuming."""
        self._trainer._objective.step = state.global_step
        self._mark = time.perf_counter()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Set the sampler's epoch, which the trainer does not do behind two wrappers (distributed resuming)."""
        per_epoch = max(1, state.max_steps // max(1, state.num_train_epochs))
        self._trainer._sampler.set_epoch(state.global_step // per_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Save every evaluated step, so that the best one can be restored."""
        now = time.perf_counter()
        self.seconds, self.steps, self._mark = self.seconds + now - self._mark, self.steps + 1, now
        if control.should_evaluate:
            control.should_save = control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Report progress."""
        self._on_news(self._trainer)

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Exclude evaluation from the training time."""
        self._mark = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Exclude saving from the training time."""
        self._mark = time.perf_counter()
