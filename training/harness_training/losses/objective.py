"""The training objective: a retrieval loss plus a weighted regulariser of each view, optionally with cached gradients.

    loss = task(q, p, n) + isotropy_weight * (R(queries) + mean over passage columns of R(column)) / 2

The weight is *added*: LeJEPA's (1 - lambda) task + lambda SIGReg is, but for the factor 1 - lambda of the whole, a
weight of lambda/(1 - lambda) here (0.05 is 0.0526, and 1 is 0.5). R is SIGReg's T, in which the authors have the number
of rows as a factor. R is computed per column of the batch: a query and its passages are not independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from torch import Tensor, nn

from harness.types import UserError
from harness_training.losses.collectives import row_counts
from harness_training.losses.gradients import at_embeddings, dot, norm
from harness_training.losses.regularisers import Regulariser, make_regulariser
from harness_training.losses.retrieval import InfoNCE, make_loss

Features = Iterable[dict[str, Tensor]]
"""Tokenised columns from the trainer's collator."""


class Objective(CachedLossMixin, nn.Module):
    """A loss in sentence-transformers' convention; columns are anchor, positive and any number of negatives.

    With ``mini_batch_size`` gradients are cached (Gao et al., arXiv 2101.06983): activations of only that many texts
    are in memory, while loss and regulariser use the full batch. The result is the same, at the cost of a second
    forward pass.

    With ``reference``, another regulariser, ``isotropy_weight`` is the reference's: at the first training pass
    ``factor`` is set so that ``weight`` = isotropy_weight * factor gives the regulariser's gradient at the embeddings
    the norm that the reference's has at isotropy_weight.

    For the trainer: ``parts`` holds the detached values of the last step: ``task``, ``isotropy`` (unweighted),
    ``isotropy_query`` and ``isotropy_passage``, and ``scale`` when it is learnt; at weight 0 isotropy is there only in
    evaluation and where gradients are measured. ``step`` seeds the slices; it counts the training passes, so
    set it when training is resumed. Drop incomplete last batches.
    If ``measures_gradients`` is set, training passes fill ``gradients``: the norms ``task_gradient`` and
    ``regulariser_gradient`` (unweighted) at the embeddings, ``gradient_share`` (weighted regulariser over task) and
    ``gradient_cosine`` (the last two if neither norm is 0); the loss and its gradients stay the same to the bit.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: str = "infonce",
        loss_options: Mapping[str, Any] | None = None,
        regulariser: str = "sigreg",
        regulariser_options: Mapping[str, Any] | None = None,
        isotropy_weight: float = 0.0,
        reference: Regulariser | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        """UserError for unknown names and options, a negative or infinite weight, or an empty mini-batch."""
        super().__init__()
        if not (isotropy_weight >= 0 and math.isfinite(isotropy_weight)):
            raise UserError(
                f"The isotropy weight is added to the loss and must be 0 (off) or more, not {isotropy_weight:g}."
            )
        if mini_batch_size is not None and mini_batch_size < 1:
            raise UserError(f"A mini-batch holds at least 1 text, not {mini_batch_size}; leave it out for no caching.")
        self.model = model
        self.task = make_loss(loss, **(loss_options or {}))
        self.regulariser = make_regulariser(regulariser, **(regulariser_options or {}))
        self.isotropy_weight = isotropy_weight
        self.reference = reference if isotropy_weight else None
        self.factor = math.nan if self.reference else 1.0
        self.uses_gradient_cache = mini_batch_size is not None
        self.mini_batch_size = mini_batch_size or 0
        self.step = 0
        self.parts: dict[str, Tensor] = {}
        self.measures_gradients = False
        self.gradients: dict[str, float] = {}
        self._named = {
            "loss": loss,
            "loss_options": dict(loss_options or {}),
            "regulariser": regulariser,
            "regulariser_options": dict(regulariser_options or {}),
        }

    @property
    def weight(self) -> float:
        """What the regulariser is multiplied by; NaN before the first training pass with a ``reference``."""
        return self.isotropy_weight * self.factor

    def forward(self, sentence_features: Features, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Terms of the loss: ``task_loss`` and the weighted ``isotropy_loss``."""
        if self.uses_gradient_cache:
            sentence_features = list(sentence_features)
            self._autocast = _autocast_of(sentence_features)
            total = self._with_own_gradients(self.forward_cached(sentence_features, labels))
        else:
            columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
            total = self.on_embeddings(columns)
        self.step += torch.is_grad_enabled()
        if not self.isotropy_weight:
            return {"task_loss": total}
        weighted = self.weight * self.parts["isotropy"]
        return {"task_loss": total - weighted, "isotropy_loss": weighted}

    def on_embeddings(self, columns: list[Tensor]) -> Tensor:
        """The loss of embedded columns (queries, positives, negatives...), each [B, d]; fills ``parts``."""
        if len(columns) < 2:
            raise UserError("Training needs at least two columns, a query and its positive passage; there is one.")
        query, positive, *negatives = columns
        task: Tensor = self.task(query, positive, torch.stack(negatives, dim=1) if negatives else None)
        parts = {"task": task}
        if isinstance(self.task, InfoNCE) and self.task.log_scale is not None:
            parts["scale"] = torch.as_tensor(self.task.scale())
        if self.isotropy_weight or self.measures_gradients or not torch.is_grad_enabled():
            parts |= self._isotropy(task, columns)
        self.parts = {name: value.detach() for name, value in parts.items()}
        return task + self.weight * parts["isotropy"] if self.isotropy_weight else task

    def _isotropy(self, task: Tensor, columns: list[Tensor]) -> dict[str, Tensor]:
        """The regulariser of both views; in training passes its gradients are matched and measured as needed."""
        queries, passages = self._of_views(self.regulariser, columns)
        isotropy = (queries + passages) / 2
        if math.isnan(self.factor) and torch.is_grad_enabled():
            self.factor = self._matched(isotropy, columns)
        if torch.is_grad_enabled() and self.measures_gradients:
            self.gradients = self._compared(task, isotropy, columns)
        return {"isotropy": isotropy, "isotropy_query": queries, "isotropy_passage": passages}

    def _of_views(self, regulariser: Regulariser, columns: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The regulariser of the queries, and its mean over the passage columns."""
        queries, *passages = [self._regularised(regulariser, column) for column in columns]
        return queries, torch.stack(passages).mean()

    def _regularised(self, regulariser: Regulariser, column: Tensor) -> Tensor:
        """The regulariser of one view; 0 for a single row, where it is undefined."""
        return regulariser(column, self.step) if sum(row_counts(column)) > 1 else column.float().sum() * 0

    def _matched(self, isotropy: Tensor, columns: list[Tensor]) -> float:
        """Norm of the reference's gradient over the regulariser's; UserError where the latter is 0."""
        assert self.reference is not None
        own = norm(at_embeddings(isotropy, columns))
        if not own:
            raise UserError(
                f"The regulariser {self._named['regulariser']} has no gradient at the first batch, so its weight "
                f"cannot be matched; set match=none and an isotropy_weight of its own."
            )
        queries, passages = self._of_views(self.reference, columns)
        return norm(at_embeddings((queries + passages) / 2, columns)) / own

    def _compared(self, task: Tensor, isotropy: Tensor, columns: list[Tensor]) -> dict[str, float]:
        of_task, of_regulariser = at_embeddings(task, columns), at_embeddings(isotropy, columns)
        one, other = norm(of_task), norm(of_regulariser)
        found = {"task_gradient": one, "regulariser_gradient": other}
        if one and other:
            found["gradient_share"] = self.weight * other / one
            found["gradient_cosine"] = dot(of_task, of_regulariser) / (one * other)
        return found

    def embed_minibatch(self, *given: Any, **settings: Any) -> Any:
        """Embed a mini-batch in the precision of the forward pass, in the backward pass too.

        Otherwise a loop that calls ``backward()`` outside autocast, as PyTorch advises, would embed it again in
        float32: at twice the time, and with gradients of another function.
        """
        with torch.autocast(**self._autocast):
            return super().embed_minibatch(*given, **settings)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Second stage of gradient caching: loss of the full batch, with gradients stored per mini-batch."""
        total = self.on_embeddings([torch.cat(column) for column in reps])
        if with_backward:
            leaves = [leaf for column in reps for leaf in column]
            own = self._own_parameters()
            gradients = torch.autograd.grad(total, [*leaves, *own])
            for leaf, gradient in zip(leaves, gradients, strict=False):
                leaf.grad = gradient
            self._own_gradients = gradients[len(leaves) :]
        return total.detach() if with_backward else total

    def _own_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.task.parameters() if parameter.requires_grad]

    def _with_own_gradients(self, total: Tensor) -> Tensor:
        """Add a 0 with the gradients of the loss's own parameters to the loss.

        The trainer's backward pass then scales (fp16) and divides (accumulation) them too.
        """
        if not total.requires_grad:
            return total
        for parameter, gradient in zip(self._own_parameters(), self._own_gradients, strict=True):
            total = total + ((parameter - parameter.detach()) * gradient).sum()
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """Settings of this objective for the model card and the manifest."""
        size = self.mini_batch_size if self.uses_gradient_cache else None
        given = {"isotropy_weight": self.isotropy_weight, "mini_batch_size": size}
        return {**self._named, **given, **({"reference": repr(self.reference)} if self.reference else {})}


def _autocast_of(columns: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Arguments that enter the present autocast state again, on the device of the features."""
    device = next(value.device.type for value in columns[0].values() if isinstance(value, Tensor))
    return {
        "device_type": device,
        "dtype": torch.get_autocast_dtype(device),
        "enabled": torch.is_autocast_enabled(device),
    }
