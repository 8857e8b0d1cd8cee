"""``harness isotropy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import examples
from harness.cli.main import State
from harness.cli.options import (
    completing,
    dataset_choice,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    print_table,
    progress_bar,
)
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
@offline_option
@plugin_option
@json_option
@pass_state
def command(
    state: State,
    /,
    file: Path | None,
    model: str | None,
    dataset: str | None,
    offline: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    **choice: Any,
) -> None:
    """The geometry panel of a model's vectors on a dataset, or of FILE.npy (float vectors, one per row)."""
    if (file is None) == (model is None and dataset is None) or (file is None and not (model and dataset)):
        raise UserError("Give either a .npy file, or both -m MODEL and -d DATASET.")
    if file is not None:
        panels = {"vectors": _panel(_load(file))}
    else:
        from harness.evaluation.open_datasets import open_named
        from harness.models.runner import Prepared, dataset_vectors

        registry = state.registry(plugins)
        ref = registry.model(str(model))
        if not ref.has_vectors:
            raise UserError(f"{model} is a {ref.spec.kind} model, which has no vectors; name a dense one with -m.")
        ref.require()
        home = state.made_home
        with progress_bar() as progress:
            opened = open_named(str(dataset), registry, home, offline=offline, progress=progress, **choice)
            both = dataset_vectors(Prepared(ref, home, offline=offline, progress=progress), opened)
            panels = {"documents": _panel(both["document"][0]), "queries": _panel(both["query"][0])}
    if as_json:
        print_json(panels)
        return
    names = [key for key, value in next(iter(panels.values())).items() if not isinstance(value, list | dict)]
    rows = [{"measure": name, **{side: _shown(panel[name]) for side, panel in panels.items()}} for name in names]
    print_table(rows, disable_numparse=True, colalign=("left", *("right" for _ in panels)))


def _shown(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _panel(vectors: Vectors) -> dict[str, Any]:
    from harness.metrics.geometry import measure_geometry

    return measure_geometry(vectors.blocks(), len(vectors))


def _load(file: Path) -> Vectors:
    import numpy as np

    from harness.embeddings.store import Vectors
    from harness.storage.safe_load import map_array

    try:
        array = map_array(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); name a file that numpy.save wrote.") from None
    except ValueError as error:
        raise UserError(f"{file} is not a .npy file of numbers ({error}); save it with numpy.save.") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise UserError(
            f"{file} holds an array of shape {array.shape} and type {array.dtype}; "
            f"save float vectors, one per row [n, d], at least one."
        )
    if not np.isfinite(array).all():
        raise UserError(f"{file} holds NaN or infinite values; drop those rows first.")
    return Vectors.of(array)
