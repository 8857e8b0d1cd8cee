"""``harness mine``: a dataset's training split -> triplets with hard negatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import note
from harness.cli.options import completing, examples
from harness.cli.output import print_json
from harness.cli.session import Session, required, session_options
from harness.types import UserError

if TYPE_CHECKING:
    from harness.registry.model_ref import ModelRef
    from harness_training.data.triplets import TrainingSet

output_option = click.option(
    "-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Folder of the training set."
)
seed_option = click.option("--seed", type=int, default=42, show_default=True, help="Of every draw.")


@click.command(
    "mine",
    **examples(
        "harness mine -d path/to/folder -o path/to/set",
        "harness mine -d path/to/folder -o path/to/set --miner bm25 --miner minilm",
    ),
)
@click.option(
    "-d",
    "--dataset",
    required=True,
    shell_complete=completing("datasets"),
    help="Name, or path to a folder in BEIR format.",
)
@click.option("--split", default="train", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option(
    "--miner",
    "miners",
    multiple=True,
    default=("bm25",),
    show_default=True,
    shell_complete=completing("models"),
    help="A model that proposes negatives, as for benchmark -m; several take turns.",
)
@click.option("--depth", type=click.IntRange(1), default=100, show_default=True, help="Candidates of each miner.")
@click.option("--negatives", type=click.IntRange(1), default=1, show_default=True, help="Of each row.")
@click.option(
    "--pick", type=click.Choice(["random", "top"]), default="random", show_default=True, help="From what is left."
)
@click.option(
    "--relative-margin",
    type=click.FloatRange(0, 1),
    help="Drop candidates nearer the query than 1 - this of the positive's similarity [0.05 with --score-model].",
)
@click.option(
    "--score-model", shell_complete=completing("models"), help="Dense model of that filter (default: a dense miner)."
)
@click.option("--cross-encoder", type=click.Path(path_type=Path), help="Folder of a cross-encoder to filter by, too.")
@click.option("--ce-margin", type=float, help="Drop candidates above the positive's logit minus this [3.0].")
@click.option("--limit", type=click.IntRange(1), help="Only so many rows: a sample, by seed.")
@seed_option
@output_option
@session_options
def command(
    session: Session,
    /,
    dataset: str,
    split: str,
    miners: tuple[str, ...],
    folder: Path,
    relative_margin: float | None,
    score_model: str | None,
    cross_encoder: Path | None,
    ce_margin: float | None,
    **choice: Any,
) -> None:
    """Mine hard negatives for a training split.

    These are documents that a model ranks high and that are not judged relevant. Rows are a query, a relevant document
    and negatives. An interrupted run resumes.
    """
    from harness_training.data.mining import MiningSettings, mine

    registry = session.registry
    refs = [registry.model(text) for text in dict.fromkeys(miners)]
    settings: dict[str, Any] = {"miners": refs, **choice}
    if relative_margin is not None or score_model is not None:
        settings["score_model"] = registry.model(score_model) if score_model else _dense(refs)
    required([*refs, *filter(None, [settings.get("score_model")])])
    if relative_margin is not None:
        settings["relative_margin"] = relative_margin
    if ce_margin is not None:
        if cross_encoder is None:
            raise UserError("--ce-margin needs a cross-encoder; add --cross-encoder FOLDER.")
        settings["cross_margin"] = ce_margin
    settings["cross_encoder"] = cross_encoder and cross_encoder.expanduser()
    with session.progress_bar() as progress:
        opened = session.open_dataset(dataset, split=split)
        for sentence in opened.notes:
            note(f"{opened.label}: {sentence}")
        made = mine(
            opened, MiningSettings(**settings), folder, session.home, offline=session.offline, progress=progress
        )
    report(made, session.as_json)


def _dense(refs: list[ModelRef]) -> ModelRef:
    for ref in refs:
        if ref.spec.kind == "dense":
            return ref
    raise UserError("--relative-margin compares vectors and no miner has any; add --score-model MODEL.")


def report(made: TrainingSet, as_json: bool) -> None:
    """Prints the size of a training set and the counts of its filters on stdout."""
    from harness_training.data.sampling import COUNTS

    if as_json:
        return print_json({"folder": str(made.folder), **made.record})
    click.echo(f"{made.folder}: {made.rows:,} rows of {', '.join(made.columns)}")
    for name, count in made.record.get("counts", {}).items():
        if count or name in ("judged", "duplicate", "left", "short"):
            click.echo(f"{count:>12,}  {COUNTS.get(name, name)}")
