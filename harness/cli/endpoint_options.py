"""``--base-url``, ``--max-tokens`` and ``--max-cost``, for models behind an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from harness.types import UserError

if TYPE_CHECKING:
    from harness.registry.model_ref import ModelRef
    from harness.system.budget import Budget

F = TypeVar("F", bound=Callable[..., Any])


class EndpointOptions(NamedTuple):
    """What was given."""

    base_url: str | None
    max_tokens: int | None
    max_cost: float | None

    def passed_to(self, refs: Sequence[ModelRef]) -> list[ModelRef]:
        """The models, with the base URL where they take one; UserError where none does."""
        if self.base_url is None:
            return list(refs)
        if not any("base_url" in each.spec.options for ref in refs for each in _all(ref)):
            raise UserError("--base-url is for a model behind an endpoint; name one, as in -m openai:MODEL.")
        return [ref.passing(base_url=self.base_url) for ref in refs]

    def budget(self, refs: Sequence[ModelRef], *, alone: bool = True) -> Budget:
        """The budget of all these models together.

        Args:
            refs: The models.
            alone: Whether one process does the work.

        Raises:
            UserError: There is no price to compute costs from, or several processes would share the budget.
        """
        from harness.system.budget import Budget

        limited = self.max_tokens is not None or self.max_cost is not None
        if limited and not alone:
            raise UserError("--max-tokens and --max-cost are kept by one process; omit them, or --executor.")
        for each in (each for ref in refs for each in _all(ref)):
            if self.max_cost is not None and each.spec.facts.endpoint and "price" not in each.passed:
                raise UserError(
                    f"--max-cost needs the price of {each.label}: add price=N, US dollars per million tokens (0 if it "
                    f"is free), as in -m openai:MODEL:price=0.02."
                )
        return Budget(self.max_tokens, self.max_cost)


def endpoint_options(command: F) -> F:
    """The three options."""
    for option in (
        click.option(
            "--max-cost",
            type=click.FloatRange(0),
            metavar="USD",
            help="Stop before the endpoints of this command cost more, by the option price of each model.",
        ),
        click.option("--max-tokens", type=click.IntRange(0), help="Stop before endpoints are sent more tokens."),
        click.option("--base-url", metavar="URL", help="Endpoint of the models that run behind one (-m openai:MODEL)."),
    ):
        command = option(command)
    return command


def _all(ref: ModelRef) -> Iterator[ModelRef]:
    """A model and what it is made of."""
    yield ref
    for member in ref.members:
        yield from _all(member)
