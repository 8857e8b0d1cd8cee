"""``harness overlap``: how much of a test set is in a training set."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import completing, examples, results_option
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, session_options

if TYPE_CHECKING:
    from harness.results.overlap import Overlap
    from harness_training.data.overlap import TrainingTexts


@click.command(
    "overlap",
    **examples(
        "harness overlap path/to/set scifact",
        "harness overlap path/to/folder pydocs --split train --json",
    ),
)
@click.argument("training_set", metavar="TRAINING-SET")
@click.argument("dataset", shell_complete=completing("datasets"))
@click.option("--split", default="train", show_default=True, help="Split of a training set in BEIR format.")
@click.option("--test-split", help="Split of the dataset (default: what the dataset says, else test).")
@click.option(
    "--threshold",
    type=click.FloatRange(0.7, 1),
    default=0.8,
    show_default=True,
    help="Jaccard similarity of word pairs from which two texts are near duplicates.",
)
@results_option
@session_options
def command(
    session: Session,
    /,
    training_set: str,
    dataset: str,
    split: str,
    test_split: str | None,
    threshold: float,
    results: Path,
) -> None:
    """How much of a test set is in a training set.

    Looks for exact and near duplicates of the judged queries and their relevant documents among the training texts.
    The training set is a folder of `harness mine`, triplets in a file, or a dataset. The outcome is stored in the
    results folder: `harness report` and `harness compare` show it for models that were trained on this set.
    """
    from harness.results.overlap import write_overlap
    from harness_training.data.overlap import find_overlap

    with session.progress_bar() as progress, session.open_dataset(dataset, split=test_split) as opened:
        found = find_overlap(_training_texts(session, training_set, split), opened, threshold, progress)
    place = write_overlap(results, found)
    if session.as_json:
        from dataclasses import asdict

        print_json(asdict(found))
    else:
        _show(found, place)


def _training_texts(session: Session, text: str, split: str) -> TrainingTexts:
    """The texts of a dataset's split, or of a training set."""
    from harness.storage.atomic import content_key
    from harness_training.data.overlap import TrainingTexts
    from harness_training.data.triplets import read

    folder = Path(text).expanduser()
    if text not in session.registry.datasets and not any(folder.glob("corpus.jsonl*")):
        made = read(folder, session.home, session.progress)
        rows = chain.from_iterable(made.iter())
        return TrainingTexts(made.name, made.key, made.trained_on, rows, made.rows * len(made.columns))
    dataset = session.open_dataset(text, split=split)
    relevant = dict.fromkeys(d for judged in dataset.qrels.values() for d, grade in judged.items() if grade > 0)
    rows_of = [row for row in dataset.corpus.rows(list(relevant)).tolist() if row >= 0]
    texts = chain((query.text for query in dataset.queries), (dataset.corpus[row].content for row in rows_of))
    key = content_key(dataset.fingerprint)
    return TrainingTexts(dataset.name, key, (dataset.name,), texts, len(dataset.queries) + len(rows_of))


def _show(found: Overlap, place: Path) -> None:
    rows = [
        {"texts": f"{name} of {found.dataset}", **side, "share": f"{share:.2%}"}
        for name, side, share in (
            ("queries", found.queries, found.query_share),
            ("relevant documents", found.documents, found.document_share),
        )
    ]
    print_table(rows, colalign=("left", *["right"] * 4))
    clean = found.queries["total"] - len(found.seen)
    click.echo(f"\n{clean:,} queries are clean: neither they nor their relevant documents are in {found.training}")
    for each in found.examples[:3]:
        click.echo(f"{each['side']} {each['id']} ({each['similarity']:.2f}): {each['text']} | {each['training_text']}")
    click.echo(f"stored in {place}")
