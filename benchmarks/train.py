"""Our training against a plain sentence-transformers script with MultipleNegativesRankingLoss: MiniLM, batch 16,
float32, the same triplets and steps; and what SIGReg adds to those steps, which is too little to see as a difference.

Peak memory: each contestant's work in a fresh process, ``python -m benchmarks.train CONTESTANT``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers.trainer_callback import PrinterCallback

from benchmarks.pydocs import pydocs
from harness.cli.main import State
from harness.prepared import Prepared
from harness.registry import load_registry
from training.head import add_head, head, load_base
from training.objective import Objective
from training.regulariser import make_regulariser
from training.rows import Rows
from training.trainer import Collator, Trainer

ROWS, BATCH, DIM = 320, 16, 256


def contest() -> dict[str, Callable[[], object]]:
    """Contestant -> work: one pass over the rows, models made ahead."""
    texts = [document.content for document in islice(pydocs().corpus.iter(), 3 * ROWS)]
    ids = torch.arange(3 * ROWS).reshape(3, ROWS).T.numpy()
    columns = ["query", "positive", "negative_1"]
    folder = str(Prepared(load_registry().model("minilm"), State().home).ref.options["path"])
    short = [text[:300] for text in texts]

    def ours(weight: float) -> Callable[[], object]:
        model = load_base(folder, "cpu")
        width = int(model.get_embedding_dimension() or 0)
        add_head(model, head(torch.eye(DIM, width), torch.zeros(DIM)))
        rows = _rows(columns, short, ids)

        def work() -> None:
            with tempfile.TemporaryDirectory() as place:
                Trainer(
                    model=model,
                    objective=Objective(model, isotropy_weight=weight),
                    on_news=lambda trainer: None,
                    args=_arguments(place),
                    train_dataset=Dataset.from_dict({name: ids[:, number] for number, name in enumerate(columns)}),
                    data_collator=Collator(model, rows),
                ).train()

        return work

    def term() -> None:
        batches = [torch.randn(BATCH, DIM, requires_grad=True) for _ in columns]
        for step in range(ROWS // BATCH):
            sum(make_regulariser("sigreg")(column, step) for column in batches).backward()

    def peer() -> None:
        with tempfile.TemporaryDirectory() as place:
            trainer = SentenceTransformerTrainer(
                model=stock,
                args=_arguments(place),
                train_dataset=Dataset.from_dict({n: [short[i] for i in ids[:, k]] for k, n in enumerate(columns)}),
                loss=MultipleNegativesRankingLoss(stock),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    stock = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True)
    return {
        "harness, weight 1": ours(1.0),
        "harness, no isotropy term": _without_term(ours(0.0)),
        "harness, isotropy term alone": term,
        "sentence-transformers, MNRL": peer,
    }


def _without_term(work: Callable[[], object]) -> Callable[[], object]:
    """At weight 0 the term is still measured; here it is not even that, so that its whole cost shows."""

    def run() -> None:
        measured = Objective._regularised
        Objective._regularised = lambda self, column: column.new_zeros(())  # type: ignore[method-assign]
        try:
            work()
        finally:
            Objective._regularised = measured  # type: ignore[method-assign]

    return run


def _rows(columns: list[str], texts: list[str], ids: Any) -> Rows:
    import pyarrow

    return Rows(columns, pyarrow.array(texts), ids)


def _arguments(place: str) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=place,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        batch_sampler="no_duplicates",
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


if __name__ == "__main__":
    contest()[sys.argv[1]]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{sys.argv[1]}: {peak:.0f} MiB at its peak")
