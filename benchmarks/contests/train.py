"""Training steps on triplets: the harness's trainer against a plain sentence-transformers script.

The loss is the same (softmax over the batch's passages, scale 20), so are rows, order, batches and starting weights;
then ours with the isotropy term, whose cost is the difference.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping

import numpy as np

from benchmarks.peers.trainer import COLUMNS, Resettable, Rows, arguments
from benchmarks.runner.contest import Answer, Competitor, Contest, Plan, Quality, unit
from benchmarks.runner.texts import SEED, Texts, collection, embedded, weights

BATCH, HELD_OUT = 16, 64
STACK = ("sentence-transformers", "transformers", "torch", "accelerate")
PEER = "sentence-transformers, MNRL"


def contests(plan: Plan) -> list[Contest]:
    """MiniLM; MPNet for the full size."""
    model, steps = ("mpnet", 20) if plan.size == "whole" else ("minilm", plan.pick(2, 6, 20))
    batch = plan.pick(4, BATCH, BATCH)
    file = plan.work / "train.json"
    texts = collection(plan, "squad-train", "train") or embedded()
    triplets = _triplets(texts, steps * batch + HELD_OUT)
    file.write_text(json.dumps({"train": triplets[HELD_OUT:], "held_out": triplets[:HELD_OUT]}))
    given = {"texts": str(file), "weights": str(weights(model)), "batch": batch}
    ours = "benchmarks.contests.train:Ours"
    return [
        Contest(
            title=f"{steps} steps of {model} at batch {batch}, float32, texts of {texts.name}",
            competitors=[
                Competitor("harness, the same loss", ours, {**given, "loss": "cosine", "isotropy": 0.0}),
                Competitor(PEER, "benchmarks.peers.trainer:Stock", given, packages=STACK),
                Competitor("harness, isotropy weight 1", ours, {**given, "loss": "infonce", "isotropy": 1.0}),
                Competitor(
                    f"harness, the same loss, gradients cached ({batch // 2} texts at once)",
                    ours,
                    {**given, "loss": "cosine", "isotropy": 0.0, "mini_batch_size": batch // 2},
                ),
            ],
            quality=_quality,
            rate=("steps", steps),
            notes=[
                "a row is a query, its document and another, drawn at random; the same for all; whole texts, cut at "
                "the model's 256 tokens (MPNet: 384)",
                f"held-out loss: softmax over the passages of {HELD_OUT} other triplets, scale 20, after the steps; "
                "dropout's draws differ between competitors",
            ],
        )
    ]


class Ours(Resettable):
    """The harness's trainer and objective."""

    def __init__(
        self, texts: str, weights: str, batch: int, loss: str, isotropy: float, mini_batch_size: int | None = None
    ) -> None:
        import pyarrow

        from harness_training.data.memory import TrainingRows
        from harness_training.model.head import load_base
        from harness_training.model.unpadded import use_unpadded_forward

        rows = Rows(texts)
        super().__init__(load_base(weights, "cpu"), rows)
        use_unpadded_forward(self.model)
        flat = [text for row in rows.train for text in row]
        self.ids = np.arange(len(flat)).reshape(len(rows.train), len(COLUMNS))
        self.numbers = TrainingRows(COLUMNS, pyarrow.array(flat), self.ids)
        self.batch, self.loss, self.isotropy, self.mini_batch_size = batch, loss, isotropy, mini_batch_size

    def work(self) -> None:
        """One pass over the rows."""
        from datasets import Dataset

        from harness_training.experiment.trainer import Collator, Trainer
        from harness_training.losses.objective import Objective

        with tempfile.TemporaryDirectory() as place:
            Trainer(
                model=self.model,
                objective=Objective(
                    self.model, loss=self.loss, isotropy_weight=self.isotropy, mini_batch_size=self.mini_batch_size
                ),
                on_update=lambda trainer: None,
                args=arguments(place, self.batch),
                train_dataset=Dataset.from_dict({name: self.ids[:, at] for at, name in enumerate(COLUMNS)}),
                data_collator=Collator(self.model, self.numbers),
            ).train()


def _triplets(texts: Texts, count: int) -> list[list[str]]:
    """Query, its document, another document."""
    content = {document.id: document.content for document in texts.documents}
    judged = [
        (query.text, max(texts.qrels[query.id], key=texts.qrels[query.id].__getitem__)) for query in texts.queries
    ]
    chance, others = random.Random(SEED), [*content]
    found = [[query, content[document], content[chance.choice(others)]] for query, document in judged]
    chance.shuffle(found)
    return [found[at % len(found)] for at in range(count)]


def _quality(answers: Mapping[str, Answer]) -> Quality:
    found = {}
    for name, answer in answers.items():
        query, positive, negative = (unit(answer[column]) for column in COLUMNS)
        logits = 20 * query @ np.concatenate([positive, negative]).T
        loss = np.log(np.exp(logits).sum(axis=1)) - np.diagonal(logits)
        found[name] = {"held-out loss": f"{loss.mean():.4f}"}
    return found
