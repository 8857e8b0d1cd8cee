"""The settings of a training run, their valid values and defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from harness.datasets.catalog import unknown
from harness.types import Option, OptionValue, UserError


def _setting(default: OptionValue, help: str, *, cosmetic: bool = False, **limits: Any) -> Any:
    """A field with its description. ``cosmetic`` fields affect no weight and may change when a run is resumed."""
    return field(default=default, metadata={"option": Option(default, help, **limits), "cosmetic": cosmetic})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of an experiment; the defaults are the common settings of the study."""

    base: str = _setting("mpnet", "model that is trained: a name or a folder")
    isotropy_weight: float = _setting(
        0.0, "of the isotropy term, added to the retrieval loss; lambda/(1 - lambda) of LeJEPA; 0: off", minimum=0
    )
    freeze_base: bool = _setting(False, "train the head alone, on embeddings of the base that are computed once")
    loss: str = _setting("infonce", "retrieval loss", choices=("infonce", "cosine", "triplet"))
    tau: float = _setting(0.05, "temperature of infonce and cosine", minimum=1e-6)
    learn_scale: bool = _setting(False, "learn 1/tau (infonce and cosine)")
    margin: float = _setting(0.0, "of triplet; 0: 0.1 sqrt(2 dim)", minimum=0)
    regulariser: str = _setting(
        "sigreg",
        "isotropy term",
        choices=("sigreg", "sigreg-exact", "mean", "uniformity", "spread-out", "vicreg"),
    )
    sigreg_scale: str = _setting(
        "T",
        "T: SIGReg's statistic, which holds the number of rows as a factor; T-over-N: without it, as in 0.2 and before",
        choices=("T", "T-over-N"),
    )
    match: str = _setting(
        "none",
        "gradient: another regulariser's weight is set so that its first gradient has the norm of SIGReg's at "
        "isotropy_weight",
        choices=("none", "gradient"),
    )
    slices: int = _setting(1024, "random directions per step of sigreg", minimum=1)
    dim: int = _setting(512, "dimensions of the embeddings", minimum=1)
    init: str = _setting(
        "pca-rotation",
        "start of the head; pca: whitened, far from the base's ranking",
        choices=("pca-rotation", "pca", "random"),
    )
    init_texts: int = _setting(0, "passages the head is set from; 0: ten per dimension of the base", minimum=0)
    max_seq_length: int = _setting(0, "tokens kept of a text; 0: what the base says", minimum=0)
    epochs: int = _setting(3, "passes over the training set", minimum=1)
    batch_size: int = _setting(16, "rows of a batch, of all processes together", minimum=2)
    mini_batch_size: int = _setting(0, "texts in memory at once, by cached gradients; 0: the whole batch", minimum=0)
    learning_rate: float = _setting(1e-5, "of the base", minimum=0)
    head_learning_rate: float = _setting(5e-4, "of the head", minimum=0)
    weight_decay: float = _setting(0.01, "not of biases, norms and the learnt scale", minimum=0)
    warmup: float = _setting(0.1, "share of the steps in which learning rates rise", minimum=0, maximum=1)
    schedule: str = _setting("linear", "of the learning rates after that", choices=("linear", "cosine", "constant"))
    max_grad_norm: float = _setting(1.0, "gradients are clipped to this norm; 0: not", minimum=0)
    precision: str = _setting(
        "auto", "auto: bf16 on a GPU that has it, else fp32", choices=("auto", "bf16", "fp16", "fp32")
    )
    seed: int = _setting(42, "of the order of rows, dropout and the slices", minimum=0, maximum=2**31 - 1)
    limit: int = _setting(0, "rows trained on; 0: all", minimum=0)
    dev_queries: int = _setting(200, "queries held out of the training set for choosing the checkpoint", minimum=1)
    dev_documents: int = _setting(2000, "passages that these are ranked against, at least", minimum=1)
    eval_steps: int = _setting(0, "steps between measurements; 0: twenty over the run, at most one in 50", minimum=0)
    save_steps: int = _setting(0, "steps between saves beside those; 0: none", minimum=0, cosmetic=True)
    logging_steps: int = _setting(
        0, "steps between entries of the loss; 0: at most a hundred over the run", minimum=0, cosmetic=True
    )

    def lasting(self) -> dict[str, OptionValue]:
        """The settings that affect the weights, without the base's name: its files count instead."""
        left = {"base", *(one.name for one in fields(self) if one.metadata["cosmetic"])}
        if not (self.isotropy_weight and self.regulariser.startswith("sigreg")):
            left.add("sigreg_scale")
        if not self.isotropy_weight:
            left.add("match")
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in left and not (name in FORMERLY and value == FORMERLY[name])
        }

    def differing(self, other: Settings) -> dict[str, OptionValue]:
        """Name and value of each setting that differs from ``other``."""
        theirs = asdict(other)
        return {name: value for name, value in asdict(self).items() if value != theirs[name]}


FORMERLY: Mapping[str, OptionValue] = {"sigreg_scale": "T-over-N", "match": "none"}
"""What a record without these settings means: version 0.2 and before had no others."""

OPTIONS: Mapping[str, Option] = {one.name: one.metadata["option"] for one in fields(Settings)}


def changed(settings: Settings, values: Mapping[str, Any], where: str = "") -> Settings:
    """Update settings with values of a file or of the command line; UserError for invalid ones."""
    parsed: dict[str, Any] = {name: parse(name, value, where) for name, value in values.items()}
    return replace(settings, **parsed)


def parse(name: str, value: Any, where: str = "") -> OptionValue:
    """Parse one setting's value; UserError, with its location ``where``, for an unknown name or invalid value."""
    place = f"{where}: " if where else ""
    if name not in OPTIONS:
        raise UserError(place + unknown("setting", name, OPTIONS))
    try:
        return OPTIONS[name].parse(value if isinstance(value, str) else json.dumps(value))
    except ValueError as error:
        raise UserError(f"{place}{name} cannot be set: {error}; it is {OPTIONS[name].help}.") from None


def assignments(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """Parse ``("a=1", "b=2")`` to a mapping; UserError where ``=`` is missing."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{option} {text} sets nothing; type it as in {option} isotropy_weight=0.05.")
        found[name.strip()] = value.strip()
    return found
