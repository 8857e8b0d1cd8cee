"""The class that `training_evaluator` makes; it is apart because it needs sentence-transformers and transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback

if TYPE_CHECKING:
    from harness.api.training import DevSet


class TrainingEvaluator(BaseEvaluator, TrainerCallback):
    """An evaluator of sentence-transformers that is a callback of transformers, too."""

    def __init__(self, data: DevSet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.data, self.name = data, data.name
        self.primary_metric, self.greater_is_better = data.metrics[0], True

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measures the model; called by sentence-transformers' trainer."""
        found: dict[str, float] = self.prefix_name_to_metrics(self.data.measure(model), self.name)
        if hasattr(model, "model_card_data"):
            self.store_metrics_in_model_card_data(model, found, epoch, steps)
        return found

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        """Adds the values to the metrics of an evaluation; called by transformers' trainer."""
        found = {f"eval_{self.name}_{name}": value for name, value in self.data.measure(model).items()}
        if (metrics := more.get("metrics")) is not None:
            metrics.update(found)
        state.log_history.append({**found, "step": state.global_step, "epoch": state.epoch})
