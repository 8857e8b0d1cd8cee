"""An overlay: further judgements, made of documents that a dataset does not judge."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.types import Qrels, UserError


class Overlay(NamedTuple):
    """Judgements under a name."""

    name: str
    judgements: Qrels

    def described(self) -> dict[str, Any]:
        """The entry in a result's manifest."""
        return {"name": self.name, "judgements": self.judgements}

    @classmethod
    def of(cls, record: Any) -> Overlay:
        """The overlay that `described` made; UserError if the record is not one."""
        try:
            judged = {str(q): {str(d): int(g) for d, g in docs.items()} for q, docs in record["judgements"].items()}
            return cls(str(record["name"]), judged)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"The overlay in a result's manifest is not readable ({error}); make it again.") from None

    def over(self, qrels: Qrels, dataset: str) -> Qrels:
        """These judgements added to those of a dataset.

        Raises:
            UserError: For a query that the dataset does not judge, and for a document that it judges otherwise.
        """
        merged = {query: dict(judged) for query, judged in qrels.items()}
        for query, judged in self.judgements.items():
            if query not in merged:
                raise UserError(f"{self.name} judges documents for query {query}, which {dataset} has not; remove it.")
            for doc_id, grade in judged.items():
                if (known := merged[query].setdefault(doc_id, grade)) != grade:
                    raise UserError(
                        f"{self.name} judges document {doc_id} for query {query} {grade}, but {dataset} judges it "
                        f"{known}; an overlay adds judgements and changes none: remove that line."
                    )
        return merged
