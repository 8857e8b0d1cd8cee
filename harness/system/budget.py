"""What a command has sent to endpoints, and how much it may send."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import PluginError

MILLION = 1_000_000


@dataclass(slots=True)
class Budget:
    """Tokens and US dollars of one command. Not thread-safe: one thread reserves and settles.

    A request is sent when the most that it can take is left; what it really took is known when it is answered. So a
    budget is never exceeded, and the last tokens of it are spent one text at a time.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    """US dollars."""
    tokens: int = 0
    cost: float = 0.0
    requests: int = 0
    _held_tokens: int = 0
    _held_cost: float = 0.0

    def reserve(self, tokens: int, price: float) -> bool:
        """Whether a request of at most so many tokens may be sent; if so, they are held until `settle`.

        Args:
            tokens: The most that the request can take.
            price: US dollars per million tokens.
        """
        cost = tokens * price / MILLION
        if self.max_tokens is not None and self.tokens + self._held_tokens + tokens > self.max_tokens:
            return False
        if self.max_cost is not None and self.cost + self._held_cost + cost > self.max_cost:
            return False
        self._held_tokens, self._held_cost = self._held_tokens + tokens, self._held_cost + cost
        return True

    def settle(self, reserved: int, tokens: int, price: float, *, requests: int = 1) -> None:
        """Counts what a request took, in place of what was reserved for it."""
        self._held_tokens -= reserved
        self._held_cost -= reserved * price / MILLION
        self.tokens += tokens
        self.cost += tokens * price / MILLION
        self.requests += requests

    def used_up(self, label: str) -> PluginError:
        """The error for a request that the budget does not allow."""
        limits = [f"--max-tokens {self.max_tokens:,}"] if self.max_tokens is not None else []
        limits += [f"--max-cost {self.max_cost:g}"] if self.max_cost is not None else []
        return PluginError(
            f"{label}: the budget of {' and '.join(limits)} is used up after {self.summary()}; what has arrived is "
            f"stored: run the same command again to continue with as much again, or give a larger budget."
        )

    def summary(self) -> str:
        """What was sent, in words."""
        cost = f", {self.cost:.4f} USD" if self.cost else ""
        return f"{self.tokens:,} tokens in {self.requests:,} request{'s' * (self.requests != 1)}{cost}"
