"""``harness isotropy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import completing, dataset_choice, examples
from harness.cli.output import print_json, print_table
from harness.cli.session import Session, session_options
from harness.types import UserError

if TYPE_CHECKING:
    from harness.embeddings.store import Vectors


@click.command(
    "isotropy",
    **examples(
        "harness isotropy -m minilm -d pydocs",
        "harness isotropy vectors.npy",
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", shell_complete=completing("models"), help="Name, path to a checkpoint, NAME:key=value,..."
)
@click.option(
    "-d", "--dataset", shell_complete=completing("datasets"), help="Name, or path to a folder in BEIR format."
)
@dataset_choice(limit="Only the first N judged queries, beside all documents.")
@session_options
def command(session: Session, /, file: Path | None, model: str | None, dataset: str | None, **choice: Any) -> None:
    """Measure the geometry of a model's vectors on a dataset, or of FILE.npy (float vectors, one per row).

    Not to be confused with `-m isotropy`, the model that `harness train isotropy` made.
    """
    if (file is None) == (model is None and dataset is None) or (file is None and not (model and dataset)):
        raise UserError("Give either a .npy file, or both -m MODEL and -d DATASET.")
    if file is not None:
        sides = {"vectors": _geometry(load(file))}
    else:
        from harness.models.runner import dataset_vectors

        ref = session.dense_model(str(model))
        with session.progress_bar():
            opened = session.open_dataset(str(dataset), **choice)
            both = dataset_vectors(session.prepared(ref), opened)
            sides = {"documents": _geometry(both["document"][0]), "queries": _geometry(both["query"][0])}
    if session.as_json:
        print_json(sides)
        return
    names = [key for key, value in next(iter(sides.values())).items() if not isinstance(value, list | dict)]
    rows = [{"measure": name, **{side: _shown(values[name]) for side, values in sides.items()}} for name in names]
    print_table(rows, disable_numparse=True, colalign=("left", *("right" for _ in sides)))


def _shown(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _geometry(vectors: Vectors) -> dict[str, Any]:
    from harness.metrics.geometry import measure_geometry

    return measure_geometry(vectors.blocks(), len(vectors))


def load(file: Path) -> Vectors:
    """The vectors in a .npy file, mapped into memory; UserError if they are not finite floats, one per row."""
    from harness.embeddings.store import Vectors
    from harness.metrics.geometry import check_vectors
    from harness.storage.safe_load import map_array

    try:
        array = map_array(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); name a file that numpy.save wrote.") from None
    except ValueError as error:
        raise UserError(f"{file} is not a .npy file of numbers ({error}); save it with numpy.save.") from None
    check_vectors(array, str(file))
    return Vectors.of(array)
