"""A plain sentence-transformers training script with MultipleNegativesRankingLoss."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ["query", "positive", "negative_1"]


def arguments(place: str, batch: int) -> Any:
    """Training arguments of every competitor: one pass, without saving and logging."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=place,
        num_train_epochs=1,
        per_device_train_batch_size=batch,
        batch_sampler="no_duplicates",
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


class Rows:
    """The triplets [rows, 3] of texts: those to train on, and those held out."""

    def __init__(self, texts: str) -> None:
        given = json.loads(Path(texts).read_text())
        self.train, self.held_out = given["train"], given["held_out"]


class Resettable:
    """A model that is reset to its initial weights before every round."""

    def __init__(self, model: Any, rows: Rows) -> None:
        self.model, self.rows = model, rows
        self._weights = copy.deepcopy(model.state_dict())

    def ready(self) -> None:
        """Restore the initial weights."""
        self.model.load_state_dict(self._weights)

    def answer(self) -> dict[str, Any]:
        """Vectors of the held-out triplets, after training."""
        columns = zip(*self.rows.held_out, strict=True)
        found = zip(COLUMNS, columns, strict=True)
        return {name: np.asarray(self.model.encode(list(texts), show_progress_bar=False)) for name, texts in found}


class Stock(Resettable):
    """SentenceTransformerTrainer, float32."""

    def __init__(self, texts: str, weights: str, batch: int) -> None:
        import torch
        from datasets import Dataset
        from sentence_transformers import SentenceTransformer

        rows = Rows(texts)
        model = SentenceTransformer(weights, device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True)
        super().__init__(model, rows)
        columns = zip(*rows.train, strict=True)
        self.dataset = Dataset.from_dict({name: list(c) for name, c in zip(COLUMNS, columns, strict=True)})
        self.batch = batch

    def work(self) -> None:
        """One pass over the rows."""
        from sentence_transformers import SentenceTransformerTrainer
        from sentence_transformers.losses import MultipleNegativesRankingLoss

        with tempfile.TemporaryDirectory() as place:
            SentenceTransformerTrainer(
                model=self.model,
                args=arguments(place, self.batch),
                train_dataset=self.dataset,
                loss=MultipleNegativesRankingLoss(self.model),
            ).train()
