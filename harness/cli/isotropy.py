"""``harness isotropy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.main import State
from harness.cli.options import (
    completing,
    dataset_options,
    json_option,
    offline_option,
    pass_state,
    plugin_option,
    print_json,
    print_table,
    progress_bar,
)
from harness.spec import UserError


@click.command("isotropy")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", shell_complete=completing("models"), help="Name, path to a checkpoint, NAME:key=value,..."
)
@click.option(
    "-d", "--dataset", shell_complete=completing("datasets"), help="Name, or path to a folder in BEIR format."
)
@dataset_options
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
    from harness.geometry import panel_of

    if (file is None) == (model is None and dataset is None) or (file is None and not (model and dataset)):
        raise UserError("Give either a .npy file, or both -m MODEL and -d DATASET.")
    if file is not None:
        panels = {"vectors": panel_of(_load(file))}
    else:
        from harness.named import open_named
        from harness.prepared import Prepared, dataset_vectors

        registry = state.registry(plugins)
        with progress_bar() as progress:
            opened = open_named(str(dataset), registry, state.home, offline=offline, progress=progress, **choice)
            prepared = Prepared(registry.model(str(model)), state.home, offline=offline, progress=progress)
            both = dataset_vectors(prepared, opened)
            panels = {role: panel_of(vectors) for role, (vectors, _) in both.items()}
    if as_json:
        print_json(panels)
        return
    names = [key for key, value in next(iter(panels.values())).items() if not isinstance(value, list | dict)]
    print_table(
        [{"measure": n, **{role: p[n] for role, p in panels.items()}} for n in names], floatfmt=".4f", missingval="-"
    )


def _load(file: Path) -> Any:
    import numpy as np

    from harness.vectors import Vectors

    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} is not a readable .npy file ({error}); save it with numpy.save.") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not len(array):
        shape = getattr(array, "shape", "no shape")
        raise UserError(
            f"{file} holds {shape} {getattr(array, 'dtype', '')}; it must hold float vectors, one per row [n, d]."
        )
    if not np.isfinite(array).all():
        raise UserError(f"{file} holds NaN or infinite values; drop those rows first.")
    return Vectors.of(array)
