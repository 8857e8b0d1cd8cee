"""``harness data``: training data by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.main import State
from harness.cli.options import examples, json_option, offline_option, pass_state
from harness.cli.output import progress_bar
from harness_training.cli.mine import output_option, report, seed_option

if TYPE_CHECKING:
    from harness.types import Progress
    from harness_training.data.triplets import TrainingSet


@click.group("data")
def command() -> None:
    """Obtain training data (triplets) by name."""


@command.command(
    "msmarco",
    **examples(
        "harness data msmarco -o path/to/set",
        "harness data msmarco -o path/to/set --triplets 6400 --from path/to/msmarco",
    ),
)
@click.option("--triplets", type=click.IntRange(1), default=500_000, show_default=True, help="How many rows.")
@seed_option
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="BEIR's msmarco folder, MS MARCO's own files in a folder, or its file of triples (default: the hub).",
)
@output_option
@offline_option
@json_option
@pass_state
def msmarco(
    state: State, /, triplets: int, seed: int, source: Path | None, folder: Path, offline: bool, as_json: bool
) -> None:
    """MS MARCO's triplets: a sample of a set with BM25 negatives, or mined with BM25 from its files."""
    from harness_training.data.msmarco import from_hub

    home = state.made_home
    with progress_bar() as progress:
        if source is None:
            made = from_hub(folder, triplets, seed, home, offline=offline, progress=progress)
        else:
            made = _from_files(state, source.expanduser(), folder, triplets, seed, progress)
    report(made, as_json)


def _from_files(state: State, source: Path, folder: Path, triplets: int, seed: int, progress: Progress) -> TrainingSet:
    from harness.datasets.beir import open_dataset
    from harness.storage.atomic import content_key
    from harness_training.data.mining import MiningSettings, mine
    from harness_training.data.msmarco import NAME, SPLIT, sample
    from harness_training.data.msmarco_files import beir_folder, locate, open_triples

    found, home = locate(source), state.home
    if found.is_file():
        origin = open_triples(found, home, progress)
        request = content_key({"fingerprint": origin.fingerprint, "rows": triplets, "seed": seed})
        return sample(origin, folder, triplets, seed, home, request, progress)
    bm25 = state.registry().model("bm25")
    beir = beir_folder(found, home, progress)
    with open_dataset(beir, cache=home / "corpora", name=NAME, split=SPLIT, progress=progress) as dataset:
        return mine(dataset, MiningSettings([bm25], seed=seed, limit=triplets), folder, home, progress=progress)
